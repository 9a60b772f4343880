"""What servers count, read back by Prometheus' own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pinnace.machinery.metrics import Collected, Counter, Family, Gauge, Histogram, text


def read(*families: Family) -> dict[str, list[tuple[str, dict[str, str], float]]]:
    return {
        found.name: [(sample.name, sample.labels, sample.value) for sample in found.samples]
        for found in text_string_to_metric_families(text(families))
    }


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=20), st.integers(0, 1 << 53))
def test_any_label_value_is_read_back(value: str, count: int) -> None:
    counter = Counter("seen_total", "What was\nseen \\ here.", ("what",))
    counter.inc(value, by=count)
    assert read(counter)["seen"] == [("seen_total", {"what": value}, float(count))]


def test_a_histogram_counts_what_lies_at_or_below_each_bound() -> None:
    histogram = Histogram("took_seconds", "How long.", ("verb",), (0.5, 1, 2.5))
    for value in (0.25, 0.5, 1, 7):
        histogram.observe(value, "GET")
    found = read(histogram)["took_seconds"]
    assert [(labels["le"], value) for name, labels, value in found if name.endswith("_bucket")] == [
        ("0.5", 2.0),
        ("1", 3.0),
        ("2.5", 3.0),
        ("+Inf", 4.0),
    ]
    assert found[-2:] == [("took_seconds_sum", {"verb": "GET"}, 8.75), ("took_seconds_count", {"verb": "GET"}, 4.0)]


def test_a_counter_without_labels_begins_at_zero_and_families_without_samples_are_left_out() -> None:
    plain, labelled, gauge = Counter("a_total", "A."), Counter("b_total", "B.", ("x",)), Gauge("c", "C.")
    gauge.set(-2.5)
    looked_up = Collected("gauge", "d", "D.", ("of",), lambda: [(("all",), 3)])
    assert text([looked_up, gauge, labelled, plain]) == (
        "# HELP a_total A.\n# TYPE a_total counter\na_total 0\n"
        "# HELP c C.\n# TYPE c gauge\nc -2.5\n"
        '# HELP d D.\n# TYPE d gauge\nd{of="all"} 3\n'
    )
