"""Service accounts, their tokens, reviews, certificates."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pinnace.testing import Api, Cluster


def account(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "labels": labels}}


def token_of(api: Api, namespace: str, name: str, **spec: Any) -> str:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    found: str = api.request("POST", path, request)["status"]["token"]
    return found


def test_a_service_account_lives(api: Api, namespace: str) -> None:
    """Conformance: "ServiceAccount lifecycle test", "ServiceAccount, update a ServiceAccount" """
    with api.watch("serviceaccounts", namespace, labels="test=static") as events:
        api.create(account("testserviceaccount", test="static"), namespace)
        assert next(events)["type"] == "ADDED"
        patch = {"automountServiceAccountToken": False}
        api.patch("sa", "testserviceaccount", patch, namespace)
        [found] = api.list("sa", labels="test=static")
        assert found["automountServiceAccountToken"] is False
        found["automountServiceAccountToken"] = True
        assert api.update(found)["automountServiceAccountToken"] is True
        api.request(
            "DELETE", f"/api/v1/namespaces/{namespace}/serviceaccounts", params={"labelSelector": "test=static"}
        )
        assert [next(events)["type"] for _ in range(3)] == ["MODIFIED", "MODIFIED", "DELETED"]


def test_a_token_is_made_and_reviewed(api: Api, namespace: str) -> None:
    """Conformance: "ServiceAccount, create and review token" """
    api.create(account("robot"), namespace)
    token = token_of(api, namespace, "robot")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["authenticated"] is True
    assert "error" not in status
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:robot"


def test_the_issuer_can_be_discovered(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "OIDC Discovery (ServiceAccountIssuerDiscovery)" """
    configuration = json.loads(api.read("/.well-known/openid-configuration"))
    keys = jwt.PyJWKSet.from_dict(json.loads(api.read("/openid/v1/jwks")))
    assert configuration["jwks_uri"].endswith("/openid/v1/jwks")
    token = token_of(api, namespace, "default", audiences=["oidc-discovery-test"])
    header = jwt.get_unverified_header(token)
    [key] = [one for one in keys.keys if one.key_id == header["kid"]]
    claims = jwt.decode(
        token,
        key.key,
        algorithms=configuration["id_token_signing_alg_values_supported"],
        audience="oidc-discovery-test",
        issuer=configuration["issuer"],
    )
    assert claims["sub"] == f"system:serviceaccount:{namespace}:default"
    assert claims["kubernetes.io"]["namespace"] == namespace


def test_every_namespace_has_the_authority(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "RootCA ConfigMap test" """
    name = "kube-root-ca.crt"

    def is_right(config_map: dict[str, Any]) -> bool:
        return config_map.get("data") == {"ca.crt": cluster.ca}

    first = api.wait_for("configmaps", name, is_right, namespace)
    api.delete("configmaps", name, namespace)
    api.wait_for(
        "configmaps", name, lambda one: one["metadata"]["uid"] != first["metadata"]["uid"] and is_right(one), namespace
    )
    api.patch("configmaps", name, {"data": {"ca.crt": "", "more": "x"}}, namespace)
    api.wait_for("configmaps", name, is_right, namespace)


def test_reviews_say_what_the_account_may_do(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "SubjectReview, API Operations" """
    api.create(account("e2e"), namespace)
    user = f"system:serviceaccount:{namespace}:e2e"
    for allowed in (False, True):
        if allowed:
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "view"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": namespace}],
            }
            api.create(binding, namespace)
        spec = {
            "user": user,
            "resourceAttributes": {"verb": "list", "resource": "configmaps", "namespace": namespace, "version": "v1"},
        }
        prefix = "/apis/authorization.k8s.io/v1"
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        local = {**review, "kind": "LocalSubjectAccessReview", "metadata": {"namespace": namespace}}
        assert api.request("POST", f"{prefix}/subjectaccessreviews", review)["status"]["allowed"] is allowed
        path = f"{prefix}/namespaces/{namespace}/localsubjectaccessreviews"
        assert api.request("POST", path, local)["status"]["allowed"] is allowed


