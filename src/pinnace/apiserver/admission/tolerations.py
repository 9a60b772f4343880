"""PodTolerationRestriction: a namespace says which tolerations its pods get, and which they may have.

Off unless asked for. https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podtolerationrestriction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pinnace.apis.core.pod import qos_class
from pinnace.apis.resources import NAMESPACES
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.configuration import parse_configuration
from pinnace.machinery.meta import Obj, annotations_of

_DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
_ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
_MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
_TOLERATION = {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
_SHAPE = {"default": [_TOLERATION], "whitelist": [_TOLERATION]}
_KINDS = {("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration"): _SHAPE}


class PodTolerationRestriction(Plugin):
    """`configuration` is a document of podtolerationrestriction.admission.k8s.io: what holds where a namespace is
    silent. Raises ConfigurationError."""

    concerns = frozenset({("", "pods")})

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        return cls(configurations.of("PodTolerationRestriction"))

    def __init__(self, configuration: str = "") -> None:
        found = parse_configuration(configuration, _KINDS) if configuration else {}
        self._default: list[Obj] = found.get("default") or []
        self._allowed: list[Obj] = found.get("whitelist") or []

    async def mutate(self, attributes: Attributes) -> None:
        pod = _pod(attributes)
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        more: list[Obj] = []
        if attributes.operation == "CREATE":
            own = _of_namespace(attributes, _DEFAULTS)
            more = list(self._default if own is None else own)
        if qos_class(spec) != "BestEffort":
            more.append(_MEMORY_PRESSURE)
        if more:
            spec["tolerations"] = merged([*(spec.get("tolerations") or ()), *more])
        self._check(attributes, spec)

    async def validate(self, attributes: Attributes) -> None:
        pod = _pod(attributes)
        if pod is not None:
            self._check(attributes, pod.get("spec") or {})

    def _check(self, attributes: Attributes, spec: Obj) -> None:
        tolerations = spec.get("tolerations") or ()
        if not tolerations:
            return
        own = _of_namespace(attributes, _ALLOWED)
        scope, allowed = ("cluster", self._allowed) if own is None else ("namespace", own)
        if allowed and not all(any(covers(wide, one) for wide in allowed) for one in tolerations):
            raise attributes.forbidden(
                "pod tolerations (possibly merged with namespace default tolerations) conflict with its "
                f"{scope} whitelist"
            )


def _pod(attributes: Attributes) -> Obj | None:
    if attributes.resource != ("", "pods") or attributes.subresource:
        return None
    return attributes.obj if attributes.operation in ("CREATE", "UPDATE") else None


def _of_namespace(attributes: Attributes, annotation: str) -> list[Obj] | None:
    """The tolerations in an annotation of the namespace; None where it has none. Raises 403 for what cannot be read."""
    found = attributes.call.api.storage.cache(NAMESPACES).get(attributes.namespace)
    text = annotations_of(found.obj()).get(annotation) if found is not None else None
    if text is None:
        return None
    if not text:
        return []
    try:
        tolerations: Any = orjson.loads(text)
    except ValueError as error:
        raise attributes.forbidden(f"annotation {annotation} of the namespace cannot be read: {error}") from None
    if not isinstance(tolerations, list) or not all(isinstance(one, dict) for one in tolerations):
        raise attributes.forbidden(f"annotation {annotation} of the namespace is not a list of tolerations")
    return tolerations


def merged(tolerations: Sequence[Obj]) -> list[Obj]:
    """Those of the tolerations that no other makes needless; of equal ones the first."""
    kept: list[Obj] = []
    for index, one in enumerate(tolerations):
        if any(covers(wide, one) for wide in kept):
            continue
        if any(one != wide and covers(wide, one) for wide in tolerations[index + 1 :]):
            continue
        kept.append(one)
    return kept


def covers(wide: Obj, narrow: Obj) -> bool:
    """Whether everything that `narrow` tolerates is tolerated by `wide` as well."""
    if wide == narrow:
        return True
    operator = wide.get("operator") or "Equal"
    key, effect = wide.get("key") or "", wide.get("effect") or ""
    if key != (narrow.get("key") or "") and not (not key and operator == "Exists"):
        return False
    if effect and effect != (narrow.get("effect") or ""):
        return False
    if effect == "NoExecute" and wide.get("tolerationSeconds") is not None:
        seconds = narrow.get("tolerationSeconds")
        if seconds is None or seconds > wide["tolerationSeconds"]:
            return False
    if operator == "Exists":
        return True
    return (narrow.get("operator") or "Equal") == "Equal" and (wide.get("value") or "") == (narrow.get("value") or "")
