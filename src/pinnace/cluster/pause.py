"""The image of the process that holds a sandbox where the runtime wants one: it waits, and lets the kernel reap.

Other runtimes pull Kubernetes' own pause image from a registry; a cluster that starts without a network cannot. So one
is made of the program of ours, as `docker save` has it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile

from pinnace.cri import pause_program

NAME = "pinnace.local/pause:1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as images name those of `uname -m`


def supported() -> bool:
    """Whether there is a program for this machine."""
    return pause_program.supported(platform.machine())


def archive(machine: str = "") -> bytes:
    """A docker-archive of the image `NAME`, for this machine unless another is named."""
    machine = machine or platform.machine()
    layer = _tar({"pause": pause_program.program(machine)}, 0o755)
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES[machine],
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    return _tar({"layer.tar": layer, "config.json": config, "manifest.json": json.dumps(manifest).encode()}, 0o644)


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            made.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