def signing_request(name: str) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e.example.com")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": f"{name}-", "labels": {"run": name}},
        "spec": {
            "request": base64.b64encode(request.public_bytes(Encoding.PEM)).decode(),
            "signerName": "example.com/e2e",
            "usages": ["digital signature", "key encipherment", "server auth"],
            "expirationSeconds": 3600,
        },
    }


def test_signing_requests_have_every_operation(cluster: Cluster, api: Api) -> None:
    """Conformance: "CertificateSigningRequest API" """
    served = {one["name"]: set(one["verbs"]) for one in api.request("GET", "/apis/certificates.k8s.io/v1")["resources"]}
    every = {"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"}
    assert every <= served["certificatesigningrequests"]
    for subresource in ("approval", "status"):
        assert served[f"certificatesigningrequests/{subresource}"] == {"get", "patch", "update"}
    made = api.create(signing_request("e2e"))
    name, path = made["metadata"]["name"], "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    assert made["spec"]["username"] == "kubernetes-admin"
    assert api.list("csr", labels="run=e2e")[0]["metadata"]["name"] == name
    api.patch("csr", name, {"metadata": {"annotations": {"patched": "true"}}})
    body = api.get("csr", name)
    body["metadata"]["annotations"]["updated"] = "true"
    assert set(api.update(body)["metadata"]["annotations"]) == {"patched", "updated"}
    approval = api.request("GET", f"{path}/{name}/approval")
    condition = {"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    approval["status"] = {"conditions": [condition]}
    approved = api.update(approval, subresource="approval")
    assert approved["status"]["conditions"][0]["type"] == "Approved"
    annotation = {"metadata": {"annotations": {"patchedapproval": "true"}}}
    assert api.patch("csr", name, annotation, subresource="approval")["metadata"]["annotations"]["patchedapproval"]
    status = api.request("GET", f"{path}/{name}/status")
    status["status"]["certificate"] = base64.b64encode(cluster.ca.encode()).decode()
    assert api.update(status, subresource="status")["status"]["certificate"]
    assert api.patch("csr", name, {"metadata": {"annotations": {"s": "t"}}}, subresource="status")
    api.delete("csr", name)
    api.create(signing_request("e2e"))
    api.request("DELETE", path, params={"labelSelector": "run=e2e"})
    assert api.list("csr", labels="run=e2e") == []


@pytest.mark.parametrize(
    ("account_says", "pod_says", "mounted"),
    [
        (None, None, True),
        (True, None, True),
        (False, None, False),
        (None, True, True),
        (True, True, True),
        (False, True, True),
        (None, False, False),
        (True, False, False),
        (False, False, False),
    ],
)
def test_tokens_are_mounted_unless_declined(
    api: Api, namespace: str, account_says: bool | None, pod_says: bool | None, mounted: bool
) -> None:
    """Conformance: "Service account tokens auto mount optionally" """
    body = account("mount")
    if account_says is not None:
        body["automountServiceAccountToken"] = account_says
    api.create(body, namespace)
    spec: dict[str, Any] = {"serviceAccountName": "mount", "containers": [{"name": "main", "image": "x"}]}
    if pod_says is not None:
        spec["automountServiceAccountToken"] = pod_says
    pod = api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}, namespace)
    paths = [mount["mountPath"] for mount in pod["spec"]["containers"][0].get("volumeMounts", ())]
    assert paths == (["/var/run/secrets/kubernetes.io/serviceaccount"] if mounted else [])


def test_a_token_ends(api: Api, namespace: str) -> None:
    token = token_of(api, namespace, "default", expirationSeconds=600)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert abs(claims["exp"] - time.time() - 600) < 30


def test_pods_can_be_placed_on_two_nodes(api: Api) -> None:
    """Conformance: "Conformance tests minimum number of nodes." """
    usable = [node for node in api.list("nodes") if not node["spec"].get("taints")]
    assert len(usable) >= 2
