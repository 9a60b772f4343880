"""Service addresses and ports: every cluster IP and node port belongs to one Service.

What is taken follows from the Services there are, seen through the watch cache; what is being written is reserved until
the write is through. https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects and
https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Iterable

from pinnace.apis.kind import Kind
from pinnace.apiserver.cache import CachedObject, Event, Filter, ResourceCache, Watcher
from pinnace.machinery import errors
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj

_TRIES = 64  # random picks before the range is searched from its start
_NODE_PORT_TYPES = ("NodePort", "LoadBalancer")


class Pool:
    """Which of a range of values are taken, each by how many."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._taken: Counter[int] = Counter()

    def __contains__(self, value: int) -> bool:
        return self._taken[value] > 0 if value in self._taken else False

    def covers(self, value: int) -> bool:
        return self.first <= value <= self.last

    def take(self, value: int) -> None:
        self._taken[value] += 1

    def give_back(self, value: int) -> None:
        self._taken[value] -= 1
        if self._taken[value] <= 0:
            del self._taken[value]

    def pick(self) -> int | None:
        """A free value, chosen at random; None when there is none."""
        for _ in range(_TRIES):
            value = random.randint(self.first, self.last)
            if value not in self._taken:
                return value
        return next((value for value in range(self.first, self.last + 1) if value not in self._taken), None)


