"""The names of every kind that Kubernetes serves by default, and the minors that serve them: one table, no behaviour.

A stable version is served from the minor it appears in; beta and alpha versions are not, but for the few that
Kubernetes turns on. Order, short names and categories are those of the API's own discovery documents
(https://kubernetes.io/docs/reference/kubectl/#resource-types).
"""

from __future__ import annotations

from dataclasses import dataclass

from pinnace.apis.kind import ALL_VERBS, ScalePaths, Subresource

OLDEST = 30
NEWEST = 37

GROUPS: tuple[str, ...] = (
    # in the order of /apis
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
    "storagemigration.k8s.io",
    "internal.apiserver.k8s.io",
    "lifecycle.k8s.io",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """One row: a kind of one version, and where and when it is served."""

    group: str
    version: str
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = ALL_VERBS
    status: bool = False
    generation: bool = False
    scale: ScalePaths | None = None
    subresources: tuple[Subresource, ...] = ()
    since: int = OLDEST  # the first minor that serves it
    until: int = NEWEST


def _row(
    where: str,
    kind: str,
    plural: str,
    flags: str = "",
    *,
    short: str = "",
    categories: str = "",
    verbs: tuple[str, ...] = ALL_VERBS,
    scale: ScalePaths | None = None,
    subresources: tuple[Subresource, ...] = (),
    since: int = OLDEST,
    until: int = NEWEST,
) -> Names:
    """`flags`: c cluster-scoped, s has /status, g counts generations."""
    group, _, version = where.rpartition("/")
    return Names(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        short=tuple(short.split()),
        categories=tuple(categories.split()),
        namespaced="c" not in flags,
        verbs=verbs,
        status="s" in flags,
        generation="g" in flags,
        scale=scale,
        subresources=subresources,
        since=since,
        until=until,
    )


_CREATE = ("create",)
_PROXY = ("create", "delete", "get", "patch", "update")
_CONNECT = ("create", "get")
_CHANGE = ("get", "patch", "update")

_WORKLOAD_SCALE = ScalePaths()

_POD_PATHS = (
    Subresource("attach", "PodAttachOptions", _CONNECT),
    Subresource("binding", "Binding", _CREATE),
    Subresource("ephemeralcontainers", "Pod", _CHANGE),
    Subresource("eviction", "Eviction", _CREATE, "policy", "v1"),
    Subresource("exec", "PodExecOptions", _CONNECT),
    Subresource("log", "Pod", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", _CONNECT),
    Subresource("proxy", "PodProxyOptions", _PROXY),
    Subresource("resize", "Pod", _CHANGE),
)

KINDS: tuple[Names, ...] = (
    _row("v1", "Binding", "bindings", verbs=_CREATE),
    _row("v1", "ComponentStatus", "componentstatuses", "c", short="cs", verbs=("get", "list")),
    _row("v1", "ConfigMap", "configmaps", short="cm"),
    _row("v1", "Endpoints", "endpoints", short="ep"),
    _row("v1", "Event", "events", short="ev"),
    _row("v1", "LimitRange", "limitranges", short="limits"),
    _row(
        "v1",
        "Namespace",
        "namespaces",
        "cs",
        short="ns",
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
        subresources=(Subresource("finalize", "Namespace", ("update",)),),
    ),
    _row(
        "v1",
        "Node",
        "nodes",
        "cs",
        short="no",
        subresources=(Subresource("proxy", "NodeProxyOptions", _PROXY),),
    ),
    _row("v1", "PersistentVolume", "persistentvolumes", "cs", short="pv"),
    _row("v1", "PersistentVolumeClaim", "persistentvolumeclaims", "s", short="pvc"),
    _row("v1", "Pod", "pods", "sg", short="po", categories="all", subresources=_POD_PATHS),
    _row("v1", "PodTemplate", "podtemplates", "g"),
    _row(
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        "sg",
        short="rc",
        categories="all",
        scale=_WORKLOAD_SCALE,
    ),
    _row("v1", "ResourceQuota", "resourcequotas", "s", short="quota"),
    _row("v1", "Secret", "secrets"),
    _row(
        "v1",
        "Service",
        "services",
        "s",
        short="svc",
        categories="all",
        subresources=(Subresource("proxy", "ServiceProxyOptions", _PROXY),),
    ),
    _row(
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        short="sa",
        subresources=(Subresource("token", "TokenRequest", _CREATE, "authentication.k8s.io", "v1"),),
    ),
    _row("apiregistration.k8s.io/v1", "APIService", "apiservices", "cs", categories="api-extensions"),
    _row("apps/v1", "ControllerRevision", "controllerrevisions"),
    _row("apps/v1", "DaemonSet", "daemonsets", "sg", short="ds", categories="all"),
    _row("apps/v1", "Deployment", "deployments", "sg", short="deploy", categories="all", scale=_WORKLOAD_SCALE),
    _row("apps/v1", "ReplicaSet", "replicasets", "sg", short="rs", categories="all", scale=_WORKLOAD_SCALE),
    _row("apps/v1", "StatefulSet", "statefulsets", "sg", short="sts", categories="all", scale=_WORKLOAD_SCALE),
    _row("events.k8s.io/v1", "Event", "events", short="ev"),
    _row("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", "c", verbs=_CREATE),
    _row("authentication.k8s.io/v1", "TokenReview", "tokenreviews", "c", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "c", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "c", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", "c", verbs=_CREATE),
    _row("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "s", short="hpa", categories="all"),
    _row("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "s", short="hpa", categories="all"),
    _row("batch/v1", "CronJob", "cronjobs", "sg", short="cj", categories="all"),
    _row("batch/v1", "Job", "jobs", "sg", categories="all"),
    _row(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "cs",
        short="csr",
        subresources=(Subresource("approval", "CertificateSigningRequest", _CHANGE),),
    ),
    _row("certificates.k8s.io/v1", "ClusterTrustBundle", "clustertrustbundles", "c", since=37),
    _row("certificates.k8s.io/v1", "PodCertificateRequest", "podcertificaterequests", "s", since=37),
    _row("networking.k8s.io/v1", "Ingress", "ingresses", "sg", short="ing"),
    _row("networking.k8s.io/v1", "IngressClass", "ingressclasses", "cg"),
    _row("networking.k8s.io/v1", "IPAddress", "ipaddresses", "c", short="ip", since=33),
    _row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", "g", short="netpol"),
    _row("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", "cs", since=33),
    _row("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "sg", short="pdb"),
    _row("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", "c"),
    _row("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", "c"),
    _row("rbac.authorization.k8s.io/v1", "Role", "roles"),
    _row("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    _row("storage.k8s.io/v1", "CSIDriver", "csidrivers", "cg"),
    _row("storage.k8s.io/v1", "CSINode", "csinodes", "c"),
    _row("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities"),
    _row("storage.k8s.io/v1", "StorageClass", "storageclasses", "c", short="sc"),
    _row("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", "cs"),
    _row("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", "c", short="vac", since=34),
    *(
        _row(
            "admissionregistration.k8s.io/v1",
            f"{which}{what}",
            f"{which.lower()}{plural}",
            flags,
            categories="api-extensions",
            since=since,
        )
        for which, what, plural, flags, since in (
            ("Mutating", "AdmissionPolicy", "admissionpolicies", "cg", 36),
            ("Mutating", "AdmissionPolicyBinding", "admissionpolicybindings", "cg", 36),
            ("Mutating", "WebhookConfiguration", "webhookconfigurations", "cg", OLDEST),
            ("Validating", "AdmissionPolicy", "admissionpolicies", "cgs", OLDEST),
            ("Validating", "AdmissionPolicyBinding", "admissionpolicybindings", "cg", OLDEST),
            ("Validating", "WebhookConfiguration", "webhookconfigurations", "cg", OLDEST),
        )
    ),
    _row(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "csg",
        short="crd crds",
        categories="api-extensions",
    ),
    _row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "cg", short="pc"),
    _row("coordination.k8s.io/v1", "Lease", "leases"),
    _row("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", "c"),
    _row("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", "g"),
    _row("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", "csg"),
    _row("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", "csg"),
    _row("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema", "flowschemas", "csg", until=31),
    _row(
        "flowcontrol.apiserver.k8s.io/v1beta3",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        "csg",
        until=31,
    ),
    _row("resource.k8s.io/v1", "DeviceClass", "deviceclasses", "cg", since=34),
    _row("resource.k8s.io/v1", "DeviceTaintRule", "devicetaintrules", "csg", since=37),
    _row("resource.k8s.io/v1", "ResourceClaim", "resourceclaims", "s", since=34),
    _row("resource.k8s.io/v1", "ResourceClaimTemplate", "resourceclaimtemplates", since=34),
    _row("resource.k8s.io/v1", "ResourceSlice", "resourceslices", "cg", since=34),
    _row("storagemigration.k8s.io/v1", "StorageVersionMigration", "storageversionmigrations", "cs", since=37),
)

SUBRESOURCE_GATES = {("pods", "resize"): "InPlacePodVerticalScaling"}  # where a feature brought a path
