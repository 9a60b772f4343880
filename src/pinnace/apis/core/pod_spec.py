"""What the spec of a pod, or of a pod template, must be.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodSpec. The messages and
paths are the API's own; templates use the same rules under their own path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.apis.checks import MAX_INT32, every, not_negative, one_of, optional_one_of
from pinnace.apis.core.affinity import validate_affinity, validate_spread, validate_tolerations
from pinnace.apis.core.container import (
    validate_container,
    validate_hooks,
    validate_init_restart,
    validate_overhead,
    validate_resources,
)
from pinnace.apis.core.security import validate_for_os, validate_host_alias, validate_pod_security
from pinnace.apis.core.volumes import validate_volumes
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_not_found, invalid_value, required
from pinnace.machinery.meta import Obj

RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")

MAX_DNS_SERVERS = 3
MAX_DNS_SEARCHES = 32


def validate_pod_spec(spec: Obj, path: str = "spec") -> list[Cause]:
    errors: list[Cause] = []
    get = spec.get
    sources: Mapping[str, str] = {}
    if volumes := get("volumes"):
        errors, sources = validate_volumes(volumes, f"{path}.volumes")
    errors += _containers(spec, sources, path)
    if get("restartPolicy") not in RESTART_POLICIES:
        errors += one_of(f"{path}.restartPolicy", get("restartPolicy"), RESTART_POLICIES)
    if get("dnsPolicy") != "ClusterFirst":
        errors += one_of(f"{path}.dnsPolicy", get("dnsPolicy"), DNS_POLICIES)
    grace = get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        errors += not_negative(f"{path}.terminationGracePeriodSeconds", grace)
    if context := get("securityContext"):
        errors += validate_pod_security(context, spec, f"{path}.securityContext")
    if tolerations := get("tolerations"):
        errors += validate_tolerations(tolerations, f"{path}.tolerations")
    account = get("serviceAccountName")
    if account and account != "default":
        errors += every(f"{path}.serviceAccountName", account, names.is_dns_subdomain(account))
    for key in spec:
        rule = _RARE.get(key)
        if rule and spec[key]:
            errors += rule(spec[key], spec, f"{path}.{key}")
    if get("dnsPolicy") == "None" and not get("dnsConfig"):
        errors.append(required(f"{path}.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None"))
    deadline = get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        why = names.in_range(1, MAX_INT32)
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, why))
    return errors


def _containers(spec: Obj, volumes: Mapping[str, str], path: str) -> list[Cause]:
    errors: list[Cause] = []
    grace = spec.get("terminationGracePeriodSeconds") or 0
    host_users = spec.get("hostUsers") is not False
    seen: set[str] = set()
    host_ports: set[str] = set()
    if not spec.get("containers"):
        errors.append(required(f"{path}.containers"))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            at = f"{path}.{kind}[{index}]"
            errors += validate_container(container, volumes, host_users, at)
            name = container.get("name")
            if name in seen:
                errors.append(duplicate(f"{at}.name", name))
            seen.add(name or "")
            errors += _claimed(container, spec, f"{at}.resources.claims")
            if kind == "ephemeralContainers":
                errors += _ephemeral(container, spec, at)
                continue
            if kind == "initContainers":
                errors += validate_init_restart(container, at)
            errors += validate_hooks(container, grace, at)
            if container.get("ports"):
                ports = host_ports if kind == "containers" else set()
                errors += _host_ports(container["ports"], ports, bool(spec.get("hostNetwork")), f"{at}.ports")
    return errors


def _claimed(container: Obj, spec: Obj, path: str) -> list[Cause]:
    """What a container claims, the pod must have claimed."""
    claims = (container.get("resources") or {}).get("claims")
    if not claims:
        return []
    errors: list[Cause] = []
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[tuple[Any, Any]] = set()
    for index, claim in enumerate(claims):
        name, key = claim.get("name"), (claim.get("name"), claim.get("request"))
        if key in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        elif name and name not in known:
            errors.append(field_not_found(f"{path}[{index}]", name))
        seen.add(key)
    return errors


def _host_ports(ports: list[Obj], seen: set[str], on_host: bool, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, port in enumerate(ports):
        host = port.get("hostPort")
        if on_host and host != port.get("containerPort"):
            why = "must match `hostPort` when `hostNetwork` is true"
            errors.append(invalid_value(f"{path}[{index}].containerPort", port.get("containerPort"), why))
        if host:
            taken = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{host}"
            if taken in seen:
                errors.append(duplicate(f"{path}[{index}].hostPort", taken))
            seen.add(taken)
    return errors


_NOT_EPHEMERAL = ("ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "resources", "resizePolicy")


def _ephemeral(container: Obj, spec: Obj, path: str) -> list[Cause]:
    errors = [
        Cause("FieldValueForbidden", "Forbidden: cannot be set for an Ephemeral Container", f"{path}.{key}")
        for key in _NOT_EPHEMERAL
        if container.get(key)
    ]
    target = container.get("targetContainerName")
    others = {other.get("name") for kind in ("containers", "initContainers") for other in spec.get(kind) or ()}
    if target and target not in others:
        errors.append(Cause("FieldValueNotFound", f'Not found: "{target}"', f"{path}.targetContainerName"))
    return errors


# Fields that few pods have: each rule is given the value, the spec and the path.


def _node_selector(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return names.label_errors(value, path)


def _subdomain(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return every(path, value, names.is_dns_subdomain(value))


def _label(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return every(path, value, names.is_dns_label(value))


def _affinity(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return validate_affinity(value, path)


def _spread(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return validate_spread(value, path)


def _aliases(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return [error for alias in value for error in validate_host_alias(alias, path)]


def _dns_config(config: Any, spec: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if spec.get("dnsPolicy") == "None" and not servers:
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        errors.append(required(f"{path}.nameservers", why))
    if len(servers) > MAX_DNS_SERVERS:
        why = f"must not have more than {MAX_DNS_SERVERS} nameservers"
        errors.append(invalid_value(f"{path}.nameservers", servers, why))
    for index, server in enumerate(servers):
        errors += every(f"{path}.nameservers[{index}]", server, names.is_ip(server))
    if len(searches) > MAX_DNS_SEARCHES:
        why = f"must not have more than {MAX_DNS_SEARCHES} search paths"
        errors.append(invalid_value(f"{path}.searches", searches, why))
    for index, search in enumerate(searches):
        if search != ".":
            bare = search.removesuffix(".").replace("_", "-")
            errors += every(f"{path}.searches[{index}]", search, names.is_dns_subdomain(bare))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))
    return errors


def _gates(gates: Any, _spec: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, gate in enumerate(gates):
        name = gate.get("name") or ""
        errors += every(f"{path}[{index}]", name, names.is_qualified_name(name))
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return errors


def _readiness_gates(gates: Any, _spec: Obj, path: str) -> list[Cause]:
    return [
        error
        for index, gate in enumerate(gates)
        for error in every(
            f"{path}[{index}].conditionType",
            gate.get("conditionType") or "",
            names.is_qualified_name(gate.get("conditionType") or ""),
        )
    ]


def _preemption(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return optional_one_of(path, value, ("Never", "PreemptLowerPriority"))


def _overhead(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return validate_overhead(value, path)


def _pod_resources(value: Any, _spec: Obj, path: str) -> list[Cause]:
    return validate_resources(value, path)


def _os(value: Any, spec: Obj, path: str) -> list[Cause]:
    bad = one_of(f"{path}.name", value.get("name"), ("linux", "windows"))
    return bad or validate_for_os(value["name"], spec, path.removesuffix(".os"))


def _claims(claims: Any, _spec: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    sources = ("resourceClaimName", "resourceClaimTemplateName")
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim.get("name") or ""
        errors += every(f"{at}.name", name, names.is_dns_label(name)) if name else [required(f"{at}.name")]
        if name and name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        present = [key for key in sources if claim.get(key) is not None]
        if len(present) > 1:
            why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_value(at, claim, why))
        if not present:
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid_value(at, claim, why))
        for key in present:
            errors += every(f"{at}.{key}", claim[key], names.is_dns_subdomain(claim[key]))
    return errors


_RARE: dict[str, Any] = {
    "affinity": _affinity,
    "dnsConfig": _dns_config,
    "hostAliases": _aliases,
    "hostname": _label,
    "nodeName": _subdomain,
    "nodeSelector": _node_selector,
    "os": _os,
    "overhead": _overhead,
    "preemptionPolicy": _preemption,
    "priorityClassName": _subdomain,
    "readinessGates": _readiness_gates,
    "resourceClaims": _claims,
    "resources": _pod_resources,
    "runtimeClassName": _subdomain,
    "schedulingGates": _gates,
    "subdomain": _label,
    "topologySpreadConstraints": _spread,
}


def validate_template(template: Obj, path: str) -> list[Cause]:
    """A pod template: labels, annotations and spec; it has no name to judge."""
    meta = template.get("metadata") or {}
    errors = names.label_errors(meta.get("labels") or {}, f"{path}.labels")
    errors += names.annotation_errors(meta.get("annotations") or {}, f"{path}.annotations")
    spec = template.get("spec") or {}
    errors += validate_pod_spec(spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        why = "Forbidden: ephemeral containers not allowed in pod template"
        errors.append(Cause("FieldValueForbidden", why, f"{path}.spec.ephemeralContainers"))
    return errors
