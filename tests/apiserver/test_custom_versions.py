"""Custom resources of several versions: conversion by name and by webhook, storage versions that change."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pinnace.apiserver.customresources.instances import AT_ONCE
from pinnace.machinery.meta import Obj
from pinnace.store.contract import Store
from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import DEFINITIONS, GROUP, MERGE, cron_tab, definition, established, version
from tests.apiserver.hooks import Hooks, patch, register

HOST_PORT: Obj = {"type": "object", "properties": {"hostPort": {"type": "string"}}}
HOST_AND_PORT: Obj = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
PATH = f"{DEFINITIONS}/crontabs.{GROUP}"


@pytest.fixture
def store(each_store: Store) -> Store:
    return each_store


def objects(served: str, name: str = "") -> str:
    return f"/apis/{GROUP}/{served}/namespaces/default/crontabs" + (f"/{name}" if name else "")


class Converter:
    """A webhook that splits `hostPort` of v1 into `host` and `port` of v2, and back; or answers what it is told."""

    def __init__(self, pki: Path) -> None:
        self.port = 0
        self.bundle = base64.b64encode((pki / "ca.crt").read_bytes()).decode()
        self.asked: list[Obj] = []
        self.answer: Any = None  # a function of the request, where it is not to convert
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pki / "server.crt", pki / "server.key")

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = runner.addresses[0][1]
        return runner

    async def _handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        self.asked.append(asked)
        response = (self.answer or self.convert)(asked)
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    @staticmethod
    def convert(asked: Obj) -> Obj:
        converted = [_convert(obj, asked["desiredAPIVersion"]) for obj in asked["objects"]]
        return {"uid": asked["uid"], "convertedObjects": converted, "result": {"status": "Success"}}

    def strategy(self, *review_versions: str) -> Obj:
        client = {"url": f"https://127.0.0.1:{self.port}/convert", "caBundle": self.bundle}
        versions = list(review_versions or ("v1",))
        return {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": versions}}


def _convert(obj: Obj, wanted: str) -> Obj:
    new = {**obj, "apiVersion": wanted}
    if wanted.endswith("/v2"):
        host, _, port = new.pop("hostPort", "").partition(":")
        return {**new, "host": host, "port": port}
    return {**new, "hostPort": f"{new.pop('host', '')}:{new.pop('port', '')}"}


@pytest.fixture
async def converter(pki: Path) -> AsyncIterator[Converter]:
    made = Converter(pki)
    runner = await made.start()
    try:
        yield made
    finally:
        await runner.cleanup()


def two_versions(*, stored: str = "v1", **more: Any) -> list[Obj]:
    return [
        version("v1", {**HOST_PORT, **more}, storage=stored == "v1"),
        version("v2", HOST_AND_PORT, storage=stored == "v2"),
    ]


def converted(converter: Converter, *review_versions: str, **more: Any) -> Obj:
    return definition(*two_versions(**more), conversion=converter.strategy(*review_versions))


# Strategy None.


async def test_without_a_webhook_versions_differ_by_name_and_pruning(cluster: Cluster) -> None:
    await established(cluster, definition(*two_versions()))
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:1"))

    found = await cluster.call("GET", objects("v2", "a"))
    listed = await cluster.call("GET", objects("v2"))

    assert found.json["apiVersion"] == f"{GROUP}/v2"
    assert "hostPort" not in found.json
    assert (listed.json["apiVersion"], listed.json["items"][0]["apiVersion"]) == (f"{GROUP}/v2", f"{GROUP}/v2")
    made = await cluster.call("POST", objects("v2"), cron_tab("b", f"{GROUP}/v2"))
    assert (made.status, made.json["apiVersion"]) == (201, f"{GROUP}/v2")
    assert (await cluster.call("GET", objects("v1", "b"))).json["apiVersion"] == f"{GROUP}/v1"


async def test_watches_of_every_version_see_every_change(cluster: Cluster) -> None:
    await established(cluster, definition(*two_versions()))
    watch = await cluster.watch(f"{objects('v2')}?watch=1")

    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:1"))
    await cluster.call("DELETE", objects("v2", "a"))

    assert await watch.take(2) == [("ADDED", "a"), ("DELETED", "a")]
    watch.close()


async def test_a_storage_version_that_changes_is_remembered_and_rewritten(cluster: Cluster) -> None:
    await established(cluster, definition(*two_versions()))
    await cluster.call("POST", objects("v1"), cron_tab())
    key = f"/registry/{GROUP}/crontabs/default/a"

    changed = await cluster.call("PATCH", PATH, {"spec": {"versions": two_versions(stored="v2")}}, content_type=MERGE)
    assert changed.json["status"]["storedVersions"] == ["v1", "v2"]
    stored = await cluster.store.get(key)
    assert stored is not None
    assert b'"apiVersion":"stable.example.com/v1"' in stored.value

    found = (await cluster.call("GET", objects("v2", "a"))).json
    again = await cluster.call("PUT", objects("v2", "a"), found)

    assert again.status == 200
    stored = await cluster.store.get(key)
    assert stored is not None
    assert b'"apiVersion":"stable.example.com/v2"' in stored.value
    assert (await cluster.call("GET", objects("v1", "a"))).json["apiVersion"] == f"{GROUP}/v1"
    only = {"spec": {"versions": two_versions(stored="v2")[1:]}}
    refused = await cluster.call("PATCH", PATH, only, content_type=MERGE)
    assert "v1 was previously a storage version" in refused.json["message"]
    migrated = await cluster.call("PATCH", f"{PATH}/status", {"status": {"storedVersions": ["v2"]}}, content_type=MERGE)
    assert migrated.status == 200
    assert (await cluster.call("PATCH", PATH, only, content_type=MERGE)).status == 200
    assert (await cluster.call("GET", objects("v1", "a"))).status == 404


# Strategy Webhook.


@pytest.mark.parametrize("review", ["v1", "v1beta1"])
async def test_a_webhook_converts_what_is_read(cluster: Cluster, converter: Converter, review: str) -> None:
    """Conformance: "Custom Resource Definition Conversion Webhook, conversion custom resource"."""
    await established(cluster, converted(converter, review))
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="localhost:8080"))
    assert not converter.asked

    found = (await cluster.call("GET", objects("v2", "a"))).json

    assert (found["apiVersion"], found["host"], found["port"]) == (f"{GROUP}/v2", "localhost", "8080")
    assert "hostPort" not in found
    assert converter.asked[0]["desiredAPIVersion"] == f"{GROUP}/v2"


async def test_a_webhook_converts_what_is_written(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))

    made = await cluster.call("POST", objects("v2"), cron_tab(api_version=f"{GROUP}/v2", host="h", port="1"))
    assert made.status == 201
    assert (made.json["host"], made.json["port"]) == ("h", "1")
    assert (await cluster.call("GET", objects("v1", "a"))).json["hostPort"] == "h:1"
    patched = await cluster.call("PATCH", objects("v2", "a"), {"port": "2"}, content_type=MERGE)
    assert patched.json["port"] == "2"
    assert (await cluster.call("GET", objects("v1", "a"))).json["hostPort"] == "h:2"
    assert (await cluster.call("DELETE", objects("v2", "a"))).status == 200
    assert (await cluster.call("GET", objects("v2", "a"))).status == 404


async def test_a_list_of_mixed_versions_is_converted(cluster: Cluster, converter: Converter) -> None:
    """Conformance: "Custom Resource Definition Conversion Webhook, convert mixed version list"."""
    await established(cluster, converted(converter))
    await cluster.call("POST", objects("v1"), cron_tab("old", hostPort="a:1"))
    changed = {"spec": {"versions": two_versions(stored="v2")}}
    assert (await cluster.call("PATCH", PATH, changed, content_type=MERGE)).status == 200
    await cluster.call("POST", objects("v1"), cron_tab("new", hostPort="b:2"))

    newer = (await cluster.call("GET", objects("v2"))).json["items"]
    older = (await cluster.call("GET", objects("v1"))).json["items"]

    assert [(item["metadata"]["name"], item["host"], item["port"]) for item in newer] == [
        ("new", "b", "2"),
        ("old", "a", "1"),
    ]
    assert [item["hostPort"] for item in older] == ["b:2", "a:1"]


async def test_watches_are_converted_in_order(cluster: Cluster, converter: Converter) -> None:
    """Conformance: "custom-resource-definition-field-selectors-list-watch-register-informers"."""
    versions = two_versions()
    versions[1]["selectableFields"] = [{"jsonPath": ".host"}]
    await established(cluster, definition(*versions, conversion=converter.strategy()))
    watch = await cluster.watch(f"{objects('v2')}?watch=1&fieldSelector=host%3Da")
    for index in range(20):
        made = await cluster.call(
            "POST", objects("v1"), cron_tab(f"x{index:02}", hostPort=f"{'ab'[index % 2]}:{index}")
        )
        assert made.status == 201

    events = [await watch.next() for _ in range(10)]

    assert [event["object"]["port"] for event in events if event] == [str(index) for index in range(0, 20, 2)]
    listed = await cluster.call("GET", f"{objects('v2')}?fieldSelector=host%3Db")
    assert [item["port"] for item in listed.json["items"]] == [str(index) for index in range(1, 20, 2)]
    await cluster.call("PATCH", objects("v1", "x00"), {"hostPort": "b:0"}, content_type=MERGE)
    assert await watch.take(1) == [("DELETED", "x00")]
    watch.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"result": {"status": "Failure", "message": "no way"}},
            "conversion webhook for stable.example.com/v1, Kind=CronTab failed: no way",
        ),
        (
            {"result": {"status": "Success"}, "convertedObjects": []},
            "conversion webhook for stable.example.com/v1, Kind=CronTab returned 0 objects, expected 1",
        ),
        (
            {"result": {"status": "Success"}, "convertedObjects": [{"apiVersion": "v1", "kind": "Pod"}]},
            (
                "conversion webhook for stable.example.com/v1, Kind=CronTab returned invalid converted object at index "
                "0: invalid groupVersion (expected stable.example.com/v2, received v1)"
            ),
        ),
        (None, "conversion webhook for stable.example.com/v1, Kind=CronTab failed: no response provided"),
    ],
)
async def test_a_webhook_that_fails_fails_the_read_and_is_asked_again(
    cluster: Cluster, converter: Converter, answer: Obj | None, message: str
) -> None:
    await established(cluster, converted(converter))
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:1"))
    converter.answer = lambda asked: answer and {"uid": asked["uid"], **answer}

    for path in (objects("v2", "a"), objects("v2")):
        failed = await cluster.call("GET", path)
        assert failed.status == 500
        assert failed.json["message"] == message
    assert (await cluster.call("GET", objects("v1", "a"))).status == 200

    converter.answer = None
    assert (await cluster.call("GET", objects("v2", "a"))).json["host"] == "a"


async def test_a_webhook_that_is_not_there_is_named(cluster: Cluster, converter: Converter) -> None:
    given = converted(converter)
    given["spec"]["conversion"]["webhook"]["clientConfig"] = {"service": {"namespace": "default", "name": "none"}}
    await established(cluster, given)
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:1"))

    failed = await cluster.call("GET", objects("v2", "a"))

    assert failed.status == 500
    assert failed.json["message"] == (
        'conversion webhook for stable.example.com/v1, Kind=CronTab failed: service "none" not found'
    )


async def test_readers_wait_for_the_conversion_of_what_was_written_before(
    cluster: Cluster, converter: Converter
) -> None:
    await established(cluster, converted(converter))
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:0"))
    assert (await cluster.call("GET", objects("v2", "a"))).json["port"] == "0"

    async def write_and_read(index: int) -> None:
        name = f"n{index}"
        await cluster.call("POST", objects("v1"), cron_tab(name, hostPort=f"h:{index}"))
        found = await cluster.call("GET", objects("v2", name))
        assert (found.status, found.json["port"]) == (200, str(index))

    await asyncio.gather(*(write_and_read(index) for index in range(20)))


async def test_metadata_survives_a_careless_webhook(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))
    made = cron_tab(hostPort="a:1")
    made["metadata"]["labels"] = {"kept": "yes"}
    uid = (await cluster.call("POST", objects("v1"), made)).json["metadata"]["uid"]

    def careless(asked: Obj) -> Obj:
        answer = converter.convert(asked)
        for obj in answer["convertedObjects"]:
            meta = obj["metadata"]
            obj["metadata"] = {key: meta[key] for key in ("name", "namespace", "uid", "labels")}
            obj["metadata"] |= {"generation": 77, "annotations": {"by": "webhook"}}
        return answer

    converter.answer = careless
    meta = (await cluster.call("GET", objects("v2", "a"))).json["metadata"]

    assert (meta["uid"], meta["generation"], meta["labels"]) == (uid, 1, {"kept": "yes"})
    assert meta["annotations"] == {"by": "webhook"}
    assert meta["creationTimestamp"]


async def test_admission_webhooks_see_custom_resources_in_the_version_they_name(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, mutate custom resource",
    "Admission webhook, mutate custom resource with different stored version",
    "Admission webhook, mutate custom resource with pruning"."""
    both = {"type": "object", "properties": {**HOST_PORT["properties"], **HOST_AND_PORT["properties"]}}
    await established(cluster, definition(version("v1", both, storage=False), version("v2", both)))
    hooks.answers["/add"] = patch(
        {"op": "add", "path": "/hostPort", "value": "h:1"}, {"op": "add", "path": "/odd", "value": 1}
    )
    webhook = hooks.webhook("add", "/add", "crontabs")
    webhook["rules"][0] |= {"apiVersions": ["v1"], "operations": ["CREATE"]}
    await register(cluster, "Mutating", "crd", webhook)

    first = await cluster.call("POST", objects("v1"), cron_tab())
    assert (first.status, first.json.get("hostPort"), "odd" in first.json) == (201, "h:1", False)
    second = await cluster.call("POST", objects("v2"), cron_tab("b", f"{GROUP}/v2", host="x"))
    assert (second.status, second.json["host"]) == (201, "x")
    assert [asked["object"]["apiVersion"] for _, asked in hooks.asked] == [f"{GROUP}/v1"] * 2
    assert hooks.asked[1][1]["requestResource"]["version"] == "v2"


