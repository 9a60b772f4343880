"""Which users of the node the users of a pod are (`hostUsers: false`): a range of 65536 for each pod, never one twice.

A pod's range is in its directory (`userns`), so that a kubelet started anew goes on with it. Specified by
https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/ (KEP-127).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import orjson
import structlog

from pinnace.cri.api import IDMapping, NamespaceMode, UserNamespace
from pinnace.kubelet import state_files
from pinnace.machinery.meta import Obj, uid_of

_log = structlog.get_logger()

LENGTH = 65536  # users of a pod
_FIRST, _LAST = 1, 0xFFFF_FFFF // LENGTH - 1  # in units of LENGTH; the first are the node's own users
_FILE = "userns"


def has_own_users(pod: Obj) -> bool:
    return pod["spec"].get("hostUsers") is False


def choose(taken: Collection[int], most: int) -> int:
    """The first of a range that nobody has, of as many ranges as there may be pods. Raises ValueError."""
    for number in range(_FIRST, min(_FIRST + most, _LAST)):
        if number * LENGTH not in taken:
            return number * LENGTH
    raise ValueError("could not find an empty slot to allocate a user namespace")


class UserRanges:
    """The ranges of all pods of a node."""

    def __init__(self, pods_dir: Path, most: int) -> None:
        self._pods_dir = pods_dir
        self._most = most
        self._first: dict[str, int] = {}  # by pod UID
        for path in pods_dir.glob(f"*/{_FILE}"):
            try:
                [mapping] = orjson.loads(path.read_bytes())["uidMappings"]
                self._first[path.parent.name] = int(mapping["hostId"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("cannot read the users of a pod", path=str(path), error=str(error))

    def namespace(self, pod: Obj) -> UserNamespace | None:
        """The user namespace of a pod, chosen when it is first asked for; None for one with the node's users.

        Raises ValueError where there is no range left, and OSError.
        """
        if not has_own_users(pod):
            return None
        uid = uid_of(pod)
        if uid not in self._first:
            first = choose(set(self._first.values()), self._most)
            mapping = {"hostId": first, "containerId": 0, "length": LENGTH}
            kept = {"uidMappings": [mapping], "gidMappings": [mapping]}
            state_files.write(self._pods_dir / uid / _FILE, orjson.dumps(kept))
            self._first[uid] = first
        users = IDMapping(host_id=self._first[uid], container_id=0, length=LENGTH)
        return UserNamespace(mode=NamespaceMode.POD, uids=[users], gids=[users])

    def forget(self, uid: str) -> None:
        """The pod is gone, and with its directory the file."""
        self._first.pop(uid, None)
