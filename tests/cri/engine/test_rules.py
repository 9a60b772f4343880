"""The engine's pure parts: specs, users, cgroup arithmetic, device programs, seccomp programs, records."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.cri.api import (
    Capability,
    ContainerConfig,
    ContainerMetadata,
    CriError,
    HugepageLimit,
    ImageSpec,
    LinuxContainerConfig,
    LinuxContainerResources,
    LinuxContainerSecurityContext,
    Mount,
    MountPropagation,
    PodSandboxConfig,
    PodSandboxMetadata,
    SecurityProfile,
)
from pinnace.cri.engine import devices, identity, launcher, seccomp, spec
from pinnace.cri.engine.cgroups import DEVICE_RULES, Cgroups, weight
from pinnace.cri.engine.containers import parse_signal
from pinnace.cri.engine.images.manifest import ImageConfig
from pinnace.cri.engine.records import ContainerRecord, SandboxRecord, from_plain

IMAGE = ImageConfig(entrypoint=["/entry"], cmd=["arg"], env={"PATH": "/img", "A": "1"}, working_dir="/work")


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="i"), **fields)


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], [], ["/entry", "arg"]),
        (["/cmd"], [], ["/cmd"]),
        ([], ["x"], ["/entry", "x"]),
        (["/cmd"], ["x"], ["/cmd", "x"]),
    ],
)
def test_command_and_args_replace_entrypoint_and_cmd(command: list[str], args: list[str], expected: list[str]) -> None:
    assert spec.arguments(config(command=command, args=args), IMAGE) == expected


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(CriError, match="no command specified"):
        spec.arguments(config(), ImageConfig())


def test_environment_order_and_defaults() -> None:
    assert spec.environment(config(envs={"A": "2", "B": "3"}, tty=True), IMAGE, "host") == [
        "PATH=/img",
        "HOSTNAME=host",
        "A=2",
        "TERM=xterm",
        "B=3",
    ]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], set(spec.DEFAULT_CAPABILITIES)),
        (["NET_ADMIN"], [], {*spec.DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        (["cap_net_admin"], ["all"], {"CAP_NET_ADMIN"}),
        ([], ["CHOWN"], set(spec.DEFAULT_CAPABILITIES) - {"CAP_CHOWN"}),
        (["ALL"], [], {f"CAP_{name}" for name in identity.CAPABILITIES}),
        (["ALL"], ["SYS_ADMIN"], {f"CAP_{name}" for name in identity.CAPABILITIES} - {"CAP_SYS_ADMIN"}),
    ],
)
def test_capabilities_added_and_dropped(add: list[str], drop: list[str], expected: set[str]) -> None:
    security = LinuxContainerSecurityContext(capabilities=Capability(add_capabilities=add, drop_capabilities=drop))

    sets = spec.capabilities(security)

    assert set(sets["bounding"]) == set(sets["effective"]) == set(sets["permitted"]) == expected
    assert sets["ambient"] == sets["inheritable"] == []


def test_volumes_come_after_the_defaults_outer_directories_first() -> None:
    volumes = [
        Mount(container_path="/a/b", host_path="/2", readonly=True),
        Mount(container_path="/a", host_path="/1", propagation=MountPropagation.BIDIRECTIONAL),
        Mount(container_path="/etc/hosts", host_path="/3"),
        Mount(container_path="/dev/shm", host_path="/4"),
    ]
    found = spec.mounts(config(mounts=volumes), spec.Surroundings(shm="/s", resolv_conf="/r", hostname="/h"))

    assert [(m["destination"], m["source"]) for m in found[:1] + found[5:]] == [
        ("/proc", "proc"),
        ("/sys/fs/cgroup", "cgroup"),
        ("/etc/hostname", "/h"),
        ("/etc/resolv.conf", "/r"),
        ("/a", "/1"),
        ("/a/b", "/2"),
        ("/etc/hosts", "/3"),
        ("/dev/shm", "/4"),
    ]
    assert found[8 if found[8]["destination"] == "/a" else 7]["options"] == ["rbind", "rshared", "rw"]
    assert next(m for m in found if m["destination"] == "/a/b")["options"] == ["rbind", "rprivate", "ro"]


def test_privileged_lifts_the_masks() -> None:
    linux = LinuxContainerConfig(security_context=LinuxContainerSecurityContext(privileged=True))
    document = spec.build(
        config(linux=linux),
        PodSandboxConfig(metadata=PodSandboxMetadata(name="p", uid="u", namespace="n")),
        IMAGE,
        spec.Surroundings(network="/net"),
        cgroups_path="/x",
        cgroup_namespace=True,
        devices=[],
        seccomp=seccomp.profile(SecurityProfile(profile_type="RuntimeDefault"), []),
    )

    assert document["linux"]["maskedPaths"] == document["linux"]["readonlyPaths"] == []
    assert "seccomp" not in document["linux"]
    assert {"type": "network", "path": "/net"} in document["linux"]["namespaces"]
    assert document["process"]["args"] == ["/entry", "arg"]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({}, (0, 0, [0], "/root")),
        ({"uid": 1000}, (1000, 1001, [1001, 2002], "/home/app")),
        ({"uid": 1000, "gid": 7}, (1000, 7, [7, 2002], "/home/app")),
        ({"username": "app"}, (1000, 1001, [1001, 2002], "/home/app")),
        ({"username": "app:extra"}, (1000, 2002, [2002], "/home/app")),
        ({"username": "55:66"}, (55, 66, [66], "/")),
        ({"username": "1000"}, (1000, 1001, [1001, 2002], "/home/app")),
        ({"uid": 9, "additionalGids": [3]}, (9, 0, [0, 3], "/")),
    ],
)
def test_users(tmp_path: Path, user: dict[str, Any], expected: tuple[int, int, list[int], str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\nextra:x:2002:app\n")

    assert identity.resolve_user(user, str(tmp_path)) == expected


def test_a_user_by_name_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(identity.UserError, match="unable to find user x: no matching entries in passwd file"):
        identity.resolve_user({"username": "x"}, str(tmp_path))
    with pytest.raises(identity.UserError, match="unable to find group y: no matching entries in group file"):
        identity.resolve_user({"username": "1:y"}, str(tmp_path))


@pytest.mark.parametrize(("shares", "expected"), [(2, 1), (1024, 39), (262144, 10000), (0, 1), (10**9, 10000)])
def test_shares_become_weights(shares: int, expected: int) -> None:
    assert weight(shares) == expected


@pytest.mark.parametrize(
    ("text", "number"), [("", 15), ("SIGTERM", 15), ("kill", 9), ("10", 10), ("SIGRTMIN+3", 37), ("nonsense", 15)]
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


def test_resolv_conf() -> None:
    assert spec.resolv_conf(["1.1.1.1", "2.2.2.2"], ["a", "b"], ["ndots:5", "edns0"]) == (
        "search a b\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:5 edns0\n"
    )
    assert spec.resolv_conf([], [], []) == ""


def test_commands_are_looked_up_as_go_does(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("")
    with pytest.raises(launcher.LaunchError, match='exec: "tool": executable file not found'):
        launcher.find_executable("tool", str(tmp_path), "/")
    program.chmod(0o755)

    assert launcher.find_executable("tool", f"/nowhere:{tmp_path}", "/") == str(program)
    assert launcher.find_executable("./tool", "", str(tmp_path)) == f"{tmp_path}/./tool"


def test_records_come_back_as_they_were_written() -> None:
    sandbox = SandboxRecord(
        id="s",
        config=PodSandboxConfig(metadata=PodSandboxMetadata(name="p", uid="u", namespace="n"), labels={"a": "b"}),
        created_at=5,
        boot_id="b",
        ips=["10.0.0.1"],
        ready=True,
    )
    security = LinuxContainerSecurityContext(run_as_user=0, seccomp=SecurityProfile(profile_type="RuntimeDefault"))
    container = ContainerRecord(
        id="c",
        sandbox_id="s",
        config=config(
            mounts=[Mount(container_path="/a", host_path="/b", propagation=MountPropagation.HOST_TO_CONTAINER)],
            linux=LinuxContainerConfig(security_context=security),
        ),
        image_id="i",
        image_ref="r",
        log_path="",
        stop_signal=15,
        created_at=1,
    )
    for kind, record in ((SandboxRecord, sandbox), (ContainerRecord, container)):
        plain = orjson.loads(orjson.dumps(record))
        assert from_plain(kind, {**plain, "of a later version": 1}) == record


_SECCOMP_PROBE = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from pinnace.cri.engine import _syscalls, seccomp
libc = ctypes.CDLL(None, use_errno=True)
_syscalls.prctl(_syscalls.PR_SET_NO_NEW_PRIVS, 1)
_syscalls.set_seccomp_filter(seccomp.compile_filter(seccomp.runtime_default(set(sys.argv[2].split(",")))))
def call(what, name, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(seccomp.numbers()[name]), *[ctypes.c_ulong(a) for a in args])
    print(what, ctypes.get_errno() if result < 0 else 0)
call("keyctl", "keyctl", 0)
call("unshare", "unshare", 0)
call("clone3", "clone3", 0, 0)
call("personality", "personality", 0x1234)
call("vsock", "socket", 40, 1, 0)
call("inet", "socket", 2, 1, 0)
if not sys.argv[2]:
    call("clone", "clone", 0x10000000, 0, 0, 0, 0)
"""


