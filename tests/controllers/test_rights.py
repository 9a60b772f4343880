"""Controllers may do what they do: against an API server that asks RBAC, by the rights their roles give."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pinnace.machinery.meta import Obj, annotations_of, name_of
from pinnace.testing import Cluster
from tests.controllers.test_certificatesigningrequest import request
from tests.controllers.test_deployment import deployment

MANAGED = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}


def made(kind: str, name: str, version: str = "v1", **parts: Any) -> Obj:
    metadata = {"name": name, **parts.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def has(*path: str) -> Any:
    """Whether a field is there."""

    def found(obj: Obj) -> Any:
        value: Any = obj
        for name in path:
            value = (value or {}).get(name)
        return value

    return found


@pytest.mark.pinnace(scheduler=False)
def test_certificates_are_signed(pinnace: Cluster) -> None:
    pinnace.api.create(request())
    found = pinnace.api.wait_for("csr", "n1", has("status", "certificate"))
    assert found["status"]["conditions"][0]["reason"] == "AutoApproved"


@pytest.mark.pinnace(scheduler=False)
def test_secrets_of_accounts_are_filled_and_deleted(pinnace: Cluster) -> None:
    api = pinnace.api
    api.create(made("ServiceAccount", "robot"))
    marks = {"annotations": {"kubernetes.io/service-account.name": "robot"}}
    api.create(made("Secret", "robot", type="kubernetes.io/service-account-token", metadata=marks))
    found = api.wait_for("secrets", "robot", has("data", "token"))
    assert set(found["data"]) == {"ca.crt", "namespace", "token"}
    api.delete("serviceaccounts", "robot")
    api.wait_gone("secrets", "robot")


@pytest.mark.pinnace(scheduler=False, controllers=("*", "bootstrap-signer-controller", "token-cleaner-controller"))
def test_bootstrap_tokens_sign_and_expire(pinnace: Cluster) -> None:
    api = pinnace.api
    fields = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"}

    def token(**more: str) -> Obj:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in {**fields, **more}.items()}
        where = {"namespace": "kube-system"}
        return made("Secret", "bootstrap-token-abcdef", type="bootstrap.kubernetes.io/token", data=data, metadata=where)

    api.create(made("ConfigMap", "cluster-info", data={"kubeconfig": "x"}, metadata={"namespace": "kube-public"}))
    secret = api.create(token())
    api.wait_for("configmaps", "cluster-info", has("data", "jws-kubeconfig-abcdef"), "kube-public")
    expired = {**secret, "data": token(expiration="2020-01-01T00:00:00Z")["data"]}
    api.update(expired)
    api.wait_gone("secrets", "bootstrap-token-abcdef", "kube-system")
    api.wait_for("configmaps", "cluster-info", lambda found: list(found["data"]) == ["kubeconfig"], "kube-public")


@pytest.mark.pinnace(scheduler=False)
def test_endpoints_are_mirrored(pinnace: Cluster) -> None:
    api = pinnace.api
    api.create(made("Service", "db", spec={"ports": [{"port": 80}]}))
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}
    api.create(made("Endpoints", "db", subsets=[subset]))
    (found,) = api.wait_until(lambda: api.list("endpointslices", labels="kubernetes.io/service-name=db"))
    assert found["endpoints"][0]["addresses"] == ["192.0.2.1"]
    api.delete("endpoints", "db")
    api.wait_gone("endpointslices", name_of(found))


@pytest.mark.pinnace(scheduler=False)
def test_storage_versions_are_migrated(pinnace: Cluster) -> None:
    spec = {"resource": {"resource": "configmaps"}}
    pinnace.api.create(made("StorageVersionMigration", "m", "storagemigration.k8s.io/v1", spec=spec))
    found = pinnace.api.wait_for("storageversionmigrations", "m", has("status", "resourceVersion"))
    assert {one["type"]: one["status"] for one in found["status"]["conditions"]} == {
        "Running": "False",
        "Succeeded": "True",
    }


@pytest.mark.pinnace(scheduler=False)
def test_the_authority_is_published_and_classes_are_guarded(pinnace: Cluster) -> None:
    api = pinnace.api
    (found,) = api.wait_until(lambda: api.list("clustertrustbundles"))
    assert found["spec"]["signerName"] == "kubernetes.io/kube-apiserver-serving"
    api.create(made("VolumeAttributesClass", "gold", "storage.k8s.io/v1", driverName="x.io", parameters={"a": "b"}))
    api.wait_for("volumeattributesclasses", "gold", has("metadata", "finalizers"))
    api.delete("volumeattributesclasses", "gold")
    api.wait_gone("volumeattributesclasses", "gold")


@pytest.mark.pinnace(scheduler=False)
def test_volumes_are_attached_and_nodes_told(pinnace: Cluster) -> None:
    api = pinnace.api
    node = api.create(made("Node", "n1", metadata={"annotations": MANAGED}))
    api.wait_for("nodes", "n1", lambda found: annotations_of(found).get("node.alpha.kubernetes.io/ttl") == "0")
    csi = {"driver": "disk.example.com", "volumeHandle": "v"}
    access = ["ReadWriteOnce"]
    api.create(made("PersistentVolume", "pv", spec={"accessModes": access, "capacity": {"storage": "1Gi"}, "csi": csi}))
    claim = {"accessModes": access, "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    volumes = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]
    spec = {"nodeName": name_of(node), "containers": [{"name": "c", "image": "x"}], "volumes": volumes}
    api.create(made("Pod", "web", spec=spec))
    (found,) = api.wait_until(lambda: api.list("volumeattachments"))
    api.update({**found, "status": {"attached": True}}, subresource="status")
    told = api.wait_for("nodes", "n1", has("status", "volumesAttached"))
    assert told["status"]["volumesAttached"][0]["name"] == "kubernetes.io/csi/disk.example.com^v"
    api.delete("pods", "web")


@pytest.mark.pinnace(scheduler=False)
def test_workloads_are_scaled(pinnace: Cluster) -> None:
    api = pinnace.api
    api.create(deployment(replicas=1))
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": reference, "minReplicas": 3, "maxReplicas": 4}
    api.create(made("HorizontalPodAutoscaler", "web", "autoscaling/v2", spec=spec))
    api.wait_for("deployments", "web", lambda found: found["spec"]["replicas"] == 3)
