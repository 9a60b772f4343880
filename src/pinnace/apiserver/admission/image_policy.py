"""ImagePolicyWebhook: another server says which images pods may use. Off unless asked for, and then told whom to ask.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#imagepolicywebhook.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.apiserver.webhook_client import CallFailed, KubeconfigWebhook
from pinnace.machinery.meta import Obj, annotations_of

log = structlog.get_logger()

_KIND = {"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview"}
_ANNOTATION = ".image-policy.k8s.io/"
_AUDIT = "imagepolicywebhook.image-policy.k8s.io/"
_FAILED_OPEN = "alpha.image-policy.k8s.io/failed-open"
_ANSWERS = 1024  # remembered

# Of each setting: its unit in seconds, the least and the most that it may be, and what 0 stands for, in seconds.
_DURATIONS = {
    "retryBackoff": (0.001, 1e-9, 300.0, 0.5),
    "allowTTL": (1.0, 1.0, 1800.0, 300.0),
    "denyTTL": (1.0, 1.0, 1800.0, 30.0),
}


def duration(settings: Obj, name: str) -> float:
    """Seconds; 0 for -1, which turns it off. Raises ConfigurationError."""
    unit, least, most, default = _DURATIONS[name]
    value = settings.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"imagePolicy.{name} must be an integer")
    if value == -1:
        return 0.0
    if value == 0:
        return default
    seconds = value * unit
    if not least <= seconds <= most:
        raise ConfigurationError(f"valid value is between {_go(least)} and {_go(most)}, got {_go(seconds)}")
    return seconds


def _go(seconds: float) -> str:
    """A duration as Go writes it."""
    if seconds < 1e-6:
        return f"{seconds * 1e9:g}ns"
    if seconds < 0:
        return f"{seconds:g}s"
    if seconds < 1:
        return f"{seconds * 1e3:g}ms"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    shown = f"{left}s"
    if hours or minutes:
        shown = f"{minutes}m{shown}"
    return f"{hours}h{shown}" if hours else shown


def read_settings(configuration: str) -> Obj:
    """What stands below `imagePolicy`. Raises ConfigurationError."""
    from pinnace.machinery import yaml

    try:
        document = yaml.load(configuration)
    except yaml.YamlError as error:
        raise ConfigurationError(f"failed decoding: {error}") from None
    found = document.get("imagePolicy") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("kubeConfigFile"), str):
        raise ConfigurationError("ImagePolicyWebhook needs imagePolicy.kubeConfigFile in its configuration")
    return found


class ImagePolicyWebhook(Plugin):
    """`configuration` is a document with `imagePolicy`; `directory` is where its relative paths start.

    Raises ConfigurationError.
    """

    concerns = frozenset({("", "pods")})

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        return cls(configurations.of("ImagePolicyWebhook"), configurations.directory)

    def __init__(
        self, configuration: str = "", directory: Path = Path(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        settings = read_settings(configuration)
        self._backoff = duration(settings, "retryBackoff")
        self._allow_seconds = duration(settings, "allowTTL")
        self._deny_seconds = duration(settings, "denyTTL")
        self._default_allow = bool(settings.get("defaultAllow"))
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[Obj, float]] = OrderedDict()  # and until when they hold
        try:
            self._webhook = KubeconfigWebhook(directory / settings["kubeConfigFile"])
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    async def close(self) -> None:
        await self._webhook.close()

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None or attributes.subresource or attributes.operation not in ("CREATE", "UPDATE"):
            return
        spec = review_spec(pod, attributes.namespace)
        try:
            status = await self._status(spec)
        except CallFailed as error:
            log.warning("image policy webhook", error=str(error), allowed=self._default_allow)
            if not self._default_allow:
                raise attributes.forbidden(str(error)) from None
            attributes.annotate(f"{_AUDIT}failed-open", "true")
            pod["metadata"]["annotations"] = {**annotations_of(pod), _FAILED_OPEN: "true"}
            return
        for key, value in (status.get("auditAnnotations") or {}).items():
            attributes.annotate(f"{_AUDIT}{key}", str(value))
        if not status.get("allowed"):
            reason = status.get("reason")
            why = "one or more images rejected by webhook backend"
            if reason:
                why = f"image policy webhook backend denied one or more images: {reason}"
            raise attributes.forbidden(why)

    async def _status(self, spec: Obj) -> Obj:
        """What the webhook says, now or not long ago. Raises CallFailed."""
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        known = self._answers.get(key)
        if known is not None and known[1] > self._clock():
            return known[0]
        status = _status_in(await self._webhook.ask(orjson.dumps({**_KIND, "spec": spec}), self._backoff))
        seconds = self._allow_seconds if status.get("allowed") else self._deny_seconds
        self._answers.pop(key, None)
        if seconds:
            self._answers[key] = (status, self._clock() + seconds)
            if len(self._answers) > _ANSWERS:
                self._answers.popitem(last=False)
        return status


def review_spec(pod: Obj, namespace: str) -> Obj:
    """What the webhook is told of a pod."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    found: Obj = {"containers": [{"image": one.get("image", "")} for one in containers]}
    annotations = {key: value for key, value in annotations_of(pod).items() if _ANNOTATION in key}
    if annotations:
        found["annotations"] = annotations
    return {**found, "namespace": namespace}


def _status_in(answer: bytes) -> Obj:
    try:
        document: Any = orjson.loads(answer)
    except ValueError as error:
        raise CallFailed(f"the answer is no JSON: {error}") from None
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(status, dict):
        raise CallFailed("the answer is no ImageReview with a status")
    return status
