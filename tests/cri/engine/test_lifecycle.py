"""Sandboxes and containers from creation to removal, their states, exits and events."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pinnace.cri.api import (
    ContainerConfig,
    ContainerEventType,
    ContainerMetadata,
    ContainerState,
    CriError,
    ImageSpec,
    LinuxContainerConfig,
    LinuxContainerResources,
    PodSandboxState,
)
from pinnace.cri.engine import monitor_client, procfs
from pinnace.cri.engine.monitor_client import MonitorClient, MonitorError
from tests.cri.engine.conftest import Node

pytestmark = pytest.mark.root


async def test_a_container_runs_to_its_end_and_leaves_its_exit_code(node: Node) -> None:
    status, output = await node.run("/bin/sh", "-c", "echo out; echo err >&2; exit 7")

    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 7, "Error")
    assert sorted(output.splitlines()) == ["err", "out"]
    assert node.output(status, "stderr") == "err\n"
    assert status.created_at < status.started_at < status.finished_at


async def test_success_is_completed(node: Node) -> None:
    status, _ = await node.run("/bin/true")

    assert (status.exit_code, status.reason) == (0, "Completed")


async def test_states_follow_the_verbs(node: Node) -> None:
    sandbox = await node.sandbox()
    container = await node.create(sandbox, "/bin/sleep", "1000")
    assert (await node.engine.container_status(container)).state == ContainerState.CREATED
    assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.READY

    await node.engine.start_container(container)
    assert (await node.engine.container_status(container)).state == ContainerState.RUNNING

    await node.engine.stop_pod_sandbox(sandbox)
    assert (await node.engine.container_status(container)).state == ContainerState.EXITED
    assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.NOTREADY

    await node.engine.remove_pod_sandbox(sandbox)
    assert await node.engine.list_containers() == []
    assert await node.engine.list_pod_sandbox() == []
    with pytest.raises(CriError) as error:
        await node.engine.container_status(container)
    assert error.value.code == "NOT_FOUND"


async def test_stopping_and_removing_twice_is_no_error(node: Node) -> None:
    sandbox = await node.sandbox()
    container = await node.start(sandbox, "/bin/sleep", "1000")
    for _ in range(2):
        await node.engine.stop_container(container, 0)
    for _ in range(2):
        await node.engine.remove_container(container)
    for _ in range(2):
        await node.engine.stop_pod_sandbox(sandbox)
    for _ in range(2):
        await node.engine.remove_pod_sandbox(sandbox)


async def test_stop_sends_the_stop_signal_and_waits_for_a_graceful_end(node: Node) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.01; done"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script)
    await _says(node, container, "ready")

    await node.engine.stop_container(container, 20)

    status = await node.engine.container_status(container)
    assert status.exit_code == 3
    assert node.output(status).endswith("bye\n")


async def test_stop_uses_the_signal_asked_for(node: Node) -> None:
    script = "trap 'exit 4' USR1; echo ready; while true; do sleep 0.01; done"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, stop_signal="SIGUSR1")
    await _says(node, container, "ready")

    await node.engine.stop_container(container, 20)

    assert (await node.engine.container_status(container)).exit_code == 4


async def test_a_container_that_ignores_its_signal_is_killed_after_the_timeout(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/sleep", "1000")  # PID 1 ignores SIGTERM by default
    begun = time.monotonic()

    await node.engine.stop_container(container, 1)

    status = await node.engine.container_status(container)
    assert (status.exit_code, status.reason) == (137, "Error")
    assert 0.9 < time.monotonic() - begun < 60


async def test_the_end_of_init_ends_the_whole_container(node: Node) -> None:
    status, _ = await node.run("/bin/sh", "-c", "sleep 1000 & sleep 1000 & exit 0")

    assert status.exit_code == 0  # and the fixture sees that no process is left


async def test_running_out_of_memory_is_oom_killed(node: Node) -> None:
    limits = LinuxContainerConfig(resources=LinuxContainerResources(memory_limit_in_bytes=16 * 1024 * 1024))
    status, _ = await node.run("/bin/sh", "-c", "exec tail /dev/zero", linux=limits)

    assert (status.exit_code, status.reason) == (137, "OOMKilled")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nothing-there", 'exec: "nothing-there": executable file not found in $PATH'),
        ("/nothing/there", 'exec: "/nothing/there": stat /nothing/there: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/etc", 'exec: "/etc": is a directory'),
    ],
)
async def test_a_command_that_cannot_be_run_is_a_start_error(node: Node, command: str, words: str) -> None:
    container = await node.create(await node.sandbox(), command)
    with pytest.raises(CriError) as error:
        await node.engine.start_container(container)

    status = await node.engine.container_status(container)
    assert words in error.value.message
    assert error.value.message.startswith("failed to create containerd task: failed to create shim task: OCI runtime")
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
    assert status.message == error.value.message
    assert status.started_at == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [("/bin/broken", "no such file or directory"), ("/bin/garbage", "exec format error")],
)
async def test_a_binary_the_kernel_refuses_says_so_in_the_log(node: Node, command: str, words: str) -> None:
    status, output = await node.run(command)

    assert status.exit_code == 255
    assert output == f"exec {command}: {words}\n"


async def test_an_unknown_image_is_not_found(node: Node) -> None:
    sandbox = await node.sandbox()
    config = ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="nothing:1"))
    with pytest.raises(CriError) as error:
        await node.engine.create_container(sandbox, config, node.engine.sandboxes.records[sandbox].config)

    assert error.value.code == "NOT_FOUND"


async def test_events_tell_the_story_in_order(node: Node) -> None:
    events = node.engine.get_container_events()
    sandbox = await node.sandbox()
    container = await node.start(sandbox, "/bin/true")
    await node.ended(container)
    await node.engine.remove_pod_sandbox(sandbox)

    seen = []
    async for event in events:
        seen.append((event.container_id == sandbox, event.container_event_type))
        assert event.pod_sandbox_id == sandbox
        assert event.pod_uid.startswith("uid")
        if seen[-1] == (True, ContainerEventType.DELETED):
            break

    created, started, stopped, deleted = (
        ContainerEventType.CREATED,
        ContainerEventType.STARTED,
        ContainerEventType.STOPPED,
        ContainerEventType.DELETED,
    )
    assert seen == [
        (True, created),
        (True, started),
        (False, created),
        (False, started),
        (False, stopped),
        (True, stopped),
        (False, deleted),
        (True, deleted),
    ]


async def test_the_engine_may_go_and_come_back(node: Node) -> None:
    sandbox = await node.sandbox()
    lives = await node.start(sandbox, "/bin/sh", "-c", "while read -r line; do echo $line; done; sleep 1000", name="a")
    ends = await node.start(sandbox, "/bin/sh", "-c", "exit 9", name="b")
    await node.ended(ends)
    pid = node.engine.monitor.monitor_pid

    await node.restart()

    assert node.engine.monitor.monitor_pid == pid
    assert (await node.engine.container_status(lives)).state == ContainerState.RUNNING
    assert (await node.engine.container_status(ends)).exit_code == 9
    assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.READY
    assert await node.exec(lives, "/bin/echo", "still here") == "still here\n"


async def test_an_end_while_no_engine_runs_is_found_by_the_next(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/sleep", "1000")
    pid = node.engine.containers.records[container].pid
    await node.engine.stop()
    await _kill(pid)

    node.engine = node.make()
    await node.engine.start()

    assert (await node.ended(container)).exit_code == 137


_DYING_ENGINE = """
import asyncio, os, sys
from pathlib import Path
from pinnace.cri.api import *
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.images.store import ImageStore
from pinnace.cri.engine.network import NetworkOptions

