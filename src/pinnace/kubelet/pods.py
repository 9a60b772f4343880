"""Facts about a pod that many parts of the kubelet ask for: QoS class, kinds of containers, names of things.

Pure functions over the pod's JSON (https://kubernetes.io/docs/concepts/workloads/pods/).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from pinnace.machinery.meta import Obj, annotations_of, get_in, name_of, namespace_of, uid_of
from pinnace.machinery.quantity import Quantity

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_MIRROR = "kubernetes.io/config.mirror"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"

LABEL_POD_NAME = "io.kubernetes.pod.name"
LABEL_POD_NAMESPACE = "io.kubernetes.pod.namespace"
LABEL_POD_UID = "io.kubernetes.pod.uid"
LABEL_CONTAINER_NAME = "io.kubernetes.container.name"
ANNOTATION_HASH = "io.kubernetes.container.hash"
ANNOTATION_RESTART_COUNT = "io.kubernetes.container.restartCount"
ANNOTATION_TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
ANNOTATION_TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
ANNOTATION_POD_GRACE = "io.kubernetes.pod.terminationGracePeriod"

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"


def is_static(pod: Obj) -> bool:
    """Whether the pod comes from a file rather than from the API server."""
    return annotations_of(pod).get(CONFIG_SOURCE, "api") != "api"


def is_mirror(pod: Obj) -> bool:
    """Whether the object only shows a static pod to the API's readers."""
    return CONFIG_MIRROR in annotations_of(pod)


def full_name(pod: Obj) -> str:
    """`name_namespace`, as logs and back-off messages name a pod."""
    return f"{name_of(pod)}_{namespace_of(pod)}"


def described(pod: Obj) -> str:
    """`name_namespace(uid)`, as events name a pod."""
    return f"{full_name(pod)}({uid_of(pod)})"


def containers(pod: Obj) -> list[Obj]:
    found: list[Obj] = pod["spec"].get("containers") or []
    return found


def init_containers(pod: Obj) -> list[Obj]:
    found: list[Obj] = pod["spec"].get("initContainers") or []
    return found


def ephemeral_containers(pod: Obj) -> list[Obj]:
    found: list[Obj] = pod["spec"].get("ephemeralContainers") or []
    return found


def all_containers(pod: Obj) -> Iterator[Obj]:
    """Init, main and ephemeral containers."""
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Obj, name: str) -> Obj | None:
    return next((container for container in all_containers(pod) if container["name"] == name), None)


def field_path(pod: Obj, name: str) -> str:
    """`spec.containers{name}`: where an event about a container points to."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        if any(container["name"] == name for container in pod["spec"].get(kind) or ()):
            return f"spec.{kind}{{{name}}}"
    return ""


def is_sidecar(container: Obj) -> bool:
    """Whether an init container is a native sidecar: started in order, kept running."""
    return bool(container.get("restartPolicy") == "Always")


def restart_policy(pod: Obj) -> str:
    policy: str = pod["spec"].get("restartPolicy") or "Always"
    return policy


def is_host_network(pod: Obj) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def is_terminal(pod: Obj) -> bool:
    """Whether the pod's phase says that its containers will never run again."""
    return get_in(pod, "status", "phase") in ("Succeeded", "Failed")


def container_hash(container: Obj) -> str:
    """A hash of what makes a container need replacing: its name and image, as Kubernetes has it since 1.31."""
    essence = orjson.dumps([container["name"], container.get("image", "")])
    return hashlib.blake2s(essence, digest_size=4).hexdigest()


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort (https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/)."""
    known = get_in(pod, "status", "qosClass")
    if isinstance(known, str) and known:
        return known
    any_given = False
    guaranteed = True
    owners = [pod["spec"]] if pod["spec"].get("resources") else [*init_containers(pod), *containers(pod)]
    for owner in owners:
        resources = owner.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            limit, request = _positive(limits.get(name)), _positive(requests.get(name))
            any_given = any_given or limit is not None or request is not None
            if limit is None or (request is not None and request != limit):
                guaranteed = False
    if not any_given:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def _positive(text: object) -> int | None:
    if text is None:
        return None
    milli = Quantity.parse(str(text)).milli_value()
    return milli if milli > 0 else None


def grace_period(pod: Obj) -> int:
    """Seconds between SIGTERM and SIGKILL: what the deletion asked for, else what the pod says; at least 1."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if pod["metadata"].get("deletionTimestamp") is None or asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return max(1, 30 if asked is None else int(asked))


def pod_hostname(pod: Obj, cluster_domain: str) -> tuple[str, str]:
    """The pod's host name and its domain, `""` without a subdomain (a FQDN of spec.hostnameOverride counts whole)."""
    spec = pod["spec"]
    override = spec.get("hostnameOverride")
    if override:
        return override, ""
    hostname = (spec.get("hostname") or name_of(pod))[:63].rstrip("-.")
    subdomain = spec.get("subdomain")
    domain = f"{subdomain}.{namespace_of(pod)}.svc.{cluster_domain}" if subdomain else ""
    return hostname, domain


def log_directory(logs: Path, pod: Obj) -> Path:
    """`<logs>/<namespace>_<name>_<uid>`: a directory per container below."""
    return logs / f"{namespace_of(pod)}_{name_of(pod)}_{uid_of(pod)}"


def resource_requests(pod: Obj) -> dict[str, int]:
    """What the pod asks of the node: cpu in millicores, the rest in units; init containers count by their peak."""
    return _resources(pod, "requests")


def resource_limits(pod: Obj) -> dict[str, int]:
    """What the pod may use at most; a container without a limit counts nothing."""
    return _resources(pod, "limits")


def _resources(pod: Obj, part: str) -> dict[str, int]:
    total: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in containers(pod):
        _add(total, _amounts(container, part))
    for container in init_containers(pod):
        wanted = _amounts(container, part)
        if is_sidecar(container):
            _add(total, wanted)
            _add(sidecars, wanted)
            wanted = dict(sidecars)
        else:
            _add(wanted, sidecars)
        for name, amount in wanted.items():
            peak[name] = max(peak.get(name, 0), amount)
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)
    for name, text in (get_in(pod, "spec", "resources", part, default={})).items():
        total[name] = amount_of(name, text)
    for name, text in (pod["spec"].get("overhead") or {}).items():
        if part == "requests" or total.get(name):
            total[name] = total.get(name, 0) + amount_of(name, text)
    return total


def _amounts(container: Obj, part: str) -> dict[str, int]:
    listed = (container.get("resources") or {}).get(part) or {}
    return {name: amount_of(name, text) for name, text in listed.items()}


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def amount_of(resource: str, text: object) -> int:
    """A quantity in the unit that decisions are made in: millicores of cpu, whole units of anything else."""
    quantity = Quantity.parse(str(text))
    return quantity.milli_value() if resource == "cpu" else quantity.value()
