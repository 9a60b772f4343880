"""What a containerd was making or removing when it was killed: it does not take that up again, and its shims stay.

With the connection of a containerd that dies its shim kills the `runc` that works for it. The next containerd finds a
shim without a container, or a container that never began, and when their record is removed forgets about them
(https://github.com/containerd/containerd/issues/6860). So they are removed before it starts. Relies on where
containerd's runtime v2 and runc keep their state.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnace.cluster.containerd import Places

_TASKS = "io.containerd.runtime.v2.task/k8s.io"  # a directory for each task: its bundle, or what its shim writes


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
    going, idle = unfinished(_tasks(places))
    for task in going:
        if task.shim in idle:
            _end_shim(places, task.id)
    for task in going:
        _remove(places, task.id)


def _tasks(places: Places) -> Iterable[Task]:
    for bundle in (places.state / "state" / _TASKS).glob("*"):
        try:
            shim = (bundle / "address").read_text()
        except FileNotFoundError:
            shim = bundle.name  # it was not started yet, or not by then
        state = _runc_state(places, bundle.name)
        began = state.is_dir() and not (state / "exec.fifo").exists()  # which is there from `create` to `start`
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
    if path := _cgroup(bundle):
        cgroup = Cgroups(path)
        for pid in cgroup.pids(""):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            control.wait_for_exit(pid, 10)
        cgroup.destroy()
    unmount_below(bundle)
    for directory in (bundle, places.root / "root" / _TASKS / task):
        shutil.rmtree(directory, ignore_errors=True)


def _cgroup(bundle: Path) -> str:
    """The path of the container's cgroup; empty where the bundle does not say, or leaves it to systemd."""
    try:
        path = json.loads((bundle / "config.json").read_bytes())["linux"]["cgroupsPath"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return path if isinstance(path, str) and path.startswith("/") else ""
