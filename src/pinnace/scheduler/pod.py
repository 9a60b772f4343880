"""What the scheduler knows of a pod: a `PodShape` of everything that decides where it may go, shared by all pods alike.

The pods of one Deployment have one shape, so what was worked out for one of them serves the next
(`evaluation.Evaluation`). What a pod requests follows
https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/ and KEP-753 (sidecars).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from pinnace.apis.core.pod_holding import holding
from pinnace.machinery.meta import Obj, parse_time
from pinnace.machinery.quantity import Quantity
from pinnace.machinery.selectors import LabelSelector
from pinnace.scheduler.extended_resources import Request, requests_of

DEFAULT_CPU = 100  # milli; what scoring takes a container to use that requests none
DEFAULT_MEMORY = 200 << 20
HOSTNAME = "kubernetes.io/hostname"
DEFAULT_SCHEDULER = "default-scheduler"

Amounts = dict[str, int]
"""Resource name to amount: cpu in thousandths, all else in whole units."""


@lru_cache(4096)
def amount(resource: str, text: str | int) -> int:
    """A quantity as the number that `Amounts` holds."""
    quantity = Quantity.parse(text)
    return quantity.milli_value() if resource == "cpu" else quantity.value()


def amounts(listed: Obj | None) -> Amounts:
    return {resource: amount(resource, text) for resource, text in (listed or {}).items()}


def _add(total: Amounts, more: Amounts) -> None:
    for resource, value in more.items():
        total[resource] = total.get(resource, 0) + value


def _raise(total: Amounts, least: Amounts) -> None:
    for resource, value in least.items():
        if value > total.get(resource, 0):
            total[resource] = value


def _container_requests(container: Obj, *, for_scoring: bool) -> Amounts:
    requests = amounts((container.get("resources") or {}).get("requests"))
    if for_scoring:
        requests.setdefault("cpu", DEFAULT_CPU)
        requests.setdefault("memory", DEFAULT_MEMORY)
    return requests


def pod_requests(spec: Obj, *, for_scoring: bool = False) -> Amounts:
    """What a node must have free: containers and sidecars together, or the most that start-up needs, and overhead."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _container_requests(container, for_scoring=for_scoring))
    sidecars: Amounts = {}
    start_up: Amounts = {}
    for container in spec.get("initContainers") or ():
        needs = _container_requests(container, for_scoring=for_scoring)
        if container.get("restartPolicy") == "Always":
            _add(total, needs)
            _add(sidecars, needs)
            _raise(start_up, sidecars)
        else:
            _add(needs, sidecars)
            _raise(start_up, needs)
    _raise(total, start_up)
    for resource, value in amounts((spec.get("resources") or {}).get("requests")).items():
        total[resource] = value  # the pod's own word, where it has one, replaces the containers' sum
    _add(total, amounts(spec.get("overhead")))
    return {resource: value for resource, value in total.items() if value}


class HostPort(NamedTuple):
    address: str
    protocol: str
    port: int

    def conflicts(self, other: HostPort) -> bool:
        """Two ports clash when one of them is on all addresses, or both on the same."""
        if self.port != other.port or self.protocol != other.protocol:
            return False
        return self.address == other.address or "0.0.0.0" in (self.address, other.address)


