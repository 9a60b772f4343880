"""The scheduler's plugins, one file each, and the profile that Kubernetes' default scheduler has."""

from __future__ import annotations

from pinnace.scheduler.framework import Profile
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from pinnace.scheduler.plugins.default_binder import DefaultBinder
from pinnace.scheduler.plugins.default_preemption import DefaultPreemption
from pinnace.scheduler.plugins.image_locality import ImageLocality
from pinnace.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from pinnace.scheduler.plugins.node_affinity import NodeAffinity
from pinnace.scheduler.plugins.node_ports import NodePorts
from pinnace.scheduler.plugins.node_resources_fit import NodeResourcesFit
from pinnace.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pinnace.scheduler.plugins.pod_topology_spread import PodTopologySpread
from pinnace.scheduler.plugins.priority_sort import PrioritySort
from pinnace.scheduler.plugins.scheduling_gates import SchedulingGates
from pinnace.scheduler.plugins.taint_toleration import TaintToleration


def default_profile(handle: Handle) -> Profile:
    """The plugins of `default-scheduler`, in its order and with its weights."""
    fit, affinity, taints = NodeResourcesFit(), NodeAffinity(), TaintToleration()
    return Profile(
        queue_sort=PrioritySort(),
        bind=DefaultBinder(handle),
        pre_enqueue=[SchedulingGates()],
        filter=[NodeUnschedulable(), taints, affinity, NodePorts(), fit],
        topology=[PodTopologySpread(), InterPodAffinity()],
        post_filter=[DefaultPreemption(handle)],
        score=[taints, affinity, fit, NodeResourcesBalancedAllocation(), ImageLocality()],
    )
