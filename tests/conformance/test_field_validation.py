"""Unknown and duplicate fields of built-in kinds under `fieldValidation=Strict`."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import Any
from urllib.error import HTTPError

from pinnace.testing import Cluster
from tests.conformance.samples import template


def post(cluster: Cluster, path: str, body: str, validation: str) -> tuple[int, dict[str, Any], list[str]]:
    """Status, answer and warnings."""
    tls = ssl.create_default_context(cadata=cluster.ca)
    tls.load_cert_chain(cluster.directory / "admin.crt", cluster.directory / "admin.key")
    url = f"{cluster.url}{path}?fieldValidation={validation}"
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, context=tls, timeout=30) as answer:
            return answer.status, json.loads(answer.read()), answer.headers.get_all("Warning") or []
    except HTTPError as error:
        return error.code, json.loads(error.read()), error.headers.get_all("Warning") or []


def deployment(name: str, *, metadata: str = "", spec: str = "") -> str:
    """A Deployment as JSON text with more text in its metadata and spec: duplicates cannot be said in a dict."""
    pods = json.dumps(template(app="a"))
    return (
        f'{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}"{metadata}}},'
        f' "spec": {{"selector": {{"matchLabels": {{"app": "a"}}}}, "template": {pods}, "replicas": 0{spec}}}}}'
    )


def test_a_built_in_kind_has_no_unknown_or_duplicate_fields(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Server side field validation, typed object" """
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    body = deployment("a", spec=', "unknown": 1, "paused": true, "paused": true')
    code, answer, _ = post(cluster, path, body, "Strict")
    assert code == 400
    assert "strict decoding error" in answer["message"]
    assert 'unknown field "spec.unknown"' in answer["message"]
    assert 'duplicate field "spec.paused"' in answer["message"]
    code, _, warnings = post(cluster, path, body, "Warn")
    assert code == 201
    assert any(r"unknown field \"spec.unknown\"" in warning for warning in warnings)
    code, _, warnings = post(cluster, path, deployment("b", spec=', "unknown": 1'), "Ignore")
    assert (code, warnings) == (201, [])


def test_metadata_has_no_unknown_fields(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Server side field validation, typed unknown metadata" """
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    code, answer, _ = post(cluster, path, deployment("a", metadata=', "unknownMeta": "x"'), "Strict")
    assert code == 400
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in answer["message"]