async def test_admission_webhooks_can_refuse_custom_resources(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, deny custom resource create and delete",
    "Admission webhook, deny custom resource definition"."""
    await established(cluster, definition())
    made = cron_tab("held", spec={"image": "x"})
    assert (await cluster.call("POST", objects("v1"), made)).status == 201
    hooks.answers["/deny"] = lambda _: {"allowed": False, "status": {"message": "no"}}
    await register(
        cluster,
        "Validating",
        "crd",
        hooks.webhook("objects", "/deny", "crontabs"),
        hooks.webhook("definitions", "/deny", "customresourcedefinitions"),
    )

    refused = 'admission webhook "objects.example.com" denied the request: no'
    assert (await cluster.call("POST", objects("v1"), cron_tab())).json["message"] == refused
    assert (await cluster.call("DELETE", objects("v1", "held"))).json["message"] == refused
    other = await cluster.call("POST", DEFINITIONS, definition(plural="others", kind="Other"))
    assert other.json["message"] == 'admission webhook "definitions.example.com" denied the request: no'
    assert (await cluster.call("GET", objects("v1", "held"))).status == 200


async def test_certificates_of_a_webhook_in_use_must_be_some(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))
    broken = {"conversion": {"webhook": {"clientConfig": {"caBundle": base64.b64encode(b"none").decode()}}}}

    answer = await cluster.call("PATCH", PATH, {"spec": broken}, content_type=MERGE)

    assert answer.status == 422
    assert "webhookClientConfig.caBundle" in answer.json["message"]
    assert "unable to parse bytes as PEM block" in answer.json["message"]


async def test_managers_of_versions_that_a_webhook_converts_know_each_others_fields(
    cluster: Cluster, converter: Converter
) -> None:
    versions = (version("v1", HOST_PORT), version("v2", HOST_AND_PORT, storage=False))
    await established(cluster, definition(*versions, conversion=converter.strategy()))
    apply_patch = "application/apply-patch+yaml"

    async def apply(served: str, manager: str, **fields: str) -> Any:
        config = cron_tab("a", f"{GROUP}/{served}", **fields)
        path = f"{objects(served, 'a')}?fieldManager={manager}"
        return await cluster.call("PATCH", path, config, content_type=apply_patch)

    assert (await apply("v1", "a", hostPort="one:1")).status == 201
    refused = await apply("v2", "b", host="two")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "a": .hostPort'
    agreed = await apply("v2", "b", host="one")
    assert (agreed.status, agreed.json["port"]) == (200, "1")
    moved = await apply("v2", "a", port="2")
    assert (moved.json["host"], moved.json["port"]) == ("one", "2")
    patched = await cluster.call(
        "PATCH", f"{objects('v1', 'a')}?fieldManager=c", {"hostPort": "x:2"}, content_type=MERGE
    )
    owners = {entry["manager"]: entry["fieldsV1"] for entry in patched.json["metadata"]["managedFields"]}
    assert owners == {"a": {"f:port": {}}, "c": {"f:hostPort": {}}}


async def test_a_watch_whose_objects_cannot_be_converted_says_so(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))
    await cluster.call("POST", objects("v1"), cron_tab(hostPort="a:1"))
    converter.answer = lambda asked: {"uid": asked["uid"], "result": {"status": "Failure", "message": "no way"}}

    watch = await cluster.watch(f"{objects('v2')}?watch=1")
    event = await watch.next()

    assert event is not None
    assert (event["type"], event["object"]["code"]) == ("ERROR", 500)
    assert event["object"]["message"].endswith("failed: no way")
    watch.close()


async def test_an_open_watch_goes_on_when_the_webhook_is_back(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))
    watch = await cluster.watch(f"{objects('v2')}?watch=1")
    await cluster.call("POST", objects("v1"), cron_tab("a", hostPort="a:1"))
    assert await watch.take(1) == [("ADDED", "a")]
    converter.answer = lambda asked: {"uid": asked["uid"], "result": {"status": "Failure"}}
    await cluster.call("POST", objects("v1"), cron_tab("b", hostPort="b:1"))
    await cluster.call("POST", objects("v1"), cron_tab("c", hostPort="c:1"))

    converter.answer = None

    assert await watch.take(2) == [("ADDED", "b"), ("ADDED", "c")]
    watch.close()


async def test_many_objects_are_converted_in_several_reviews(cluster: Cluster, converter: Converter) -> None:
    await established(cluster, converted(converter))
    for index in range(AT_ONCE + 100):
        await cluster.request("POST", objects("v1"), cron_tab(f"x{index}", hostPort=f"h:{index}"))

    listed = await cluster.call("GET", objects("v2"))

    assert len(listed.json["items"]) == AT_ONCE + 100
    assert all(item["host"] == "h" for item in listed.json["items"])
    assert [len(asked["objects"]) for asked in converter.asked] == [AT_ONCE, 100]