def _host_ports(spec: Obj) -> tuple[HostPort, ...]:
    containers = [*(spec.get("containers") or ())]
    containers += [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return tuple(
        HostPort(port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One term of pod affinity or anti-affinity; equal terms of different pods are one and the same."""

    key: str  # topologyKey
    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None  # None: only `namespaces` count
    weight: int = 0  # of a preferred term; negative for anti-affinity


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One entry of `topologySpreadConstraints`, `matchLabelKeys` folded into the selector."""

    key: str
    max_skew: int
    hard: bool  # DoNotSchedule
    selector: LabelSelector
    min_domains: int
    honor_affinity: bool
    honor_taints: bool


class Disk(NamedTuple):
    """A volume that a pod names by its disk."""

    kind: str  # the field of the volume: gcePersistentDisk, awsElasticBlockStore, iscsi or rbd
    source: Obj


_DISKS = ("gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd")


def _volumes(pod: Obj) -> list[list[Any]]:
    """What the pod's volumes mean for the choice of a node: claims (its own, ephemeral ones too) and disks."""
    found: list[list[Any]] = []
    for volume in pod["spec"].get("volumes") or ():
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            found.append(["claim", f"{pod['metadata'].get('namespace', '')}/{claim['claimName']}"])
        elif "ephemeral" in volume:
            metadata = pod["metadata"]
            found.append(["own", f"{metadata.get('namespace', '')}/{metadata['name']}-{volume['name']}"])
        else:
            found += [[kind, volume[kind]] for kind in _DISKS if kind in volume]
    return found


@dataclass(eq=False)
class PodShape:
    """All that filters and scores look at. Read-only; one object for all pods alike."""

    namespace: str
    labels: dict[str, str]
    requests: Amounts
    scoring_requests: Amounts
    host_ports: tuple[HostPort, ...]
    node_selector: dict[str, str]
    required_node_terms: list[Obj] | None
    preferred_node_terms: list[Obj]
    tolerations: list[Obj]
    spread: tuple[SpreadConstraint, ...]
    affinity: tuple[AffinityTerm, ...]
    anti_affinity: tuple[AffinityTerm, ...]
    preferred_affinity: tuple[AffinityTerm, ...]  # anti-affinity with negative weights among them
    images: tuple[str, ...]
    owner: tuple[str, str] | None = None  # kind and key of the ReplicaSet or the like that controls it
    claims: tuple[str, ...] = ()  # namespace/name of the PersistentVolumeClaims it uses
    own_claims: frozenset[str] = frozenset()  # those of them that are made for the pod (ephemeral volumes)
    disks: tuple[Disk, ...] = ()  # volumes without a claim that several pods of a node may not share
    resource_claims: tuple[str, ...] = ()  # namespace/name of the ResourceClaims; empty for one not made yet
    extended: tuple[Request, ...] = ()  # of extended resources, which devices may stand behind
    node_signature: bytes = b""  # what decides about single nodes: everything but namespace and labels


_SHAPING = ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "overhead", "resources")
_shapes: WeakValueDictionary[bytes, PodShape] = WeakValueDictionary()


def shape_of(pod: Obj) -> PodShape:
    """The shape of a pod; pods that differ in nothing that matters get the same object."""
    metadata, spec = pod["metadata"], pod["spec"]
    what = [
        [spec.get(name) for name in _SHAPING],
        [_container_shape(container) for container in spec.get("containers") or ()],
        [_container_shape(container) for container in spec.get("initContainers") or ()],
    ]
    volumes = _volumes(pod)
    if volumes:
        what.append(volumes)
    resource_claims = _resource_claims(pod) if "resourceClaims" in spec else ()
    if resource_claims:
        what.append(resource_claims)
    node_signature = orjson.dumps(what, option=orjson.OPT_SORT_KEYS)
    owner = _owner(metadata) if "ownerReferences" in metadata else None
    whose = [metadata.get("namespace", ""), metadata.get("labels"), owner]
    signature = node_signature + orjson.dumps(whose, option=orjson.OPT_SORT_KEYS)
    shape = _shapes.get(signature)
    if shape is None:
        shape = _parse(metadata.get("namespace", ""), metadata.get("labels") or {}, spec)
        shape.node_signature = node_signature
        shape.owner = owner
        shape.resource_claims = tuple(resource_claims)
        shape.claims = tuple(key for kind, key in volumes if kind in ("claim", "own"))
        shape.own_claims = frozenset(key for kind, key in volumes if kind == "own")
        shape.disks = tuple(Disk(kind, source) for kind, source in volumes if kind in _DISKS)
        _shapes[signature] = shape
    return shape


def _resource_claims(pod: Obj) -> list[str]:
    """Keys of the pod's ResourceClaims; a template that asks for none has a status that says so."""
    made = {one["name"]: one for one in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    found = []
    for one in pod["spec"]["resourceClaims"] or ():
        status = made.get(one["name"])
        name = one.get("resourceClaimName") or (status or {}).get("resourceClaimName")
        if name:
            found.append(f"{pod['metadata'].get('namespace', '')}/{name}")
        elif status is None:
            found.append("")
    return found


def _owner(metadata: Obj) -> tuple[str, str] | None:
    for reference in metadata["ownerReferences"]:
        if reference.get("controller") and reference["kind"] in ("ReplicaSet", "ReplicationController", "StatefulSet"):
            return reference["kind"], f"{metadata.get('namespace', '')}/{reference['name']}"
    return None


def _container_shape(container: Obj) -> list[Any]:
    requests = (container.get("resources") or {}).get("requests")
    ports = [port for port in container.get("ports") or () if port.get("hostPort")]
    return [container.get("image"), requests, ports, container.get("restartPolicy")]


def _parse(namespace: str, labels: dict[str, str], spec: Obj) -> PodShape:
    affinity = spec.get("affinity") or {}
    node = affinity.get("nodeAffinity") or {}
    pods = affinity.get("podAffinity") or {}
    anti = affinity.get("podAntiAffinity") or {}
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    hard, soft = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return PodShape(
        namespace=namespace,
        labels=labels,
        requests=pod_requests(spec),
        scoring_requests=pod_requests(spec, for_scoring=True),
        host_ports=_host_ports(spec),
        node_selector=spec.get("nodeSelector") or {},
        required_node_terms=None if required is None else required.get("nodeSelectorTerms") or [],
        preferred_node_terms=node.get(soft) or [],
        tolerations=spec.get("tolerations") or [],
        spread=tuple(_spread(entry, labels) for entry in spec.get("topologySpreadConstraints") or ()),
        affinity=tuple(_term(term, namespace, labels) for term in pods.get(hard) or ()),
        anti_affinity=tuple(_term(term, namespace, labels) for term in anti.get(hard) or ()),
        preferred_affinity=tuple(
            _term(entry["podAffinityTerm"], namespace, labels, sign * entry["weight"])
            for sign, listed in ((1, pods.get(soft)), (-1, anti.get(soft)))
            for entry in listed or ()
        ),
        images=tuple(container.get("image", "") for container in containers),
        extended=requests_of(spec),
    )


def _with_label_keys(selector: Obj | None, labels: dict[str, str], keys: Iterable[str], operator: str = "In") -> Obj:
    """The selector narrowed to the pod's own values of some labels (`matchLabelKeys`)."""
    selector = dict(selector or {})
    more = [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys if key in labels]
    if more:
        selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *more]
    return selector


def _selector(selector: Obj | None, labels: dict[str, str], entry: Obj) -> LabelSelector:
    if selector is None:
        return LabelSelector.from_json(None)
    narrowed = _with_label_keys(selector, labels, entry.get("matchLabelKeys") or ())
    return LabelSelector.from_json(_with_label_keys(narrowed, labels, entry.get("mismatchLabelKeys") or (), "NotIn"))


def _term(term: Obj, namespace: str, labels: dict[str, str], weight: int = 0) -> AffinityTerm:
    namespaces = frozenset(term.get("namespaces") or ())
    selector = term.get("namespaceSelector")
    if not namespaces and selector is None:
        namespaces = frozenset((namespace,))
    return AffinityTerm(
        term["topologyKey"],
        _selector(term.get("labelSelector"), labels, term),
        namespaces,
        None if selector is None else LabelSelector.from_json(selector),
        weight,
    )


def _spread(entry: Obj, labels: dict[str, str]) -> SpreadConstraint:
    return SpreadConstraint(
        entry["topologyKey"],
        entry["maxSkew"],
        entry.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        _selector(entry.get("labelSelector"), labels, entry),
        entry.get("minDomains") or 1,
        entry.get("nodeAffinityPolicy", "Honor") == "Honor",
        entry.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


@dataclass(slots=True, eq=False)
class PodInfo:
    """One pod, as far as the scheduler needs it."""

    key: str  # namespace/name
    uid: str
    name: str
    namespace: str
    shape: PodShape
    priority: int
    created: datetime
    node_name: str  # where it is bound; empty: nowhere yet
    scheduler_name: str
    reference: Obj  # for events
    gated: bool
    nominated_node: str  # status.nominatedNodeName: where pods were asked to leave for it
    never_preempts: bool
    generation: int | None
    condition: tuple[str, str, str] | None  # status, reason and message of PodScheduled

    @classmethod
    def of(cls, pod: Obj) -> PodInfo:
        metadata, spec = pod["metadata"], pod["spec"]
        status = pod.get("status") or {}
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        return cls(
            key=f"{namespace}/{name}",
            uid=metadata.get("uid", ""),
            name=name,
            namespace=namespace,
            shape=shape_of(holding(pod) if spec.get("nodeName") else pod),
            priority=spec.get("priority") or 0,
            created=_created(metadata.get("creationTimestamp")),
            node_name=spec.get("nodeName") or "",
            scheduler_name=spec.get("schedulerName") or DEFAULT_SCHEDULER,
            reference={
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": name,
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            gated=bool(spec.get("schedulingGates")),
            nominated_node=status.get("nominatedNodeName") or "",
            never_preempts=spec.get("preemptionPolicy") == "Never",
            generation=metadata.get("generation"),
            condition=_pod_scheduled(status),
        )


@lru_cache(1024)
def _created(text: str | None) -> datetime:
    return parse_time(text or "1970-01-01T00:00:00Z")


def _pod_scheduled(status: Obj) -> tuple[str, str, str] | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled":
            return condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")
    return None


def is_finished(pod: Obj) -> bool:
    """Whether the pod holds nothing on its node any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
