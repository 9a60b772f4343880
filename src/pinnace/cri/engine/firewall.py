"""Leads pods' packets through the machine's own firewall where that drops what it does not know, as Docker's and ufw's.

What one table drops no other can save. So rules go into iptables' own chains, as CNI's firewall plugin puts them
(https://www.cni.dev/plugins/current/meta/firewall/): what pods send, answers to it, and what a Service led to a pod or
from a pod to the node. What comes to pods by itself stays the firewall's business. Relies on `nft` and `iptables`.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from pinnace.cri.programs import find_program

_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
_LEGACY = {"ip": Path("/proc/net/ip_tables_names"), "ip6": Path("/proc/net/ip6_tables_names")}
_CHAIN = "FORWARD"


def rules(bridge: str, comment: str) -> Iterator[tuple[str, ...]]:
    """A chain, and what a rule at its top consists of."""
    for chain, *match in (
        ("FORWARD", "-i", bridge),
        ("FORWARD", "-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT"),
        ("INPUT", "-i", bridge, "-m", "conntrack", "--ctstate", "DNAT"),
    ):
        yield (chain, *match, "-m", "comment", "--comment", comment, "-j", "ACCEPT")


def filtering(chains: str) -> set[str]:
    """The families (ip, ip6) for which `nft list chains` shows a table that iptables filters forwarded packets with."""
    found, table = set(), ""
    for line in chains.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:2] == ["chain", _CHAIN] and table in ("ip filter", "ip6 filter"):
            found.add(table.split()[0])
    return found


def let_through(bridge: str, comment: str, families: Iterable[str]) -> None:
    """Let the packets of a bridge's pods through, where there is such a firewall; idempotent."""
    for program in _programs(families):
        for chain, *rule in rules(bridge, comment):
            if not _run(program, "-w", "-C", chain, *rule):
                _run(program, "-w", "-I", chain, *rule)


def forget(bridge: str, comment: str) -> None:
    """Take the rules out again; idempotent."""
    for program in _programs(_PROGRAMS):
        for chain, *rule in rules(bridge, comment):
            while _run(program, "-w", "-D", chain, *rule):
                pass


def _programs(families: Iterable[str]) -> list[str]:
    filtered = filtering(_chains()) | {family for family, names in _LEGACY.items() if _lists_filter(names)}
    found = (find_program(_PROGRAMS[family]) for family in families if family in filtered)
    return [program for program in found if program]


def _chains() -> str:
    done = subprocess.run(["nft", "list", "chains"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


def _lists_filter(names: Path) -> bool:
    with contextlib.suppress(OSError):
        return "filter" in names.read_text().split()
    return False


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
