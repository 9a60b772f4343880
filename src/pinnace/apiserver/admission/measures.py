"""How long admission takes: as a whole, by plugin and by webhook, under kube-apiserver's names.

A plugin costs one look at the clock; what follows from that is worked out later, for many requests at once.
https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinnace.machinery.metrics import Counter, Family, Histogram, Sample

ADMIT, VALIDATE, VALIDATING = "admit", "validate", "validating"  # types; the last is that of webhooks alone
ALLOWED = 200  # the code of a webhook that has nothing against a request
CALL_FAILED, INTERNAL, NO_ERROR = "calling_webhook_error", "apiserver_internal_error", "no_error"

FASTEST = 0.005  # seconds
_SECONDS = (FASTEST, 0.025, 0.1, 0.5, 1.0, 2.5)
_WEBHOOK_SECONDS = (*_SECONDS, 10.0, 25.0)
_MOST_CODE = 600

_GATHERED = 64  # quick passes that are added up at once


class Passes:
    """How one phase went, for one operation: of each pass, the moments at which it began and each plugin was through.

    Almost every pass is so quick that all of it falls below the lowest bound. Such are gathered, for sums of moments
    tell the sums of what lies between them.
    """

    def __init__(self, measures: Measures, operation: str, kind: str, names: Sequence[str]) -> None:
        self._measures = measures
        self._operation, self._kind, self._names = operation, kind, names
        self._quick: list[list[float]] = []

    def add(self, marks: list[float], again: bool) -> None:
        """`again` is whether the request has been through already, and this is but another look."""
        if again or marks[-1] - marks[0] > FASTEST:
            self._tell(marks)
            if not again:
                self._measures.steps.observe(marks[-1] - marks[0], self._operation, "false", self._kind)
            return
        self._quick.append(marks)
        if len(self._quick) >= _GATHERED:
            self.fold()

    def refused(self, marks: list[float]) -> None:
        """The plugin at the last of the marks would not have it."""
        self._tell(marks[:-1])
        name = self._names[len(marks) - 2]
        if name:
            self._measures.plugins.observe(marks[-1] - marks[-2], name, self._operation, "true", self._kind)
        self._measures.steps.observe(marks[-1] - marks[0], self._operation, "true", self._kind)

    def _tell(self, marks: list[float]) -> None:
        for name, before, after in zip(self._names, marks, marks[1:], strict=False):
            if name:
                self._measures.plugins.observe(after - before, name, self._operation, "false", self._kind)

    def fold(self) -> None:
        """Add up what has gathered."""
        quick, self._quick = self._quick, []
        if not quick:
            return
        moments = [sum(column) for column in zip(*quick, strict=True)]
        for name, before, after in zip(self._names, moments[:-1], moments[1:], strict=True):
            if name:
                found = self._measures.plugins.record(name, self._operation, "false", self._kind)
                found[0] += after - before
                found[1] += len(quick)
        whole = self._measures.steps.record(self._operation, "false", self._kind)
        whole[0] += moments[-1] - moments[0]
        whole[1] += len(quick)


class _Gathered(Histogram):
    def __init__(self, name: str, about: str, labels: Sequence[str], passes: list[Passes]) -> None:
        super().__init__(name, about, labels, _SECONDS)
        self._passes = passes

    def record(self, *values: str) -> list[float]:
        """The sum, then how many fell between two bounds."""
        return self.values.setdefault(values, [0.0] * (len(self.bounds) + 2))

    def samples(self) -> Iterable[Sample]:
        for each in self._passes:
            each.fold()
        return super().samples()


class _Summary(Family):
    """The sums of a histogram once more, as a summary; of its quantiles nothing is kept."""

    kind = "summary"

    def __init__(self, name: str, about: str, of: Histogram) -> None:
        super().__init__(name, about, of.labels)
        self._of = of

    def samples(self) -> Iterable[Sample]:
        return [sample for sample in self._of.samples() if sample.suffix in ("_sum", "_count")]


class Measures:
    """Of the steps and of the plugins; those without a name are not told of."""

    def __init__(self) -> None:
        self._passes: list[Passes] = []
        self.steps = _Gathered(
            "apiserver_admission_step_admission_duration_seconds",
            "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step "
            "type (validate or admit).",
            ("operation", "rejected", "type"),
            self._passes,
        )
        self.plugins = _Gathered(
            "apiserver_admission_controller_admission_duration_seconds",
            "Admission controller latency histogram in seconds, identified by name and broken out for each operation "
            "and API resource and type (validate or admit).",
            ("name", "operation", "rejected", "type"),
            self._passes,
        )
        summary = _Summary(
            "apiserver_admission_step_admission_duration_seconds_summary",
            "Admission sub-step latency summary in seconds, broken out for each operation and API resource and step "
            "type (validate or admit).",
            self.steps,
        )
        self.families: tuple[Family, ...] = (self.steps, summary, self.plugins)

    def passes(self, operation: str, kind: str, names: Sequence[str]) -> Passes:
        made = Passes(self, operation, kind, names)
        self._passes.append(made)
        return made


class WebhookMeasures:
    """Of webhooks of both types."""

    def __init__(self) -> None:
        self._seconds = Histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and "
            "API resource and type (validate or admit).",
            ("name", "operation", "rejected", "type"),
            _WEBHOOK_SECONDS,
        )
        self._requests = Counter(
            "apiserver_admission_webhook_request_total",
            "Admission webhook request total, identified by name and broken out for each admission type (validating or "
            "mutating) and operation. Additional labels specify whether the request was rejected or not and an HTTP "
            "status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
            ("code", "name", "operation", "rejected", "type"),
        )
        self._rejections = Counter(
            "apiserver_admission_webhook_rejection_count",
            "Admission webhook rejection count, identified by name and broken out for each admission type (validating "
            "or admit) and operation. Additional labels specify an error type (calling_webhook_error or "
            "apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection "
            "code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code "
            "is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics "
            "cardinality bounded.",
            ("error_type", "name", "operation", "rejection_code", "type"),
        )
        self._failed_open = Counter(
            "apiserver_admission_webhook_fail_open_count",
            "Admission webhook fail open count, identified by name and broken out for each admission type (validating "
            "or mutating).",
            ("name", "type"),
        )
        self.families: tuple[Family, ...] = (self._seconds, self._requests, self._rejections, self._failed_open)

    def answered(self, name: str, kind: str, operation: str, seconds: float, code: int, error: str = "") -> None:
        """A webhook was asked; `error` is of what type a refusal was, empty for none."""
        known, rejected = str(min(code, _MOST_CODE)), _word(bool(error))
        self._seconds.observe(seconds, name, operation, rejected, kind)
        self._requests.inc(known, name, operation, rejected, kind)
        if error:
            self._rejections.inc(error, name, operation, known, kind)

    def failed_open(self, name: str, kind: str) -> None:
        """A request went on without a webhook that could not be asked."""
        self._failed_open.inc(name, kind)


def _word(rejected: bool) -> str:
    return "true" if rejected else "false"
