"""Writes the EndpointSlices of every Service that selects pods, so many endpoints in each, changing as few as it can.

Specified by https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/. `plan` decides, the controller writes.
"""  # noqa: E501 - the address

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pinnace.apis.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.client.store import ObjectStore, by_namespace
from pinnace.controllers.expectations import Expectations
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
from pinnace.machinery.meta import (
    Obj,
    annotations_of,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
)

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_ZONE = "topology.kubernetes.io/zone"
MOST_ENDPOINTS = 100  # of a slice

_Group = tuple[str, tuple[tuple[tuple[str, object], ...], ...]]
"""What all endpoints of one slice share: address family and ports."""

# Decisions.


@dataclass(slots=True)
class Plan:
    """What to write so that the slices say what they should."""

    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


def endpoint(service: Obj, pod: Obj, address: str, zone: str) -> Obj:
    """One endpoint: a pod at one of its addresses."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    ready = publishes_not_ready(service) or (serving and not terminating)
    made: Obj = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_reference(pod),
    }
    if node := get_in(pod, "spec", "nodeName"):
        made["nodeName"] = node
    if zone:
        made["zone"] = zone
    if hostname := hostname_in(service, pod):
        made["hostname"] = hostname
    return made


def wanted_groups(service: Obj, pods: Iterable[Obj], nodes: ObjectStore) -> dict[_Group, list[Obj]]:
    """Every endpoint of the Service, by what slices may not mix; one empty group stands where there is none."""
    groups: dict[_Group, list[Obj]] = {}
    for pod in pods:
        if not has_address(pod, terminating=True):
            continue
        node = nodes.get(get_in(pod, "spec", "nodeName", default=""))
        zone = labels_of(node).get(_ZONE, "") if node is not None else ""
        ports = tuple(tuple(sorted(port.items())) for port in ports_of(service, pod))
        for family in families_of(service):
            if address := address_in(pod, family):
                groups.setdefault((family, ports), []).append(endpoint(service, pod, address, zone))
    for family in families_of(service):
        if not any(group[0] == family for group in groups):
            groups[family, ()] = []
    return groups


def plan(
    service: Obj,
    wanted: dict[_Group, list[Obj]],
    slices: Iterable[Obj],
    trigger_time: str = "",
    most: int = MOST_ENDPOINTS,
) -> Plan:
    """How to get from the slices there are to the endpoints there should be, no more than `most` in each."""
    result = Plan()
    existing: dict[_Group, list[Obj]] = {}
    for one in slices:
        group = _group_of(one)
        if group in wanted:
            existing.setdefault(group, []).append(one)
        else:
            result.delete.append(one)
    for group, endpoints in wanted.items():
        _plan_group(service, group, endpoints, existing.get(group, []), trigger_time, most, result)
    return result


def _group_of(one: Obj) -> _Group:
    ports = [{"name": "", "protocol": "TCP", **port} for port in one.get("ports") or ()]
    return one.get("addressType", ""), tuple(tuple(sorted(port.items())) for port in ports)


def _plan_group(
    service: Obj,
    group: _Group,
    endpoints: Sequence[Obj],
    slices: Sequence[Obj],
    trigger_time: str,
    most: int,
    result: Plan,
) -> None:
    missing = {_identity(one): one for one in endpoints}
    kept: list[tuple[Obj, list[Obj]]] = []
    for one in slices:
        stay = [missing.pop(key) for old in one.get("endpoints") or () if (key := _identity(old)) in missing]
        kept.append((one, stay))
    rest = list(missing.values())
    _fill(kept, rest, most)
    if not any(stay for _, stay in kept) and not rest and kept:
        result.delete += [one for one, _ in kept[1:]]  # one stays, to say that there is no endpoint
        kept = kept[:1]
        _note_update(service, kept[0][0], [], trigger_time, result)
        return
    for one, stay in kept:
        if stay:
            _note_update(service, one, stay, trigger_time, result)
        else:
            result.delete.append(one)
    for start in range(0, len(rest), most) if rest or slices else (0,):
        result.create.append(new_slice(service, group, rest[start : start + most], trigger_time))


def _fill(kept: list[tuple[Obj, list[Obj]]], rest: list[Obj], most: int) -> None:
    """Put what has no place yet where there is room: first in slices that are written anyway, then in the fullest."""

    def changes(entry: tuple[Obj, list[Obj]]) -> bool:
        return (entry[0].get("endpoints") or []) != entry[1]

    for _, stay in sorted(kept, key=lambda entry: (not changes(entry), -len(entry[1]))):
        room = max(0, most - len(stay))
        stay += rest[:room]
        del rest[:room]


def _identity(one: Obj) -> tuple[str, str]:
    return one["addresses"][0], get_in(one, "targetRef", "uid", default="")


def _note_update(service: Obj, one: Obj, endpoints: list[Obj], trigger_time: str, result: Plan) -> None:
    metadata = {**one["metadata"], "labels": _labels(service), "ownerReferences": [owner_reference(service)]}
    same = metadata == one["metadata"] and (one.get("endpoints") or []) == endpoints
    if same:
        return
    if trigger_time:
        metadata["annotations"] = {**annotations_of(one), TRIGGER_TIME: trigger_time}
    result.update.append({**one, "metadata": metadata, "endpoints": endpoints})


def _labels(service: Obj) -> dict[str, str]:
    """The Service's labels, and ours."""
    labels = {name: value for name, value in labels_of(service).items() if name != HEADLESS_LABEL}
    labels[SERVICE_NAME] = name_of(service)
    labels[MANAGED_BY] = MANAGER
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    return labels


