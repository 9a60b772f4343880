"""Registered API servers: checked, told of, and passed on to with the name of who is calling."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.apis.resources import API_SERVICES, CONFIG_MAPS
from pinnace.apiserver import openapi_proto
from pinnace.apiserver.aggregation.availability import Verdict, endpoint
from pinnace.apiserver.aggregation.backend import Backend
from pinnace.apiserver.aggregation.documents import with_backends
from pinnace.apiserver.aggregation.openapi import added, told
from pinnace.apiserver.cache import Filter, Watcher
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj, get_in
from pinnace.store.sqlite import SqliteStore
from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, Writer
from pinnace.wire.server import serve
from pinnace.wire.tls import TlsConfig
from tests.apiserver.conftest import Cluster, options_for

GROUP = "/apis/wardle.example.com/v1alpha1"
SERVICES = "/api/v1/namespaces/default/services"
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
FLUNDERS = {
    "name": "flunders",
    "singularName": "flunder",
    "namespaced": True,
    "kind": "Flunder",
    "verbs": ["create", "delete", "get", "list", "watch"],
}
JSON = (("Content-Type", "application/json"),)
POD, FLUNDER = "io.k8s.api.core.v1.Pod", "io.example.wardle.v1alpha1.Flunder"
SWAGGER = {
    "swagger": "2.0",
    "info": {"title": "wardle", "version": "1"},
    "paths": {
        f"{GROUP}/flunders": {
            "get": {
                "operationId": "listFlunders",
                "responses": {"200": {"description": "OK", "schema": {"$ref": f"#/definitions/{FLUNDER}"}}},
            }
        },
        "/apis/elsewhere.example.com/v1/things": {"get": {"responses": {}}},
        "/version/": {"get": {"responses": {}}},
    },
    "definitions": {
        FLUNDER: {"type": "object", "properties": {"pod": {"$ref": f"#/definitions/{POD}"}}},
        POD: {"type": "object", "description": "a pod of another kind"},
        "io.example.Unused": {"type": "object"},
    },
}


@dataclass
class Extension:
    """A server of one kind, and what it was asked."""

    address: tuple[str, int] = ("", 0)
    asked: list[Request] = field(default_factory=list)
    objects: dict[str, Obj] = field(default_factory=dict)
    broken: bool = False
    has_v3: bool = True

    def handle(self, request: Request) -> AnyResponse:
        self.asked.append(request)
        if self.broken:
            return Response(500, (), b"broken")
        if request.path == GROUP:
            document = {
                "kind": "APIResourceList",
                "groupVersion": "wardle.example.com/v1alpha1",
                "resources": [FLUNDERS, {**FLUNDERS, "name": "flunders/status", "verbs": ["get"]}],
            }
            return Response(200, JSON, orjson.dumps(document))
        if request.path == "/openapi/v2":
            return Response(200, JSON, orjson.dumps(SWAGGER))
        if request.path.startswith("/openapi/v3") and not self.has_v3:
            return Response(404, (), b"404 page not found")
        if request.path == "/openapi/v3":
            url = f"/openapi/v3{GROUP}?hash=ABC"
            return Response(200, JSON, orjson.dumps({"paths": {GROUP[1:]: {"serverRelativeURL": url}}}))
        if request.path.endswith("/missing"):
            status = {"kind": "Status", "reason": "NotFound", "message": "flunder is missing", "code": 404}
            return Response(404, JSON, orjson.dumps(status))
        if "watch" in request.query:
            return StreamingResponse(self._watch, 200, JSON)
        if request.method == "POST":
            made = orjson.loads(request.body)
            self.objects[made["metadata"]["name"]] = made
            return Response(201, JSON, request.body)
        listed = {"kind": "FlunderList", "apiVersion": "wardle.example.com/v1alpha1", "metadata": {}}
        return Response(200, JSON, orjson.dumps({**listed, "items": list(self.objects.values())}))

    def asked_for(self, path: str) -> list[Request]:
        return [request for request in self.asked if request.path == path]

    async def _watch(self, writer: Writer) -> None:
        for made in self.objects.values():
            writer.write(orjson.dumps({"type": "ADDED", "object": made}) + b"\n")


@pytest.fixture
async def cluster(pki: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(tmp_path / "state.db")
    proxied = {"proxy_client_cert_file": pki / "admin.crt", "proxy_client_key_file": pki / "admin.key"}
    server = ApiServer(options_for(pki, **proxied), store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop()
        await store.close()


@pytest.fixture
async def extension(cluster: Cluster) -> AsyncIterator[Extension]:
    made = Extension()
    pki = cluster.pki
    tls = TlsConfig(pki / "server.crt", pki / "server.key", pki / "ca.crt", ("http/1.1",))
    server = await serve(made.handle, [("127.0.0.1", 0)], tls)
    made.address = server.addresses[0]
    try:
        yield made
    finally:
        await server.close(0)


SERVICE = {
    # endpoints must not be loopback addresses; a name may lead there
    "metadata": {"name": "api", "namespace": "default"},
    "spec": {"type": "ExternalName", "externalName": "localhost"},
}


def api_service(extension: Extension, **more: Any) -> Obj:
    spec = {
        "group": "wardle.example.com",
        "version": "v1alpha1",
        "groupPriorityMinimum": 2000,
        "versionPriority": 200,
        "service": {"name": "api", "namespace": "default", "port": extension.address[1]},
        "insecureSkipTLSVerify": True,
        **more,
    }
    return {"metadata": {"name": "v1alpha1.wardle.example.com"}, "spec": spec}


async def until(cluster: Cluster, name: str, check: Callable[[Obj], bool]) -> Obj:
    """The condition Available of an APIService when it passes."""
    cache = cluster.server.api.storage.cache(API_SERVICES)
    changed = asyncio.Event()
    leave = cache.watch(Watcher(Filter(), lambda *_: changed.set()))
    try:
        async with asyncio.timeout(60):
            while True:
                found = cache.get(name)
                conditions = get_in(found.obj(), "status", "conditions", default=()) if found else ()
                for condition in conditions:
                    if check(condition):
                        return dict(condition)
                await changed.wait()
                changed.clear()
    finally:
        leave()


def says(reason: str) -> Callable[[Obj], bool]:
    return lambda condition: condition.get("reason") == reason


async def register(cluster: Cluster, extension: Extension) -> None:
    await cluster.request("POST", SERVICES, SERVICE)
    await cluster.request("POST", APISERVICES, api_service(extension))
    await until(cluster, "v1alpha1.wardle.example.com", says("Passed"))


async def test_every_group_of_our_own_is_local_and_available(cluster: Cluster) -> None:
    condition = await until(cluster, "v1.apps", says("Local"))
    core = (await cluster.call("GET", f"{APISERVICES}/v1.")).json

    assert (condition["status"], condition["message"]) == ("True", "Local APIServices are always available")
    assert core["spec"] == {"groupPriorityMinimum": 18000, "version": "v1", "versionPriority": 1}
    assert core["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}


async def test_a_registered_server_is_told_why_it_is_not_available(cluster: Cluster, extension: Extension) -> None:
    name = "v1alpha1.wardle.example.com"
    await cluster.request("POST", APISERVICES, api_service(extension))
    missing = await until(cluster, name, says("ServiceNotFound"))
    refused = await cluster.call("GET", f"{GROUP}/namespaces/default/flunders")
    extension.broken = True
    await cluster.request("POST", SERVICES, SERVICE)
    failing = await until(cluster, name, says("FailedDiscoveryCheck"))
    extension.broken = False
    await until(cluster, name, says("Passed"))

    assert missing["message"] == 'service/api in "default" is not present'
    assert (refused.status, refused.json["message"]) == (503, "service unavailable")
    assert failing["message"].startswith("failing or missing response from https://localhost:")


async def test_requests_reach_it_with_the_name_of_who_calls(cluster: Cluster, extension: Extension) -> None:
    """Conformance: "aggregator-supports-the-sample-apiserver"."""
    await register(cluster, extension)
    extension.asked.clear()
    path = f"{GROUP}/namespaces/default/flunders"
    flunder = {"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "f"}}
    forged = {"X-Remote-User": "root", "X-Remote-Extra-Scopes": "all"}

    made = await cluster.call("POST", path, flunder, headers=forged)
    listed = await cluster.call("GET", f"{path}?labelSelector=a%3Db")
    watch = await cluster.watch(f"{path}?watch=1")
    event = await watch.next()

    first = extension.asked[0]
    assert (made.status, listed.json["items"][0]["metadata"]["name"]) == (201, "f")
    assert event is not None
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "f")
    assert (first.headers["x-remote-user"], first.headers["x-remote-group"]) == (
        "tester",
        "system:masters, system:authenticated",
    )
    assert not [name for name in first.headers if name.startswith("x-remote-extra") or name == "authorization"]
    assert first.peer.certificate, "the front-proxy certificate is shown"
    assert extension.asked[1].query == "labelSelector=a%3Db"


async def test_discovery_tells_of_it_in_the_order_of_priorities(cluster: Cluster, extension: Extension) -> None:
    await register(cluster, extension)

    groups = [group["name"] for group in (await cluster.call("GET", "/apis")).json["groups"]]
    one = (await cluster.call("GET", "/apis/wardle.example.com")).json
    resources = (await cluster.call("GET", GROUP)).json["resources"]
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    items = (await cluster.call("GET", "/apis", headers=accept)).json["items"]
    index = (await cluster.call("GET", "/openapi/v3")).json["paths"]

    assert groups[-1] == "wardle.example.com"
    assert one["preferredVersion"] == {"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"}
    assert resources[0] == FLUNDERS
    version = next(item for item in items if item["metadata"]["name"] == "wardle.example.com")["versions"][0]
    assert (version["version"], version["freshness"]) == ("v1alpha1", "Current")
    assert version["resources"][0]["resource"] == "flunders"
    assert version["resources"][0]["subresources"][0]["subresource"] == "status"
    assert "apis/wardle.example.com/v1alpha1" in index


async def test_openapi_tells_of_it_among_our_own(cluster: Cluster, extension: Extension) -> None:
    before = await cluster.call("GET", "/openapi/v2")
    await register(cluster, extension)

    after = await cluster.call("GET", "/openapi/v2")
    again = await cluster.call("GET", "/openapi/v2", headers={"If-None-Match": after.headers["etag"]})
    packed = await cluster.call("GET", "/openapi/v2", headers={"Accept": openapi_proto.CONTENT_TYPE})
    index = await cluster.call("GET", "/openapi/v3")
    same = await cluster.call("GET", "/openapi/v3", headers={"If-None-Match": index.headers["etag"]})

    own, whole = before.json, after.json
    assert whole["paths"].keys() - own["paths"].keys() == {f"{GROUP}/flunders"}
    assert whole["paths"]["/version/"] == own["paths"]["/version/"]
    assert whole["definitions"].keys() - own["definitions"].keys() == {FLUNDER, f"{POD}_v2"}
    assert whole["definitions"][FLUNDER]["properties"]["pod"] == {"$ref": f"#/definitions/{POD}_v2"}
    assert whole["definitions"][POD] == own["definitions"][POD]
    assert before.headers["etag"] != after.headers["etag"]
    assert again.status == 304
    assert f"{POD}_v2".encode() in packed.body
    assert index.json["paths"][GROUP[1:]] == {"serverRelativeURL": f"/openapi/v3{GROUP}?hash=ABC"}
    assert same.status == 304


async def test_a_server_without_version_3_of_openapi_has_its_documents_there_too(
    cluster: Cluster, extension: Extension
) -> None:
    extension.has_v3 = False
    await register(cluster, extension)

    index = (await cluster.call("GET", "/openapi/v3")).json["paths"]
    url = index[GROUP[1:]]["serverRelativeURL"]
    found = await cluster.call("GET", url)
    same = await cluster.call("GET", url, headers={"If-None-Match": found.headers["etag"]})

    assert found.status == 200
    assert found.headers["etag"].strip('"') in url
    assert same.status == 304
    assert found.json["info"] == SWAGGER["info"]
    answers = found.json["paths"][f"{GROUP}/flunders"]["get"]["responses"]
    schema = {"$ref": f"#/components/schemas/{FLUNDER}"}
    assert answers == {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
    pod = {"$ref": f"#/components/schemas/{POD}"}
    assert found.json["components"]["schemas"][FLUNDER] == {"type": "object", "properties": {"pod": pod}}


async def test_merged_discovery_is_made_once_for_all_who_ask(cluster: Cluster, extension: Extension) -> None:
    await register(cluster, extension)
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    public = cluster.server._public
    first = await cluster.call("GET", "/apis", headers=accept)
    kept = dict(public._merged)

    same = await cluster.call("GET", "/apis", headers={**accept, "If-None-Match": first.headers["etag"]})
    plain = await cluster.call("GET", "/apis")
    await cluster.request("DELETE", f"{APISERVICES}/v1alpha1.wardle.example.com")
    gone = await cluster.call("GET", "/apis", headers=accept)

    assert same.status == 304
    assert all(public._merged.get(key, document) is document for key, document in kept.items())
    assert "wardle.example.com" in [group["name"] for group in plain.json["groups"]]
    assert "wardle.example.com" not in [item["metadata"]["name"] for item in gone.json["items"]]
    assert gone.headers["etag"] != first.headers["etag"]


async def test_components_of_the_server_reach_it_too(cluster: Cluster, extension: Extension) -> None:
    """The garbage collector and its like are in the server's process, and see every group all the same."""
    await register(cluster, extension)
    path = f"{GROUP}/namespaces/default/flunders"
    flunder = {"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "f"}}

    resources = await cluster.request("GET", GROUP)
    made = await cluster.request("POST", path, flunder)
    listed = await cluster.request("GET", path, params={"labelSelector": "a=b"})
    missing = await cluster.refused("GET", f"{path}/missing")
    events = cluster.server.loopback_watch("system:admin", path, {"resourceVersion": "1"})
    event = await anext(events)
    await events.aclose()  # type: ignore[attr-defined] # a generator

    assert resources["resources"][0] == FLUNDERS
    assert made == flunder
    assert listed["items"] == [flunder]
    assert (missing.code, missing.reason, missing.message) == (404, "NotFound", "flunder is missing")
    assert (event["type"], event["object"]) == ("ADDED", flunder)
    listing, *_, watching = extension.asked_for(path)[1:]
    assert listing.query == "labelSelector=a%3Db"
    assert listing.headers["x-remote-user"] == "system:admin"
    assert sorted(watching.query.split("&")) == ["resourceVersion=1", "watch=1"]


def document(**definitions: Obj) -> Obj:
    """A document whose one path speaks of the definition `A`."""
    path = {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/A"}}}}}
    return {"paths": {"/apis/g.example/v1/as": path}, "definitions": definitions, "parameters": {}}


def part(**definitions: Obj) -> Obj:
    return told(orjson.dumps(document(**definitions)), b"", "g.example", "v1").part


@pytest.mark.parametrize(
    ("own", "parts", "definitions", "spoken_of"),
    [
        ({}, [{"A": {"type": "object"}}], {"A": {"type": "object"}}, "A"),
        ({"A": {"type": "object"}}, [{"A": {"type": "object"}}], {}, "A"),
        ({"A": {"type": "object"}}, [{"A": {"type": "string"}}], {"A_v2": {"type": "string"}}, "A_v2"),
        (
            {"A": {"type": "object"}, "A_v2": {"type": "array"}},
            [{"A": {"type": "string"}}],
            {"A_v3": {"type": "string"}},
            "A_v3",
        ),
        (
            {"A": {"type": "object", "x-kubernetes-group-version-kind": [1]}},
            [{"A": {"type": "object", "x-kubernetes-group-version-kind": [2]}}],
            {},
            "A",
        ),
        (
            {"B": {"type": "object"}},
            [{"A": {"items": {"$ref": "#/definitions/B"}}, "B": {"type": "string"}, "C": {}}],
            {"A": {"items": {"$ref": "#/definitions/B_v2"}}, "B_v2": {"type": "string"}},
            "A",
        ),
        ({}, [{"A": {"type": "string"}}, {"A": {"type": "object"}}], None, "A"),
    ],
    ids=["new", "equal", "other", "third", "kinds do not count", "below", "first server wins the path"],
)
def test_definitions_of_the_same_name_are_told_apart(
    own: Obj, parts: list[Obj], definitions: Obj | None, spoken_of: str
) -> None:
    more = added({"paths": {}, "definitions": own}, [part(**each) for each in parts])

    if definitions is not None:
        assert more["definitions"] == definitions
    schema = more["paths"]["/apis/g.example/v1/as"]["get"]["responses"]["200"]["schema"]
    assert schema == {"$ref": f"#/definitions/{spoken_of}"}


@pytest.mark.parametrize(
    "wrong",
    [b"", b"{", b"[]", b'{"paths": 1}', b'{"paths": {"/apis/g.example/v1/a": 1}}', orjson.dumps(document())],
)
def test_a_document_that_cannot_be_read_counts_for_nothing(wrong: bytes) -> None:
    assert told(wrong, wrong, "g.example", "v1").part == {}


async def test_a_removed_registration_is_gone_and_a_certificate_must_hold(
    cluster: Cluster, extension: Extension
) -> None:
    await register(cluster, extension)
    bundle = base64.b64encode((cluster.pki / "ca.crt").read_bytes()).decode()
    strict = api_service(extension, insecureSkipTLSVerify=False, caBundle=bundle)
    found = await cluster.request("GET", f"{APISERVICES}/v1alpha1.wardle.example.com")
    await cluster.request("PUT", f"{APISERVICES}/v1alpha1.wardle.example.com", {**found, "spec": strict["spec"]})
    failing = await until(cluster, "v1alpha1.wardle.example.com", says("FailedDiscoveryCheck"))
    await cluster.request("DELETE", f"{APISERVICES}/v1alpha1.wardle.example.com")
    gone = await cluster.call("GET", f"{GROUP}/namespaces/default/flunders")

    assert "CERTIFICATE_VERIFY_FAILED" in failing["message"], "the server has no certificate for api.default.svc"
    assert gone.status == 404


async def test_custom_groups_have_an_api_service_as_long_as_they_are_served(cluster: Cluster) -> None:
    definition = {
        "metadata": {"name": "boats.sea.example.com"},
        "spec": {
            "group": "sea.example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await cluster.request("POST", definitions, definition)
    await until(cluster, "v1.sea.example.com", says("Local"))
    gone = asyncio.Event()
    cache = cluster.server.api.storage.cache(API_SERVICES)
    leave = cache.watch(
        Watcher(Filter(name="v1.sea.example.com"), lambda kind, *_: gone.set() if kind == "DELETED" else None)
    )

    await cluster.request("DELETE", f"{definitions}/boats.sea.example.com")

    async with asyncio.timeout(60):
        await gone.wait()
    leave()


async def test_who_calls_is_told_again_when_somebody_deletes_it(cluster: Cluster) -> None:
    told = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    first = await cluster.request("GET", told)
    cache = cluster.server.api.storage.cache(CONFIG_MAPS)
    again = asyncio.Event()
    which = Filter("kube-system", "extension-apiserver-authentication")
    leave = cache.watch(Watcher(which, lambda kind, *_: again.set() if kind == "ADDED" else None))

    await cluster.request("DELETE", told)

    async with asyncio.timeout(60):
        await again.wait()
    leave()
    assert (await cluster.request("GET", told))["data"] == first["data"]


def backend(version: str, priority: int) -> Backend:
    spec = {"group": "g.example", "version": version, "groupPriorityMinimum": 1500, "versionPriority": priority}
    made = {"metadata": {"name": f"{version}.g.example"}, "spec": spec}
    return Backend(made, None, None)  # type: ignore[arg-type] # neither asked nor located here


def test_a_groups_versions_come_by_the_priority_they_ask_for() -> None:
    document = with_backends("/apis/g.example", None, [backend("v1", 10), backend("v1beta1", 20)])

    assert document is not None
    group = orjson.loads(document[1])
    assert [entry["version"] for entry in group["versions"]] == ["v1beta1", "v1"]
    assert group["preferredVersion"]["version"] == "v1beta1"


REFERENCE = {"namespace": "default", "name": "api", "port": 443}
PORTS = [{"name": "https", "port": 443}]


def endpoint_slice(ready: bool = True, port: str = "https") -> Obj:
    return {
        "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": ready}}],
        "ports": [{"name": port, "port": 8443}],
    }


@pytest.mark.parametrize(
    ("service", "slices", "found"),
    [
        (None, [], ("ServiceNotFound", 'service/api in "default" is not present')),
        ({"spec": {"ports": []}}, [], ("ServicePortError", 'service/api in "default" is not listening on port 443')),
        (
            {"spec": {"ports": PORTS}},
            [],
            ("EndpointsNotFound", 'cannot find endpointslices for service/api in "default"'),
        ),
        (
            {"spec": {"ports": PORTS}},
            [endpoint_slice(ready=False), endpoint_slice(port="http")],
            (
                "MissingEndpoints",
                'endpointslices for service/api in "default" have no addresses with port name "https"',
            ),
        ),
        ({"spec": {"ports": PORTS}}, [endpoint_slice()], ("10.0.0.7", 8443)),
        ({"spec": {"type": "ExternalName", "externalName": "elsewhere"}}, [], ("elsewhere", 443)),
    ],
)
def test_where_a_server_listens(service: Obj | None, slices: list[Obj], found: tuple[object, ...]) -> None:
    where = endpoint(REFERENCE, service, slices)

    assert (where[1:] if isinstance(where, Verdict) else tuple(where)) == found
