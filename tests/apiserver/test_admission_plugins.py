"""The smaller admission plugins: what each gives to objects, and what it refuses in which words."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pinnace.apiserver.admission.plugins import NAMES, build, is_on
from pinnace.apiserver.server import ApiServer
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, config_map, options_for, pod

NAMESPACE = "/api/v1/namespaces/default"
PODS = f"{NAMESPACE}/pods"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@asynccontextmanager
async def cluster_with(pki: Path, where: Path, *enabled: str, **more: Any) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(where / "other.db")
    server = ApiServer(options_for(pki, enable_admission_plugins=enabled, **more), store)
    try:
        await server.start()
        made = Cluster(server, store, pki)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await made.request("POST", f"{NAMESPACE}/serviceaccounts", account)
        yield made
    finally:
        await server.stop(0.2)
        await store.close()


def test_plugins_run_in_their_order_whatever_the_flags_say() -> None:
    names = [type(plugin).__name__ for plugin in build(["AlwaysPullImages"], ["LimitRanger", "ServiceAccount"])]
    assert "LimitRanger" not in names
    assert "ServiceAccount" not in names
    assert names.index("AlwaysPullImages") < names.index("PodSecurity") < names.index("ResourceQuota")
    assert names[-1] == "ResourceQuota"
    assert [name for name in NAMES if not is_on(name, (), ())] == [
        "AlwaysAdmit",
        "NamespaceAutoProvision",
        "NamespaceExists",
        "LimitPodHardAntiAffinityTopology",
        "AlwaysPullImages",
        "ImagePolicyWebhook",
        "PodNodeSelector",
        "PodTolerationRestriction",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "OwnerReferencesPermissionEnforcement",
        "DenyServiceExternalIPs",
        "AlwaysDeny",
    ]


async def runtime_class(cluster: Cluster, **more: Any) -> None:
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "r"}, "handler": "h", **more}
    await cluster.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)


async def test_a_pod_takes_the_overhead_of_its_runtime_and_goes_where_it_is(cluster: Cluster) -> None:
    """Conformance: "RuntimeClass Overhead field must be respected." """
    scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
    await runtime_class(cluster, overhead={"podFixed": {"cpu": "10m"}}, scheduling=scheduling)
    made = await cluster.request("POST", PODS, pod("a", runtimeClassName="r", nodeSelector={"c": "d"}))
    assert made["spec"]["overhead"] == {"cpu": "10m"}
    assert made["spec"]["nodeSelector"] == {"a": "b", "c": "d"}
    assert {"key": "k", "operator": "Exists"} in made["spec"]["tolerations"]

    refused = await cluster.refused("POST", PODS, pod("b", runtimeClassName="r", nodeSelector={"a": "x"}))
    assert refused.message == (
        'pods "b" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = x'
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        (
            {"overhead": {"cpu": "1"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"runtimeClassName": "r", "overhead": {"cpu": "1"}},
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
    ],
)
async def test_a_pod_whose_runtime_does_not_fit_is_refused(cluster: Cluster, spec: Any, why: str) -> None:
    """Conformance: "Pod with the non-existing RuntimeClass is rejected." """
    await runtime_class(cluster, overhead={"podFixed": {"cpu": "10m"}})
    refused = await cluster.refused("POST", PODS, pod("a", **spec))
    assert refused.code == 403
    assert refused.message == f'pods "a" is forbidden: {why}'


async def test_a_pod_of_a_runtime_that_was_deleted_is_refused(cluster: Cluster) -> None:
    """Conformance: "Pod with the deleted RuntimeClass is rejected." """
    await runtime_class(cluster)
    await cluster.request("POST", PODS, pod("a", runtimeClassName="r"))
    await cluster.request("DELETE", "/apis/node.k8s.io/v1/runtimeclasses/r")
    refused = await cluster.refused("POST", PODS, pod("b", runtimeClassName="r"))
    assert refused.message == 'pods "b" is forbidden: pod rejected: RuntimeClass "r" not found'


async def test_a_pod_is_labelled_with_the_zone_of_its_node(cluster: Cluster) -> None:
    labels = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}}
    await cluster.request("POST", "/api/v1/nodes", node)
    await cluster.request("POST", PODS, pod("a"))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "n"},
    }
    await cluster.request("POST", f"{PODS}/a/binding", binding)
    expected = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}
    assert (await cluster.request("GET", f"{PODS}/a"))["metadata"]["labels"] == expected
    made = await cluster.request("POST", PODS, pod("b", nodeName="n"))
    assert made["metadata"]["labels"] == expected


async def test_an_ingress_gets_the_default_class(cluster: Cluster) -> None:
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "fast", "annotations": mark},
        "spec": {"controller": "example.com/c"},
    }
    await cluster.request("POST", "/apis/networking.k8s.io/v1/ingressclasses", body)
    ingress: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "a"},
        "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
    }
    path = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
    assert (await cluster.request("POST", path, ingress))["spec"]["ingressClassName"] == "fast"
    ingress["metadata"] = {"name": "b", "annotations": {"kubernetes.io/ingress.class": "other"}}
    assert "ingressClassName" not in (await cluster.request("POST", path, ingress))["spec"]


@pytest.mark.parametrize(
    ("expansion", "why"),
    [
        (
            False,
            (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            ),
        ),
        (True, ""),
    ],
)
async def test_a_claim_grows_where_its_class_lets_it(cluster: Cluster, expansion: bool, why: str) -> None:
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "c"},
        "provisioner": "p",
        "allowVolumeExpansion": expansion,
    }
    await cluster.request("POST", "/apis/storage.k8s.io/v1/storageclasses", storage_class)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "a"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "c",
            "volumeName": "v",
        },
    }
    path = f"{NAMESPACE}/persistentvolumeclaims"
    made = await cluster.request("POST", path, claim)
    made = await cluster.request("PUT", f"{path}/a/status", {**made, "status": {"phase": "Bound"}})
    grown = {**made, "spec": {**made["spec"], "resources": {"requests": {"storage": "2Gi"}}}}
    answer = await cluster.call("PUT", f"{path}/a", grown)
    if why:
        assert answer.status == 403
        assert answer.json["message"] == f'persistentvolumeclaims "a" is forbidden: {why}'
    else:
        assert answer.status == 200, answer.body


def certificate_request(name: str, *organizations: str, signer: str = "kubernetes.io/kube-apiserver-client") -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me"), *parts])
    pem = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(pem.public_bytes(Encoding.PEM)).decode(),
            "signerName": signer,
            "usages": ["client auth"],
            "username": "somebody-else",
        },
    }


async def test_a_certificate_request_says_who_made_it(cluster: Cluster) -> None:
    answer = await cluster.call("POST", REQUESTS, certificate_request("a"))
    assert answer.status == 201
    assert answer.json["spec"]["username"] == "tester"
    assert answer.json["spec"]["groups"] == ["system:masters", "system:authenticated"]


async def test_no_certificate_makes_a_master(cluster: Cluster) -> None:
    refused = await cluster.refused("POST", REQUESTS, certificate_request("a", "dev", "system:masters"))
    assert refused.message == (
        'certificatesigningrequests.certificates.k8s.io "a" is forbidden: '
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    )


async def test_approving_and_signing_need_the_right_on_the_signer(pki: Path, tmp_path: Path) -> None:
    async with cluster_with(pki, tmp_path, authorization_modes=("RBAC",)) as cluster:
        admin = {"user": "system:apiserver"}
        await cluster.request("POST", REQUESTS, certificate_request("a"), **admin)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "r"},
            "rules": [
                {
                    "apiGroups": ["certificates.k8s.io"],
                    "resources": [
                        "certificatesigningrequests",
                        "certificatesigningrequests/approval",
                        "certificatesigningrequests/status",
                    ],
                    "verbs": ["*"],
                }
            ],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await cluster.request("POST", f"{rbac}/clusterroles", role, **admin)
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "plain-user"}],
        }
        await cluster.request("POST", f"{rbac}/clusterrolebindings", binding, **admin)
        plain = {"Authorization": "Bearer plain"}
        found = (await cluster.call("GET", f"{REQUESTS}/a", headers=plain)).json
        condition = {"type": "Approved", "status": "True", "reason": "r", "message": "m"}
        changed = {**found, "status": {"conditions": [condition]}}
        for part, verb in (("approval", "approve"), ("status", "sign")):
            answer = await cluster.call("PUT", f"{REQUESTS}/a/{part}", changed, headers=plain)
            assert answer.status == 403
            assert answer.json["message"] == (
                'certificatesigningrequests.certificates.k8s.io "a" is forbidden: '
                f'user not permitted to {verb} requests with signerName "kubernetes.io/kube-apiserver-client"'
            )
        role["rules"].append(
            {
                "apiGroups": ["certificates.k8s.io"],
                "resources": ["signers"],
                "resourceNames": ["kubernetes.io/*"],
                "verbs": ["approve", "sign"],
            }
        )
        await cluster.request("PUT", f"{rbac}/clusterroles/r", role, **admin)
        answer = await cluster.call("PUT", f"{REQUESTS}/a/approval", changed, headers=plain)
        assert answer.status == 200, answer.body
        (approved,) = answer.json["status"]["conditions"]
        assert approved["lastUpdateTime"] == approved["lastTransitionTime"]
        taken_back = {**answer.json, "status": {"conditions": []}}
        answer = await cluster.call("PUT", f"{REQUESTS}/a/approval", taken_back, headers=plain)
        assert answer.status == 422
        assert 'Forbidden: updates may not remove a condition of type "Approved"' in answer.json["message"]


async def test_plugins_that_are_off_unless_asked_for(pki: Path, tmp_path: Path) -> None:
    asked = (
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "ExtendedResourceToleration",
        "NamespaceAutoProvision",
        "PodNodeSelector",
    )
    async with cluster_with(pki, tmp_path, *asked) as cluster:
        await cluster.request("POST", "/api/v1/namespaces/fresh/configmaps", config_map("a"))
        assert (await cluster.request("GET", "/api/v1/namespaces/fresh"))["status"]["phase"] == "Active"

        patch = {"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "env=dev, disk = ssd"}}}
        await cluster.request("PATCH", NAMESPACE, patch, content_type="application/merge-patch+json")
        device = {"limits": {"example.com/gpu": "1"}}
        container = {"name": "c", "image": "i:1", "imagePullPolicy": "Never", "resources": device}
        made = await cluster.request("POST", PODS, pod("a", containers=[container]))
        assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        assert made["spec"]["nodeSelector"] == {"env": "dev", "disk": "ssd"}
        assert {"key": "example.com/gpu", "operator": "Exists"} in made["spec"]["tolerations"]
        refused = await cluster.refused("POST", PODS, pod("b", nodeSelector={"env": "prod"}))
        assert refused.message == (
            'pods "b" is forbidden: pod node label selector conflicts with its namespace node label selector'
        )
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80}], "externalIPs": ["1.2.3.4"]},
        }
        refused = await cluster.refused("POST", f"{NAMESPACE}/services", service)
        assert refused.message == ('services "s" is forbidden: Use of external IPs is denied by admission control.')


async def test_administrative_access_to_devices_is_for_marked_namespaces(cluster: Cluster) -> None:
    wanted = {"name": "r", "exactly": {"deviceClassName": "gpu", "adminAccess": True}}
    spec = {"devices": {"requests": [{"name": "q", "exactly": {"deviceClassName": "gpu"}}, wanted]}}
    group = "/apis/resource.k8s.io/v1/namespaces/default"
    claim = {"metadata": {"name": "c"}, "spec": spec}
    template = {"metadata": {"name": "t"}, "spec": {"spec": spec}}
    why = (
        "spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the "
        "`resource.kubernetes.io/admin-access: true` label on the containing namespace"
    )
    error = await cluster.refused("POST", f"{group}/resourceclaims", claim)
    assert (error.code, error.message) == (422, f'ResourceClaim.resource.k8s.io "c" is invalid: {why}')
    error = await cluster.refused("POST", f"{group}/resourceclaimtemplates", template)
    assert error.message == f'ResourceClaimTemplate.resource.k8s.io "t" is invalid: {why}'
    namespace = await cluster.request("GET", NAMESPACE)
    namespace["metadata"].setdefault("labels", {})["resource.kubernetes.io/admin-access"] = "true"
    await cluster.request("PUT", NAMESPACE, namespace)
    for path, obj in (("resourceclaims", claim), ("resourceclaimtemplates", template)):
        assert (await cluster.request("POST", f"{group}/{path}", obj))["metadata"]["name"]
