"""The sizes that pods of this node were granted and those that they have, and the granting of others.

One record a pod, kept in its directory (`resources.json`), so that a kubelet started anew neither forgets what it
granted nor takes a wish for it. Wishes that cannot be granted wait: they are judged again when a pod shrinks or ends.
`allocation` judges; this class remembers and tells (KEP-1287).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import structlog

from pinnace.kubelet import state_files
from pinnace.kubelet.pods import is_terminal
from pinnace.kubelet.resources.allocation import DEFERRED, INFEASIBLE, Sizes, judge, same, sizes_of, urgency, with_sizes
from pinnace.kubelet.resources.resize import summary
from pinnace.machinery.meta import Obj, is_deleting, uid_of

_log = structlog.get_logger()

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
CONDITIONS = (PENDING, IN_PROGRESS)
_FILE = "resources.json"

Tell = Callable[[Obj, str, str, str], object]
"""An event about a pod: its type, reason and message."""


@dataclass(slots=True)
class Record:
    """One pod's sizes."""

    asked: Obj  # the pod as the API has it
    granted: Sizes | None = None  # None until the node has taken the pod
    actual: Sizes = field(default_factory=dict)  # what containers were started or changed with
    conditions: dict[str, Obj] = field(default_factory=dict)  # by type
    waits_since: float = 0.0


