"""Kinds other than pods: what each is given, what is refused and in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .objects import APP, SELECTOR, TEMPLATE, errors, kind_of, made, without


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "given"),
    [
        (
            "apps/v1",
            "Deployment",
            APP,
            {
                "replicas": 1,
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
                },
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
            },
        ),
        ("apps/v1", "ReplicaSet", APP, {"replicas": 1}),
        (
            "apps/v1",
            "StatefulSet",
            APP,
            {
                "replicas": 1,
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "revisionHistoryLimit": 10,
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            },
        ),
        (
            "apps/v1",
            "DaemonSet",
            APP,
            {
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
                "revisionHistoryLimit": 10,
            },
        ),
        ("v1", "ReplicationController", {"template": TEMPLATE}, {"replicas": 1, "selector": {"app": "web"}}),
        (
            "batch/v1",
            "Job",
            {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}},
            {
                "completions": 1,
                "parallelism": 1,
                "backoffLimit": 6,
                "completionMode": "NonIndexed",
                "suspend": False,
                "manualSelector": False,
                "podReplacementPolicy": "TerminatingOrFailed",
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1234"}},
            },
        ),
        (
            "batch/v1",
            "CronJob",
            {
                "schedule": "@daily",
                "jobTemplate": {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
            },
            {
                "schedule": "@daily",
                "concurrencyPolicy": "Allow",
                "suspend": False,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1,
            },
        ),
        (
            "v1",
            "Service",
            {"ports": [{"port": 80}], "selector": {"app": "web"}},
            {
                "type": "ClusterIP",
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "selector": {"app": "web"},
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            },
        ),
        (
            "v1",
            "Service",
            {"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": "http"}]},
            {
                "type": "LoadBalancer",
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster",
                "allocateLoadBalancerNodePorts": True,
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}],
            },
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeMode": "Filesystem",
            },
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]},
            {
                "podSelector": {},
                "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}],
                "policyTypes": ["Ingress", "Egress"],
            },
        ),
        ("v1", "Namespace", {}, {"finalizers": ["kubernetes"]}),
    ],
)
def test_a_minimal_object_becomes_whole(
    api_version: str, kind: str, spec: dict[str, Any], given: dict[str, Any]
) -> None:
    obj = made(api_version, kind, spec=spec)
    templates = ("template", "jobTemplate", *(() if "selector" in given else ("selector",)))
    assert without(obj["spec"], *templates) == given
    assert errors(obj) == []


def test_templates_get_the_defaults_of_pods_but_no_requests() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1"}}
    pod = made("apps/v1", "Deployment", spec={"selector": SELECTOR, "template": template})["spec"]["template"]["spec"]
    assert pod["dnsPolicy"] == "ClusterFirst"
    assert pod["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert "enableServiceLinks" not in pod


def test_a_job_labels_its_pods_with_its_uid() -> None:
    job = made("batch/v1", "Job", spec={"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}})
    assert job["spec"]["template"]["metadata"]["labels"] == {
        "controller-uid": "1234",
        "batch.kubernetes.io/controller-uid": "1234",
        "job-name": "web",
        "batch.kubernetes.io/job-name": "web",
    }


def test_string_data_of_a_secret_is_merged_and_forgotten() -> None:
    secret = made("v1", "Secret", data={"a": "eA=="}, stringData={"b": "y"})
    assert secret["data"] == {"a": "eA==", "b": "eQ=="}
    assert secret["type"] == "Opaque"
    assert "stringData" not in secret


def test_a_namespace_is_labelled_with_its_name() -> None:
    namespace = made("v1", "Namespace")
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "web"}
    assert namespace["status"] == {"phase": "Active"}


def test_a_service_keeps_what_was_allocated() -> None:
    old = made("v1", "Service", spec={"type": "NodePort", "ports": [{"port": 80}]})
    old["spec"] |= {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}
    old["spec"]["ports"][0]["nodePort"] = 30080
    new = made("v1", "Service", spec={"type": "NodePort", "ports": [{"port": 80, "name": "http"}]})
    rules = kind_of("v1", "Service")
    assert rules.prepare
    rules.prepare(new, old)
    assert new["spec"]["clusterIP"] == "10.0.0.9"
    assert new["spec"]["clusterIPs"] == ["10.0.0.9"]
    assert new["spec"]["ports"][0]["nodePort"] == 30080


SELECTS_NOT = 'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
NOT_ROOM = "Required value: at least 1 access mode is required"


@pytest.mark.parametrize(
    ("api_version", "kind", "fields", "message"),
    [
        ("apps/v1", "Deployment", {"spec": {"template": TEMPLATE}}, "spec.selector: Required value"),
        (
            "apps/v1",
            "Deployment",
            {"spec": {"selector": {}, "template": TEMPLATE}},
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            "apps/v1",
            "Deployment",
            {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}},
            SELECTS_NOT,
        ),
        (
            "apps/v1",
            "Deployment",
            {"spec": {**APP, "replicas": -1}},
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "apps/v1",
            "Deployment",
            {"spec": {**APP, "strategy": {"type": "Recreate", "rollingUpdate": {}}}},
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "apps/v1",
            "Deployment",
            {"spec": {**APP, "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}}},
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            "apps/v1",
            "DaemonSet",
            {"spec": {**APP, "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            "batch/v1",
            "Job",
            {"spec": {"template": TEMPLATE}},
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            "batch/v1",
            "CronJob",
            {"spec": {"schedule": "x", "jobTemplate": {}}},
            'spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]',
        ),
        ("v1", "Service", {"spec": {}}, "spec.ports: Required value"),
        (
            "v1",
            "Service",
            {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ("v1", "Service", {"spec": {"ports": [{"port": 1}, {"port": 2}]}}, "spec.ports[0].name: Required value"),
        (
            "v1",
            "Service",
            {"spec": {"ports": [{"port": 0}]}},
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "v1",
            "Service",
            {"spec": {"type": "X", "ports": [{"port": 1}]}},
            (
                'spec.type: Unsupported value: "X": supported values: '
                '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
            ),
        ),
        ("v1", "ConfigMap", {"data": {"a": "x" * (1 << 20 | 1)}}, "[]: Too long: may not be more than 1048576 bytes"),
        ("v1", "Secret", {"type": "kubernetes.io/tls"}, "data[tls.crt]: Required value"),
        ("v1", "PersistentVolumeClaim", {"spec": {}}, f"spec.accessModes: {NOT_ROOM}"),
        ("v1", "PersistentVolume", {"spec": {}}, "spec: Required value: must specify a volume type"),
        (
            "networking.k8s.io/v1",
            "Ingress",
            {"spec": {"rules": [{"http": {"paths": [{"path": "/"}]}}]}},
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "minReplicas": 3, "maxReplicas": 2}},
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            {"roleRef": {"kind": "X", "name": "a"}},
            'roleRef.kind: Unsupported value: "X": supported values: "ClusterRole", "Role"',
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            {"spec": {"minAvailable": "150%"}},
            'spec.minAvailable: Invalid value: "150%": must not be greater than 100%',
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            {"value": 2_000_000_000},
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        ("storage.k8s.io/v1", "StorageClass", {}, "provisioner: Required value"),
        (
            "coordination.k8s.io/v1",
            "Lease",
            {"spec": {"leaseDurationSeconds": 0}},
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", {"spec": {}}, "spec.usages: Required value"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            {"webhooks": [{"name": "a.b"}]},
            (
                'webhooks[0].name: Invalid value: "a.b": '
                "should be a domain with at least three segments separated by dots"
            ),
        ),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            {"spec": {"group": "a.b", "names": {"plural": "cs", "kind": "C"}, "scope": "Cluster", "versions": []}},
            "spec.versions: Invalid value: []: must have exactly one version marked as storage version",
        ),
        (
            "v1",
            "Endpoints",
            {"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]},
            (
                'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": '
                "may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ),
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            {"addressType": "X"},
            'addressType: Unsupported value: "X": supported values: "FQDN", "IPv4", "IPv6"',
        ),
        ("v1", "Node", {"spec": {"taints": [{"key": "a"}]}}, "spec.taints[0].effect: Required value"),
        (
            "v1",
            "ConfigMap",
            {"metadata": {"labels": {"a b": "c"}}},
            (
                'metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character "
                "(e.g. 'MyName',  or 'my.name',  or '123-abc', "
                "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ),
        ),
        (
            "v1",
            "ConfigMap",
            {"metadata": {"finalizers": ["mine"]}},
            (
                'metadata.finalizers: Invalid value: "mine": '
                "name is neither a standard finalizer name nor is it fully qualified"
            ),
        ),
        ("v1", "Node", {"metadata": {"namespace": "x"}}, "metadata.namespace: Forbidden: not allowed on this type"),
    ],
)
def test_what_is_wrong_is_said_in_kubernetes_words(
    api_version: str, kind: str, fields: dict[str, Any], message: str
) -> None:
    assert message in errors(made(api_version, kind, **copy.deepcopy(fields)))


@pytest.mark.parametrize(
    ("api_version", "kind", "old", "new", "message"),
    [
        (
            "apps/v1",
            "Deployment",
            {"spec": APP},
            {"spec": {**APP, "selector": {"matchLabels": {"app": "web", "x": "y"}}}},
            'spec.selector: Invalid value: {"matchLabels":{"app":"web","x":"y"}}: field is immutable',
        ),
        (
            "apps/v1",
            "StatefulSet",
            {"spec": {**APP, "serviceName": "a"}},
            {"spec": {**APP, "serviceName": "b"}},
            (
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                "'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            ),
        ),
        (
            "v1",
            "ConfigMap",
            {"immutable": True, "data": {"a": "1"}},
            {"immutable": True, "data": {"a": "2"}},
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        (
            "v1",
            "Secret",
            {"type": "a"},
            {"type": "b"},
            'type: Invalid value: "b": field is immutable',
        ),
        (
            "v1",
            "Service",
            {"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}},
            {"spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 1}]}},
            'spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set',
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            {"roleRef": {"kind": "ClusterRole", "name": "a"}},
            {"roleRef": {"kind": "ClusterRole", "name": "b"}},
            (
                'roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: '
                "cannot change roleRef"
            ),
        ),
    ],
)
def test_what_may_not_change(
    api_version: str, kind: str, old: dict[str, Any], new: dict[str, Any], message: str
) -> None:
    assert message in errors(made(api_version, kind, **new), made(api_version, kind, **old))


def test_an_event_is_the_same_in_both_groups() -> None:
    rules = kind_of("events.k8s.io/v1", "Event")
    assert rules.to_storage
    assert rules.from_storage
    event = made(
        "events.k8s.io/v1",
        "Event",
        regarding={"kind": "Pod"},
        note="n",
        reportingController="c",
        reportingInstance="i",
        related={"kind": "Node"},
        action="a",
        series={"count": 2, "lastObservedTime": "2026-01-01T00:08:00.000000Z"},
        deprecatedSource={"component": "s"},
        deprecatedFirstTimestamp="2026-01-01T00:05:00Z",
        deprecatedLastTimestamp="2026-01-01T00:09:00Z",
        deprecatedCount=3,
    )
    stored = rules.to_storage(event)
    assert stored == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": event["metadata"],
        "involvedObject": {"kind": "Pod"},
        "message": "n",
        "reportingComponent": "c",
        "reportingInstance": "i",
        "related": {"kind": "Node"},
        "action": "a",
        "series": {"count": 2, "lastObservedTime": "2026-01-01T00:08:00.000000Z"},
        "source": {"component": "s"},
        "firstTimestamp": "2026-01-01T00:05:00Z",
        "lastTimestamp": "2026-01-01T00:09:00Z",
        "count": 3,
    }
    assert rules.from_storage(stored) == event


def test_an_autoscaler_of_the_old_version_is_about_cpu() -> None:
    rules = kind_of("autoscaling/v1", "HorizontalPodAutoscaler")
    assert rules.to_storage
    assert rules.from_storage
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "maxReplicas": 2, "minReplicas": 1}
    old = made("autoscaling/v1", "HorizontalPodAutoscaler", spec={**spec, "targetCPUUtilizationPercentage": 50})
    stored = rules.to_storage(old)
    metric = stored["spec"]["metrics"][0]["resource"]
    assert metric == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    assert rules.from_storage(stored)["spec"] == old["spec"]


def test_an_object_of_older_rules_may_still_be_labelled() -> None:
    old = made("v1", "Service", spec={})
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"a": "b"}
    assert errors(old) == ["spec.ports: Required value"]
    assert errors(new, old) == []


def test_a_deleting_object_takes_no_new_finalizers() -> None:
    old = made("v1", "ConfigMap", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]})
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"].append("c/d")
    assert errors(new, old) == [
        (
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
            'found new finalizers []string{"c/d"}'
        )
    ]