async def main(base, store, name, subnet):
    network = NetworkOptions(bridge=name, table=name, subnets=(subnet,))
    options = EngineOptions(network=network, cgroup_prefix="/" + name)
    engine = Engine(Path(base, "root"), Path(base, "state"), options, ImageStore(Path(store)))
    await engine.start()
    pod = PodSandboxConfig(metadata=PodSandboxMetadata(name="p", uid="u", namespace="n"), log_directory=base + "/logs")
    pod.linux.cgroup_parent = "/kubepods/p"
    sandbox = await engine.run_pod_sandbox(pod)
    script = "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.01; done"
    config = ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="busybox:1"),
                             command=["/bin/sh", "-c", script], log_path="c.log")
    container = await engine.create_container(sandbox, config, pod)
    await engine.start_container(container)
    pod.metadata.name = "half made"
    asyncio.create_task(engine.run_pod_sandbox(pod))
    await asyncio.sleep(0)
    print(sandbox, container, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_engine_may_be_killed_at_any_time(node: Node) -> None:
    await node.engine.stop()
    arguments = [str(node.base), str(node.store.root), node.name[:15], node.subnet]
    source = str(Path(procfs.__file__).resolve().parents[3])
    dying = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _DYING_ENGINE,
        *arguments,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    output, _ = await asyncio.wait_for(dying.communicate(), 60)
    assert dying.returncode == -9
    sandbox, container = output.decode().split()

    node.engine = node.make()
    await node.engine.start()

    assert [found.id for found in await node.engine.list_pod_sandbox()] == [sandbox]
    assert (await node.engine.container_status(container)).state == ContainerState.RUNNING
    await _says(node, container, "up")
    await node.engine.stop_container(container, 20)
    status = await node.engine.container_status(container)
    assert (status.exit_code, node.output(status)) == (7, "up\nbye\n")


async def test_a_long_life_leaves_no_descriptors_open(node: Node) -> None:
    def descriptors() -> tuple[int, int]:
        return tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", node.engine.monitor.monitor_pid))

    async def life() -> None:
        sandbox = await node.sandbox()
        for number in range(3):
            container = await node.start(sandbox, "/bin/cat", name=f"c{number}", tty=number == 1, stdin=True)
            await node.exec(container, "/bin/true")
            with pytest.raises(CriError):
                await node.start(sandbox, "nothing", name=f"d{number}")
        await node.engine.remove_pod_sandbox(sandbox)

    await life()
    before = descriptors()
    for _ in range(3):
        await life()

    assert descriptors() == before


async def test_containers_outlive_the_monitor(node: Node) -> None:
    script = "trap 'echo caught; exit 6' USR1; echo one; while true; do sleep 0.01; done"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, stop_signal="USR1")
    await _says(node, container, "one")
    process = node.engine.containers.records[container].pid
    first = node.engine.monitor.monitor_pid

    await _kill_monitor(node)

    assert await node.exec(container, "/bin/echo", "alive") == "alive\n"
    assert node.engine.monitor.monitor_pid not in (0, first)
    assert node.engine.containers.records[container].pid == process
    await node.engine.stop_container(container, 20)
    status = await node.engine.container_status(container)
    assert node.output(status) == "one\ncaught\n"
    assert status.exit_code == 6


