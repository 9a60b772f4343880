"""`iscsi` volumes: disks of targets on the network, by the machine's `iscsiadm` (open-iscsi) and the kernel.

A target is logged in to by every portal and logged out of when the last of its disks is let go. What logging out needs
is written down before logging in, beside the disk's place. https://kubernetes.io/docs/concepts/storage/volumes/#iscsi.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pinnace.apis.resources import SECRETS
from pinnace.kubelet.volumes import disks, programs
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.scsi_devices import Devices
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, namespace_of

PLUGIN = "iscsi"
_WRITTEN = "iface-*/*.json"  # beside the disks' places, never on the disks
_PORT = 3260
_DEVICE_SECONDS = 30
_MULTIPATH_SECONDS = 10
_NOT_THERE = (15, 21)  # iscsiadm's: session exists already; no objects found
_GONE = (2, 21, None)  # session not found; no objects found; no iscsiadm, so that nobody was logged in
_CHAP = ("username", "password", "username_in", "password_in")

# Decisions.


@dataclass(frozen=True, slots=True)
class Target:
    """A disk, and by which portals and as who it is reached."""

    name: str  # of the volume
    iqn: str
    lun: int
    portals: tuple[str, ...]
    interface: str = "default"
    initiator: str = ""  # a name of its own for the initiator, which then has an interface of its own
    discovery_chap: bool = False
    session_chap: bool = False

    @property
    def own_interface(self) -> str:
        return f"{self.portals[0]}:{self.name}" if self.initiator else self.interface

    @property
    def place(self) -> str:
        """Where the disk is, below the plugin's directory."""
        return f"iface-{self.own_interface}/{self.portals[0]}-{self.iqn}-lun-{self.lun}"


def target_of(name: str, source: Obj) -> Target:
    portals = dict.fromkeys(with_port(one) for one in (source["targetPortal"], *(source.get("portals") or ())))
    return Target(
        name,
        source["iqn"],
        int(source.get("lun") or 0),
        tuple(portals),
        interface=source.get("iscsiInterface") or "default",
        initiator=source.get("initiatorName") or "",
        discovery_chap=bool(source.get("chapAuthDiscovery")),
        session_chap=bool(source.get("chapAuthSession")),
    )


def with_port(portal: str) -> str:
    return portal if ":" in portal.rpartition("]")[2] else f"{portal}:{_PORT}"


