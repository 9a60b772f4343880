"""Images made on the spot: tars from plain descriptions, docker-archives, and a real registry."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinnace.cri.engine.images.store import ImageStore
from tests.support.ports import free_port

HTPASSWD = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"  # password: secret


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **attributes: object) -> tuple:
    """An entry of a tar as `(TarInfo, data)`; attributes are TarInfo's."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def make_tar(*members: tuple) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_archive(path: Path, names: list[str], *layers: bytes, travelling: list[bytes] | None = None, **config) -> Path:
    """A docker-archive; `travelling` are the layers as they lie in it where they are compressed."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }
    encoded = json.dumps(document).encode()
    files = [(f"{number}/layer.tar", layer) for number, layer in enumerate(travelling or list(layers))]
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": [name for name, _ in files]}]
    listed = [*files, ("config.json", encoded), ("manifest.json", json.dumps(manifest).encode())]
    path.write_bytes(make_tar(*(member(name, data) for name, data in listed)))
    return path


class Making:
    """The helpers above, as one fixture."""

    member = staticmethod(member)
    tar = staticmethod(make_tar)
    archive = staticmethod(make_archive)
    digest = staticmethod(digest_of)


@pytest.fixture
def make() -> Making:
    return Making()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    """A docker-archive with Debian's static busybox as `busybox:1`."""
    binary = Path("/bin/busybox")
    if not binary.exists():
        pytest.skip("busybox-static is not installed")
    layer = make_tar(
        member("bin", kind=tarfile.DIRTYPE),
        member("tmp", kind=tarfile.DIRTYPE, mode=0o1777),
        member("bin/busybox", binary.read_bytes(), mode=0o755),
        member("bin/sh", kind=tarfile.SYMTYPE, linkname="busybox"),
    )
    upper = make_tar(member("etc/motd", b"ahoy\n"))
    return make_archive(tmp_path / "busybox.tar", ["busybox:1"], layer, upper, Cmd=["sh"], User="1000:1000")


@contextmanager
def running_registry(home: Path, htpasswd: str = "") -> Iterator[str]:
    """Debian's docker-registry on loopback; yields host:port."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    home.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    auth = ""
    if htpasswd:
        (home / "htpasswd").write_text(htpasswd)
        auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {home}/htpasswd\n"
    (home / "config.yml").write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {home}/data\n"
        f"http:\n  addr: {address}\n{auth}"
    )
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(home / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_until_listening(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_listening(process: subprocess.Popen, address: str) -> None:
    """A registry says nothing when it is ready; connecting is the only way to see it."""
    host, _, port = address.partition(":")
    for _ in range(2000):
        if process.poll() is not None:
            raise RuntimeError("the registry has ended")
        try:
            socket.create_connection((host, int(port)), timeout=60).close()
            return
        except ConnectionRefusedError:
            try:
                process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
    raise RuntimeError("the registry does not listen")


def copy_to_registry(archive: Path, target: str, *options: str) -> None:
    """Push with skopeo."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options]
    environment = {**os.environ, "TMPDIR": str(archive.parent)}
    subprocess.run(
        [*command, f"docker-archive:{archive}", f"docker://{target}"], check=True, capture_output=True, env=environment
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def private_registry(tmp_path: Path) -> Iterator[str]:
    """One that lets only ann in, whose password is `secret`."""
    with running_registry(tmp_path / "private-registry", HTPASSWD) as address:
        yield address


@pytest.fixture
def push() -> Callable[..., None]:
    return copy_to_registry
