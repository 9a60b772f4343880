"""Makes profiles: which plugins, in which order, with which weights and arguments, at each extension point.

Specified by https://kubernetes.io/docs/reference/scheduling/config/. Who has plugins of their own adds them to a copy
of `IN_TREE`; a plugin is known by its name and takes part wherever it has the method of an extension point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pinnace.machinery.configuration import ConfigurationError
from pinnace.machinery.features import FeatureGates
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.configuration import POINTS, Configuration, PluginSet, ProfileConfiguration
from pinnace.scheduler.extended_resources import Backing
from pinnace.scheduler.framework import Profile, Rule, ScoreRule, TopologyPlugin
from pinnace.scheduler.frameworks import ProfileMaker
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from pinnace.scheduler.plugins.default_binder import DefaultBinder
from pinnace.scheduler.plugins.default_preemption import DefaultPreemption
from pinnace.scheduler.plugins.dynamic_resources import DynamicResources
from pinnace.scheduler.plugins.image_locality import ImageLocality
from pinnace.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from pinnace.scheduler.plugins.node_affinity import NodeAffinity
from pinnace.scheduler.plugins.node_ports import NodePorts
from pinnace.scheduler.plugins.node_resources_fit import NodeResourcesFit
from pinnace.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pinnace.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from pinnace.scheduler.plugins.pod_topology_spread import PodTopologySpread
from pinnace.scheduler.plugins.priority_sort import PrioritySort
from pinnace.scheduler.plugins.scheduling_gates import SchedulingGates
from pinnace.scheduler.plugins.taint_toleration import TaintToleration
from pinnace.scheduler.plugins.volume_binding import VolumeBinding
from pinnace.scheduler.plugins.volume_restrictions import VolumeRestrictions
from pinnace.scheduler.plugins.volume_zone import VolumeZone
from pinnace.scheduler.pod import PodShape

PluginMaker = Callable[..., Any]
"""Makes a plugin from the handle and, as keywords, the arguments of `pluginConfig`."""


def _alone(kind: Callable[..., Any]) -> PluginMaker:
    """Makes a plugin that needs nothing of the scheduler."""
    return lambda _, **arguments: kind(**arguments)


def _fit(handle: Handle, **arguments: Any) -> NodeResourcesFit:
    return NodeResourcesFit(backing=Backing(handle.objects, lambda: handle.cache.storage_version), **arguments)


IN_TREE: Mapping[str, PluginMaker] = {
    "SchedulingGates": _alone(SchedulingGates),
    "PrioritySort": _alone(PrioritySort),
    "NodeUnschedulable": _alone(NodeUnschedulable),
    "TaintToleration": _alone(TaintToleration),
    "NodeAffinity": _alone(NodeAffinity),
    "NodePorts": _alone(NodePorts),
    "NodeResourcesFit": _fit,
    "VolumeRestrictions": VolumeRestrictions,
    "NodeVolumeLimits": NodeVolumeLimits,
    "VolumeBinding": VolumeBinding,
    "VolumeZone": VolumeZone,
    "PodTopologySpread": PodTopologySpread,
    "InterPodAffinity": InterPodAffinity,
    "DynamicResources": DynamicResources,
    "DefaultPreemption": DefaultPreemption,
    "NodeResourcesBalancedAllocation": _alone(NodeResourcesBalancedAllocation),
    "ImageLocality": _alone(ImageLocality),
    "DefaultBinder": DefaultBinder,
}
DEFAULT_PLUGINS = tuple((name, 0) for name in IN_TREE)
"""What `multiPoint` has by default, in the order in which plugins are asked; 0 is a plugin's own weight."""
_GATES = {"DynamicResources": "DynamicResourceAllocation"}
NODE_NAME = "NodeName"
"""Known, and never asked: pods that name their node are bound before they come here."""

_METHODS = {
    "preEnqueue": ("pre_enqueue",),
    "queueSort": ("sort_key",),
    "preFilter": ("pre_filter",),
    "filter": ("filter", "filter_rules"),
    "postFilter": ("post_filter",),
    "preScore": ("scores",),
    "score": ("score", "score_rules"),
    "reserve": ("reserve",),
    "permit": ("permit",),
    "preBind": ("pre_bind",),
    "bind": ("bind",),
    "postBind": ("post_bind",),
}
_NOT_HERE = {  # extension points at which Kubernetes' plugin has work to do and ours has none
    "preFilter": {
        "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits", "VolumeZone",
        "PodTopologySpread", "InterPodAffinity", NODE_NAME,
    },
    "preScore": {"PodTopologySpread", "InterPodAffinity", "VolumeBinding"},
    "score": {"VolumeBinding"},
    "filter": {NODE_NAME},
}  # fmt: skip


def default_profile(handle: Handle) -> Profile:
    """The plugins of `default-scheduler`, in its order and with its weights."""
    return make_profile(ProfileConfiguration(), handle)


def default_plugins(features: FeatureGates) -> tuple[tuple[str, int], ...]:
    """What is there by default of plugins whose features are on."""
    return tuple(one for one in DEFAULT_PLUGINS if one[0] not in _GATES or features.enabled(_GATES[one[0]]))


def profile_makers(
    configuration: Configuration,
    registry: Mapping[str, PluginMaker] = IN_TREE,
    features: FeatureGates | None = None,
) -> dict[str, ProfileMaker]:
    """What makes each profile, by scheduler name."""
    defaults = DEFAULT_PLUGINS if features is None else default_plugins(features)
    return {
        profile.scheduler_name: partial(make_profile, profile, registry=registry, defaults=defaults)
        for profile in configuration.profiles
    }


