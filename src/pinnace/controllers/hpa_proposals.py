"""What each metric of a HorizontalPodAutoscaler calls for: it is asked for, reckoned with, and put into words.

The asking is done by `hpa_metrics.py`, the arithmetic by `hpa_replicas.py`. Specified by
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#scaling-on-multiple-metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pinnace.controllers.hpa_metrics import Metrics
from pinnace.controllers.hpa_replicas import (
    Groups,
    MetricError,
    Sample,
    Settings,
    Tolerance,
    by_average,
    by_share,
    by_utilization,
    by_value,
    group,
    requests_of,
)
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity
from pinnace.machinery.selectors import go_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A workload at one moment."""

    namespace: str
    selector: str
    pods: Sequence[Obj]
    spec_replicas: int
    status_replicas: int
    tolerance: Tolerance
    now: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a metric calls for, its name in messages, and its entry in `status.currentMetrics`."""

    replicas: int
    name: str
    status: Obj


class MetricFailed(Exception):
    """A metric that proposes nothing."""

    def __init__(self, reason: str, said: str, reported: str) -> None:
        super().__init__(reported)
        self.reason = reason
        self.said = said  # in the event and in the condition
        self.reported = reported  # where it is one of several


class Proposer:
    """Asks and reckons; `propose` raises MetricFailed."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._settings = settings

    async def propose(self, metric: Obj, target: Target) -> Proposal:
        kind = metric["type"]
        if kind in ("Resource", "ContainerResource"):
            return await self._by_resource(metric, target)
        if kind == "Pods":
            return await self._by_pods(metric["pods"], target)
        if kind == "Object":
            return await self._by_object(metric["object"], target)
        if kind == "External":
            return await self._by_external(metric["external"], target)
        said = f'unknown metric source type "{kind}"'
        raise MetricFailed("InvalidMetricSourceType", said, said)

    # Values of every pod.

    async def _by_resource(self, metric: Obj, target: Target) -> Proposal:
        part = "resource" if metric["type"] == "Resource" else "containerResource"
        source = metric[part]
        resource, container, goal = source["name"], source.get("container", ""), source["target"]
        averaged = goal.get("averageValue") is not None
        try:
            measured = await self._use_of(resource, target, container)
            groups = self._group(measured, resource, target)
            if averaged:
                wanted = _in_thousandths(goal["averageValue"])
                replicas, average = by_average(target.spec_replicas, wanted, measured, groups, target.tolerance)
                current: Obj = {"averageValue": _quantity(average)}
            else:
                requests = requests_of(target.pods, resource, container)
                replicas, percent, average = by_utilization(
                    target.spec_replicas, goal["averageUtilization"], measured, requests, groups, target.tolerance
                )
                current = {"averageUtilization": percent, "averageValue": _quantity(average)}
        except MetricError as error:
            said = f"failed to get {resource} {'usage' if averaged else 'utilization'}: {error}"
            whose = f"{container} container" if container else f"{resource} resource"
            reported = f"failed to get {whose} metric value: {said}"
            raise MetricFailed(f"FailedGet{metric['type']}Metric", said, reported) from error
        name = f"{resource} resource" + ("" if averaged else " utilization (percentage of request)")
        named = {"name": resource, "container": container} if container else {"name": resource}
        return Proposal(replicas, name, {"type": metric["type"], part: {**named, "current": current}})

    async def _use_of(self, resource: str, target: Target, container: str) -> dict[str, Sample]:
        try:
            return await self._metrics.of_resource(resource, target.namespace, target.selector, container)
        except MetricError as error:
            raise MetricError(f"unable to get metrics for resource {resource}: {error}") from error

    async def _by_pods(self, source: Obj, target: Target) -> Proposal:
        metric = source["metric"]
        try:
            try:
                measured = await self._metrics.of_pods(metric, target.namespace, target.selector)
            except MetricError as error:
                raise MetricError(f"unable to get metric {metric['name']}: {error}") from error
            groups = self._group(measured, "", target)
            wanted = _in_thousandths(source["target"]["averageValue"])
            replicas, average = by_average(target.spec_replicas, wanted, measured, groups, target.tolerance)
        except MetricError as error:
            reported = f"failed to get pods metric value: {error}"
            raise MetricFailed("FailedGetPodsMetric", str(error), reported) from error
        status = {"metric": metric, "current": {"averageValue": _quantity(average)}}
        return Proposal(replicas, f"pods metric {metric['name']}", {"type": "Pods", "pods": status})

    def _group(self, measured: Mapping[str, Sample], resource: str, target: Target) -> Groups:
        if not target.pods:
            raise MetricError("no pods returned by selector while calculating replica count")
        return group(target.pods, measured, resource, self._settings, target.now)

    # One value for all pods.

    async def _by_object(self, source: Obj, target: Target) -> Proposal:
        metric, described = source["metric"], source["describedObject"]
        kind, name = described["kind"], described["name"]
        try:
            try:
                usage = await self._metrics.of_object(metric, target.namespace, described)
            except MetricError as error:
                where = f"{kind} on {target.namespace} {name}/{error}"
                raise MetricError(f"unable to get metric {metric['name']}: {where}") from error
            replicas, current = _by_one_value(usage, source["target"], target)
        except MetricError as error:
            what = f"failed to get {metric['name']} object metric: {error}" if _is_shared(source) else str(error)
            reported = f"failed to get object metric value: {what}"
            raise MetricFailed("FailedGetObjectMetric", str(error), reported) from error
        said = _external(metric) if _is_shared(source) else f"{kind} metric {metric['name']}"
        status = {"metric": metric, "current": current, "describedObject": described}
        return Proposal(replicas, said, {"type": "Object", "object": status})

    async def _by_external(self, source: Obj, target: Target) -> Proposal:
        metric = source["metric"]
        name = metric["name"]
        try:
            try:
                usage = await self._metrics.of_outside(metric, target.namespace)
            except MetricError as error:
                which = f"{target.namespace}/{name}/{go_text(metric.get('selector'))}"
                raise MetricError(f"unable to get external metric {which}: {error}") from error
            replicas, current = _by_one_value(usage, source["target"], target)
        except MetricError as error:
            which = f"{name} external metric" if _is_shared(source) else f"external metric {name}"
            reported = f"failed to get {name} external metric value: failed to get {which}: {error}"
            raise MetricFailed("FailedGetExternalMetric", str(error), reported) from error
        status = {"metric": metric, "current": current}
        return Proposal(replicas, _external(metric), {"type": "External", "external": status})


def _is_shared(source: Obj) -> bool:
    """Whether each replica is to have a share of the value, rather than all of them one value."""
    return source["target"].get("averageValue") is not None


def _by_one_value(usage: int, goal: Obj, target: Target) -> tuple[int, Obj]:
    """The replicas, and the value as the status shows it."""
    if goal.get("averageValue") is not None:
        wanted = _in_thousandths(goal["averageValue"])
        replicas, share = by_share(target.status_replicas, usage, wanted, target.tolerance)
        return replicas, {"averageValue": _quantity(share)}
    replicas = by_value(target.spec_replicas, usage, _in_thousandths(goal["value"]), target.pods, target.tolerance)
    return replicas, {"value": _quantity(usage)}


def _external(metric: Obj) -> str:
    return f"external metric {metric['name']}({go_text(metric.get('selector'))})"


def _in_thousandths(text: str) -> int:
    return Quantity.parse(text).milli_value()


def _quantity(thousandths: int) -> str:
    return str(Quantity(Decimal(thousandths).scaleb(-3)))
