"""Static pods from a URL: what is read, asked with which headers, and kept while there is no answer."""

from __future__ import annotations

import asyncio
import socket

import orjson
import pytest
from aiohttp import web

from pinnace.apis.resources import PODS
from pinnace.kubelet.sources.static_pods import UrlPods, url_pods

POD = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}


def read(document: object, url: str = "http://u") -> list[dict]:  # type: ignore[type-arg]
    return url_pods(orjson.dumps(document), url, "n1", "now")


def test_a_pod_and_a_list_of_pods():
    (one,) = read(POD)
    assert (one["metadata"]["name"], one["metadata"]["namespace"]) == ("p-n1", "default")
    assert one["metadata"]["annotations"]["kubernetes.io/config.source"] == "http"
    assert one["spec"]["nodeName"] == "n1"
    other = {**POD, "metadata": {"name": "q", "namespace": "kube-system"}}
    found = read({"kind": "PodList", "items": [POD, {key: other[key] for key in ("metadata", "spec")}]})
    assert [pod["metadata"]["name"] for pod in found] == ["p-n1", "q-n1"]
    assert found[0]["metadata"]["uid"] == one["metadata"]["uid"]


def test_a_pod_is_another_when_it_says_something_else_or_comes_from_elsewhere():
    changed = {**POD, "spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    uids = {pod["metadata"]["uid"] for pod in (*read(POD), *read(changed), *read(POD, "http://other"))}
    assert len(uids) == 3


def with_spec(**spec: object) -> dict[str, object]:
    return {**POD, "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec}}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (with_spec(containers="x"), "cannot unmarshal string"),
        (with_spec(containers=[1]), "cannot unmarshal number"),
        (with_spec(containers=[{"name": "a", "image": "b", "ports": 5}]), "cannot unmarshal number"),
        (with_spec(volumes=[3]), "cannot unmarshal number"),
        (with_spec(tolerations="x"), "cannot unmarshal string"),
        ({**POD, "metadata": {"name": 5}}, "cannot unmarshal number"),
        ({**POD, "metadata": {"name": "p", "annotations": [1]}}, "cannot unmarshal array"),
        (with_spec(containers=[]), "invalid pod: spec.containers: Required value"),
        (with_spec(containers=[{"name": "a"}]), r"invalid pod: spec.containers\[0\].image: Required value"),
        (with_spec(restartPolicy="Sometimes"), "invalid pod: spec.restartPolicy: Unsupported value"),
    ],
)
def test_what_is_no_good_pod_is_refused(document, words):
    """A manifest is whatever somebody wrote: it must not end the kubelet."""
    with pytest.raises(ValueError, match=words):
        read(document)


@pytest.mark.parametrize("document", [{"kind": "Service"}, [], "x", {"kind": "PodList", "items": [1]}])
def test_what_is_no_pod_is_refused(document):
    with pytest.raises(ValueError, match="not a Pod manifest"):
        read(document)


@pytest.fixture
async def site():
    """A server whose answer a test sets; it notes the headers it was asked with."""
    told = {"status": 200, "body": orjson.dumps(POD), "headers": [], "asked": asyncio.Event()}

    async def answer(request: web.Request) -> web.Response:
        told["asked"].set()
        told["headers"].append(request.headers.getall("X-Team", []))
        return web.Response(status=told["status"], body=told["body"])

    app = web.Application()
    app.router.add_get("/pods", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/pods", told
    await runner.cleanup()


async def test_it_is_followed_and_kept_while_there_is_no_answer(site):
    url, told = site
    changed = asyncio.Event()
    source = UrlPods(url, {"X-Team": ["a", "b"]}, "n1", changed.set, 0.0)
    task = asyncio.create_task(source.run())
    async with asyncio.timeout(30):
        await changed.wait()
        assert len(source.pods) == 1
        assert told["headers"][0] == ["a", "b"]
        told["status"] = 500
        for _ in range(3):
            told["asked"].clear()
            await told["asked"].wait()
        assert len(source.pods) == 1
        changed.clear()
        told.update(status=200, body=orjson.dumps({"kind": "PodList", "items": []}))
        await changed.wait()
    assert source.pods == {}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_its_pods_run_and_have_mirrors(site, api, options, start):
    options.manifest_url, options.http_check_frequency = site[0], 0.05
    start()
    await api.until(lambda: api.find(PODS, "default/p-n1"))
    await api.phase("p-n1", "Running")
    assert api.find(PODS, "default/p-n1")["metadata"]["annotations"]["kubernetes.io/config.source"] == "http"
    site[1]["body"] = orjson.dumps({"kind": "PodList", "items": []})
    await api.gone("p-n1")
