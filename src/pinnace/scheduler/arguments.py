"""What a configuration tells the plugins: `pluginConfig[].args`, read strictly, as keyword arguments of each plugin.

Pure. The kinds (`NodeResourcesFitArgs` and so on) are specified by
https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pinnace.apis.core.affinity import validate_affinity
from pinnace.machinery.configuration import ConfigurationError, check_shape, refuse
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.errors import (
    Cause,
    duplicate,
    field_forbidden,
    invalid_value,
    not_supported,
    required,
)
from pinnace.machinery.meta import Obj
from pinnace.scheduler.resources import (
    Strategy,
    least_allocated,
    most_allocated,
    requested_to_capacity_ratio,
)

Arguments = dict[str, Any]

_API_VERSION = "kubescheduler.config.k8s.io/v1"
_RESOURCES = [{"name": str, "weight": int}]


def read_arguments(plugin: str, args: Any, path: str) -> Arguments:
    """Keyword arguments for a plugin; one that is not known here gets `args` as they are. Raises ConfigurationError."""
    known = _KINDS.get(plugin)
    if known is None:
        return {"args": args}
    shape, read = known
    kind = f"{plugin}Args"
    named = (args.get("apiVersion", _API_VERSION), args.get("kind", kind)) if isinstance(args, dict) else None
    if named != (_API_VERSION, kind):
        raise ConfigurationError(f"args for plugin {plugin} were not of type {kind}.kubescheduler.config.k8s.io")
    try:
        check_shape(args, {"apiVersion": str, "kind": str, **shape})
    except ConfigurationError as error:
        raise ConfigurationError(f"decoding args for plugin {plugin}: {error}") from None
    found, errors = read(args)
    refuse([Cause(one.reason, one.message, f"{path}.args.{one.field}") for one in errors])
    return found


def _ranged(field: str, value: int, low: int, high: int | None, words: str) -> list[Cause]:
    return [invalid_value(field, value, words)] if value < low or (high is not None and value > high) else []


def _preemption(args: Obj) -> tuple[Arguments, list[Cause]]:
    percentage = args.get("minCandidateNodesPercentage", 10)
    absolute = args.get("minCandidateNodesAbsolute", 100)
    errors = _ranged("minCandidateNodesPercentage", percentage, 0, 100, "not in valid range [0, 100]")
    errors += _ranged("minCandidateNodesAbsolute", absolute, 0, None, "not in valid range [0, inf)")
    if not percentage and not absolute:
        words = "cannot have both minCandidateNodesPercentage and minCandidateNodesAbsolute zero"
        errors.append(invalid_value("minCandidateNodesPercentage", percentage, words))
    found = {"min_candidate_nodes_percentage": percentage, "min_candidate_nodes_absolute": absolute}
    return found, errors


def _dynamic_resources(args: Obj) -> tuple[Arguments, list[Cause]]:
    """The limit of a filter's time is checked and not needed: here the steps of a search are limited."""
    _, errors = _duration(args, "filterTimeout", 10.0, 0.0, "must be zero or positive")
    patience, more = _duration(args, "bindingTimeout", 600.0, 1.0, "must be at least 1 second")
    return {"binding_timeout_seconds": patience}, errors + more


def _duration(args: Obj, field: str, default: float, least: float, words: str) -> tuple[float, list[Cause]]:
    text = args.get(field)
    if text is None:
        return default, []
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ConfigurationError(
            f'decoding args for plugin DynamicResources: time: invalid duration "{text}"'
        ) from None
    return seconds, [] if seconds >= least else [invalid_value(field, text, words)]


def _inter_pod_affinity(args: Obj) -> tuple[Arguments, list[Cause]]:
    weight = args.get("hardPodAffinityWeight", 1)
    errors = _ranged("hardPodAffinityWeight", weight, 0, 100, "not in valid range [0-100]")
    ignores = bool(args.get("ignorePreferredTermsOfExistingPods"))
    return {"hard_pod_affinity_weight": weight, "ignore_preferred_terms_of_existing_pods": ignores}, errors


def _node_affinity(args: Obj) -> tuple[Arguments, list[Cause]]:
    added = args.get("addedAffinity")
    errors = validate_affinity({"nodeAffinity": added}, "") if added else []
    renamed = [Cause(one.reason, one.message, one.field.replace(".nodeAffinity", "addedAffinity", 1)) for one in errors]
    return {"added_affinity": added}, renamed


def _volume_binding(args: Obj) -> tuple[Arguments, list[Cause]]:
    seconds = args.get("bindTimeoutSeconds", 600)
    words = "invalid BindTimeoutSeconds, should not be a negative value"
    return {"bind_timeout_seconds": seconds}, _ranged("bindTimeoutSeconds", seconds, 0, None, words)


def _balanced_allocation(args: Obj) -> tuple[Arguments, list[Cause]]:
    resources = args.get("resources") or [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]
    errors = [
        invalid_value(f"resources[{index}].weight", one.get("weight", 1), "must be 1")
        for index, one in enumerate(resources)
        if one.get("weight", 1) != 1
    ]
    return {"resources": [one["name"] for one in resources]}, errors


# NodeResourcesFit.


