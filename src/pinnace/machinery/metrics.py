"""What a server counts and measures, and the text that collectors read it in.

A family counts by plain tuples of label values, so that counting costs a dictionary look-up; text is made when somebody
asks. The format is https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

TEXT = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line: `suffix` is what its name has beyond its family's."""

    labels: Labels
    value: float
    suffix: str = ""


class Family:
    """What lies below one name; `kind` is counter, gauge or histogram."""

    kind = "untyped"

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.about = about
        self.labels = tuple(labels)

    def samples(self) -> Iterable[Sample]:
        """What there is to tell now."""
        raise NotImplementedError

    def named(self, values: Sequence[str]) -> Labels:
        """The values with the names of this family's labels."""
        return tuple(zip(self.labels, values, strict=True))


class Counter(Family):
    """Grows only."""

    kind = "counter"

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def inc(self, *values: str, by: float = 1) -> None:
        """Count once more, or by so much."""
        self.values[values] = self.values.get(values, 0) + by

    def samples(self) -> Iterable[Sample]:
        for values, value in sorted(self.values.items()):
            yield Sample(self.named(values), value)


class Gauge(Counter):
    """Goes up and down."""

    kind = "gauge"

    def set(self, value: float, *values: str) -> None:
        self.values[values] = value


class Histogram(Family):
    """How often something measured lay below each of some bounds, in ascending order."""

    kind = "histogram"

    def __init__(self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, about, labels)
        self.bounds = tuple(bounds)
        self.values: dict[tuple[str, ...], list[float]] = {}  # the sum, then how many fell between two bounds

    def observe(self, value: float, *values: str) -> None:
        found = self.values.get(values)
        if found is None:
            found = self.values[values] = [0.0] * (len(self.bounds) + 2)
        found[0] += value
        found[1 + bisect_left(self.bounds, value)] += 1

    def samples(self) -> Iterable[Sample]:
        for values, found in sorted(self.values.items()):
            yield from spread(self.named(values), self.bounds, found)


class Collected(Family):
    """What is looked up when somebody asks, instead of being kept."""

    def __init__(
        self,
        kind: str,
        name: str,
        about: str,
        labels: Sequence[str],
        collect: Callable[[], Iterable[tuple[tuple[str, ...], float]]],
    ) -> None:
        super().__init__(name, about, labels)
        self.kind = kind
        self._collect = collect

    def samples(self) -> Iterable[Sample]:
        for values, value in self._collect():
            yield Sample(self.named(values), value)


def spread(labels: Labels, bounds: Sequence[float], found: Sequence[float]) -> Iterator[Sample]:
    """The lines of one histogram: `found` is the sum, then how many fell between two bounds."""
    total = 0.0
    for bound, count in zip((*map(number, bounds), "+Inf"), found[1:], strict=True):
        total += count
        yield Sample((*labels, ("le", bound)), total, "_bucket")
    yield Sample(labels, found[0], "_sum")
    yield Sample(labels, total, "_count")


def text(families: Iterable[Family]) -> str:
    """Every family that has something to tell, by name."""
    lines: list[str] = []
    for family in sorted(families, key=lambda one: one.name):
        samples = [_line(family.name, sample) for sample in family.samples()]
        if samples:
            lines += (f"# HELP {family.name} {_escaped(family.about)}", f"# TYPE {family.name} {family.kind}", *samples)
    return "".join(f"{line}\n" for line in lines)


def number(value: float) -> str:
    """Whole numbers without a point, as Prometheus' own clients for Go write them."""
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)


def constant(kind: str, name: str, about: str, labels: Mapping[str, str], value: float = 1) -> Family:
    """A family of one line that never changes."""
    return Collected(kind, name, about, tuple(labels), lambda: [(tuple(labels.values()), value)])


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{label}="{_escaped(value, quote=True)}"' for label, value in sample.labels)
    return f"{name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {number(sample.value)}"


def _escaped(words: str, quote: bool = False) -> str:
    words = words.replace("\\", r"\\").replace("\n", r"\n")
    return words.replace('"', r"\"") if quote else words
