"""Container images made from Debian's static busybox, as `docker save` would write them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")


def busybox_archive(
    path: Path,
    *names: str,
    command: tuple[str, ...] = ("sh",),
    entries: Iterable[tarfile.TarInfo | tuple[str, bytes]] = (),
    **config: Any,
) -> Path:
    """Write a docker-archive of a busybox image under the given names (`NAME:TAG`); returns `path`.

    `entries` are more of its layer, files by name and content, the later taking the place of the earlier; `config` is
    more of its configuration.
    """
    layer = _layer(entries)
    diff_id = hashlib.sha256(layer).hexdigest()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin:/usr/bin:/sbin"], "Cmd": list(command), "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }
    config_json = json.dumps(document).encode()
    config_name = hashlib.sha256(config_json).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": [f"{diff_id}/layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for name, content in (
            (f"{diff_id}/layer.tar", layer),
            (config_name, config_json),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            _add(archive, name, content, 0o644)
    return path


def _layer(entries: Iterable[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for directory in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "usr", "usr/bin"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            layer.addfile(entry)
        _add(layer, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        _add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
        _add(layer, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                layer.addfile(link)
        for more in entries:
            if isinstance(more, tarfile.TarInfo):
                layer.addfile(more)
            else:
                _add(layer, *more, 0o755)
    return buffer.getvalue()


def link_entry(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
    return entry


def node_entry(name: str, kind: bytes, major: int = 0, minor: int = 0) -> tarfile.TarInfo:
    """A pipe or a device, by tarfile's type of it."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.devmajor, entry.devminor, entry.mode = kind, major, minor, 0o666
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
