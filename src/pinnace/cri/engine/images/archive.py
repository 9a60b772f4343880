"""Images in a tar file: what `docker save`, `podman save`, `skopeo` and `crane` write, plain or compressed.

Reads the docker-archive layout (`manifest.json`) and the OCI image layout (`index.json`); where a file has both, the
former, because it names the tags. Nothing is copied: layers are regions of the open archive.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images.content import ContentError, ContentStore, sha256_digest
from pinnace.cri.engine.images.sources import Region
from pinnace.cri.engine.images.tarball import plain

_SMALL = 8 << 20  # the most that a manifest or a config may take, bytes
_MAX_LINKS = 8
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(slots=True)
class ArchivedImage:
    """One image of an archive."""

    config: bytes
    layers: list[Region]  # base first, possibly compressed
    references: list[str] = field(default_factory=list)  # as written; a bare tag where the archive has no more
    manifest: bytes = b""


class _Files:
    """The members of an archive by name."""

    def __init__(self, region: Region) -> None:
        self._descriptor = region.descriptor
        self._regions: dict[str, Region] = {}
        self._links: dict[str, str] = {}
        os.lseek(region.descriptor, region.offset, os.SEEK_SET)
        try:
            with (
                os.fdopen(os.dup(region.descriptor), "rb") as file,
                tarfile.TarFile(fileobj=file, mode="r", encoding="utf-8", errors="surrogateescape") as archive,
            ):
                for entry in archive:
                    self._add(entry)
        except (tarfile.TarError, OverflowError, ValueError) as error:
            raise ContentError(f"not an image archive: {error}") from None

    def _add(self, entry: tarfile.TarInfo) -> None:
        name = posixpath.normpath(entry.name)
        if entry.isreg():
            self._regions[name] = Region(self._descriptor, entry.offset_data, entry.size)
        elif entry.issym():
            self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
        elif entry.islnk():
            self._links[name] = posixpath.normpath(entry.linkname)

    def region(self, name: str) -> Region:
        name = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            if name in self._regions:
                return self._regions[name]
            name = self._links.get(name, "")
        raise ContentError(f"the archive lacks {name!r}" if name else "the archive lacks a file that it lists")

    def __contains__(self, name: str) -> bool:
        return name in self._regions or name in self._links

    def read(self, name: str) -> bytes:
        region = self.region(name)
        if region.size > _SMALL:
            raise ContentError(f"{name!r} in the archive is too large")
        return os.pread(region.descriptor, region.size, region.offset)

    def blob(self, digest: str) -> str:
        return f"blobs/{digest.replace(':', '/', 1)}"


@contextmanager
def open_archive(path: Path, content: ContentStore) -> Iterator[list[ArchivedImage]]:
    """The images in the file at `path`; their layers can be read while the block runs."""
    with path.open("rb") as file:
        whole = Region(file.fileno(), 0, path.stat().st_size)
        with plain(whole, content) as region:
            files = _Files(region)
            if "manifest.json" in files:
                yield _docker_images(files)
            elif "index.json" in files:
                yield list(_oci_images(files))
            else:
                raise ContentError("unrecognized image format: neither manifest.json nor index.json in the archive")


def _docker_images(files: _Files) -> list[ArchivedImage]:
    try:
        listed = orjson.loads(files.read("manifest.json"))
        return [
            ArchivedImage(
                config=files.read(item["Config"]),
                layers=[files.region(name) for name in item["Layers"] or ()],
                references=list(item.get("RepoTags") or ()),
            )
            for item in listed
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ContentError(f"malformed manifest.json in the archive: {error!r}") from None


def _oci_images(files: _Files) -> Iterator[ArchivedImage]:
    by_digest: dict[str, ArchivedImage] = {}
    for entry in manifests.index_entries(files.read("index.json")):
        data = _verified(files, entry)
        if manifests.media_type(data, str(entry.get("mediaType", ""))) in manifests.INDEXES:
            chosen = manifests.select_platform(manifests.index_entries(data), manifests.host_architecture())
            data = _verified(files, chosen)
        digest = sha256_digest(data)
        if digest not in by_digest:
            parsed = manifests.parse_manifest(data)
            by_digest[digest] = ArchivedImage(
                config=_verified(files, {"digest": parsed.config.digest}),
                layers=[files.region(files.blob(layer.digest)) for layer in parsed.layers],
                manifest=data,
            )
        name = _annotated_name(entry)
        if name:
            by_digest[digest].references.append(name)
    yield from by_digest.values()


def _verified(files: _Files, entry: dict[str, Any]) -> bytes:
    described = manifests.descriptor(entry)
    data = files.read(files.blob(described.digest))
    if sha256_digest(data) != described.digest:
        raise ContentError(f"content of {described.digest} in the archive does not match its digest")
    return data


def _annotated_name(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    return next((str(annotations[key]) for key in _NAME_ANNOTATIONS if annotations.get(key)), "")
