"""Pods from files and from a URL: reads manifests, and follows them.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/. Reading a manifest is pure
(`static_pod`); names, UIDs and annotations are those the kubelet gives.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson
import structlog

from pinnace.apis.core.pod import validate
from pinnace.apis.core.pod_defaults import default_pod
from pinnace.kubelet.pods import CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE
from pinnace.machinery import yaml
from pinnace.machinery.decoding import DecodeError, decode
from pinnace.machinery.meta import (
    GVK,
    Obj,
    format_time,
    uid_of,
    utc_now,
)
from pinnace.machinery.schema import Schemas
from pinnace.wire.inotify import DIRECTORY_CHANGES, Watcher

_log = structlog.get_logger()

_FETCH_SECONDS = 10.0
_POD = GVK("", "v1", "Pod")


def static_pod(text: bytes, path: str, node_name: str, seen: str) -> Obj:
    """The pod that a manifest asks for on a node. Raises ValueError for anything but a pod."""
    return _pod_of(yaml.load(text), text, "file", f"host:{node_name}file:{path}", node_name, seen)


def url_pods(text: bytes, url: str, node_name: str, seen: str) -> list[Obj]:
    """The pods that a manifest at a URL asks for: a Pod, or a list of them. Raises ValueError for anything else."""
    read = yaml.load(text)
    if isinstance(read, dict) and read.get("kind") in ("PodList", "List"):
        items = read.get("items") or []
        if not isinstance(items, list):
            raise ValueError("the items of a list of pods are no list")
        pods = [{"kind": "Pod", **one} if isinstance(one, dict) else one for one in items]
    else:
        pods = [read]
    return [_pod_of(one, _written(one), "http", f"url:{url}", node_name, seen) for one in pods]


def _written(pod: object) -> bytes:
    """As JSON. Raises ValueError for what that cannot hold, such as numbers of more than 64 bits."""
    try:
        return orjson.dumps(pod)
    except orjson.JSONEncodeError as error:
        raise ValueError(str(error)) from None


def _pod_of(read: object, text: bytes, source: str, where: str, node_name: str, seen: str) -> Obj:
    """The pod of a parsed manifest; its UID is made of where it is and what it says."""
    if not isinstance(read, dict) or read.get("kind") != "Pod" or not isinstance(read.get("metadata"), dict):
        raise ValueError("not a Pod manifest")
    pod = _decoded({**read, "apiVersion": "v1"})
    metadata = pod["metadata"]
    if not metadata.get("name") or not isinstance(pod.get("spec"), dict):
        raise ValueError("a static pod needs metadata.name and spec")
    uid = metadata.get("uid")
    if not uid:
        digest = hashlib.md5(usedforsecurity=False)
        digest.update(where.encode())
        digest.update(text)
        uid = digest.hexdigest()
    metadata["uid"] = uid
    metadata["name"] = f"{metadata['name']}-{node_name}".lower()
    metadata["namespace"] = metadata.get("namespace") or "default"
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        CONFIG_HASH: uid,
        CONFIG_SEEN: seen,
        CONFIG_SOURCE: source,
    }
    spec = pod["spec"]
    spec["nodeName"] = node_name
    spec.setdefault("tolerations", []).append({"operator": "Exists", "effect": "NoExecute"})
    default_pod(pod)
    wrong = validate(pod)
    if wrong:
        raise ValueError(f"invalid pod: {', '.join(f'{cause.field}: {cause.message}' for cause in wrong)}")
    pod["status"] = {"phase": "Pending"}
    return pod


def _decoded(document: Obj) -> Obj:
    """The document as a Pod, without what no Pod has. Raises ValueError for values of another type."""
    schema = Schemas.load().for_gvk(_POD)
    assert schema is not None
    try:
        return decode(schema, document, strict=False, gvk=_POD)[0]
    except DecodeError as error:
        raise ValueError(error.message) from None


def read_directory(directory: Path, node_name: str, known: dict[str, Obj]) -> dict[str, Obj]:
    """The pods of every manifest in a directory by UID; `known` ones are kept as they are."""
    found: dict[str, Obj] = {}
    try:
        entries = sorted(entry for entry in directory.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError:
        return found
    for entry in entries:
        try:
            pod = static_pod(entry.read_bytes(), str(entry), node_name, format_time(utc_now()))
        except (OSError, ValueError) as error:
            _log.warning("manifest cannot be used", path=str(entry), error=str(error))
            continue
        found[uid_of(pod)] = known.get(uid_of(pod)) or pod
    return found


class StaticPods:
    """The static pods of one node; `changed` is called when the set of pods changed."""

    def __init__(self, directory: Path, node_name: str, changed: Callable[[], None], rescan: float) -> None:
        self._directory = directory
        self._node_name = node_name
        self._changed = changed
        self._rescan = rescan
        self.pods: dict[str, Obj] = {}  # by UID

    def read(self) -> None:
        """Look at the directory now."""
        pods = read_directory(self._directory, self._node_name, self.pods)
        if pods.keys() != self.pods.keys():
            self.pods = pods
            self._changed()

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        self._directory.mkdir(parents=True, exist_ok=True)
        watcher = Watcher()
        try:
            watcher.add(self._directory, DIRECTORY_CHANGES)
            while True:
                self.read()
                await watcher.wait(self._rescan)
        finally:
            watcher.close()


class UrlPods:
    """The static pods that a URL tells of; `changed` is called when the set of pods changed."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, Sequence[str]],
        node_name: str,
        changed: Callable[[], None],
        period: float,
    ) -> None:
        self._url = url
        self._headers = [(name, value) for name, values in headers.items() for value in values]
        self._node_name = node_name
        self._changed = changed
        self._period = period
        self.pods: dict[str, Obj] = {}  # by UID
        self.seen = asyncio.Event()  # set once it has answered: before that, nobody knows which pods it wants

    async def run(self) -> None:
        """Ask again and again until cancelled; while there is no answer, the pods stay as they are."""
        while True:
            try:
                self.take(await self._fetch())
            except (OSError, ValueError, TimeoutError) as error:
                _log.warning("manifest cannot be used", url=self._url, error=str(error))
            await asyncio.sleep(self._period)

    def take(self, text: bytes) -> None:
        """What the URL answered. Raises ValueError."""
        found = {uid_of(pod): pod for pod in url_pods(text, self._url, self._node_name, format_time(utc_now()))}
        pods = {uid: self.pods.get(uid) or pod for uid, pod in found.items()}
        changed = pods.keys() != self.pods.keys()
        self.pods = pods
        self.seen.set()
        if changed:
            self._changed()

    async def _fetch(self) -> bytes:
        """Raises OSError, ValueError, TimeoutError."""
        import aiohttp

        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FETCH_SECONDS)) as session,
                session.get(self._url, headers=self._headers) as response,
            ):
                text = await response.read()
                if response.status != 200:
                    raise ValueError(f"{self._url}: {response.status} {response.reason}")
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error
        if not text:
            raise ValueError(f"zero-length data received from {self._url}")
        return text
