"""What a kubelet relies on, of every runtime: what it says of itself, its pods, its statistics and its events."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from pinnace.cri.api import (
    ContainerEventType,
    ContainerMetadata,
    ContainerState,
    DNSConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    PodSandboxState,
)
from tests.cri.contract.conftest import LIMIT, Subject, code_of, secured

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session")]


def _code_of_a_taken_name(subject: Subject) -> str:
    return "FAILED_PRECONDITION" if subject.is_containerd_since(2, 0) else "UNKNOWN"


async def test_it_says_what_it_is_and_that_it_is_ready(subject: Subject) -> None:
    version = await subject.runtime.version()
    conditions = {one.type: one.status for one in await subject.runtime.status()}

    assert version.runtime_name == ("containerd" if subject.is_containerd else "pinnace")
    assert version.runtime_version
    own = {"ContainerdHasNoDeprecationWarnings": True} if subject.is_containerd_since(1, 7) else {}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True, **own}
    features = await subject.runtime.features()
    tells = not subject.is_containerd_before(2, 0)
    handlers = ["", "runc"] if subject.is_containerd else ["", "pinnace", "runc"]
    assert sorted(one.name for one in features.handlers) == (handlers if tells else [])
    assert features.supplemental_groups_policy == tells


# Pods.


async def test_a_sandbox_lives_from_run_to_remove(subject: Subject) -> None:
    config = subject.sandbox_config(labels={"app": "x"}, annotations={"note": "y"})
    sandbox = await subject.runtime.run_pod_sandbox(config)

    status = await subject.runtime.pod_sandbox_status(sandbox)
    assert (status.state, status.metadata) == (PodSandboxState.READY, config.metadata)
    assert (status.labels, status.annotations) == (config.labels, config.annotations)
    assert len(status.ips) == 1
    assert status.created_at > 0

    for _ in range(2):
        await subject.runtime.stop_pod_sandbox(sandbox)
    (listed,) = await subject.runtime.list_pod_sandbox()
    assert (listed.id, listed.state) == (sandbox, PodSandboxState.NOTREADY)
    assert (listed.metadata, listed.labels) == (config.metadata, config.labels)
    assert (await subject.runtime.pod_sandbox_status(sandbox)).ips == []

    for _ in range(2):
        await subject.runtime.remove_pod_sandbox(sandbox)
    assert (await code_of(subject.runtime.pod_sandbox_status(sandbox)))[0] == "NOT_FOUND"


async def test_there_are_never_two_sandboxes_of_one_name(subject: Subject) -> None:
    config = subject.sandbox_config()
    first = await subject.runtime.run_pod_sandbox(config)
    name = f"{config.metadata.name}_default_{config.metadata.uid}_0"
    taken = f'failed to reserve sandbox name "{name}": name "{name}" is reserved for "{first}"'
    code = _code_of_a_taken_name(subject)

    assert await code_of(subject.runtime.run_pod_sandbox(config)) == (code, taken)
    await subject.runtime.stop_pod_sandbox(first)
    assert await code_of(subject.runtime.run_pod_sandbox(config)) == (code, taken)
    await subject.runtime.remove_pod_sandbox(first)
    assert await subject.runtime.run_pod_sandbox(config) != first


async def test_a_sandbox_takes_its_containers_along(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    running = await subject.start("sleep", "1000", sandbox=sandbox)
    await subject.create(sandbox, "true")

    await subject.runtime.stop_pod_sandbox(sandbox)
    assert (await subject.ended(running)).exit_code == 137
    await subject.runtime.remove_pod_sandbox(sandbox)

    assert await subject.runtime.list_containers() == []


async def test_containers_of_a_pod_share_its_network_its_memory_and_its_name(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    address = (await subject.runtime.pod_sandbox_status(sandbox)).ips[0]
    await subject.start("sh", "-c", "echo shared > /dev/shm/note; nc -l -p 80 -e echo heard", sandbox=sandbox)
    script = "until nc 127.0.0.1 80 2>/dev/null; do :; done; cat /dev/shm/note; hostname; ip -o -4 address; ps | wc -l"

    lines = (await subject.sh(script, sandbox=sandbox)).splitlines()

    assert lines[:2] == ["heard", "shared"]
    assert lines[2].startswith("host")
    assert any(address in line for line in lines)
    assert int(lines[-1]) < 6  # its own processes only


async def test_a_pod_may_share_its_processes(subject: Subject) -> None:
    options = NamespaceOption(pid=NamespaceMode.POD)
    sandbox = await subject.sandbox(security=LinuxSandboxSecurityContext(namespace_options=options))
    linux = secured(namespace_options=options)
    await subject.start("sleep", "4321", sandbox=sandbox, linux=linux)

    _, output = await subject.run("ps", "-o", "args", sandbox=sandbox, linux=linux)

    assert "sleep 4321" in output


async def test_a_pod_may_have_the_nodes_network_and_processes(subject: Subject) -> None:
    options = NamespaceOption(network=NamespaceMode.NODE, pid=NamespaceMode.NODE, ipc=NamespaceMode.NODE)
    sandbox = await subject.sandbox(security=LinuxSandboxSecurityContext(namespace_options=options), hostname="")
    script = "for name in net pid ipc; do readlink /proc/self/ns/$name; done"

    output = await subject.sh(script, sandbox=sandbox, linux=secured(namespace_options=options))

    assert output.split() == [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "pid", "ipc")]
    assert (await subject.runtime.pod_sandbox_status(sandbox)).ips == []


async def test_a_pod_has_the_resolver_and_the_kernels_parameters_that_it_asks_for(subject: Subject) -> None:
    dns = DNSConfig(servers=["10.0.0.10"], searches=["a.test", "b.test"], options=["ndots:5"])
    sandbox = await subject.sandbox(dns_config=dns, sysctls={"net.ipv4.ip_unprivileged_port_start": "7"})

    output = await subject.sh("cat /etc/resolv.conf /proc/sys/net/ipv4/ip_unprivileged_port_start", sandbox=sandbox)

    assert output.splitlines() == ["search a.test b.test", "nameserver 10.0.0.10", "options ndots:5", "7"]


# Failures.


async def test_what_is_not_there_is_not_found(subject: Subject) -> None:
    runtime = subject.runtime
    found = {
        "sandbox": await code_of(runtime.pod_sandbox_status("x")),
        "ports": await code_of(runtime.port_forward("x", [80])),
        "container": await code_of(runtime.container_status("x")),
        "start": await code_of(runtime.start_container("x")),
        "command": await code_of(runtime.exec_sync("x", ["true"])),
        "log": await code_of(runtime.reopen_container_log("x")),
    }
    await runtime.remove_container("x")
    await runtime.remove_pod_sandbox("x")

    container = 'an error occurred when try to find container "x": not found'
    assert found == {
        "sandbox": ("NOT_FOUND", "an error occurred when try to find sandbox: not found"),
        "ports": ("NOT_FOUND", 'failed to find sandbox "x": not found'),
        "container": ("NOT_FOUND", container),
        "start": ("NOT_FOUND", container),
        "command": ("NOT_FOUND", 'failed to exec in container: failed to find container "x" in store: not found'),
        "log": ("NOT_FOUND", container),
    }


async def test_what_cannot_be_made_is_refused(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    strange = subject.sandbox_config()

    code, words = await code_of(subject.runtime.run_pod_sandbox(strange, "strange"))
    head, _, why = words.rpartition(": ")
    assert (code, why) == ("UNKNOWN", 'no runtime for "strange" is configured')
    of_new = subject.is_containerd_since(2, 0)
    assert head.startswith("unable to get OCI runtime for sandbox " if of_new else "failed to get sandbox runtime")
    checked = "failed to check if this is a checkpoint image: " if subject.is_containerd_since(2, 1) else ""
    assert await code_of(subject.create(sandbox, "true", image="nothing:1")) == (
        "NOT_FOUND",
        f'{checked}failed to resolve image "nothing:1": not found',
    )
    await subject.create(sandbox, "true", metadata=ContainerMetadata(name="c"))
    code, words = await code_of(subject.create(sandbox, "true", metadata=ContainerMetadata(name="c")))
    assert (code, words.partition('"')[0]) == (_code_of_a_taken_name(subject), "failed to reserve container name ")
    await subject.create(sandbox, "true", metadata=ContainerMetadata(name="c", attempt=1))


async def test_what_does_not_run_has_no_sessions_and_no_log_to_reopen(subject: Subject) -> None:
    container = await subject.create(await subject.sandbox(), "true")

    for end in (False, True):
        if end:
            await subject.runtime.start_container(container)
            await subject.ended(container)
        state = ContainerState.EXITED.value if end else ContainerState.CREATED.value
        assert await code_of(subject.runtime.exec_sync(container, ["true"])) == (
            "UNKNOWN",
            f"failed to exec in container: container is in {state} state",
        )
        assert await code_of(subject.runtime.reopen_container_log(container)) == (
            "UNKNOWN",
            "container is not running",
        )
    words = f'failed to set starting state for container "{container}": container is in CONTAINER_EXITED state'
    assert await code_of(subject.runtime.start_container(container)) == ("UNKNOWN", words)


# Numbers and news.


async def test_pods_are_counted(subject: Subject) -> None:
    await subject.start("sleep", "1000")

    (pod,) = await subject.runtime.list_pod_sandbox_stats()
    (container,) = await subject.runtime.list_container_stats()

    assert pod.interfaces[0].name == "eth0"
    assert pod.memory_working_set_bytes > 0
    assert pod.process_count >= 1
    assert pod.containers[0].id == container.id


async def test_events_tell_what_happens(subject: Subject) -> None:
    """A containerd before 1.7 tells only what nobody asked it to do: the end of containers."""
    events = subject.runtime.get_container_events()
    following = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(LIMIT):
        while not following.done():  # a stream over a socket is there a little later
            await subject.start("true")
        container = await subject.start("true")
        kinds = []
        async for event in events:
            if event.container_id == container:
                kinds.append(event.container_event_type)
                assert event.pod_uid.startswith("uid")
            if kinds[-1:] == [ContainerEventType.STOPPED]:
                break

    untold = subject.is_containerd_before(1, 7)
    before = [] if untold else [ContainerEventType.CREATED, ContainerEventType.STARTED]
    assert kinds == [*before, ContainerEventType.STOPPED]


async def test_nothing_starts_in_a_sandbox_that_ended_once_its_containers_end_is_told(subject: Subject) -> None:
    """As the first process of shared ones takes the others along, their container would else be started there again."""
    options = NamespaceOption(pid=NamespaceMode.POD)
    sandbox = await subject.sandbox(security=LinuxSandboxSecurityContext(namespace_options=options))
    events = subject.runtime.get_container_events()
    following = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(LIMIT):
        while not following.done():
            await subject.start("true")
        container = await subject.start(
            "sleep", f"9{os.getpid()}", sandbox=sandbox, linux=secured(namespace_options=options)
        )

        os.kill(_first_beside(f"9{os.getpid()}"), signal.SIGKILL)

        async for event in events:
            if (event.container_id, event.container_event_type) == (container, ContainerEventType.STOPPED):
                break
    await code_of(subject.start("true", sandbox=sandbox))
    assert (await subject.runtime.pod_sandbox_status(sandbox)).state is PodSandboxState.NOTREADY


def _first_beside(word: str) -> int:
    """The first process of the PID namespace in which a command with this word runs."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            space = str((entry / "ns/pid").readlink())
            numbers = (entry / "status").read_text().partition("NSpid:")[2].splitlines()[0].split()
            found[int(entry.name)] = space, numbers[-1], word in (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
    [wanted] = {space for space, _, there in found.values() if there}
    return next(pid for pid, (space, number, _) in found.items() if (space, number) == (wanted, "1"))