async def test_a_monitor_that_does_not_start_is_started_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await node.start(await node.sandbox(), "/bin/sleep", "1000")
    spawn = node.engine.monitor._spawn
    failures: list[Exception] = [OSError("no more processes"), MonitorError("the monitor ended with status 1")]

    def try_to_spawn() -> None:
        if failures:
            raise failures.pop()
        spawn()

    monkeypatch.setattr(monitor_client, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(node.engine.monitor, "_spawn", try_to_spawn)

    await _kill_monitor(node)

    assert not failures
    assert await node.exec(container, "/bin/echo", "alive") == "alive\n"


async def test_a_call_that_finds_no_monitor_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_client, "_CONNECTION_SECONDS", 0.01)

    with pytest.raises(MonitorError, match="monitor does not run"):
        await MonitorClient(tmp_path, lambda _event: None).call("ping")


async def test_output_written_while_no_monitor_ran_is_not_lost(node: Node) -> None:
    script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo during; touch /tmp/done; sleep 1000"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script)
    await _says(node, container, "before")
    root = f"/proc/{node.engine.containers.records[container].pid}/root"
    await node.engine.stop()
    await _kill(procfs.read_json(str(node.base / "state" / "monitor.json"))["pid"])
    Path(f"{root}/tmp/go").touch()
    await asyncio.to_thread(_until_exists, f"{root}/tmp/done")

    node.engine = node.make()
    await node.engine.start()

    await _says(node, container, "before\nduring")


