"""Checkpoints of running containers, by CRIU through an OCI runtime, in archives that `checkpointctl` reads.

The archive is containerd's: CRIU's images in `checkpoint/`, what the container wrote in `rootfs-diff.tar`, its log, and
documents that say what it was. The container runs on. KEP-2008 and https://criu.org specify the rest.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from pinnace.cri.api import ContainerStatus, CriError
from pinnace.cri.engine.procfs import read_json
from pinnace.cri.engine.records import ContainerRecord

_OLDEST = 31600  # CRIU's version 3.16


async def require_criu(container_id: str) -> None:
    """CriError in containerd's words where CRIU is missing or too old."""
    try:
        version = await _criu_version()
        why = f"checkpoint/restore requires at least CRIU {_OLDEST}, current version is {version}"
    except OSError:
        version, why = 0, 'failed to check for criu version: exec: "criu": executable file not found in $PATH'
    if version < _OLDEST:
        words = f'CRIU binary not found or too old (<{_OLDEST}). Failed to checkpoint container "{container_id}"'
        raise CriError("UNKNOWN", f"{words}: {why}")


async def _criu_version() -> int:
    """30000 for 3.0, 31701 for 3.17.1; 0 for what does not tell. Raises OSError."""
    asking = await asyncio.create_subprocess_exec(
        "criu", "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await asking.communicate()
    found = re.search(rb"Version: (\d+)\.(\d+)(?:\.(\d+))?", output)
    if not found:
        return 0
    major, minor, patch = (int(part or 0) for part in found.groups())
    return major * 10_000 + minor * 100 + patch


async def write(
    record: ContainerRecord,
    status: ContainerStatus,
    oci: dict[str, Any],
    bundle: Path,
    upper: Path,
    location: Path,
    timeout: float,
) -> None:
    """Let the runtime that `oci` names dump a container, and write the archive to `location`. Raises CriError."""
    work = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=upper.parent))
    try:
        await _dump(record, oci, work, timeout)
        await asyncio.to_thread(_archive, record, status, oci["program"], bundle, upper, work, location)
    except (OSError, tarfile.TarError) as error:
        raise CriError("UNKNOWN", f'checkpointing container "{record.id}" failed: {error}') from error
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


async def _dump(record: ContainerRecord, oci: dict[str, Any], work: Path, timeout: float) -> None:
    images = work / "checkpoint"
    images.mkdir()
    dumping = await asyncio.create_subprocess_exec(
        oci["program"],
        f"--root={oci['root']}",
        "checkpoint",
        f"--image-path={images}",
        f"--work-path={work}",
        "--leave-running",
        record.id,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(dumping.communicate(), timeout or None)
    except (TimeoutError, asyncio.CancelledError) as error:
        dumping.kill()
        await dumping.wait()
        if isinstance(error, TimeoutError):
            raise CriError("DEADLINE_EXCEEDED", "context deadline exceeded") from None
        raise
    if dumping.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"{oci['program']} ended with {dumping.returncode}"
        raise CriError("UNKNOWN", f'checkpointing container "{record.id}" failed: {why}: unknown')


def _archive(
    record: ContainerRecord,
    status: ContainerStatus,
    program: str,
    bundle: Path,
    upper: Path,
    work: Path,
    location: Path,
) -> None:
    now = datetime.now(UTC).isoformat()
    config = {
        "id": record.id,
        "name": record.config.metadata.name,
        "rootfsImage": status.image.image,
        "rootfsImageRef": status.image_ref,
        "rootfsImageName": status.image.image,
        "runtime": Path(program).name,
        "createdTime": datetime.fromtimestamp(record.created_at / 1e9, UTC).isoformat(),
        "checkpointedTime": now,
    }
    for name, document in (
        ("config.dump", config),
        ("spec.dump", read_json(str(bundle / "config.json"))),
        ("status.dump", status),
    ):
        (work / name).write_bytes(orjson.dumps(document))
    with tarfile.open(work / "rootfs-diff.tar", "w") as written:
        written.add(upper, ".")
    if record.log_path and Path(record.log_path).exists():
        shutil.copyfile(record.log_path, work / "container.log")
    location.parent.mkdir(parents=True, exist_ok=True)
    # What a container had in memory is for nobody else.
    unfinished = location.with_name(f".{location.name}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for path in sorted(work.iterdir()):
                archive.add(path, path.name)
        unfinished.replace(location)
    finally:
        unfinished.unlink(missing_ok=True)
