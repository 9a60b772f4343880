"""A KubeSchedulerConfiguration with everything said: what --write-config-to writes and /configz shows.

Pure. Defaults are those of https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj
from pinnace.scheduler.configuration import API_VERSION, KIND, POINTS
from pinnace.scheduler.pod import DEFAULT_SCHEDULER
from pinnace.scheduler.profiles import IN_TREE, NODE_NAME, default_plugins

_CLIENT = {
    "acceptContentTypes": "",
    "burst": 100,
    "contentType": "application/vnd.kubernetes.protobuf",
    "kubeconfig": "",
    "qps": 50,
}
_ELECTION = {
    "leaderElect": True,
    "leaseDuration": "15s",
    "renewDeadline": "10s",
    "resourceLock": "leases",
    "resourceName": "kube-scheduler",
    "resourceNamespace": "kube-system",
    "retryPeriod": "2s",
}
_SCALARS = {
    "delayCacheUntilActive": False,
    "enableContentionProfiling": True,
    "enableProfiling": True,
    "parallelism": 16,
    "percentageOfNodesToScore": 0,
    "podInitialBackoffSeconds": 1,
    "podMaxBackoffSeconds": 10,
}
_RESOURCES = [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]
_ARGUMENTS: Mapping[str, Obj] = {
    "DefaultPreemption": {"minCandidateNodesAbsolute": 100, "minCandidateNodesPercentage": 10},
    "InterPodAffinity": {"hardPodAffinityWeight": 1, "ignorePreferredTermsOfExistingPods": False},
    "NodeAffinity": {},
    "NodeResourcesBalancedAllocation": {"resources": _RESOURCES},
    "NodeResourcesFit": {"scoringStrategy": {"resources": _RESOURCES, "type": "LeastAllocated"}},
    "PodTopologySpread": {"defaultingType": "System"},
    "VolumeBinding": {"bindTimeoutSeconds": 600},
}
_WEIGHTS: Mapping[str, int] = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "DynamicResources": 2,
    "NodeResourcesFit": 1,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
_SCORES_SINCE = {"DynamicResources": 35}  # minors: a plugin that judges no nodes has no weight
_NAME_AFTER = "NodeUnschedulable"  # where NodeName, which is never asked here, stands


def complete(document: Obj, features: FeatureGates, *, client: Obj, election: Obj, profiling: bool) -> Obj:
    """What a file says (nothing for none), and what flags say instead of it, with the defaults for the rest."""
    profiles = document.get("profiles") or [{}]
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        **{name: document.get(name, value) for name, value in _SCALARS.items()},
        "enableProfiling": profiling and document.get("enableProfiling", True),
        "clientConnection": {**_CLIENT, **(document.get("clientConnection") or {}), **client},
        "leaderElection": {**_ELECTION, **(document.get("leaderElection") or {}), **election},
        "profiles": [_profile(profile, features) for profile in profiles],
        **({"extenders": document["extenders"]} if document.get("extenders") else {}),
    }


def _profile(profile: Obj, features: FeatureGates) -> Obj:
    told: dict[str, Any] = profile.get("plugins") or {}
    points = {point: told.get(point) or {} for point in POINTS}
    given = {one["name"]: one.get("args") or {} for one in profile.get("pluginConfig") or ()}
    named = [(name, {**_ARGUMENTS.get(name, {}), **given.get(name, {})}) for name in sorted({*_ARGUMENTS, *given})]
    return {
        "schedulerName": profile.get("schedulerName") or DEFAULT_SCHEDULER,
        "plugins": {**points, "multiPoint": _everywhere(told.get("multiPoint") or {}, features)},
        "pluginConfig": [
            {
                "name": name,
                "args": {"apiVersion": API_VERSION, "kind": f"{name}Args", **args} if name in IN_TREE else args,
            }
            for name, args in named
        ],
        **({"percentageOfNodesToScore": profile["percentageOfNodesToScore"]}
           if "percentageOfNodesToScore" in profile else {}),
    }  # fmt: skip


def _everywhere(changes: Obj, features: FeatureGates) -> Obj:
    """The default plugins as a profile changes them."""
    disabled = {one["name"] for one in changes.get("disabled") or ()}
    given = {one["name"]: one.get("weight") or 0 for one in changes.get("enabled") or ()}
    names = [name for name, _ in default_plugins(features)]
    names.insert(names.index(_NAME_AFTER) + 1, NODE_NAME)
    weights = {name: weight for name, weight in _WEIGHTS.items() if _SCORES_SINCE.get(name, 0) <= features.minor}
    kept = [] if "*" in disabled else [name for name in names if name not in disabled]
    enabled = [{"name": name, "weight": given.pop(name, weights.get(name, 0))} for name in kept]
    enabled += [{"name": name, "weight": weight} for name, weight in given.items()]
    found: Obj = {"enabled": enabled}
    if disabled:
        found["disabled"] = [{"name": name} for name in sorted(disabled)]
    return found
