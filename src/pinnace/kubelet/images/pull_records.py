"""Files that tell which images this kubelet fetched, and with which credentials: one for an image, one for a pull under
way. They outlive the kubelet, so that what it fetched never counts as having been there before.

Names and contents are Kubernetes' (`image_manager/pulled` and `image_manager/pulling` of the kubelet's directory,
https://kubernetes.io/docs/reference/node/kubelet-files/#image-pull-records); `verification` judges by them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path

import orjson
import structlog

from pinnace.cri.api import Image
from pinnace.kubelet.images.keyring import Credential
from pinnace.kubelet.images.verification import with_credential
from pinnace.kubelet.state_files import write
from pinnace.machinery.meta import Obj, format_time, parse_time, utc_now

_log = structlog.get_logger()

_GROUP = "kubelet.config.k8s.io"
_VERSION = f"{_GROUP}/v1beta1"


class PullRecords:
    """The records below one directory. Methods that write raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._pulling = directory / "pulling"
        self._pulled = directory / "pulled"
        for one in (self._pulling, self._pulled):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._under_way: Counter[str] = Counter()

    def begin(self, image: str) -> None:
        """A pull is about to begin."""
        _keep(self._pulling / _file_name(image), {**_head("ImagePullIntent"), "image": image})
        self._under_way[image] += 1

    def fail(self, image: str) -> None:
        """The pull did not succeed."""
        self._end(image)

    def succeed(self, image: str, identity: str, credential: Credential | None) -> None:
        """The image is there, fetched with a credential or without any."""
        self.learn(image, identity, credential)
        self._end(image)

    def learn(self, image: str, identity: str, credential: Credential | None) -> None:
        """Pods that show the credential may use the image."""
        before = self._known(identity) or _new(identity)
        after = with_credential(before, image, credential)
        if after is not before or not (self._pulled / _file_name(identity)).exists():
            _keep(self._pulled / _file_name(identity), {**after, "lastUpdatedTime": format_time(utc_now())})

    def _known(self, identity: str) -> Obj | None:
        """The record, or none where it is damaged: then it is written anew."""
        try:
            return self.get(identity)
        except ValueError:
            return None

    def _end(self, image: str) -> None:
        self._under_way[image] -= 1
        if self._under_way[image] <= 0:
            del self._under_way[image]
            (self._pulling / _file_name(image)).unlink(missing_ok=True)

    def get(self, identity: str) -> Obj | None:
        """The record of an image, by the runtime's name for it. Raises ValueError for one that cannot be read."""
        record = _read(self._pulled / _file_name(identity), "ImagePulledRecord")
        return record if record is not None and record.get("imageRef") == identity else None

    def is_being_pulled(self, image: str) -> bool:
        """Whether a pull of an image began and nobody saw its end."""
        return image in self._under_way or (self._pulling / _file_name(image)).exists()

    def has_unfinished(self) -> bool:
        """Whether some pull began and nobody saw its end."""
        return any(self._pulling.glob("sha256-*"))

    def recover(self, images: Iterable[Image]) -> None:
        """What a kubelet before this one began to pull, and is there, came from it; how, nobody knows."""
        begun = {str(intent.get("image")): file for file, intent in _all(self._pulling, "ImagePullIntent")}
        if not begun:
            return
        for image in images:
            for name in {*image.repo_tags, *image.repo_digests} & begun.keys():
                if self._known(image.id) is None:
                    _keep(self._pulled / _file_name(image.id), _new(image.id))
                begun[name].unlink(missing_ok=True)

    def keep_only(self, identities: Collection[str], before: datetime) -> None:
        """Forget images that are gone, but for what was learned since then."""
        before = before.replace(microsecond=0)  # as exact as the records are
        for file, record in _all(self._pulled, "ImagePulledRecord"):
            if record.get("imageRef") not in identities and parse_time(record["lastUpdatedTime"]) < before:
                file.unlink(missing_ok=True)


def _head(kind: str) -> Obj:
    return {"kind": kind, "apiVersion": _VERSION}


def _new(identity: str) -> Obj:
    head = {**_head("ImagePulledRecord"), "lastUpdatedTime": format_time(utc_now()), "imageRef": identity}
    return {**head, "credentialMapping": {}}


def _file_name(name: str) -> str:
    return f"sha256-{hashlib.sha256(name.encode()).hexdigest()}"


def _keep(path: Path, record: Obj) -> None:
    write(path, orjson.dumps(record) + b"\n")


def _read(path: Path, kind: str) -> Obj | None:
    """None where there is no such file. Raises ValueError."""
    try:
        record = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(str(error)) from None
    if not isinstance(record, dict) or record.get("kind") != kind:
        raise ValueError(f"{path} is no {kind}")
    if not str(record.get("apiVersion")).startswith(f"{_GROUP}/"):
        raise ValueError(f"{path} is of an unknown version")
    return record


def _all(directory: Path, kind: str) -> Iterator[tuple[Path, Obj]]:
    for file in sorted(directory.glob("sha256-*")):
        try:
            record = _read(file, kind)
        except ValueError as error:
            _log.warning("a record of image pulls cannot be read", file=str(file), error=str(error))
            continue
        if record is not None:
            yield file, record
