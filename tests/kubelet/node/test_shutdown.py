"""The node's end: who is ended when, and what pods and the node say."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from pathlib import Path

import pytest

from pinnace.apis.resources import NODES
from pinnace.kubelet.node import logind
from pinnace.kubelet.node.shutdown import Group, allowed_grace, grace_groups, in_groups
from pinnace.kubelet.options import KubeletOptions

WEB = {"name": "web", "image": "web:1"}
CRITICAL = 2_000_000_000


@pytest.mark.parametrize(
    ("settings", "groups"),
    [
        ({}, []),
        (
            {"shutdown_grace_period": 30.0, "shutdown_grace_period_critical_pods": 10.0},
            [(0, 20), (CRITICAL, 10)],
        ),
        ({"shutdown_grace_period": 30.0}, [(0, 30), (CRITICAL, 0)]),
        ({"shutdown_grace_period_by_pod_priority": [(1000, 60), (0, 180), (10, 5)]}, [(0, 180), (10, 5), (1000, 60)]),
    ],
)
def test_times_as_configured(settings, groups, tmp_path):
    options = KubeletOptions(
        node_name="n", node_ips=["192.0.2.1"], root_dir=tmp_path, pod_logs_dir=tmp_path, **settings
    )
    assert grace_groups(options) == groups


def pod(name: str, priority: int | None = None, grace: int | None = None) -> dict:  # type: ignore[type-arg]
    spec = {"priority": priority, "terminationGracePeriodSeconds": grace}
    return {"metadata": {"name": name}, "spec": {key: value for key, value in spec.items() if value is not None}}


def test_pods_go_with_the_highest_group_that_they_reach():
    groups = [Group(100, 1), Group(1000, 2), Group(CRITICAL, 3)]
    pods = [
        pod("low", -5),
        pod("none"),
        pod("first", 100),
        pod("between", 999),
        pod("second", 1000),
        pod("top", CRITICAL),
    ]
    found = [[one["metadata"]["name"] for one in members] for _, members in in_groups(pods, groups)]
    assert found == [["low", "none", "first", "between"], ["second"], ["top"]]


@pytest.mark.parametrize(("own", "grace"), [(None, 20), (30, 20), (5, 5)])
def test_a_pod_has_no_more_than_its_own_grace_period(own, grace):
    assert allowed_grace(pod("p", grace=own), Group(0, 20)) == grace


@pytest.fixture
def ending(options):
    options.shutdown_grace_period_by_pod_priority = [(0, 7), (CRITICAL, 3)]
    options.shutdown_on_sigterm = True
    return options


async def test_pods_end_in_the_order_of_their_priority(api, runtime, ending, start):
    kubelet = start()
    await api.add_pod("critical", containers=[{**WEB, "name": "critical"}], priority=CRITICAL)
    await api.add_pod("usual", containers=[{**WEB, "name": "usual"}], terminationGracePeriodSeconds=600)
    for name in ("critical", "usual"):
        await api.phase(name, "Running")
    await kubelet.shutdown.end_pods()
    for name in ("critical", "usual"):
        status = await api.phase(name, "Failed")
        assert (status["reason"], status["message"]) == (
            "Terminated",
            "Pod was terminated in response to imminent node shutdown.",
        )
        condition = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
        assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    stopped = [call for call in runtime.calls if call.startswith("stop_container")]
    assert stopped == ["stop_container usual 7", "stop_container critical 3"]
    await api.until(lambda: _ready(api)["status"] == "False")
    assert (_ready(api)["reason"], _ready(api)["message"]) == ("KubeletNotReady", "node is shutting down")
    await api.hears("Shutdown: Shutdown manager detected shutdown event")


def _ready(api):
    conditions = (api.find(NODES, "n1") or {}).get("status", {}).get("conditions") or [{}]
    return next((one for one in conditions if one.get("type") == "Ready"), {"status": ""})


async def test_no_pod_is_taken_any_more(api, ending, start):
    kubelet = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    await kubelet.shutdown.end_pods()
    await api.add_pod("late", containers=[WEB])
    status = await api.phase("late", "Failed")
    assert status["reason"] == "NodeShutdown"
    assert status["message"] == "Pod was rejected: Pod was rejected as the node is shutting down."


async def test_the_end_of_the_process_is_that_of_the_node_where_that_is_set(api, runtime, ending, start):
    kubelet = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    kubelet.test_task.cancel()
    await asyncio.gather(kubelet.test_task, return_exceptions=True)
    assert api.status_of("default/p")["reason"] == "Terminated"
    assert _ready(api)["message"] == "node is shutting down"
    assert not runtime.running()


async def test_else_containers_go_on(api, runtime, options, start):
    options.shutdown_grace_period = 20.0
    kubelet = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    kubelet.test_task.cancel()
    await asyncio.gather(kubelet.test_task, return_exceptions=True)
    assert runtime.running() == ["web"]


# systemd-logind.


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "signal", "member": "PrepareForShutdown", "payload": {"type": "b", "data": [True]}}, True),
        ({"type": "signal", "member": "PrepareForShutdown", "payload": {"type": "b", "data": [False]}}, False),
        ({"type": "signal", "member": "SessionNew", "payload": {"type": "so", "data": ["1", "/x"]}}, None),
        ({"member": "PrepareForShutdown", "payload": None}, None),
        ([1], None),
    ],
)
def test_what_the_bus_says(message, told):
    assert logind.going_down(message) is told


@pytest.mark.parametrize(
    ("buffer", "found", "rest"),
    [
        ("", [], ""),
        ('{"a":1}', [{"a": 1}], ""),
        ('{"a":1}{"b":2}\n{"c"', [{"a": 1}, {"b": 2}], '{"c"'),
        ("\n", [], ""),
    ],
)
def test_messages_need_nothing_between_them(buffer, found, rest):
    assert logind.messages(buffer) == (found, rest)


PROGRAM = """#!/bin/sh
echo "{name} $*" >> {log}
{body}
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """systemd's programs, which write down what they are asked; the bus says that the machine goes down."""
    log = tmp_path / "asked"
    signal = '{"member":"PrepareForShutdown","payload":{"type":"b","data":[true]}}'
    bodies = {
        "busctl": f"case $1 in get-property) echo 't 5000000';; *) printf %s '{signal}'; exec sleep 600;; esac",
        "systemd-inhibit": "exec sleep 600",
        "systemctl": "true",
    }
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, body in bodies.items():
        path = directory / name
        path.write_text(PROGRAM.format(name=name, log=log, body=body))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setattr(logind, "SYSTEM_BUS", tmp_path)
    monkeypatch.setattr(logind, "DROP_IN", tmp_path / "logind.conf.d" / "99-kubelet.conf")
    return log


