"""What Endpoints and EndpointSlices share: which pods are behind a Service, at which ports, and when that changed.

Pure functions, and one small table of times. Specified by https://kubernetes.io/docs/concepts/services-networking/service/
and https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import ip_address

from pinnace.client.store import ObjectStore
from pinnace.controllers.conditions import condition
from pinnace.controllers.pods import is_finished
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
)
from pinnace.machinery.selectors import LabelSelector

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS_LABEL = "service.kubernetes.io/headless"


def selects_pods(service: Obj) -> bool:
    """Whether its endpoints are made from pods: it has a selector and is no alias of a name."""
    spec = service.get("spec") or {}
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def is_headless(service: Obj) -> bool:
    return bool(get_in(service, "spec", "clusterIP", default="") == "None")


def publishes_not_ready(service: Obj) -> bool:
    return bool(get_in(service, "spec", "publishNotReadyAddresses"))


def selected_pods(service: Obj, pods: ObjectStore) -> list[Obj]:
    """The pods that the Service's selector picks; the store needs the index `namespace`."""
    selector = LabelSelector.from_labels(service["spec"]["selector"])
    return [pod for pod in pods.by_index("namespace", namespace_of(service)) if selector.matches(labels_of(pod))]


def services_of(pod: Obj, services: ObjectStore) -> list[str]:
    """The keys of the Services that pick the pod; the store needs the index `namespace`."""
    labels = labels_of(pod)
    return [
        key_of(service)
        for service in services.by_index("namespace", namespace_of(pod))
        if selects_pods(service) and LabelSelector.from_labels(service["spec"]["selector"]).matches(labels)
    ]


def has_address(pod: Obj, *, terminating: bool) -> bool:
    """Whether the pod can be an endpoint: it runs or will, and has an address; `terminating` admits those that go."""
    if is_finished(pod) or not get_in(pod, "status", "podIP"):
        return False
    return terminating or not is_deleting(pod)


def address_in(pod: Obj, family: str) -> str | None:
    """The pod's address of a family (`IPv4` or `IPv6`)."""
    addresses = [entry.get("ip", "") for entry in get_in(pod, "status", "podIPs", default=())]
    for address in addresses or [get_in(pod, "status", "podIP", default="")]:
        if address and family_of(address) == family:
            found: str = address
            return found
    return None


def family_of(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def families_of(service: Obj) -> Sequence[str]:
    """The address families that the Service is served in."""
    families: Sequence[str] = get_in(service, "spec", "ipFamilies", default=())
    if families:
        return families
    cluster_ip = get_in(service, "spec", "clusterIP", default="")
    return (family_of(cluster_ip),) if cluster_ip and cluster_ip != "None" else ("IPv4",)


def ports_of(service: Obj, pod: Obj) -> list[Obj]:
    """The Service's ports as this pod serves them: names looked up, ports it has not got left out."""
    found = []
    for port in get_in(service, "spec", "ports", default=()):
        protocol = port.get("protocol", "TCP")
        number = target_port(port, protocol, pod)
        if number is not None:
            made: Obj = {"name": port.get("name", ""), "port": number, "protocol": protocol}
            if port.get("appProtocol"):
                made["appProtocol"] = port["appProtocol"]
            found.append(made)
    return found


def target_port(port: Obj, protocol: str, pod: Obj) -> int | None:
    """The number of a Service port's target in this pod."""
    target = port.get("targetPort") or port.get("port")
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for named in container.get("ports") or ():
            if named.get("name") == target and named.get("protocol", "TCP") == protocol:
                return int(named["containerPort"])
    return None


def hostname_in(service: Obj, pod: Obj) -> str:
    """The name under which DNS finds the pod in the Service's domain, if the pod asks for one."""
    spec = pod.get("spec") or {}
    return spec.get("hostname", "") if spec.get("subdomain") == name_of(service) else ""


def target_reference(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


class TriggerTimes:
    """When what stands behind a Service changed first since it was last written, for measuring how long that took."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, dict[str, str]]] = {}  # key -> (Service's time, pod name -> time)

    def next(self, key: str, service: Obj, pods: Iterable[Obj]) -> str:
        """The earliest change not seen before as RFC 3339, or the empty string."""
        service_time = service["metadata"].get("creationTimestamp", "")
        pod_times = {name_of(pod): time for pod in pods if (time := _ready_changed(pod))}
        before = self._known.get(key)
        self._known[key] = (service_time, pod_times)
        if before is None:
            changes = [service_time, *pod_times.values()]
        else:
            changes = [time for name, time in pod_times.items() if time > before[1].get(name, "")]
            if service_time > before[0]:
                changes.append(service_time)
        found = min(filter(None, changes), default="") if before is not None else max(changes, default="")
        return format_time(_moment(found)) if found else ""

    def forget(self, key: str) -> None:
        self._known.pop(key, None)


def _ready_changed(pod: Obj) -> str:
    found = condition(pod, "Ready")
    return (found or {}).get("lastTransitionTime") or ""


def _moment(text: str) -> datetime:
    return parse_time(text)
