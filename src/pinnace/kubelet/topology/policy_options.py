"""Options of the CPU manager's static policy and of the topology manager: which there are, since when, by which gate.

Pure. Specified by https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/ and
https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/#topology-manager-policy-options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pinnace.kubelet.topology.cpu_choice import (
    ACROSS_CORES,
    ACROSS_NUMA,
    BY_CACHE,
    BY_SOCKET,
    FULL_CORES,
    STRICT_RESERVATION,
)
from pinnace.machinery.features import FeatureGates

ALPHA, BETA, STABLE = "Alpha", "Beta", ""
CLOSEST = "prefer-closest-numa-nodes"
MOST_NODES = "max-allowable-numa-nodes"
FEWEST_MOST_NODES = 8  # that a machine may always have

_Stages = Mapping[str, tuple[tuple[int, str], ...]]  # option -> since which minor it is what

_CPU: _Stages = {
    FULL_CORES: ((22, ALPHA), (23, BETA), (33, STABLE)),
    ACROSS_NUMA: ((23, ALPHA), (33, BETA)),
    BY_SOCKET: ((25, ALPHA),),
    ACROSS_CORES: ((31, ALPHA),),
    STRICT_RESERVATION: ((32, ALPHA), (33, BETA), (35, STABLE)),
    BY_CACHE: ((32, ALPHA), (34, BETA)),
}
_TOPOLOGY: _Stages = {
    CLOSEST: ((26, ALPHA), (28, BETA), (32, STABLE)),
    MOST_NODES: ((31, BETA), (35, STABLE)),
}
_EXCLUSIVE = (
    (FULL_CORES, ACROSS_CORES),
    (ACROSS_NUMA, ACROSS_CORES),
    (BY_CACHE, ACROSS_CORES),
    (BY_CACHE, ACROSS_NUMA),
)
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


@dataclass(frozen=True, slots=True)
class TopologyOptions:
    """How the topology manager chooses."""

    closest: bool = False  # of as many nodes those that are near to each other
    most_nodes: int = FEWEST_MOST_NODES  # that the machine may have


def cpu_options(given: Mapping[str, str], features: FeatureGates) -> list[str]:
    """The options of the static CPU policy that are on. Raises ValueError."""
    found = []
    for name, value in given.items():
        _check_available("CPU Manager", "CPUManager", _CPU, name, features)
        if _boolean(name, value):
            found.append(name)
    for one, other in _EXCLUSIVE:
        if one in found and other in found:
            raise ValueError(f"static policy options {one} and {other} can not be used at the same time")
    return found


def topology_options(given: Mapping[str, str], features: FeatureGates) -> TopologyOptions:
    """The options of the topology manager. Raises ValueError."""
    closest, most_nodes = False, FEWEST_MOST_NODES
    for name, value in given.items():
        _check_available("Topology Manager", "TopologyManager", _TOPOLOGY, name, features)
        if name == CLOSEST:
            closest = _boolean(name, value)
        else:
            most_nodes = _number(name, value)
    return TopologyOptions(closest, most_nodes)


def _check_available(what: str, gate: str, options: _Stages, name: str, features: FeatureGates) -> None:
    stages = [stage for since, stage in options.get(name, ()) if since <= features.minor]
    if not stages:
        raise ValueError(f'unknown {what} Policy option: "{name}"')
    stage = stages[-1]
    if stage and not features.enabled(f"{gate}Policy{stage}Options"):
        raise ValueError(f'{what} Policy {stage}-level Options not enabled, but option "{name}" provided')


def _boolean(name: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise ValueError(f'bad value for option "{name}": strconv.ParseBool: parsing "{value}": invalid syntax')
    return _BOOLEANS[value]


def _number(name: str, value: str) -> int:
    try:
        found = int(value)
    except ValueError:
        why = f'strconv.Atoi: parsing "{value}": invalid syntax'
        raise ValueError(f'unable to convert policy option to integer "{name}": {why}') from None
    if found < FEWEST_MOST_NODES:
        raise ValueError(f'the minimum value of "{name}" should not be less than {FEWEST_MOST_NODES}')
    return found
