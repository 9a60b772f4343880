"""Hooks of CDI devices: when they run, where, what they are told, and what becomes of a container whose hook fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import CDIDevice, CriError, LinuxContainerConfig, LinuxContainerSecurityContext
from pinnace.cri.engine import cdi
from tests.cri.engine.conftest import Node

pytestmark = pytest.mark.root

DEVICE = CDIDevice(name="v.example/gpu=0")


@pytest.fixture(params=["pinnace", "runc", "crun"])
def handler(request: pytest.FixtureRequest) -> str:
    """What runs the container: the launcher, or a program that knows hooks itself."""
    name: str = request.param
    if name != "pinnace" and shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    return name


class Hooks:
    """A CDI file's hooks, each a script, and what they wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cdi"
        self.directory.mkdir()
        self.log = directory / "log"
        self._hooks: list[dict[str, Any]] = []

    def add(self, kind: str, script: str, **fields: Any) -> None:
        arguments = ["sh", "-c", script]
        hook = {"hookName": kind, "path": "/bin/sh", "args": arguments, "env": [f"LOG={self.log}"], **fields}
        self._hooks.append(hook)
        edits = {"hooks": self._hooks}
        document = {"cdiVersion": "0.6.0", "kind": "v.example/gpu", "devices": [{"name": "0", "containerEdits": edits}]}
        (self.directory / "gpu.json").write_text(json.dumps(document))

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    made = Hooks(tmp_path)
    read = cdi.read_specs
    monkeypatch.setattr(cdi, "read_specs", lambda: read((made.directory,)))
    return made


async def test_hooks_run_in_the_order_of_a_containers_life(node: Node, hooks: Hooks, handler: str) -> None:
    for kind in ("createRuntime", "createContainer", "poststart", "poststop"):
        hooks.add(kind, f"cat > /dev/null; echo {kind} >> $LOG")
    sandbox = await node.sandbox(handler)
    container = await node.start(sandbox, "/bin/sh", "-c", "exit 0", CDI_devices=[DEVICE])
    await node.ended(container)

    before = hooks.lines()
    await node.engine.remove_container(container)

    assert before == ["createRuntime", "createContainer", "poststart"]
    assert hooks.lines() == [*before, "poststop"]


async def test_hooks_are_told_the_containers_state(node: Node, hooks: Hooks, handler: str) -> None:
    hooks.add("createRuntime", "cat >> $LOG; echo >> $LOG")
    container = await node.start(await node.sandbox(handler), "/bin/sleep", "1000", CDI_devices=[DEVICE])

    (line,) = [line for line in hooks.lines() if line]
    state = json.loads(line)

    assert state["id"] == container
    assert state["pid"] == node.engine.containers.records[container].pid
    assert (Path(state["bundle"]) / "config.json").exists()


async def test_a_hook_of_the_container_changes_its_root_among_the_machines_files(
    node: Node, hooks: Hooks, handler: str
) -> None:
    bundle = r"""bundle=$(sed 's/.*"bundle": *"\([^"]*\)".*/\1/')"""
    own_root = f"{bundle}; root=$bundle/rootfs; [ -d $root ] || root=$bundle/../rootfs"  # a program's bundle is in ours
    hooks.add("createContainer", f"{own_root}; mkdir $root/opt; echo made > $root/opt/file; ls $root/proc/1")
    container = await node.start(
        await node.sandbox(handler), "/bin/sh", "-c", "cat /opt/file; ls /etc/cdi", CDI_devices=[DEVICE]
    )

    status = await node.ended(container)

    assert node.output(status, "stdout") == "made\n"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
async def test_a_container_does_not_start_where_a_hook_fails(node: Node, hooks: Hooks, handler: str, kind: str) -> None:
    hooks.add(kind, "cat > /dev/null; echo why >&2; exit 3")
    container = await node.create(await node.sandbox(handler), "/bin/true", CDI_devices=[DEVICE])

    with pytest.raises(CriError, match="OCI runtime create failed") as failed:
        await node.engine.start_container(container)

    status = await node.engine.container_status(container)
    assert (status.exit_code, status.reason) == (128, "StartError")
    if handler == "pinnace":
        assert f"error running {kind} hook #0: exit status 3, stdout: , stderr: why" in failed.value.message


async def test_a_hook_that_takes_too_long_is_ended(node: Node, hooks: Hooks) -> None:
    hooks.add("createRuntime", "exec sleep 1000", timeout=1)
    container = await node.create(await node.sandbox("pinnace"), "/bin/true", CDI_devices=[DEVICE])

    with pytest.raises(CriError, match=r"createRuntime hook #0: hook ran past specified timeout of 1\.0s"):
        await node.engine.start_container(container)


async def test_a_hook_within_the_container_has_no_more_rights_than_its_program(node: Node, hooks: Hooks) -> None:
    hooks.add("startContainer", "grep -q 'CapEff:.0*$' /proc/self/status && [ $(id -u) = 1000 ] && touch /tmp/hooked")
    linux = LinuxContainerConfig(security_context=LinuxContainerSecurityContext(run_as_user=1000))
    container = await node.start(await node.sandbox("pinnace"), "/bin/ls", "/tmp", linux=linux, CDI_devices=[DEVICE])

    assert node.output(await node.ended(container)) == "hooked\n"


async def test_hooks_outlive_the_engine(node: Node, hooks: Hooks) -> None:
    hooks.add("poststop", "cat > /dev/null; echo poststop >> $LOG")
    container = await node.start(await node.sandbox("pinnace"), "/bin/sleep", "1000", CDI_devices=[DEVICE])
    await node.restart()

    await node.engine.remove_container(container)

    assert hooks.lines() == ["poststop"]
