"""Writes the Endpoints of every Service that selects pods: their addresses, ready and not, by port.

Specified by https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoints-v1/. EndpointSlices have
taken their place; they are still kept for those who read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinnace.apis.resources import ENDPOINTS, PODS, SERVICES
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_namespace
from pinnace.controllers.pods import is_ready
from pinnace.controllers.service_pods import (
    HEADLESS_LABEL,
    TRIGGER_TIME,
    TriggerTimes,
    address_in,
    families_of,
    has_address,
    hostname_in,
    is_headless,
    ports_of,
    publishes_not_ready,
    selected_pods,
    selects_pods,
    services_of,
    target_reference,
)
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, get_in, labels_of, name_of, namespace_of, split_key

_MANAGED_BY = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
_OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_CAPACITY = 1000  # addresses in one Endpoints

_Port = tuple[tuple[str, object], ...]

# Decisions.


def subsets(service: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """The subsets: ports that the same addresses serve stand together."""
    family = families_of(service)[0]
    unready_too = publishes_not_ready(service)
    by_port: dict[_Port | None, dict[str, tuple[Obj, bool]]] = {}
    for pod in pods:
        address = address_in(pod, family)
        if address is None or not has_address(pod, terminating=unready_too):
            continue
        entry = (_address(service, pod, address), unready_too or is_ready(pod))
        ports: list[_Port | None] = [tuple(sorted(port.items())) for port in ports_of(service, pod)]
        if not get_in(service, "spec", "ports") and is_headless(service):
            ports = [None]
        for port in ports:
            by_port.setdefault(port, {})[address] = entry
    together: dict[tuple[tuple[str, bool], ...], list[_Port | None]] = {}
    for port, addresses in by_port.items():
        same = tuple(sorted((address, ready) for address, (_, ready) in addresses.items()))
        together.setdefault(same, []).append(port)
    made = [_subset(ports, by_port[ports[0]]) for ports in together.values()]
    return sorted(made, key=lambda subset: str(subset.get("ports")))


def _address(service: Obj, pod: Obj, address: str) -> Obj:
    made: Obj = {"ip": address, "targetRef": target_reference(pod)}
    if node := get_in(pod, "spec", "nodeName"):
        made["nodeName"] = node
    if hostname := hostname_in(service, pod):
        made["hostname"] = hostname
    return made


def _subset(ports: Sequence[_Port | None], addresses: dict[str, tuple[Obj, bool]]) -> Obj:
    subset: Obj = {}
    for field, wanted in (("addresses", True), ("notReadyAddresses", False)):
        chosen = [entry for _, (entry, ready) in sorted(addresses.items()) if ready is wanted]
        if chosen:
            subset[field] = chosen
    listed = [{name: value for name, value in port if value != ""} for port in sorted(filter(None, ports), key=str)]
    if listed:
        subset["ports"] = listed
    return subset


def truncated(found: list[Obj]) -> tuple[list[Obj], bool]:
    """At most 1000 addresses, ready ones before others; and whether some were left out."""
    total = sum(len(subset.get(field, ())) for subset in found for field in ("addresses", "notReadyAddresses"))
    if total <= _CAPACITY:
        return found, False
    room = _CAPACITY
    kept = [dict(subset) for subset in found]
    for field in ("addresses", "notReadyAddresses"):
        for subset in kept:
            if field in subset:
                subset[field] = subset[field][:room]
                room -= len(subset[field])
                if not subset[field]:
                    del subset[field]
    return [subset for subset in kept if "addresses" in subset or "notReadyAddresses" in subset], True


def wanted_endpoints(service: Obj, pods: Iterable[Obj], current: Obj | None, trigger_time: str) -> Obj:
    """The Endpoints as they should be; `current` gives what is not ours to change."""
    found, cut = truncated(subsets(service, pods))
    annotations = dict(annotations_of(current)) if current is not None else {}
    annotations.pop(_OVER_CAPACITY, None)
    if cut:
        annotations[_OVER_CAPACITY] = "truncated"
    if trigger_time:
        annotations[TRIGGER_TIME] = trigger_time
    labels = {name: value for name, value in labels_of(service).items() if name != HEADLESS_LABEL} | _MANAGED_BY
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    metadata = dict(current["metadata"]) if current is not None else {}
    metadata |= {"name": name_of(service), "namespace": namespace_of(service), "labels": labels}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    made: Obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    if found:
        made["subsets"] = found
    return made


def differs(wanted: Obj, current: Obj) -> bool:
    """Whether there is something to write; a new trigger time alone is not."""
    unlike_annotations = {name: value for name, value in annotations_of(current).items() if name != TRIGGER_TIME} != {
        name: value for name, value in annotations_of(wanted).items() if name != TRIGGER_TIME
    }
    return bool(
        unlike_annotations
        or wanted.get("subsets", []) != (current.get("subsets") or [])
        or labels_of(wanted) != labels_of(current)
    )


# Carrying them out.


class EndpointsController(Controller):
    """One key is one Service."""

    name = "endpoints-controller"
    component = "endpoint-controller"

    def setup(self) -> None:
        self._times = TriggerTimes()
        self.services = self.watch(SERVICES, itself)
        self.services.add_index("namespace", by_namespace)
        self.pods = self.watch(PODS, lambda pod: services_of(pod, self.services.store))
        self.pods.add_index("namespace", by_namespace)
        self.endpoints = self.watch(ENDPOINTS, itself)

    async def reconcile(self, key: str) -> None:
        service = self.services.store.get(key)
        current = self.endpoints.store.get(key)
        if service is None:
            self._times.forget(key)
            if current is not None and _MANAGED_BY.items() <= labels_of(current).items():
                await self._delete(key)
            return
        if not selects_pods(service):
            return
        pods = selected_pods(service, self.pods.store)
        wanted = wanted_endpoints(service, pods, current, self._times.next(key, service, pods))
        if current is None:
            await self._create(service, wanted)
        elif differs(wanted, current):
            await self._update(service, wanted)

    async def _create(self, service: Obj, wanted: Obj) -> None:
        try:
            await self.client.create(ENDPOINTS, wanted)
        except ApiError as error:
            if error.code == 403:
                return  # the namespace is being deleted
            if not error.is_already_exists:
                self._say_failed(service, "create", error)
            raise

    async def _update(self, service: Obj, wanted: Obj) -> None:
        try:
            await self.client.update(ENDPOINTS, wanted)
        except ApiError as error:
            if not error.is_conflict:
                self._say_failed(service, "update", error)
            raise

    def _say_failed(self, service: Obj, verb: str, error: ApiError) -> None:
        message = f"Failed to {verb} endpoint {namespace_of(service)}/{name_of(service)}: {error.message}"
        self.recorder.event(service, "Warning", f"FailedTo{verb.title()}Endpoint", message)

    async def _delete(self, key: str) -> None:
        namespace, name = split_key(key)
        try:
            await self.client.delete(ENDPOINTS, name, namespace)
        except ApiError as error:
            if not error.is_not_found:
                raise
