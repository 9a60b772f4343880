"""OpenAPI documents, read by ourselves and by real kubectl."""

from __future__ import annotations

import gzip
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.apis.registry import registry
from pinnace.apiserver.discovery import Discovery
from pinnace.apiserver.openapi import PROTOBUF_ACCEPT, OpenApi
from pinnace.machinery.schema import Schemas
from tests.support.kubectl import kubectls

KUBECTLS = [Path(program) for program in kubectls()]


def make(minor: int) -> OpenApi:
    return OpenApi(Schemas.load(minor), registry(minor).kinds, f"v1.{minor}.0")


@pytest.fixture(scope="module")
def openapi() -> OpenApi:
    return make(Schemas.minors()[-1])


def get(openapi: OpenApi, path: str, accept: str = "application/json") -> Any:
    document = openapi.document(path, accept)
    assert document is not None
    return orjson.loads(document.body)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_the_index_names_every_group_and_version_with_its_hash(openapi: OpenApi) -> None:
    paths = get(openapi, "/openapi/v3")["paths"]

    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2"} <= paths.keys()
    for name, entry in paths.items():
        path, _, digest = entry["serverRelativeURL"].partition("?hash=")
        document = openapi.document(path, hash_asked=digest)
        assert path == f"/openapi/v3/{name}"
        assert document is not None
        assert document.etag == f'"{digest}"'
        assert document.immutable


@pytest.mark.parametrize("minor", [Schemas.minors()[0], Schemas.minors()[-1]])
def test_every_reference_leads_somewhere(minor: int) -> None:
    openapi = make(minor)
    documents = [get(openapi, f"/openapi/v3/{name}") for name in get(openapi, "/openapi/v3")["paths"]]

    for document in [*documents, get(openapi, "/openapi/v2")]:
        places = {f"#/components/schemas/{name}" for name in document.get("components", {}).get("schemas", {})}
        places |= {f"#/definitions/{name}" for name in document.get("definitions", {})}
        assert set(references(document)) <= places


def test_operations_have_unique_names(openapi: OpenApi) -> None:
    paths = get(openapi, "/openapi/v2")["paths"]

    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(names) == len(set(names))
    assert {
        "listCoreV1PodForAllNamespaces",
        "readCoreV1NamespacedPodLog",
        "replaceAppsV1NamespacedDeploymentScale",
    } <= set(names)


def test_an_operation_says_what_it_acts_on(openapi: OpenApi) -> None:
    document = get(openapi, "/openapi/v3/apis/apps/v1")
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]

    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]


def test_schemas_carry_merge_keys_kinds_and_descriptions(openapi: OpenApi) -> None:
    schemas = get(openapi, "/openapi/v3/api/v1")["components"]["schemas"]

    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["items"] == {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}
    pod = schemas["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "Pod"}]
    assert pod["description"]
    assert pod["properties"]["spec"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]
    quantity = schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    assert quantity["oneOf"] == [{"type": "string"}, {"type": "number"}]


def test_bodies_are_compressed_for_who_takes_it(openapi: OpenApi) -> None:
    packed = openapi.document("/openapi/v2", accept_encoding="gzip")
    plain = openapi.document("/openapi/v2")

    assert packed is not None
    assert plain is not None
    assert (packed.content_encoding, plain.content_encoding) == ("gzip", "")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < 400_000


def test_version_2_comes_as_protobuf_to_who_asks(openapi: OpenApi) -> None:
    document = openapi.document("/openapi/v2", PROTOBUF_ACCEPT)

    assert document is not None
    assert document.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert document.body.startswith(b"\x0a\x032.0")
    assert document.etag != openapi.document("/openapi/v2").etag  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["/openapi", "/openapi/v3/apis/nothing/v1", "/openapi/v4", "/openapi/v3/api/v2"])
def test_other_paths_have_no_document(openapi: OpenApi, path: str) -> None:
    assert openapi.document(path) is None


@pytest.fixture(scope="module")
def server(openapi: OpenApi) -> Iterator[str]:
    """Discovery and OpenAPI over plain HTTP; whatever is created is answered as it came."""
    discovery = Discovery(registry().groups(), registry().kinds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base class names it
            path = self.path.partition("?")[0]
            accept = self.headers.get("Accept", "")
            if found := discovery.document(path, accept):
                self.answer(200, found[0], found[1])
            elif document := openapi.document(path, accept, self.headers.get("Accept-Encoding", "")):
                self.answer(200, document.content_type, document.body, document.content_encoding)
            else:
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                self.answer(404, "application/json", orjson.dumps(status))

        def do_POST(self) -> None:  # the base class names it
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201, "application/json", body)

        def answer(self, code: int, content_type: str, body: bytes, encoding: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def kubectl(binary: Path, server: str, home: Path, *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [binary, "--server", server, "--cache-dir", home, *arguments],
        input=stdin,
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: default}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: x, image: y}]}}
"""


@pytest.mark.skipif(not KUBECTLS, reason="kubectl is not installed")
@pytest.mark.parametrize("binary", KUBECTLS, ids=lambda path: path.name)
def test_kubectl_explains_and_applies(binary: Path, server: str, tmp_path: Path) -> None:
    explained = kubectl(binary, server, tmp_path, "explain", "deployment.spec.strategy")
    assert "FIELD: strategy <DeploymentStrategy>" in explained
    assert "rollingUpdate\t<RollingUpdateDeployment>" in explained
    older = kubectl(binary, server, tmp_path, "explain", "pods.spec.containers", "--output=plaintext-openapiv2")
    assert "imagePullPolicy" in older

    created = kubectl(binary, server, tmp_path, "apply", "-f", "-", stdin=DEPLOYMENT)

    assert created == "deployment.apps/a created\n"


@pytest.mark.skipif(not KUBECTLS, reason="kubectl is not installed")
def test_kubectl_lists_every_resource(server: str, tmp_path: Path) -> None:
    names = kubectl(KUBECTLS[-1], server, tmp_path, "api-resources", "--output=name").split()

    assert sorted(names) == sorted({kind.qualified for kind in registry().kinds})
