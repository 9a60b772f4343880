"""The images of one engine: loaded from archives or pulled, unpacked once, found by name, removed with their layers.

Below `root`: `index.json` (names), `blobs/` (configs and manifests; layers only while they travel), `layers/`
(unpacked, by chain id), `containers/` (writable layers, see `snapshots`). Several processes may use one root at a time:
what is being brought in is protected from the garbage collection by a shared lock on `lease.lock`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.cri.engine.images import reference as references
from pinnace.cri.engine.images.archive import ArchivedImage, open_archive
from pinnace.cri.engine.images.content import ContentError, ContentStore
from pinnace.cri.engine.images.index import Index, IndexedImage, IndexFile
from pinnace.cri.engine.images.layers import LayerError, unpack
from pinnace.cri.engine.images.locks import locked, try_locked
from pinnace.cri.engine.images.manifest import ImageConfig, chain_ids, parse_config
from pinnace.cri.engine.images.snapshots import layers_in_use
from pinnace.cri.engine.images.sources import Region
from pinnace.cri.engine.images.tarball import opened
from pinnace.cri.engine.images.usage import Usage
from pinnace.cri.trees import discard

if TYPE_CHECKING:
    from pinnace.cri.api import AuthConfig
    from pinnace.cri.engine.images.registry import RegistryOptions

_MIN_ID_PREFIX = 4

Names = list[str]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image that is here, unpacked."""

    id: str  # sha256:<digest of the config>
    config: ImageConfig
    layer_dirs: list[Path]  # unpacked layers, base first
    size: int  # bytes, as it was transported
    repo_tags: list[str] = field(default_factory=list)  # docker.io/library/busybox:latest
    repo_digests: list[str] = field(default_factory=list)  # docker.io/library/busybox@sha256:…


def _layer_name(chain: str) -> str:
    """The directory of a layer: the start of the digest, so that 127 of them fit into the options of a mount."""
    return chain[7:27]


