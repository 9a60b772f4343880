"""The rules for one container of a pod: its name, image, ports, environment, mounts, probes and resources.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container. Every pod that is
created comes through here, so the common case is a look at each field and nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pinnace.apis.checks import NOT_NEGATIVE, amount, every, good_key, one_of, port_or_name
from pinnace.apis.core.security import validate_container_security
from pinnace.machinery import names
from pinnace.machinery.errors import (
    Cause,
    duplicate,
    field_forbidden,
    field_not_found,
    invalid_value,
    not_supported,
    required,
)
from pinnace.machinery.meta import Obj

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")

_is_label = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?").fullmatch
_is_env_name = re.compile("[ -<>-~]+").fullmatch


def validate_container(container: Obj, volumes: Mapping[str, str], host_users: bool, path: str) -> list[Cause]:
    """What all containers must be; `volumes` maps the pod's volume names to their source."""
    errors: list[Cause] = []
    get = container.get
    name = get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    elif not _is_label(name):
        errors += every(f"{path}.name", name, names.is_dns_label(name))
    image = get("image")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image[0] == " " or image[-1] == " " or image != image.strip():
        errors.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if get("terminationMessagePolicy") not in ("File", "FallbackToLogsOnError"):
        options = ("FallbackToLogsOnError", "File")
        errors += one_of(f"{path}.terminationMessagePolicy", get("terminationMessagePolicy"), options)
    if ports := get("ports"):
        errors += _ports(ports, f"{path}.ports")
    if env := get("env"):
        errors += _env(env, f"{path}.env")
    if sources := get("envFrom"):
        errors += _env_from(sources, f"{path}.envFrom")
    if mounts := get("volumeMounts"):
        errors += _mounts(mounts, volumes, f"{path}.volumeMounts", container)
    if devices := get("volumeDevices"):
        errors += _devices(devices, get("volumeMounts") or [], volumes, f"{path}.volumeDevices")
    if get("imagePullPolicy") not in PULL_POLICIES:
        errors += one_of(f"{path}.imagePullPolicy", get("imagePullPolicy"), PULL_POLICIES)
    if resources := get("resources"):
        errors += validate_resources(resources, f"{path}.resources")
    if context := get("securityContext"):
        errors += validate_container_security(context, host_users, f"{path}.securityContext")
    if "restartPolicy" in container and get("restartPolicy") not in (None, "Always", "Never", "OnFailure"):
        errors.append(not_supported(f"{path}.restartPolicy", get("restartPolicy"), ("Always", "Never", "OnFailure")))
    return errors


def validate_hooks(container: Obj, grace: int, path: str) -> list[Cause]:
    """Probes and lifecycle handlers, of a container that may have them; `grace` is the pod's, in seconds."""
    errors: list[Cause] = []
    if lifecycle := container.get("lifecycle"):
        for hook in ("postStart", "preStop"):
            if lifecycle.get(hook) is not None:
                errors += _handler(lifecycle[hook], grace, f"{path}.lifecycle.{hook}")
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(kind):
            errors += _probe(probe, f"{path}.{kind}")
            if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
                errors.append(invalid_value(f"{path}.{kind}.successThreshold", probe["successThreshold"], "must be 1"))
            if kind == "readinessProbe" and probe.get("terminationGracePeriodSeconds") is not None:
                grace_path = f"{path}.{kind}.terminationGracePeriodSeconds"
                why = "must not be set for readinessProbes"
                errors.append(invalid_value(grace_path, probe["terminationGracePeriodSeconds"], why))
    return errors


