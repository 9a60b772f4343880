"""What a kubelet relies on, of every runtime: the life of containers, what they are given, and what they say."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from pinnace.cri.api import (
    AttachRequest,
    Capability,
    ContainerState,
    Device,
    ExecRequest,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    LinuxSandboxSecurityContext,
    Mount,
    NamespaceMode,
    NamespaceOption,
    SecurityProfile,
)
from tests.cri.contract.conftest import IMAGE, Subject, code_of, secured
from tests.support.containerd import out_of_memory

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session")]


READY, FOREVER = "touch /tmp/ready", "while :; do sleep 0.01; done"


async def ready(subject: Subject, container: str) -> None:
    """Until it has got as far as READY."""
    await subject.runtime.exec_sync(container, ["sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.01; done"], 60)


# Lives.


async def test_a_container_goes_through_its_states(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    container = await subject.create(
        sandbox, "sh", "-c", "echo out $WHO; exit 7", name="c", envs={"WHO": "me"}, labels={"a": "b"}
    )
    created = await subject.runtime.container_status(container)
    await subject.runtime.start_container(container)
    status = await subject.ended(container)

    assert (created.state, created.started_at, created.finished_at) == (ContainerState.CREATED, 0, 0)
    assert (status.exit_code, status.reason) == (7, "Error")
    # The end may be seen before the start was told.
    assert status.created_at < min(status.started_at, status.finished_at)
    assert await subject.output(container) == "out me\n"
    (listed,) = await subject.runtime.list_containers()
    assert (listed.id, listed.pod_sandbox_id, listed.state) == (container, sandbox, ContainerState.EXITED)
    assert (listed.labels, listed.metadata.name) == ({"a": "b"}, "c")
    for _ in range(2):
        await subject.runtime.remove_container(container)
    assert await subject.runtime.list_containers() == []


async def test_ends_are_told_with_their_reasons(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    memory = LinuxContainerConfig(resources=LinuxContainerResources(memory_limit_in_bytes=16 << 20))

    (good, _), (bad, _), (starved, _), (killed, _) = await asyncio.gather(
        subject.run("true", sandbox=sandbox),
        subject.run("false", sandbox=sandbox),
        subject.run("sh", "-c", "exec tail /dev/zero", sandbox=sandbox, linux=memory),
        subject.run("sh", "-c", "sleep 1000 & kill -9 $! ; wait $!", sandbox=sandbox),
    )

    assert (good.exit_code, good.reason) == (0, "Completed")
    assert (bad.exit_code, bad.reason) == (1, "Error")
    assert starved.exit_code == 137
    assert starved.reason in out_of_memory(subject.name)
    assert (killed.exit_code, killed.reason) == (137, "Error")


async def test_what_does_not_end_in_time_is_killed(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    deaf = await subject.start("sleep", "1000", sandbox=sandbox)
    obedient = await subject.start("sh", "-c", f"trap 'exit 5' TERM; {READY}; {FOREVER}", sandbox=sandbox)
    await ready(subject, obedient)
    busy = await subject.start("sleep", "1000", sandbox=sandbox)

    async def stop(container: str, timeout: int) -> None:
        for _ in range(2):
            await subject.runtime.stop_container(container, timeout)

    late, *_ = await asyncio.gather(
        code_of(subject.runtime.exec_sync(busy, ["sleep", "100"], 1)), stop(deaf, 1), stop(obedient, 60)
    )

    assert late == ("DEADLINE_EXCEEDED", "failed to exec in container: timeout 1s exceeded: context deadline exceeded")
    found = [await subject.runtime.container_status(one) for one in (deaf, obedient, busy)]
    assert [one.exit_code for one in found] == [137, 5, 0]
    assert [one.state for one in found] == [ContainerState.EXITED, ContainerState.EXITED, ContainerState.RUNNING]


async def test_a_running_container_is_removed_by_force(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")

    await subject.runtime.remove_container(container)

    assert await subject.runtime.list_containers() == []
    assert (await code_of(subject.runtime.container_status(container)))[0] == "NOT_FOUND"


async def test_what_cannot_be_started_has_ended_with_the_reason(subject: Subject) -> None:
    broken = await subject.create(await subject.sandbox(), "/no/such")

    code, words = await code_of(subject.runtime.start_container(broken))
    status = await subject.runtime.container_status(broken)

    assert code in ("UNKNOWN", "NOT_FOUND")
    assert "OCI runtime create failed" in words
    assert re.search(subject.unknown_command("/no/such"), words)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
    assert status.message


async def test_a_status_says_what_was_asked_for(subject: Subject, data: Path) -> None:
    (image,) = [one for one in await subject.images.list_images() if IMAGE in one.repo_tags]
    volume = Mount(container_path="/data", host_path=str(data), readonly=True)
    container = await subject.start(
        "sleep", "1000", image=image.id, labels={"a": "b"}, annotations={"c": "d"}, mounts=[volume]
    )

    status = await subject.runtime.container_status(container)

    assert (status.labels, status.annotations, status.mounts) == ({"a": "b"}, {"c": "d"}, [volume])
    assert status.image.image == IMAGE  # although it was asked for by its id
    assert status.image_ref == image.id
    assert Path(status.log_path).is_absolute()
    assert (status.state, status.finished_at, status.exit_code) == (ContainerState.RUNNING, 0, 0)


# What they are given.


async def test_commands_variables_and_directories(subject: Subject) -> None:
    sandbox = await subject.sandbox()

    outputs = await asyncio.gather(
        subject.run("sh", "-c", "pwd; echo $A-$PATH", sandbox=sandbox, envs={"A": "1"}, working_dir="/tmp/made"),
        subject.run("echo", sandbox=sandbox, args=["an", "argument"]),
        subject.run(sandbox=sandbox, args=["echo", "instead of the image's"]),
    )

    assert [output for _, output in outputs] == [
        "/tmp/made\n1-/bin:/usr/bin:/sbin\n",
        "an argument\n",
        "instead of the image's\n",
    ]


async def test_files_of_the_host_are_mounted(subject: Subject, data: Path) -> None:
    (data / "inner").mkdir()
    mounts = [
        Mount(container_path="/data", host_path=str(data), readonly=True),
        Mount(container_path="/data/inner", host_path=str(data / "inner")),
        Mount(container_path="/etc/one", host_path=str(data / "file")),
        Mount(container_path="/new", host_path=str(data.parent / "made")),
    ]
    script = (
        "cat /data/file /etc/one; touch /data/new || echo denied; touch /data/inner/x /new/y; echo more >> /etc/one"
    )

    output = await subject.sh(script, mounts=mounts)

    assert output.count("from outside\n") == 2
    assert "denied\n" in output
    assert sorted(path.name for path in data.rglob("*")) == ["file", "inner", "x"]
    assert (data.parent / "made/y").exists()
    assert (data / "file").read_text() == "from outside\nmore\n"


async def test_users_and_groups(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    numbers = secured(run_as_user=1000, run_as_group=2000, supplemental_groups=[3000])

    outputs = await asyncio.gather(
        subject.sh("id -u; id -g; id -G", sandbox=sandbox, linux=numbers),
        subject.sh("id -u; id -g", sandbox=sandbox, linux=secured(run_as_username="nobody")),
        subject.sh("id -u; id -g", sandbox=sandbox),
    )

    assert [output.split() for output in outputs] == [["1000", "2000", "2000", "3000"], ["65534", "65534"], ["0", "0"]]


async def test_rights_are_as_few_as_asked_for(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>/dev/null || echo readonly"

    def status(output: str) -> dict[str, str]:
        return dict(line.partition(":")[::2] for line in output.replace("\t", "").splitlines())

    restricted, usual, added = await asyncio.gather(
        subject.sh(
            script,
            sandbox=sandbox,
            linux=secured(
                capabilities=Capability(drop_capabilities=["ALL"]),
                no_new_privs=True,
                readonly_rootfs=True,
                seccomp=SecurityProfile(profile_type="RuntimeDefault"),
            ),
        ),
        subject.sh(script, sandbox=sandbox),
        subject.sh(script, sandbox=sandbox, linux=secured(capabilities=Capability(add_capabilities=["NET_ADMIN"]))),
    )

    assert status(restricted) == {
        "CapEff": "0000000000000000",
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "readonly": "",
    }
    assert status(usual) == {"CapEff": "00000000a80425fb", "NoNewPrivs": "0", "Seccomp": "0"}
    assert int(status(added)["CapEff"], 16) == 0xA80425FB | 1 << 12


async def test_the_machine_is_masked_but_for_the_privileged(subject: Subject) -> None:
    sandbox = await subject.sandbox(security=LinuxSandboxSecurityContext(privileged=True))
    script = "wc -c < /proc/meminfo; ls /proc/fs | wc -l; echo 1 2>/dev/null > /proc/sys/vm/drop_caches || echo no"
    paths = {"masked_paths": ["/proc/meminfo", "/proc/fs"], "readonly_paths": ["/proc/sys"]}

    masked = await subject.sh(script, sandbox=sandbox, linux=secured(**paths))
    privileged = await subject.sh(
        "ls /dev/kmsg; mount -t tmpfs none /tmp && echo mounted", sandbox=sandbox, linux=secured(privileged=True)
    )

    assert masked.split() == ["0", "0", "no"]
    assert privileged == "/dev/kmsg\nmounted\n"


async def test_devices_are_there_and_no_others(subject: Subject) -> None:
    device = Device(container_path="/dev/mine", host_path="/dev/full", permissions="rw")

    output = await subject.sh(
        "echo x 2>/dev/null > /dev/mine || echo full; ls /dev/full0 2>/dev/null; ls -d /dev/null", devices=[device]
    )

    assert output == "full\n/dev/null\n"


async def test_limits_are_set_and_change_while_it_runs(subject: Subject) -> None:
    limits = LinuxContainerResources(
        memory_limit_in_bytes=64 << 20, cpu_shares=256, cpu_period=100_000, cpu_quota=50_000
    )
    container = await subject.start("sleep", "1000", linux=LinuxContainerConfig(resources=limits))

    async def told() -> list[str]:
        script = (
            "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares 2>/dev/null"
            " || cat memory.max cpu.max cpu.weight"
        )
        return (await subject.runtime.exec_sync(container, ["sh", "-c", script], 60)).stdout.decode().split()

    before = await told()
    changed = LinuxContainerResources(
        memory_limit_in_bytes=128 << 20, cpu_shares=512, cpu_period=100_000, cpu_quota=70_000
    )
    await subject.runtime.update_container_resources(container, changed)
    after = await told()

    assert before[:2] == [str(64 << 20), "50000"]
    assert after[:2] == [str(128 << 20), "70000"]
    assert before[2:] != after[2:]
    resources = (await subject.runtime.container_status(container)).resources
    assert resources is None or resources.cpu_shares == 512


async def test_a_refused_limit_changes_nothing(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")

    code, words = await code_of(
        subject.runtime.update_container_resources(container, LinuxContainerResources(cpuset_cpus="77"))
    )

    assert code == "UNKNOWN"
    assert words.startswith("failed to update resources: failed to update resources: runc did not terminate")
    assert 'failed to write "77": write /sys/fs/cgroup' in words
    resources = (await subject.runtime.container_status(container)).resources
    assert resources is None or resources.cpuset_cpus == ""


async def test_a_container_may_see_anothers_processes(subject: Subject) -> None:
    sandbox = await subject.sandbox()
    target = await subject.start("sleep", "4321", sandbox=sandbox)
    options = NamespaceOption(pid=NamespaceMode.TARGET, target_id=target)

    _, output = await subject.run("ps", "-o", "args", sandbox=sandbox, linux=secured(namespace_options=options))

    assert "sleep 4321" in output


# What they say, and what is said to them.


async def test_the_log_has_a_line_for_each_line_and_says_which_are_parts(subject: Subject) -> None:
    script = "echo one; echo two >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end"
    container = await subject.start("sh", "-c", script)
    await subject.ended(container)
    lines = Path((await subject.runtime.container_status(container)).log_path).read_text().splitlines()
    found = [line.split(" ", 3) for line in lines]

    assert {(one[1], one[2], one[3]) for one in found if len(one[3]) < 10} == {
        ("stdout", "F", "one"),
        ("stderr", "F", "two"),
        ("stdout", "P" if found[-1][2] == "P" else "F", "end"),
    }
    assert [(one[2], len(one[3])) for one in found if "xx" in one[3]] == [("P", 16384), ("F", 20000 - 16384)]
    assert all(one[0].endswith("Z") or "+" in one[0] for one in found)


async def test_the_log_goes_on_in_a_new_file_after_rotation(subject: Subject) -> None:
    container = await subject.start("sh", "-c", "echo first; until [ -e /tmp/go ]; do :; done; echo second")
    path = Path((await subject.runtime.container_status(container)).log_path)
    old = path.with_suffix(".old")
    path.rename(old)
    await subject.runtime.reopen_container_log(container)
    await subject.runtime.exec_sync(container, ["touch", "/tmp/go"], 60)
    await subject.ended(container)

    said = (old.read_text() + path.read_text()).splitlines()
    assert [line.split(" ", 3)[3] for line in said] == ["first", "second"]
    assert path.read_text().endswith("second\n")


async def test_commands_run_inside(subject: Subject) -> None:
    linux = LinuxContainerConfig(
        security_context=LinuxContainerSecurityContext(
            run_as_user=1000, capabilities=Capability(drop_capabilities=["ALL"])
        )
    )
    container = await subject.start("sleep", "1000", envs={"WHO": "me"}, working_dir="/tmp", linux=linux)

    async def do(script: str) -> tuple[bytes, bytes, int]:
        answer = await subject.runtime.exec_sync(container, ["sh", "-c", script], 60)
        return answer.stdout, answer.stderr, answer.exit_code

    plain, around, much = await asyncio.gather(
        do("echo out; echo err >&2; exit 3"),
        do("echo $WHO; pwd; id -u; grep CapBnd /proc/self/status; ps -o pid,args | head -2 | tail -1"),
        do("head -c 1000000 /dev/zero"),
    )

    assert plain == (b"out\n", b"err\n", 3)
    assert around[0].split() == [b"me", b"/tmp", b"1000", b"CapBnd:", b"0000000000000000", b"1", b"sleep", b"1000"]
    assert len(much[0]) == 1_000_000
    _, words = await code_of(subject.runtime.exec_sync(container, ["nope"], 60))
    assert re.search(subject.unknown_command("nope"), words)


async def test_sessions_are_carried_by_urls(subject: Subject) -> None:
    container = await subject.start("sleep", "1000")
    (listed,) = await subject.runtime.list_containers()

    urls = [
        await subject.runtime.exec(ExecRequest(container_id=container, cmd=["ls"])),
        await subject.runtime.attach(AttachRequest(container_id=container)),
        await subject.runtime.port_forward(listed.pod_sandbox_id, [80]),
    ]

    assert [url.split("/")[3] for url in urls] == ["exec", "attach", "portforward"]
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ({"stdin": False, "stdout": False, "stderr": False}, "one of stdin, stdout, or stderr must be set"),
        ({"tty": True, "stdout": True, "stderr": True}, "tty and stderr cannot both be true"),
    ],
)
async def test_sessions_without_sense_are_refused(subject: Subject, streams: dict[str, bool], words: str) -> None:
    container = await subject.start("sleep", "1000")

    asked = ExecRequest(container_id=container, cmd=["ls"], **streams)

    assert await code_of(subject.runtime.exec(asked)) == ("INVALID_ARGUMENT", words)


async def test_a_signal_of_the_image_or_of_the_pod_stops_it(subject: Subject) -> None:
    if subject.is_containerd_before(2, 2):
        pytest.skip("containerd heeds a pod's own signal from 2.2 on")
    script = f"trap 'echo heard; exit 0' USR1; {READY}; {FOREVER}"
    container = await subject.start("sh", "-c", script, stop_signal="SIGUSR1")
    await ready(subject, container)

    assert (await subject.runtime.container_status(container)).stop_signal == signal.SIGUSR1.name
    await subject.runtime.stop_container(container, 20)

    assert await subject.output(container) == "heard\n"
