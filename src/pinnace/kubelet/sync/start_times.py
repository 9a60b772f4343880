"""How long a pod takes to start: from its creation, and without the time for its images and init containers.

Told once, when all its containers have begun (https://github.com/kubernetes/community/blob/main/sig-scalability/slos/pod_startup_latency.md).
Static pods, and pods that ran before they were seen, are not counted.
"""

from __future__ import annotations

from datetime import datetime

from pinnace.kubelet.pods import init_containers, is_sidecar, is_static
from pinnace.kubelet.statistics import measures
from pinnace.machinery.meta import Obj, get_in, parse_time, utc_now


class StartTimes:
    """Of one pod."""

    def __init__(self, pod: Obj) -> None:
        self.seen = utc_now()
        self._pulling: datetime | None = None
        self._pulled: datetime | None = None
        self._told = get_in(pod, "status", "phase", default="") not in ("", "Pending")

    def age(self) -> float:
        """Seconds since the pod was seen."""
        return (utc_now() - self.seen).total_seconds()

    def pulling(self) -> None:
        """An image is being pulled."""
        self._pulling = self._pulling or utc_now()

    def pulled(self) -> None:
        """An image came."""
        self._pulled = utc_now()

    def note(self, pod: Obj, status: Obj) -> None:
        """The pod has this status now."""
        statuses = status.get("containerStatuses")
        if self._told or not statuses or any("running" not in (one.get("state") or {}) for one in statuses):
            return
        self._told = True
        now = utc_now()
        measures.pod_start.observe(self.age())
        created = pod["metadata"].get("creationTimestamp")
        if created is None or is_static(pod):
            return
        whole = (now - parse_time(created)).total_seconds()
        measures.pod_start_total.observe(whole)
        measures.pod_start_sli.observe(max(0.0, whole - self._pull_seconds() - _init_seconds(pod, status)))

    def _pull_seconds(self) -> float:
        if self._pulling is None or self._pulled is None:
            return 0.0
        return (self._pulled - self._pulling).total_seconds()


def _init_seconds(pod: Obj, status: Obj) -> float:
    """From the first init container's beginning to the last one's end; sidecars do not end."""
    names = {one["name"] for one in init_containers(pod) if not is_sidecar(one)}
    ended = [
        one["state"]["terminated"]
        for one in status.get("initContainerStatuses") or ()
        if one["name"] in names and "terminated" in (one.get("state") or {})
    ]
    times = [(one.get("startedAt"), one.get("finishedAt")) for one in ended]
    known = [(parse_time(began), parse_time(end)) for began, end in times if began and end]
    if not known:
        return 0.0
    return (max(end for _, end in known) - min(began for began, _ in known)).total_seconds()
