"""Pull one image: resolve the reference, choose the platform, fetch what is missing in parallel, unpack in order.

Errors read like containerd's: `failed to pull and unpack image "…": failed to resolve reference "…": …`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pinnace.cri.api import AuthConfig
from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images import reference as references
from pinnace.cri.engine.images.content import ContentError, sha256_digest
from pinnace.cri.engine.images.manifest import Descriptor, Manifest, chain_ids, parse_config
from pinnace.cri.engine.images.reference import Reference
from pinnace.cri.engine.images.registry import (
    NotFoundError,
    RegistryError,
    RegistryOptions,
    Repository,
    endpoints,
)
from pinnace.cri.engine.images.sources import Region

if TYPE_CHECKING:
    from pinnace.cri.engine.images.store import ImageRecord, ImageStore

_PARALLEL = 4  # layers fetched at a time


class PullError(Exception):
    """An image could not be pulled; `not_found` where the registry says that it does not exist."""

    def __init__(self, message: str, *, not_found: bool = False) -> None:
        super().__init__(message)
        self.not_found = not_found


async def pull(store: ImageStore, name: str, auth: AuthConfig | None, options: RegistryOptions) -> ImageRecord:
    """Pull into `store`, whose lease the caller holds."""
    reference = references.parse(name)
    failure: RegistryError | None = None
    for base in endpoints(reference.domain, options):
        async with Repository(base, reference, auth, options) as repository:
            try:
                data, media_type = await repository.manifest(reference.target)
            except (RegistryError, ContentError) as error:
                failure = error if isinstance(error, RegistryError) else RegistryError(str(error))
                continue  # the next mirror, at last the registry itself
            try:
                return await _fetch(store, repository, reference, data, media_type)
            except (RegistryError, ContentError, OSError) as error:
                raise PullError(f'failed to pull and unpack image "{reference}": {error}') from error
    words = f"{reference}: {failure}" if isinstance(failure, NotFoundError) else str(failure)
    raise PullError(
        f'failed to pull and unpack image "{reference}": failed to resolve reference "{reference}": {words}',
        not_found=isinstance(failure, NotFoundError),
    ) from failure


async def _fetch(
    store: ImageStore, repository: Repository, reference: Reference, data: bytes, media_type: str
) -> ImageRecord:
    digest = sha256_digest(data)  # of what the tag points to: an index, if it is one
    if media_type in manifests.INDEXES:
        entry = manifests.select_platform(manifests.index_entries(data), manifests.host_architecture())
        data, media_type = await repository.manifest(manifests.descriptor(entry).digest)
    if media_type not in manifests.MANIFESTS:
        raise ContentError(f"media type {media_type!r} is no longer supported")
    manifest = manifests.parse_manifest(data)
    await repository.blob(manifest.config, store.content)
    config = store.content.read(manifest.config.digest)
    diff_ids = parse_config(config).diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ContentError(f"mismatched image rootfs and manifest layers: {len(diff_ids)} != {len(manifest.layers)}")
    await _fetch_layers(store, repository, manifest, diff_ids)
    names = [f"{reference.repository}@{digest}"]
    if reference.tag:
        names.append(str(reference))
    size = len(config) + len(data) + sum(max(layer.size, 0) for layer in manifest.layers)
    return await asyncio.to_thread(store.register, config, names, size, data)


async def _fetch_layers(store: ImageStore, repository: Repository, manifest: Manifest, diff_ids: Sequence[str]) -> None:
    """Download in parallel, unpack each as soon as it and all below it are there."""
    chains = chain_ids(list(diff_ids))
    missing = [position for position, chain in enumerate(chains) if not store.has_layer(chain)]
    slots = asyncio.Semaphore(_PARALLEL)
    arrivals: dict[str, asyncio.Task[None]] = {}  # by digest: an image may hold one layer twice

    async def download(layer: Descriptor) -> None:
        async with slots:
            await repository.blob(layer, store.content)

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
        for task in arrivals.values():
            task.cancel()
        await asyncio.gather(*arrivals.values(), return_exceptions=True)
    for digest in arrivals:
        store.content.remove(digest)  # the unpacked layer is what is kept


def _unpack(store: ImageStore, layer: Descriptor, diff_ids: Sequence[str], position: int) -> None:
    with store.content.path(layer.digest).open("rb") as file:
        region = Region(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        store.unpack_layer(region, diff_ids, position)
