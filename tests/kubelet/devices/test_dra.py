"""Drivers of dynamic resources over real sockets: they register, prepare claims for pods and take devices back."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from pinnace.cri.api import CDIDevice
from pinnace.kubelet.devices import health
from pinnace.kubelet.devices.dra import PrepareError, claim_names
from pinnace.kubelet.devices.dra_messages import HEALTH_MESSAGES
from pinnace.kubelet.devices.health import DeviceHealth
from pinnace.kubelet.devices.slices import SliceWiper
from pinnace.kubelet.options import KubeletOptions
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi
from tests.support.dra_driver import FakeDriver

Obj = dict[str, Any]
DRIVER = "gpu.example.com"


@pytest.fixture
def options(options: KubeletOptions) -> Iterator[KubeletOptions]:
    with tempfile.TemporaryDirectory(prefix="pn-") as directory:
        options.root_dir = Path(directory)
        yield options


@pytest.fixture
async def driver(options: KubeletOptions) -> AsyncIterator[FakeDriver]:
    made = FakeDriver(options.root_dir, DRIVER)
    yield made
    await made.stop()


async def add_claim(api: NodeApi, name: str) -> Obj:
    result = {"driver": DRIVER, "pool": "pool", "device": "first", "request": "first"}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }
    return await api.client.create(RESOURCE_CLAIMS, claim)


async def add_pod(api: NodeApi, name: str, claim: str, request: str = "") -> None:
    """A pod for which its claim is reserved, as the scheduler does."""
    used: Obj = {"name": "gpu", **({"request": request} if request else {})}
    container = {"name": "web", "image": "web:1", "resources": {"claims": [used]}}
    pod = await api.add_pod(name, containers=[container], resourceClaims=[{"name": "gpu", "resourceClaimName": claim}])
    found = api.find(RESOURCE_CLAIMS, f"default/{claim}") or {}
    users = [*found["status"].get("reservedFor", []), {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}]
    await api.set_status(RESOURCE_CLAIMS, f"default/{claim}", {**found["status"], "reservedFor": users})


async def test_a_container_gets_the_devices_of_a_claim(
    api: NodeApi, runtime: FakeRuntime, start: Start, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.kubelet.sync.pod_worker.RETRY", 0.05)
    start()
    await driver.start()
    await add_claim(api, "c")
    await add_pod(api, "p", "c")
    await api.phase("p", "Running")
    assert driver.told == [""]
    [status] = runtime.by_name("web")
    names = [f"{DRIVER}/gpu=c-first", f"{DRIVER}/gpu=c-second"]
    assert runtime.configs[status.id].CDI_devices == [CDIDevice(name=name) for name in names]
    await add_pod(api, "q", "c", "second")
    await api.phase("q", "Running")
    other = runtime.by_name("web")[-1]
    assert runtime.configs[other.id].CDI_devices == [CDIDevice(name=names[1])]
    assert driver.calls == [("prepare", "c")]
    for name in ("p", "q"):
        await api.client.delete(PODS, name, "default", grace_period_seconds=1)
        await api.gone(name)
    assert driver.calls == [("prepare", "c"), ("unprepare", "c")]


async def test_a_pod_waits_for_its_driver(
    api: NodeApi, runtime: FakeRuntime, start: Start, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.kubelet.sync.pod_worker.RETRY", 0.05)
    driver.fail = "no such card"
    start()
    await add_claim(api, "c")
    await add_pod(api, "p", "c")
    await api.hears(
        f"FailedPrepareDynamicResources: Failed to prepare dynamic resources: DRA driver {DRIVER} is not registered"
    )
    await driver.start()
    await api.hears("NodePrepareResources failed for ResourceClaim c: no such card")
    assert api.status_of("default/p")["phase"] == "Pending"
    driver.fail = ""
    await api.phase("p", "Running")


async def test_a_new_kubelet_knows_what_is_prepared(
    api: NodeApi, runtime: FakeRuntime, start: Start, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.kubelet.sync.pod_worker.RETRY", 0.05)
    first = start()
    await driver.start()
    await add_claim(api, "c")
    await add_pod(api, "p", "c")
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.wait([first.test_task])
    await driver.stop()
    start()
    runtime.end(runtime.by_name("web")[0].id, 1)
    await runtime.until(lambda: len(runtime.by_name("web")) == 2)
    assert len(runtime.configs[runtime.by_name("web")[1].id].CDI_devices) == 2
    assert driver.calls == [("prepare", "c")]


async def add_slice(api: NodeApi, driver: str, node: str = "n1") -> None:
    metadata = {"name": f"{node}-{driver}"}
    spec = {"driver": driver, "nodeName": node}
    await api.client.create(
        RESOURCE_SLICES,
        {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": spec},
    )


def slices(api: NodeApi) -> list[str]:
    return sorted(one["metadata"]["name"] for one in api.all(RESOURCE_SLICES))


async def test_what_drivers_advertised_goes_when_the_kubelet_starts(api: NodeApi, start: Start) -> None:
    """No driver has registered then; those of other nodes stay."""
    for node in ("n1", "n2"):
        await add_slice(api, DRIVER, node)
    start()
    await api.until(lambda: slices(api) == [f"n2-{DRIVER}"])


async def test_what_a_driver_advertised_goes_a_while_after_it(api: NodeApi) -> None:
    wiper = SliceWiper(api.client, "n1", grace=0.01)
    await add_slice(api, DRIVER)
    await add_slice(api, "other.example.com")
    wiper.gone(DRIVER)
    await api.until(lambda: slices(api) == ["n1-other.example.com"])
    wiper.gone("other.example.com")
    wiper.back("other.example.com")
    await wiper.close()
    assert slices(api) == ["n1-other.example.com"]


async def test_a_container_tells_how_its_devices_are(
    api: NodeApi, start: Start, options: KubeletOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.kubelet.sync.pod_worker.RETRY", 0.05)
    driver = FakeDriver(options.root_dir, DRIVER, ("v1.DRAPlugin", health.SERVICE))
    start()
    await driver.start()
    try:
        await add_claim(api, "c")
        await add_pod(api, "p", "c", "first")
        status = await api.container("p", lambda one: "running" in one.get("state", {}))
        name, device = "claim:gpu/first", f"{DRIVER}/pool/first"
        assert status["allocatedResourcesStatus"] == [
            {"name": name, "resources": [{"resourceID": device, "health": "Unknown"}]}
        ]
        for word, said in ((1, "Healthy"), (2, "Unhealthy")):
            driver.say("first", word)
            shown = [{"name": name, "resources": [{"resourceID": device, "health": said}]}]
            await api.container("p", lambda one, shown=shown: one.get("allocatedResourcesStatus") == shown)
    finally:
        await driver.stop()


def test_what_a_driver_said_counts_for_a_while() -> None:
    now = [0.0]
    changes: list[str] = []
    known = DeviceHealth(changes.append, lambda: now[0])
    device = HEALTH_MESSAGES["DeviceIdentifier"](pool_name="pool", device_name="first")
    known.take(DRIVER, [HEALTH_MESSAGES["DeviceHealth"](device=device, health=1)])
    known.take(DRIVER, [HEALTH_MESSAGES["DeviceHealth"](device=device, health=1, health_check_timeout_seconds=60)])
    assert changes == [DRIVER]
    now[0] = 59.0
    assert known.of(DRIVER, "pool", "first") == "Healthy"
    now[0] = 60.0
    assert known.of(DRIVER, "pool", "first") == "Unknown"
    known.drop(DRIVER)
    assert changes == [DRIVER, DRIVER]


async def test_a_driver_of_unknown_services_is_told_so(start: Start, options: KubeletOptions, api: NodeApi) -> None:
    driver = FakeDriver(options.root_dir, DRIVER, ("v1alpha1.DRAPlugin",))
    start()
    await driver.start()
    try:
        async with asyncio.timeout(30):
            await driver.heard.wait()
        assert "none of the DRA gRPC services listed in the supported versions are supported" in driver.told[0]
    finally:
        await driver.stop()


def test_claims_of_templates_are_found_by_the_pods_status() -> None:
    pod = {
        "spec": {"resourceClaims": [{"name": "a", "resourceClaimTemplateName": "t"}]},
        "status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "p-a-x"}]},
    }
    assert claim_names(pod) == {"a": "p-a-x"}
    assert claim_names({**pod, "status": {"resourceClaimStatuses": [{"name": "a"}]}}) == {}
    with pytest.raises(PrepareError, match="not created yet"):
        claim_names({**pod, "status": {}})
