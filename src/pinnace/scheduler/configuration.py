"""Reads a KubeSchedulerConfiguration: profiles with their plugins, extenders and what else shapes a scheduler.

Pure. Fields are specified by https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/; what plugins
are told (`pluginConfig`) is read in `arguments.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pinnace.machinery.configuration import ConfigurationError, parse_configuration, refuse
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.scheduler.arguments import read_arguments
from pinnace.scheduler.pod import DEFAULT_SCHEDULER

API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"
POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit",
    "preBind", "bind", "postBind",
)  # fmt: skip
"""The extension points at which plugins are turned on and off; `multiPoint` stands for all."""

_PLUGINS = {"enabled": [{"name": str, "weight": int}], "disabled": [{"name": str, "weight": int}]}
_RESOURCE = {"name": str, "ignoredByScheduler": bool}
_TLS = {
    "insecure": bool, "serverName": str, "certFile": str, "keyFile": str, "caFile": str, "certData": str,
    "keyData": str, "caData": str,
}  # fmt: skip
_EXTENDER = {
    "urlPrefix": str, "filterVerb": str, "preemptVerb": str, "prioritizeVerb": str, "weight": int, "bindVerb": str,
    "enableHTTPS": bool, "tlsConfig": _TLS, "httpTimeout": str, "nodeCacheCapable": bool,
    "managedResources": [_RESOURCE], "ignorable": bool,
}  # fmt: skip
_SHAPE = {
    "parallelism": int,
    "leaderElection": {
        "leaderElect": bool, "leaseDuration": str, "renewDeadline": str, "retryPeriod": str, "resourceLock": str,
        "resourceName": str, "resourceNamespace": str,
    },
    "clientConnection": {"kubeconfig": str, "acceptContentTypes": str, "contentType": str, "qps": Any, "burst": int},
    "enableProfiling": bool,
    "enableContentionProfiling": bool,
    "percentageOfNodesToScore": int,
    "podInitialBackoffSeconds": int,
    "podMaxBackoffSeconds": int,
    "delayCacheUntilActive": bool,
    "profiles": [{
        "schedulerName": str,
        "percentageOfNodesToScore": int,
        "plugins": dict.fromkeys((*POINTS, "multiPoint"), _PLUGINS),
        "pluginConfig": [{"name": str, "args": Any}],
    }],
    "extenders": [_EXTENDER],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PluginSet:
    """What a profile says of the plugins at one extension point."""

    enabled: tuple[tuple[str, int], ...] = ()  # name and weight; 0: the default weight
    disabled: frozenset[str] = frozenset()  # `*` is all


@dataclass(frozen=True, slots=True)
class ProfileConfiguration:
    """One profile; extension points that it does not name are as they are by default."""

    scheduler_name: str = DEFAULT_SCHEDULER
    plugins: dict[str, PluginSet] = field(default_factory=dict)  # by extension point
    arguments: dict[str, Any] = field(default_factory=dict)  # by plugin, as `arguments.py` gives them

    def at(self, point: str) -> PluginSet:
        return self.plugins.get(point, PluginSet())


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says; defaults are Kubernetes'."""

    profiles: tuple[ProfileConfiguration, ...] = (ProfileConfiguration(),)
    extenders: tuple[Obj, ...] = ()
    initial_backoff_seconds: float = 1
    max_backoff_seconds: float = 10
    leader_election: Obj = field(default_factory=dict)
    client_connection: Obj = field(default_factory=dict)
    document: Obj = field(default_factory=dict)  # as it was written


def read_configuration(text: str) -> Configuration:
    """The document in `text`, YAML or JSON. Raises ConfigurationError with the words of kube-scheduler."""
    try:
        document = parse_configuration(text, {(API_VERSION, KIND): _SHAPE})
    except ConfigurationError as error:
        raise ConfigurationError(str(error).removeprefix("failed decoding: ")) from None
    profiles = document.get("profiles") or [{}]
    if len(profiles) == 1 and "schedulerName" not in profiles[0]:
        profiles = [{**profiles[0], "schedulerName": DEFAULT_SCHEDULER}]
    refuse(_validate({**document, "profiles": profiles}))
    ignored = [
        resource["name"]
        for extender in document.get("extenders") or ()
        for resource in extender.get("managedResources") or ()
        if resource.get("ignoredByScheduler")
    ]
    return Configuration(
        profiles=tuple(_profile(profile, f"profiles[{index}]", ignored) for index, profile in enumerate(profiles)),
        extenders=tuple(document.get("extenders") or ()),
        initial_backoff_seconds=document.get("podInitialBackoffSeconds") or 1,
        max_backoff_seconds=document.get("podMaxBackoffSeconds") or 10,
        leader_election=document.get("leaderElection") or {},
        client_connection=document.get("clientConnection") or {},
        document=document,
    )


