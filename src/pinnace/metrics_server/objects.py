"""What `metrics.k8s.io/v1beta1` looks like: its objects, its discovery and its OpenAPI. Pure.

Shapes are those of https://github.com/kubernetes/metrics, quantities written as metrics-server writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import orjson

from pinnace.machinery.meta import Obj, format_time, labels_of, name_of, namespace_of
from pinnace.machinery.quantity import Quantity
from pinnace.metrics_server.rates import Usage

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
BASE = f"/apis/{API_VERSION}"

_MODULE = "io.k8s.metrics.pkg.apis.metrics.v1beta1"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def node_metrics(node: Obj, usage: Usage, now: datetime) -> Obj:
    """NodeMetrics of a Node."""
    return {"metadata": _metadata(node, now), **_measured(usage), "usage": _usage(usage)}


def pod_metrics(pod: Obj, containers: Mapping[str, Usage], now: datetime) -> Obj:
    """PodMetrics of a Pod; time and window are those of the container measured first."""
    first = min(containers.values(), key=lambda usage: usage.when)
    listed = [{"name": name, "usage": _usage(usage)} for name, usage in containers.items()]
    return {"metadata": _metadata(pod, now), **_measured(first), "containers": listed}


def alone(kind: str, item: Obj) -> Obj:
    """An item that is an answer of its own."""
    return {"kind": kind, "apiVersion": API_VERSION, **item}


def listed(kind: str, items: Iterable[Obj]) -> Obj:
    """A list of items of a kind."""
    return {"kind": f"{kind}List", "apiVersion": API_VERSION, "metadata": {}, "items": list(items)}


def _metadata(obj: Obj, now: datetime) -> Obj:
    metadata: Obj = {"name": name_of(obj)}
    if namespace_of(obj):
        metadata["namespace"] = namespace_of(obj)
    metadata["creationTimestamp"] = format_time(now)
    if labels_of(obj):
        metadata["labels"] = labels_of(obj)
    return metadata


def _measured(usage: Usage) -> Obj:
    return {"timestamp": format_time(datetime.fromtimestamp(usage.when, UTC)), "window": duration(usage.window)}


def _usage(usage: Usage) -> dict[str, str]:
    nanocores = Decimal(round(usage.cpu * 1_000_000_000)).scaleb(-9)
    return {"cpu": str(Quantity(nanocores)), "memory": str(Quantity(int(usage.memory), "binary"))}


def duration(seconds: float) -> str:
    """Seconds, to the thousandth, as Go writes a duration: 15.012s, 1m0s."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{milliseconds / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{rest}"
    return f"{minutes}m{rest}" if minutes else rest


# Discovery.


def _resource(name: str, kind: str, namespaced: bool) -> Obj:
    return {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}


