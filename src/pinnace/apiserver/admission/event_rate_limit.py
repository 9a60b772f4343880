"""EventRateLimit: events beyond a rate are refused, of the whole server, a namespace, a user, or one source about one
object. Off unless asked for, and then told its limits by a configuration.

https://kubernetes.io/docs/reference/config-api/apiserver-eventratelimit.v1alpha1/.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from pinnace.apiserver.admission.chain import Attributes, Plugin, aggregated
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.configuration import parse_configuration, refuse
from pinnace.machinery.errors import ApiError, Cause, invalid_value, not_supported
from pinnace.machinery.meta import Obj

_SHAPE = {"limits": [{"type": str, "qps": int, "burst": int, "cacheSize": int}]}
_KINDS = {("eventratelimit.admission.k8s.io/v1alpha1", "Configuration"): _SHAPE}
_CACHE_SIZE = 4096
_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion")


def _source_and_object(attributes: Attributes) -> str:
    event = attributes.obj or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    about = event.get("involvedObject") or event.get("regarding") or {}
    return "".join(
        [source.get("component") or "", source.get("host") or "", *(about.get(one) or "" for one in _OBJECT)]
    )


_KEYS: dict[str, Callable[[Attributes], str]] = {
    "Server": lambda _: "",
    "Namespace": lambda attributes: attributes.namespace,
    "User": lambda attributes: attributes.call.user.name,
    "SourceAndObject": _source_and_object,
}


class Limit:
    """One bucket of tokens for each key: `burst` at first, `qps` more a second. The oldest keys are forgotten."""

    def __init__(self, limit: Obj, clock: Callable[[], float]) -> None:
        self.type: str = limit["type"]
        self._qps: int = limit["qps"]
        self._burst: int = limit["burst"]
        self._size = limit.get("cacheSize") or _CACHE_SIZE
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens there were, and when

    def accepts(self, key: str) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        tokens, since = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._qps)
        accepted = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if accepted else tokens, now)
        if len(self._buckets) > self._size:
            self._buckets.popitem(last=False)
        return accepted


class EventRateLimit(Plugin):
    """`configuration` is a document of eventratelimit.admission.k8s.io. Raises ConfigurationError."""

    concerns = frozenset({("", "events"), ("events.k8s.io", "events")})

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        return cls(configurations.of("EventRateLimit"))

    def __init__(self, configuration: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        document = parse_configuration(configuration, _KINDS) if configuration else {}
        limits = document.get("limits") or []
        refuse(limit_errors(limits))
        self._limits = [Limit(limit, clock) for limit in limits]

    async def validate(self, attributes: Attributes) -> None:
        if attributes.dry_run or attributes.operation not in ("CREATE", "UPDATE"):
            return
        reached = []
        for limit in self._limits:
            key = _KEYS[limit.type](attributes)
            if not limit.accepts(key):
                reached.append(f"limit reached on type {limit.type} for key {key}")
        if reached:
            raise ApiError(429, "TooManyRequests", f"Too many requests: {aggregated(reached)}")


def limit_errors(limits: list[Obj]) -> list[Cause]:
    """What is wrong with the limits of a configuration."""
    errors = [] if limits else [invalid_value("limits", None, "must not be empty")]
    for index, limit in enumerate(limits):
        path = f"limits[{index}]"
        if limit.get("type") not in _KEYS:
            errors.append(not_supported(f"{path}.type", limit.get("type") or "", sorted(_KEYS)))
        errors += [
            invalid_value(f"{path}.{field}", limit.get(field) or 0, "must be positive")
            for field in ("burst", "qps")
            if (limit.get(field) or 0) <= 0
        ]
        if limit.get("type") != "Server" and (limit.get("cacheSize") or 0) < 0:
            errors.append(invalid_value(f"{path}.cacheSize", limit["cacheSize"], "must not be negative"))
    return errors