def _profile(profile: Obj, path: str, ignored: list[str]) -> ProfileConfiguration:
    """`ignored` are resources that extenders look after."""
    plugins = {
        point: PluginSet(
            tuple((one["name"], one.get("weight") or 0) for one in found.get("enabled") or ()),
            frozenset(one["name"] for one in found.get("disabled") or ()),
        )
        for point, found in (profile.get("plugins") or {}).items()
        if found
    }
    configured = profile.get("pluginConfig") or ()
    arguments = {
        one["name"]: read_arguments(one["name"], one.get("args") or {}, f"{path}.pluginConfig[{index}]")
        for index, one in enumerate(configured)
    }
    if ignored:
        fit = arguments.setdefault("NodeResourcesFit", {})
        fit["ignored"] = [*fit.get("ignored", ()), *ignored]
    return ProfileConfiguration(profile["schedulerName"], plugins, arguments)


# Validation.


def _validate(document: Obj) -> list[Cause]:
    errors: list[Cause] = []
    if (parallelism := document.get("parallelism")) is not None and parallelism <= 0:
        errors.append(invalid_value("parallelism", parallelism, "should be an integer value greater than zero"))
    errors += _percentage(document, "")
    initial, most = document.get("podInitialBackoffSeconds", 1), document.get("podMaxBackoffSeconds", 10)
    if initial <= 0:
        errors.append(invalid_value("podInitialBackoffSeconds", initial, "must be greater than 0"))
    if most < initial:
        words = "must be greater than or equal to PodInitialBackoffSeconds"
        errors.append(invalid_value("podMaxBackoffSeconds", most, words))
    return [*errors, *_validate_profiles(document["profiles"]), *_validate_extenders(document.get("extenders") or [])]


def _percentage(found: Obj, path: str) -> list[Cause]:
    value = found.get("percentageOfNodesToScore")
    if value is None or 0 <= value <= 100:
        return []
    return [invalid_value(f"{path}percentageOfNodesToScore", value, "not in valid range [0-100]")]


def _validate_profiles(profiles: list[Obj]) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    sorters = []
    for index, profile in enumerate(profiles):
        path = f"profiles[{index}]"
        name = profile.get("schedulerName")
        if not name:
            errors.append(required(f"{path}.schedulerName"))
        elif name in seen:
            errors.append(duplicate(f"{path}.schedulerName", name))
        seen.add(name or "")
        errors += _percentage(profile, f"{path}.")
        configured = [one.get("name", "") for one in profile.get("pluginConfig") or ()]
        errors += [
            duplicate(f"{path}.pluginConfig[{number}]", one)
            for number, one in enumerate(configured)
            if one in configured[:number]
        ]
        sorters.append(((profile.get("plugins") or {}).get("queueSort") or {}).get("enabled") or [])
    for index, sorter in enumerate(sorters):
        if sorter != sorters[0]:
            words = "has to match for all profiles"
            errors.append(invalid_value(f"profiles[{index}].plugins.queueSort", sorter, words))
    return errors


def _validate_extenders(extenders: list[Obj]) -> list[Cause]:
    errors: list[Cause] = []
    binding = [one for one in extenders if one.get("bindVerb")]
    managed: set[str] = set()
    for index, extender in enumerate(extenders):
        path = f"extenders[{index}]"
        weight = extender.get("weight", 0)
        if extender.get("prioritizeVerb") and weight <= 0:
            errors.append(invalid_value(f"{path}.weight", weight, "must have a positive weight applied to it"))
        for number, resource in enumerate(extender.get("managedResources") or ()):
            name = resource.get("name", "")
            if name in managed:
                errors.append(duplicate(f"{path}.managedResources[{number}].name", name))
            managed.add(name)
    if len(binding) > 1:
        words = "only one extender can implement bind"
        errors.append(invalid_value("extenders", f"found {len(binding)} extenders implementing bind", words))
    return errors
