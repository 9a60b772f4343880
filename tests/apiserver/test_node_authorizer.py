"""What a kubelet may: read what its pods need, write what is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pinnace.apiserver.node_authorizer import named_by
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, config_map, options_for, pod

KUBELET = "system:node:one"
DEFAULT = "/api/v1/namespaces/default"


@pytest.fixture
async def guarded(pki: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Node and RBAC on, two nodes, and a pod `web` on the first that uses a bit of everything."""
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(pki, authorization_modes=("Node", "RBAC")), store)
    try:
        await server.start()
        cluster = Cluster(server, store, pki)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await cluster.request("POST", f"{DEFAULT}/serviceaccounts", account)
        await cluster.request("POST", f"{DEFAULT}/configmaps", config_map("used"))
        await cluster.request("POST", f"{DEFAULT}/configmaps", config_map("other"))
        for name in ("one", "two"):
            await cluster.request("POST", "/api/v1/nodes", node(name), user=f"system:node:{name}")
        volumes = [{"name": "v", "configMap": {"name": "used"}}]
        await cluster.request("POST", f"{DEFAULT}/pods", pod("web", nodeName="one", volumes=volumes))
        yield cluster
    finally:
        await server.stop(0.2)
        await store.close()


def node(name: str, **labels: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


async def outcome(cluster: Cluster, user: str, method: str, path: str, body: Any = None, **more: Any) -> str:
    """`""` when it is allowed, otherwise the refusal."""
    try:
        await cluster.request(method, path, body, user=user, **more)
    except ApiError as error:
        return error.message if error.code == 403 else f"{error.code}: {error.message}"
    return ""


@pytest.mark.parametrize(
    ("path", "one", "two"),
    [
        (f"{DEFAULT}/configmaps/used", True, False),
        (f"{DEFAULT}/configmaps/other", False, False),
        (f"{DEFAULT}/configmaps", False, False),
        (f"{DEFAULT}/secrets", False, False),
        (f"{DEFAULT}/pods/web", True, False),
        (f"{DEFAULT}/serviceaccounts/default", True, False),
        ("/api/v1/services", True, True),
        ("/api/v1/nodes/one", True, False),
        ("/apis/apps/v1/deployments", False, False),
        ("/version", True, True),
    ],
)
async def test_a_kubelet_reads_what_its_pods_need(guarded: Cluster, path: str, one: bool, two: bool) -> None:
    assert (await outcome(guarded, "system:node:one", "GET", path) == "") is one
    assert (await outcome(guarded, "system:node:two", "GET", path) == "") is two


async def test_a_kubelet_tells_how_claims_of_its_pods_grow_and_nothing_else(guarded: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "pv"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    await guarded.request("POST", f"{DEFAULT}/persistentvolumeclaims", claim)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    await guarded.request("POST", f"{DEFAULT}/pods", pod("user", nodeName="one", volumes=volumes))
    path, merge = f"{DEFAULT}/persistentvolumeclaims/data/status", {"content_type": "application/merge-patch+json"}
    grown: Obj = {"status": {"capacity": {"storage": "2Gi"}, "conditions": [], "allocatedResourceStatuses": None}}
    assert await outcome(guarded, KUBELET, "PATCH", path, grown, **merge) == ""
    assert "forbidden" in await outcome(guarded, "system:node:two", "PATCH", path, grown, **merge)
    why = 'node "one" is not allowed to update fields other than status.quantity and status.conditions'
    for change in ({"status": {"phase": "Lost"}}, {"metadata": {"finalizers": ["a/b"]}}):
        assert why in await outcome(guarded, KUBELET, "PATCH", path, change, **merge)


@pytest.mark.parametrize(
    ("path", "selector", "why"),
    [
        ("/api/v1/pods", "spec.nodeName=one", ""),
        (f"{DEFAULT}/pods", "status.phase!=Failed,spec.nodeName==one", ""),
        (f"{DEFAULT}/pods", "metadata.name=web", ""),
        ("/api/v1/nodes", "metadata.name=one", ""),
        ("/api/v1/pods", "", "can only list/watch pods with spec.nodeName field selector"),
        ("/api/v1/pods", "spec.nodeName=two", "can only list/watch pods with spec.nodeName field selector"),
        ("/api/v1/pods", "spec.nodeName!=one", "can only list/watch pods with spec.nodeName field selector"),
        (f"{DEFAULT}/pods", "metadata.name=other", "no relationship found between node 'one' and this object"),
        ("/api/v1/nodes", "", "node 'one' cannot read all nodes, only its own Node object"),
        ("/api/v1/nodes", "metadata.name=two", "node 'one' cannot read 'two', only its own Node object"),
    ],
)
async def test_a_kubelet_lists_but_its_own_node_and_pods(guarded: Cluster, path: str, selector: str, why: str) -> None:
    refused = await outcome(guarded, KUBELET, "GET", path, params={"fieldSelector": selector} if selector else {})
    assert refused.endswith(why)
    assert bool(refused) is bool(why)
    impersonating = {"Impersonate-User": KUBELET, "Impersonate-Group": "system:nodes"}
    answer = await guarded.call("GET", f"{path}?fieldSelector={quote(selector)}", headers=impersonating)
    assert answer.status == (403 if why else 200), answer.body


CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


async def test_a_kubelet_reads_the_device_claims_of_its_pods(guarded: Cluster) -> None:
    for name in ("used", "other"):
        request = {"name": "r", "exactly": {"deviceClassName": "c"}}
        spec = {"devices": {"requests": [request]}}
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec}
        await guarded.request("POST", CLAIMS, claim)
    claims = [{"name": "gpu", "resourceClaimName": "used"}]
    await guarded.request("POST", f"{DEFAULT}/pods", pod("miner", nodeName="one", resourceClaims=claims))
    assert await outcome(guarded, KUBELET, "GET", f"{CLAIMS}/used") == ""
    assert "no relationship found" in await outcome(guarded, KUBELET, "GET", f"{CLAIMS}/other")
    assert "no relationship found" in await outcome(guarded, "system:node:two", "GET", f"{CLAIMS}/used")
    assert "can only get individual resources of this type" in await outcome(guarded, KUBELET, "GET", CLAIMS)


async def test_a_kubelet_looks_after_the_slices_of_its_own_node(guarded: Cluster) -> None:
    def slice_of(node: str) -> Obj:
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": "gpu.example.com", "nodeName": node, "pool": pool, "devices": [{"name": "first"}]}
        metadata = {"name": f"slice-{node}"}
        return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": spec}

    assert await outcome(guarded, KUBELET, "POST", SLICES, slice_of("one")) == ""
    assert "can only create ResourceSlice with the same NodeName as the requesting node" in await outcome(
        guarded, KUBELET, "POST", SLICES, slice_of("two")
    )
    await guarded.request("POST", SLICES, slice_of("two"))
    assert await outcome(guarded, KUBELET, "GET", f"{SLICES}/slice-one") == ""
    assert "no relationship found" in await outcome(guarded, KUBELET, "GET", f"{SLICES}/slice-two")
    assert "no relationship found" in await outcome(guarded, KUBELET, "DELETE", f"{SLICES}/slice-two")
    why = "can only list/watch/deletecollection resourceslices with nodeName field selector"
    assert why in await outcome(guarded, KUBELET, "DELETE", SLICES)
    selector = {"fieldSelector": "spec.nodeName=one,spec.driver=gpu.example.com"}
    assert await outcome(guarded, KUBELET, "DELETE", SLICES, params=selector) == ""
    left = await guarded.request("GET", SLICES)
    assert [one["metadata"]["name"] for one in left["items"]] == ["slice-two"]


async def test_before_1_32_a_kubelet_reads_every_node_and_pod(pki: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "old.db")
    server = ApiServer(options_for(pki, authorization_modes=("Node", "RBAC"), minor=31), store)
    try:
        await server.start()
        cluster = Cluster(server, store, pki)
        for path in ("/api/v1/pods", "/api/v1/nodes"):
            assert await outcome(cluster, KUBELET, "GET", path) == ""
    finally:
        await server.stop(0.2)
        await store.close()


async def test_a_deleted_pod_opens_nothing_any_more(guarded: Cluster) -> None:
    path = f"{DEFAULT}/configmaps/used"
    assert await outcome(guarded, KUBELET, "GET", path) == ""
    await guarded.request("DELETE", f"{DEFAULT}/pods/web", params={"gracePeriodSeconds": "0"})
    assert await outcome(guarded, KUBELET, "GET", path) == (
        'configmaps "used" is forbidden: User "system:node:one" cannot get resource "configmaps" in API group ""'
        " in the namespace \"default\": no relationship found between node 'one' and this object"
    )


async def test_a_kubelet_writes_its_own_node_only(guarded: Cluster) -> None:
    merge = {"content_type": "application/merge-patch+json"}

    async def label(name: str, key: str) -> str:
        body = {"metadata": {"labels": {key: "x"}}}
        return await outcome(guarded, KUBELET, "PATCH", f"/api/v1/nodes/{name}", body, **merge)

    assert await label("one", "example.com/rack") == ""
    assert await label("one", "node.kubernetes.io/speed") == ""
    assert "is not allowed to modify labels: node-restriction.kubernetes.io/a" in await label(
        "one", "node-restriction.kubernetes.io/a"
    )
    assert "is not allowed to modify labels" in await label("one", "node-role.kubernetes.io/control-plane")
    assert 'node "one" is not allowed to modify node "two"' in await label("two", "example.com/rack")
    taint = {"spec": {"taints": []}}
    refused = await outcome(guarded, KUBELET, "PATCH", "/api/v1/nodes/one", taint, **merge)
    assert 'node "one" is not allowed to modify taints' in refused


async def test_a_kubelet_writes_its_own_pods_only(guarded: Cluster) -> None:
    merge = {"content_type": "application/merge-patch+json"}
    status = {"status": {"phase": "Running"}}
    path = f"{DEFAULT}/pods/web"

    assert await outcome(guarded, KUBELET, "PATCH", f"{path}/status", status, **merge) == ""
    assert "can only update pod status for pods with spec.nodeName set to itself" in await outcome(
        guarded, "system:node:two", "PATCH", f"{path}/status", status, **merge
    )
    assert "can only delete pods" in await outcome(guarded, "system:node:two", "DELETE", path)
    assert "can only create mirror pods" in await outcome(guarded, KUBELET, "POST", f"{DEFAULT}/pods", pod("mine"))
    assert await outcome(guarded, KUBELET, "DELETE", path) == ""


async def test_a_kubelet_gets_tokens_bound_to_its_pods(guarded: Cluster) -> None:
    path = f"{DEFAULT}/serviceaccounts/default/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    bound = {**request, "spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web"}}}

    assert await outcome(guarded, KUBELET, "POST", path, bound) == ""
    assert "node requested token not bound to a pod" in await outcome(guarded, KUBELET, "POST", path, request)
    assert "no relationship found" in await outcome(guarded, "system:node:two", "POST", path, bound)


async def test_a_kubelet_asks_for_certificates_of_its_own_pods(guarded: Cluster) -> None:
    async def uid(path: str) -> str:
        return str((await guarded.request("GET", path))["metadata"]["uid"])

    path = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"
    right = {
        "signerName": "example.com/x",
        "podName": "web",
        "podUID": await uid(f"{DEFAULT}/pods/web"),
        "serviceAccountName": "default",
        "serviceAccountUID": await uid(f"{DEFAULT}/serviceaccounts/default"),
        "nodeName": "one",
        "nodeUID": await uid("/api/v1/nodes/one"),
        "stubPKCS10Request": "AAAA",
    }

    async def ask(user: str = KUBELET, **wrong: str) -> str:
        spec = {**right, **wrong}
        request = {"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "spec": spec}
        return await outcome(guarded, user, "POST", path, {**request, "metadata": {"generateName": "req-"}})

    assert await ask() == ""
    of_pod = 'PodCertificateRequest for pod "default/web"'
    for answer, why in (
        (await ask("system:node:two"), 'Spec.NodeName="one", which is not the requesting node "two"'),
        (await ask(nodeUID="x"), f'{of_pod} names node UID "x", inconsistent with the running node ("'),
        (
            await ask(podName="none"),
            'while retrieving pod "default/none" named in the PodCertificateRequest: pod "none"',
        ),
        (await ask(podUID="x"), f'{of_pod} contains pod UID ("x") which differs from running pod "'),
        (
            await ask(serviceAccountName="x"),
            'contains serviceAccountName ("x") that differs from running pod ("default")',
        ),
        (await ask(serviceAccountUID="x"), f'{of_pod} names service account UID "x", which differs from the running'),
        (
            await ask("system:node:two", nodeName="two", nodeUID=await uid("/api/v1/nodes/two")),
            'pod "default/web" is not running on node "two" named in the PodCertificateRequest',
        ),
    ):
        assert why in answer


async def test_a_kubelet_keeps_its_own_lease(guarded: Cluster) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    mine = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"}, "spec": {}}

    assert await outcome(guarded, KUBELET, "POST", path, mine) == ""
    assert await outcome(guarded, KUBELET, "GET", f"{path}/one") == ""
    assert "same name as the requesting node" in await outcome(guarded, "system:node:two", "GET", f"{path}/one")
    assert "same name as the requesting node" in await outcome(
        guarded, KUBELET, "POST", path, {**mine, "metadata": {"name": "two"}}
    )


def test_what_a_pod_names() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "envmap", "key": "k"}}},
                ],
                "envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "frommap"}}],
            }
        ],
        "volumes": [
            {"name": "a", "secret": {"secretName": "vol"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "projmap"}}]}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "d", "ephemeral": {}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "f", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
        ],
    }
    whole = {"metadata": {"name": "p", "namespace": "n"}, "spec": spec}

    assert named_by(whole, "secrets") == {"pull", "env", "from", "vol", "proj", "csi"}
    assert named_by(whole, "configmaps") == {"envmap", "frommap", "projmap"}
    assert named_by(whole, "persistentvolumeclaims") == {"claim", "p-e"}
    metadata: Obj = whole["metadata"]  # type: ignore[assignment]
    mirror = {**whole, "metadata": {**metadata, "annotations": {"kubernetes.io/config.mirror": "x"}}}
    assert named_by(mirror, "secrets") == set()
