"""An autoscaler follows what its metrics say, and says why it does or cannot."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.registry import Registry
from pinnace.apis.resources import DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, PODS
from pinnace.client.client import Client
from pinnace.client.informer import InformerFactory
from pinnace.client.transport import JSON, Params
from pinnace.controllers.horizontalpodautoscaler import HorizontalPodAutoscalerController
from pinnace.controllers.hpa_replicas import Settings
from pinnace.controllers.served import ServedResources
from pinnace.machinery.errors import ApiError, no_such_path
from pinnace.machinery.meta import Obj, format_time, name_of, utc_now
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, messages, running
from tests.controllers.test_hpa_replicas import pod

KEY = "default/web"
UNREACHABLE = "the server could not find the requested resource"


class MeteredApi(FakeApi):
    """The fake API with the scale of a Deployment, and answers for the metrics APIs by path."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, Obj] = {}
        self.asked: list[tuple[str, Params]] = []
        self.selector = "app=web"

    async def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, content_type: str = JSON
    ) -> Obj:
        if "metrics.k8s.io" in path:
            self.asked.append((path, params or {}))
            if path not in self.metrics:
                raise no_such_path()
            return self.metrics[path]
        if not path.endswith("/scale"):
            return await super().request(method, path, params=params, body=body, content_type=content_type)
        whole = await super().request("GET", path.removesuffix("/scale"))
        if method == "PUT":
            spec = {**whole["spec"], "replicas": body["spec"]["replicas"]}
            whole = await super().request("PUT", path.removesuffix("/scale"), body={**whole, "spec": spec})
        metadata = {"name": name_of(whole), "namespace": "default"}
        replicas = whole["spec"]["replicas"]
        status = {"replicas": replicas, "selector": self.selector}
        return {"kind": "Scale", "metadata": metadata, "spec": {"replicas": replicas}, "status": status}

    def replicas(self) -> int:
        return int((self.find(DEPLOYMENTS, KEY) or {})["spec"]["replicas"])

    def said(self) -> dict[str, tuple[str, str, str]]:
        return conditions(self.find(HORIZONTAL_POD_AUTOSCALERS, KEY))

    def status(self) -> Obj:
        return (self.find(HORIZONTAL_POD_AUTOSCALERS, KEY) or {}).get("status") or {}


def make(client: Client, informers: InformerFactory) -> HorizontalPodAutoscalerController:
    served = ServedResources(Registry(), informers)
    return HorizontalPodAutoscalerController(client, informers, served, Settings(sync_period=0.02))


def metric(kind: str, **source: Any) -> Obj:
    return {"type": kind, kind[0].lower() + kind[1:]: source}


CPU = metric("Resource", name="cpu", target={"type": "Utilization", "averageUtilization": 50})


