"""How many replicas one metric of a HorizontalPodAutoscaler calls for.

Pure arithmetic over samples in thousandths. Pods that are missing from the metrics or not ready yet are counted so that
they dampen the change: as busy when it goes down, as idle when it goes up. Specified by
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pinnace.controllers.conditions import condition
from pinnace.controllers.pods import is_ready, phase
from pinnace.machinery.meta import Obj, get_in, is_deleting, name_of, parse_time
from pinnace.machinery.quantity import Quantity


class MetricError(Exception):
    """A metric from which nothing can be computed; the message is Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one pod uses, in thousandths, as measured over a window that ended at a moment."""

    value: int
    when: datetime
    window: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags `--horizontal-pod-autoscaler-*`; all but the tolerance in seconds."""

    sync_period: float = 15.0
    downscale_stabilization: float = 300.0
    tolerance: float = 0.1
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far from the target, as a part of it, usage may be without consequence."""

    down: float = 0.1
    up: float = 0.1

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def tolerance_of(autoscaler: Obj, default: float) -> Tolerance:
    """What `behavior` says of it for each direction, or the cluster's own."""

    def one(direction: str) -> float:
        text = get_in(autoscaler, "spec", "behavior", direction, "tolerance")
        return default if text is None else float(Quantity.parse(text).amount)

    return Tolerance(one("scaleDown"), one("scaleUp"))


