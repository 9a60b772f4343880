"""Pods beside firewalls that drop what is forwarded: which there are, and that pods reach each other nevertheless."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from pinnace.cri.engine.firewall import filtering, forget, let_through, rules
from pinnace.cri.engine.network import in_namespace

NAMESPACE = "pinnace-firewall"
PATH = f"/run/netns/{NAMESPACE}"

DOCKER = """\
table ip filter {
\tchain INPUT {
\t\ttype filter hook input priority filter; policy accept;
\t}
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table ip6 nat {
\tchain FORWARD {
\t}
}
"""


@pytest.mark.parametrize(
    ("chains", "families"),
    [
        ("", set()),
        (DOCKER, {"ip"}),
        (DOCKER + DOCKER.replace("table ip filter", "table ip6 filter"), {"ip", "ip6"}),
        (DOCKER.replace("table ip filter", "table inet filter"), set()),
        (DOCKER.replace("chain FORWARD", "chain forward"), set()),
    ],
)
def test_tables_that_iptables_filters_with(chains: str, families: set[str]) -> None:
    assert filtering(chains) == families


@pytest.fixture
def machine() -> Iterator[str]:
    """A network namespace in place of the machine's."""
    if shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        pytest.skip("needs iptables")
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    yield NAMESPACE
    subprocess.run(["ip", "netns", "delete", NAMESPACE], check=True)


@pytest.mark.root
def test_rules_lead_through_a_firewall_that_drops_and_go_again(machine: str) -> None:
    def on_machine(*command: str) -> str:
        inside = ["ip", "netns", "exec", machine, *command]
        return subprocess.run(inside, check=True, capture_output=True, text=True).stdout

    def listed() -> int:
        return on_machine("iptables", "-S").count("pinnace-test")

    in_namespace(PATH, lambda: let_through("br7", "pinnace-test", ["ip"]))
    assert on_machine("nft", "list", "chains") == ""  # there is no firewall, and none is made

    on_machine("iptables", "-P", "FORWARD", "DROP")
    on_machine("iptables", "-A", "FORWARD", "-j", "DROP")
    for _ in range(2):
        in_namespace(PATH, lambda: let_through("br7", "pinnace-test", ["ip", "ip6"]))
        assert listed() == len(list(rules("br7", "pinnace-test")))
    assert on_machine("iptables", "-S", "FORWARD").splitlines()[-1] == "-A FORWARD -j DROP"

    for _ in range(2):
        in_namespace(PATH, lambda: forget("br7", "pinnace-test"))
        assert listed() == 0
