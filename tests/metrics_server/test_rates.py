"""Two looks at a counter become a rate; what cannot be told is not told."""

from __future__ import annotations

import pytest

from pinnace.metrics_server.objects import duration
from pinnace.metrics_server.rates import NodeHistory, Pair, Point, Scrape, Usage, read_scrape

TEXT = """\
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="web",namespace="default",pod="a"} 4.710169 1633253812125
container_cpu_usage_seconds_total{container="side",namespace="default",pod="a"} 1e-05
container_memory_working_set_bytes{container="web",namespace="default",pod="a"} 1.253376e+07 1633253812125
container_memory_working_set_bytes{container="side",namespace="default",pod="a"} 4096
container_memory_working_set_bytes{container="no-cpu",namespace="default",pod="b"} 4096
node_cpu_usage_seconds_total 357.35491 1633253809720
node_memory_working_set_bytes 1.616273408e+09 1633253809720
pod_cpu_usage_seconds_total{namespace="default",pod="a"} 4.7 1633253812125
scrape_error 0
rubbish{ 7
"""


def test_text_of_a_kubelet_is_read() -> None:
    scrape = read_scrape(TEXT, now=99.0)
    assert scrape.node == Point(1633253809.720, 357.35491, 1616273408)
    web = Point(1633253812.125, 4.710169, 12533760)
    assert scrape.pods == {("default", "a"): {"web": web, "side": Point(99.0, 1e-05, 4096)}}


@pytest.mark.parametrize(
    ("points", "usage"),
    [
        pytest.param([Point(10, 1, 50)], None, id="one point tells no rate"),
        pytest.param([Point(10, 1, 50), Point(20, 6, 70)], Usage(20, 10, 0.5, 70), id="two points do"),
        pytest.param([Point(10, 1, 50), Point(20, 1, 70)], Usage(20, 10, 0.0, 70), id="idle"),
        pytest.param([Point(10, 1, 50), Point(10, 1, 50)], None, id="the same again is no second point"),
        pytest.param([Point(10, 1, 5), Point(20, 6, 7), Point(20, 6, 7)], Usage(20, 10, 0.5, 7), id="kept as it was"),
        pytest.param([Point(10, 9, 50), Point(20, 1, 70)], None, id="began anew"),
        pytest.param([Point(10, 9, 5), Point(20, 1, 7), Point(30, 2, 8)], Usage(30, 10, 0.1, 8), id="and went on"),
    ],
)
def test_usage_comes_of_the_last_two_points(points: list[Point], usage: Usage | None) -> None:
    pair = Pair(points[0])
    for point in points[1:]:
        pair = pair.then(point)
    assert pair.usage() == usage


def test_pod_is_told_once_all_its_containers_can_be() -> None:
    key = ("default", "a")
    history = NodeHistory()
    history = history.then(Scrape(pods={key: {"web": Point(10, 1, 1)}}))
    history = history.then(Scrape(pods={key: {"web": Point(20, 2, 1), "side": Point(20, 0, 1)}}))
    assert history.pod_usage(key) == {}
    history = history.then(Scrape(pods={key: {"web": Point(30, 3, 1), "side": Point(30, 2, 1)}}))
    assert history.pod_usage(key) == {"web": Usage(30, 10, 0.1, 1), "side": Usage(30, 10, 0.2, 1)}
    assert history.then(Scrape()).pod_usage(key) == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(15.0124, "15.012s"), (30, "30s"), (60, "1m0s"), (75.5, "1m15.5s"), (3601, "1h0m1s")]
)
def test_window_is_written_as_go_writes_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