class Reservations:
    """Gives Services their addresses and ports as part of their being written."""

    def __init__(self, cidr: str, node_ports: tuple[int, int]) -> None:
        self.network = ipaddress.ip_network(cidr)
        base, size = int(self.network.network_address), self.network.num_addresses
        # The first address is the network's, the last may be a broadcast's; a big range is used in its first 65,536.
        self.ips = Pool(base + 1, base + min(size - 2, (1 << 16) - 1))
        self.ports = Pool(*node_ports)

    def follow(self, services: ResourceCache) -> Callable[[], None]:
        """Take what the Services there are have, and keep up with them; returns the way out."""
        for found in services.objects.values():
            self._take(found)
        return services.watch(Watcher(Filter(), self._changed))

    def _changed(self, _: str, __: CachedObject, event: Event) -> None:
        if event.new is not None:
            self._take(event.new)
        if event.old is not None:
            for pool, value in self._holdings(event.old.obj()):
                pool.give_back(value)

    def _take(self, service: CachedObject) -> None:
        for pool, value in self._holdings(service.obj()):
            pool.take(value)

    def _holdings(self, service: Obj) -> list[tuple[Pool, int]]:
        spec = service.get("spec") or {}
        return [(self.ips, ip) for ip in _ips(spec)] + [(self.ports, port) for port in _ports(spec)]

    def before_write(self, kind: Kind, new: Obj, old: Obj | None) -> Callable[[], None]:
        """Fill in what `new` needs, and reserve it; returns what ends the reservation once the write is through.

        Raises 422 for a value that is taken or outside its range.
        """
        if kind.plural != "services" or kind.group:
            return _nothing
        spec = new.get("spec")
        if not isinstance(spec, dict):
            return _nothing
        held = self._holdings(old) if old is not None else []
        reserved: list[tuple[Pool, int]] = []
        try:
            causes = self._fill_ips(spec, held, reserved) + self._fill_ports(spec, held, reserved)
            if causes:
                raise errors.invalid("Service", new["metadata"].get("name", ""), causes)
        except errors.ApiError:
            _release(reserved)
            raise
        return lambda: _release(reserved)

    def _fill_ips(self, spec: Obj, held: list[tuple[Pool, int]], reserved: list[tuple[Pool, int]]) -> list[Cause]:
        if spec.get("type") == "ExternalName":
            return []
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if asked == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return []
        if not asked:
            value = self.ips.pick()
            if value is None:
                why = "failed to allocate a serviceIP: range is full"
                return [errors.invalid_value("spec.clusterIPs", [], why)]
            asked = str(type(self.network.network_address)(value))
        else:
            try:
                value = int(ipaddress.ip_address(asked))
            except ValueError:
                return []  # validation says what is wrong with it
            if (self.ips, value) not in held:
                cause = self._refuse_ip(asked, value)
                if cause:
                    return [cause]
        self._reserve(self.ips, value, reserved)
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]
        return []

    def _refuse_ip(self, asked: str, value: int) -> Cause | None:
        network = self.network
        address = ipaddress.ip_address(asked)
        if address not in network or value in (int(network.network_address), int(network.broadcast_address)):
            why = f"failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. "
            why += f"The range of valid IPs is {network}"
            return errors.invalid_value("spec.clusterIPs", [asked], why)
        if value in self.ips:
            why = f"failed to allocate IP {asked}: provided IP is already allocated"
            return errors.invalid_value("spec.clusterIPs", [asked], why)
        return None

    def _fill_ports(self, spec: Obj, held: list[tuple[Pool, int]], reserved: list[tuple[Pool, int]]) -> list[Cause]:
        causes: list[Cause] = []
        if spec.get("type") not in _NODE_PORT_TYPES:
            return causes
        wanted = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
        given: dict[int, set[str]] = {}  # one number may serve several protocols of one Service
        for index, port in enumerate(spec.get("ports") or ()):
            where = f"spec.ports[{index}].nodePort"
            number = port.get("nodePort") or 0
            protocol = port.get("protocol", "TCP")
            if number:
                if number in given and protocol not in given[number]:
                    given[number].add(protocol)
                    continue
                cause = self._refuse_port(where, number, held, number in given)
                if cause:
                    causes.append(cause)
                    continue
            elif wanted:
                number = self._port_of_sibling(port, protocol, given, spec)
                if number in given:
                    port["nodePort"] = number
                    given[number].add(protocol)
                    continue
                picked = self.ports.pick()
                if picked is None:
                    causes.append(errors.invalid_value(where, 0, "failed to allocate a nodePort: range is full"))
                    continue
                number = port["nodePort"] = picked
            else:
                continue
            given.setdefault(number, set()).add(protocol)
            self._reserve(self.ports, number, reserved)
        return causes + self._fill_health_port(spec, held, reserved)

    @staticmethod
    def _port_of_sibling(port: Obj, protocol: str, given: dict[int, set[str]], spec: Obj) -> int:
        """The node port of another entry with the same port and another protocol (DNS over TCP and UDP)."""
        for other in spec.get("ports") or ():
            number = other.get("nodePort") or 0
            same = other is not port and other.get("port") == port.get("port")
            if same and number in given and protocol not in given[number]:
                return int(number)
        return 0

    def _fill_health_port(
        self, spec: Obj, held: list[tuple[Pool, int]], reserved: list[tuple[Pool, int]]
    ) -> list[Cause]:
        if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            spec.pop("healthCheckNodePort", None)
            return []
        number = spec.get("healthCheckNodePort") or 0
        if number:
            cause = self._refuse_port("spec.healthCheckNodePort", number, held, False)
            if cause:
                return [cause]
        else:
            picked = self.ports.pick()
            if picked is None:
                why = "failed to allocate a nodePort: range is full"
                return [errors.invalid_value("spec.healthCheckNodePort", 0, why)]
            number = spec["healthCheckNodePort"] = picked
        self._reserve(self.ports, number, reserved)
        return []

    def _refuse_port(self, where: str, number: int, held: list[tuple[Pool, int]], again: bool) -> Cause | None:
        if not self.ports.covers(number):
            why = (
                "provided port is not in the valid range. "
                f"The range of valid ports is {self.ports.first}-{self.ports.last}"
            )
            return errors.invalid_value(where, number, why)
        if again or (number in self.ports and (self.ports, number) not in held):
            return errors.invalid_value(where, number, "provided port is already allocated")
        return None

    @staticmethod
    def _reserve(pool: Pool, value: int, reserved: list[tuple[Pool, int]]) -> None:
        pool.take(value)
        reserved.append((pool, value))


def _nothing() -> None:
    return None


def _release(reserved: list[tuple[Pool, int]]) -> None:
    for pool, value in reserved:
        pool.give_back(value)
    reserved.clear()


def _ips(spec: Obj) -> Iterable[int]:
    for text in spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []):
        try:
            yield int(ipaddress.ip_address(text))
        except ValueError:
            continue


def _ports(spec: Obj) -> Iterable[int]:
    found = {port.get("nodePort") for port in spec.get("ports") or ()} | {spec.get("healthCheckNodePort")}
    return (port for port in found if port)
