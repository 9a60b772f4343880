"""Which rules belong to which kind, and which resources are second views of another.

A version of a group shares its rules with the others, as their fields agree.
"""

from __future__ import annotations

from pinnace.apis import (
    admission,
    admission_policies,
    autoscaling,
    certificates,
    cluster,
    definitions,
    dynamic_resources,
    extensions,
    flow_control,
    policy,
)
from pinnace.apis.apps.controller_revision import CONTROLLER_REVISION
from pinnace.apis.apps.daemon_set import DAEMON_SET
from pinnace.apis.apps.deployment import DEPLOYMENT
from pinnace.apis.apps.replica_set import REPLICA_SET
from pinnace.apis.apps.stateful_set import STATEFUL_SET
from pinnace.apis.batch.cron_job import CRON_JOB
from pinnace.apis.batch.job import JOB
from pinnace.apis.core import event, quota
from pinnace.apis.core.config_map import CONFIG_MAP
from pinnace.apis.core.endpoints import ENDPOINTS
from pinnace.apis.core.namespace import NAMESPACE
from pinnace.apis.core.node import NODE
from pinnace.apis.core.persistent_volume import PERSISTENT_VOLUME
from pinnace.apis.core.persistent_volume_claim import PERSISTENT_VOLUME_CLAIM
from pinnace.apis.core.plain import COMPONENT_STATUS, POD_TEMPLATE, SERVICE_ACCOUNT
from pinnace.apis.core.pod import POD
from pinnace.apis.core.replication_controller import REPLICATION_CONTROLLER
from pinnace.apis.core.secret import SECRET
from pinnace.apis.core.service import SERVICE
from pinnace.apis.kind import Convert, Rules
from pinnace.apis.networking.addresses import IP_ADDRESS, SERVICE_CIDR
from pinnace.apis.networking.endpoint_slice import ENDPOINT_SLICE
from pinnace.apis.networking.ingress import INGRESS, INGRESS_CLASS
from pinnace.apis.networking.network_policy import NETWORK_POLICY
from pinnace.apis.rbac.roles import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from pinnace.apis.storage import classes
from pinnace.machinery.meta import GVR

