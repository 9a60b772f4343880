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
    """The networks of one profile, each as its configuration has it: a range, or one of each family with a comma."""

    machines: str
    pods: str
    services: str


def choose(used: Iterable[Network], *, dual: bool = False, services: str = "") -> Subnets:
    """The first free set; raises ClusterError when none of the 20 candidates is free.

    With `dual`, networks of IPv6 as well: unique local ones, that of kind's clusters for pods and Services. `services`
    are given by who starts the cluster.
    """
    taken = list(used)
    own = services.split(",")[0]
    if own and any(Network(own).overlaps(other) for other in taken):
        raise ClusterError(NO_SUBNET, f"{own} is in use on this machine", "Choose another --service-cluster-ip-range")
    for number in range(TRIES):
        machine, pod, service = 49 + 9 * number, 244 - number, 96 + number
        fours = (f"192.168.{machine}.0/24", f"10.{pod}.0.0/16", own or f"10.{service}.0.0/16")
        if any(Network(cidr).overlaps(other) for cidr in fours for other in taken):
            continue
        if not dual:
            return Subnets(*fours)
        sixes = [f"fd00:192:168:{machine}::/64", f"fd00:10:{pod}::/56", f"fd00:10:{service}::/112"]
        if services:
            sixes[2] = services.split(",")[1]
        return Subnets(*(f"{four},{six}" for four, six in zip(fours, sixes, strict=True)))
    raise ClusterError(
        NO_SUBNET,
        f"All {TRIES} candidate subnets (192.168.49.0/24 and on) are in use on this machine",
        "Delete a profile that is not needed: pinnace delete -p NAME",
    )


def first_address(cidr: str) -> str:
    """The first address of the first of some networks."""
    return str(Network(cidr.split(",")[0])[1])


def networks_in_use(route_table: Path = Path("/proc/net/route")) -> list[Network]:
    """Destinations of the IPv4 routes, without the default route."""
    networks = []
    for line in route_table.read_text().splitlines()[1:]:
        columns = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(columns[index]), "little") for index in (1, 7))
        if mask:
            networks.append(Network((destination, bin(mask).count("1"))))
    return networks
