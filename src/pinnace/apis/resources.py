"""Where the built-in resources live: one constant each, at the version that Kubernetes 1.37 prefers.

Components name what they list and watch with these. Which versions a given minor serves is `registry`'s to say.
"""

from __future__ import annotations

from pinnace.machinery.meta import GVR

BINDINGS = GVR("", "v1", "bindings")
COMPONENT_STATUSES = GVR("", "v1", "componentstatuses")
CONFIG_MAPS = GVR("", "v1", "configmaps")
ENDPOINTS = GVR("", "v1", "endpoints")
EVENTS = GVR("", "v1", "events")
LIMIT_RANGES = GVR("", "v1", "limitranges")
NAMESPACES = GVR("", "v1", "namespaces")
NODES = GVR("", "v1", "nodes")
PERSISTENT_VOLUME_CLAIMS = GVR("", "v1", "persistentvolumeclaims")
PERSISTENT_VOLUMES = GVR("", "v1", "persistentvolumes")
PODS = GVR("", "v1", "pods")
POD_TEMPLATES = GVR("", "v1", "podtemplates")
REPLICATION_CONTROLLERS = GVR("", "v1", "replicationcontrollers")
RESOURCE_QUOTAS = GVR("", "v1", "resourcequotas")
SECRETS = GVR("", "v1", "secrets")
SERVICE_ACCOUNTS = GVR("", "v1", "serviceaccounts")
SERVICES = GVR("", "v1", "services")

CONTROLLER_REVISIONS = GVR("apps", "v1", "controllerrevisions")
DAEMON_SETS = GVR("apps", "v1", "daemonsets")
DEPLOYMENTS = GVR("apps", "v1", "deployments")
REPLICA_SETS = GVR("apps", "v1", "replicasets")
STATEFUL_SETS = GVR("apps", "v1", "statefulsets")

CRON_JOBS = GVR("batch", "v1", "cronjobs")
JOBS = GVR("batch", "v1", "jobs")

HORIZONTAL_POD_AUTOSCALERS = GVR("autoscaling", "v2", "horizontalpodautoscalers")

POD_DISRUPTION_BUDGETS = GVR("policy", "v1", "poddisruptionbudgets")

INGRESS_CLASSES = GVR("networking.k8s.io", "v1", "ingressclasses")
INGRESSES = GVR("networking.k8s.io", "v1", "ingresses")
IP_ADDRESSES = GVR("networking.k8s.io", "v1", "ipaddresses")
NETWORK_POLICIES = GVR("networking.k8s.io", "v1", "networkpolicies")
SERVICE_CIDRS = GVR("networking.k8s.io", "v1", "servicecidrs")

ENDPOINT_SLICES = GVR("discovery.k8s.io", "v1", "endpointslices")

LEASES = GVR("coordination.k8s.io", "v1", "leases")

CLUSTER_ROLE_BINDINGS = GVR("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
CLUSTER_ROLES = GVR("rbac.authorization.k8s.io", "v1", "clusterroles")
ROLE_BINDINGS = GVR("rbac.authorization.k8s.io", "v1", "rolebindings")
ROLES = GVR("rbac.authorization.k8s.io", "v1", "roles")

SELF_SUBJECT_REVIEWS = GVR("authentication.k8s.io", "v1", "selfsubjectreviews")
TOKEN_REVIEWS = GVR("authentication.k8s.io", "v1", "tokenreviews")

LOCAL_SUBJECT_ACCESS_REVIEWS = GVR("authorization.k8s.io", "v1", "localsubjectaccessreviews")
SELF_SUBJECT_ACCESS_REVIEWS = GVR("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
SELF_SUBJECT_RULES_REVIEWS = GVR("authorization.k8s.io", "v1", "selfsubjectrulesreviews")
SUBJECT_ACCESS_REVIEWS = GVR("authorization.k8s.io", "v1", "subjectaccessreviews")

CERTIFICATE_SIGNING_REQUESTS = GVR("certificates.k8s.io", "v1", "certificatesigningrequests")
CLUSTER_TRUST_BUNDLES = GVR("certificates.k8s.io", "v1", "clustertrustbundles")
POD_CERTIFICATE_REQUESTS = GVR("certificates.k8s.io", "v1", "podcertificaterequests")

MUTATING_ADMISSION_POLICIES = GVR("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies")
MUTATING_ADMISSION_POLICY_BINDINGS = GVR("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings")
MUTATING_WEBHOOK_CONFIGURATIONS = GVR("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
VALIDATING_ADMISSION_POLICIES = GVR("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
VALIDATING_ADMISSION_POLICY_BINDINGS = GVR("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")
VALIDATING_WEBHOOK_CONFIGURATIONS = GVR("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")

CUSTOM_RESOURCE_DEFINITIONS = GVR("apiextensions.k8s.io", "v1", "customresourcedefinitions")

API_SERVICES = GVR("apiregistration.k8s.io", "v1", "apiservices")

FLOW_SCHEMAS = GVR("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")
PRIORITY_LEVEL_CONFIGURATIONS = GVR("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations")

RUNTIME_CLASSES = GVR("node.k8s.io", "v1", "runtimeclasses")

PRIORITY_CLASSES = GVR("scheduling.k8s.io", "v1", "priorityclasses")

CSI_DRIVERS = GVR("storage.k8s.io", "v1", "csidrivers")
CSI_NODES = GVR("storage.k8s.io", "v1", "csinodes")
CSI_STORAGE_CAPACITIES = GVR("storage.k8s.io", "v1", "csistoragecapacities")
STORAGE_CLASSES = GVR("storage.k8s.io", "v1", "storageclasses")
VOLUME_ATTACHMENTS = GVR("storage.k8s.io", "v1", "volumeattachments")
VOLUME_ATTRIBUTES_CLASSES = GVR("storage.k8s.io", "v1", "volumeattributesclasses")

DEVICE_CLASSES = GVR("resource.k8s.io", "v1", "deviceclasses")
DEVICE_TAINT_RULES = GVR("resource.k8s.io", "v1", "devicetaintrules")
RESOURCE_CLAIMS = GVR("resource.k8s.io", "v1", "resourceclaims")
RESOURCE_CLAIM_TEMPLATES = GVR("resource.k8s.io", "v1", "resourceclaimtemplates")
RESOURCE_SLICES = GVR("resource.k8s.io", "v1", "resourceslices")

STORAGE_VERSIONS = GVR("internal.apiserver.k8s.io", "v1alpha1", "storageversions")
STORAGE_VERSION_MIGRATIONS = GVR("storagemigration.k8s.io", "v1", "storageversionmigrations")
