"""Parameters of admission policies: which objects a binding means, and what it means that there are none.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#parameter-resources.
"""

from __future__ import annotations

from pinnace.apis.kind import Kind
from pinnace.apiserver.admission.chain import Attributes
from pinnace.apiserver.call import shown
from pinnace.machinery.meta import GVK, Obj, parse_api_version
from pinnace.machinery.selectors import LabelSelector


class Misconfigured(Exception):
    """A policy or binding cannot be used as it is; the message follows `failed to configure …: `."""


def param_kind(attributes: Attributes, spec: Obj) -> Kind | None:
    """The kind of a policy's parameters, None for one without. Raises Misconfigured for a kind that is not served."""
    wanted = spec.get("paramKind")
    if not wanted:
        return None
    group, version = parse_api_version(wanted.get("apiVersion") or "")
    found = attributes.call.api.registry.by_gvk(GVK(group, version, wanted.get("kind") or ""))
    if found is None or not found.is_stored:
        named = f"{group}/{version}, Kind={wanted.get('kind')}" if group else f"/{version}, Kind={wanted.get('kind')}"
        raise Misconfigured(f"failed to find resource referenced by paramKind: '{named}'")
    return found


def params_for(attributes: Attributes, kind: Kind | None, binding: Obj) -> list[Obj | None]:
    """The parameters to evaluate a policy with, one after the other; none means there is nothing to evaluate.

    Raises Misconfigured.
    """
    reference = binding.get("paramRef")
    if kind is None or not reference:
        return [None]
    namespace = _namespace(attributes, kind, reference)
    cache = attributes.call.api.storage.cache(kind.storage)
    name, selector = reference.get("name"), reference.get("selector")
    found: list[Obj | None] = []
    if name:
        one = cache.get(f"{namespace}/{name}" if namespace else name)
        found = [shown(kind, one)] if one is not None else []
    elif selector is not None:
        chosen = LabelSelector.from_json(selector)
        inside = [cache.objects[key] for key in cache.keys if not namespace or key.startswith(f"{namespace}/")]
        found = [shown(kind, one) for one in inside if chosen.matches(one.labels)]
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found


def _namespace(attributes: Attributes, kind: Kind, reference: Obj) -> str:
    given = str(reference.get("namespace") or "")
    if not kind.namespaced:
        if given:
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    namespace = given or attributes.namespace
    if not namespace:
        raise Misconfigured("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    return namespace
