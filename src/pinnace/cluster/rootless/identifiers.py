"""Which users a cluster's namespaces know: its owner as root, and the owner's subordinate ids as all the others.

Pure. Formats are those of subuid(5), newuidmap(1) and of /proc/PID/uid_map in user_namespaces(7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ENOUGH = 65536
"""Ids that images take for granted: those up to nobody's, 65534, and the last one."""


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive ids of the machine."""

    first: int
    count: int


def subordinate(table: str, user: str, uid: int) -> list[Range]:
    """What /etc/subuid or /etc/subgid gives a user, who is named in it or numbered; lines that make no sense do not."""
    found = []
    for line in table.splitlines():
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner in (user, str(uid)) and first.isdigit() and count.isdigit() and int(count):
            found.append(Range(int(first), int(count)))
    return found


def mapping(own: int, ranges: Iterable[Range]) -> list[str]:
    """newuidmap's arguments after the pid: the owner is 0 within, the ranges follow one after the other from 1 on."""
    arguments = ["0", str(own), "1"]
    inside = 1
    for one in ranges:
        arguments += [str(inside), str(one.first), str(one.count)]
        inside += one.count
    return arguments
