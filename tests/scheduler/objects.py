"""Small makers of nodes and pods for the scheduler's tests."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pinnace.client.store import ObjectStore
from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.framework import Profile
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.pod import PodInfo, PodShape, shape_of
from pinnace.scheduler.profiles import default_profile


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **more: Any) -> Obj:
    """A node; `labels`, `taints`, `unschedulable`, `images` (name to bytes), `zone`."""
    labels = {"kubernetes.io/hostname": name, **more.get("labels", {})}
    if "zone" in more:
        labels["topology.kubernetes.io/zone"] = more["zone"]
    images = [{"names": [image], "sizeBytes": size} for image, size in more.get("images", {}).items()]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "resourceVersion": "1"},
        "spec": {"taints": more.get("taints", []), "unschedulable": more.get("unschedulable", False)},
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **more.get("extra", {})},
            "images": images,
        },
    }


def pod(name: str = "p", *, cpu: str = "", memory: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    """A pod of namespace `default` with one container; more of the spec as keywords."""
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    container = {"name": "c", "image": "x", "resources": {"requests": requests}, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels or {},
            "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1",
        },
        "spec": {"containers": [container], "schedulerName": "default-scheduler", **spec},
        "status": {"phase": "Pending"},
    }  # fmt: skip


def shape(**parts: Any) -> PodShape:
    return shape_of(pod(**parts))


def info(obj: Obj, *pods: Obj) -> NodeInfo:
    """A node with pods on it."""
    made = NodeInfo(obj["metadata"]["name"])
    made.take(obj)
    for each in pods:
        made.add(PodInfo.of(each))
    return made


def cluster(*nodes: Obj, **placed: list[Obj]) -> Cache:
    """Nodes, and pods on them by node name (`_` stands for `-`)."""
    cache = Cache()
    cache.set_namespace("default", {"team": "a"})
    cache.set_namespace("other", {"team": "b"})
    for each in nodes:
        cache.set_node(each)
    for name, pods in placed.items():
        for each in pods:
            cache.assume(PodInfo.of(each), name.replace("_", "-"))
    return cache


def handle(cache: Cache, **objects: list[Obj]) -> Handle:
    """A handle that only knows; `objects` by the name of their resource."""
    stores: defaultdict[str, ObjectStore] = defaultdict(ObjectStore)
    for resource, listed in objects.items():
        for obj in listed:
            stores[resource].put(obj)
    unused: Any = None
    return Handle(
        client=unused, cache=cache, nominations=Nominations(cache), objects=lambda found: stores[found.resource],
        recorder=unused, begin=unused, activate=unused, until=unused, extenders=(), metrics=unused,
    )  # fmt: skip


def evaluator(cache: Cache, profile: Profile | None = None) -> Evaluator:
    return Evaluator(profile or default_profile(handle(cache)), cache)


def feasible(cache: Cache, **parts: Any) -> set[str]:
    """The nodes that a pod could go to."""
    rejected = evaluator(cache).explain(shape(**parts))
    return set(cache.nodes) - set(rejected)


def spread(key: str = "topology.kubernetes.io/zone", skew: int = 1, *, hard: bool = True, **more: Any) -> Obj:
    when = "DoNotSchedule" if hard else "ScheduleAnyway"
    selector = {"matchLabels": {"app": "s"}}
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector, **more}


def affinity_term(key: str = "kubernetes.io/hostname", app: str = "s", **more: Any) -> Obj:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def anti_affinity(*terms: Obj) -> Obj:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def pod_affinity(*terms: Obj) -> Obj:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def preferred(kind: str, term: Obj, weight: int = 10) -> Obj:
    entry = {"weight": weight, "podAffinityTerm": term}
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [entry]}}
