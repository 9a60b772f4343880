"""NFS, iSCSI and local disks: the machine's programs are asked as they must be, and what they say is told.

Neither file server nor target is needed: `mount` and `iscsiadm` are scripts that write down how they were called.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import SECRETS
from pinnace.kubelet.volumes.iscsi import interface_settings, secrets_as_settings, target_of, with_port
from pinnace.kubelet.volumes.mounts import mounted_below
from pinnace.kubelet.volumes.nfs import export
from pinnace.kubelet.volumes.pod_volumes import MountErrors
from pinnace.kubelet.volumes.programs import run
from pinnace.kubelet.volumes.scsi_devices import Devices
from pinnace.machinery.meta import Obj
from tests.kubelet.volumes.conftest import Volumes

IQN = "iqn.2001-04.com.example:storage"


class Programs:
    """Scripts before all others on PATH, and the calls of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "calls"

    def add(self, name: str, script: str) -> None:
        path = self.directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return Programs(directory)


@pytest.fixture
def share(tmp_path: Path, programs: Programs) -> Path:
    """A directory that `mount -t nfs` mounts, whatever it is asked for."""
    directory = tmp_path / "share"
    directory.mkdir()
    (directory / "file").write_text("from afar")
    programs.add("mount", f'for target; do :; done; exec /bin/mount --bind {directory} "$target"')
    return directory


@pytest.mark.root
@pytest.mark.usefixtures("share")
async def test_nfs_is_mounted_by_its_helper_and_unmounted(volumes: Volumes, programs: Programs) -> None:
    source = {"server": "files.example.com", "path": "/exports/a", "readOnly": True}
    for _ in range(2):  # once, however often it is looked after
        path = (await volumes.set_up({"name": "v", "nfs": source}))["v"]
    assert (path / "file").read_text() == "from afar"
    assert programs.calls() == [f"mount -t nfs -o ro files.example.com:/exports/a {path}"]
    await volumes.remove()
    assert not path.exists()


@pytest.mark.root
@pytest.mark.usefixtures("share")
async def test_mount_options_of_a_persistent_volume_are_used(volumes: Volumes, programs: Programs) -> None:
    source = {"server": "fd00::1", "path": "/", "readOnly": True}  # of the claim's use alone is that heeded
    volume = await volumes.persistent(nfs=source, mountOptions=["nfsvers=4.1", "hard", "hard"])
    path = (await volumes.set_up(volume))["v"]
    assert path.parts[-2:] == ("kubernetes.io~nfs", "pv")
    assert programs.calls() == [f"mount -t nfs -o hard,nfsvers=4.1 [fd00::1]:/ {path}"]


async def test_what_mount_says_is_told(volumes: Volumes, programs: Programs) -> None:
    programs.add("mount", "echo 'mount.nfs: Connection refused' >&2; exit 32")
    volume = await volumes.persistent(nfs={"server": "s", "path": "/p"})
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)
    target = volumes.pods_dir / "u1/volumes/kubernetes.io~nfs/pv"
    why = f"Mounting command: mount\nMounting arguments: -t nfs s:/p {target}\nOutput: mount.nfs: Connection refused\n"
    message = f'MountVolume.SetUp failed for volume "pv" : mount failed: exit status 32\n{why}'
    assert failed.value.events() == [("FailedMount", message)]
    assert not target.exists()


async def test_a_missing_program_is_told(volumes: Volumes, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs.directory))
    monkeypatch.setattr("pinnace.cri.programs.SYSTEM_DIRECTORIES", ())
    with pytest.raises(MountErrors, match=r'mount failed: exec: "mount": executable file not found in \$PATH'):
        await volumes.set_up({"name": "v", "nfs": {"server": "s", "path": "/p"}})
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up({"name": "v", "iscsi": {"targetPortal": "192.0.2.1", "iqn": IQN, "lun": 0}})
    message = 'MountVolume.WaitForAttach failed for volume "v" : executable file not found in $PATH'
    assert failed.value.events() == [("FailedMount", message)]


def test_where_an_export_is() -> None:
    assert [export({"server": server, "path": "/p"}) for server in ("h", "192.0.2.1", "::1")] == [
        *("h:/p", "192.0.2.1:/p", "[::1]:/p")
    ]


# Disks.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A blank disk of this machine."""
    image = tmp_path / "disk"
    image.touch()
    os.truncate(image, 16 << 20)
    made = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    yield made.stdout.strip()
    subprocess.run(["losetup", "-d", made.stdout.strip()], check=False)  # a driver may have done so


