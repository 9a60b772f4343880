"""Ranges of addresses or ports, and which of their values are taken.

New values come from the upper part of a range first, which leaves the lower part to those who ask for a certain one:
https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/#avoid-ClusterIP-conflict.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_TRIES = 64  # random picks before the range is searched from its start
_SMALL = 16  # ranges up to this size have no static part
_MOST_ADDRESSES = 256  # of a static part, which is a sixteenth of the range
_MOST_PORTS = 128  # of a static part, which is a thirty-second of the range
CLASSIC_ADDRESSES = 1 << 16  # a range that no object describes is used so far


class Span(NamedTuple):
    """The values from `first` to `last`, the first `static` of which are given out only when no others are left."""

    first: int
    last: int
    static: int = 0


def address_span(cidr: str, most: int | None = None) -> Span:
    """The addresses of a network, without its first and without what may be IPv4's broadcast address."""
    network = ipaddress.ip_network(cidr)
    base, size = int(network.network_address), network.num_addresses
    if most is not None:
        size = min(size, most + 1)
    last = base + max(size - (2 if network.version == 4 else 1), 1)
    return Span(base + 1, last, _static(size, 16, _MOST_ADDRESSES))


def port_span(first: int, last: int) -> Span:
    """Ports, both ends among them."""
    return Span(first, last, _static(last - first + 1, 32, _MOST_PORTS))


def _static(size: int, share: int, most: int) -> int:
    return 0 if size <= _SMALL else min(max(_SMALL, size // share), most)


class Pool:
    """Which values of some ranges are taken, each by how many."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = tuple(spans)
        self._taken: Counter[int] = Counter()

    def __contains__(self, value: int) -> bool:
        return value in self._taken

    def covers(self, value: int) -> bool:
        return any(span.first <= value <= span.last for span in self.spans)

    def take(self, value: int) -> None:
        self._taken[value] += 1

    def give_back(self, value: int) -> None:
        self._taken[value] -= 1
        if self._taken[value] <= 0:
            del self._taken[value]

    def pick(self, spans: Sequence[Span] | None = None) -> int | None:
        """A free value, of certain spans where they are given, chosen at random; None when there is none."""
        for static in (False, True):
            for span in self.spans if spans is None else spans:
                dynamic = span.first + span.static
                found = self._pick(span.first, dynamic - 1) if static else self._pick(dynamic, span.last)
                if found is not None:
                    return found
        return None

    def _pick(self, first: int, last: int) -> int | None:
        if first > last:
            return None
        for _ in range(_TRIES):
            value = random.randint(first, last)
            if value not in self._taken:
                return value
        return next((value for value in range(first, last + 1) if value not in self._taken), None)
