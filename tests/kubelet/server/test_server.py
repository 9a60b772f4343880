"""The node's HTTP paths: who is let in, logs and their messages, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.cri.api import CriError
from pinnace.kubelet.server.server import KubeletServer
from pinnace.wire.http import Peer, Request, Response, StreamingResponse
from tests.support.ports import free_ports

WEB = {"name": "web", "image": "web:1"}
LINE = b"2026-01-01T00:00:01.000000001Z stdout F %s\n"


class Body:
    """A `Writer` that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.more = asyncio.Event()
        self.closed = False
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.data += data
        self.more.set()

    async def drain(self) -> None:
        return None

    def on_close(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def close(self) -> None:
        self.closed = True
        for callback in self._callbacks:
            callback()

    async def until(self, data: bytes) -> None:
        async with asyncio.timeout(30):
            while self.data != data:
                self.more.clear()
                await self.more.wait()


def request(path: str, query: str = "", *, certificate: bytes | None = b"der", method: str = "GET") -> Request:
    return Request(method, path, query, {}, b"", Peer("192.0.2.9", certificate))


@pytest.fixture
async def running(api, runtime, start):
    """A server of a kubelet that runs one pod with a log."""
    kubelet = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    log = Path(runtime.by_name("web")[0].log_path)
    log.write_bytes(LINE % b"one" + LINE % b"two")
    return KubeletServer(kubelet), log


async def answer(server, path, query="", **more):
    response = await server.handle(request(path, query, **more))
    if isinstance(response, StreamingResponse):
        body = Body()
        await response.run(body)
        return response.status, body.data
    assert isinstance(response, Response)
    return response.status, response.body


async def test_nobody_without_a_certificate(running):
    assert await answer(running[0], "/pods", certificate=None) == (401, b"Unauthorized")
    assert await answer(running[0], "/healthz") == (200, b"ok")


async def test_logs(running):
    server, _ = running
    assert await answer(server, "/containerLogs/default/p/web") == (200, b"one\ntwo\n")
    assert await answer(server, "/containerLogs/default/p/web", "tailLines=1") == (200, b"two\n")


async def test_following_ends_with_the_container(running, runtime):
    server, log = running
    response = await server.handle(request("/containerLogs/default/p/web", "follow=true"))
    body = Body()
    stream = asyncio.create_task(response.run(body))
    await body.until(b"one\ntwo\n")
    with log.open("ab") as file:
        file.write(LINE % b"three")
    await body.until(b"one\ntwo\nthree\n")
    log.rename(log.with_name("0.log.20260101-000000"))
    log.write_bytes(LINE % b"rotated")
    await body.until(b"one\ntwo\nthree\nrotated\n")
    runtime.end(runtime.by_name("web")[0].id, 0)
    async with asyncio.timeout(30):
        await stream


async def test_following_ends_when_the_reader_leaves(running):
    response = await running[0].handle(request("/containerLogs/default/p/web", "follow=true"))
    body = Body()
    stream = asyncio.create_task(response.run(body))
    await body.until(b"one\ntwo\n")
    body.close()
    async with asyncio.timeout(30):
        await stream


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/containerLogs/default/p/no", "", (404, b'container "no" not found in pod "p"')),
        ("/containerLogs/default/no/web", "", (404, b'pod "no" not found')),
        (
            "/containerLogs/default/p/web",
            "previous=true",
            (400, b'previous terminated container "web" in pod "p" not found'),
        ),
        ("/nothing", "", (404, b"404 page not found\n")),
        ("/exec/default/p/web", "command=ls", (400, b"you must specify at least 1 of stdin, stdout, stderr")),
    ],
)
async def test_errors(running, path, query, expected):
    assert await answer(running[0], path, query) == expected


