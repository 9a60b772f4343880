"""What brings back a pod that was rejected: the hints of each plugin, asked as the queue asks them."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from pinnace.scheduler.plugins.node_affinity import NodeAffinity
from pinnace.scheduler.plugins.node_ports import NodePorts
from pinnace.scheduler.plugins.node_resources_fit import NodeResourcesFit
from pinnace.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pinnace.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from pinnace.scheduler.plugins.pod_topology_spread import PodTopologySpread
from pinnace.scheduler.plugins.taint_toleration import TaintToleration
from pinnace.scheduler.plugins.volume_binding import VolumeBinding
from pinnace.scheduler.plugins.volume_restrictions import VolumeRestrictions
from pinnace.scheduler.pod import PodInfo
from tests.scheduler.objects import affinity_term, anti_affinity, handle, info, node, pod, pod_affinity, spread

HANDLE = handle(Cache())
TAINT = {"key": "a", "effect": "NoSchedule"}
S = {"app": "s"}
PORT = {"ports": [{"hostPort": 80}]}
DATA = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]


def nodes(action: Action, **more: Any) -> Change:
    return Change("Node", action, info(node("n", **more)))


def pods(action: Action, **more: Any) -> Change:
    return Change("Pod", action, PodInfo.of(pod("other", **more)))


def claims(name: str) -> Change:
    return Change("PersistentVolumeClaim", Action.UPDATE, {"metadata": {"name": name, "namespace": "default"}})


ADD, DELETE, LABEL = Action.ADD, Action.DELETE, Action.UPDATE_LABEL
CASES: list[tuple[Any, Obj, Change, bool]] = [
    (NodeUnschedulable(), pod(), nodes(ADD), True),
    (NodeUnschedulable(), pod(), nodes(Action.UPDATE_TAINT, unschedulable=True), False),
    (NodeUnschedulable(), pod(), nodes(Action.UPDATE_ALLOCATABLE), False),
    (TaintToleration(), pod(), nodes(ADD, taints=[TAINT]), False),
    (TaintToleration(), pod(tolerations=[{"key": "a", "operator": "Exists"}]), nodes(ADD, taints=[TAINT]), True),
    (NodeAffinity(), pod(nodeSelector={"disk": "ssd"}), nodes(LABEL, labels={"disk": "ssd"}), True),
    (NodeAffinity(), pod(nodeSelector={"disk": "ssd"}), nodes(LABEL, labels={"disk": "hdd"}), False),
    (NodeAffinity(), pod(nodeSelector={"disk": "ssd"}), pods(DELETE), False),
    (NodePorts(), pod(container=PORT), pods(DELETE, container=PORT), True),
    (NodePorts(), pod(container=PORT), pods(DELETE), False),
    (NodeResourcesFit(), pod(cpu="2"), pods(DELETE, cpu="1"), True),
    (NodeResourcesFit(), pod(cpu="2"), pods(ADD, cpu="1"), False),
    (NodeResourcesFit(), pod(cpu="2"), nodes(ADD, cpu="1"), False),
    (NodeResourcesFit(), pod(cpu="2"), nodes(Action.UPDATE_ALLOCATABLE, cpu="2"), True),
    (NodeResourcesFit(), pod(cpu="2"), nodes(LABEL, cpu="2"), False),
    (PodTopologySpread(HANDLE), pod(labels=S, topologySpreadConstraints=[spread()]), pods(DELETE, labels=S), True),
    (PodTopologySpread(HANDLE), pod(labels=S, topologySpreadConstraints=[spread()]), pods(DELETE), False),
    (PodTopologySpread(HANDLE), pod(labels=S, topologySpreadConstraints=[spread()]), nodes(DELETE), True),
    (InterPodAffinity(HANDLE), pod(affinity=pod_affinity(affinity_term())), pods(ADD, labels=S), True),
    (InterPodAffinity(HANDLE), pod(affinity=pod_affinity(affinity_term())), pods(ADD), False),
    (InterPodAffinity(HANDLE), pod(affinity=anti_affinity(affinity_term())), pods(ADD, labels=S), False),
    (InterPodAffinity(HANDLE), pod(affinity=anti_affinity(affinity_term())), pods(DELETE, labels=S), True),
    (InterPodAffinity(HANDLE), pod(labels=S), pods(DELETE, affinity=anti_affinity(affinity_term())), True),
    (VolumeBinding(HANDLE), pod(volumes=DATA), claims("data"), True),
    (VolumeBinding(HANDLE), pod(volumes=DATA), claims("other"), False),
    (VolumeRestrictions(HANDLE), pod(volumes=DATA), pods(DELETE, volumes=DATA), True),
    (VolumeRestrictions(HANDLE), pod(volumes=DATA), pods(DELETE), False),
    (NodeVolumeLimits(HANDLE), pod(volumes=DATA), pods(DELETE, volumes=DATA), True),
    (NodeVolumeLimits(HANDLE), pod(volumes=DATA), pods(DELETE), False),
]


@pytest.mark.parametrize(("plugin", "waiting", "change", "helps"), CASES)
def test_hints(plugin: Any, waiting: Obj, change: Change, helps: bool) -> None:
    hints: list[Hint] = plugin.events_to_register()
    assert any(hint.concerns(PodInfo.of(waiting), change) for hint in hints) is helps