RULES: dict[tuple[str, str], Rules] = {
    ("", "ComponentStatus"): COMPONENT_STATUS,
    ("", "ConfigMap"): CONFIG_MAP,
    ("", "Endpoints"): ENDPOINTS,
    ("", "Event"): event.EVENT,
    ("", "LimitRange"): quota.LIMIT_RANGE,
    ("", "Namespace"): NAMESPACE,
    ("", "Node"): NODE,
    ("", "PersistentVolume"): PERSISTENT_VOLUME,
    ("", "PersistentVolumeClaim"): PERSISTENT_VOLUME_CLAIM,
    ("", "Pod"): POD,
    ("", "PodTemplate"): POD_TEMPLATE,
    ("", "ReplicationController"): REPLICATION_CONTROLLER,
    ("", "ResourceQuota"): quota.RESOURCE_QUOTA,
    ("", "Secret"): SECRET,
    ("", "Service"): SERVICE,
    ("", "ServiceAccount"): SERVICE_ACCOUNT,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): admission_policies.MUTATING_ADMISSION_POLICY,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): admission_policies.ADMISSION_POLICY_BINDING,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): admission.WEBHOOK_CONFIGURATION,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): admission_policies.VALIDATING_ADMISSION_POLICY,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): admission_policies.ADMISSION_POLICY_BINDING,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): admission.WEBHOOK_CONFIGURATION,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): definitions.CUSTOM_RESOURCE_DEFINITION,
    ("apiregistration.k8s.io", "APIService"): extensions.API_SERVICE,
    ("apps", "ControllerRevision"): CONTROLLER_REVISION,
    ("apps", "DaemonSet"): DAEMON_SET,
    ("apps", "Deployment"): DEPLOYMENT,
    ("apps", "ReplicaSet"): REPLICA_SET,
    ("apps", "StatefulSet"): STATEFUL_SET,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaling.HORIZONTAL_POD_AUTOSCALER,
    ("batch", "CronJob"): CRON_JOB,
    ("batch", "Job"): JOB,
    ("certificates.k8s.io", "CertificateSigningRequest"): certificates.CERTIFICATE_SIGNING_REQUEST,
    ("certificates.k8s.io", "ClusterTrustBundle"): certificates.CLUSTER_TRUST_BUNDLE,
    ("certificates.k8s.io", "PodCertificateRequest"): certificates.POD_CERTIFICATE_REQUEST,
    ("coordination.k8s.io", "Lease"): cluster.LEASE,
    ("discovery.k8s.io", "EndpointSlice"): ENDPOINT_SLICE,
    ("events.k8s.io", "Event"): event.EVENTS_V1,
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): flow_control.FLOW_SCHEMA,
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): flow_control.PRIORITY_LEVEL_CONFIGURATION,
    ("networking.k8s.io", "IPAddress"): IP_ADDRESS,
    ("networking.k8s.io", "Ingress"): INGRESS,
    ("networking.k8s.io", "IngressClass"): INGRESS_CLASS,
    ("networking.k8s.io", "NetworkPolicy"): NETWORK_POLICY,
    ("networking.k8s.io", "ServiceCIDR"): SERVICE_CIDR,
    ("node.k8s.io", "RuntimeClass"): cluster.RUNTIME_CLASS,
    ("policy", "PodDisruptionBudget"): policy.POD_DISRUPTION_BUDGET,
    ("rbac.authorization.k8s.io", "ClusterRole"): CLUSTER_ROLE,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): CLUSTER_ROLE_BINDING,
    ("rbac.authorization.k8s.io", "Role"): ROLE,
    ("rbac.authorization.k8s.io", "RoleBinding"): ROLE_BINDING,
    ("resource.k8s.io", "DeviceClass"): dynamic_resources.DEVICE_CLASS,
    ("resource.k8s.io", "DeviceTaintRule"): dynamic_resources.DEVICE_TAINT_RULE,
    ("resource.k8s.io", "ResourceClaim"): dynamic_resources.RESOURCE_CLAIM,
    ("resource.k8s.io", "ResourceClaimTemplate"): dynamic_resources.RESOURCE_CLAIM_TEMPLATE,
    ("resource.k8s.io", "ResourceSlice"): dynamic_resources.RESOURCE_SLICE,
    ("scheduling.k8s.io", "PriorityClass"): policy.PRIORITY_CLASS,
    ("storage.k8s.io", "CSIDriver"): classes.CSI_DRIVER,
    ("storage.k8s.io", "CSINode"): classes.CSI_NODE,
    ("storage.k8s.io", "CSIStorageCapacity"): classes.CSI_STORAGE_CAPACITY,
    ("storage.k8s.io", "StorageClass"): classes.STORAGE_CLASS,
    ("storage.k8s.io", "VolumeAttachment"): classes.VOLUME_ATTACHMENT,
    ("storage.k8s.io", "VolumeAttributesClass"): classes.VOLUME_ATTRIBUTES_CLASS,
    ("storagemigration.k8s.io", "StorageVersionMigration"): cluster.STORAGE_VERSION_MIGRATION,
}
"""By group and kind."""


_HPA_V2 = GVR("autoscaling", "v2", "horizontalpodautoscalers")

VIEWS: dict[tuple[str, str, str], tuple[GVR, Convert, Convert]] = {
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): (_HPA_V2, autoscaling.v1_to_v2, autoscaling.v2_to_v1),
    ("events.k8s.io", "v1", "Event"): (GVR("", "v1", "events"), event.to_core, event.from_core),
}
"""By group, version and kind: where the objects are kept, and the way there and back."""