@pytest.mark.parametrize(
    ("image", "words"),
    [("gone:1", b"image can't be pulled"), ("Bad Name", b"InvalidImageName")],
)
async def test_logs_of_a_container_that_waits(running, api, image, words):
    await api.add_pod("q", containers=[{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}])
    reasons = ("ErrImagePull", "InvalidImageName")
    await api.container("q", lambda one: one.get("state", {}).get("waiting", {}).get("reason") in reasons)
    found = await answer(running[0], "/containerLogs/default/q/c")
    assert found == (400, b'container "c" in pod "q" is waiting to start: ' + words)


async def test_pods_and_statistics(running):
    server, _ = running
    status, body = await answer(server, "/pods")
    (pod,) = orjson.loads(body)["items"]
    assert (status, pod["status"]["phase"]) == (200, "Running")
    assert "kind" not in pod
    (runs,) = orjson.loads((await answer(server, "/runningpods/"))[1])["items"]
    assert (runs["metadata"]["name"], runs["spec"]["containers"][0]["resources"]) == ("p", {})
    assert (await answer(server, "/stats/"))[0] == 404
    summary = orjson.loads((await answer(server, "/stats/summary"))[1])
    assert summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"] == 4096
    assert summary["pods"][0]["network"]["rxBytes"] == 10
    assert summary["pods"][0]["containers"][0]["logs"]["usedBytes"] > 0
    assert summary["node"]["fs"]["capacityBytes"] == summary["node"]["runtime"]["imageFs"]["capacityBytes"] > 0
    assert summary["node"]["systemContainers"][0]["memory"]["workingSetBytes"] == 8192
    assert 0 < summary["node"]["rlimit"]["curproc"] < summary["node"]["rlimit"]["maxpid"]
    again = orjson.loads((await answer(server, "/stats/summary"))[1])
    assert again["pods"][0]["cpu"]["usageNanoCores"] == 0
    slim = orjson.loads((await answer(server, "/stats/summary", "only_cpu_and_memory=true"))[1])
    assert slim["pods"][0].keys() == {"podRef", "startTime", "cpu", "memory", "containers"}
    metrics = (await answer(server, "/metrics/resource"))[1].decode()
    assert 'container_cpu_usage_seconds_total{container="web",namespace="default",pod="p"} 2 ' in metrics
    assert 'container_start_time_seconds{container="web",namespace="default",pod="p"} ' in metrics
    assert "\nresource_scrape_error 0\n" in metrics
    told = {
        sample.name: sample.value
        for family in text_string_to_metric_families((await answer(server, "/metrics"))[1].decode())
        for sample in family.samples
    }
    assert (told["kubelet_running_pods"], told["kubelet_node_name"]) == (1, 1)
    assert told["process_start_time_seconds"] > 0
    assert orjson.loads((await answer(server, "/configz"))[1])["kubeletconfig"]["maxPods"] == 110


async def figures(server) -> dict[tuple[str, ...], float]:
    """What `/metrics` says, by name and values of labels."""
    text = (await answer(server, "/metrics"))[1].decode()
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def test_what_a_kubelet_counts_of_its_work(api, runtime, start):
    """Figures are the process's: what counts is by how much they grow."""
    kubelet = start()
    await kubelet.pods_known.wait()
    server = KubeletServer(kubelet)
    before = await figures(server)
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    await api.add_pod("q", containers=[{**WEB, "image": "gone:1"}], nodeSelector={"no": "such"})
    await api.phase("q", "Failed")
    after = await figures(server)
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    for name in (
        ("kubelet_started_pods_total",),
        ("kubelet_started_containers_total", "container"),
        ("kubelet_pod_start_duration_seconds_count",),
        ("kubelet_pod_start_sli_duration_seconds_count",),
        ("kubelet_pod_start_total_duration_seconds_count",),
        ("kubelet_admission_rejections_total", "NodeAffinity"),
        ("kubelet_runtime_operations_total", "run_podsandbox"),
        ("kubelet_runtime_operations_duration_seconds_count", "create_container"),
        ("kubelet_http_requests_total", "false", "GET", "metrics", "readwrite"),
    ):
        assert grown[name] == 1, name
    assert grown["kubelet_pod_worker_duration_seconds_count", "create"] >= 1
    assert after["kubelet_desired_pods", "false"] == 2
    assert after["kubelet_active_pods", "false"] == 1
    assert after["kubelet_running_containers", "running"] == 1
    assert after["kubelet_pleg_last_seen_seconds",] > 1_700_000_000
    assert after["kubelet_node_startup_pre_kubelet_duration_seconds",] > 0
    assert after["kubelet_http_inflight_requests", "false", "GET", "metrics", "readwrite"] == 1


