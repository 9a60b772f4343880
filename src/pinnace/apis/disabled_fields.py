"""Fields of features that are off: dropped from what is written, unless the object had one already.

Gates and what they govern are Kubernetes'
(https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/); fields that a minor does not have at
all are its schema's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pinnace.apis.kind import Prepare
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj

_CONTAINERS = ("containers[]", "initContainers[]", "ephemeralContainers[]")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("lifecycle.preStop", "lifecycle.postStart")
_FILES = ("configMap", "downwardAPI", "secret")


def _of_containers(*paths: str) -> tuple[str, ...]:
    return tuple(f"{container}.{path}" for container in _CONTAINERS for path in paths)


def _of_terms(*names: str) -> tuple[str, ...]:
    """Below every term of affinity and anti-affinity between pods."""
    return tuple(
        f"affinity.{kind}.{term}.{name}"
        for kind in ("podAffinity", "podAntiAffinity")
        for term in (
            "requiredDuringSchedulingIgnoredDuringExecution[]",
            "preferredDuringSchedulingIgnoredDuringExecution[].podAffinityTerm",
        )
        for name in names
    )


_POD_SPEC: Mapping[str, tuple[str, ...]] = {
    "AppArmorFields": ("securityContext.appArmorProfile", *_of_containers("securityContext.appArmorProfile")),
    "AtomicWriteVolumeUserFields": (
        *(f"volumes[].{source}.{field}" for source in _FILES for field in ("defaultUser", "items[].user")),
        "volumes[].projected.defaultUser",
        *(f"volumes[].projected.sources[].{source}.items[].user" for source in _FILES),
        *(
            f"volumes[].projected.sources[].{source}.user"
            for source in ("clusterTrustBundle", "podCertificate", "serviceAccountToken")
        ),
    ),
    "ClusterTrustBundleProjection": ("volumes[].projected.sources[].clusterTrustBundle",),
    "ContainerRestartRules": _of_containers("restartPolicyRules"),
    "ContainerStopSignals": _of_containers("lifecycle.stopSignal"),
    "DynamicResourceAllocation": ("resourceClaims", *_of_containers("resources.claims")),
    "EmptyDirVolumeMode": ("volumes[].emptyDir.mode",),
    "EnvFiles": _of_containers("env[].valueFrom.fileKeyRef"),
    "EvictionRequestAPI": ("evictionResponders",),
    "GRPCContainerProbeTLS": _of_containers(*(f"{probe}.grpc.mode" for probe in _PROBES)),
    "GenericWorkload": ("workloadRef", "schedulingGroup"),
    "H2CContainerProbe": _of_containers(*(f"{where}.httpGet.protocol" for where in (*_PROBES, *_HOOKS))),
    "HostnameOverride": ("hostnameOverride",),
    "ImageVolume": ("volumes[].image",),
    "InPlacePodVerticalScaling": _of_containers("resizePolicy"),
    "MatchLabelKeysInPodAffinity": _of_terms("matchLabelKeys", "mismatchLabelKeys"),
    "MatchLabelKeysInPodTopologySpread": ("topologySpreadConstraints[].matchLabelKeys",),
    "NodeInclusionPolicyInPodTopologySpread": (
        "topologySpreadConstraints[].nodeAffinityPolicy",
        "topologySpreadConstraints[].nodeTaintsPolicy",
    ),
    "PodCertificateRequest": ("volumes[].projected.sources[].podCertificate",),
    "PodLevelResources": ("resources",),
    "PodLifecycleSleepAction": _of_containers(*(f"{hook}.sleep" for hook in _HOOKS)),
    "ProcMountType": _of_containers("securityContext.procMount"),
    "RecursiveReadOnlyMounts": _of_containers("volumeMounts[].recursiveReadOnly"),
    "SELinuxChangePolicy": ("securityContext.seLinuxChangePolicy",),
    "SupplementalGroupsPolicy": ("securityContext.supplementalGroupsPolicy",),
    "UserNamespacesSupport": ("hostUsers",),
    "VolumeBindMountOptions": _of_containers("volumeMounts[].bindMountOptions"),
}
_JOB_SPEC: Mapping[str, tuple[str, ...]] = {
    "JobBackoffLimitPerIndex": ("backoffLimitPerIndex", "maxFailedIndexes"),
    "JobManagedBy": ("managedBy",),
    "JobPodReplacementPolicy": ("podReplacementPolicy",),
    "JobSuccessPolicy": ("successPolicy",),
    "WorkloadWithJob": ("scheduling",),
}
_REQUESTS = ("requests[]", "requests[].exactly", "requests[].firstAvailable[]")  # as versions of the API write them
_CLAIM_SPEC: Mapping[str, tuple[str, ...]] = {
    "DRAAdminAccess": ("devices.requests[].adminAccess", "devices.requests[].exactly.adminAccess"),
    "DRAConsumableCapacity": (
        *(f"devices.{request}.capacity" for request in _REQUESTS),
        "devices.constraints[].distinctAttribute",
    ),
    "DRADerivedAttributes": tuple(f"devices.{request}.derivedAttributes" for request in _REQUESTS),
    "DRADeviceTaints": tuple(f"devices.{request}.tolerations" for request in _REQUESTS),
    "DRAPrioritizedList": ("devices.requests[].firstAvailable",),
}


def _below(prefix: str, fields: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {gate: tuple(f"{prefix}.{path}" for path in paths) for gate, paths in fields.items()}


_TEMPLATE = _below("spec.template.spec", _POD_SPEC)
_FIELDS: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]] = {
    ("", "Pod"): _below("spec", _POD_SPEC),
    ("", "PodTemplate"): _below("template.spec", _POD_SPEC),
    ("", "ReplicationController"): _TEMPLATE,
    ("", "PersistentVolume"): {"VolumeAttributesClass": ("spec.volumeAttributesClassName",)},
    ("", "PersistentVolumeClaim"): {"VolumeAttributesClass": ("spec.volumeAttributesClassName",)},
    ("", "Service"): {"ServiceTrafficDistribution": ("spec.trafficDistribution",)},
    ("apiextensions.k8s.io", "CustomResourceDefinition"): {
        "CustomResourceFieldSelectors": ("spec.versions[].selectableFields",)
    },
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): {
        **_TEMPLATE,
        "MaxUnavailableStatefulSet": ("spec.updateStrategy.rollingUpdate.maxUnavailable",),
        "StatefulSetAutoDeletePVC": ("spec.persistentVolumeClaimRetentionPolicy",),
    },
    ("autoscaling", "HorizontalPodAutoscaler"): {
        "HPAConfigurableTolerance": ("spec.behavior.scaleUp.tolerance", "spec.behavior.scaleDown.tolerance")
    },
    ("batch", "CronJob"): {
        **_below("spec.jobTemplate.spec.template.spec", _POD_SPEC),
        **_below("spec.jobTemplate.spec", _JOB_SPEC),
    },
    ("batch", "Job"): {**_TEMPLATE, **_below("spec", _JOB_SPEC)},
    ("coordination.k8s.io", "Lease"): {"CoordinatedLeaderElection": ("spec.strategy", "spec.preferredHolder")},
    ("resource.k8s.io", "DeviceClass"): {"DRAExtendedResource": ("spec.extendedResourceName",)},
    ("resource.k8s.io", "ResourceClaim"): _below("spec", _CLAIM_SPEC),
    ("resource.k8s.io", "ResourceClaimTemplate"): _below("spec.spec", _CLAIM_SPEC),
    ("resource.k8s.io", "ResourceSlice"): {
        "DRAConsumableCapacity": ("spec.devices[].allowMultipleAllocations",),
        "DRADeviceBindingConditions": tuple(
            f"spec.devices[].{name}" for name in ("bindsToNode", "bindingConditions", "bindingFailureConditions")
        ),
        "DRADeviceTaints": ("spec.devices[].taints", "spec.devices[].basic.taints"),
        "DRAPartitionableDevices": (
            "spec.sharedCounters",
            "spec.perDeviceNodeSelection",
            *(
                f"spec.devices[].{name}"
                for name in ("allNodes", "consumesCounters", "nodeName", "nodeSelector", "basic.consumesCounters")
            ),
        ),
    },
    ("storage.k8s.io", "CSIDriver"): {
        "CSIServiceAccountTokenSecrets": ("spec.serviceAccountTokenInSecrets",),
        "MutableCSINodeAllocatableCount": ("spec.nodeAllocatableUpdatePeriodSeconds",),
        "VolumeLimitScaling": ("spec.preventPodSchedulingIfMissing",),
    },
}

_Path = tuple[str, ...]
_Tree = dict[str, "_Tree | None"]  # paths by their fields; None ends one


def dropping(group: str, kind: str, features: FeatureGates, then: Prepare | None = None) -> Prepare | None:
    """What drops the fields of a kind whose features are off, before `then`; that alone where there are none."""
    table = features.table()
    governed = _FIELDS.get((group, kind), {})
    fields = [
        [_split(path) for path in paths] for gate, paths in governed.items() if gate in table and not table[gate][1]
    ]
    if not fields:
        return then

    tree = _tree(path for paths in fields for path in paths)

    def prepare(new: Obj, old: Obj | None) -> None:
        for paths in fields if _has_any(new, tree) else ():
            if old is None or not _is_used(old, paths):
                for path in paths:
                    for holder in _holders(new, path):
                        holder.pop(path[-1], None)
        if then is not None:
            then(new, old)

    return prepare


def _split(path: str) -> _Path:
    """The fields on the way; `[]` of its own stands for every item of a list."""
    return tuple(path.replace("[]", ".[]").split("."))


def _tree(paths: Iterable[_Path]) -> _Tree:
    root: _Tree = {}
    for path in sorted(paths, key=len, reverse=True):  # a path that ends on another's way comes after it, and wins
        node = root
        for name in path[:-1]:
            below = node.setdefault(name, {})
            assert below is not None
            node = below
        node[path[-1]] = None
    return root


def _has_any(value: Any, tree: _Tree) -> bool:
    """Whether one of the paths is there: one walk tells, and it seldom is."""
    if isinstance(value, dict):
        for name, below in tree.items():  # a generator would take half as long again
            if name in value and (below is None or _has_any(value[name], below)):
                return True
    elif isinstance(value, list) and (each := tree.get("[]")):
        for item in value:
            if _has_any(item, each):
                return True
    return False


def _is_used(obj: Obj, paths: Iterable[_Path]) -> bool:
    return any(path[-1] in holder for path in paths for holder in _holders(obj, path))


def _holders(value: Any, path: _Path) -> Iterator[Obj]:
    """The objects that have, or may have, the last field of the path."""
    for place, name in enumerate(path[:-1]):
        if name == "[]":
            if isinstance(value, list):
                for item in value:
                    yield from _holders(item, path[place + 1 :])
            return
        if not isinstance(value, dict):
            return
        value = value.get(name)
    if isinstance(value, dict):
        yield value
