"""What a HorizontalPodAutoscaler measures, asked of the metrics APIs that aggregated servers provide.

`metrics.k8s.io` knows what pods and containers use, `custom.metrics.k8s.io` metrics of pods and other objects,
`external.metrics.k8s.io` those of things outside the cluster. Values come back in thousandths. Specified by
https://github.com/kubernetes/metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from pinnace.client.client import Client
from pinnace.controllers.hpa_replicas import MetricError, Sample
from pinnace.controllers.served import Resource
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, get_in, name_of, parse_api_version, parse_time, utc_now
from pinnace.machinery.quantity import Quantity
from pinnace.machinery.selectors import LabelSelector

POD_METRICS = GVR("metrics.k8s.io", "v1beta1", "pods")
_CUSTOM = "/apis/custom.metrics.k8s.io"
_EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
_WINDOW = timedelta(minutes=1)  # of a custom metric that does not say

OfKind = Callable[[str, str], Resource | None]
"""The resource of a group and kind."""


class Metrics:
    """The three APIs; every error is a MetricError in Kubernetes' words."""

    def __init__(self, client: Client, of_kind: OfKind) -> None:
        self._client = client
        self._of_kind = of_kind

    async def of_resource(self, resource: str, namespace: str, selector: str, container: str = "") -> dict[str, Sample]:
        """Use of a resource by the pods, or by that container of each, by pod name."""
        try:
            listed = await self._client.list(POD_METRICS, namespace, label_selector=selector)
        except ApiError as error:
            why = _why(error, "get pods.metrics.k8s.io")
            raise MetricError(f"unable to fetch metrics from resource metrics API: {why}") from error
        if not listed.get("items"):
            raise MetricError("no metrics returned from resource metrics API")
        found = {}
        for item in listed["items"]:
            use = _use_of(item, resource, container)
            if use is not None:
                found[name_of(item)] = Sample(use, parse_time(item["timestamp"]), _window(item.get("window")))
        return found

    async def of_pods(self, metric: Obj, namespace: str, selector: str) -> dict[str, Sample]:
        """A custom metric of the pods, by pod name."""
        path = f"namespaces/{namespace}/pods/*/{metric['name']}"
        listed = await self._custom(path, f"get pods.custom.metrics.k8s.io {metric['name']}", metric, selector)
        if not listed.get("items"):
            raise MetricError("no metrics returned from custom metrics API")
        return {
            item["describedObject"]["name"]: Sample(
                Quantity.parse(item["value"]).milli_value(),
                parse_time(item["timestamp"]) if item.get("timestamp") else utc_now(),
                timedelta(seconds=item["windowSeconds"]) if item.get("windowSeconds") else _WINDOW,
            )
            for item in listed["items"]
        }

    async def of_object(self, metric: Obj, namespace: str, described: Obj) -> int:
        """A custom metric of one object."""
        group, _ = parse_api_version(described.get("apiVersion", ""))
        kind, name = described["kind"], described["name"]
        if (group, kind) == ("", "Namespace"):
            path = f"namespaces/{name}/metrics/{metric['name']}"
        else:
            resource = self._of_kind(group, kind)
            if resource is None:
                why = f'no matches for kind "{kind}" in group "{group}"'
                raise MetricError(f"unable to fetch metrics from custom metrics API: {why}")
            where = f"{resource.gvr.resource}.{group}" if group else resource.gvr.resource
            scope = f"namespaces/{namespace}/" if resource.namespaced else ""
            path = f"{scope}{where}/{name}/{metric['name']}"
        listed = await self._custom(path, f"get {path.split('/')[-3]}.custom.metrics.k8s.io {name}", metric)
        if not listed.get("items"):
            raise MetricError("no metrics returned from custom metrics API")
        return Quantity.parse(listed["items"][0]["value"]).milli_value()

    async def of_outside(self, metric: Obj, namespace: str) -> int:
        """The sum of an external metric's values."""
        path = f"{_EXTERNAL}/namespaces/{namespace}/{metric['name']}"
        params = {"labelSelector": _text(metric["selector"])} if metric.get("selector") else {}
        try:
            listed = await self._client.transport.request("GET", path, params=params)
        except ApiError as error:
            why = _why(error, f"get {metric['name']}.external.metrics.k8s.io")
            raise MetricError(f"unable to fetch metrics from external metrics API: {why}") from error
        if not listed.get("items"):
            raise MetricError("no metrics returned from external metrics API")
        return sum(Quantity.parse(item["value"]).milli_value() for item in listed["items"])

    async def _custom(self, path: str, what: str, metric: Obj, selector: str = "") -> Obj:
        params = {"labelSelector": selector} if selector else {}
        if metric.get("selector"):
            params["metricLabelSelector"] = _text(metric["selector"])
        try:
            group = await self._client.transport.request("GET", _CUSTOM)
            version = get_in(group, "preferredVersion", "version", default="v1beta2")
            return await self._client.transport.request("GET", f"{_CUSTOM}/{version}/{path}", params=params)
        except ApiError as error:
            raise MetricError(f"unable to fetch metrics from custom metrics API: {_why(error, what)}") from error


def _text(selector: Obj) -> str:
    return str(LabelSelector.from_json(selector))


def _why(error: ApiError, what: str) -> str:
    """The error's message; where nobody serves the group, what client-go says of that."""
    if error.is_not_found and not get_in(error.details, "name"):
        return f"the server could not find the requested resource ({what})"
    return error.message


def _use_of(item: Obj, resource: str, container: str) -> int | None:
    """What a pod, or one container of it, uses; None where that is not known of all it is made of."""
    containers = item.get("containers") or ()
    if container:
        containers = [one for one in containers if one["name"] == container]
        if not containers:
            where = f"{item['metadata'].get('namespace', '')}/{name_of(item)}"
            raise MetricError(
                f"failed to get container metrics: container {container} not present in metrics for pod {where}"
            )
    uses = [get_in(one, "usage", resource) for one in containers]
    if any(use is None for use in uses):
        return None
    return sum(Quantity.parse(use).milli_value() for use in uses)


def _window(text: str | None) -> timedelta:
    return timedelta(seconds=parse_duration(text)) if text else _WINDOW
