"""Pull one image: resolve the reference, choose the platform, fetch what is missing in parallel, unpack in order.

Errors read like containerd's: `failed to pull and unpack image "…": failed to resolve reference "…": …`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from pinnace.cri.api import AuthConfig
from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images import reference as references
from pinnace.cri.engine.images.content import ContentError, ContentStore, sha256_digest
from pinnace.cri.engine.images.hosts import HostsError, hosts_for
from pinnace.cri.engine.images.manifest import Descriptor, Manifest, chain_ids, parse_config
from pinnace.cri.engine.images.reference import Reference
from pinnace.cri.engine.images.registry import (
    NotFoundError,
    RegistryError,
    RegistryOptions,
    Repository,
)
from pinnace.cri.engine.images.sources import Region
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.cri.engine.images.store import ImageRecord, ImageStore

_PARALLEL = 4  # layers fetched at a time
_T = TypeVar("_T")


class PullError(Exception):
    """An image could not be pulled; `code` is the gRPC status that containerd gives the reason."""

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.code = code

    @property
    def not_found(self) -> bool:
        """Whether the registry says that it does not exist."""
        return self.code == "NOT_FOUND"


class UnsupportedError(ContentError):
    """An image of a kind that is none any more."""


class Source:
    """A reference at all the hosts that may have it; use as an async context manager."""

    def __init__(self, reference: Reference, auth: AuthConfig | None, options: RegistryOptions) -> None:
        self._reference = reference
        self._repositories = [
            Repository(host, reference, auth, options) for host in hosts_for(reference.domain, options.hosts)
        ]
        self._open = AsyncExitStack()
        self._opened: list[Repository] = []
        self._opening_one = asyncio.Lock()

    async def __aenter__(self) -> Source:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def resolve(self) -> tuple[bytes, str]:
        """The manifest or index, and its media type; by tag only from hosts that are trusted with names."""
        capability = "pull" if self._reference.digest else "resolve"
        return await self._first(capability, lambda repository: repository.manifest(self._reference.target))

    async def manifest(self, digest: str) -> tuple[bytes, str]:
        return await self._first("pull", lambda repository: repository.manifest(digest))

    async def blob(self, wanted: Descriptor, content: ContentStore) -> None:
        await self._first("pull", lambda repository: repository.blob(wanted, content))

    async def _first(self, capability: str, ask: Callable[[Repository], Awaitable[_T]]) -> _T:
        """What the first host gives that gives it; the failure of the last, which is the registry itself."""
        failure: Exception | None = None
        for repository in self._repositories:
            if capability not in repository.host.capabilities:
                continue
            try:
                return await ask(await self._opening(repository))
            except (RegistryError, ContentError) as error:
                failure = error
        if failure is None:
            raise NotFoundError(f"no {capability} hosts: not found")
        raise failure

    async def _opening(self, repository: Repository) -> Repository:
        async with self._opening_one:
            if repository not in self._opened:
                await self._open.enter_async_context(repository)
                self._opened.append(repository)
        return repository


async def pull(store: ImageStore, name: str, auth: AuthConfig | None, options: RegistryOptions) -> ImageRecord:
    """Pull into `store`, whose lease the caller holds."""
    reference = references.parse(name)
    words = f'failed to pull and unpack image "{reference}"'
    try:
        source = Source(reference, auth, options)
    except HostsError as error:
        raise PullError(f'{words}: failed to resolve reference "{reference}": {error}') from error
    async with source:
        try:
            data, media_type = await source.resolve()
        except (RegistryError, ContentError) as error:
            why = f"{reference}: {error}" if isinstance(error, NotFoundError) else str(error)
            raise PullError(f'{words}: failed to resolve reference "{reference}": {why}', _code(error)) from error
        try:
            return await _fetch(store, source, reference, data, media_type)
        except (RegistryError, ContentError, OSError) as error:
            raise PullError(f"{words}: {error}", _code(error)) from error


def _code(error: Exception) -> str:
    if isinstance(error, NotFoundError):
        return "NOT_FOUND"
    if isinstance(error, UnsupportedError):
        return "UNIMPLEMENTED"
    return "FAILED_PRECONDITION" if str(error).endswith("failed precondition") else "UNKNOWN"


async def _fetch(store: ImageStore, source: Source, reference: Reference, data: bytes, media_type: str) -> ImageRecord:
    digest = sha256_digest(data)  # of what the tag points to: an index, if it is one
    if media_type in manifests.INDEXES:
        entry = manifests.select_platform(manifests.index_entries(data), manifests.host_architecture())
        data, media_type = await source.manifest(manifests.descriptor(entry).digest)
    if media_type in manifests.SCHEMA1:
        raise UnsupportedError(
            f'not implemented: media type "{manifests.DOCKER_SCHEMA1_SIGNED}" is no longer supported since containerd '
            f'v2.1, please rebuild the image as "{manifests.DOCKER_MANIFEST}" or "{manifests.OCI_MANIFEST}"'
        )
    if media_type not in manifests.MANIFESTS:
        raise ContentError(f"media type {media_type!r} is no longer supported")
    manifest = manifests.parse_manifest(data)
    await source.blob(manifest.config, store.content)
    config = store.content.read(manifest.config.digest)
    diff_ids = parse_config(config).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ContentError(f"mismatched image rootfs and manifest layers: {len(diff_ids)} != {len(manifest.layers)}")
    await _fetch_layers(store, source, manifest, diff_ids)
    names = [f"{reference.repository}@{digest}"]
    if reference.tag:
        names.append(str(reference))
    size = len(config) + len(data) + sum(max(layer.size, 0) for layer in manifest.layers)
    return await asyncio.to_thread(store.register, config, names, size, data)


async def _fetch_layers(store: ImageStore, source: Source, manifest: Manifest, diff_ids: Sequence[str]) -> None:
    """Download in parallel, unpack each as soon as it and all below it are there."""
    chains = chain_ids(list(diff_ids))
    missing = [position for position, chain in enumerate(chains) if not store.has_layer(chain)]
    slots = asyncio.Semaphore(_PARALLEL)
    arrivals: dict[str, asyncio.Task[None]] = {}  # by digest: an image may hold one layer twice

    async def download(layer: Descriptor) -> None:
        async with slots:
            await source.blob(layer, store.content)

    try:
        for position in missing:
            layer = manifest.layers[position]
            if layer.digest not in arrivals:
                arrivals[layer.digest] = asyncio.create_task(download(layer))
        for position in missing:
            layer = manifest.layers[position]
            await arrivals[layer.digest]
            await asyncio.to_thread(_unpack, store, layer, diff_ids, position)
    finally:
        await end_tasks(arrivals.values())
    for digest in arrivals:
        store.content.remove(digest)  # the unpacked layer is what is kept


def _unpack(store: ImageStore, layer: Descriptor, diff_ids: Sequence[str], position: int) -> None:
    with store.content.path(layer.digest).open("rb") as file:
        region = Region(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        store.unpack_layer(region, diff_ids, position)