def _ports(ports: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        if name := port.get("name"):
            bad = names.is_port_name(name)
            errors += every(f"{at}.name", name, bad)
            if not bad and name in seen:
                errors.append(duplicate(f"{at}.name", name))
            seen.add(name)
        number = port.get("containerPort")
        if not number:
            errors.append(required(f"{at}.containerPort"))
        elif not 1 <= number <= 65535:
            errors += every(f"{at}.containerPort", number, names.is_port_number(number))
        host = port.get("hostPort")
        if host and not 1 <= host <= 65535:
            errors += every(f"{at}.hostPort", host, names.is_port_number(host))
        if port.get("protocol") not in PROTOCOLS:
            errors += one_of(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
    return errors


_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_NO_ENV_SOURCE = (
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
)
_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_FIELDS = (*_ENV_FIELDS, "metadata.annotations", "metadata.labels", "spec.restartPolicy", "status.phase")
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]")
_ENV_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)


def _env(env: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, variable in enumerate(env):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}[{index}].name"))
        elif not _is_env_name(name):
            errors += every(f"{path}[{index}].name", name, names.is_relaxed_env_var_name(name))
        if variable.get("valueFrom") is not None:
            errors += _env_source(variable, f"{path}[{index}].valueFrom")
    return errors


def _env_source(variable: Obj, path: str) -> list[Cause]:
    source = variable["valueFrom"]
    present = [kind for kind in _ENV_SOURCES if source.get(kind) is not None]
    if not present:
        return [invalid_value(path, "", _NO_ENV_SOURCE)]
    if variable.get("value"):
        return [invalid_value(path, "", "may not be specified when `value` is not empty")]
    if len(present) > 1:
        return [invalid_value(path, "", "may not have more than one field specified at a time")]
    kind = present[0]
    given, at = source[kind], f"{path}.{kind}"
    if kind == "fieldRef":
        return validate_field_ref(given, _ENV_FIELDS, at)
    if kind == "resourceFieldRef":
        return validate_resource_ref(given, at, volume=False)
    if kind == "fileKeyRef":
        return [required(f"{at}.{key}") for key in ("volumeName", "path", "key") if not given.get(key)]
    errors = [] if given.get("name") else [required(f"{at}.name")]
    if not given.get("key"):
        return [*errors, required(f"{at}.key")]
    return errors + every(f"{at}.key", given["key"], names.is_config_key(given["key"]))


def validate_field_ref(ref: Obj, fields: tuple[str, ...], path: str) -> list[Cause]:
    """A path into the pod itself, one of `fields` or one label or annotation."""
    if not ref.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    field = ref.get("fieldPath")
    if not field:
        return [required(f"{path}.fieldPath")]
    if subscript := _SUBSCRIPT.fullmatch(field):
        key = subscript[2]
        checked = key.lower() if subscript[1].endswith("annotations") else key
        return every(f"{path}.fieldPath", field, names.is_qualified_name(checked))
    if field not in _KNOWN_FIELDS:
        why = f"error converting fieldPath: field label not supported: {field}"
        return [invalid_value(f"{path}.fieldPath", field, why)]
    return [] if field in fields else [not_supported(f"{path}.fieldPath", field, fields)]


def validate_resource_ref(ref: Obj, path: str, *, volume: bool) -> list[Cause]:
    """A container's own limit or request; a volume must say whose."""
    if volume and not ref.get("containerName"):
        return [required(f"{path}.containerName")]
    resource = ref.get("resource")
    if not resource:
        return [required(f"{path}.resource")]
    if resource not in _ENV_RESOURCES and not resource.startswith(("limits.hugepages-", "requests.hugepages-")):
        return [not_supported(f"{path}.resource", resource, _ENV_RESOURCES)]
    return []


