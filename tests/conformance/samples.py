"""A minimal object of each kind whose API operations conformance demands, and a change of its status if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBITCByKADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBHRlc3QwIBcN
MjQwMTAxMDAwMDAwWhgPMjEyNDAxMDEwMDAwMDBaMA8xDTALBgNVBAMMBHRlc3Qw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATIZRo67N2ahK+BGut5jZpH1IriMg0M
tApKAFqp/ztu0fZ3c+Gpb4k+sWDknBR0hmSMsVkYPbD9ayCIwsdUkXhNoxMwETAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCYMqyzcXd26s6rG/93
2Hbo2FswFjw02nLqocVjwjfzlwIgEXnVNFENcGx5O/cpFoIlAnlauUhW/BGsADTa
3OkeYzc=
-----END CERTIFICATE-----
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """`name` is where it is served: `group/version/plural`."""

    name: str
    kind: str
    body: Obj
    namespaced: bool = True
    status: Obj | None = None  # a merge patch for the status subresource
    update: bool = True  # whether an update of labels is allowed

    @property
    def api_version(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def resource(self) -> str:
        return self.name.rpartition("/")[2]


def template(**labels: str) -> Obj:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "example.com/any"}]}}


def workload(**more: Any) -> Obj:
    return {"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template(app="a"), **more}}


CONDITION = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
ROUTE = {"host": "a.example.com", "http": {"paths": [
    {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}  # fmt: skip
LEVEL = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
FLOW = {
    "matchingPrecedence": 10000,
    "priorityLevelConfiguration": {"name": "global-default"},
    "rules": [{"subjects": [{"kind": "User", "user": {"name": "nobody"}}],
               "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
}  # fmt: skip
MUTATION = '[JSONPatch{op: "add", path: "/metadata/labels/a", value: "b"}]'
NOTHING = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}
DEVICE = {"requests": [{"name": "one", "exactly": {"deviceClassName": "any.example.com"}}]}

SAMPLES = [
    Sample("v1/configmaps", "ConfigMap", {"data": {"a": "b"}}),
    Sample("v1/secrets", "Secret", {"stringData": {"a": "b"}}),
    Sample("v1/podtemplates", "PodTemplate", {"template": template(app="a")}),
    Sample("v1/limitranges", "LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "4"}}]}}),
    Sample("v1/resourcequotas", "ResourceQuota", {"spec": {"hard": {"pods": "9"}}}, status={"hard": {"pods": "9"}}),
    Sample("v1/serviceaccounts", "ServiceAccount", {}),
    Sample("v1/services", "Service", {"spec": {"ports": [{"port": 80}]}}, status={"conditions": [CONDITION]}),
    Sample("v1/endpoints", "Endpoints", {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}),
    Sample("v1/replicationcontrollers", "ReplicationController",
           {"spec": {"replicas": 0, "selector": {"app": "a"}, "template": template(app="a")}},
           status={"conditions": [{"type": "ReplicaFailure", "status": "True"}]}),
    Sample("v1/persistentvolumeclaims", "PersistentVolumeClaim",
           {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
           status={"conditions": [CONDITION]}),
    Sample("v1/persistentvolumes", "PersistentVolume",
           {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/a"}}},
           namespaced=False, status={"message": "StatusUpdate", "reason": "E2E"}),
    Sample("v1/nodes", "Node", {}, namespaced=False, status={"conditions": [CONDITION]}),
    Sample("apps/v1/controllerrevisions", "ControllerRevision", {"revision": 1, "data": {"any": "thing"}}),
    Sample("apps/v1/deployments", "Deployment", workload(replicas=0), status={"conditions": [CONDITION]}),
    Sample("apps/v1/replicasets", "ReplicaSet", workload(replicas=0), status={"conditions": [CONDITION]}),
    Sample("apps/v1/statefulsets", "StatefulSet", workload(replicas=0), status={"conditions": [CONDITION]}),
    Sample("apps/v1/daemonsets", "DaemonSet",
           workload(updateStrategy={"type": "OnDelete"}),
           status={"conditions": [CONDITION]}),
    Sample("batch/v1/cronjobs", "CronJob",
           {"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {
               "spec": {**template()["spec"], "restartPolicy": "Never"}}}}}},
           status={"lastScheduleTime": "2024-01-01T00:00:00Z"}),
    Sample("batch/v1/jobs", "Job",
           {"spec": {"suspend": True, "template": {"spec": {**template()["spec"], "restartPolicy": "Never"}}}},
           status={"conditions": [{**CONDITION, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("policy/v1/poddisruptionbudgets", "PodDisruptionBudget",
           {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}},
           status={"conditions": [{**CONDITION, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("networking.k8s.io/v1/ingresses", "Ingress", {"spec": {"rules": [ROUTE]}},
           status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}),
    Sample("networking.k8s.io/v1/ingressclasses", "IngressClass", {"spec": {"controller": "example.com/any"}},
           namespaced=False),
    Sample("networking.k8s.io/v1/networkpolicies", "NetworkPolicy", {"spec": {"podSelector": {}}}),
    Sample("networking.k8s.io/v1/ipaddresses", "IPAddress",
           {"spec": {"parentRef": {"group": "", "resource": "services", "namespace": "x", "name": "y"}}},
           namespaced=False),
    Sample("networking.k8s.io/v1/servicecidrs", "ServiceCIDR", {"spec": {"cidrs": ["10.98.0.0/16"]}}, namespaced=False,
           status={"conditions": [{**CONDITION, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("discovery.k8s.io/v1/endpointslices", "EndpointSlice",
           {"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"name": "a", "port": 80}]}),
    Sample("coordination.k8s.io/v1/leases", "Lease", {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30}}),
    Sample("node.k8s.io/v1/runtimeclasses", "RuntimeClass", {"handler": "any"}, namespaced=False),
    Sample("scheduling.k8s.io/v1/priorityclasses", "PriorityClass", {"value": 10}, namespaced=False),
    Sample("flowcontrol.apiserver.k8s.io/v1/flowschemas", "FlowSchema", {"spec": FLOW}, namespaced=False,
           status={"conditions": [CONDITION]}),
    Sample("flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", "PriorityLevelConfiguration",
           {"spec": LEVEL}, namespaced=False, status={"conditions": [CONDITION]}),
    Sample("certificates.k8s.io/v1/clustertrustbundles", "ClusterTrustBundle", {"spec": {"trustBundle": CERTIFICATE}},
           namespaced=False),
    Sample("certificates.k8s.io/v1/podcertificaterequests", "PodCertificateRequest",
           {"spec": {"signerName": "example.com/any", "podName": "p", "podUID": "u", "serviceAccountName": "s",
                     "serviceAccountUID": "u", "nodeName": "node-1", "nodeUID": "u", "stubPKCS10Request": "YWJj"}},
           status={"conditions": [{**CONDITION, "type": "Denied", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("storage.k8s.io/v1/storageclasses", "StorageClass", {"provisioner": "example.com/any"}, namespaced=False),
    Sample("storage.k8s.io/v1/csidrivers", "CSIDriver", {"spec": {"attachRequired": False}}, namespaced=False),
    Sample("storage.k8s.io/v1/csinodes", "CSINode", {"spec": {"drivers": []}}, namespaced=False),
    Sample("storage.k8s.io/v1/csistoragecapacities", "CSIStorageCapacity",
           {"storageClassName": "any", "nodeTopology": {"matchLabels": {"a": "b"}}, "capacity": "1Gi"}),
    Sample("storage.k8s.io/v1/volumeattachments", "VolumeAttachment",
           {"spec": {"attacher": "example.com", "nodeName": "node-1", "source": {"persistentVolumeName": "x"}}},
           namespaced=False, status={"attached": True}),
    Sample("storage.k8s.io/v1/volumeattributesclasses", "VolumeAttributesClass",
           {"driverName": "example.com", "parameters": {"a": "b"}}, namespaced=False),
    Sample("resource.k8s.io/v1/deviceclasses", "DeviceClass",
           {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}, namespaced=False),
    Sample("resource.k8s.io/v1/resourceclaims", "ResourceClaim", {"spec": {"devices": DEVICE}}),
    Sample("resource.k8s.io/v1/resourceclaimtemplates", "ResourceClaimTemplate",
           {"spec": {"spec": {"devices": DEVICE}}}),
    Sample("resource.k8s.io/v1/resourceslices", "ResourceSlice",
           {"spec": {"driver": "example.com", "nodeName": "node-1", "pool": {"name": "p", "resourceSliceCount": 1},
                     "devices": []}},
           namespaced=False),
    Sample("admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
           {"webhooks": []}, namespaced=False),
    Sample("admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
           {"webhooks": []}, namespaced=False),
    Sample("admissionregistration.k8s.io/v1/validatingadmissionpolicies", "ValidatingAdmissionPolicy",
           {"spec": {"matchConstraints": {"resourceRules": [NOTHING]}, "validations": [{"expression": "true"}]}},
           namespaced=False, status={"conditions": [{**CONDITION, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("admissionregistration.k8s.io/v1/validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
           {"spec": {"policyName": "none", "validationActions": ["Deny"]}}, namespaced=False),
    Sample("admissionregistration.k8s.io/v1/mutatingadmissionpolicies", "MutatingAdmissionPolicy",
           {"spec": {"matchConstraints": {"resourceRules": [NOTHING]}, "reinvocationPolicy": "Never", "mutations": [
               {"patchType": "JSONPatch", "jsonPatch": {"expression": MUTATION}}]}}, namespaced=False),
    Sample("admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding",
           {"spec": {"policyName": "none"}}, namespaced=False),
    Sample("storagemigration.k8s.io/v1/storageversionmigrations", "StorageVersionMigration",
           {"spec": {"resource": {"group": "example.com", "resource": "none"}}}, namespaced=False,
           status={"conditions": [{**CONDITION, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
    Sample("resource.k8s.io/v1/devicetaintrules", "DeviceTaintRule",
           {"spec": {"deviceSelector": {"driver": "example.com"}, "taint": {"key": "a", "effect": "NoSchedule"}}},
           namespaced=False),
    Sample("rbac.authorization.k8s.io/v1/roles", "Role", {"rules": []}),
    Sample("autoscaling/v2/horizontalpodautoscalers", "HorizontalPodAutoscaler",
           {"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}},
           status={"currentReplicas": 2, "desiredReplicas": 2}),
]  # fmt: skip
