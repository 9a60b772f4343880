"""Hostile images and containers stay inside: nothing they hold or ask for leads their start to the machine's files.

What pods can ask for is tried in tests/e2e/test_escapes.py, what archives can hold in images/test_image_layers.py.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import (
    CriError,
    LinuxContainerConfig,
    LinuxContainerSecurityContext,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    Mount,
    NamespaceMode,
    NamespaceOption,
)
from pinnace.cri.engine import launcher
from tests.cri.engine.conftest import Node
from tests.support.images import busybox_archive, link_entry, node_entry

pytestmark = pytest.mark.root

_numbers = itertools.count()
Entries = list[tarfile.TarInfo | tuple[str, bytes]]


def hostile(node: Node, *entries: tarfile.TarInfo | tuple[str, bytes], **config: Any) -> str:
    """The name of an image of busybox and more."""
    name = f"docker.io/library/hostile:{next(_numbers)}"
    node.store.load_archive(busybox_archive(node.base / "hostile.tar", name, entries=entries, **config))
    return name


def pids(mode: NamespaceMode) -> dict[str, Any]:
    """A sandbox and its containers with the node's processes or shared ones of their own."""
    option = NamespaceOption(pid=mode)
    sandbox = LinuxPodSandboxConfig(security_context=LinuxSandboxSecurityContext(namespace_options=option))
    container = LinuxContainerConfig(security_context=LinuxContainerSecurityContext(namespace_options=option))
    return {"sandbox": sandbox, "container": container}


async def refused(node: Node, **fields: Any) -> str:
    """Why a container cannot be started."""
    container = await node.create(await node.sandbox(), "/bin/true", **fields)
    with pytest.raises(CriError) as error:
        await node.engine.start_container(container)
    return error.value.message


RANGE = "uids and gids must be in range 0-2147483647"


@pytest.mark.parametrize(
    ("config", "entries", "why"),
    [
        ({"User": "4294967295"}, [], RANGE),
        ({"User": "0:4294967295"}, [], RANGE),
        ({"User": "99999999999999999999"}, [], RANGE),
        ({"User": "evil"}, [("etc/passwd", b"evil:x:-1:0::/:/bin/sh\n")], RANGE),
        ({"User": "evil"}, [("etc/passwd", b"evil:x:1000:4294967295::/:/bin/sh\n")], RANGE),
        ({"User": "0:evil"}, [("etc/group", b"evil:x:-1:\n")], RANGE),
        ({"User": "a"}, [("etc/passwd", b"a:x:1:1::/:\n"), ("etc/group", b"evil:x:4294967295:a\n")], RANGE),
        ({}, [link_entry("proc", "tmp")], 'filesystem "proc" must be mounted on ordinary directory'),
        ({}, [link_entry("sys", "tmp")], 'filesystem "sysfs" must be mounted on ordinary directory'),
        ({}, [link_entry("dev", "proc")], '"/dev" cannot be mounted because it is inside /proc'),
        ({}, [link_entry("dev", "/proc/self/attr")], '"/dev" cannot be mounted because it is inside /proc'),
        ({"WorkingDir": "/bin/busybox"}, [], "mkdir /bin/busybox: not a directory"),
        ({"WorkingDir": "/proc/self/root/tmp"}, [], "too many levels of symbolic links /proc/self/root/tmp"),
    ],
)
async def test_an_image_that_would_be_something_else_is_not_started(
    node: Node, config: dict[str, Any], entries: Entries, why: str
) -> None:
    """A user above the range means "as it is" to the kernel, which is root; a /proc of the image's own tells lies."""
    assert why in await refused(node, image=hostile(node, *entries, **config))


@pytest.mark.parametrize("path", ["/proc/sys/kernel", "/proc/self/attr", "/inside", "/dev/fd"])
async def test_no_volume_covers_a_part_of_proc(node: Node, path: str) -> None:
    volume = Mount(container_path=path, host_path=str(node.base))
    why = await refused(node, mounts=[volume], image=hostile(node, link_entry("inside", "/proc/sys")))
    assert f'"{path}" cannot be mounted because it is inside /proc' in why or "too many levels of symbolic" in why


async def test_proc_is_nothing_else(node: Node) -> None:
    why = await refused(node, mounts=[Mount(container_path="/proc", host_path=str(node.base))])
    assert '"/proc" cannot be mounted because it is not of type proc' in why
    assert await node.sh("ls -d /host/1", mounts=[Mount(container_path="/host", host_path="/proc")]) == "/host/1\n"


@pytest.mark.parametrize(
    ("path", "source"), [("/etc/passwd", "."), ("/etc", "file"), ("/etc/passwd/below", "."), ("/bin/sh/below", "file")]
)
async def test_directories_and_files_are_mounted_upon_their_like(node: Node, path: str, source: str) -> None:
    (node.base / "file").write_text("")
    given = str(node.base / source)
    words = f'unable to start container process: error during container init: error mounting "{given}" to rootfs at'
    assert f'{words} "{path}": not a directory' in await refused(
        node, mounts=[Mount(container_path=path, host_path=given)]
    )


