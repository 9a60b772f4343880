"""Pods with users of their own: shown the layers as theirs, or given copies where the file system cannot do that."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from pinnace.cri.api import (
    IDMapping,
    LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    UserNamespace,
)
from pinnace.cri.engine import users
from pinnace.cri.engine.images.shifted import OutOfRangeError, Shift, copy
from tests.cri.engine.conftest import Node

pytestmark = pytest.mark.root

FIRST = 200_000
SHIFT = Shift([[0, FIRST, 65536]], [[0, FIRST, 65536]])


def own_users() -> LinuxPodSandboxConfig:
    mapping = [IDMapping(container_id=0, host_id=FIRST, length=65536)]
    namespace = UserNamespace(mode=NamespaceMode.POD, uids=mapping, gids=mapping)
    options = NamespaceOption(userns_options=namespace)
    return LinuxPodSandboxConfig(security_context=LinuxSandboxSecurityContext(namespace_options=options))


@pytest.mark.parametrize("shown", [True, False], ids=["shown", "copied"])
async def test_a_pods_root_owns_the_image_and_is_nobody_outside(
    node: Node, monkeypatch: pytest.MonkeyPatch, shown: bool
) -> None:
    if os.environ.get("PINNACE_TEST_OCI_RUNTIME"):
        pytest.skip("needs the launcher")
    if not users.has_idmapped_mounts():
        pytest.skip("needs Linux 6.3")
    if not shown:
        monkeypatch.setattr(users, "can_show", lambda *_: False)
    sandbox = await node.sandbox(linux=own_users())
    script = (
        "cat /proc/self/uid_map; id -u; stat -c '%u %a' /bin/busybox /tmp /home/app;"
        " echo x > /root/new; stat -c %u /root/new; ls -d /proc/1 | wc -l"
    )
    told, output = await node.run("/bin/sh", "-c", script, sandbox=sandbox)
    container = await node.start(sandbox, "/bin/sleep", "1000")

    lines = output.splitlines()

    assert lines[0].split() == ["0", str(FIRST), "65536"]
    assert lines[1:] == ["0", "0 755", "0 1777", "0 755", "0", "1"]
    written = next(node.store.root.glob(f"containers/{told.id}/fs/root/new"))
    assert written.stat().st_uid == (0 if shown else FIRST)
    pid = node.engine.containers.records[container].pid
    assert Path(f"/proc/{pid}").stat().st_uid == FIRST
    await node.restart()
    assert (await node.exec(container, "/bin/sh", "-c", "id -u; stat -c %u /bin/busybox")).split() == ["0", "0"]


def test_a_copy_is_the_layer_of_others(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    (layer / "d/f").write_text("content")
    (layer / "d/hard").hardlink_to(layer / "d/f")
    (layer / "link").symlink_to("/nowhere")
    os.mknod(layer / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(layer / "d", "trusted.overlay.opaque", b"y")
    os.chown(layer / "d/f", 1000, 1001)
    (layer / "d/f").chmod(0o4755)
    os.setxattr(layer / "d/f", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    for path in (layer / "d/f", layer / "d"):
        os.utime(path, (1, 1))

    copy(layer, tmp_path / "copy", SHIFT)

    made = tmp_path / "copy"
    found = (made / "d/f").stat()
    assert ((made / "d/f").read_text(), found.st_uid, found.st_gid) == ("content", FIRST + 1000, FIRST + 1001)
    assert (stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0o4755, 1, 2)
    assert (made / "link").readlink() == Path("/nowhere")
    assert (made / "link").lstat().st_uid == FIRST
    assert (made / "gone").lstat().st_rdev == 0
    assert stat.S_ISCHR((made / "gone").lstat().st_mode)
    assert os.getxattr(made / "d", "trusted.overlay.opaque") == b"y"
    assert (made / "d").stat().st_mtime == 1
    capability = struct.unpack("<IIIIII", os.getxattr(made / "d/f", "security.capability"))
    assert capability == (0x03000001, 1 << 10, 0, 0, 0, FIRST)


def test_who_has_no_place_among_the_pods_users_is_told(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    os.chown(layer, 100_000, 0)

    with pytest.raises(OutOfRangeError, match="no user or group 100000"):
        copy(layer, tmp_path / "copy", SHIFT)
