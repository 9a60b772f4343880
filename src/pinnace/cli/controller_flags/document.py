"""The configuration that kube-controller-manager works with, as its /configz shows it: what flags say, in the words of
k8s.io/kube-controller-manager/config, its names as Go has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnace.machinery.meta import Obj

KEY = "kubecontrollermanager.config.k8s.io"

_SECTIONS: Mapping[str, Mapping[str, str]] = {  # fields, and the flags that say them
    "AttachDetachController": {"DisableForceDetachOnTimeout": "disable_force_detach_on_timeout"},
    "CronJobController": {"ConcurrentCronJobSyncs": "concurrent_cron_job_syncs"},
    "CSRSigningController": {
        "ClusterSigningCertFile": "cluster_signing_cert_file",
        "ClusterSigningDuration": "cluster_signing_duration",
        "ClusterSigningKeyFile": "cluster_signing_key_file",
    },
    "DaemonSetController": {"ConcurrentDaemonSetSyncs": "concurrent_daemonset_syncs"},
    "DeploymentController": {"ConcurrentDeploymentSyncs": "concurrent_deployment_syncs"},
    "EndpointController": {"ConcurrentEndpointSyncs": "concurrent_endpoint_syncs"},
    "EndpointSliceController": {
        "ConcurrentServiceEndpointSyncs": "concurrent_service_endpoint_syncs",
        "MaxEndpointsPerSlice": "max_endpoints_per_slice",
    },
    "EndpointSliceMirroringController": {
        "MirroringConcurrentServiceEndpointSyncs": "mirroring_concurrent_service_endpoint_syncs",
        "MirroringMaxEndpointsPerSubset": "mirroring_max_endpoints_per_subset",
    },
    "EphemeralVolumeController": {"ConcurrentEphemeralVolumeSyncs": "concurrent_ephemeralvolume_syncs"},
    "GarbageCollectorController": {"ConcurrentGCSyncs": "concurrent_gc_syncs"},
    "HPAController": {
        "ConcurrentHorizontalPodAutoscalerSyncs": "concurrent_horizontal_pod_autoscaler_syncs",
        "HorizontalPodAutoscalerCPUInitializationPeriod": "horizontal_pod_autoscaler_cpu_initialization_period",
        "HorizontalPodAutoscalerDownscaleStabilizationWindow": "horizontal_pod_autoscaler_downscale_stabilization",
        "HorizontalPodAutoscalerInitialReadinessDelay": "horizontal_pod_autoscaler_initial_readiness_delay",
        "HorizontalPodAutoscalerSyncPeriod": "horizontal_pod_autoscaler_sync_period",
        "HorizontalPodAutoscalerTolerance": "horizontal_pod_autoscaler_tolerance",
    },
    "JobController": {"ConcurrentJobSyncs": "concurrent_job_syncs"},
    "KubeCloudShared": {
        "AllocateNodeCIDRs": "allocate_node_cidrs",
        "ClusterCIDR": "cluster_cidr",
        "ClusterName": "cluster_name",
        "UseServiceAccountCredentials": "use_service_account_credentials",
    },
    "NamespaceController": {"ConcurrentNamespaceSyncs": "concurrent_namespace_syncs"},
    "NodeIPAMController": {
        "NodeCIDRMaskSize": "node_cidr_mask_size",
        "NodeCIDRMaskSizeIPv4": "node_cidr_mask_size_ipv4",
        "NodeCIDRMaskSizeIPv6": "node_cidr_mask_size_ipv6",
        "ServiceCIDR": "service_cluster_ip_range",
    },
    "NodeLifecycleController": {
        "LargeClusterSizeThreshold": "large_cluster_size_threshold",
        "NodeEvictionRate": "node_eviction_rate",
        "NodeMonitorGracePeriod": "node_monitor_grace_period",
        "NodeStartupGracePeriod": "node_startup_grace_period",
        "SecondaryNodeEvictionRate": "secondary_node_eviction_rate",
        "UnhealthyZoneThreshold": "unhealthy_zone_threshold",
    },
    "PodGCController": {"TerminatedPodGCThreshold": "terminated_pod_gc_threshold"},
    "ReplicaSetController": {"ConcurrentRSSyncs": "concurrent_replicaset_syncs"},
    "ReplicationController": {"ConcurrentRCSyncs": "concurrent_rc_syncs"},
    "ResourceQuotaController": {"ConcurrentResourceQuotaSyncs": "concurrent_resource_quota_syncs"},
    "SAController": {
        "ConcurrentSATokenSyncs": "concurrent_serviceaccount_token_syncs",
        "RootCAFile": "root_ca_file",
        "ServiceAccountKeyFile": "service_account_private_key_file",
    },
    "StatefulSetController": {"ConcurrentStatefulSetSyncs": "concurrent_statefulset_syncs"},
    "TTLAfterFinishedController": {"ConcurrentTTLSyncs": "concurrent_ttl_after_finished_syncs"},
    "ValidatingAdmissionPolicyStatusController": {
        "ConcurrentPolicySyncs": "concurrent_validating_admission_policy_status_syncs"
    },
}
_ELECTION = {
    "LeaderElect": "leader_elect",
    "LeaseDuration": "leader_elect_lease_duration",
    "RenewDeadline": "leader_elect_renew_deadline",
    "ResourceName": "leader_elect_resource_name",
    "ResourceNamespace": "leader_elect_resource_namespace",
    "RetryPeriod": "leader_elect_retry_period",
}
_PERIODS = ("duration", "period", "deadline", "delay", "stabilization")  # what the names of flags in seconds end in


def configuration(flags: Mapping[str, Any]) -> Obj:
    """What the flags say; one that is left to each controller is not there."""
    told = _fields(flags, _ELECTION)
    generic = {
        "Address": flags["bind_address"],
        "ClientConnection": {
            "Burst": flags["kube_api_burst"],
            "ContentType": flags["kube_api_content_type"],
            "Kubeconfig": str(flags["kubeconfig"] or ""),
            "QPS": flags["kube_api_qps"] or 0,
        },
        "Controllers": list(flags["controllers"]),
        "Debugging": {"EnableContentionProfiling": False, "EnableProfiling": flags["profiling"]},
        "LeaderElection": {**told, "ResourceLock": "leases"},
    }
    volumes = {"EnableDynamicProvisioning": flags["enable_dynamic_provisioning"]}
    sections = {name: _fields(flags, fields) for name, fields in _SECTIONS.items()}
    binder = {"PersistentVolumeBinderController": {"VolumeConfiguration": volumes}}
    return {"Generic": generic, **sections, **binder}


def _fields(flags: Mapping[str, Any], fields: Mapping[str, str]) -> Obj:
    return {field: _shown(flag, flags[flag]) for field, flag in fields.items() if flags.get(flag) is not None}


def _shown(flag: str, value: Any) -> Any:
    from pinnace.machinery.duration import go_duration

    if flag.endswith(_PERIODS) and isinstance(value, float):
        return go_duration(value)
    if isinstance(value, list):
        return ",".join(value)
    return str(value) if isinstance(value, Path) else value