async def test_what_is_masked_does_not_show_what_a_volume_has_in_place_of_the_null_device(node: Node) -> None:
    """CVE-2025-31133"""
    (node.base / "dev").mkdir()
    (node.base / "dev" / "null").symlink_to("/proc/version")
    (node.base / "dev" / "shm").mkdir()
    linux = LinuxContainerConfig(security_context=LinuxContainerSecurityContext(masked_paths=["/proc/uptime"]))
    volume = Mount(container_path="/dev", host_path=str(node.base / "dev"))
    assert "/dev/null is not the null device" in await refused(node, mounts=[volume], linux=linux)
    covered = Mount(container_path="/cover", host_path=str(node.base / "dev"))
    image = hostile(node, link_entry("cover", "/dev"))
    assert await node.sh("wc -c < /proc/uptime", mounts=[covered], linux=linux, image=image) == "0\n"


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "directory"])
async def test_users_are_not_looked_up_where_the_image_has_no_file_of_them(node: Node, kind: str) -> None:
    """Nor does the look-up wait for a pipe, read a device without an end, or follow a link to the node's own users."""
    entry = {
        "pipe": node_entry("etc/passwd", tarfile.FIFOTYPE),
        "device": node_entry("etc/passwd", tarfile.CHRTYPE, 1, 5),
        "link": link_entry("etc/passwd", "/proc/1/root/etc/passwd"),
        "directory": node_entry("etc/passwd", tarfile.DIRTYPE),
    }[kind]
    shared = pids(NamespaceMode.NODE)
    sandbox = await node.sandbox(linux=shared["sandbox"])
    image = hostile(node, entry, User="0")
    assert await node.sh("echo $HOME", sandbox=sandbox, linux=shared["container"], image=image) == "/\n"


async def test_a_working_directory_is_never_one_that_the_start_had_open(node: Node) -> None:
    """CVE-2024-21626"""
    sandbox = await node.sandbox()
    for number in range(12):
        path = f"/proc/self/fd/{number}"
        container = await node.create(sandbox, "/bin/pwd", working_dir=path, name=f"c{number}")
        with pytest.raises(CriError):
            await node.engine.start_container(container)
    image = hostile(node, *(link_entry(f"to{number}", f"/proc/self/fd/{number}") for number in range(12)))
    for number in range(12):
        container = await node.create(sandbox, "/bin/pwd", working_dir=f"/to{number}", name=f"i{number}", image=image)
        with pytest.raises(CriError):
            await node.engine.start_container(container)


async def test_a_working_directory_is_not_made_on_the_machine(node: Node, tmp_path: Path) -> None:
    shared = pids(NamespaceMode.NODE)
    sandbox = await node.sandbox(linux=shared["sandbox"])
    path = f"/proc/1/root{tmp_path}/made"
    container = await node.create(sandbox, "/bin/pwd", working_dir=path, linux=shared["container"])
    with pytest.raises(CriError):
        await node.engine.start_container(container)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("fields", [{}, {"stdin": True}, {"tty": True}])
async def test_a_container_has_its_standard_streams_open_and_nothing_else(node: Node, fields: dict[str, bool]) -> None:
    script = "ls /proc/$$/fd; true"
    assert (await node.sh(script, **fields)).split() == ["0", "1", "2"]
    running = await node.start(await node.sandbox(), "/bin/sleep", "1000", **fields)
    assert await node.exec(running, "/bin/sh", "-c", script) == "0\n1\n2\n"


async def test_the_machines_null_device_keeps_its_mode(node: Node) -> None:
    """It is a container's standard input where nobody is to write to it."""
    before = Path("/dev/null").stat()
    script = "chmod 600 /proc/self/fd/0; chown 1 /proc/self/fd/0; chmod 600 /dev/null; stat -c %a /dev/null"
    try:
        assert (await node.sh(script)).endswith("\n600\n")
        running = await node.start(await node.sandbox(), "/bin/sleep", "1000")
        assert (await node.exec(running, "/bin/sh", "-c", script)).endswith("600\n")
        after = Path("/dev/null").stat()
        assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    finally:
        Path("/dev/null").chmod(0o666)
        os.chown("/dev/null", 0, 0)


async def test_the_program_that_containers_begin_as_cannot_be_written_to(node: Node) -> None:
    """CVE-2019-5736: a container may run it by `#!/proc/self/exe`, and open it for writing when nobody runs it."""
    program = Path(f"/proc/{node.engine.monitor.monitor_pid}/exe")
    assert program.stat().st_ino == Path(sys.executable).resolve().stat().st_ino
    with pytest.raises(OSError, match="Read-only file system") as error:
        os.utime(program)
    assert error.value.errno == errno.EROFS


async def test_the_init_of_shared_processes_shows_nothing_of_the_machine(node: Node) -> None:
    """It is a fork of what knows the environment of every container of the node."""
    shared = pids(NamespaceMode.POD)
    sandbox = await node.sandbox(linux=shared["sandbox"])
    script = "for n in environ mem exe cwd root fd; do cat /proc/1/$n/ 2>&1; cat /proc/1/$n 2>&1; done"
    output = await node.sh(script, sandbox=sandbox, linux=shared["container"])
    assert "Permission denied" in output


def test_what_starts_a_container_is_shielded_from_it() -> None:
    libc = ctypes.CDLL(None)
    keyctl = {"x86_64": 250}.get(os.uname().machine, 219)

    def session_keyring() -> int:
        return int(libc.syscall(ctypes.c_long(keyctl), ctypes.c_int(0), ctypes.c_int(-3), ctypes.c_int(1)))

    before = session_keyring()
    pid = os.fork()
    if pid == 0:
        launcher.shield()
        faults = 0
        try:
            import this  # noqa: F401

            faults |= 1
        except ImportError:
            pass
        faults |= 2 if libc.prctl(3, 0, 0, 0, 0) else 0  # PR_GET_DUMPABLE
        faults |= 4 if before != -1 and session_keyring() == before else 0
        os._exit(faults)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_what_a_container_wrote_is_removed_however_deep_it_is(node: Node) -> None:
    container = await node.start(
        await node.sandbox(), "/bin/sh", "-c", f"for n in 1 2 3; do mkdir -p {'d/' * 1500} && cd {'d/' * 1500}; done"
    )
    await node.ended(container)
    home = node.store.root / "containers" / container
    assert home.is_dir()

    await node.engine.remove_container(container)

    assert not home.exists()
