"""Hooks: programs that a bundle wants to be run around the life of its container, as CDI devices do.

Where each runs is the runtime-spec's ("POSIX-platform Hooks"): those of the runtime in forks of the monitor, on the
machine; createContainer in the container's mount namespace, its root still at its place among the machine's files;
startContainer in the container, with no more rights than what it starts. Each is given the container's state.
"""

# ruff: noqa: PTH115
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from pinnace.cri.engine.launcher import LaunchError, Spec, report, reset_signals

_STATUS = {"startContainer": "created", "poststart": "running", "poststop": "stopped"}  # before: creating


def run(kind: str, spec: Spec, bundle: str, container_id: str, pid: int) -> None:
    """Run the hooks of a kind in their order. Raises LaunchError with the first that fails, in runc's words."""
    state = {
        "ociVersion": spec["ociVersion"],
        "id": container_id,
        "status": _STATUS.get(kind, "creating"),
        "pid": pid,
        "bundle": bundle,
        "annotations": spec.get("annotations") or {},
    }
    for position, hook in enumerate((spec.get("hooks") or {}).get(kind) or ()):
        problem = _run_one(hook, json.dumps(state).encode())
        if problem:
            raise LaunchError(f"error running {kind} hook #{position}: {problem}")


def _run_one(hook: Spec, state: bytes) -> str:
    """What went wrong; empty where nothing did."""
    environment = dict(pair.partition("=")[::2] for pair in hook.get("env") or ())
    limit = hook.get("timeout") or None
    arguments = hook.get("args") or [hook["path"]]
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # nothing obliges a hook to read its state
    try:
        done = subprocess.run(
            arguments, executable=hook["path"], input=state, env=environment, capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"hook ran past specified timeout of {float(limit or 0):.1f}s"
    except OSError as error:
        return f"fork/exec {hook['path']}: {(error.strerror or '').lower()}"
    finally:
        signal.signal(signal.SIGPIPE, before)
    if not done.returncode:
        return ""
    code = f"exit status {done.returncode}" if done.returncode > 0 else f"signal: {-done.returncode}"
    said = [stream.decode(errors="replace").strip() for stream in (done.stdout, done.stderr)]
    return f"{code}, stdout: {said[0]}, stderr: {said[1]}"


def on_the_machine(
    channel: socket.socket, wanted: Sequence[str], spec: Spec, bundle: str, container_id: str, pid: int
) -> None:
    """Run hooks in a fork of the monitor, and report."""
    reset_signals()
    for kind in wanted:
        run(kind, spec, bundle, container_id, pid)
    report(channel, {"done": True})


def before_the_root(channel: socket.socket, spec: Spec, bundle: str, container_id: str) -> None:
    """In the container's process, its root not yet `/`: let the monitor run the machine's hooks, then run ours."""
    report(channel, {"hooks": ["prestart", "createRuntime"]})
    answer: dict[str, Any] = json.loads(channel.recv(65536) or b'{"error": "the containers\' monitor has ended"}')
    if answer.get("error"):
        raise LaunchError(answer["error"])
    run("createContainer", spec, bundle, container_id, own_pid())


def own_pid() -> int:
    """This process as the machine counts; while its /proc is in sight."""
    return int(os.readlink("/proc/self"))