async def test_a_call_that_the_runtime_refuses_counts_as_an_error(api, runtime, start):
    runtime.fail["start_container"] = CriError("UNKNOWN", "no")
    kubelet = start()
    await kubelet.pods_known.wait()
    server = KubeletServer(kubelet)
    before = await figures(server)
    await api.add_pod("p", containers=[WEB])
    await api.hears("Failed: Error: no")
    after = await figures(server)
    for name in (
        ("kubelet_runtime_operations_errors_total", "start_container"),
        ("kubelet_started_containers_errors_total", "RunContainerError", "container"),
    ):
        assert after[name] - before.get(name, 0.0) == 1


async def test_what_containers_use_in_the_names_of_cadvisor(running):
    text = (await answer(running[0], "/metrics/cadvisor"))[1].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, sample.labels.get("container"))] = (sample.labels, sample.value)
    labels, seconds = found["container_cpu_usage_seconds_total", "web"]
    assert (labels["namespace"], labels["pod"], labels["image"], seconds) == ("default", "p", "web:1", 2)
    assert labels["id"].startswith("/kubepods/besteffort/pod")
    assert found["container_memory_working_set_bytes", ""][1] == 8192
    assert found["container_memory_working_set_bytes", "web"][1] == 4096
    assert found["container_spec_cpu_shares", "web"][1] == 2
    assert found["container_network_transmit_bytes_total", ""][1] == 20
    assert found["container_network_transmit_bytes_total", ""][0]["interface"] == "eth0"
    assert found["machine_cpu_cores", None][1] >= 1
    [whole] = [
        line for line in text.splitlines() if line.startswith("container_memory_working_set_bytes{") and '"/"' in line
    ]
    assert 'id="/",image="",name="",namespace="",pod=""' in whole
    assert not [line for line in text.splitlines() if line.startswith("container_processes{") and '"/"' in line]


async def test_how_probes_went(running, api):
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    await api.add_pod("q", containers=[{**WEB, "readinessProbe": probe}])
    await api.container("q", lambda one: one.get("ready"))
    text = (await answer(running[0], "/metrics/probes"))[1].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    (sample,) = [one for one in samples if one.labels["pod"] == "q" and one.name == "prober_probe_total"]
    assert (sample.labels["container"], sample.labels["probe_type"]) == ("web", "Readiness")
    assert (sample.labels["result"], sample.value >= 1) == ("successful", True)
    (count,) = [one for one in samples if one.labels["pod"] == "q" and one.name.endswith("duration_seconds_count")]
    assert (count.name, count.value) == ("prober_probe_duration_seconds_count", sample.value)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/checkpoint/default/p/web", 200, b'{"items":["'),
        ("GET", "/checkpoint/default/p/web", 405, b"405: Method Not Allowed"),
        ("POST", "/checkpoint/default/no/web", 404, b"pod does not exist"),
        ("POST", "/checkpoint/default/p/no", 404, b"container no does not exist"),
    ],
)
async def test_checkpoints(running, options, method, path, status, words):
    response = await running[0].handle(Request(method, path, "", {}, b"", Peer("192.0.2.9", b"der")))
    assert response.status == status
    assert response.body.startswith(words)
    if status == 200:
        (made,) = (options.root_dir / "checkpoints").iterdir()
        assert made.name.startswith("checkpoint-p_default-web-")
        assert made.read_bytes() == b"state"


