"""Container images made from Debian's static busybox, as `docker save` would write them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")


def busybox_archive(path: Path, *names: str, command: tuple[str, ...] = ("sh",)) -> Path:
    """Write a docker-archive of a busybox image under the given names (`NAME:TAG`); returns `path`."""
    layer = _layer()
    diff_id = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin:/usr/bin:/sbin"], "Cmd": list(command), "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }
    config_json = json.dumps(config).encode()
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


def _layer() -> bytes:
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
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
