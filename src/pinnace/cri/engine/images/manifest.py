"""Manifests, indexes and image configs: OCI image-spec and Docker schema 2, as dataclasses.

Pure. Bad documents raise `ContentError`. https://github.com/opencontainers/image-spec and
https://distribution.github.io/distribution/spec/manifest-v2-2/ specify them; the platform matching is containerd's.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from pinnace.cri.engine.images.content import ContentError, check_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content."""

    digest: str
    size: int = -1  # bytes, -1 where unknown
    media_type: str = ""
    urls: tuple[str, ...] = ()  # where a layer is to be had that no registry may pass on


@dataclass(frozen=True, slots=True)
class Manifest:
    """The config and the layers of one image for one platform; base layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how to run it."""

    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)  # in order
    user: str = ""  # `name`, `uid`, `user:group`
    working_dir: str = ""
    stop_signal: str = ""  # SIGTERM where empty
    exposed_ports: list[str] = field(default_factory=list)  # 80/tcp
    volumes: list[str] = field(default_factory=list)  # paths
    labels: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    os: str = ""
    created: str = ""
    diff_ids: list[str] = field(default_factory=list)  # digests of the uncompressed layers, base first


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ContentError(f"{what} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise ContentError(f"{what} is not a JSON object")
    return parsed


def descriptor(value: Any) -> Descriptor:
    if not isinstance(value, dict):
        raise ContentError("a descriptor is not a JSON object")
    check_digest(value.get("digest", ""))
    size = value.get("size", -1)
    if not isinstance(size, int):
        raise ContentError(f"invalid size {size!r} of {value['digest']}")
    urls = value.get("urls") if isinstance(value.get("urls"), list) else []
    return Descriptor(value["digest"], size, str(value.get("mediaType", "")), tuple(str(url) for url in urls or ()))


def media_type(data: bytes, header: str = "") -> str:
    """What a manifest says it is, else what the registry said, else what its fields tell."""
    document = _document(data, "the manifest")
    if document.get("schemaVersion") == 1:
        return DOCKER_SCHEMA1
    stated = document.get("mediaType")
    if isinstance(stated, str) and stated:
        return stated
    header = header.partition(";")[0].strip()
    if header in INDEXES | MANIFESTS:
        return header
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def parse_manifest(data: bytes) -> Manifest:
    document = _document(data, "the manifest")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise ContentError("the manifest lists no layers")
    return Manifest(descriptor(document.get("config")), tuple(descriptor(layer) for layer in layers))


def index_entries(data: bytes) -> list[dict[str, Any]]:
    """The raw entries of an index or manifest list."""
    entries = _document(data, "the index").get("manifests")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ContentError("the index lists no manifests")
    return entries


def host_architecture() -> str:
    """This machine in Go's words: amd64, arm64, …"""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def select_platform(entries: list[dict[str, Any]], architecture: str) -> dict[str, Any]:
    """The entry for Linux on `architecture`; an entry without a platform serves where none matches."""
    anywhere: list[dict[str, Any]] = []
    for entry in entries:
        described = entry.get("platform")
        if not isinstance(described, dict) or not described.get("architecture"):
            anywhere.append(entry)
        elif described.get("os", "linux") == "linux" and described["architecture"] == architecture:
            return entry
    if anywhere:
        return anywhere[0]
    raise ContentError(f"no match for platform in manifest: linux/{architecture}: not found")


def _strings(value: Any, what: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):  # some old builders wrote a bare string
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ContentError(f"{what} in the image config is not a list of strings")
    return list(value)


def _keys(value: Any) -> list[str]:
    return sorted(str(key) for key in value) if isinstance(value, dict) else []


def parse_config(data: bytes) -> ImageConfig:
    document = _document(data, "the image config")
    settings = document.get("config") or {}
    rootfs = document.get("rootfs") or {}
    if not isinstance(settings, dict) or not isinstance(rootfs, dict):
        raise ContentError("the image config is malformed")
    diff_ids = _strings(rootfs.get("diff_ids"), "rootfs.diff_ids")
    for diff_id in diff_ids:
        check_digest(diff_id)
    labels = settings.get("Labels")
    environment = (entry.partition("=") for entry in _strings(settings.get("Env"), "Env"))
    return ImageConfig(
        entrypoint=_strings(settings.get("Entrypoint"), "Entrypoint"),
        cmd=_strings(settings.get("Cmd"), "Cmd"),
        env={name: value for name, _, value in environment if name},
        user=str(settings.get("User") or ""),
        working_dir=str(settings.get("WorkingDir") or ""),
        stop_signal=str(settings.get("StopSignal") or ""),
        exposed_ports=_keys(settings.get("ExposedPorts")),
        volumes=_keys(settings.get("Volumes")),
        labels={str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {},
        architecture=str(document.get("architecture") or ""),
        os=str(document.get("os") or ""),
        created=str(document.get("created") or ""),
        diff_ids=diff_ids,
    )


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The identity of each layer with all that is below it, as the image-spec defines `ChainID`."""
    chains: list[str] = []
    for diff_id in diff_ids:
        parent = chains[-1] if chains else ""
        chains.append("sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id)
    return chains
