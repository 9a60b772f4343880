"""Checkpoints: what is in their archives, and why there is none. CRIU needs more of a kernel than tests may ask."""

from __future__ import annotations

import errno
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import CriError
from pinnace.cri.engine.handlers import Handlers
from tests.cri.engine.conftest import Node

pytestmark = pytest.mark.root


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def runtime(tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A runc whose checkpoints are made by a script, beside a CRIU that only tells its version."""
    runc = shutil.which("runc")
    if runc is None:
        pytest.skip("needs runc")
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = f"""
case " $* " in *" checkpoint "*) ;; *) exec {runc} "$@";; esac
case " $* " in *" --leave-running "*) ;; *) echo it would end >&2; exit 1;; esac
[ ! -e {tmp_path}/broken ] || {{ echo criu failed >&2; exit 1; }}
for word; do case $word in
    --image-path=*) echo pages > ${{word#*=}}/pages-1.img;;
    --work-path=*) echo log > ${{word#*=}}/dump.log; echo stats > ${{word#*=}}/stats-dump;;
esac; done"""
    name = program(programs / "runtime", fake)
    program(programs / "criu", "echo Version: 3.17.1")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    node.engine.containers._handlers = node.engine.handlers = Handlers(others={"criu": name})
    return node


def _document(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return json.load(file)


async def test_an_archive_tells_all_of_a_container_that_runs_on(runtime: Node, tmp_path: Path) -> None:
    node = runtime
    script = "echo said; echo written > /root/file; exec sleep 1000"
    container = await node.start(await node.sandbox("criu"), "/bin/sh", "-c", script)
    await node.exec(container, "/bin/sh", "-c", "until [ -e /root/file ]; do :; done")
    location = tmp_path / "archives" / "checkpoint.tar"

    await node.engine.checkpoint_container(container, str(location))

    assert location.stat().st_mode & 0o777 == 0o600
    with tarfile.open(location) as archive:
        names = set(archive.getnames())
        config, spec = (_document(archive, name) for name in ("config.dump", "spec.dump"))
        with tarfile.open(fileobj=archive.extractfile("rootfs-diff.tar")) as difference:
            written = difference.getnames()
    assert names >= {"checkpoint/pages-1.img", "dump.log", "stats-dump", "status.dump", "container.log"}
    assert (config["id"], config["name"], config["runtime"]) == (container, "c", "runtime")
    assert spec["process"]["args"][0] == "/bin/sh"
    assert "./root/file" in written
    assert (await node.engine.container_status(container)).finished_at == 0
    assert not list(node.store.root.glob("containers/*/checkpoint-*"))


async def test_no_half_an_archive_is_left(runtime: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, location = runtime, tmp_path / "archives" / "checkpoint.tar"
    container = await node.start(await node.sandbox("criu"), "/bin/sleep", "1000")
    add = tarfile.TarFile.add

    def full(archive: tarfile.TarFile, path: Any, name: str | None = None, *more: Any, **options: Any) -> None:
        if name == "config.dump":
            raise OSError(errno.ENOSPC, "No space left on device")
        add(archive, path, name, *more, **options)

    monkeypatch.setattr(tarfile.TarFile, "add", full)
    with pytest.raises(CriError, match="No space left"):
        await node.engine.checkpoint_container(container, str(location))

    assert list(location.parent.iterdir()) == []


async def test_why_there_is_none(runtime: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, location = runtime, str(tmp_path / "none.tar")
    sandbox = await node.sandbox("criu")
    container = await node.create(sandbox, "/bin/sleep", "1000")

    async def failure(container: str) -> tuple[str, str]:
        with pytest.raises(CriError) as failed:
            await node.engine.checkpoint_container(container, location)
        return failed.value.code, failed.value.message

    created = await failure(container)
    await node.engine.start_container(container)
    (tmp_path / "broken").touch()
    broken = await failure(container)
    launched = await failure(await node.start(await node.sandbox("pinnace"), "/bin/sleep", "1000"))
    program(tmp_path / "programs/criu", "echo Version: 3.15")
    old = await failure(container)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = await failure(container)

    words = f'CRIU binary not found or too old (<31600). Failed to checkpoint container "{container}": '
    assert created[1].endswith("is in CONTAINER_CREATED state. only CONTAINER_RUNNING containers can be checkpointed")
    assert broken == ("UNKNOWN", f'checkpointing container "{container}" failed: criu failed: unknown')
    assert launched == ("UNIMPLEMENTED", "method CheckpointContainer not implemented")
    assert old == ("UNKNOWN", f"{words}checkpoint/restore requires at least CRIU 31600, current version is 31500")
    assert missing[1].startswith(f"{words}failed to check for criu version: exec: ")
    assert (await failure("x"))[0] == "NOT_FOUND"
    assert not Path(location).exists()