async def test_the_monitor_may_be_killed_while_pods_are_made(node: Node) -> None:
    async def pod() -> None:
        await node.start(await node.sandbox(), "/bin/sleep", "1000")

    for delay in range(0, 60, 15):
        pods = [asyncio.create_task(pod()) for _ in range(6)]
        await asyncio.sleep(delay / 1000)  # not to wait for anything, but to strike at different moments
        await _kill_monitor(node)
        for outcome in await asyncio.gather(*pods, return_exceptions=True):
            assert outcome is None or isinstance(outcome, CriError)

    await pod()
    for status in [await node.engine.container_status(found.id) for found in await node.engine.list_containers()]:
        assert status.state == ContainerState.RUNNING or status.reason == "StartError"
    # and the fixture sees that nothing is left


async def test_a_terminal_outlives_the_monitor(node: Node) -> None:
    script = "echo one; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo two; sleep 1000"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, tty=True)
    await _says(node, container, "one\r")

    await _kill_monitor(node)
    await node.exec(container, "/bin/touch", "/tmp/go")

    await _says(node, container, "one\r\ntwo\r")


async def test_after_a_reboot_nothing_is_taken_for_alive(node: Node) -> None:
    sandbox = await node.sandbox()
    container = await node.start(sandbox, "/bin/sleep", "1000")
    await node.engine.stop_container(container, 0)
    record = node.engine.containers.records[container]
    record.started_at, record.finished_at, record.reason = time.time_ns(), 0, ""
    node.engine.containers._files.write(container, record)
    await node.engine.monitor.call("delete", id=container)
    booted = node.engine.sandboxes.records[sandbox]
    booted.boot_id = "another"
    node.engine.sandboxes._files.write(sandbox, booted)

    await node.restart()

    status = await node.engine.container_status(container)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 255, "Unknown")
    assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.NOTREADY


async def test_a_pod_is_little_work(node: Node) -> None:
    """Of the processor's time here: how long that takes a machine with much else to do is not ours."""

    async def pod() -> None:
        await node.start(await node.sandbox(), "/bin/sleep", "1000")

    await pod()
    begun = time.process_time()
    await asyncio.gather(*(pod() for _ in range(20)))
    burst = time.process_time() - begun

    assert burst < 2  # alone, 0.25 s until all twenty run


async def test_the_monitor_is_small(node: Node) -> None:
    await node.start(await node.sandbox(), "/bin/sleep", "1000")
    status = Path(f"/proc/{node.engine.monitor.monitor_pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])

    assert resident < 14 * 1024


async def _says(node: Node, container: str, text: str) -> None:
    """Wait until the log holds exactly these lines."""

    def look() -> None:
        path = node.engine.containers.records[container].log_path
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                lines = [line.split(" ", 3)[3] for line in Path(path).read_bytes().decode().split("\n") if line]
            except OSError:
                lines = []
            if "\n".join(lines) == text:
                return
            threading.Event().wait(0.005)
        raise AssertionError(f"the log does not say {text!r}: {lines}")

    await asyncio.to_thread(look)


def _until_exists(path: str) -> None:
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


async def _readable(fd: int) -> None:
    ready = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await asyncio.wait_for(ready, 60)
    finally:
        asyncio.get_running_loop().remove_reader(fd)


async def _kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, 9)
    await _readable(pidfd)
    os.close(pidfd)


async def _kill_monitor(node: Node) -> None:
    """kill -9, and wait until the engine has another one."""
    back = asyncio.Event()
    previous = node.engine.monitor.on_reconnect

    def reconnected() -> None:
        previous()
        back.set()

    node.engine.monitor.on_reconnect = reconnected
    await _kill(node.engine.monitor.monitor_pid)
    await asyncio.wait_for(back.wait(), 60)
    node.engine.monitor.on_reconnect = previous