def _env_from(sources: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, source in enumerate(sources):
        at = f"{path}[{index}]"
        if prefix := source.get("prefix"):
            errors += every(f"{at}.prefix", prefix, names.is_relaxed_env_var_name(prefix))
        present = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in present:
            if not source[kind].get("name"):
                errors.append(required(f"{at}.{kind}.name"))
        if not present:
            errors.append(invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(present) > 1:
            errors.append(invalid_value(at, "", "may not have more than one field specified at a time"))
    return errors


def local_path(field: str, path: str) -> list[Cause]:
    """A relative path that stays below where it starts."""
    if path.startswith("/"):
        return [invalid_value(field, path, "must be a relative path")]
    return no_backsteps(field, path)


def no_backsteps(field: str, path: str) -> list[Cause]:
    return [invalid_value(field, path, "must not contain '..'")] if ".." in path.split("/") else []


def _mounts(mounts: list[Obj], volumes: Mapping[str, str], path: str, container: Obj) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, mount in enumerate(mounts):
        name, where = mount.get("name"), mount.get("mountPath")
        if not name:
            errors.append(required(f"{path}[{index}].name"))
        elif name not in volumes:
            errors.append(field_not_found(f"{path}[{index}].name", name))
        if not where:
            errors.append(required(f"{path}[{index}].mountPath"))
        elif where in seen:
            errors.append(invalid_value(f"{path}[{index}].mountPath", where, "must be unique"))
        seen.add(where)
        if len(mount) > 2:
            errors += _mount_options(mount, f"{path}[{index}]", container)
    return errors


def _mount_options(mount: Obj, path: str, container: Obj) -> list[Cause]:
    errors: list[Cause] = []
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        errors += local_path(f"{path}.subPath", sub)
    if expression:
        if sub:
            why = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid_value(f"{path}.subPathExpr", expression, why))
        errors += local_path(f"{path}.subPathExpr", expression)
    propagation = mount.get("mountPropagation")
    options = ("Bidirectional", "HostToContainer", "None")
    if propagation is not None and propagation not in options:
        errors.append(not_supported(f"{path}.mountPropagation", propagation, options))
    if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        why = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(field_forbidden(f"{path}.mountPropagation", why))
    recursive = mount.get("recursiveReadOnly")
    if recursive is not None:
        if recursive not in ("Disabled", "Enabled", "IfPossible"):
            options = ("Disabled", "Enabled", "IfPossible")
            errors.append(not_supported(f"{path}.recursiveReadOnly", recursive, options))
        elif recursive != "Disabled" and not mount.get("readOnly"):
            why = "may only be specified when readOnly is true"
            errors.append(field_forbidden(f"{path}.recursiveReadOnly", why))
    return errors


def _devices(devices: list[Obj], mounts: list[Obj], volumes: Mapping[str, str], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen_names, seen_paths = set(), set()
    mounted = {mount.get("name") for mount in mounts}
    for index, device in enumerate(devices):
        at = f"{path}[{index}]"
        name, where = device.get("name"), device.get("devicePath")
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in seen_names:
            errors.append(invalid_value(f"{at}.name", name, "must be unique"))
        elif name not in volumes:
            errors.append(field_not_found(f"{at}.name", name))
        elif volumes[name] not in ("persistentVolumeClaim", "ephemeral"):
            why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_value(f"{at}.name", name, why))
        if not where:
            errors.append(required(f"{at}.devicePath"))
        elif where in seen_paths:
            errors.append(invalid_value(f"{at}.devicePath", where, "must be unique"))
        if name in mounted:
            errors.append(invalid_value(f"{at}.name", name, "must not already exist in volumeMounts"))
        seen_names.add(name)
        seen_paths.add(where)
    return errors


_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def _probe(probe: Obj, path: str) -> list[Cause]:
    errors = _handler(probe, 0, path)
    for key in _PROBE_NUMBERS:
        if (probe.get(key) or 0) < 0:
            errors.append(invalid_value(f"{path}.{key}", probe[key], NOT_NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return errors


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def _handler(handler: Obj, grace: int, path: str) -> list[Cause]:
    present = [kind for kind in _HANDLERS if handler.get(kind) is not None]
    if not present:
        return [required(path, "must specify a handler type")]
    errors = [field_forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in present[1:]]
    kind = present[0]
    return errors + _action(kind, handler[kind], grace, f"{path}.{kind}")


def _action(kind: str, action: Obj, grace: int, path: str) -> list[Cause]:
    if kind == "exec":
        return [] if action.get("command") else [required(f"{path}.command")]
    if kind == "httpGet":
        errors = [] if action.get("path") else [required(f"{path}.path")]
        errors += port_or_name(f"{path}.port", action.get("port"))
        errors += one_of(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
        for index, header in enumerate(action.get("httpHeaders") or ()):
            name = header.get("name") or ""
            errors += every(f"{path}.httpHeaders[{index}].name", name, names.is_http_header_name(name))
        return errors
    if kind == "sleep":
        seconds = action.get("seconds") or 0
        if seconds < 0 or seconds > grace:
            why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            return [invalid_value(path, seconds, why)]
        return []
    return port_or_name(f"{path}.port", action.get("port"))


_STANDARD = frozenset(("cpu", "memory", "ephemeral-storage", "storage"))
_CONTAINER_STANDARD = frozenset(("cpu", "memory", "ephemeral-storage"))


def validate_resources(resources: Obj, path: str) -> list[Cause]:
    """`limits` and `requests`, and that no request is above its limit."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    errors: list[Cause] = []
    for name, text in limits.items():
        errors += _resource(name, text, f"{path}.limits")
    for name, text in requests.items():
        errors += _resource(name, text, f"{path}.requests")
        limit = limits.get(name)
        if limit == text:
            continue
        if limit is not None:
            errors += _within(name, text, limit, f"{path}.requests")
        elif not _overcommits(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    for index, claim in enumerate(resources.get("claims") or ()):
        if not claim.get("name"):
            errors.append(required(f"{path}.claims[{index}].name"))
    return errors


def _overcommits(name: str) -> bool:
    """Kubernetes' own resources may be asked for less than the limit, but for huge pages."""
    return "/" not in name and not name.startswith("hugepages-")


def _resource(name: str, text: Any, path: str) -> list[Cause]:
    quantity = amount(text)
    if name in _CONTAINER_STANDARD and quantity is not None and quantity.amount >= 0:
        return []
    errors = _resource_name(name, f"{path}[{name}]" if good_key(name) else path)
    if quantity is not None and quantity.amount < 0:
        errors.append(invalid_value(f"{path}[{name}]", str(quantity), NOT_NEGATIVE))
    elif quantity is not None and "/" in name and quantity.amount != int(quantity.amount):
        errors.append(invalid_value(f"{path}[{name}]", str(quantity), "must be an integer"))
    return errors


def _resource_name(name: str, path: str) -> list[Cause]:
    if not good_key(name):
        return every(path, name, names.is_qualified_name(name))
    if "/" in name:
        return []
    if name not in _STANDARD and not name.startswith("hugepages-"):
        why = "must be a standard resource type or fully qualified"
        return [invalid_value(path, name, why), invalid_value(path, name, "must be a standard resource for containers")]
    if name == "storage":
        return [invalid_value(path, name, "must be a standard resource for containers")]
    return []


def _within(name: str, text: Any, limit: Any, path: str) -> list[Cause]:
    wanted, most = amount(text), amount(limit)
    if wanted is None or most is None or wanted == most:
        return []
    if not _overcommits(name):
        return [invalid_value(path, str(wanted), f"must be equal to {name} limit of {most}")]
    if wanted > most:
        return [invalid_value(path, str(wanted), f"must be less than or equal to {name} limit of {most}")]
    return []


def validate_overhead(overhead: Obj, path: str) -> list[Cause]:
    """What a runtime class adds to a pod's requests."""
    return [error for name, text in overhead.items() for error in _resource(name, text, path)]


def validate_init_restart(container: Obj, path: str) -> list[Cause]:
    """An init container that runs to its end has nothing to probe; one that stays is a sidecar and may."""
    if container.get("restartPolicy") == "Always":
        return []
    why = "may not be set for init containers without restartPolicy=Always"
    kinds = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    return [field_forbidden(f"{path}.{kind}", why) for kind in kinds if container.get(kind) is not None]
