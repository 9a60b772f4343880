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

from pinnace.apis.registry import Registry, registry
from pinnace.apiserver import routes
from pinnace.apiserver.discovery import Discovery, subresources_of
from pinnace.apiserver.openapi import PROTOBUF_ACCEPT, OpenApi
from pinnace.apiserver.request_info import parse_request
from pinnace.machinery.schema import Schemas
from tests.support.kubectl import kubectls

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
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

    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/apps", "api", "apis", "version"} <= paths.keys()
    assert {".well-known/openid-configuration", "openid/v1/jwks"} <= paths.keys()
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
        places |= {f"#/parameters/{name}" for name in document.get("parameters", {})}
        assert set(references(document)) <= places


def test_operations_have_unique_names(openapi: OpenApi) -> None:
    paths = get(openapi, "/openapi/v2")["paths"]

    names = [one["operationId"] for item in paths.values() for method, one in item.items() if method in METHODS]
    assert len(names) == len(set(names))
    assert {
        "listCoreV1PodForAllNamespaces",
        "readCoreV1NamespacedPodLog",
        "replaceAppsV1NamespacedDeploymentScale",
    } <= set(names)


def operations(document: Any) -> dict[tuple[str, str], Any]:
    """By path and method; parameters of the path are put to each operation."""
    found = {}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                parameters = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                found[path, method] = {**item[method], "parameters": parameters}
    return found


@pytest.mark.parametrize("minor", [Schemas.minors()[0], Schemas.minors()[-1]])
def test_what_is_told_is_served_and_what_is_served_is_told(minor: int) -> None:
    """Each way: from an operation's path to its handler, and from every kind's verbs to their operations."""
    served = Registry(minor)
    told = operations(get(OpenApi(Schemas.load(minor), served.kinds, ""), "/openapi/v2"))
    outside = set()
    for path, method in told:
        info = parse_request(method.upper(), path)
        if not info.is_resource:
            outside.add(path)
            continue
        kind = served.by_gvr(info.gvr)
        assert kind is not None, path
        watched = info.verb == "watch"
        routes.find(kind, info._replace(verb="list") if watched else info)  # raises for what is not served
    expected = set()
    for kind in served.kinds:
        namespace = "{namespace}" if kind.namespaced else ""
        for verb in kind.verbs:
            method = {"create": "post", "update": "put", "list": "get", "deletecollection": "delete"}.get(verb, verb)
            name = "{name}" if verb in ("get", "update", "patch", "delete") else ""
            expected.add((kind.gvr.path(namespace, name), "get" if verb == "watch" else method))
        for one in subresources_of(kind):
            path = kind.gvr.path(namespace, "{name}", one.name)
            expected |= {(path, {"create": "post", "update": "put"}.get(verb, verb)) for verb in one.verbs}
    assert expected <= told.keys()
    assert {"/api/", "/apis/", "/version/", "/apis/apps/", "/openid/v1/jwks/"} <= outside


def test_watches_of_old_are_told_of(openapi: OpenApi) -> None:
    told = operations(get(openapi, "/openapi/v2"))
    names = {
        "/api/v1/watch/pods": ("watchCoreV1PodListForAllNamespaces", "watchlist"),
        "/api/v1/watch/namespaces/{namespace}/pods": ("watchCoreV1NamespacedPodList", "watchlist"),
        "/api/v1/watch/namespaces/{namespace}/pods/{name}": ("watchCoreV1NamespacedPod", "watch"),
        "/api/v1/watch/namespaces/{name}": ("watchCoreV1Namespace", "watch"),
        "/apis/storage.k8s.io/v1/watch/storageclasses": ("watchStorageV1StorageClassList", "watchlist"),
    }

    for path, (name, action) in names.items():
        operation = told[path, "get"]
        assert (operation["operationId"], operation["x-kubernetes-action"]) == (name, action)
        assert operation["responses"]["200"]["schema"]["$ref"].endswith(".WatchEvent")
        assert "application/json;stream=watch" in operation["produces"]
    assert ("/api/v1/watch/componentstatuses", "get") not in told


def test_proxies_take_every_method_on_every_path(openapi: OpenApi) -> None:
    told = operations(get(openapi, "/openapi/v2"))

    for method in METHODS:
        operation = told["/api/v1/nodes/{name}/proxy/{path}", method]
        assert operation["operationId"] == f"connectCoreV1{method.capitalize()}NodeProxyWithPath"
        assert operation["x-kubernetes-group-version-kind"]["kind"] == "NodeProxyOptions"


def test_what_all_operations_of_a_path_take_stands_beside_them(openapi: OpenApi) -> None:
    old = get(openapi, "/openapi/v2")
    item = old["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]
    shared = [one.get("$ref", one.get("name")).removeprefix("#/parameters/") for one in item["parameters"]]
    new = get(openapi, "/openapi/v3/api/v1")["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]

    assert [name.partition("-")[0] for name in shared] == ["name", "namespace", "pretty"]
    assert old["parameters"][shared[1]]["required"]
    assert [one["name"] for one in new["parameters"]] == ["name", "namespace", "pretty"]
    assert "parameters" not in new["get"]
    in_place = [one["name"] for one in item["patch"]["parameters"] if "name" in one]
    assert in_place == ["dryRun", "fieldValidation"], "old kubectls look for them here"


@pytest.mark.parametrize(
    ("path", "method", "description"),
    [
        ("/api/v1/namespaces/{namespace}/events", "post", "create an Event"),
        ("/api/v1/namespaces/{namespace}/endpoints", "post", "create Endpoints"),
        ("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}", "delete", "delete an Ingress"),
        ("/api/v1/namespaces/{namespace}/pods", "delete", "delete collection of Pod"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/binding", "post", "create binding of a Pod"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/log", "get", "read log of the specified Pod"),
        ("/api/v1/namespaces/{name}/finalize", "put", "replace finalize of the specified Namespace"),
        ("/api/v1/componentstatuses", "get", "list objects of kind ComponentStatus"),
        ("/apis/apps/v1/", "get", "get available resources"),
        ("/apis/apps/", "get", "get information of a group"),
    ],
)
def test_operations_are_described(openapi: OpenApi, path: str, method: str, description: str) -> None:
    assert get(openapi, "/openapi/v2")["paths"][path][method]["description"] == description


def test_a_deleted_object_is_answered_where_the_server_answers_it(openapi: OpenApi) -> None:
    told = operations(get(openapi, "/openapi/v2"))

    def answer(path: str) -> str:
        return str(told[path, "delete"]["responses"]["200"]["schema"]["$ref"]).rpartition(".")[2]

    assert answer("/api/v1/namespaces/{namespace}/pods/{name}") == "Pod"
    assert answer("/apis/storage.k8s.io/v1/storageclasses/{name}") == "StorageClass"
    assert answer("/api/v1/namespaces/{namespace}/configmaps/{name}") == "Status"
    assert answer("/api/v1/namespaces/{namespace}/pods") == "Status"


def test_an_operation_says_what_it_acts_on(openapi: OpenApi) -> None:
    document = get(openapi, "/openapi/v3/apis/apps/v1")
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]

    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert patch["requestBody"]["required"]
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
