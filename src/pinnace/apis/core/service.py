"""Services: a stable address before pods.

Specified in https://kubernetes.io/docs/concepts/services-networking/service/. Addresses and node ports are given out by
the API server's allocators; here is what needs no allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of, optional_one_of, port_or_name, unchanged
from pinnace.apis.core.endpoints import validate_endpoint_ip
from pinnace.apis.core.service_families import (
    HEADLESS,
    mirror_cluster_ip,
    validate_families,
    validate_family_change,
)
from pinnace.apis.fields import AGE, NAME, NONE, age, column, labels_text, name, selectable, spec_of, status_of, wide
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_label_1035
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
AFFINITY_SECONDS = 10800

_EXTERNAL = ("LoadBalancer", "NodePort")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")


def default(service: Obj) -> None:
    spec = service.setdefault("spec", {})
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", AFFINITY_SECONDS)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, "") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if is_external(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] != "ExternalName" and not spec.get("internalTrafficPolicy"):
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def is_external(spec: Obj) -> bool:
    """Whether it is to be reached from outside of the cluster."""
    return spec.get("type") in _EXTERNAL or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def prepare(service: Obj, old: Obj | None) -> None:
    """An update that says nothing of what was allocated keeps it; the two forms of the cluster address agree."""
    spec = service["spec"]
    if old is None:
        service["status"] = {"loadBalancer": {}}
        mirror_cluster_ip(spec, None)
        return
    _keep_allocated(spec, old["spec"])
    mirror_cluster_ip(spec, old["spec"])
    _drop_of_old_type(spec, old["spec"])


def _keep_allocated(spec: Obj, before: Obj) -> None:
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
    if spec.get("type") not in _EXTERNAL or before.get("type") not in _EXTERNAL:
        return
    allocated = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()}
    used = {port.get("nodePort") for port in spec.get("ports") or ()}
    for port in spec.get("ports") or ():
        number = allocated.get((port.get("protocol"), port.get("port")))
        if number and not port.get("nodePort") and number not in used:
            port["nodePort"] = number
    if before.get("healthCheckNodePort") and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before["healthCheckNodePort"]


def _drop_of_old_type(spec: Obj, before: Obj) -> None:
    """A change of type takes along what only the old type has, as far as the author left it alone."""

    def left_behind(need: Callable[[Obj], bool], *fields: str) -> Iterator[str]:
        if need(before) and not need(spec):
            yield from (field for field in fields if spec.get(field) == before.get(field))

    dropped = [
        *left_behind(_has_cluster_ip, "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
        *left_behind(_is_balanced, "allocateLoadBalancerNodePorts", "loadBalancerClass"),
        *left_behind(_needs_health_port, "healthCheckNodePort"),
        *left_behind(is_external, "externalTrafficPolicy"),
    ]
    for field in dropped:
        spec.pop(field, None)
    if (
        before.get("type") in _EXTERNAL
        and spec.get("type") not in _EXTERNAL
        and _node_ports(spec) == _node_ports(before)
    ):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)


def _has_cluster_ip(spec: Obj) -> bool:
    return spec.get("type") != "ExternalName"


def _is_balanced(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer"


def _needs_health_port(spec: Obj) -> bool:
    return _is_balanced(spec) and spec.get("externalTrafficPolicy") == "Local"


def _node_ports(spec: Obj) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def validate(service: Obj) -> list[Cause]:
    spec = spec_of(service)
    kind, cluster_ip = spec.get("type"), spec.get("clusterIP")
    errors: list[Cause] = []
    ports = spec.get("ports") or []
    if not ports and cluster_ip != HEADLESS and kind != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _by_type(spec)
    errors += _ports(ports, kind)
    errors += names.label_errors(spec.get("selector") or {}, "spec.selector")
    errors += one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    errors += _affinity_config(spec)
    errors += validate_families(spec)
    for index, ip in enumerate(spec.get("externalIPs") or ()):
        errors += validate_endpoint_ip(ip, f"spec.externalIPs[{index}]")
    errors += one_of("spec.type", kind, TYPES)
    errors += _policies(spec)
    return errors


def _by_type(spec: Obj) -> list[Cause]:
    kind, cluster_ip = spec.get("type"), spec.get("clusterIP")
    if kind in _EXTERNAL:
        errors: list[Cause] = []
        if kind == "LoadBalancer":
            for index, port in enumerate(spec.get("ports") or ()):
                if port.get("port") == 10250:
                    why = "may not expose port 10250 externally since it is used by kubelet"
                    errors.append(invalid_value(f"spec.ports[{index}].port", 10250, why))
        if cluster_ip == HEADLESS:
            errors.append(
                invalid_value("spec.clusterIPs[0]", HEADLESS, f"may not be set to 'None' for {kind} services")
            )
        return errors
    if kind == "ExternalName":
        fields = ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        why = "may not be set for ExternalName services"
        errors = [field_forbidden(f"spec.{field}", why) for field in fields if spec.get(field)]
        external = spec.get("externalName") or ""
        if not external:
            return [*errors, required("spec.externalName")]
        return errors + every("spec.externalName", external, names.is_dns_subdomain(external.removesuffix(".")))
    return []


def _ports(ports: list[Obj], kind: Any) -> list[Cause]:
    errors: list[Cause] = []
    seen_names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    seen_node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        errors += _port_name(port, len(ports) > 1, seen_names, path)
        errors += every(f"{path}.port", port.get("port") or 0, names.is_port_number(port.get("port") or 0))
        errors += one_of(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        errors += port_or_name(f"{path}.targetPort", port.get("targetPort"))
        if port.get("appProtocol"):
            errors += every(f"{path}.appProtocol", port["appProtocol"], names.is_qualified_name(port["appProtocol"]))
        node_port = port.get("nodePort")
        if node_port and kind == "ClusterIP":
            errors.append(field_forbidden(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            errors.append(duplicate(path, {"port": key[1], "protocol": key[0]}))
        seen.add(key)
        if node_port:
            node_key = (port.get("protocol"), node_port)
            if node_key in seen_node_ports:
                errors.append(duplicate(f"{path}.nodePort", node_port))
            seen_node_ports.add(node_key)
    return errors


def _port_name(port: Obj, needs_name: bool, seen: set[str], path: str) -> list[Cause]:
    port_name = port.get("name")
    if not port_name:
        return [required(f"{path}.name")] if needs_name else []
    errors = every(f"{path}.name", port_name, names.is_dns_label(port_name))
    if port_name in seen:
        errors.append(duplicate(f"{path}.name", port_name))
    seen.add(port_name)
    return errors


def _affinity_config(spec: Obj) -> list[Cause]:
    path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if spec.get("sessionAffinity") == "ClientIP" and seconds is not None and not 0 < seconds <= 86400:
        return [invalid_value(path, seconds, "must be greater than 0 and less than 86400")]
    return []


def _policies(spec: Obj) -> list[Cause]:
    errors: list[Cause] = []
    options = ("Cluster", "Local")
    policy = spec.get("externalTrafficPolicy")
    if policy:
        if not is_external(spec):
            why = "may only be set for externally-accessible services"
            errors.append(invalid_value("spec.externalTrafficPolicy", policy, why))
        errors += optional_one_of("spec.externalTrafficPolicy", policy, options)
    errors += optional_one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), options)
    kind = spec.get("type")
    if kind != "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not None:
        path = "spec.allocateLoadBalancerNodePorts"
        errors.append(field_forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
    for index, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        path = "spec.loadBalancerSourceRanges"
        if kind != "LoadBalancer":
            errors.append(field_forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
            break
        errors += every(f"{path}[{index}]", cidr, names.is_cidr(cidr.strip()))
    if spec.get("loadBalancerClass"):
        path, value = "spec.loadBalancerClass", spec["loadBalancerClass"]
        if kind != "LoadBalancer":
            errors.append(field_forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
        errors += every(path, value, names.is_qualified_name(value))
    if spec.get("healthCheckNodePort") and not _needs_health_port(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], why))
    errors += optional_one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)
    return errors


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    spec, before = new["spec"], old["spec"]
    errors = validate_family_change(spec, before)
    if _needs_health_port(spec) and _needs_health_port(before):
        path = "spec.healthCheckNodePort"
        errors += unchanged(path, spec.get("healthCheckNodePort"), before.get("healthCheckNodePort"))
    balanced = spec.get("type") == before.get("type") == "LoadBalancer"
    if balanced and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        why = "may not change once set"
        errors.append(invalid_value("spec.loadBalancerClass", spec.get("loadBalancerClass"), why))
    return errors


def row(service: Obj, now: datetime) -> list[Any]:
    spec = spec_of(service)
    return [
        name(service),
        spec.get("type") or "",
        spec.get("clusterIP") or NONE,
        _external(spec, status_of(service)),
        _ports_text(spec),
        age(service, now),
        labels_text(spec.get("selector")),
    ]


def _external(spec: Obj, status: Obj) -> str:
    kind, given = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    if kind != "LoadBalancer":
        return ",".join(given) or NONE
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    found = sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""})
    return ",".join([*found, *given]) or "<pending>"


def _ports_text(spec: Obj) -> str:
    parts = []
    for port in spec.get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        parts.append(f"{port.get('port')}{node_port}/{port.get('protocol')}")
    return ",".join(parts) or NONE


SERVICE = Rules(
    name=name_is_label_1035,
    columns=(
        NAME,
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        AGE,
        wide("Selector"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields=selectable("spec.clusterIP", "spec.type"),
)
