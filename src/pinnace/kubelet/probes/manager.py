"""Runs the probes of every container instance and keeps what they say: one task per probe, none without probes.

The answers are kept by container id, so a restarted container begins anew. Specified by
https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pinnace.cri.api import ContainerStatus, RuntimeService
from pinnace.kubelet.pods import field_path
from pinnace.kubelet.probes.checks import ProbeError, Result, check
from pinnace.kubelet.sync.compute import Health
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, uid_of
from pinnace.machinery.metrics import Counter, Family, Histogram
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

Tell = Callable[[Obj, str, str, str, str], None]
"""`(pod, field path, type, reason, message)`."""

_TITLES = {"startupProbe": "Startup", "livenessProbe": "Liveness", "readinessProbe": "Readiness"}
_RETRIES = 3  # of a probe that could not be carried out
_DEFAULTS = {"periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, "initialDelaySeconds": 0}


def setting(probe: Obj, name: str) -> int:
    value = probe.get(name)
    return int(_DEFAULTS[name] if value is None else value)


class Tally:
    """Counts results in a row until a threshold is reached."""

    def __init__(self, probe: Obj) -> None:
        self._success = setting(probe, "successThreshold")
        self._failure = setting(probe, "failureThreshold")
        self._last: bool | None = None
        self._count = 0

    def add(self, ok: bool) -> bool | None:
        """The verdict after one more result; None while a threshold is still to be reached."""
        self._count = self._count + 1 if ok == self._last else 1
        self._last = ok
        if self._count >= (self._success if ok else self._failure):
            return ok
        return None


class Probes:
    """The probes of one node; `changed(pod UID)` is called whenever an answer changes."""

    def __init__(self, runtime: RuntimeService, tell: Tell, changed: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._tell = tell
        self._changed = changed
        self.health: dict[str, Health] = {}  # by container id
        self._tasks: dict[str, dict[str, asyncio.Task[None]]] = {}  # by container id and kind
        self._started: dict[str, asyncio.Event] = {}
        self._pods: dict[str, set[str]] = {}  # pod UID -> container ids
        self.results: dict[tuple[str, ...], int] = {}  # pod UID, pod, namespace, container, probe, result -> how often

        self._durations = Histogram(
            "prober_probe_duration_seconds",
            "Duration in seconds for a probe response.",
            ("probe_type", "container", "pod", "namespace"),
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._durations_of: dict[str, set[tuple[str, ...]]] = {}  # pod UID -> labels

    def ensure(self, pod: Obj, container: Obj, status: ContainerStatus, address: str) -> None:
        """Begin to probe a running container; nothing happens for one that is probed already or has no probes."""
        if status.id in self._tasks:
            return
        kinds = [kind for kind in _TITLES if container.get(kind)]
        if not kinds:
            return
        identity = status.id
        shown = self._shown(pod, identity)
        started = "startupProbe" not in kinds or bool(shown.get("started"))
        ready = "readinessProbe" not in kinds or bool(shown.get("ready"))
        self.health[identity] = Health(started=started, ready=ready)
        event = self._started[identity] = asyncio.Event()
        if started:
            event.set()
        self._pods.setdefault(uid_of(pod), set()).add(identity)
        tasks = self._tasks[identity] = {}
        for kind in kinds:
            if kind == "startupProbe" and started:
                continue
            work = self._probe(kind, pod, container, status, address)
            tasks[kind] = asyncio.create_task(work, name=f"{kind} {container['name']}")

    @staticmethod
    def _shown(pod: Obj, container_id: str) -> Obj:
        """What the API already says of this very instance: a kubelet started anew does not unsay it."""
        for kind in ("containerStatuses", "initContainerStatuses"):
            for one in get_in(pod, "status", kind, default=[]):
                if str(one.get("containerID", "")).endswith(f"://{container_id}"):
                    found: Obj = one
                    return found
        return {}

    def forget(self, container_id: str) -> None:
        """Stop probing a container that has ended."""
        for task in self._tasks.pop(container_id, {}).values():
            task.cancel()
        self.health.pop(container_id, None)
        self._started.pop(container_id, None)

    def stop_liveness(self, uid: str) -> None:
        """A pod that is being stopped must not be restarted: readiness alone goes on."""
        for identity in self._pods.get(uid, ()):
            for kind, task in self._tasks.get(identity, {}).items():
                if kind != "readinessProbe":
                    task.cancel()

    def forget_pod(self, uid: str) -> None:
        for identity in self._pods.pop(uid, set()):
            self.forget(identity)
        self.results = {key: count for key, count in self.results.items() if key[0] != uid}
        for labels in self._durations_of.pop(uid, set()):
            self._durations.values.pop(labels, None)

    def keep_only(self, uid: str, alive: set[str]) -> None:
        """Stop probing what no longer runs of a pod."""
        known = self._pods.get(uid)
        if not known:
            return
        for identity in known - alive:
            self.forget(identity)
        known &= alive

    async def _probe(self, kind: str, pod: Obj, container: Obj, status: ContainerStatus, address: str) -> None:
        probe = container[kind]
        age = time.time() - status.started_at / 1e9 if status.started_at else 0.0
        await asyncio.sleep(max(0.0, setting(probe, "initialDelaySeconds") - age))
        if kind != "startupProbe":
            await self._started[status.id].wait()
        tally = Tally(probe)
        while True:
            began = time.monotonic()
            result = await self._once(kind, pod, container, status.id, address)
            self._count(kind, pod, container, result)
            self._observe(kind, pod, container, time.monotonic() - began)
            if result is not None:
                verdict = tally.add(result.ok)
                if verdict is not None and self._take(kind, uid_of(pod), status.id, verdict):
                    return
            await asyncio.sleep(max(0.0, setting(probe, "periodSeconds") - (time.monotonic() - began)))

    def _count(self, kind: str, pod: Obj, container: Obj, result: Result | None) -> None:
        word = "unknown" if result is None else "successful" if result.ok else "failed"
        key = (uid_of(pod), name_of(pod), namespace_of(pod), container["name"], _TITLES[kind], word)
        self.results[key] = self.results.get(key, 0) + 1

    def _observe(self, kind: str, pod: Obj, container: Obj, seconds: float) -> None:
        labels = (_TITLES[kind], container["name"], name_of(pod), namespace_of(pod))
        self._durations.observe(seconds, *labels)
        self._durations_of.setdefault(uid_of(pod), set()).add(labels)

    def families(self) -> list[Family]:
        """What `/metrics/probes` tells: how often each probe has had which result, and how long it took."""
        about = "Cumulative number of a liveness, readiness or startup probe for a container by result."
        names = ("pod_uid", "pod", "namespace", "container", "probe_type", "result")
        found = Counter("prober_probe_total", about, names)
        found.values = {key: float(count) for key, count in self.results.items()}
        return [found, self._durations]

    async def _once(self, kind: str, pod: Obj, container: Obj, container_id: str, address: str) -> Result | None:
        path = field_path(pod, container["name"])
        title = _TITLES[kind]
        error: ProbeError | None = None
        for _ in range(_RETRIES):
            try:
                result = await check(container[kind], container, container_id, address, self._runtime)
                break
            except ProbeError as failure:
                error = failure
            except Exception as failure:  # a container whose probe has ended would never be looked after again
                _log.exception("cannot carry out a probe", pod=name_of(pod), container=container["name"], probe=kind)
                error = ProbeError(str(failure) or type(failure).__name__)
        else:
            self._tell(
                pod, path, "Warning", "Unhealthy", f"{title} probe errored and resulted in unknown state: {error}"
            )
            return None
        if result.outcome == "failure":
            self._tell(pod, path, "Warning", "Unhealthy", f"{title} probe failed: {result.output}")
        elif result.outcome == "warning":
            self._tell(pod, path, "Warning", "ProbeWarning", f"{title} probe warning: {result.output}")
        return result

    def _take(self, kind: str, uid: str, container_id: str, ok: bool) -> bool:
        """Note a verdict; whether the probe has nothing more to say."""
        before = self.health.get(container_id)
        if before is None:
            return True
        done = False
        if kind == "readinessProbe":
            after = before._replace(ready=ok)
        elif kind == "livenessProbe":
            after = before._replace(live=ok)
            done = not ok
        else:
            after = before._replace(started=ok, startup_failed=not ok)
            done = True
            if ok:
                self._started[container_id].set()
        if after != before:
            self.health[container_id] = after
            self._changed(uid)
        return done

    async def close(self) -> None:
        await end_tasks(task for each in self._tasks.values() for task in each.values())
        self._tasks.clear()


def probe_grace(container: Obj, reason: str) -> int | None:
    """The grace period that the probe which failed asks for, if it does."""
    probe = container.get({"Liveness": "livenessProbe", "Startup": "startupProbe"}.get(reason, ""))
    grace = (probe or {}).get("terminationGracePeriodSeconds")
    return None if grace is None else int(grace)
