"""How fast CPU is used, from two looks at counters that only grow.

Pure: kubelets' text becomes points, two points become a usage. Which points count, and when there is nothing to tell,
follows https://github.com/kubernetes-sigs/metrics-server; the text is that of
https://kubernetes.io/docs/reference/instrumentation/node-metrics/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

CPU, MEMORY = "cpu_usage_seconds_total", "memory_working_set_bytes"

_LINE = re.compile(r"(container|node)_(cpu_usage_seconds_total|memory_working_set_bytes)(?:\{(.*)\})? (\S+)(?: (\d+))?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

PodKey = tuple[str, str]
"""Namespace and name."""


class Point(NamedTuple):
    """What a kubelet said of one container or of the node."""

    when: float  # seconds since 1970
    cpu: float  # seconds of CPU since its start
    memory: float  # bytes


class Usage(NamedTuple):
    """What is used: over `window` seconds up to `when`."""

    when: float
    window: float
    cpu: float  # cores
    memory: float  # bytes


@dataclass(slots=True)
class Scrape:
    """What one node told at one time."""

    node: Point | None = None
    pods: dict[PodKey, dict[str, Point]] = field(default_factory=dict)  # by container


class Pair(NamedTuple):
    """The newest point, and the one before it that it is compared with."""

    last: Point
    before: Point | None = None

    def then(self, point: Point) -> Pair:
        """The pair once another point is known; a kubelet may say the same thing twice."""
        return Pair(point, self.last) if point.when > self.last.when else self

    def usage(self) -> Usage | None:
        """None while there is one point only, and where the counter began anew between the two."""
        last, before = self.last, self.before
        if before is None or last.cpu < before.cpu:
            return None
        window = last.when - before.when
        return Usage(last.when, window, (last.cpu - before.cpu) / window, last.memory)


@dataclass(slots=True)
class NodeHistory:
    """What is known of a node and of the pods on it."""

    node: Pair | None = None
    pods: dict[PodKey, dict[str, Pair]] = field(default_factory=dict)

    def then(self, scrape: Scrape) -> NodeHistory:
        """The history after one more scrape: what that does not speak of is gone."""
        node = scrape.node and _paired(self.node, scrape.node)
        pods = {key: _all_paired(self.pods.get(key, {}), points) for key, points in scrape.pods.items()}
        return NodeHistory(node, pods)

    def pod_usage(self, key: PodKey) -> dict[str, Usage]:
        """By container; nothing unless all of the pod's containers have something to tell."""
        found = {}
        for container, pair in self.pods.get(key, {}).items():
            usage = pair.usage()
            if usage is None:
                return {}
            found[container] = usage
        return found


def _paired(pair: Pair | None, point: Point) -> Pair:
    return Pair(point) if pair is None else pair.then(point)


def _all_paired(pairs: Mapping[str, Pair], points: Mapping[str, Point]) -> dict[str, Pair]:
    return {container: _paired(pairs.get(container), point) for container, point in points.items()}


def read_scrape(text: str, now: float) -> Scrape:
    """Points of the text of `/metrics/resource`; `now` is when those were taken that do not say it themselves.

    Lines that nobody here asks for are passed over, and so is what has no CPU or no memory to tell.
    """
    found: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        subject, metric, labels, value, moment = match.groups()
        try:
            told = (float(value), int(moment) / 1000 if moment else now)
        except ValueError:
            continue
        named = dict(_LABEL.findall(labels or ""))
        key = (named.get("namespace", ""), named.get("pod", ""), named.get("container", ""))
        if (subject == "container") == bool(key[1] and key[2]):
            found.setdefault(key, {})[metric] = told
    return _assembled(found.items())


def _assembled(found: Iterable[tuple[tuple[str, str, str], Mapping[str, tuple[float, float]]]]) -> Scrape:
    scrape = Scrape()
    for (namespace, pod, container), told in found:
        if CPU not in told or MEMORY not in told:
            continue
        point = Point(told[CPU][1], told[CPU][0], told[MEMORY][0])
        if pod:
            scrape.pods.setdefault((namespace, pod), {})[container] = point
        else:
            scrape.node = point
    return scrape