async def furnish(api: MeteredApi, *metrics: Obj, replicas: int = 2, **spec: Any) -> None:
    """A Deployment with pods that are ready, and an autoscaler for it."""
    workload = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas}}
    await api.client.create(DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", **workload})
    for number in range(replicas):
        one = pod(f"p{number}")
        one["metadata"]["labels"] = {"app": "web"}
        await api.client.create(PODS, one)
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    wanted = {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 10, "metrics": list(metrics), **spec}
    autoscaler = {"metadata": {"name": "web", "namespace": "default"}, "spec": wanted}
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    await api.client.create(HORIZONTAL_POD_AUTOSCALERS, {**kind, **autoscaler})


def use(*values: str, resource: str = "cpu") -> Obj:
    """What metrics-server says of p0, p1, …"""
    return {
        "items": [
            {
                "metadata": {"name": f"p{number}", "namespace": "default"},
                "timestamp": format_time(utc_now()),
                "window": "30s",
                "containers": [{"name": "main", "usage": {resource: value}}],
            }
            for number, value in enumerate(values)
        ]
    }


RESOURCE = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"
CUSTOM = "/apis/custom.metrics.k8s.io"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default"


async def test_it_scales_up_and_says_so() -> None:
    api = MeteredApi()
    api.metrics[RESOURCE] = use("800m", "800m")
    await furnish(api, CPU)
    async with running(api, make):
        await api.until(lambda: api.replicas() == 4)
        reason = "New size: 4; reason: cpu resource utilization (percentage of request) above target"
        await api.until(lambda: reason in messages(api, "SuccessfulRescale"))
        await api.until(lambda: api.status().get("desiredReplicas") == 4)
    assert api.asked[0] == (RESOURCE, {"labelSelector": "app=web"})
    current = {"averageUtilization": 80, "averageValue": "800m"}
    assert api.status()["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
    assert "lastScaleTime" in api.status()
    found = api.said()
    assert found["ScalingActive"] == (
        "True",
        "ValidMetricFound",
        (
            "the HPA was able to successfully calculate a replica count from cpu resource utilization "
            "(percentage of request)"
        ),
    )
    assert found["ScalingLimited"][:2] == ("False", "DesiredWithinRange")
    assert found["AbleToScale"][0] == "True"


async def test_it_goes_where_it_must_be_without_asking() -> None:
    api = MeteredApi()
    await furnish(api, CPU, replicas=1, minReplicas=3)
    async with running(api, make):
        await api.until(lambda: api.replicas() == 3)
        said = "New size: 3; reason: Current number of replicas below Spec.MinReplicas"
        await api.until(lambda: said in messages(api, "SuccessfulRescale"))
    assert api.asked == [] or api.replicas() == 3


async def test_without_metrics_it_does_nothing_and_says_why() -> None:
    api = MeteredApi()
    await furnish(api, CPU)
    short = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
        f"metrics API: {UNREACHABLE} (get pods.metrics.k8s.io)"
    )
    full = f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {short}"
    async with running(api, make):
        await api.until(lambda: short in messages(api, "FailedGetResourceMetric"))
        await api.until(lambda: full in messages(api, "FailedComputeMetricsReplicas"))
        await api.until(lambda: "ScalingActive" in api.said())
    expected = ("False", "FailedGetResourceMetric", f"the HPA was unable to compute the replica count: {short}")
    assert api.said()["ScalingActive"] == expected
    assert (api.replicas(), api.status()["currentReplicas"]) == (2, 2)


@pytest.mark.parametrize(("wanted", "expected"), [(400, 4), (100, 2)])
async def test_of_several_metrics_the_highest_counts(wanted: int, expected: int) -> None:
    """And where one fails, none that would take replicas away."""
    api = MeteredApi()
    target = {"type": "AverageValue", "averageValue": "100"}
    queue = metric("External", metric={"name": "queue"}, target=target)
    api.metrics[f"{EXTERNAL}/queue"] = {"items": [{"value": str(wanted)}]}
    await furnish(api, CPU, queue)
    async with running(api, make):
        if expected == 4:
            await api.until(lambda: api.replicas() == 4)
        else:
            await api.until(lambda: api.said().get("ScalingActive", ("",))[0] == "False")
    assert api.replicas() == expected


@pytest.mark.parametrize(
    ("source", "paths", "asked", "reason"),
    [
        (
            metric("ContainerResource", name="cpu", container="main", target={"averageValue": "200m"}),
            {RESOURCE: use("400m", "400m")},
            (RESOURCE, {"labelSelector": "app=web"}),
            "cpu resource above target",
        ),
        (
            metric("Pods", metric={"name": "rps"}, target={"averageValue": "10"}),
            {
                CUSTOM: {"preferredVersion": {"version": "v1beta1"}},
                f"{CUSTOM}/v1beta1/namespaces/default/pods/*/rps": {
                    "items": [{"describedObject": {"name": f"p{number}"}, "value": "20"} for number in range(2)]
                },
            },
            (f"{CUSTOM}/v1beta1/namespaces/default/pods/*/rps", {"labelSelector": "app=web"}),
            "pods metric rps above target",
        ),
        (
            metric(
                "Object",
                metric={"name": "rps", "selector": {"matchLabels": {"verb": "GET"}}},
                describedObject={"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
                target={"value": "100"},
            ),
            {
                CUSTOM: {"preferredVersion": {"version": "v1beta2"}},
                f"{CUSTOM}/v1beta2/namespaces/default/ingresses.networking.k8s.io/main/rps": {
                    "items": [{"value": "200"}]
                },
            },
            (
                f"{CUSTOM}/v1beta2/namespaces/default/ingresses.networking.k8s.io/main/rps",
                {"metricLabelSelector": "verb=GET"},
            ),
            "Ingress metric rps above target",
        ),
        (
            metric(
                "External", metric={"name": "queue", "selector": {"matchLabels": {"q": "a"}}}, target={"value": "5"}
            ),
            {f"{EXTERNAL}/queue": {"items": [{"value": "4"}, {"value": "6"}]}},
            (f"{EXTERNAL}/queue", {"labelSelector": "q=a"}),
            (
                "external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},"
                "MatchExpressions:[]LabelSelectorRequirement{},}) above target"
            ),
        ),
    ],
    ids=["container", "pods", "object", "external"],
)
async def test_every_source_is_asked(source: Obj, paths: dict[str, Obj], asked: tuple[str, Obj], reason: str) -> None:
    api = MeteredApi()
    api.metrics.update(paths)
    await furnish(api, source)
    async with running(api, make):
        await api.until(lambda: f"New size: 4; reason: {reason}" in messages(api, "SuccessfulRescale"))
    assert asked in api.asked


async def test_a_workload_that_is_switched_off_stays_off() -> None:
    api = MeteredApi()
    await furnish(api, CPU, replicas=0)
    async with running(api, make):
        await api.until(lambda: "ScalingActive" in api.said())
    words = "scaling is disabled since the replica count of the target is zero"
    assert api.said()["ScalingActive"] == ("False", "ScalingDisabled", words)


async def test_a_target_that_is_not_there() -> None:
    api = MeteredApi()
    await furnish(api, CPU)
    await api.client.delete(DEPLOYMENTS, "web", "default")
    async with running(api, make):
        await api.until(lambda: 'deployments.apps "web" not found' in messages(api, "FailedGetScale"))
    words = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "web" not found'
    assert api.said()["AbleToScale"] == ("False", "FailedGetScale", words)


async def test_a_kind_that_is_not_there() -> None:
    api = MeteredApi()
    await furnish(api, CPU, scaleTargetRef={"apiVersion": "x.io/v1", "kind": "Nothing", "name": "web"})
    async with running(api, make):
        await api.until(lambda: 'no matches for kind "Nothing" in group "x.io"' in messages(api, "FailedGetScale"))


async def test_a_rescale_that_is_refused() -> None:
    api = MeteredApi()
    api.metrics[RESOURCE] = use("800m", "800m")
    await furnish(api, CPU)
    api.fail = lambda method, path, _: (
        ApiError(403, "Forbidden", "no") if method == "PUT" and "deployments" in path else None
    )
    async with running(api, make):
        expected = "New size: 4; reason: cpu resource utilization (percentage of request) above target; error: no"
        await api.until(lambda: expected in messages(api, "FailedRescale"))
        await api.until(lambda: api.said().get("AbleToScale", ("",))[0] == "False")
    words = ("False", "FailedUpdateScale", "the HPA controller was unable to update the target scale: no")
    assert api.said()["AbleToScale"] == words


@pytest.mark.parametrize(
    ("selector", "reason", "message"),
    [
        ("", "InvalidSelector", "the HPA target's scale is missing a selector"),
        ("!!", "InvalidSelector", "couldn't convert selector into a corresponding internal selector object: "),
    ],
)
async def test_a_scale_without_a_selector(selector: str, reason: str, message: str) -> None:
    api = MeteredApi()
    api.selector = selector
    await furnish(api, CPU)
    async with running(api, make):
        await api.until(lambda: "ScalingActive" in api.said())
    found = api.said()["ScalingActive"]
    assert found[:2] == ("False", reason)
    assert found[2].startswith(message)


async def test_two_autoscalers_for_the_same_pods() -> None:
    api = MeteredApi()
    api.metrics[RESOURCE] = use("800m", "800m")
    await furnish(api, CPU)
    twin = {**(api.find(HORIZONTAL_POD_AUTOSCALERS, KEY) or {}), "metadata": {"name": "twin", "namespace": "default"}}
    await api.client.create(HORIZONTAL_POD_AUTOSCALERS, twin)
    async with running(api, make):
        words = "pods by selector app=web are controlled by multiple HPAs: [default/twin default/web]"
        await api.until(lambda: words in messages(api, "AmbiguousSelector"))