@pytest.mark.root
async def test_a_blank_local_disk_gets_a_file_system_that_pods_share(volumes: Volumes, disk: str) -> None:
    volumes.fs_group = 4321
    here = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]
    affinity = {"required": {"nodeSelectorTerms": here}}
    volume = await volumes.persistent(local={"path": disk}, nodeAffinity=affinity)
    first = (await volumes.set_up(volume))["v"]
    (first / "file").write_text("kept")
    assert (first.stat().st_gid, first.stat().st_mode & 0o2770) == (4321, 0o2770)
    second = (await volumes.set_up(volume, uid="u2"))["v"]
    assert (second / "file").read_text() == "kept"
    place = volumes.disks.plugins_dir / "local-volume/mounts/pv"
    await volumes.remove("u1")
    assert mounted_below(place) == [place]
    await volumes.remove("u2")
    assert not place.exists()
    third = (await volumes.set_up(volume))["v"]  # what is on the disk is not made anew
    assert (third / "file").read_text() == "kept"


@pytest.mark.root
async def test_a_disk_that_is_not_what_was_asked_for_is_left_alone(volumes: Volumes, disk: str) -> None:
    volume = await volumes.persistent(local={"path": disk})
    volume["persistentVolumeClaim"]["readOnly"] = True
    blank = f"cannot mount unformatted disk {disk} as we are manipulating it in read-only mode"
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)
    assert failed.value.events() == [("FailedMount", f'MountVolume.MountDevice failed for volume "pv" : {blank}')]
    await run("mkfs.ext4", "-q", disk)
    other = await volumes.persistent("other", local={"path": disk, "fsType": "vfat"})
    with pytest.raises(MountErrors, match=r'failed to mount the volume as "vfat", it already contains ext4\. Mount'):
        await volumes.set_up(other)
    place = volumes.disks.plugins_dir / "local-volume/mounts/other"
    assert not mounted_below(place)


@pytest.mark.root
async def test_a_bare_disk_is_given_as_it_is(volumes: Volumes, disk: str) -> None:
    volume = await volumes.persistent(local={"path": disk}, volumeMode="Block")
    assert await volumes.set_up(volume, use="volumeDevices") == {"v": Path(disk)}
    with pytest.raises(MountErrors, match="volume v has volumeMode Block, but is specified in volumeMounts"):
        await volumes.set_up(volume)


@pytest.mark.root
async def test_a_local_directory_is_bound_into_the_pod(volumes: Volumes, tmp_path: Path) -> None:
    volumes.fs_group = 4321
    directory = tmp_path / "local"
    directory.mkdir()
    volume = await volumes.persistent(local={"path": str(directory)})
    path = (await volumes.set_up(volume))["v"]
    (path / "file").touch()
    assert (directory / "file").exists()
    assert directory.stat().st_gid == 4321
    volumes.fs_group = 8765
    await volumes.set_up(volume, uid="u2")
    shared = "The requested fsGroup is 8765, but the volume pv has GID 4321. The volume may not be shareable."
    assert volumes.told == [f"AlreadyMountedVolume: {shared}"]
    assert directory.stat().st_gid == 4321


async def test_why_a_local_volume_cannot_be_had(volumes: Volumes, tmp_path: Path) -> None:
    elsewhere = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]
    affinity = {"required": {"nodeSelectorTerms": elsewhere}}
    (tmp_path / "file").touch()
    for name, spec, why in (
        (
            "far",
            {"local": {"path": str(tmp_path)}, "nodeAffinity": affinity},
            'MountVolume.NodeAffinity check failed for volume "far" : no matching NodeSelectorTerms',
        ),
        (
            "lost",
            {"local": {"path": "/not/there"}},
            'MountVolume.NewMounter initialization failed for volume "lost" : path "/not/there" does not exist',
        ),
        (
            "odd",
            {"local": {"path": str(tmp_path / "file")}},
            'MountVolume.MountDevice failed for volume "odd" : only directory and block device are supported',
        ),
    ):
        with pytest.raises(MountErrors) as failed:
            await volumes.set_up(await volumes.persistent(name, **spec))
        assert failed.value.events() == [("FailedMount", why)]


# iSCSI.


