"""The record of who has which value, a key of the store each, so that no two servers give one value to two Services.

From Kubernetes 1.33 on addresses are on record as IPAddress objects; ports, and addresses before that, as keys of our
own below `/registry/ranges/`. A record is written and deleted together with its Service.
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/ip-address-v1/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

import orjson

from pinnace.apis.core.service_families import family_of
from pinnace.apiserver.cache import CachedObject, Event, Filter, ResourceCache, Watcher
from pinnace.apiserver.storage import encode
from pinnace.apiserver.uids import fresh_uid
from pinnace.machinery.meta import Obj, format_time, key_of, utc_now
from pinnace.store.contract import ROOT, Change, KeyValue, Write

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"

Changed = Callable[[int, bool], None]
"""Told of a value that was put on record (True) or taken off it (False)."""


def _nobody(value: int, taken: bool) -> None:
    """Before anybody follows, and after."""


class Records(Protocol):
    """Who has which value."""

    def follow(self, changed: Changed) -> Callable[[], None]:
        """Tell of every value on record, now and from now on; returns the way out."""

    def owner(self, value: int) -> str | None:
        """`namespace/name` of the Service that has the value, empty for something else; None when nothing has it."""

    def claim(self, value: int, service: Obj) -> Write:
        """What puts a value that is free on record."""

    def release(self, value: int) -> Write:
        """What takes a value off the record. Raises KeyError for one that is not on it."""

    def __iter__(self) -> Iterator[int]:
        """Every value on record."""


class Ledger:
    """Records that are no objects: below one prefix of the store, the key is the value, the content its owner."""

    def __init__(self, name: str) -> None:
        self.prefix = f"{ROOT}ranges/{name}/"
        self._found: dict[int, tuple[str, int]] = {}  # owner and revision
        self._changed: Changed = _nobody

    # What the storage feeds it (`pinnace.apiserver.storage.Kept`).

    def load(self, found: list[KeyValue], revision: int) -> None:  # noqa: ARG002 - each has a revision of its own
        for item in found:
            self._found[self._value(item.key)] = (_owner_in(item.value), item.mod_revision)

    def apply(self, change: Change) -> None:
        value = self._value(change.key)
        if change.value is None:
            if self._found.pop(value, None) is not None:
                self._changed(value, False)
            return
        known = value in self._found
        self._found[value] = (_owner_in(change.value), change.revision)
        if not known:
            self._changed(value, True)

    def _value(self, key: str) -> int:
        return int(key[len(self.prefix) :])

    # Records.

    def follow(self, changed: Changed) -> Callable[[], None]:
        self._changed = changed
        for value in self._found:
            changed(value, True)
        return self._leave

    def _leave(self) -> None:
        self._changed = _nobody

    def owner(self, value: int) -> str | None:
        found = self._found.get(value)
        return found[0] if found is not None else None

    def claim(self, value: int, service: Obj) -> Write:
        return Write(f"{self.prefix}{value}", orjson.dumps({"service": key_of(service)}), 0)

    def release(self, value: int) -> Write:
        return Write(f"{self.prefix}{value}", None, self._found[value][1])

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._found))


def _owner_in(content: bytes) -> str:
    owner: str = orjson.loads(content)["service"]
    return owner


class IpAddresses:
    """Records that are IPAddress objects."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache

    def follow(self, changed: Changed) -> Callable[[], None]:
        for name in self._cache.objects:
            changed(number_of(name), True)

        def deliver(kind: str, obj: CachedObject, _: Event) -> None:
            if kind in ("ADDED", "DELETED"):
                changed(number_of(obj.name), kind == "ADDED")

        return self._cache.watch(Watcher(Filter(), deliver))

    def owner(self, value: int) -> str | None:
        found = self._cache.get(address_text(value))
        return owner_of(found.obj()) if found is not None else None

    def claim(self, value: int, service: Obj) -> Write:
        address = ip_address(address_text(value), service)
        return Write(self._cache.prefix + address["metadata"]["name"], encode(self._cache.kind, address), 0)

    def release(self, value: int) -> Write:
        found = self._cache.get(address_text(value))
        if found is None:
            raise KeyError(value)
        return Write(self._cache.prefix + found.key, None, found.revision)

    def __iter__(self) -> Iterator[int]:
        return (number_of(name) for name in list(self._cache.objects))


@lru_cache(10_000)
def number_of(name: str) -> int:
    """The address as a number. Raises ValueError for what is none."""
    return int(ipaddress.ip_address(name))


@lru_cache(10_000)
def address_text(value: int) -> str:
    """The address with this number: an IPv4 address below 2^32, no IPv6 address that small is given to Services."""
    return str(ipaddress.ip_address(value))


def ip_address(address: str, service: Obj) -> Obj:
    """The IPAddress object that gives `address` to the Service, as it is stored."""
    parent = {
        "resource": "services",
        "namespace": service["metadata"]["namespace"],
        "name": service["metadata"]["name"],
    }
    return {
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address,
            "uid": fresh_uid(),
            "creationTimestamp": format_time(utc_now()),
            "labels": {FAMILY: family_of(address), MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": parent},
    }


def owner_of(address: Obj) -> str:
    """`namespace/name` of the Service that an IPAddress is of, empty where it is of something else."""
    parent = address["spec"].get("parentRef") or {}
    if parent.get("group") or parent.get("resource") != "services":
        return ""
    return f"{parent.get('namespace', '')}/{parent.get('name', '')}"


def is_well_labelled(address: Obj) -> bool:
    """Whether an IPAddress says, as the allocator's own do, what family it is of and who looks after it."""
    meta = address["metadata"]
    labels = meta.get("labels") or {}
    return labels.get(MANAGED_BY) == ALLOCATOR and labels.get(FAMILY) == family_of(meta["name"])
