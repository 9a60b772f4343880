"""What is ready behind a Service: webhooks, proxy paths and registered API servers are all reached so."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import ENDPOINT_SLICES
from pinnace.apiserver.storage import Storage
from pinnace.machinery.meta import Obj, get_in, labels_of


def slices_of(storage: Storage, namespace: str, service: str) -> list[Obj]:
    """The EndpointSlices of a Service."""
    return [
        stored.obj()
        for stored in storage.cache(ENDPOINT_SLICES).objects.values()
        if stored.namespace == namespace and labels_of(stored.obj()).get("kubernetes.io/service-name") == service
    ]


def ready_endpoints(slices: Iterable[Obj], port_name: str) -> list[tuple[str, int]]:
    """`(address, port)` of everything ready, for the Service's port of that name."""
    found: list[tuple[str, int]] = []
    for endpoint_slice in slices:
        numbers = [each["port"] for each in endpoint_slice.get("ports") or () if (each.get("name") or "") == port_name]
        found += [
            (one["addresses"][0], numbers[0])
            for one in endpoint_slice.get("endpoints") or ()
            if numbers and one.get("addresses") and get_in(one, "conditions", "ready", default=True)
        ]
    return found