def new_slice(service: Obj, group: _Group, endpoints: Sequence[Obj], trigger_time: str) -> Obj:
    family, ports = group
    metadata: Obj = {
        "generateName": f"{name_of(service)}-",
        "namespace": namespace_of(service),
        "labels": _labels(service),
        "ownerReferences": [owner_reference(service)],
    }
    if trigger_time:
        metadata["annotations"] = {TRIGGER_TIME: trigger_time}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [dict(port) for port in ports],
    }


# Carrying them out.


def by_service(one: Obj) -> Iterable[str]:
    """Index function: the key of the Service that our slice belongs to."""
    labels = labels_of(one)
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return ()
    return (f"{namespace_of(one)}/{labels[SERVICE_NAME]}",)


class EndpointSliceController(Controller):
    """One key is one Service."""

    name = "endpointslice-controller"
    component = "endpoint-slice-controller"

    def __init__(self, client: Client, informers: InformerFactory, most: int = MOST_ENDPOINTS) -> None:
        self._most = most
        super().__init__(client, informers)

    def setup(self) -> None:
        self._times = TriggerTimes()
        self.services = self.watch(SERVICES, itself)
        self.services.add_index("namespace", by_namespace)
        self.pods = self.watch(PODS, lambda pod: services_of(pod, self.services.store))
        self.pods.add_index("namespace", by_namespace)
        self.slices = self.watch(ENDPOINT_SLICES, by_service)
        self.slices.add_index("service", by_service)
        self.nodes = self.use(NODES)
        self.expectations = Expectations(self.slices)

    async def reconcile(self, key: str) -> None:
        service = self.services.store.get(key)
        if service is None:
            self._times.forget(key)
            self.expectations.forget(key)
            return  # its slices are garbage, and collected as such
        if not selects_pods(service) or is_deleting(service) or not self.expectations.satisfied(key):
            return
        pods = selected_pods(service, self.pods.store)
        slices = [one for one in self.slices.store.by_index("service", key) if not is_deleting(one)]
        trigger_time = self._times.next(key, service, pods)
        groups = wanted_groups(service, pods, self.nodes.store)
        await self._write(service, plan(service, groups, slices, trigger_time, self._most))

    async def _write(self, service: Obj, todo: Plan) -> None:
        try:
            for wanted in todo.create:
                self.expectations.created(key_of(service), await self.client.create(ENDPOINT_SLICES, wanted))
            for wanted in todo.update:
                await self.client.update(ENDPOINT_SLICES, wanted)
            for one in todo.delete:
                await self._delete(service, one)
        except ApiError as error:
            if error.code == 403:
                return  # the namespace is being deleted
            if not error.is_conflict:
                key = key_of(service)
                message = f"Error updating Endpoint Slices for Service {key}: {error.message}"
                self.recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
            raise

    async def _delete(self, service: Obj, one: Obj) -> None:
        try:
            await self.client.delete(ENDPOINT_SLICES, name_of(one), namespace_of(one))
        except ApiError as error:
            if not error.is_not_found:
                raise
        else:
            self.expectations.deleted(key_of(service), one)