def check(configuration: Configuration, registry: Mapping[str, PluginMaker] = IN_TREE) -> None:
    """Raises ConfigurationError for profiles that cannot be."""
    cache = Cache()
    nowhere: Any = None  # plugins touch their handle when they are asked, not before
    handle = Handle(
        client=nowhere, cache=cache, nominations=Nominations(cache), objects=nowhere, recorder=nowhere, begin=nowhere,
        activate=nowhere, metrics=nowhere, extenders=(), until=nowhere,
    )  # fmt: skip
    for make in profile_makers(configuration, registry).values():
        make(handle)


def make_profile(
    configuration: ProfileConfiguration,
    handle: Handle,
    registry: Mapping[str, PluginMaker] = IN_TREE,
    defaults: Iterable[tuple[str, int]] = DEFAULT_PLUGINS,
) -> Profile:
    """The profile with its plugins. Raises ConfigurationError for what cannot be."""
    everywhere = _merged(defaults, configuration.at("multiPoint"))
    named = {name: "MultiPoint" for name, _ in everywhere}
    for point in POINTS:
        named |= {name: _kind(point) for name, _ in configuration.at(point).enabled}
    for name, where in named.items():
        if name not in registry and name != NODE_NAME:
            raise ConfigurationError(f'{where} "{name}" does not exist')
    made = {name: registry[name](handle, **configuration.arguments.get(name, {})) for name in named if name in registry}
    chosen = {point: _chosen(point, configuration.at(point), everywhere, made) for point in POINTS}
    for name, weight in chosen["score"]:
        if weight:
            made[name].weight = weight
    found = {point: [made[name] for name, _ in plugins] for point, plugins in chosen.items()}
    whose = f'for profile with scheduler name "{configuration.scheduler_name}"'
    if len(found["queueSort"]) != 1:
        raise ConfigurationError(f"only one queue sort plugin required {whose}, but got {len(found['queueSort'])}")
    if not found["bind"]:
        raise ConfigurationError(f"at least one bind plugin is needed {whose}")
    return Profile(
        queue_sort=found["queueSort"][0],
        bind=found["bind"][0],
        pre_enqueue=found["preEnqueue"],
        pre_filter=found["preFilter"],
        filter=[plugin for plugin in found["filter"] if hasattr(plugin, "filter")],
        topology=_topology(found["filter"], found["score"]),
        post_filter=found["postFilter"],
        score=[plugin for plugin in found["score"] if hasattr(plugin, "score")],
        reserve=found["reserve"],
        permit=found["permit"],
        pre_bind=found["preBind"],
        post_bind=found["postBind"],
    )


def _kind(point: str) -> str:
    return f"{point[0].upper()}{point[1:]}Plugin"


def _merged(defaults: Iterable[tuple[str, int]], changes: PluginSet) -> list[tuple[str, int]]:
    """The defaults without what is disabled; what is enabled anew takes its old place, or is put last."""
    enabled = dict(changes.enabled)
    kept = [] if "*" in changes.disabled else [one for one in defaults if one[0] not in changes.disabled]
    replaced = [(name, enabled.pop(name, weight)) for name, weight in kept]
    return [*replaced, *enabled.items()]


def _chosen(
    point: str, here: PluginSet, everywhere: list[tuple[str, int]], made: Mapping[str, Any]
) -> list[tuple[str, int]]:
    """The plugins of one point, with weights: those of `multiPoint` that are named here too, its others, the rest."""
    seen: set[str] = set()
    for name, _ in here.enabled:
        if name in seen:
            raise ConfigurationError(f'plugin "{name}" already registered as "{_kind(point)}"')
        if not _takes_part(made.get(name), point) and name not in _NOT_HERE.get(point, ()):
            raise ConfigurationError(f'plugin "{name}" does not extend {_kind(point)} plugin')
        seen.add(name)
    of_all = {name for name, _ in everywhere}
    brought = [one for one in everywhere if one[0] not in seen and not {one[0], "*"} & here.disabled]
    order = [
        *(one for one in here.enabled if one[0] in of_all),
        *brought,
        *(one for one in here.enabled if one[0] not in of_all),
    ]
    return [one for one in order if _takes_part(made.get(one[0]), point)]


def _takes_part(plugin: Any, point: str) -> bool:
    return any(hasattr(plugin, method) for method in _METHODS[point])


# Plugins about topology filter and score by rules; a profile may want only one of both.


class _Part:
    """Half of such a plugin."""

    def __init__(self, plugin: TopologyPlugin, *, filters: bool) -> None:
        self.name, self.weight, self.lowest_first = plugin.name, plugin.weight, plugin.lowest_first
        self._plugin = plugin
        self._filters = filters

    def filter_rules(self, shape: PodShape, cache: Cache) -> Sequence[Rule]:
        return self._plugin.filter_rules(shape, cache) if self._filters else ()

    def score_rules(self, shape: PodShape, cache: Cache) -> Sequence[ScoreRule]:
        return () if self._filters else self._plugin.score_rules(shape, cache)


def _topology(filtering: list[Any], scoring: list[Any]) -> list[TopologyPlugin]:
    both = [plugin for plugin in filtering if hasattr(plugin, "filter_rules")]
    found: list[TopologyPlugin] = [plugin if plugin in scoring else _Part(plugin, filters=True) for plugin in both]
    more = [plugin for plugin in scoring if hasattr(plugin, "score_rules") and plugin not in both]
    return [*found, *(_Part(plugin, filters=False) for plugin in more)]
