"""Alpha and beta versions: which kinds have them, and in which minors of Kubernetes.

They are served where `--runtime-config` asks for them. One that is served beside a more mature version of its kind is
a second view of the same objects; the few that look different there have a conversion.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from pinnace.apis import builtin, devices
from pinnace.apis.builtin import Names
from pinnace.apis.kind import ALL_VERBS, Convert, Default, Rules, Validate
from pinnace.machinery.meta import GVK, Obj

_VERSIONS: tuple[tuple[str, str, int, int], ...] = (
    # group/version, kind, first and last minor
    ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicy", 34, 37),
    ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicyBinding", 34, 37),
    ("admissionregistration.k8s.io/v1beta1", "ValidatingAdmissionPolicy", 30, 33),
    ("admissionregistration.k8s.io/v1beta1", "ValidatingAdmissionPolicyBinding", 30, 33),
    ("admissionregistration.k8s.io/v1alpha1", "MutatingAdmissionPolicy", 32, 37),
    ("admissionregistration.k8s.io/v1alpha1", "MutatingAdmissionPolicyBinding", 32, 37),
    ("admissionregistration.k8s.io/v1alpha1", "ValidatingAdmissionPolicy", 30, 31),
    ("admissionregistration.k8s.io/v1alpha1", "ValidatingAdmissionPolicyBinding", 30, 31),
    ("authentication.k8s.io/v1beta1", "SelfSubjectReview", 30, 32),
    ("authentication.k8s.io/v1alpha1", "SelfSubjectReview", 30, 31),
    ("certificates.k8s.io/v1beta1", "ClusterTrustBundle", 33, 37),
    ("certificates.k8s.io/v1beta1", "PodCertificateRequest", 35, 37),
    ("certificates.k8s.io/v1alpha1", "ClusterTrustBundle", 30, 36),
    ("certificates.k8s.io/v1alpha1", "PodCertificateRequest", 34, 34),
    ("coordination.k8s.io/v1beta1", "LeaseCandidate", 33, 37),
    ("coordination.k8s.io/v1alpha2", "LeaseCandidate", 32, 37),
    ("coordination.k8s.io/v1alpha1", "LeaseCandidate", 31, 31),
    ("internal.apiserver.k8s.io/v1alpha1", "StorageVersion", 30, 37),
    ("lifecycle.k8s.io/v1alpha1", "EvictionRequest", 37, 37),
    ("networking.k8s.io/v1beta1", "IPAddress", 31, 36),
    ("networking.k8s.io/v1beta1", "ServiceCIDR", 31, 36),
    ("networking.k8s.io/v1alpha1", "IPAddress", 30, 30),
    ("networking.k8s.io/v1alpha1", "ServiceCIDR", 30, 30),
    ("resource.k8s.io/v1beta2", "DeviceClass", 33, 37),
    ("resource.k8s.io/v1beta2", "DeviceTaintRule", 36, 37),
    ("resource.k8s.io/v1beta2", "ResourceClaim", 33, 37),
    ("resource.k8s.io/v1beta2", "ResourceClaimTemplate", 33, 37),
    ("resource.k8s.io/v1beta2", "ResourceSlice", 33, 37),
    ("resource.k8s.io/v1beta1", "DeviceClass", 32, 37),
    ("resource.k8s.io/v1beta1", "ResourceClaim", 32, 37),
    ("resource.k8s.io/v1beta1", "ResourceClaimTemplate", 32, 37),
    ("resource.k8s.io/v1beta1", "ResourceSlice", 32, 37),
    ("resource.k8s.io/v1alpha3", "DeviceClass", 31, 33),
    ("resource.k8s.io/v1alpha3", "DeviceTaintRule", 33, 37),
    ("resource.k8s.io/v1alpha3", "PodSchedulingContext", 31, 31),
    ("resource.k8s.io/v1alpha3", "ResourceClaim", 31, 33),
    ("resource.k8s.io/v1alpha3", "ResourceClaimTemplate", 31, 33),
    ("resource.k8s.io/v1alpha3", "ResourcePoolStatusRequest", 36, 37),
    ("resource.k8s.io/v1alpha3", "ResourceSlice", 31, 33),
    ("resource.k8s.io/v1alpha2", "PodSchedulingContext", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceClaim", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceClaimParameters", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceClaimTemplate", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceClass", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceClassParameters", 30, 30),
    ("resource.k8s.io/v1alpha2", "ResourceSlice", 30, 30),
    ("scheduling.k8s.io/v1beta1", "PodGroup", 37, 37),
    ("scheduling.k8s.io/v1beta1", "Workload", 37, 37),
    ("scheduling.k8s.io/v1alpha3", "CompositePodGroup", 37, 37),
    ("scheduling.k8s.io/v1alpha3", "PodGroup", 37, 37),
    ("scheduling.k8s.io/v1alpha3", "Workload", 37, 37),
    ("scheduling.k8s.io/v1alpha2", "PodGroup", 36, 36),
    ("scheduling.k8s.io/v1alpha2", "Workload", 36, 36),
    ("scheduling.k8s.io/v1alpha1", "Workload", 35, 35),
    ("storage.k8s.io/v1beta1", "VolumeAttributesClass", 31, 36),
    ("storage.k8s.io/v1alpha1", "VolumeAttributesClass", 30, 34),
    ("storagemigration.k8s.io/v1beta1", "StorageVersionMigration", 35, 37),
    ("storagemigration.k8s.io/v1alpha1", "StorageVersionMigration", 30, 34),
)

GATES = {  # kinds that are served only where a feature is on as well
    ("certificates.k8s.io", "ClusterTrustBundle"): "ClusterTrustBundle",
    ("certificates.k8s.io", "PodCertificateRequest"): "PodCertificateRequest",
    ("lifecycle.k8s.io", "EvictionRequest"): "EvictionRequestAPI",
    ("resource.k8s.io", "ResourcePoolStatusRequest"): "DRAResourcePoolStatus",
    ("scheduling.k8s.io", "CompositePodGroup"): "CompositePodGroup",
    ("scheduling.k8s.io", "PodGroup"): "GenericWorkload",
    ("scheduling.k8s.io", "Workload"): "GenericWorkload",
    ("storage.k8s.io", "VolumeAttributesClass"): "VolumeAttributesClass",
}

_NEVER_STABLE: dict[str, Names] = {
    # names of kinds that no minor serves as v1
    kind: Names(group="", version="", kind=kind, plural=plural, namespaced=namespaced, status=status, verbs=ALL_VERBS)
    for kind, plural, namespaced, status in (
        ("CompositePodGroup", "compositepodgroups", True, True),
        ("EvictionRequest", "evictionrequests", True, True),
        ("LeaseCandidate", "leasecandidates", True, False),
        ("PodGroup", "podgroups", True, True),
        ("PodSchedulingContext", "podschedulingcontexts", True, True),
        ("ResourceClaimParameters", "resourceclaimparameters", True, False),
        ("ResourceClass", "resourceclasses", False, False),
        ("ResourceClassParameters", "resourceclassparameters", True, False),
        ("ResourcePoolStatusRequest", "resourcepoolstatusrequests", False, True),
        ("StorageVersion", "storageversions", False, True),
        ("Workload", "workloads", True, False),
    )
}


def _rows() -> tuple[Names, ...]:
    stable = {(row.group, row.kind): row for row in builtin.KINDS if row.version == "v1"}
    rows = []
    for where, kind, since, until in _VERSIONS:
        group, _, version = where.partition("/")
        names = stable.get((group, kind)) or _NEVER_STABLE[kind]
        rows.append(replace(names, group=group, version=version, since=since, until=until))
    return tuple(rows)


KINDS: tuple[Names, ...] = _rows()

_UP: dict[str, tuple[Convert, Convert]] = {
    "ResourceClaim": (devices.claim_to_nested, devices.claim_to_flat),
    "ResourceClaimTemplate": (devices.template_to_nested, devices.template_to_flat),
    "ResourceSlice": (devices.slice_to_nested, devices.slice_to_flat),
}


def conversion(view: GVK, stored_version: str) -> tuple[Convert, Convert]:
    """The way from a version to the one that objects are stored as, and back. Both leave what they are given alone."""
    up: list[Convert] = []
    down: list[Convert] = []
    if view.group == "resource.k8s.io" and view.kind in _UP and view.version not in devices.NESTED:
        if view.kind == "ResourceSlice" and view.version == "v1alpha3" != stored_version:
            up.append(devices.slice_to_capacities)
            down.append(devices.slice_to_quantities)
        if stored_version in devices.NESTED:
            nest, flatten = _UP[view.kind]
            up.append(nest)
            down.insert(0, flatten)
    return _chain(up, f"{view.group}/{stored_version}"), _chain(down, view.api_version)


def restored(obj: Obj, wanted: GVK) -> Obj:
    """A stored object in the version that is stored now: another may have been when it was written."""
    _, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    return conversion(GVK(wanted.group, version, wanted.kind), wanted.version)[0](obj)


def in_shape(rules: Rules, view: GVK) -> Rules:
    """The rules of a kind, which are written for its newest shape, for a version that may look different."""
    if view.group != "resource.k8s.io" or view.kind not in _UP or view.version in devices.NESTED:
        return rules
    up, down = conversion(view, devices.NESTED[0])

    def validated(check: Validate | None) -> Validate | None:
        return check and (lambda obj: check(up(obj)))

    default, change, row = rules.default, rules.validate_update, rules.row
    return replace(
        rules,
        default=default and (lambda obj: _in_place(obj, up, default, down)),
        validate=validated(rules.validate),
        validate_when_updated=validated(rules.validate_when_updated),
        validate_update=change and (lambda new, old: change(up(new), up(old))),
        row=row and (lambda obj, now: row(up(obj), now)),
    )


def _in_place(obj: Obj, up: Convert, default: Default, down: Convert) -> None:
    """Default `obj` in another shape; that one is a copy as deep as defaults reach."""
    other = copy.deepcopy(up(obj))
    default(other)
    changed = down(other)
    obj.clear()
    obj.update(changed)


def _chain(steps: list[Convert], api_version: str) -> Convert:
    def convert(obj: Obj) -> Obj:
        for step in steps:
            obj = step(obj)
        return obj | {"apiVersion": api_version}

    return convert
