"""FlexVolume drivers: programs that mount and unmount, and what they are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinnace.apis.resources import SECRETS
from pinnace.kubelet.volumes.mounts import mounted_below
from pinnace.kubelet.volumes.pod_volumes import MountErrors
from tests.kubelet.volumes.conftest import Volumes

DRIVER = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    init) echo '{{"status": "Success", "capabilities": {{"attach": {attach}}}}}';;
    mount) {mount};;
    unmount) umount "$2" && echo '{{"status": "Success"}}';;
    *) echo '{{"status": "Not supported"}}'; exit 1;;
esac
"""
MOUNTS = """mount -t tmpfs tmpfs "$2"; echo '{"status": "Success"}'"""
FAILS = """echo '{"status": "Failure", "message": "no such export"}'; exit 1"""


def install(volumes: Volumes, directory: Path, mount: str, attach: str = "false") -> Path:
    """Put the driver example.com/files where it is looked for; where it writes down its calls."""
    volumes.disks.flex_drivers = directory / "exec"
    program = volumes.disks.flex_drivers / "example.com~files" / "files"
    program.parent.mkdir(parents=True)
    log = directory / "calls"
    program.write_text(DRIVER.format(log=log, mount=mount, attach=attach))
    program.chmod(0o755)
    return log


@pytest.mark.root
async def test_a_driver_mounts_and_unmounts(volumes: Volumes, tmp_path: Path) -> None:
    log = install(volumes, tmp_path, MOUNTS)
    volumes.fs_group = 4321
    secret = {"metadata": {"name": "s", "namespace": "default"}, "type": "example.com/files", "data": {"k": "dmFsdWU="}}
    await volumes.api.client.create(SECRETS, secret)
    source = {"driver": "example.com/files", "fsType": "ext4", "options": {"share": "a"}, "secretRef": {"name": "s"}}
    for _ in range(2):
        path = (await volumes.set_up({"name": "v", "flexVolume": source}))["v"]
    assert mounted_below(path) == [path]
    assert path.parts[-2:] == ("example.com~files", "v")
    assert path.stat().st_gid == 4321
    init, mount = log.read_text().splitlines()
    assert init == "init"
    assert mount.startswith(f"mount {path} ")
    assert json.loads(mount.removeprefix(f"mount {path} ")) == {
        "kubernetes.io/fsType": "ext4",
        "kubernetes.io/readwrite": "rw",
        "kubernetes.io/pvOrVolumeName": "v",
        "kubernetes.io/pod.name": "p",
        "kubernetes.io/pod.namespace": "default",
        "kubernetes.io/pod.uid": "u1",
        "kubernetes.io/serviceAccount.name": "",
        "kubernetes.io/secret/k": "dmFsdWU=",
        "kubernetes.io/fsGroup": "4321",
        "share": "a",
    }
    await volumes.remove()
    assert log.read_text().splitlines()[-1] == f"unmount {path}"


@pytest.mark.parametrize(
    ("mount", "attach", "why"),
    [
        (FAILS, "false", "mount command failed, status: Failure, reason: no such export"),
        ("echo nonsense", "false", "failed to unmarshal output for command: mount, output: 'nonsense\\n'"),
        (MOUNTS, "true", "the driver example.com/files must be attached to, which is not supported for flexVolume"),
    ],
)
async def test_what_a_driver_says_is_told(volumes: Volumes, tmp_path: Path, mount: str, attach: str, why: str) -> None:
    install(volumes, tmp_path, mount, attach)
    volume = await volumes.persistent(flexVolume={"driver": "example.com/files"})
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)
    assert failed.value.events() == [("FailedMount", f'MountVolume.SetUp failed for volume "pv" : {why}')]
    await volumes.remove()  # nothing is mounted, and the driver says so: it is not asked again


async def test_a_driver_that_is_not_there(volumes: Volumes, tmp_path: Path) -> None:
    volumes.disks.flex_drivers = tmp_path
    with pytest.raises(MountErrors, match='failed to get Plugin from volumeSpec for volume "v" err=no volume plugin'):
        await volumes.set_up({"name": "v", "flexVolume": {"driver": "example.com/other"}})