class ImageStore:
    """All images below `root`, which is made if missing. Safe between processes, and between threads of one."""

    def __init__(self, root: Path, registries: RegistryOptions | None = None) -> None:
        self.root = root
        self._registries = registries
        self._layers = root / "layers"
        self._layers.mkdir(parents=True, exist_ok=True)
        self.content = ContentStore(root / "blobs")
        self._index = IndexFile(root / "index.json")
        self._lease = root / "lease.lock"
        self._read_index: Index | None = None
        self._records: dict[str, ImageRecord] = {}
        self._usage = Usage()

    # Finding.

    def list(self) -> list[ImageRecord]:
        return list(self._current().values())

    def resolve(self, reference: str) -> ImageRecord | None:
        """The image under a name as a user writes it, a digest reference, an image id or a prefix of one."""
        records = self._current()
        if references.is_image_id(reference):
            return records.get(reference if reference.startswith("sha256:") else f"sha256:{reference}")
        try:
            full = str(references.parse(reference))
        except references.InvalidReferenceError:
            full = ""
        assert self._read_index is not None
        found = self._read_index.references.get(full)
        if found:
            return records.get(found)
        prefix = reference.removeprefix("sha256:")
        if len(prefix) < _MIN_ID_PREFIX:
            return None
        matches = [record for image_id, record in records.items() if image_id[7:].startswith(prefix)]
        return matches[0] if len(matches) == 1 else None

    def _current(self) -> dict[str, ImageRecord]:
        index = self._index.read()
        if index is not self._read_index:
            self._records = self._make_records(index)
            self._read_index = index
        return self._records

    def _make_records(self, index: Index) -> dict[str, ImageRecord]:
        names: dict[str, tuple[list[str], list[str]]] = {}
        for name, image_id in sorted(index.references.items()):
            names.setdefault(image_id, ([], []))["@" in name].append(name)
        records: dict[str, ImageRecord] = {}
        for image_id, image in index.images.items():
            tags, digests = names.get(image_id, ([], []))
            known = self._records.get(image_id)
            try:
                config = known.config if known else parse_config(self.content.read(image_id))
            except (KeyError, ContentError):
                continue  # removed by hand; the next pull or load brings it back
            layer_dirs = [self._layers / _layer_name(chain) for chain in image.chains]
            records[image_id] = ImageRecord(image_id, config, layer_dirs, image.size, tags, digests)
        return records

    # Bringing in.

    def load_archive(self, path: Path, names: Sequence[str] = ()) -> Names:
        """Load a docker-archive or OCI layout tar; the full references loaded, ids of images that have no name.

        `names` replaces what the archive calls its (only) image. ContentError where the file is no such archive.
        """
        loaded: list[str] = []
        with locked(self._lease, shared=True), open_archive(path, self.content) as images:
            if names and len(images) != 1:
                raise ContentError(f"cannot name {len(images)} images at once")
            for image in images:
                loaded += self._load(image, names or image.references)
        return loaded

    def _load(self, image: ArchivedImage, names: Sequence[str]) -> Names:
        full = [str(references.parse(name)) for name in names if _is_name(name)]
        size = len(image.config) + sum(layer.size for layer in image.layers)
        record = self.add(image.config, image.layers, full, size, image.manifest)
        return full or [record.id]

    def add(
        self, config: bytes, layers: Sequence[Region], names: Sequence[str], size: int, manifest: bytes = b""
    ) -> ImageRecord:
        """Unpack what is not here yet and register the image under full references; the caller holds a lease."""
        parsed = parse_config(config)
        if len(parsed.diff_ids) != len(layers):
            raise ContentError(f"mismatched image rootfs and manifest layers: {len(parsed.diff_ids)} != {len(layers)}")
        chains = chain_ids(parsed.diff_ids)
        for position, layer in enumerate(layers):
            if not self.has_layer(chains[position]):
                self.unpack_layer(layer, parsed.diff_ids, position)
        return self.register(config, names, size, manifest)

    def register(self, config: bytes, names: Sequence[str], size: int, manifest: bytes = b"") -> ImageRecord:
        """Make an image whose layers are all unpacked known under full references, taking them from other images."""
        image_id = self.content.put(config)
        manifest_digest = self.content.put(manifest) if manifest else ""
        chains = chain_ids(parse_config(config).diff_ids)
        with self._index.change() as index:
            known = index.images.get(image_id)
            if known and not manifest_digest:
                manifest_digest = known.manifest
            index.images[image_id] = IndexedImage(chains, size, manifest_digest)
            for name in names:
                index.references[name] = image_id
        return self._current()[image_id]

    def has_layer(self, chain: str) -> bool:
        return (self._layers / _layer_name(chain)).is_dir()

    def unpack_layer(self, layer: Region, diff_ids: Sequence[str], position: int) -> None:
        """Unpack the layer at `position` of an image; those below it are unpacked already."""
        chains = chain_ids(list(diff_ids[: position + 1]))
        lowers = [self._layers / _layer_name(chain) for chain in reversed(chains[:-1])]
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=self._layers))
        try:
            if lowers:
                below = lowers[0].stat()
                os.chown(temporary, below.st_uid, below.st_gid)
                temporary.chmod(stat.S_IMODE(below.st_mode))
            else:
                temporary.chmod(0o755)
            with opened(layer) as (source, digest):
                try:
                    unpack(source, temporary, lowers)
                except LayerError:
                    _verify(digest(), diff_ids[position])  # another layer than the image's need not even be one
                    raise
                _verify(digest(), diff_ids[position])
            temporary.rename(self._layers / _layer_name(chains[-1]))
        except BaseException as error:
            discard(temporary)
            if isinstance(error, OSError) and self.has_layer(chains[-1]):
                return  # another process was faster
            raise

    async def pull(self, reference: str, auth: AuthConfig | None = None) -> ImageRecord:
        """Pull by the distribution spec; `PullError` and `InvalidReferenceError` in containerd's words."""
        from pinnace.cri.engine.images.pull import pull
        from pinnace.cri.engine.images.registry import RegistryOptions

        with locked(self._lease, shared=True):
            return await pull(self, reference, auth, self._registries or RegistryOptions())

    def tag(self, source: str, name: str) -> str:
        """Give an image another name; the full reference. KeyError where the image is not here."""
        record = self.resolve(source)
        if record is None:
            raise KeyError(source)
        full = str(references.parse(name))
        with self._index.change() as index:
            index.references[full] = record.id
        return full

    # Removing.

    def remove(self, reference: str) -> bool:
        """Forget one name, the image with its last tag; by id, the image with all its names. False where unknown."""
        record = self.resolve(reference)
        if record is None:
            return False
        try:
            full = "" if references.is_image_id(reference) else str(references.parse(reference))
        except references.InvalidReferenceError:
            full = ""
        with self._index.change() as index:
            if index.references.get(full) == record.id:
                del index.references[full]
            else:
                full = ""
            left = [name for name, image_id in index.references.items() if image_id == record.id]
            if not full or not any("@" not in name for name in left):
                for name in left:
                    del index.references[name]
                index.images.pop(record.id, None)
        self.collect_garbage()
        return True

    def collect_garbage(self) -> None:
        """Delete blobs and layers that neither an image nor a container needs; nothing while images are coming in."""
        trash: list[Path] = []
        with try_locked(self._lease) as alone:
            if not alone:
                return
            index = self._index.read()
            blobs = set(index.images) | {image.manifest for image in index.images.values()}
            for digest in list(self.content.digests()):
                if digest not in blobs:
                    self.content.remove(digest)
            self.content.remove_unfinished()
            self._index.remove_unfinished()
            layers = {_layer_name(chain) for image in index.images.values() for chain in image.chains}
            layers |= layers_in_use(self.root)
            for entry in self._layers.iterdir():
                if entry.name not in layers:
                    doomed = self._layers / f".trash-{entry.name.removeprefix('.trash-')}"
                    entry.rename(doomed)
                    trash.append(doomed)
        for path in trash:
            discard(path)

    def usage(self) -> tuple[int, int]:
        """Bytes on disk and inodes of all that images take."""
        parts = [self._usage.of(self._layers), self._usage.of(self.root / "blobs")]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    def manifest_of(self, image_id: str) -> bytes:
        """The manifest an image came with; empty where it came without. For tools that push or save."""
        image = self._index.read().images.get(image_id)
        return self.content.read(image.manifest) if image and image.manifest else b""


def _verify(found: str, diff_id: str) -> None:
    if found != diff_id:
        raise ContentError(f"wrong diff id {found}, expected {diff_id}")


def _is_name(text: str) -> bool:
    """Whether an archive's name for an image is more than a bare tag such as `latest`, as an OCI layout may have."""
    try:
        references.parse(text)
    except references.InvalidReferenceError:
        return False
    return any(character in text for character in "/:@")
