"""What a containerd that was killed was about is removed, and what runs stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pinnace.cluster import containerd, unfinished
from pinnace.cluster.profile import Profile
from pinnace.cluster.unfinished import Task
from pinnace.cri.engine.cgroups import Cgroups

SANDBOX, INNER, OTHER = Task("box", "shim-1", True), Task("inner", "shim-1", False), Task("other", "shim-2", False)


@pytest.mark.parametrize(
    ("tasks", "going", "idle"),
    [
        ([], [], set()),
        ([SANDBOX], [], set()),
        ([SANDBOX, INNER], ["inner"], set()),
        ([SANDBOX, OTHER], ["other"], {"shim-2"}),
        ([Task("box", "shim-1", False), INNER], ["box", "inner"], {"shim-1"}),
        ([Task("box", "shim-1", False), Task("inner", "shim-1", True)], ["box"], set()),
    ],
    ids=["nothing", "all run", "one container", "another pod", "a whole pod", "a sandbox whose container runs"],
)
def test_a_shim_goes_with_the_last_that_it_holds(tasks: list[Task], going: list[str], idle: set[str]) -> None:
    found, shims = unfinished.unfinished(tasks)

    assert ([task.id for task in found], shims) == (going, idle)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> containerd.Places:
    """Those of a profile whose run directory is the test's, too."""
    profile = Profile("its", tmp_path)
    monkeypatch.setattr(profile, "run_dir", tmp_path / "run")
    return containerd.Places(profile)


@pytest.fixture
def cgroup() -> Iterator[str]:
    path = f"/pinnace-unfinished-{os.getpid()}"
    yield path
    Cgroups(path).destroy()


def bundle(places: containerd.Places, task: str, shim: str, cgroup: str, *state: str) -> Path:
    """A task's directory, and runc's state of its container if there is any."""
    made = places.state / "state/io.containerd.runtime.v2.task/k8s.io" / task
    (made / "rootfs").mkdir(parents=True)
    (made / "address").write_text(f"unix:///{shim}")
    network = {"type": "network", "path": str(namespace(places, task))}
    config = {
        "annotations": {"io.kubernetes.cri.sandbox-id": task},
        "linux": {"cgroupsPath": f"{cgroup}/{task}", "namespaces": [{"type": "pid"}, network]},
    }
    (made / "config.json").write_text(json.dumps(config))
    (places.root / "root/io.containerd.runtime.v2.task/k8s.io" / task).mkdir(parents=True)
    for name in state:
        file = places.state / "runc/k8s.io" / task / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return made


def namespace(places: containerd.Places, name: str) -> Path:
    return places.state / "state/io.containerd.grpc.v1.cri/netns" / name


@pytest.mark.root
def test_networks_of_what_had_not_begun_go(places: containerd.Places, cgroup: str) -> None:
    """Also those that no sandbox has yet; a plugin that works on one of them may end first."""
    bundle(places, "runs", "shim-1", cgroup, "state.json")
    bundle(places, "begun", "shim-2", cgroup, "exec.fifo")
    for name in ("runs", "begun", "new"):
        namespace(places, name).parent.mkdir(parents=True, exist_ok=True)
        namespace(places, name).touch()
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", namespace(places, "new")], check=True)
    addresses = places.addresses / "pinnace"
    addresses.mkdir(parents=True)
    for name, holder in (("10.1.0.2", "runs"), ("10.1.0.3", "begun"), ("fd00::4", "new"), ("fd00::a", "runs")):
        (addresses / name).write_text(f"{holder}\r\neth0")
    (addresses / "last_reserved_ip.0").write_text("10.1.0.3")
    (addresses / "lock").touch()
    environment = {"CNI_NETNS": str(namespace(places, "new")), "PATH": os.environ["PATH"]}
    late = ["sh", "-c", f"read line; printf 'new\\r\\neth0' > {addresses}/10.1.0.5"]
    with subprocess.Popen(late, env=environment, stdin=subprocess.PIPE) as plugin:
        threading.Timer(0.1, plugin.stdin.close).start()  # type: ignore[union-attr]

        unfinished.remove(places)

        assert plugin.poll() == 0
    assert [path.name for path in namespace(places, "").iterdir()] == ["runs"]
    assert {path.name for path in addresses.iterdir()} == {"10.1.0.2", "fd00::a", "last_reserved_ip.0", "lock"}
    assert str(places.state) not in Path("/proc/self/mounts").read_text()


@pytest.mark.root
def test_images_that_were_looked_at_are_unmounted(places: containerd.Places, tmp_path: Path) -> None:
    image, mounts = tmp_path / "image", places.root / "root/tmpmounts"
    for directory in (image, mounts / "containerd-mount1", mounts / "containerd-mount2"):
        directory.mkdir(parents=True)
    (image / "file").touch()
    subprocess.run(["mount", "--bind", image, mounts / "containerd-mount1"], check=True)

    unfinished.remove(places)

    assert list(mounts.iterdir()) == []
    assert (image / "file").exists()


@pytest.mark.root
def test_what_had_not_begun_goes_with_its_processes_and_cgroups(
    places: containerd.Places, cgroup: str, tmp_path: Path
) -> None:
    bundle(places, "runs", "shim-1", cgroup, "state.json")
    begun = bundle(places, "begun", "shim-2", cgroup, "state.json", "exec.fifo")
    bundle(places, "named", "shim-3", cgroup)
    (places.state / "runc/k8s.io/named").mkdir()
    program = tmp_path / "containerd-shim-runc-v2"
    program.symlink_to("/bin/sh")
    with ExitStack() as stack:
        shims = {}
        for task in ("runs", "begun", "named"):
            command = [str(program), "-c", "read line", "-id", task, "-address", str(places.socket)]
            shims[task] = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(shims[task].kill)
        inner = stack.enter_context(subprocess.Popen(["sleep", "1000"]))
        stack.callback(inner.kill)
        for directory in Cgroups(cgroup).create("begun"):
            Path(directory, "cgroup.procs").write_text(str(inner.pid))

        unfinished.remove(places)

        ended = {task: shim.poll() for task, shim in shims.items()}
        assert ended == {"runs": None, "begun": -signal.SIGKILL, "named": -signal.SIGKILL}
        assert inner.wait(10) == -signal.SIGKILL
    assert [path.name for path in begun.parent.iterdir()] == ["runs"]
    assert [path.name for path in (places.root / "root/io.containerd.runtime.v2.task/k8s.io").iterdir()] == ["runs"]
    assert [path.name for path in (places.state / "runc/k8s.io").iterdir()] == ["runs"]
    assert not any(Path(directory).exists() for directory in Cgroups(cgroup).directories("begun"))