@dataclass(slots=True)
class Groups:
    """Pods, by name, according to what may be concluded from their metrics."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)  # too young for their metrics to mean anything
    missing: set[str] = field(default_factory=set)  # without metrics
    going: set[str] = field(default_factory=set)


def group(
    pods: Sequence[Obj], samples: Mapping[str, Sample], resource: str, settings: Settings, now: datetime
) -> Groups:
    found = Groups()
    for pod in pods:
        if is_deleting(pod) or phase(pod) == "Failed":
            found.going.add(name_of(pod))
        elif phase(pod) == "Pending":
            found.unready.add(name_of(pod))
        elif name_of(pod) not in samples:
            found.missing.add(name_of(pod))
        elif resource == "cpu" and _is_starting(pod, samples[name_of(pod)], settings, now):
            found.unready.add(name_of(pod))
        else:
            found.ready += 1
    return found


def _is_starting(pod: Obj, sample: Sample, settings: Settings, now: datetime) -> bool:
    """Whether its use of CPU is what a start costs, and says nothing yet of its work."""
    ready, started = condition(pod, "Ready"), get_in(pod, "status", "startTime")
    if ready is None or started is None or not ready.get("lastTransitionTime"):
        return True
    start, turned = parse_time(started), parse_time(ready["lastTransitionTime"])
    if start + timedelta(seconds=settings.cpu_initialization_period) > now:
        return ready.get("status") == "False" or sample.when < turned + sample.window
    was_never_ready = start + timedelta(seconds=settings.initial_readiness_delay) > turned
    return ready.get("status") == "False" and was_never_ready


def requests_of(pods: Sequence[Obj], resource: str, container: str = "") -> dict[str, int]:
    """What the pods, or that container of each, request of a resource, by pod name, in thousandths."""
    found = {}
    for pod in pods:
        whole = get_in(pod, "spec", "resources", "requests", resource)
        if not container and whole is not None:
            found[name_of(pod)] = Quantity.parse(whole).milli_value()
            continue
        sidecars = [one for one in get_in(pod, "spec", "initContainers") or () if one.get("restartPolicy") == "Always"]
        total = 0
        for one in (*get_in(pod, "spec", "containers", default=()), *sidecars):
            if container in ("", one["name"]):
                request = get_in(one, "resources", "requests", resource)
                if request is None:
                    where = f"in container {one['name']} of Pod {name_of(pod)}"
                    raise MetricError(f"missing request for {resource} {where}")
                total += Quantity.parse(request).milli_value()
        found[name_of(pod)] = total
    return found


def by_utilization(
    replicas: int,
    target: int,
    measured: Mapping[str, Sample],
    requests: Mapping[str, int],
    groups: Groups,
    tolerance: Tolerance,
) -> tuple[int, int, int]:
    """Replicas for a target in per cent of what is requested; with the percentage now, and the average use."""
    used = _of_interest(measured, groups, requests)
    percent, average = _utilization(used, requests)
    ratio = percent / target
    fallback = max(100, target)
    busy = {name: requests[name] * fallback // 100 for name in groups.missing}

    def ratio_of(assumed: Mapping[str, int]) -> float:
        return _utilization(assumed, requests)[0] / target

    return _dampened(replicas, ratio, used, busy, groups, tolerance, ratio_of), percent, average


def by_average(
    replicas: int, target: int, measured: Mapping[str, Sample], groups: Groups, tolerance: Tolerance
) -> tuple[int, int]:
    """Replicas for a target in thousandths a pod; with the average now."""
    used = _of_interest(measured, groups, measured)
    average = sum(used.values()) // len(used)
    busy = dict.fromkeys(groups.missing, target)

    def ratio_of(assumed: Mapping[str, int]) -> float:
        return (sum(assumed.values()) // len(assumed)) / target

    return _dampened(replicas, average / target, used, busy, groups, tolerance, ratio_of), average


def _of_interest(measured: Mapping[str, Sample], groups: Groups, known: Mapping[str, object]) -> dict[str, int]:
    """The values of those pods that are ready; there must be one."""
    used = {name: sample.value for name, sample in measured.items() if name not in groups.unready | groups.going}
    if not used:
        raise MetricError("did not receive metrics for any ready pods")
    used = {name: value for name, value in used.items() if name in known}
    if not used:
        raise MetricError("no metrics returned matched known pods")
    return used


def _utilization(used: Mapping[str, int], requests: Mapping[str, int]) -> tuple[int, int]:
    total = sum(requests[name] for name in used)
    if not total:
        raise MetricError("no metrics returned matched known pods")
    return sum(used.values()) * 100 // total, sum(used.values()) // len(used)


def _dampened(
    replicas: int,
    ratio: float,
    used: Mapping[str, int],
    busy: Mapping[str, int],
    groups: Groups,
    tolerance: Tolerance,
    ratio_of: Callable[[Mapping[str, int]], float],
) -> int:
    """Replicas for a ratio of use to target, once pods of which nothing is known are assumed to speak against it."""
    rises = bool(groups.unready) and ratio > 1.0
    if not rises and not groups.missing:
        return replicas if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    assumed = dict(used)
    if ratio < 1.0:
        assumed.update(busy)
    elif ratio > 1.0:
        assumed.update(dict.fromkeys(groups.missing, 0))
    if rises:
        assumed.update(dict.fromkeys(groups.unready, 0))
    again = ratio_of(assumed)
    if tolerance.covers(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return replicas
    wanted = math.ceil(again * len(assumed))
    if (again < 1.0 and wanted > replicas) or (again > 1.0 and wanted < replicas):
        return replicas
    return wanted


def by_value(replicas: int, usage: int, target: int, pods: Sequence[Obj], tolerance: Tolerance) -> int:
    """Replicas for a target of one value for all of them together."""
    ratio = usage / target
    if replicas == 0:
        return math.ceil(ratio)
    if tolerance.covers(ratio):
        return replicas
    if not pods:
        raise MetricError(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        )
    return math.ceil(ratio * sum(phase(pod) == "Running" and is_ready(pod) for pod in pods))


def by_share(replicas: int, usage: int, target: int, tolerance: Tolerance) -> tuple[int, int]:
    """Replicas for a target that each has its share of a value; with the share now."""
    if replicas and tolerance.covers(usage / (target * replicas)):
        return replicas, -(-usage // replicas)
    return math.ceil(usage / target), -(-usage // replicas) if replicas else 0