def discovery() -> dict[str, Obj]:
    """Documents by path: groups, the group, and its version's resources."""
    version = {"groupVersion": API_VERSION, "version": VERSION}
    group = {"name": GROUP, "versions": [version], "preferredVersion": version}
    resources = [_resource("nodes", "NodeMetrics", namespaced=False), _resource("pods", "PodMetrics", namespaced=True)]
    return {
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
        f"/apis/{GROUP}": {"kind": "APIGroup", "apiVersion": "v1", **group},
        BASE: {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": resources},
    }


# OpenAPI.


@cache
def openapi_v2() -> bytes:
    """The document of `/openapi/v2`."""
    paths = {path: _path(path, kind, "#/definitions/", version=2) for path, kind in _PATHS.items()}
    info = {"title": "Kubernetes metrics-server", "version": VERSION}
    return orjson.dumps({"swagger": "2.0", "info": info, "paths": paths, "definitions": _definitions("#/definitions/")})


@cache
def openapi_v3() -> bytes:
    """The document of the group's version below `/openapi/v3`."""
    prefix = "#/components/schemas/"
    paths = {path: _path(path, kind, prefix, version=3) for path, kind in _PATHS.items()}
    info = {"title": "Kubernetes metrics-server", "version": VERSION}
    components = {"schemas": _definitions(prefix)}
    return orjson.dumps({"openapi": "3.0.0", "info": info, "paths": paths, "components": components})


@cache
def openapi_v3_index() -> bytes:
    """The document of `/openapi/v3`: where the other is, with a hash that changes with it."""
    digest = hashlib.sha512(openapi_v3()).hexdigest().upper()
    where = {"serverRelativeURL": f"/openapi/v3{BASE}?hash={digest}"}
    return orjson.dumps({"paths": {BASE.removeprefix("/"): where}})


_PATHS = {
    f"{BASE}/nodes": "NodeMetricsList",
    f"{BASE}/nodes/{{name}}": "NodeMetrics",
    f"{BASE}/pods": "PodMetricsList",
    f"{BASE}/namespaces/{{namespace}}/pods": "PodMetricsList",
    f"{BASE}/namespaces/{{namespace}}/pods/{{name}}": "PodMetrics",
}


def _path(path: str, kind: str, prefix: str, version: int) -> Obj:
    """One path with its `get`."""
    reference = {"$ref": f"{prefix}{_MODULE}.{kind}"}
    content: Obj = {"schema": reference} if version == 2 else {"content": {"application/json": {"schema": reference}}}
    text: Obj = {"type": "string"} if version == 2 else {"schema": {"type": "string"}}
    action = "list" if kind.endswith("List") else "get"
    named = kind.removesuffix("List")
    scope = "Namespaced" if "{namespace}" in path else "ForAllNamespaces" if path.endswith("/pods") else ""
    operation: Obj = {
        "operationId": f"{action}MetricsV1beta1{scope}{named}",
        "responses": {"200": {"description": "OK", **content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": named},
    }
    if version == 2:
        operation["produces"] = ["application/json"]
    parameters = [
        {"name": name, "in": "path", "required": True, **text}
        for name in ("name", "namespace")
        if f"{{{name}}}" in path
    ]
    return {"get": operation, **({"parameters": parameters} if parameters else {})}


def _definitions(prefix: str) -> dict[str, Obj]:
    """Schemas by name; those of Kubernetes' own kinds say as little as will do here."""

    def reference(name: str, about: str) -> Obj:
        return (
            {"$ref": f"{prefix}{name}"}
            if prefix.startswith("#/d")
            else {"allOf": [{"$ref": f"{prefix}{name}"}]} | {"description": about}
        )

    usage = {
        "type": "object",
        "description": "What is used: cpu in cores, memory as the working set in bytes.",
        "additionalProperties": {"$ref": f"{prefix}{_QUANTITY}"},
    }
    common = {
        "apiVersion": {"type": "string", "description": "The version of the API that this object is written in."},
        "kind": {"type": "string", "description": "What this object is."},
    }
    measured = {
        **common,
        "metadata": reference(f"{_META}.ObjectMeta", "The name, the namespace and the labels of what was measured."),
        "timestamp": reference(f"{_META}.Time", "When the window ended."),
        "window": reference(f"{_META}.Duration", "How long the window was over which CPU was counted."),
    }

    def kind(name: str, about: str, properties: Obj, required: list[str]) -> tuple[str, Obj]:
        gvk = [{"group": GROUP, "version": VERSION, "kind": name}]
        shape = {"type": "object", "description": about, "properties": properties, "required": required}
        return f"{_MODULE}.{name}", {**shape, "x-kubernetes-group-version-kind": gvk}

    def list_of(name: str) -> tuple[str, Obj]:
        items = {"type": "array", "items": {"$ref": f"{prefix}{_MODULE}.{name}"}, "description": "One for each."}
        properties = {**common, "metadata": reference(f"{_META}.ListMeta", "Of the list."), "items": items}
        return kind(f"{name}List", f"A list of {name}.", properties, ["items"])

    containers = {
        "type": "array",
        "description": "What each container uses.",
        "items": {"$ref": f"{prefix}{_MODULE}.ContainerMetrics"},
    }
    container = {
        "type": "object",
        "description": "What a container uses.",
        "properties": {"name": {"type": "string", "description": "The container's name in its pod."}, "usage": usage},
        "required": ["name", "usage"],
    }
    span = ["timestamp", "window"]
    return {
        f"{_MODULE}.ContainerMetrics": container,
        **dict(
            (
                kind("NodeMetrics", "What a node uses.", {**measured, "usage": usage}, [*span, "usage"]),
                list_of("NodeMetrics"),
                kind("PodMetrics", "What a pod uses.", {**measured, "containers": containers}, [*span, "containers"]),
                list_of("PodMetrics"),
            )
        ),
        f"{_META}.ObjectMeta": {"type": "object"},
        f"{_META}.ListMeta": {"type": "object"},
        f"{_META}.Time": {"type": "string", "format": "date-time"},
        f"{_META}.Duration": {"type": "string"},
        _QUANTITY: {"type": "string"},
    }
