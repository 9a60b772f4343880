"""/statusz, /flagz, /configz and /debug/flags/v."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
import structlog

from pinnace.machinery.features import FeatureGates
from pinnace.wire.http import Peer, Request, Response
from pinnace.wire.verbosity import configure_logging, set_verbosity
from pinnace.wire.zpages import ZPages, in_go_names

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)


def ask(path: str, accept: str = "", *, minor: int = 37, method: str = "GET", body: bytes = b"") -> Response | None:
    pages = ZPages(
        component="kube-proxy",
        features=FeatureGates(minor),
        flags={"v": "2", "bind-address": "0.0.0.0"},
        configuration=("kubeproxy.config.k8s.io", lambda: {"Mode": "nftables"}),
        paths=("/healthz", "/metrics"),
        started=STARTED,
    )
    headers = {"accept": accept} if accept else {}
    return pages.answer(Request(method, path, "", headers, body, Peer("")))


def body(path: str, accept: str = "", minor: int = 37) -> bytes:
    found = ask(path, accept, minor=minor)
    assert found is not None
    assert found.status == 200
    return found.body


def test_status_is_told_to_people() -> None:
    lines = body("/statusz").decode().split("\n")
    assert lines[:5] == ["", "kube-proxy statusz", WARNING, "", "Started: Fri Jan  2 03:04:05 UTC 2026"]
    assert lines[5].startswith("Up: ")
    assert lines[7:] == [
        "Binary version: 1.37.0",
        "Emulation version: 1.37",
        "Paths: /healthz /metrics /statusz",
        "",
    ]


def test_flags_are_told_to_people() -> None:
    assert body("/flagz").decode() == f"\nkube-proxy flags\n{WARNING}\n\nbind-address=0.0.0.0\nv=2\n"


@pytest.mark.parametrize(("version", "minor"), [("v1alpha1", 36), ("v1alpha1", 37), ("v1beta1", 36)])
def test_both_are_told_to_machines_that_ask_for_it(version: str, minor: int) -> None:
    form = f"application/json;v={version};g=config.k8s.io;as="
    flags = orjson.loads(body("/flagz", f"{form}Flagz", minor))
    assert flags == {
        "kind": "Flagz",
        "apiVersion": f"config.k8s.io/{version}",
        "metadata": {"name": "kube-proxy"},
        "flags": {"bind-address": "0.0.0.0", "v": "2"},
    }
    status = orjson.loads(body("/statusz", f"text/html, {form}Statusz", minor))
    assert status["startTime"] == "2026-01-02T03:04:05Z"
    assert status["uptimeSeconds"] >= timedelta(days=30).total_seconds()
    assert status["paths"] == ["/healthz", "/metrics", "/statusz"]


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json;v=v1;g=config.k8s.io;as=Flagz",
        "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz",
        "image/png",
    ],
)
def test_other_forms_are_not_acceptable(accept: str) -> None:
    found = ask("/flagz", accept)
    assert found is not None
    assert found.status == 406


@pytest.mark.parametrize(("path", "minor"), [("/statusz", 35), ("/flagz", 35), ("/other", 37), ("/debug/pprof/", 37)])
def test_what_is_off_or_is_not_ours_has_no_answer(path: str, minor: int) -> None:
    assert ask(path, minor=minor) is None


def test_the_configuration_is_told_under_its_key() -> None:
    assert orjson.loads(body("/configz")) == {"kubeproxy.config.k8s.io": {"Mode": "nftables"}}


@pytest.mark.parametrize(
    ("method", "value", "status", "text"),
    [
        ("PUT", b"4", 200, "successfully set klog.logging.verbosity to 4\n"),
        (
            "PUT",
            b"loud",
            400,
            'failed set klog.logging.verbosity loud: strconv.ParseInt: parsing "loud": invalid syntax\n',
        ),
        ("GET", b"", 406, "unsupported http method\n"),
    ],
)
def test_the_verbosity_can_be_set(method: str, value: bytes, status: int, text: str) -> None:
    found = ask("/debug/flags/v", method=method, body=value)
    set_verbosity(0)
    assert found is not None
    assert (found.status, found.body.decode()) == (status, text)


def test_loggers_in_use_heed_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(0)
    try:
        log = structlog.get_logger()
        log.debug("before")
        set_verbosity(2)
        log.debug("between")
        set_verbosity(1)
        log.debug("after")
    finally:
        structlog.reset_defaults()
    assert "between" in capsys.readouterr().err


def test_names_become_those_of_go() -> None:
    written = {"leaderElection": {"leaderElect": True}, "profiles": [{"schedulerName": "a"}], "qps": 5}
    assert in_go_names(written) == {
        "LeaderElection": {"LeaderElect": True},
        "Profiles": [{"SchedulerName": "a"}],
        "QPS": 5,
    }