def _fit(args: Obj) -> tuple[Arguments, list[Cause]]:
    ignored, groups = args.get("ignoredResources") or [], args.get("ignoredResourceGroups") or []
    errors = [
        invalid_value(f"ignoredResourceGroups[{index}]", group, "resource group name can't contain '/'")
        for index, group in enumerate(groups)
        if "/" in group
    ]
    strategy, more = _strategy(args.get("scoringStrategy") or {})
    return {"strategy": strategy, "ignored": ignored, "ignored_groups": groups}, errors + more


def _strategy(found: Obj) -> tuple[Strategy, list[Cause]]:
    kind = found.get("type", "LeastAllocated")
    resources = found.get("resources") or [{"name": "cpu"}, {"name": "memory"}]
    weights = tuple((one["name"], one.get("weight") or 1) for one in resources)
    errors = [
        invalid_value(
            f"scoringStrategy.resources[{index}].weight",
            weight,
            f"resource weight of {name} not in valid range [1, 100]",
        )
        for index, (name, weight) in enumerate(weights)
        if not 1 <= weight <= 100
    ]
    if kind == "LeastAllocated":
        return Strategy(least_allocated, weights), errors
    if kind == "MostAllocated":
        return Strategy(most_allocated, weights), errors
    if kind != "RequestedToCapacityRatio":
        names = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
        return Strategy(), [*errors, not_supported("scoringStrategy.type", kind, names)]
    shape = (found.get("requestedToCapacityRatio") or {}).get("shape") or []
    points = [(point.get("utilization", 0), point.get("score", 0)) for point in shape]
    errors += _validate_points(points, "scoringStrategy.requestedToCapacityRatio.shape")
    scaled = [(utilization, score * 10) for utilization, score in points]  # the file counts to 10, plugins to 100
    return Strategy(requested_to_capacity_ratio(scaled), weights, skip_zero=True), errors


def _validate_points(points: Sequence[tuple[int, int]], path: str) -> list[Cause]:
    if not points:
        return [required(path, "at least one point must be specified")]
    errors = []
    for index, (utilization, score) in enumerate(points):
        where = f"{path}[{index}].utilization"
        errors += _ranged(where, utilization, 0, 100, "not in valid range [0-100]")
        errors += _ranged(f"{path}[{index}].score", score, 0, 10, "not in valid range [0-10]")
        if index and utilization <= points[index - 1][0]:
            errors.append(invalid_value(where, utilization, "utilization values must be sorted in increasing order"))
    return errors


# PodTopologySpread.


def _spread(args: Obj) -> tuple[Arguments, list[Cause]]:
    constraints = args.get("defaultConstraints") or []
    kind = args.get("defaultingType", "System")
    errors = []
    if kind not in ("System", "List"):
        errors.append(not_supported("defaultingType", kind, ("List", "System")))
    elif kind == "System" and constraints:
        words = "when .defaultConstraints are not empty"
        errors.append(invalid_value("defaultingType", kind, words))
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        path = f"defaultConstraints[{index}]"
        errors += _constraint(constraint, path)
        what = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        if what in seen:
            errors.append(duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", f"{{{what[0]}, {what[1]}}}"))
        seen.add(what)
    return {"default_constraints": constraints if kind == "List" else None}, errors


def _constraint(constraint: Obj, path: str) -> list[Cause]:
    errors = _ranged(f"{path}.maxSkew", constraint.get("maxSkew", 0), 1, None, "not in valid range (0, inf)")
    if not constraint.get("topologyKey"):
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    when = constraint.get("whenUnsatisfiable")
    if not when:
        errors.append(required(f"{path}.whenUnsatisfiable", "can not be empty"))
    elif when not in ("DoNotSchedule", "ScheduleAnyway"):
        errors.append(not_supported(f"{path}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway")))
    if constraint.get("labelSelector") is not None:
        words = "constraint must not define a selector, as they deduced for each pod"
        errors.append(field_forbidden(f"{path}.labelSelector", words))
    return errors


_Reader = Callable[[Obj], tuple[Arguments, list[Cause]]]
_KINDS: dict[str, tuple[dict[str, Any], _Reader]] = {
    "DefaultPreemption": ({"minCandidateNodesPercentage": int, "minCandidateNodesAbsolute": int}, _preemption),
    "DynamicResources": ({"filterTimeout": str, "bindingTimeout": str}, _dynamic_resources),
    "InterPodAffinity": (
        {"hardPodAffinityWeight": int, "ignorePreferredTermsOfExistingPods": bool},
        _inter_pod_affinity,
    ),
    "NodeAffinity": ({"addedAffinity": Any}, _node_affinity),
    "NodeResourcesBalancedAllocation": ({"resources": _RESOURCES}, _balanced_allocation),
    "NodeResourcesFit": (
        {
            "ignoredResources": [str],
            "ignoredResourceGroups": [str],
            "scoringStrategy": {
                "type": str,
                "resources": _RESOURCES,
                "requestedToCapacityRatio": {"shape": [{"utilization": int, "score": int}]},
            },
        },
        _fit,
    ),
    "PodTopologySpread": ({"defaultConstraints": Any, "defaultingType": str}, _spread),
    "VolumeBinding": (
        {"bindTimeoutSeconds": int, "shape": [{"utilization": int, "score": int}]},
        _volume_binding,
    ),
}