class Resizing:
    """Every pod's record. `others` are the other pods that the node has taken; `poke` has a pod looked at again."""

    def __init__(
        self,
        pods_dir: Path,
        others: Callable[[str], Iterable[Obj]],
        node_object: Callable[[], Obj | None],
        tell: Tell,
        poke: Callable[[str], None],
        fixed: Iterable[str] = (),
        swaps: Callable[[Obj, Obj], bool] = lambda _pod, _container: False,
    ) -> None:
        self._pods_dir = pods_dir
        self._others = others
        self._node_object = node_object
        self._tell = tell
        self._poke = poke
        self._fixed = tuple(fixed)
        self._swaps = swaps
        self._records: dict[str, Record] = {}
        self._open = False  # nothing is granted before all pods are known

    # What a pod is run as.

    def take(self, asked: Obj) -> Obj:
        """A newer wish for a pod; the pod as it may run now."""
        record = self._record(asked)
        record.asked = asked
        if record.granted is not None and with_sizes(asked, record.granted) is not asked:
            self.retry()
        elif PENDING in record.conditions:
            del record.conditions[PENDING]
        return self.applied(asked)

    def applied(self, asked: Obj) -> Obj:
        """The pod with the sizes it was granted; as it is where nothing was granted yet."""
        record = self._record(asked)
        return asked if record.granted is None else with_sizes(asked, record.granted)

    def admitted(self, pod: Obj) -> None:
        """The node has taken the pod; what it asks for is granted, unless a kubelet before this one granted other."""
        record = self._record(pod)
        if record.granted is None:
            record.granted = sizes_of(pod)
            record.actual = dict(record.granted)
            self._save(uid_of(pod), record)

    def is_granted(self, uid: str) -> bool:
        """Whether the node has taken the pod, now or before it was started anew."""
        record = self._records.get(uid)
        return record is not None and record.granted is not None

    def forget(self, uid: str) -> None:
        """The pod is gone, and with its directory the file."""
        self._records.pop(uid, None)

    # What containers have.

    def actual(self, pod: Obj) -> Sizes:
        return self._record(pod).actual

    def set_actual(self, pod: Obj, name: str, resources: Obj) -> None:
        """A container was started with, or changed to, these sizes."""
        record = self._record(pod)
        if not same(record.actual.get(name) or {}, resources) or name not in record.actual:
            record.actual[name] = resources
            self._save(uid_of(pod), record)

    # Conditions.

    def conditions(self, uid: str) -> list[Obj]:
        """Those that the pod's status shows."""
        record = self._records.get(uid)
        return [] if record is None else [record.conditions[kind] for kind in CONDITIONS if kind in record.conditions]

    def in_progress(self, uid: str) -> bool:
        record = self._records.get(uid)
        return record is not None and IN_PROGRESS in record.conditions

    def began(self, pod: Obj) -> None:
        """What the pod was granted is being made so."""
        record = self._record(pod)
        if IN_PROGRESS not in record.conditions:
            record.conditions[IN_PROGRESS] = _condition(IN_PROGRESS, pod)

    def failed(self, pod: Obj, message: str) -> None:
        """It could not be made so now."""
        record = self._record(pod)
        before = record.conditions.get(IN_PROGRESS, {})
        record.conditions[IN_PROGRESS] = _condition(IN_PROGRESS, pod, "Error", message)
        if before.get("message") != message:
            text = f"Pod resize error: {summary(pod, _generation(pod), message)}"
            self._tell(pod, "Warning", "ResizeError", text)

    def completed(self, pod: Obj) -> None:
        """Everything of the pod runs with the sizes it was granted."""
        shown = self._record(pod).conditions.pop(IN_PROGRESS, None)
        if shown is not None:
            generation = shown.get("observedGeneration") or _generation(pod)
            self._tell(pod, "Normal", "ResizeCompleted", f"Pod resize completed: {summary(pod, generation)}")
            self.retry()

    # Granting.

    def open(self) -> None:
        """Every pod of the node is known by now: wishes may be judged."""
        self._open = True
        self.retry()

    def retry(self) -> None:
        """Judge again all that wait, the most urgent first."""
        if not self._open:
            return
        waiting = [
            (urgency(record.asked, record.granted, record.waits_since), uid)
            for uid, record in self._records.items()
            if record.granted is not None
            and record.asked["spec"].get("nodeName")  # what is left of a pod that nobody wishes for asks for nothing
            and not is_deleting(record.asked)
            and not is_terminal(record.asked)
            and with_sizes(record.asked, record.granted) is not record.asked
        ]
        for _, uid in sorted(waiting):
            self._try(uid, self._records[uid])

    def _try(self, uid: str, record: Record) -> None:
        asked, granted = record.asked, record.granted or {}
        verdict = judge(asked, granted, self._others(uid), self._node_object(), self._fixed, self._swaps)
        if verdict is None:
            record.granted = sizes_of(asked)
            record.waits_since = 0.0
            record.conditions = {IN_PROGRESS: _condition(IN_PROGRESS, asked)}
            self._save(uid, record)
            self._tell(asked, "Normal", "ResizeStarted", f"Pod resize started: {summary(asked, _generation(asked))}")
            self._poke(uid)
            return
        record.waits_since = record.waits_since or time.time()
        condition = _condition(PENDING, asked, *verdict)
        if record.conditions.get(PENDING) != condition:
            record.conditions[PENDING] = condition
            event = {DEFERRED: "ResizeDeferred", INFEASIBLE: "ResizeInfeasible"}[verdict.reason]
            text = f"Pod resize {verdict.reason}: {summary(asked, _generation(asked), verdict.message)}"
            self._tell(asked, "Warning", event, text)
            self._poke(uid)

    # The files.

    def _record(self, pod: Obj) -> Record:
        uid = uid_of(pod)
        record = self._records.get(uid)
        if record is None:
            record = self._records[uid] = Record(pod)
            self._load(uid, record)
        return record

    def _load(self, uid: str, record: Record) -> None:
        try:
            kept = orjson.loads(state_files.read(self._pods_dir / uid / _FILE))
            record.granted, record.actual = dict(kept["granted"]), dict(kept["actual"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("cannot read a pod's sizes", uid=uid, error=str(error))

    def _save(self, uid: str, record: Record) -> None:
        kept = {"granted": record.granted, "actual": record.actual}
        state_files.note(self._pods_dir / uid / _FILE, orjson.dumps(kept))


def _generation(pod: Obj) -> int:
    return int(pod["metadata"].get("generation") or 0)


def _condition(kind: str, pod: Obj, reason: str = "", message: str = "") -> Obj:
    found: Obj = {"type": kind, "status": "True"}
    if pod["metadata"].get("generation"):
        found["observedGeneration"] = pod["metadata"]["generation"]
    if reason:
        found.update(reason=reason, message=message)
    return found