class Target:
    """What an iSCSI target is to this machine: records of iscsiadm, a session in `sys`, a device file in `dev`."""

    def __init__(self, directory: Path, programs: Programs, disk: str) -> None:
        self.sys, self.dev = directory / "sys", directory / "dev"
        links = self.dev / "disk/by-path"
        links.mkdir(parents=True)
        session = self.sys / "class/iscsi_host/host7/device/session1"
        connection = session / "connection1:0/iscsi_connection/connection1:0"
        (self.sys / "class/scsi_host/host7").mkdir(parents=True)
        login = f"""
        mkdir -p {session}/iscsi_session/session1 {connection}
        echo {IQN} > {session}/iscsi_session/session1/targetname
        echo 192.0.2.1 > {connection}/persistent_address; echo 3260 > {connection}/persistent_port
        ln -sf {disk} {links}/ip-192.0.2.1:3260-iscsi-{IQN}-lun-3
        """
        programs.add(
            "iscsiadm",
            f"""case "$*" in
            *refused*--discover*) echo 'iscsiadm: cannot make connection' >&2; exit 4;;
            *--login*) {login};;
            *--logout*) [ -d {session} ] || exit 21; rm -r {session} {links}/*;;
            *"-o show"*) echo '# BEGIN RECORD'; echo 'iface.iscsi_ifacename = default';
                echo 'iface.transport_name = tcp'; echo 'iface.initiatorname = <empty>';;
            esac""",
        )


SOURCE = {"targetPortal": "192.0.2.1", "iqn": IQN, "lun": 3, "fsType": "ext4"}


@pytest.fixture
def target(tmp_path: Path, programs: Programs, disk: str, volumes: Volumes) -> Target:
    made = Target(tmp_path, programs, disk)
    volumes.disks.devices = Devices(made.dev, made.sys)
    return made


@pytest.mark.root
async def test_a_target_is_logged_in_to_once_and_out_of_after_the_last_pod(
    volumes: Volumes, programs: Programs, target: Target
) -> None:
    path = (await volumes.set_up({"name": "v", "iscsi": SOURCE}))["v"]
    (path / "file").write_text("on the disk")
    (path / "package.json").write_text("{}")  # is the pod's, and no note about a disk
    second = (await volumes.set_up({"name": "v", "iscsi": SOURCE}, uid="u2"))["v"]
    assert (second / "file").read_text() == "on the disk"
    assert (target.sys / "class/scsi_host/host7/scan").read_text() == "0 0 3"
    portal, login = "-p 192.0.2.1:3260", f"-m node -p 192.0.2.1:3260 -T {IQN}"
    discovery = f"iscsiadm -m discoverydb -t sendtargets {portal} -I default"
    assert programs.calls() == [
        "iscsiadm -m iface -I default -o show",
        f"{discovery} -o new",
        f"{discovery} --discover",
        f"iscsiadm {login} -I default --login",
        f"iscsiadm {login} -o update -n node.startup -v manual",
    ]
    await volumes.remove("u1")
    assert len(programs.calls()) == 5
    await volumes.remove("u2")
    assert programs.calls()[5:] == [
        f"iscsiadm {login} --logout -I default",
        f"iscsiadm {login} -o delete -I default",
    ]
    assert not list((volumes.disks.plugins_dir / "iscsi").rglob("*lun*"))


@pytest.mark.root
@pytest.mark.usefixtures("target")
async def test_secrets_and_names_of_initiators_are_used(volumes: Volumes, programs: Programs) -> None:
    data = {"node.session.auth.username": "me", "node.session.auth.password": "pw", "other": "x"}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    secret = {"metadata": {"name": "chap", "namespace": "default"}, "data": encoded}
    await volumes.api.client.create(SECRETS, secret)
    source = {**SOURCE, "initiatorName": "iqn.me", "chapAuthSession": True, "secretRef": {"name": "chap"}}
    await volumes.set_up(await volumes.persistent(iscsi=source))
    own = "iscsiadm -m iface -I 192.0.2.1:3260:pv"
    updated = f"iscsiadm -m node -p 192.0.2.1:3260 -T {IQN} -I 192.0.2.1:3260:pv -o update"
    calls = programs.calls()
    for call in (
        f"{own} -o new",
        f"{own} -o update -n iface.initiatorname -v iqn.me",
        f"{own} -o update -n iface.transport_name -v tcp",
        f"{updated} -n node.session.auth.authmethod -v CHAP",
        f"{updated} -n node.session.auth.username -v me",
        f"{updated} -n node.session.auth.password -v pw",
    ):
        assert call in calls
    await volumes.remove()
    assert programs.calls()[-1] == f"{own} -o delete"


