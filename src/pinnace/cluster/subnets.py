"""Which networks a new profile takes: the first ones, counted as minikube does, that nothing on the machine uses.

Pure, but for `networks_in_use`, which reads the kernel's IPv4 routes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pinnace.cluster.reasons import NO_SUBNET, ClusterError

Network = ipaddress.IPv4Network
TRIES = 20


@dataclass(frozen=True, slots=True)
class Subnets:
    """The three networks of one profile."""

    machines: Network
    pods: Network
    services: Network


def choose(used: Iterable[Network]) -> Subnets:
    """The first free set; raises ClusterError when none of the 20 candidates is free."""
    taken = list(used)
    for number in range(TRIES):
        candidate = Subnets(
            machines=Network(f"192.168.{49 + 9 * number}.0/24"),
            pods=Network(f"10.{244 - number}.0.0/16"),
            services=Network(f"10.{96 + number}.0.0/16"),
        )
        mine = (candidate.machines, candidate.pods, candidate.services)
        if not any(network.overlaps(other) for network in mine for other in taken):
            return candidate
    raise ClusterError(
        NO_SUBNET,
        f"All {TRIES} candidate subnets (192.168.49.0/24 and on) are in use on this machine",
        "Delete a profile that is not needed: pinnace delete -p NAME",
    )


def networks_in_use(route_table: Path = Path("/proc/net/route")) -> list[Network]:
    """Destinations of the IPv4 routes, without the default route."""
    networks = []
    for line in route_table.read_text().splitlines()[1:]:
        columns = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(columns[index]), "little") for index in (1, 7))
        if mask:
            networks.append(Network((destination, bin(mask).count("1"))))
    return networks