def _probe(capabilities: str) -> dict[str, int]:
    source = str(Path(seccomp.__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SECCOMP_PROBE, source, capabilities],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}


def test_the_default_seccomp_filter_in_a_real_process() -> None:
    assert _probe("") == {
        "keyctl": errno.EPERM,
        "unshare": errno.EPERM,
        "clone3": errno.ENOSYS,
        "clone": errno.EPERM,
        "personality": errno.EPERM,
        "vsock": errno.EPERM,
        "inet": 0,
    }


def test_a_capability_releases_its_calls() -> None:
    released = _probe("CAP_SYS_ADMIN")

    assert (released["keyctl"], released["unshare"], released["clone3"]) == (errno.EPERM, 0, errno.EINVAL)


@pytest.mark.root
def test_the_device_program_is_accepted_and_decides(tmp_path: Path) -> None:
    """On the version 2 hierarchy, where device rules are a program: /dev/null opens, a disk does not."""
    mount = next(
        (m for m in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(m, "cgroup.controllers").exists()), ""
    )
    if not mount or os.geteuid():
        pytest.skip("needs root and a cgroup version 2 hierarchy")
    cgroup = Path(mount, f"pinnace-device-test-{os.getpid()}")
    cgroup.mkdir()
    try:
        devices.attach(str(cgroup), list(DEVICE_RULES))
        script = (
            f"echo $$ > {cgroup}/cgroup.procs; echo x > /dev/null && echo null; "
            f"mknod {tmp_path}/disk b 254 0 && head -c1 {tmp_path}/disk; echo end"
        )
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    finally:
        cgroup.rmdir()

    assert done.stdout == "null\nend\n"
    assert "Operation not permitted" in done.stderr