@pytest.mark.root
@pytest.mark.usefixtures("target")
async def test_a_disk_of_a_target_is_given_as_it_is(volumes: Volumes, programs: Programs, disk: str) -> None:
    volume = await volumes.persistent(iscsi=SOURCE, volumeMode="Block")
    found = await volumes.set_up(volume, use="volumeDevices")
    assert found["v"].resolve() == Path(disk)
    await volumes.remove()
    assert any("--logout" in call for call in programs.calls())


@pytest.mark.root
@pytest.mark.usefixtures("target")
async def test_a_target_that_refuses_is_told_of(volumes: Volumes) -> None:
    volume = {"name": "v", "iscsi": {**SOURCE, "targetPortal": "refused"}}
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up(volume)
    last = "iscsi: failed to sendtargets to portal refused:3260 output: iscsiadm: cannot make connection\n, err exit"
    why = f'failed for volume "v" : failed to get any path for iscsi disk, last err seen:\n{last} status 4'
    assert failed.value.events() == [("FailedMount", f"MountVolume.WaitForAttach {why}")]


def test_which_disk_is_meant() -> None:
    source: Obj = {"targetPortal": "a", "portals": ["b:1", "a:3260"], "iqn": IQN, "initiatorName": "me"}
    found = target_of("pv", source)
    assert found.portals == ("a:3260", "b:1")
    assert found.own_interface == "a:3260:pv"
    assert found.place == f"iface-a:3260:pv/a:3260-{IQN}-lun-0"
    assert target_of("pv", {**source, "initiatorName": None}).own_interface == "default"


@pytest.mark.parametrize(
    ("given", "full"), [("a", "a:3260"), ("a:1", "a:1"), ("[::1]", "[::1]:3260"), ("[::1]:7", "[::1]:7")]
)
def test_ports_of_portals(given: str, full: str) -> None:
    assert with_port(given) == full


def test_settings_of_secrets_and_interfaces() -> None:
    secret: dict[str, Any] = {"discovery.sendtargets.auth.password_in": "p", "node.session.auth.username": "u"}
    assert secrets_as_settings("discovery.sendtargets", secret) == [
        ("discovery.sendtargets.auth.authmethod", "CHAP"),
        ("discovery.sendtargets.auth.password_in", "p"),
    ]
    shown = "# BEGIN RECORD\niface.iscsi_ifacename = default\niface.mtu = 0\niface.port = <empty>\n"
    assert interface_settings(shown, "me") == [("iface.initiatorname", "me"), ("iface.mtu", "0")]


# Fibre Channel.


@pytest.mark.root
async def test_a_disk_of_fibre_channel_is_found_mounted_and_forgotten(
    volumes: Volumes, tmp_path: Path, disk: str
) -> None:
    dev, sys = tmp_path / "dev", tmp_path / "sys"
    links, scan = dev / "disk/by-path", sys / "class/scsi_host/host3/scan"
    delete = sys / f"block/{Path(disk).name}/device/delete"
    for path in (links / "x", scan, delete):
        path.parent.mkdir(parents=True)
    scan.touch()
    delete.touch()
    volumes.disks.devices = Devices(dev, sys)
    source = {"targetWWNs": ["50060e801049cfd1"], "lun": 2}
    with pytest.raises(MountErrors) as failed:
        await volumes.set_up({"name": "v", "fc": source})
    why = 'MountVolume.WaitForAttach failed for volume "v" : no fc disk found'
    assert failed.value.events() == [("FailedMount", why)]
    assert scan.read_text() == "- - -"
    (links / "pci-0000:41:00.0-fc-0x50060e801049cfd1-lun-2").symlink_to(disk)
    path = (await volumes.set_up({"name": "v", "fc": source}))["v"]
    place = volumes.disks.plugins_dir / "fc/50060e801049cfd1-lun-2"
    assert (mounted_below(path), mounted_below(place)) == ([path], [place])
    await volumes.remove()
    assert delete.read_text() == "1"
    assert not place.exists()
    (dev / "disk/by-id").mkdir()
    (dev / "disk/by-id/scsi-3600508b4").symlink_to(disk)
    volume = await volumes.persistent(fc={"wwids": ["3600508b4"]}, volumeMode="Block")
    assert await volumes.set_up(volume, use="volumeDevices") == {"v": Path(disk)}
