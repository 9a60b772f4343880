"""A container's environment: literal values, references, whole ConfigMaps and Secrets, and the services' addresses.

Pure but for the `Source` that fetches ConfigMaps and Secrets. Specified by
https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/ and
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from pinnace.kubelet.pods import find_container, pod_hostname
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, get_in, labels_of, name_of, namespace_of, uid_of
from pinnace.machinery.quantity import Quantity

Fetch = Callable[[str, str, str], Awaitable[Obj]]
"""`(kind, namespace, name)` to a ConfigMap or Secret; raises ApiError NotFound."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.*)'\]$")
_ENV_NAME = re.compile(r"^[^=\x00-\x1f\x7f-\uffff]+$")


class ConfigError(Exception):
    """The container cannot be configured as asked: waiting reason CreateContainerConfigError."""


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$` is a dollar sign; names that are not known stay as written."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return known.get(name, match.group(0))

    return _REFERENCE.sub(value, text)


def referred(text: str) -> set[str]:
    """The names that a text refers to as `$(NAME)`."""
    return {match.group(1) for match in _REFERENCE.finditer(text) if match.group(1) is not None}


def service_environment(services: Iterable[Obj], namespace: str, enable_links: bool) -> dict[str, str]:
    """Variables for the API server's service and, with service links, for those of the pod's namespace."""
    chosen: dict[str, Obj] = {}
    for service in services:
        address = service["spec"].get("clusterIP")
        if not address or address == "None":
            continue
        name = name_of(service)
        if namespace_of(service) == namespace and enable_links:
            chosen[name] = service
        elif namespace_of(service) == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
    found: dict[str, str] = {}
    for service in chosen.values():
        found.update(_one_service(service))
    return found


def _one_service(service: Obj) -> dict[str, str]:
    prefix = name_of(service).upper().replace("-", "_")
    address = service["spec"]["clusterIP"]
    ports = service["spec"].get("ports") or []
    if not ports:
        return {}
    host = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            found[f"{prefix}_PORT"] = url
        each = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        found[each] = url
        found[f"{each}_PROTO"] = protocol.lower()
        found[f"{each}_PORT"] = str(port["port"])
        found[f"{each}_ADDR"] = address
    return found


class PodFacts:
    """What field and resource references may ask of a pod and its node."""

    def __init__(
        self,
        pod: Obj,
        *,
        host_ips: list[str],
        pod_ips: list[str],
        allocatable: Mapping[str, int],
        cluster_domain: str = "cluster.local",
    ) -> None:
        self.pod = pod
        self.host_ips = host_ips
        self.pod_ips = pod_ips
        self.allocatable = allocatable  # cpu in millicores, memory and ephemeral-storage in bytes
        self.cluster_domain = cluster_domain

    def field(self, path: str) -> str:
        """The value at a `fieldPath`; raises ConfigError for one that is not supported."""
        pod, spec = self.pod, self.pod["spec"]
        match = _SUBSCRIPT.match(path)
        if match:
            members = labels_of(pod) if match.group(1) == "labels" else annotations_of(pod)
            return members.get(match.group(2), "")
        simple: dict[str, Callable[[], str]] = {
            "metadata.name": lambda: name_of(pod),
            "metadata.namespace": lambda: namespace_of(pod),
            "metadata.uid": lambda: uid_of(pod),
            "metadata.labels": lambda: format_map(labels_of(pod)),
            "metadata.annotations": lambda: format_map(annotations_of(pod)),
            "spec.nodeName": lambda: str(spec.get("nodeName", "")),
            "spec.serviceAccountName": lambda: str(spec.get("serviceAccountName", "")),
            "spec.hostname": lambda: pod_hostname(pod, self.cluster_domain)[0],
            "status.hostIP": lambda: next(iter(self.host_ips), ""),
            "status.hostIPs": lambda: ",".join(self.host_ips),
            "status.podIP": lambda: next(iter(self.pod_ips), ""),
            "status.podIPs": lambda: ",".join(self.pod_ips),
        }
        if path not in simple:
            raise ConfigError(f"unsupported fieldPath: {path}")
        return simple[path]()

    def resource(self, selector: Obj, container_name: str) -> str:
        """The value of a `resourceFieldRef`, divided and rounded up."""
        name = selector.get("containerName") or container_name
        container = find_container(self.pod, name)
        if container is None:
            raise ConfigError(f"container {name} not found")
        return resource_value(selector, container, self.allocatable)


def resource_value(selector: Obj, container: Obj, allocatable: Mapping[str, int]) -> str:
    """`limits.cpu`, `requests.memory` …: limits that are not set are what the node can give."""
    kind, _, resource = str(selector["resource"]).partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource)
    divisor = Quantity.parse(str(selector.get("divisor") or "1"))
    if divisor.milli_value() == 0:
        divisor = Quantity.parse("1")
    if text is not None:
        milli = Quantity.parse(str(text)).milli_value()
    elif kind == "limits" and resource in allocatable:
        milli = allocatable[resource] * (1 if resource == "cpu" else 1000)
    else:
        milli = 0
    return str(-(-milli // divisor.milli_value()))


def format_map(members: Mapping[str, str]) -> str:
    """`key="value"` lines in the order of their keys, as the downward API writes labels."""
    return "\n".join(f"{name}={_quoted(members[name])}" for name in sorted(members))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def data_of(obj: Obj, kind: str) -> dict[str, bytes]:
    """The members of a ConfigMap or Secret as bytes."""
    if kind == "Secret":
        return {name: base64.b64decode(value) for name, value in (obj.get("data") or {}).items()}
    found = {name: value.encode() for name, value in (obj.get("data") or {}).items()}
    found.update({name: base64.b64decode(value) for name, value in (obj.get("binaryData") or {}).items()})
    return found


class Environment:
    """Builds the environment of one container after the other of a pod."""

    def __init__(
        self,
        facts: PodFacts,
        fetch: Fetch,
        services: Mapping[str, str],
        read_file: Callable[[Obj], str | None] = lambda _reference: None,
    ) -> None:
        self._facts = facts
        self._read_file = read_file  # the value of a `fileKeyRef`
        self._fetch = fetch
        self._services = services

    async def build(self, container: Obj) -> dict[str, str]:
        """Every variable in order; raises ConfigError in Kubernetes' words."""
        result: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            result.update(await self._whole(source))
        known = {**self._services, **result}
        for variable in container.get("env") or ():
            name = variable["name"]
            if variable.get("valueFrom"):
                value = await self._reference(variable["valueFrom"], container["name"])
                if value is None:
                    continue
            else:
                value = expand(variable.get("value") or "", known)
            result[name] = known[name] = value
        for name, value in self._services.items():
            result.setdefault(name, value)
        return result

    async def _whole(self, source: Obj) -> dict[str, str]:
        kind, key = ("Secret", "secretRef") if source.get("secretRef") else ("ConfigMap", "configMapRef")
        reference = source.get(key) or {}
        obj = await self._get(kind, reference)
        if obj is None:
            return {}
        prefix = source.get("prefix") or ""
        members = (
            data_of(obj, kind) if kind == "Secret" else {k: v.encode() for k, v in (obj.get("data") or {}).items()}
        )
        names = ((prefix + name, value) for name, value in members.items())
        return {name: value.decode(errors="replace") for name, value in names if _ENV_NAME.match(name)}

    async def _reference(self, source: Obj, container_name: str) -> str | None:
        if source.get("fieldRef"):
            return self._facts.field(source["fieldRef"]["fieldPath"])
        if source.get("resourceFieldRef"):
            return self._facts.resource(source["resourceFieldRef"], container_name)
        if source.get("fileKeyRef"):
            return self._read_file(source["fileKeyRef"])
        kind, key = ("Secret", "secretKeyRef") if source.get("secretKeyRef") else ("ConfigMap", "configMapKeyRef")
        reference = source.get(key)
        if not reference:
            return None
        obj = await self._get(kind, reference)
        if obj is None:
            return None
        value = data_of(obj, kind).get(reference["key"])
        if value is None:
            if reference.get("optional"):
                return None
            where = f"{namespace_of(self._facts.pod)}/{reference['name']}"
            raise ConfigError(f"couldn't find key {reference['key']} in {kind} {where}")
        return value.decode(errors="replace")

    async def _get(self, kind: str, reference: Any) -> Obj | None:
        namespace = namespace_of(self._facts.pod)
        try:
            return await self._fetch(kind, namespace, reference["name"])
        except ApiError as error:
            if error.is_not_found and reference.get("optional"):
                return None
            raise ConfigError(error.message) from error


def node_allocatable(node: Obj | None) -> dict[str, int]:
    """Allocatable of a Node in the units that `resource_value` takes."""
    allocatable = get_in(node or {}, "status", "allocatable", default={})
    found = {}
    for name in ("cpu", "memory", "ephemeral-storage"):
        if name in allocatable:
            quantity = Quantity.parse(str(allocatable[name]))
            found[name] = quantity.milli_value() if name == "cpu" else quantity.value()
    return found