async def test_logind_tells_and_waits(programs: Path, api, ending, start):
    kubelet = start()
    await kubelet.pods_known.wait()
    async with asyncio.timeout(60):
        await api.hears("Shutdown manager detected shutdown event")
    assert logind.DROP_IN.read_text() == "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=10\n"
    asked = programs.read_text()
    assert "systemctl kill -s HUP systemd-logind" in asked
    assert "PrepareForShutdown" in asked


async def test_logind_has_its_lock_back_at_the_end(programs: Path):
    async with asyncio.timeout(60):
        async with logind.Inhibitor(5) as inhibitor:
            assert [told async for told in _first(inhibitor)] == [True]
            processes = inhibitor._processes
    assert all(process.returncode is not None for process in processes)
    assert not logind.DROP_IN.exists()  # five seconds are what it gives anyway


HOLDING = """
import asyncio
from pinnace.kubelet.node import logind

async def hold():
    async with logind.Inhibitor(5) as inhibitor:
        print(*(process.pid for process in inhibitor._processes), flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_logind_has_its_lock_back_from_a_kubelet_that_was_killed(programs: Path):
    assert programs
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDING, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    held = [os.pidfd_open(int(pid)) for pid in (await holder.stdout.readline()).split()]
    assert len(held) == 2
    holder.kill()
    await holder.wait()
    for pidfd in held:
        ended, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 20)
        os.close(pidfd)
        assert ended


async def _first(inhibitor):
    async for told in inhibitor.events():
        yield told
        return
