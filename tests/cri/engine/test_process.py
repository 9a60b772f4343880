"""What a container's process finds: user, capabilities, limits, files, mounts, devices, namespaces, seccomp."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import (
    Capability,
    CDIDevice,
    ContainerEventType,
    CriError,
    Device,
    DNSConfig,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    Mount,
    MountPropagation,
    NamespaceMode,
    NamespaceOption,
    PodSandboxState,
    SecurityProfile,
)
from pinnace.cri.engine import cdi
from tests.cri.engine.conftest import Node, next_event

pytestmark = pytest.mark.root


def _mount(*command: str | Path, check: bool = True) -> None:
    subprocess.run(command, check=check)


DEFAULT_MASK = 0x00000000A80425FB


def secured(**fields: Any) -> LinuxContainerConfig:
    return LinuxContainerConfig(security_context=LinuxContainerSecurityContext(**fields))


async def test_the_environment_is_the_images_overlaid_by_the_pods(node: Node) -> None:
    output = await node.sh(
        "echo $FROM_IMAGE $GREETING $HOSTNAME $HOME; pwd", envs={"GREETING": "hi"}, working_dir="/var"
    )

    assert output == "1 hi host0 /root\n/var\n"


async def test_a_missing_working_directory_is_made(node: Node) -> None:
    assert await node.sh("pwd", working_dir="/made/for/it") == "/made/for/it\n"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "uid=0(root) gid=0(root) groups=0(root)"),
        ({"run_as_user": 1000}, "uid=1000(app) gid=1001(app) groups=1001(app),2002(extra)"),
        ({"run_as_user": 1000, "run_as_group": 5}, "uid=1000(app) gid=5 groups=5,2002(extra)"),
        ({"run_as_user": 4242, "supplemental_groups": [7, 8]}, "uid=4242 gid=0(root) groups=0(root),7,8"),
        ({"run_as_username": "app"}, "uid=1000(app) gid=1001(app) groups=1001(app),2002(extra)"),
    ],
)
async def test_the_user_is_resolved_in_the_image(node: Node, fields: dict[str, Any], expected: str) -> None:
    assert (await node.sh("id", linux=secured(**fields))).strip() == expected


async def test_an_unknown_user_is_a_start_error(node: Node) -> None:
    container = await node.create(await node.sandbox(), "/bin/id", linux=secured(run_as_username="nobody-knows"))
    with pytest.raises(CriError, match="unable to find user nobody-knows: no matching entries in passwd file"):
        await node.engine.start_container(container)


@pytest.mark.parametrize(
    ("fields", "effective", "bounding"),
    [
        ({}, DEFAULT_MASK, DEFAULT_MASK),
        ({"capabilities": Capability(drop_capabilities=["ALL"])}, 0, 0),
        (
            {"capabilities": Capability(drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"])},
            1 << 10,
            1 << 10,
        ),
        ({"capabilities": Capability(add_capabilities=["NET_ADMIN"])}, DEFAULT_MASK | 1 << 12, DEFAULT_MASK | 1 << 12),
        ({"run_as_user": 1000}, 0, DEFAULT_MASK),
    ],
)
async def test_capabilities(node: Node, fields: dict[str, Any], effective: int, bounding: int) -> None:
    output = await node.sh("grep -E 'Cap(Inh|Eff|Bnd|Amb)' /proc/self/status", linux=secured(**fields))
    sets = {line.split(":")[0]: int(line.split()[1], 16) for line in output.splitlines()}

    assert sets == {"CapInh": 0, "CapEff": effective, "CapBnd": bounding, "CapAmb": 0}


async def test_an_unknown_capability_is_left_out(node: Node) -> None:
    script = "grep CapBnd /proc/self/status"
    added = secured(capabilities=Capability(add_capabilities=["FLY"]))

    assert await node.sh(script, linux=added) == await node.sh(script)


async def test_ambient_capabilities_reach_a_user_without_others(node: Node) -> None:
    linux = secured(run_as_user=1000, capabilities=Capability(add_ambient_capabilities=["NET_ADMIN"]))

    assert int((await node.sh("grep CapEff /proc/self/status", linux=linux)).split()[1], 16) == 1 << 12


async def test_a_running_container_is_bound_to_other_cpus(node: Node) -> None:
    linux = LinuxContainerConfig(resources=LinuxContainerResources(cpuset_cpus="0-1"))
    container = await node.start(await node.sandbox(), "sleep", "1000", linux=linux)
    shown = "grep Cpus_allowed_list /proc/1/status | cut -f 2"
    assert await node.exec(container, "sh", "-c", shown) == "0-1\n"

    await node.engine.update_container_resources(container, LinuxContainerResources(cpuset_cpus="1"))

    assert await node.exec(container, "sh", "-c", shown) == "1\n"


async def test_devices_of_cdi_files_reach_a_container(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = {"env": ["GPU=0"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/full"}]}
    spec = {"cdiVersion": "0.6.0", "kind": "v.example/gpu", "devices": [{"name": "0", "containerEdits": edits}]}
    (tmp_path / "gpu.json").write_text(json.dumps(spec))
    read = cdi.read_specs
    monkeypatch.setattr(cdi, "read_specs", lambda: read((tmp_path,)))

    script = "echo $GPU; [ -c /dev/gpu0 ] && echo x 2>&1 > /dev/gpu0; exit 0"
    output = await node.sh(script, CDI_devices=[CDIDevice(name="v.example/gpu=0")])

    assert output == "0\nsh: write error: No space left on device\n"


async def test_no_new_privileges(node: Node) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert (await node.sh(script)).split()[1] == "0"
    assert (await node.sh(script, linux=secured(no_new_privs=True))).split()[1] == "1"


async def test_a_seccomp_profile_of_a_file_decides(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "no-directories.json"
    names = ["mkdir", "mkdirat"]
    rules = [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    profile = SecurityProfile(profile_type="Localhost", localhost_ref=str(path))

    output = await node.sh("mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status", linux=secured(seccomp=profile))

    assert output == "mkdir: can't create directory '/tmp/x': Operation not supported\nSeccomp:\t2\n"


async def test_the_runtime_default_seccomp_profile_refuses_namespaces_and_mounts(node: Node) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -n true && echo unshared; echo end"
    assert await node.sh(script, linux=secured(capabilities=Capability(add_capabilities=["NET_ADMIN"]))) != ""
    profile = SecurityProfile(profile_type="RuntimeDefault")

    for no_new_privs in (False, True):
        linux = secured(seccomp=profile, no_new_privs=no_new_privs, run_as_user=1000)
        status, _ = await node.run("/bin/sh", "-c", script, linux=linux)
        assert node.output(status, "stdout") == "Seccomp:\t2\nend\n"


async def test_a_read_only_root_refuses_writes_but_not_to_volumes(node: Node, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    volume = Mount(container_path="/data", host_path=str(tmp_path / "data"))
    output = await node.sh(
        "touch /x 2>&1; touch /data/y && echo wrote; touch /dev/shm/z && echo shm",
        linux=secured(readonly_rootfs=True),
        mounts=[volume],
    )

    assert output == "touch: /x: Read-only file system\nwrote\nshm\n"
    assert (tmp_path / "data" / "y").exists()


async def test_mounts_are_files_or_directories_read_only_or_not(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "directory" / "inner").mkdir(parents=True)
    output = await node.sh(
        "cat /etc/given; (echo x > /etc/given) 2>&1; touch /d/z && echo wrote; cat /d/inner/deep; ls -d /made",
        mounts=[
            Mount(container_path="/d/inner/deep", host_path=str(tmp_path / "file")),
            Mount(container_path="/etc/given", host_path=str(tmp_path / "file"), readonly=True),
            Mount(container_path="/d", host_path=str(tmp_path / "directory")),
            Mount(container_path="/made", host_path=str(tmp_path / "new" / "directory")),
        ],
    )

    assert output == "content\n/bin/sh: can't create /etc/given: Read-only file system\nwrote\ncontent\n/made\n"


async def test_a_link_in_an_image_cannot_lead_a_mount_out_of_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("inside\n")
    output = await node.sh(
        "cat /escaped; cat /run/secrets/token",
        mounts=[
            Mount(container_path="/etc/evil", host_path=str(tmp_path / "file")),
            Mount(container_path="/var/run/secrets/token", host_path=str(tmp_path / "file")),
        ],
    )

    assert output == "inside\ninside\n"
    assert not Path("/escaped").exists()


async def test_mount_propagation(node: Node, tmp_path: Path) -> None:
    """A mount made on the host shows in a HostToContainer volume; one made in a Bidirectional volume on the host."""
    for name in ("private", "slave", "shared"):
        (tmp_path / name / "sub").mkdir(parents=True)
        _mount("mount", "--bind", tmp_path / name, tmp_path / name)
        _mount("mount", "--make-shared", tmp_path / name)
    try:
        container = await node.start(
            await node.sandbox(),
            "/bin/sleep",
            "1000",
            linux=secured(privileged=True),
            mounts=[
                Mount(container_path="/private", host_path=str(tmp_path / "private")),
                Mount(
                    container_path="/slave",
                    host_path=str(tmp_path / "slave"),
                    propagation=MountPropagation.HOST_TO_CONTAINER,
                ),
                Mount(
                    container_path="/shared",
                    host_path=str(tmp_path / "shared"),
                    propagation=MountPropagation.BIDIRECTIONAL,
                ),
            ],
        )
        for name in ("private", "slave"):
            _mount("mount", "-t", "tmpfs", "probe", tmp_path / name / "sub")
        await node.exec(container, "/bin/mount", "-t", "tmpfs", "probe", "/shared/sub")
        await node.exec(container, "/bin/mount", "-t", "tmpfs", "probe", "/slave/sub")

        inside = await node.exec(container, "/bin/sh", "-c", "grep probe /proc/mounts | cut -d' ' -f2 | sort")
        outside = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if "probe" in line]
        assert inside.split() == ["/shared/sub", "/slave/sub", "/slave/sub"]
        assert sorted(outside) == [str(tmp_path / name / "sub") for name in ("private", "shared", "slave")]
    finally:
        for name in ("private", "slave", "shared"):
            _mount("umount", "-q", tmp_path / name / "sub", check=False)
            _mount("umount", "-l", tmp_path / name, check=False)


async def test_devices(node: Node) -> None:
    output = await node.sh(
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo y > /dev/stdout; ls /dev/pts/ptmx;"
        "ls -l /dev/given | cut -c1-10; mknod /tmp/disk b 254 0 && head -c1 /tmp/disk 2>&1",
        devices=[Device(container_path="/dev/given", host_path="/dev/null")],
    )

    assert output.startswith("3\ny\n/dev/pts/ptmx\ncrw-rw-rw-\n")
    assert output.endswith("head: /tmp/disk: Operation not permitted\n")


async def test_a_user_may_open_its_standard_streams_anew(node: Node) -> None:
    output = await node.sh("echo a > /dev/stdout; echo b > /dev/stderr", linux=secured(run_as_user=1000))

    assert sorted(output.splitlines()) == ["a", "b"]


async def test_masked_and_read_only_paths(node: Node) -> None:
    paths = {"masked_paths": ["/proc/timer_list", "/sys/firmware", "/no/such"], "readonly_paths": ["/proc/sys"]}
    script = "cat /proc/timer_list | wc -c; (: > /proc/sys/kernel/hostname) 2>&1; ls /sys/firmware | wc -l"
    output = await node.sh(script, linux=secured(**paths))

    assert output == "0\n/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system\n0\n"


async def test_privileged_has_all_capabilities_and_devices(node: Node) -> None:
    script = "grep CapEff /proc/self/status | cut -f2; ls /dev/kmsg; mount -t tmpfs x /tmp && echo mounted"
    output = await node.sh(script, linux=secured(privileged=True))
    host = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))

    assert output.splitlines() == [host.split()[1], "/dev/kmsg", "mounted"]


async def test_limits_are_in_the_cgroups(node: Node) -> None:
    resources = LinuxContainerResources(
        cpu_shares=512, cpu_quota=50_000, cpu_period=100_000, memory_limit_in_bytes=64 << 20, pids_limit=50
    )
    container = await node.start(
        await node.sandbox(), "/bin/sleep", "1000", linux=LinuxContainerConfig(resources=resources)
    )
    cgroups, path = node.engine.cgroups, node.engine.containers.cgroup(node.engine.containers.records[container])
    old = cgroups.version == 1
    memory, cpu = ("memory.limit_in_bytes", "cpu.shares") if old else ("memory.max", "cpu.weight")

    def value(controller: str, name: str) -> str:
        return Path(cgroups.directory(controller, path), name).read_text().strip()

    assert value("cpu", cpu) == ("512" if old else "20")
    if old:
        assert value("cpu", "cpu.cfs_quota_us") == "50000"
    else:
        assert value("cpu", "cpu.max") == "50000 100000"
    assert value("memory", memory) == str(64 << 20)
    assert value("pids", "pids.max") == "50"
    inside = await node.exec(container, "/bin/cat", f"/sys/fs/cgroup/{'memory/' if old else ''}{memory}")
    assert inside.strip() == str(64 << 20)

    await node.engine.update_container_resources(
        container, LinuxContainerResources(memory_limit_in_bytes=128 << 20, cpu_shares=256)
    )
    assert value("memory", memory) == str(128 << 20)
    assert value("cpu", cpu) == ("256" if old else "10")
    status = await node.engine.container_status(container)
    assert status.resources is not None
    assert (status.resources.memory_limit_in_bytes, status.resources.pids_limit) == (128 << 20, 50)


async def test_stats_tell_what_a_container_uses(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", "head -c 1000000 /dev/zero > /f; sleep 1000")
    await node.exec(container, "/bin/sh", "-c", "while [ $(stat -c %s /f) != 1000000 ]; do :; done")

    (stats,) = await node.engine.list_container_stats()

    assert stats.id == container
    assert stats.cpu_usage_core_nano_seconds > 0
    assert 0 < stats.memory_working_set_bytes <= stats.memory_usage_bytes
    assert stats.writable_layer_used_bytes >= 1_000_000


async def test_the_oom_score_is_set_as_far_as_permitted(node: Node) -> None:
    resources = LinuxContainerResources(oom_score_adj=900)
    assert await node.sh("cat /proc/self/oom_score_adj", linux=LinuxContainerConfig(resources=resources)) == "900\n"
    lowest = LinuxContainerResources(oom_score_adj=-999)
    assert int(await node.sh("cat /proc/self/oom_score_adj", linux=LinuxContainerConfig(resources=lowest))) <= 900


async def test_hostname_and_resolver_come_from_the_sandbox(node: Node) -> None:
    dns = DNSConfig(servers=["10.96.0.10"], searches=["default.svc.cluster.local", "svc"], options=["ndots:5"])
    sandbox = await node.sandbox(hostname="web-0", dns_config=dns)

    output = await node.sh("hostname; cat /etc/hostname /etc/resolv.conf", sandbox=sandbox)

    assert output == ("web-0\nweb-0\nsearch default.svc.cluster.local svc\nnameserver 10.96.0.10\noptions ndots:5\n")


async def test_sysctls_of_the_sandbox(node: Node) -> None:
    linux = LinuxPodSandboxConfig(
        sysctls={"net.ipv4.ip_local_port_range": "1024\t65000", "kernel.shm_rmid_forced": "1"}
    )
    sandbox = await node.sandbox(linux=linux)
    script = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced"

    assert await node.sh(script, sandbox=sandbox) == "1024\t65000\n1\n"


async def test_a_refused_sysctl_fails_the_sandbox(node: Node) -> None:
    with pytest.raises(CriError, match=r"write sysctl key net\.no\.such"):
        await node.sandbox(linux=LinuxPodSandboxConfig(sysctls={"net.no.such": "1"}))


async def test_containers_of_a_pod_share_memory_and_loopback_but_not_processes(node: Node) -> None:
    sandbox = await node.sandbox()
    script = "echo shared > /dev/shm/f; ls -di /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; ps | wc -l"
    first = (await node.sh(script, sandbox=sandbox, name="a")).splitlines()
    second = (await node.sh("cat /dev/shm/f; " + script, sandbox=sandbox, name="b")).splitlines()

    assert second[0] == "shared"
    assert [line.split()[-1] for line in first[:3]] == [line.split()[-1] for line in second[1:4]]
    assert int(first[3]) < 6


def _options(option: NamespaceOption) -> tuple[LinuxPodSandboxConfig, LinuxContainerConfig]:
    return (
        LinuxPodSandboxConfig(security_context=LinuxSandboxSecurityContext(namespace_options=option)),
        secured(namespace_options=option),
    )


async def test_a_shared_pid_namespace_has_a_harmless_init(node: Node) -> None:
    pod, container = _options(NamespaceOption(pid=NamespaceMode.POD))
    sandbox = await node.sandbox(linux=pod)
    sleeper = await node.start(sandbox, "/bin/sleep", "4321", linux=container, name="sleeper")
    output = await node.sh(
        "ps -o args; ls /proc/1/root/ 2>/dev/null | wc -l; grep CapEff /proc/1/status; (sleep 0.01 &);"
        "while ps -o args | grep -qx -e 'sleep 0.01' -e '\\[sleep\\]'; do :; done; echo reaped",
        sandbox=sandbox,
        linux=container,
        name="looker",
    )

    assert "/bin/sleep 4321" in output
    assert "\n0\nCapEff:\t0000000000000000\nreaped\n" in output
    await node.engine.stop_container(sleeper, 0)
    assert (await node.engine.container_status(sleeper)).exit_code == 137


async def test_who_may_trace_all_processes_finds_nothing_of_other_pods_in_the_init(node: Node) -> None:
    """It is a program of its own and no copy of the monitor, which has read what other pods are started with."""
    pod, container = _options(NamespaceOption(pid=NamespaceMode.POD))
    sandbox = await node.sandbox(linux=pod)
    mapped = "cat /proc/1/environ /proc/1/maps 2>/dev/null | wc -l; awk '{ print $6 }' /proc/1/maps 2>/dev/null"

    assert container.security_context is not None
    without = await node.sh(mapped, sandbox=sandbox, linux=container, name="without")
    container.security_context.capabilities = Capability(add_capabilities=["SYS_PTRACE"])
    tracer = await node.sh(mapped, sandbox=sandbox, linux=container, name="tracer")

    assert without == "0\n"
    lines, *parts = tracer.split()
    assert int(lines) == len(parts)  # and nothing of an environment
    assert {part for part in parts if not part.startswith("[")} == {"/pause"}


async def test_the_end_of_a_container_in_a_shared_pid_namespace_ends_its_children(node: Node) -> None:
    pod, container = _options(NamespaceOption(pid=NamespaceMode.POD))
    status, _ = await node.run(
        "/bin/sh", "-c", "sleep 999 & exit 3", sandbox=await node.sandbox(linux=pod), linux=container
    )

    assert status.exit_code == 3  # and the fixture sees that no process is left


async def test_a_target_containers_processes_are_seen(node: Node) -> None:
    sandbox = await node.sandbox()
    target = await node.start(sandbox, "/bin/sleep", "7654", name="target")
    option = NamespaceOption(pid=NamespaceMode.TARGET, target_id=target)

    output = await node.sh("ps -o args", sandbox=sandbox, linux=secured(namespace_options=option), name="debug")

    assert "/bin/sleep 7654" in output


async def test_the_hosts_namespaces(node: Node) -> None:
    option = NamespaceOption(network=NamespaceMode.NODE, pid=NamespaceMode.NODE, ipc=NamespaceMode.NODE)
    pod, container = _options(option)
    sandbox = await node.sandbox(linux=pod, hostname="")
    output = await node.sh(
        "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done", sandbox=sandbox, linux=container
    )

    assert output.split() == [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "ipc", "uts", "pid")]
    assert (await node.engine.pod_sandbox_status(sandbox)).ips == []


async def test_a_sandbox_whose_shared_init_was_killed_is_not_ready(node: Node) -> None:
    pod, container = _options(NamespaceOption(pid=NamespaceMode.POD))
    sandbox = await node.sandbox(linux=pod)
    sleeper = await node.start(sandbox, "/bin/sleep", "1000", linux=container)
    events = node.engine.get_container_events()
    waiting = asyncio.create_task(next_event(events, ContainerEventType.STOPPED, sandbox))
    await asyncio.sleep(0)

    os.kill(node.engine.sandboxes.pause_pid(node.engine.sandboxes.records[sandbox]), signal.SIGKILL)

    await waiting
    assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.NOTREADY
    assert (await node.ended(sleeper)).exit_code == 137
    with pytest.raises(CriError, match="is not"):
        await node.create(sandbox, "/bin/true", linux=container, name="late")


async def test_who_hears_of_a_container_that_ended_with_its_sandbox_finds_that_not_ready(node: Node) -> None:
    """The kernel lets the init end after all others, here after one whom nobody reaps: who comes late is not let in."""
    pod, container = _options(NamespaceOption(pid=NamespaceMode.POD))
    sandbox = await node.sandbox(linux=pod)
    sleeper = await node.start(sandbox, "/bin/sleep", "1000", linux=container)
    init = node.engine.sandboxes.pause_pid(node.engine.sandboxes.records[sandbox])
    inside = ("nsenter", f"--target={init}", "--pid", "sh", "-c", "echo in; exec sleep 1000")
    parent = await asyncio.create_subprocess_exec(*inside, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"in\n"
        parent.send_signal(signal.SIGSTOP)
        events = node.engine.get_container_events()
        waiting = asyncio.create_task(next_event(events, ContainerEventType.STOPPED, sleeper))
        await asyncio.sleep(0)
        os.kill(init, signal.SIGKILL)
        await waiting
        assert (await node.engine.pod_sandbox_status(sandbox)).state == PodSandboxState.NOTREADY
    finally:
        parent.kill()
        await parent.wait()