async def test_a_runtime_that_makes_no_checkpoints(running, runtime):
    runtime.fail["checkpoint_container"] = CriError("UNIMPLEMENTED", "no")
    response = await running[0].handle(
        Request("POST", "/checkpoint/default/p/web", "", {}, b"", Peer("192.0.2.9", b"der"))
    )
    assert response.status == 500
    assert response.body.startswith(b"checkpointing of default/p/web failed (rpc error: code = Unimplemented")


async def test_services_of_the_machine_are_asked_where_that_is_allowed(running, options, tmp_path, monkeypatch):
    monkeypatch.setattr("pinnace.kubelet.logs.node_query.log_files.answer", lambda *_: Response(418, (), b""))
    options.enable_system_log_query = True
    status, body = await answer(running[0], "/logs/", "query=no%20such")
    assert (status, body) == (406, b'query: Invalid value: "no such": input contains unsupported characters\n')
    assert (await answer(running[0], "/logs/messages"))[0] == 418
    options.enable_system_log_query = False
    assert (await answer(running[0], "/logs/", "query=no%20such"))[0] == 418


async def test_checkpoints_can_be_turned_off(running, options):
    options.feature_gates = {"ContainerCheckpoint": False}
    asked = Request("POST", "/checkpoint/default/p/web", "", {}, b"", Peer("192.0.2.9", b"der"))
    response = await running[0].handle(asked)
    assert (response.status, response.body) == (404, b"404 page not found\n")


async def test_debugging_can_be_turned_off(running, options):
    options.enable_debugging_handlers = False
    assert await answer(running[0], "/containerLogs/default/p/web") == (405, b"Debug endpoints are disabled.\n")
    assert (await answer(running[0], "/pods"))[0] == 200


async def asked(port: int, path: str) -> tuple[int, bytes]:
    """The answer of a port without TLS."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


async def test_ports_without_tls(api, options, start):
    """Health for the machine's own programs; pods and figures for everybody, where that is asked for."""
    options.healthz_port, options.read_only_port = free_ports(2)
    options.address = "127.0.0.1"
    kubelet = start()
    await kubelet.pods_known.wait()
    assert await asked(options.healthz_port, "/healthz") == (200, b"ok")
    assert await asked(options.healthz_port, "/healthz?verbose") == (200, b"[+]ping ok\nhealthz check passed\n")
    assert (await asked(options.healthz_port, "/pods"))[0] == 404
    status, body = await asked(options.read_only_port, "/pods")
    assert (status, orjson.loads(body)["kind"]) == (200, "PodList")
    assert (await asked(options.read_only_port, "/stats/summary"))[0] == 200
    for path in ("/exec/default/p/web", "/containerLogs/default/p/web", "/configz", "/run/default/p/web"):
        assert (await asked(options.read_only_port, path))[0] == 404


async def test_a_command_to_its_end(running):
    assert await answer(running[0], "/run/default/p/web", "cmd=ls", method="POST") == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/run/default/p/web", "POST"), ("POST", "/pods", "GET"), ("PUT", "/exec/default/p/web", "GET, POST")],
)
async def test_a_read_runs_nothing_and_a_path_answers_its_own_methods(running, method, path, allowed):
    response = await running[0].handle(request(path, "cmd=ls", method=method))
    assert (response.status, response.body) == (405, b"405: Method Not Allowed")
    assert ("Allow", allowed) in response.headers


async def test_health_check_by_check_and_how_the_checks_went(running):
    server, _ = running
    passed = b"[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
    assert await answer(server, "/healthz", "verbose") == (200, passed)
    assert await answer(server, "/healthz/syncloop") == (200, b"ok")
    assert (await answer(server, "/healthz/no"))[0] == 404
    told = (await answer(server, "/metrics/slis"))[1].decode()
    assert 'kubernetes_healthchecks_total{name="syncloop",status="success",type="healthz"} 2\n' in told
