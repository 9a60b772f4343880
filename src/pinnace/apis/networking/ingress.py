"""Ingresses and their classes: which service answers for a host and path.

Specified in https://kubernetes.io/docs/concepts/services-networking/ingress/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import domain_prefixed_path, every, one_of, unchanged
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, required, too_long
from pinnace.machinery.meta import Obj, annotations_of

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


def prepare(ingress: Obj, old: Obj | None) -> None:
    if old is None:
        ingress["status"] = {"loadBalancer": {}}


def validate(ingress: Obj) -> list[Cause]:
    spec = spec_of(ingress)
    errors: list[Cause] = []
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        why = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid_value("spec", rules, why))
    if backend is not None:
        errors += _backend(backend, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        errors += _rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        for place, host in enumerate(tls.get("hosts") or ()):
            errors += _host(host, f"spec.tls[{index}].hosts[{place}]")
        if tls.get("secretName"):
            errors += every(
                f"spec.tls[{index}].secretName", tls["secretName"], names.is_dns_subdomain(tls["secretName"])
            )
    class_name = spec.get("ingressClassName")
    if class_name is not None:
        errors += every("spec.ingressClassName", class_name, names.is_dns_subdomain(class_name))
    return errors


def validate_new(ingress: Obj) -> list[Cause]:
    """The annotation that came before the field stays with old objects alone."""
    class_name = annotations_of(ingress).get(_CLASS_ANNOTATION)
    if class_name is None or spec_of(ingress).get("ingressClassName") is None:
        return validate(ingress)
    why = "can not be set when the class field is also set"
    return [*validate(ingress), invalid_value(f"annotations.{_CLASS_ANNOTATION}", class_name, why)]


def _host(host: str, path: str) -> list[Cause]:
    check = names.is_wildcard_subdomain if "*" in host else names.is_dns_subdomain
    return every(path, host, check(host))


def _rule(rule: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    host = rule.get("host")
    if host:
        if not names.is_ip(host):
            errors.append(invalid_value(f"{path}.host", host, "must be a DNS name, not an IP address"))
        else:
            errors += _host(host, f"{path}.host")
    if rule.get("http") is not None:
        paths = rule["http"].get("paths") or []
        if not paths:
            errors.append(required(f"{path}.http.paths"))
        for index, one in enumerate(paths):
            errors += _path(one, f"{path}.http.paths[{index}]")
    return errors


def _path(one: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    kind, where = one.get("pathType"), one.get("path") or ""
    if kind is None:
        errors.append(required(f"{path}.pathType", "pathType must be specified"))
    elif kind not in PATH_TYPES:
        errors += one_of(f"{path}.pathType", kind, PATH_TYPES)
    elif kind == "ImplementationSpecific":
        if where and not where.startswith("/"):
            errors.append(invalid_value(f"{path}.path", where, "must be an absolute path"))
    else:
        if not where.startswith("/"):
            errors.append(invalid_value(f"{path}.path", where, "must be an absolute path"))
        errors += [
            invalid_value(f"{path}.path", where, f"must not contain '{bad}'") for bad in _BAD_PARTS if bad in where
        ]
        errors += [
            invalid_value(f"{path}.path", where, f"cannot end with '{bad}'") for bad in _BAD_ENDS if where.endswith(bad)
        ]
    return errors + _backend(one.get("backend") or {}, f"{path}.backend")


def _backend(backend: Obj, path: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [invalid_value(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [required(f"{path}.resource.{key}") for key in ("kind", "name") if not resource.get(key)]
    if service is None:
        return [required(path)]
    errors: list[Cause] = []
    if not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    else:
        errors += every(f"{path}.service.name", service["name"], names.is_dns_1035_label(service["name"]))
    port = service.get("port") or {}
    number, port_name = port.get("number"), port.get("name")
    if number and port_name:
        errors.append(invalid_value(path, "", "cannot set both port name & port number"))
    elif port_name:
        errors += every(f"{path}.service.port.name", port_name, names.is_port_name(port_name))
    elif number:
        errors += every(f"{path}.service.port.number", number, names.is_port_number(number))
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def row(ingress: Obj, now: datetime) -> list[Any]:
    spec = spec_of(ingress)
    class_name = spec.get("ingressClassName") or annotations_of(ingress).get(_CLASS_ANNOTATION) or NONE
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    balancer = status_of(ingress).get("loadBalancer") or {}
    addresses = [one.get("ip") or one.get("hostname") or "" for one in balancer.get("ingress") or ()]
    ports = "80, 443" if spec.get("tls") else "80"
    return [name(ingress), class_name, _hosts(hosts), ",".join(addresses), ports, age(ingress, now)]


def _hosts(hosts: list[str]) -> str:
    if not hosts:
        return "*"
    text = ",".join(hosts[:3])
    return f"{text} + {len(hosts) - 3} more..." if len(hosts) > 3 else text


INGRESS = Rules(
    columns=(NAME, column("Class"), column("Hosts"), column("Address"), column("Ports"), AGE),
    row=row,
    validate=validate_new,
    validate_when_updated=validate,
    prepare=prepare,
)


_CONTROLLER_LENGTH = 250


def default_class(ingress_class: Obj) -> None:
    parameters = spec_of(ingress_class).get("parameters")
    if parameters is not None and not parameters.get("scope"):
        parameters["scope"] = "Cluster"


def validate_class(ingress_class: Obj) -> list[Cause]:
    spec = spec_of(ingress_class)
    controller = spec.get("controller") or ""
    errors = [too_long("spec.controller", _CONTROLLER_LENGTH)] if len(controller) > _CONTROLLER_LENGTH else []
    errors += domain_prefixed_path("spec.controller", controller)
    if spec.get("parameters") is not None:
        errors += _parameters(spec["parameters"], "spec.parameters")
    return errors


def _parameters(parameters: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if parameters.get("apiGroup"):
        errors += every(f"{path}.apiGroup", parameters["apiGroup"], names.is_dns_subdomain(parameters["apiGroup"]))
    for key in ("kind", "name"):
        value = parameters.get(key)
        bad = every(f"{path}.{key}", value, names.is_path_segment(value)) if value else None
        errors += [required(f"{path}.{key}", f"{key} is required")] if bad is None else bad
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    errors += one_of(f"{path}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Cluster" and namespace is not None:
        errors.append(field_forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    if scope == "Namespace":
        missing = [required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")]
        errors += every(f"{path}.namespace", namespace, names.is_dns_label(namespace)) if namespace else missing
    return errors


def validate_class_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.controller", spec_of(new).get("controller"), spec_of(old).get("controller"))


def row_class(ingress_class: Obj, now: datetime) -> list[Any]:
    spec = spec_of(ingress_class)
    parameters = spec.get("parameters")
    shown = NONE
    if parameters:
        group = parameters.get("apiGroup")
        shown = f"{parameters.get('kind')}.{group}/" if group else f"{parameters.get('kind')}/"
        shown += str(parameters.get("name"))
    return [name(ingress_class), spec.get("controller") or "", shown, age(ingress_class, now)]


INGRESS_CLASS = Rules(
    columns=(NAME, column("Controller"), column("Parameters"), AGE),
    row=row_class,
    default=default_class,
    validate=validate_class,
    validate_update=validate_class_update,
)
