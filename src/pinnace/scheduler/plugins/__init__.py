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
from pinnace.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from pinnace.scheduler.plugins.pod_topology_spread import PodTopologySpread
from pinnace.scheduler.plugins.priority_sort import PrioritySort
from pinnace.scheduler.plugins.scheduling_gates import SchedulingGates
from pinnace.scheduler.plugins.taint_toleration import TaintToleration
from pinnace.scheduler.plugins.volume_binding import VolumeBinding
from pinnace.scheduler.plugins.volume_restrictions import VolumeRestrictions
from pinnace.scheduler.plugins.volume_zone import VolumeZone


def default_profile(handle: Handle) -> Profile:
    """The plugins of `default-scheduler`, in its order and with its weights."""
    fit, affinity, taints = NodeResourcesFit(), NodeAffinity(), TaintToleration()
    binding = VolumeBinding(handle)
    return Profile(
        queue_sort=PrioritySort(),
        pre_filter=[binding],
        reserve=[binding],
        pre_bind=[binding],
        bind=DefaultBinder(handle),
        pre_enqueue=[SchedulingGates()],
        filter=[
            NodeUnschedulable(),
            taints,
            affinity,
            NodePorts(),
            fit,
            VolumeRestrictions(handle),
            NodeVolumeLimits(handle),
            binding,
            VolumeZone(handle),
        ],
        topology=[PodTopologySpread(), InterPodAffinity(handle)],
        post_filter=[DefaultPreemption(handle)],
        score=[taints, affinity, fit, NodeResourcesBalancedAllocation(), ImageLocality()],
    )