def secrets_as_settings(kind: str, secret: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and values of the records of CHAP; `kind` is `discovery.sendtargets` or `node.session`."""
    keys = [f"{kind}.auth.{key}" for key in _CHAP]
    return [(f"{kind}.auth.authmethod", "CHAP"), *((key, secret[key]) for key in keys if key in secret)]


def interface_settings(shown: str, initiator: str) -> list[tuple[str, str]]:
    """What an interface of its own takes over from the one shown, and the initiator's name."""
    settings = {}
    for line in shown.splitlines():
        words = line.split()
        if len(words) == 3 and line.startswith("iface.") and words[1] == "=" and words[2] != "<empty>":
            settings[words[0]] = words[2]
    settings.pop("iface.iscsi_ifacename", None)
    return sorted({**settings, "iface.initiatorname": initiator}.items())


# Doing it.


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself."""
    source = volume["iscsi"]
    target = target_of(volume["name"], source)
    reference = source.get("secretRef") or {}
    secret = await _secret(context, target, reference, namespace_of(context.pod))
    return await _mount(context, target, secret, source.get("fsType") or "", [], bool(source.get("readOnly")))


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    """A file system on the disk, or the disk itself."""
    spec = persistent["spec"]
    source = spec["iscsi"]
    target = target_of(name_of(persistent), source)
    reference = source.get("secretRef") or {}
    secret = await _secret(context, target, reference, reference.get("namespace") or namespace_of(context.pod))
    if spec.get("volumeMode") == "Block":
        return await _map(context, target, secret)
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    options = list(spec.get("mountOptions") or ())
    return await _mount(context, target, secret, source.get("fsType") or "", options, read_only)


async def _secret(context: VolumeContext, target: Target, reference: Obj, namespace: str) -> dict[str, str]:
    name = reference.get("name")
    if not name or not (target.discovery_chap or target.session_chap):
        return {}
    try:
        found = await context.client.get(SECRETS, name, namespace)
    except ApiError as error:
        why = f"Couldn't get secret {namespace}/{name} error: {error.message}"
        raise VolumeError(why, operation="MountVolume.NewMounter initialization failed") from error
    return {key: base64.b64decode(text).decode("utf-8", "replace") for key, text in (found.get("data") or {}).items()}


async def _mount(
    context: VolumeContext, target: Target, secret: dict[str, str], fs_type: str, options: list[str], read_only: bool
) -> Path:
    node = context.disks
    place = node.plugins_dir / PLUGIN / target.place
    async with node.locks[place.name]:
        if not disks.is_mounted_at(place):
            device = await _attach(node, target, secret, place)
            try:
                await disks.mount_disk(device, place, fs_type, [*(["ro"] if read_only else []), *options])
            except (VolumeError, OSError) as error:
                raise VolumeError(str(error), operation="MountVolume.MountDevice failed") from error
        return await disks.bind_disk(context, PLUGIN, target.name, place, read_only=read_only)


async def _map(context: VolumeContext, target: Target, secret: dict[str, str]) -> Path:
    """The disk itself; a link in the pod's directory tells that the pod has it."""
    node = context.disks
    place = node.plugins_dir / PLUGIN / disks.DEVICES / target.place
    async with node.locks[place.name]:
        device = Path(await _attach(node, target, secret, place))
        disks.link_disk(context, PLUGIN, target.name, place)
    return device


async def _attach(node: disks.Disks, target: Target, secret: dict[str, str], place: Path) -> str:
    """The disk's device file. Raises VolumeError."""
    try:
        node.write(place, asdict(target))
        async with node.locks[target.iqn]:
            return await _Login(target, secret, node.devices).run()
    except (programs.ProgramError, OSError) as error:
        raise VolumeError(str(error), operation="MountVolume.WaitForAttach failed") from error


@dataclass(slots=True)
class _Login:
    """Reaching a target by its portals."""

    target: Target
    secret: dict[str, str]
    devices: Devices

    async def run(self) -> str:
        target = self.target
        shown = await programs.run("iscsiadm", "-m", "iface", "-I", target.interface, "-o", "show")
        if target.initiator:
            await self._make_interface(shown)
        found: dict[str, str] = {}
        last = ""
        for portal in target.portals:
            try:
                found[portal] = await self._by_portal(portal)
            except (programs.ProgramError, _NoDevice) as error:
                last = str(error)
        if not found:
            why = f"failed to get any path for iscsi disk, last err seen:\n{last}"
            raise VolumeError(why, operation="MountVolume.WaitForAttach failed")
        patience = _MULTIPATH_SECONDS if len(target.portals) > 1 else 0
        return await self.devices.multipath(list(found.values()), patience) or next(iter(found.values()))

    async def _make_interface(self, shown: str) -> None:
        name = self.target.own_interface
        await _ignoring(_NOT_THERE, "-m", "iface", "-I", name, "-o", "new")
        for key, value in interface_settings(shown, self.target.initiator):
            await programs.run("iscsiadm", "-m", "iface", "-I", name, "-o", "update", "-n", key, "-v", value)

    async def _by_portal(self, portal: str) -> str:
        """The device by one portal, logged in to if need be. Raises ProgramError, _NoDevice."""
        target = self.target
        host = self.devices.hosts(target.iqn).get(portal)
        if host is None:
            await self._discover(portal)
            await self._log_in(portal)
            host = self.devices.hosts(target.iqn).get(portal)
        if host is not None:
            self.devices.scan(host, target.lun)
        path = self.devices.path(portal, target.iqn, target.lun)
        if not await self.devices.wait(path, _DEVICE_SECONDS):
            raise _NoDevice(f"Timed out waiting for device at path {path} after {_DEVICE_SECONDS}s")
        return str(path)

    async def _discover(self, portal: str) -> None:
        database = ("-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", self.target.own_interface)
        await _ignoring((), *database, "-o", "new")
        try:
            if self.target.discovery_chap:
                await self._set(database, "discovery.sendtargets")
            await programs.run("iscsiadm", *database, "--discover")
        except programs.ProgramError as error:
            await _ignoring((), *database, "-o", "delete")
            why = f"iscsi: failed to sendtargets to portal {portal} output: {error.output}, err {error}"
            raise _NoDevice(why) from error

    async def _log_in(self, portal: str) -> None:
        at = ("-m", "node", "-p", portal, "-T", self.target.iqn)
        node = (*at, "-I", self.target.own_interface)
        try:
            if self.target.session_chap:
                await self._set(node, "node.session")
            await programs.run("iscsiadm", *node, "--login")
        except programs.ProgramError as error:
            await _ignoring((), *node, "-o", "delete")
            raise _NoDevice(f"iscsi: failed to attach disk: Error: {error.output} ({error})") from error
        await _ignoring((), *at, "-o", "update", "-n", "node.startup", "-v", "manual")  # or it hangs the next boot

    async def _set(self, record: tuple[str, ...], kind: str) -> None:
        for key, value in secrets_as_settings(kind, self.secret):
            await programs.run("iscsiadm", *record, "-o", "update", "-n", key, "-v", value)


class _NoDevice(Exception):
    """A portal did not bring the disk."""


async def _ignoring(statuses: tuple[int | None, ...], *arguments: str) -> None:
    """Have iscsiadm do what may be done already; without statuses, whatever it says of it."""
    try:
        await programs.run("iscsiadm", *arguments)
    except programs.ProgramError as error:
        if statuses and error.status not in statuses:
            raise


# Undoing it.


async def release(node: disks.Disks) -> None:
    """Unmount and log out of the disks that no pod has any more. Raises OSError, VolumeError: try again."""

    async def let_go(place: Path, known: Obj) -> None:
        target = Target(**{**known, "portals": tuple(known["portals"])})
        async with node.locks[target.iqn]:
            await asyncio.to_thread(node.devices.delete, target.iqn, target.lun)
            if not _shares_session(node, place, target):
                await _log_out(target)

    try:
        await node.release(PLUGIN, _WRITTEN, let_go)
    except programs.ProgramError as error:
        raise VolumeError(f"failed to finish detachISCSIDisk, err: {error}") from error


def _shares_session(node: disks.Disks, place: Path, target: Target) -> bool:
    """Whether another disk of the target is in use."""
    prefix = f"{target.portals[0]}-{target.iqn}-lun-"
    return any(other != place and other.name.startswith(prefix) for _, other in node.places(PLUGIN, _WRITTEN))


async def _log_out(target: Target) -> None:
    interface = target.own_interface
    for portal in target.portals:
        node = ("-m", "node", "-p", portal, "-T", target.iqn)
        await _ignoring(_GONE, *node, "--logout", "-I", interface)
        await _ignoring(_GONE, *node, "-o", "delete", "-I", interface)
    if target.initiator:
        await _ignoring(_GONE, "-m", "iface", "-I", interface, "-o", "delete")
