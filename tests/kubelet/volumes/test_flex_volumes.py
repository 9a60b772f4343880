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
ATTACHES = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    init) echo '{{"status": "Success"}}';;
    attach) {attach};;
    waitforattach) echo '{{"status": "Success", "device": "'"$2"'"}}';;
    mountdevice) mount -t tmpfs "$3" "$2" && echo '{{"status": "Success"}}';;
    unmountdevice) umount "$2" && echo '{{"status": "Success"}}';;
    detach) echo '{{"status": "Success"}}';;
    *) echo '{{"status": "Not supported"}}'; exit 1;;
esac
"""
ATTACHED = """echo '{"status": "Success", "device": "/dev/flex"}'"""
MOUNTS = """mount -t tmpfs tmpfs "$2"; echo '{"status": "Success"}'"""
FAILS = """echo '{"status": "Failure", "message": "no such export"}'; exit 1"""


def install(volumes: Volumes, directory: Path, mount: str, attach: str = "false", driver: str = DRIVER) -> Path:
    """Put the driver example.com/files where it is looked for; where it writes down its calls."""
    volumes.disks.flex_drivers = directory / "exec"
    program = volumes.disks.flex_drivers / "example.com~files" / "files"
    program.parent.mkdir(parents=True)
    log = directory / "calls"
    program.write_text(driver.format(log=log, mount=mount, attach=attach))
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
    ],
)
async def test_what_a_driver_says_is_told(volumes: Volumes, tmp_path: Path, mount: str, attach: str, why: str) -> None:
    install(volumes, tmp_path, mount, attach)
    volume = await volumes.persistent(flexVolume={"driver": "example.com/files"})
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)
    assert failed.value.events() == [("FailedMount", f'MountVolume.SetUp failed for volume "pv" : {why}')]
    await volumes.remove()  # nothing is mounted, and the driver says so: it is not asked again


@pytest.mark.root
async def test_a_disk_is_attached_once_for_all_pods_and_detached_after_the_last(
    volumes: Volumes, tmp_path: Path
) -> None:
    log = install(volumes, tmp_path, "", ATTACHED, ATTACHES)
    volume = await volumes.persistent(flexVolume={"driver": "example.com/files", "options": {"disk": "a"}})

    first = (await volumes.set_up(volume))["v"]
    second = (await volumes.set_up(volume, uid="u2"))["v"]

    assert (mounted_below(first), mounted_below(second)) == ([first], [second])
    place = volumes.disks.plugins_dir / "flexvolume" / "example.com~files" / "mounts" / "pv"
    told = {
        "kubernetes.io/fsType": "",
        "kubernetes.io/readwrite": "rw",
        "kubernetes.io/pvOrVolumeName": "pv",
        "disk": "a",
    }
    calls = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, *_ in calls] == ["init", "attach", "waitforattach", "mountdevice", "mount", "init", "mount"]
    attach, wait, mount = (calls[index][1] for index in (1, 2, 3))
    assert attach.endswith(" n1")
    assert json.loads(attach.removesuffix(" n1")) == told
    assert json.loads(wait.removeprefix("/dev/flex ")) == told
    assert json.loads(mount.removeprefix(f"{place} /dev/flex ")) == told

    log.unlink()
    await volumes.remove()
    assert (mounted_below(first), mounted_below(place)) == ([], [place])
    await volumes.remove("u2")
    assert mounted_below(tmp_path) == []
    assert log.read_text().splitlines() == [
        f"unmount {first}",
        f"unmount {second}",
        f"unmountdevice {place}",
        "detach pv n1",
    ]
    await volumes.remove()
    assert log.read_text().endswith("detach pv n1\n")  # once


@pytest.mark.root
async def test_volumes_that_pods_name_alike_are_disks_of_their_own(volumes: Volumes, tmp_path: Path) -> None:
    install(volumes, tmp_path, "", ATTACHED, ATTACHES)

    paths = [
        (await volumes.set_up({"name": "v", "flexVolume": {"driver": "example.com/files"}}, uid=uid))["v"]
        for uid in ("u1", "u2")
    ]

    (paths[0] / "file").touch()
    assert not list(paths[1].iterdir())


async def test_a_disk_that_cannot_be_attached_is_told(volumes: Volumes, tmp_path: Path) -> None:
    log = install(volumes, tmp_path, "", FAILS, ATTACHES)
    volume = await volumes.persistent(flexVolume={"driver": "example.com/files"})

    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)

    why = "attach command failed, status: Failure, reason: no such export"
    assert failed.value.events() == [("FailedAttachVolume", f'AttachVolume.Attach failed for volume "pv" : {why}')]
    await volumes.remove()
    assert log.read_text().splitlines()[-1] == "detach pv n1"  # which may have been done in part


@pytest.mark.root
async def test_a_driver_that_mounts_without_saying_that_it_need_not_be_attached_to(
    volumes: Volumes, tmp_path: Path
) -> None:
    log = install(volumes, tmp_path, MOUNTS, "true")

    path = (await volumes.set_up({"name": "v", "flexVolume": {"driver": "example.com/files"}}))["v"]

    assert mounted_below(path) == [path]
    await volumes.remove()
    calls = [line.split(" ", 1)[0] for line in log.read_text().splitlines()]
    assert calls == ["init", "attach", "waitforattach", "mountdevice", "mount", "unmount", "detach"]


async def test_a_driver_that_is_not_there(volumes: Volumes, tmp_path: Path) -> None:
    volumes.disks.flex_drivers = tmp_path
    with pytest.raises(MountErrors, match='failed to get Plugin from volumeSpec for volume "v" err=no volume plugin'):
        await volumes.set_up({"name": "v", "flexVolume": {"driver": "example.com/other"}})
