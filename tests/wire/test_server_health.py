"""How servers tell of their health, check by check, and of how the checks went."""

from __future__ import annotations

import pytest

from pinnace.wire import health


@pytest.mark.parametrize(
    ("verbose", "excluded", "failing", "expected"),
    [
        (False, [], "", "ok"),
        (True, [], "", "[+]ping ok\n[+]etcd ok\nreadyz check passed\n"),
        (True, ["etcd"], "down", "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n"),
        (False, [], "down", "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"),
        (
            True,
            ["z", "a", "a"],
            "",
            (
                "[+]ping ok\n[+]etcd ok\n"
                'warn: some health checks cannot be excluded: no matches for "a", "z"\nreadyz check passed\n'
            ),
        ),
    ],
)
def test_checks_are_told_as_the_original_tells_them(
    verbose: bool, excluded: list[str], failing: str, expected: str
) -> None:
    checks: dict[str, health.Check] = {"ping": lambda: "", "etcd": lambda: failing}
    assert health.answer("readyz", "", checks, verbose, excluded).body.decode() == expected


def test_one_check_says_what_is_wrong() -> None:
    answer = health.answer("readyz", "etcd", {"etcd": lambda: "gone"}, False, [])
    assert (answer.status, answer.body) == (500, b"internal server error: gone\n")
    assert health.answer("readyz", "else", {}, False, []).status == 404


def test_how_checks_went_is_counted_by_name_and_endpoint() -> None:
    results = health.Results()
    checks: dict[str, health.Check] = {"ping": lambda: "", "etcd": lambda: "gone"}
    health.answer("readyz", "", checks, excluded=[], results=results)
    health.answer("livez", "ping", checks, results=results)
    health.answer("readyz", "", checks, excluded=["etcd"], results=results)
    lines = [line for line in results.text().decode().splitlines() if not line.startswith("#")]
    assert lines == [
        'kubernetes_healthcheck{name="etcd",type="readyz"} 0',
        'kubernetes_healthcheck{name="ping",type="livez"} 1',
        'kubernetes_healthcheck{name="ping",type="readyz"} 1',
        'kubernetes_healthchecks_total{name="etcd",status="error",type="readyz"} 1',
        'kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1',
        'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 2',
    ]
