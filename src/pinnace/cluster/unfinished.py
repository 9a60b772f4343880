"""What a containerd was making or removing when it was killed: it does not take that up again, and its shims stay.

With the connection of a containerd that dies its shim kills the `runc` that works for it. The next containerd finds a
shim without a container, or a container that never began, and when their record is removed forgets about them
(https://github.com/containerd/containerd/issues/6860); of the network of a sandbox that was being made it has no record
at all. So they are removed before it starts. Relies on where containerd, runc and CNI's `host-local` keep their state.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinnace.cluster.containerd import Places

_TASKS = "io.containerd.runtime.v2.task/k8s.io"  # a directory for each task: its bundle, or what its shim writes
_NETWORKS = "io.containerd.grpc.v1.cri/netns"  # a mount for each sandbox
_SANDBOX = "io.kubernetes.cri.sandbox-id"  # an annotation of every container of a pod
_TIMEOUT = 10.0  # seconds for processes to end


@dataclass(frozen=True, slots=True)
class Task:
    """A container that has, or was to have, a process."""

    id: str
    shim: str  # the address of the shim that holds it: those of a pod share one
    began: bool  # it runs, or has run and was not removed


def unfinished(tasks: Iterable[Task]) -> tuple[list[Task], set[str]]:
    """The tasks that are to go, and the addresses of the shims that then hold nothing."""
    found = list(tasks)
    used = {task.shim for task in found if task.began}
    going = [task for task in found if not task.began]
    return going, {task.shim for task in going} - used


def remove(places: Places) -> None:
    """Remove what the containerd that is dead was about."""
    tasks = list(_tasks(places))
    going, idle = unfinished(tasks)
    for task in going:
        if task.shim in idle:
            _end_shim(places, task.id)
    for task in going:
        _remove(places, task.id)
    _remove_networks(places, [task.id for task in tasks if task.began])
    _remove_looks(places)


def _tasks(places: Places) -> Iterable[Task]:
    for bundle in (places.state / "state" / _TASKS).glob("*"):
        try:
            shim = (bundle / "address").read_text()
        except FileNotFoundError:
            shim = bundle.name  # it was not started yet, or not by then
        state = _runc_state(places, bundle.name)
        began = (state / "state.json").exists() and not (state / "exec.fifo").exists()  # gone with `runc start`
        yield Task(bundle.name, shim, began)


def _runc_state(places: Places, task: str) -> Path:
    return places.state / "runc" / "k8s.io" / task


def _end_shim(places: Places, task: str) -> None:
    """Its program may be starting itself anew: looked for until there is none."""
    from pinnace.cluster import containerd

    while containerd.end_shims(places.socket, task):
        continue


def _remove(places: Places, task: str) -> None:
    """What runc and containerd have of a task, and the cgroup of its container with all that is in it."""
    from pinnace.cluster import control
    from pinnace.cluster.teardown import unmount_below
    from pinnace.cri.engine.cgroups import Cgroups
    from pinnace.cri.programs import search_path

    bundle = places.state / "state" / _TASKS / task
    subprocess.run(
        ["runc", f"--root={_runc_state(places, task).parent}", "delete", "--force", task],
        capture_output=True, check=False, env=os.environ | {"PATH": search_path()},
    )  # fmt: skip
    path = _configuration(bundle).get("linux", {}).get("cgroupsPath", "")
    if path.startswith("/"):  # else it is systemd's
        cgroup = Cgroups(path)
        for pid in cgroup.pids(""):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            control.wait_for_exit(pid, _TIMEOUT)
        cgroup.destroy()
    unmount_below(bundle)
    for directory in (bundle, places.root / "root" / _TASKS / task, _runc_state(places, task)):
        shutil.rmtree(directory, ignore_errors=True)


def _configuration(bundle: Path) -> dict[str, Any]:
    """A container's; empty where it was not written yet."""
    try:
        found: dict[str, Any] = json.loads((bundle / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _remove_networks(places: Places, running: Iterable[str]) -> None:
    """The network namespaces and addresses that no running task uses: no other sandbox becomes ready again."""
    from pinnace.cluster.teardown import unmount_below

    mounts, addresses = places.state / "state" / _NETWORKS, places.addresses / "pinnace"
    if not mounts.exists():
        return
    used = set()
    for task in running:
        found = _configuration(places.state / "state" / _TASKS / task)
        if _SANDBOX not in found.get("annotations", {}):
            return  # then nobody can tell what it uses
        used.add(found["annotations"][_SANDBOX])
        used |= {one.get("path") for one in found.get("linux", {}).get("namespaces", ())}
    unused = [mount for mount in mounts.iterdir() if str(mount) not in used]
    if unused:
        _wait_for_plugins({str(mount) for mount in unused})
    for mount in unused:
        unmount_below(mount)
        mount.unlink(missing_ok=True)
    for address in addresses.glob("*[0-9a-f:]"):
        holder = address.read_text().partition("\n")[0]
        if not address.name.startswith("last_reserved_ip") and holder not in used:
            address.unlink(missing_ok=True)


def _remove_looks(places: Places) -> None:
    """Where it mounted images for a moment, to look at their files."""
    from pinnace.cluster.teardown import unmount_below

    for mount in (places.root / "root" / "tmpmounts").glob("containerd-mount*"):
        unmount_below(mount)
        with suppress(OSError):  # never what is in it
            mount.rmdir()


def _wait_for_plugins(networks: set[str]) -> None:
    """Until no CNI plugin works on these network namespaces any more: they outlive who started them."""
    from pinnace.cluster import control

    names = {b"CNI_NETNS=" + os.fsencode(network) for network in networks}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if not names.isdisjoint(environment):
            control.wait_for_exit(int(process.name), _TIMEOUT)