def test_limits_on_cgroup_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    cgroups = Cgroups("prefix", str(tmp_path))
    (directory,) = cgroups.create("/kubepods/pod1/c1")
    for name in ("memory.swap.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
        Path(directory, name).touch()
    limits = LinuxContainerResources(
        cpu_shares=1024,
        cpu_quota=50_000,
        memory_limit_in_bytes=1 << 20,
        pids_limit=-1,
        cpuset_cpus="0-1",
        hugepage_limits=[HugepageLimit(page_size="2MB", limit=0), HugepageLimit(page_size="1GB", limit=0)],
        unified={"memory.oom.group": "1"},
    )
    cgroups.limit("/kubepods/pod1/c1", limits)
    written = {path.name: path.read_text() for path in Path(directory).iterdir()}

    assert cgroups.version == 2
    assert directory == f"{tmp_path}/prefix/kubepods/pod1/c1"
    assert written == {
        "cpu.weight": "39",
        "cpu.max": "50000 100000",
        "memory.max": str(1 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "max",
        "cpuset.cpus": "0-1",
        "hugetlb.2MB.max": "0",
        "hugetlb.2MB.rsvd.max": "0",
    }


def test_a_kernel_that_does_not_count_swap_needs_not_be_told_that_there_shall_be_none(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    cgroups = Cgroups("", str(tmp_path))
    directory = Path(*cgroups.create("/c"))
    cgroups.limit("/c", LinuxContainerResources(memory_limit_in_bytes=1 << 20, unified={"memory.swap.max": "0"}))

    assert [path.name for path in directory.iterdir()] == ["memory.max"]


def test_usage_on_cgroup_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    cgroups = Cgroups("", str(tmp_path))
    directory = Path(*cgroups.create("/c"))
    (directory / "cpu.stat").write_text("usage_usec 7\nuser_usec 5\n")
    (directory / "memory.current").write_text("1000\n")
    (directory / "memory.stat").write_text("anon 300\ninactive_file 200\n")

    usage = cgroups.usage("/c")

    assert (usage.cpu_nanoseconds, usage.memory_usage, usage.memory_working_set, usage.memory_rss) == (
        7000,
        1000,
        800,
        300,
    )
