"""CSI drivers come and go; their volumes reach pods and are given back, over restarts of the kubelet too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from pinnace.apis.resources import (
    CONFIG_MAPS,
    CSI_DRIVERS,
    CSI_NODES,
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SECRETS,
    VOLUME_ATTACHMENTS,
)
from pinnace.controllers.attach_detach import attachment, attachment_name, unique_name
from pinnace.kubelet.csi.node_info import NODE_IDS
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.statistics.node_metrics import kubelet_metrics
from pinnace.kubelet.volumes.mounts import mounted_below, unmount_below
from pinnace.machinery.meta import Obj
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi
from tests.support.csi_driver import CONDITION, EXPAND, ILL, STAGE, STATS, FakeCsiDriver

UNIQUE_NAME = "kubernetes.io/csi/dir.csi.example.org^h1"
CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}


@pytest.fixture
async def driver(options: KubeletOptions, tmp_path: Path) -> AsyncIterator[FakeCsiDriver]:
    made = FakeCsiDriver(options.root_dir, tmp_path / "store")
    await made.start()
    yield made
    await made.stop()
    left = mounted_below(options.root_dir)
    unmount_below(options.root_dir)
    assert not left


async def registered(api: NodeApi, driver: FakeCsiDriver) -> None:
    await driver.hear("Notify")
    assert driver.told == [""]
    await api.until(lambda: (api.find(CSI_NODES, "n1") or {}).get("spec", {}).get("drivers"))


async def add_driver(api: NodeApi, **spec: Any) -> None:
    await api.client.create(CSI_DRIVERS, {"metadata": {"name": "dir.csi.example.org"}, "spec": spec})


async def add_volume(api: NodeApi, *, capacity: str = "1Gi", status: Obj | None = None, **source: Any) -> Obj:
    """A bound claim `c` and its volume."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, **(status or {})},
    }
    made = await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
    csi = {"driver": "dir.csi.example.org", "volumeHandle": "h1", **source}
    reference = {"name": "c", "namespace": "default", "uid": made["metadata"]["uid"]}
    spec = {"csi": csi, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": capacity}, "claimRef": reference}
    return await api.client.create(PERSISTENT_VOLUMES, {"metadata": {"name": "pv"}, "spec": spec})


async def run_pod(api: NodeApi, name: str, volume: Obj, **spec: Any) -> None:
    containers = [{"name": "c", "image": "web:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
    await api.add_pod(name, containers=containers, volumes=[volume], terminationGracePeriodSeconds=1, **spec)


async def test_a_driver_is_told_of_in_the_csi_node_and_taken_out_when_it_goes(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    start()
    await registered(api, driver)
    found = api.find(CSI_NODES, "n1") or {}
    entry = {
        "name": driver.name,
        "nodeID": "here",
        "topologyKeys": ["topology.dir.csi/node"],
        "allocatable": {"count": 5},
    }
    assert found["spec"]["drivers"] == [entry]
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Node"
    node = api.find(NODES, "n1") or {}
    assert node["metadata"]["annotations"][NODE_IDS] == '{"dir.csi.example.org":"here"}'
    assert node["metadata"]["labels"]["topology.dir.csi/node"] == "n1"
    await driver.stop()
    await api.until(lambda: not (api.find(CSI_NODES, "n1") or {})["spec"]["drivers"])
    await api.until(lambda: NODE_IDS not in (api.find(NODES, "n1") or {})["metadata"].get("annotations", {}))


async def test_a_volume_is_staged_published_and_given_back(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    await add_driver(api, attachRequired=False, podInfoOnMount=True)
    await add_volume(
        api, fsType="ext4", volumeAttributes={"a": "b"}, nodeStageSecretRef={"name": "s", "namespace": "x"}
    )
    await api.client.create(SECRETS, {"metadata": {"name": "s", "namespace": "x"}, "data": {"key": "dmFsdWU="}})
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    staged, published = driver.called("NodeStageVolume")[0], driver.called("NodePublishVolume")[0]
    assert (staged.volume_id, dict(staged.secrets)) == ("h1", {"key": "value"})
    assert (staged.volume_capability.mount.fs_type, staged.volume_capability.access_mode.mode) == ("ext4", 1)
    assert published.staging_target_path == staged.staging_target_path
    assert published.volume_context["csi.storage.k8s.io/pod.name"] == "p"
    assert published.volume_context["csi.storage.k8s.io/ephemeral"] == "false"
    assert published.volume_context["a"] == "b"
    await api.client.delete(PODS, "p", "default")
    await driver.hear("NodeUnstageVolume")
    await api.gone("p")
    assert [name for name, _ in driver.calls if name.endswith("Volume")] == [
        *("NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume")
    ]


def in_use(api: NodeApi) -> list[str]:
    return (api.find(NODES, "n1") or {}).get("status", {}).get("volumesInUse") or []


async def test_what_two_pods_have_is_staged_once_and_unstaged_after_the_last(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    kubelet = start()
    await registered(api, driver)
    for name in ("p", "q"):
        await run_pod(api, name, CLAIM)
        await api.phase(name, "Running")
    assert len(driver.called("NodeStageVolume")) == 1
    kubelet.test_task.cancel()
    start()  # what was published is known to a kubelet started anew
    await driver.hear("Notify", 2)
    await api.client.delete(PODS, "p", "default")
    await driver.hear("NodeUnpublishVolume")
    await api.gone("p")
    assert not driver.called("NodeUnstageVolume")
    await api.client.delete(PODS, "q", "default")
    await driver.hear("NodeUnstageVolume")
    await api.gone("q")


async def test_a_volume_that_is_attached_is_waited_for(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    await add_driver(api)
    volume = await add_volume(api)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.until(lambda: in_use(api))
    assert not driver.called("NodePublishVolume")
    made = attachment(volume, "n1") | {"status": {"attached": True, "attachmentMetadata": {"path": "/dev/x"}}}
    assert made["metadata"]["name"] == attachment_name(volume, "n1")
    await api.client.create(VOLUME_ATTACHMENTS, made)
    attached = {"status": {"volumesAttached": [{"name": unique_name(volume), "devicePath": ""}]}}
    await api.client.patch(NODES, "n1", attached, subresource="status")
    assert dict((await driver.hear("NodePublishVolume")).publish_context) == {"path": "/dev/x"}
    await api.phase("p", "Running")
    assert in_use(api) == [UNIQUE_NAME]
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    await api.until(lambda: in_use(api) == [])


async def test_a_volume_that_is_not_to_be_attached_after_all_is_in_use_no_longer(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    await add_volume(api)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.until(lambda: in_use(api) == [UNIQUE_NAME])
    await add_driver(api, attachRequired=False)
    attached = {"status": {"volumesAttached": [{"name": UNIQUE_NAME, "devicePath": ""}]}}
    await api.client.patch(NODES, "n1", attached, subresource="status")
    await api.phase("p", "Running")
    await api.until(lambda: in_use(api) == [])
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_volume_that_comes_without_a_mount_is_asked_for_once(
    start: Start, api: NodeApi, driver: FakeCsiDriver, options: KubeletOptions
) -> None:
    driver.mounts = False
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    seen = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": "default"}}
    await api.client.create(CONFIG_MAPS, {**seen, "data": {"looks": "0"}})
    kubelet = start()
    await registered(api, driver)
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("v", "s")]
    containers = [{"name": "c", "image": "web:1", "volumeMounts": mounts}]
    await api.add_pod("p", containers=containers, volumes=[CLAIM, {"name": "s", "configMap": {"name": "seen"}}])
    await api.phase("p", "Running")
    (uid,) = kubelet.workers
    file = options.pods_dir / uid / "volumes" / "kubernetes.io~configmap" / "s" / "looks"
    for looks in ("1", "2"):  # once the second is seen, all that follows from the first has happened
        await api.client.update(CONFIG_MAPS, {**seen, "data": {"looks": looks}})
        await api.until(partial(lambda looks: file.exists() and file.read_text() == looks, looks))
    calls = [name for name, _ in driver.calls if name.endswith("Volume")]
    assert calls == ["NodeStageVolume", "NodePublishVolume"]
    await api.client.delete(PODS, "p", "default")
    await driver.hear("NodeUnstageVolume")
    await api.gone("p")


async def test_an_inline_volume_is_of_its_pod_alone(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    await add_driver(
        api, volumeLifecycleModes=["Ephemeral"], podInfoOnMount=True, tokenRequests=[{"audience": "vault"}]
    )
    start()
    await registered(api, driver)
    inline = {"name": "v", "csi": {"driver": driver.name, "volumeAttributes": {"size": "1"}, "readOnly": True}}
    await run_pod(api, "p", inline)
    await api.phase("p", "Running")
    published = driver.called("NodePublishVolume")[0]
    assert published.volume_id.startswith("csi-")
    assert published.readonly
    assert published.volume_context["csi.storage.k8s.io/ephemeral"] == "true"
    assert '"vault": {"token": "a.b.c"' in published.volume_context["csi.storage.k8s.io/serviceAccount.tokens"]
    assert not driver.called("NodeStageVolume")
    await api.client.delete(PODS, "p", "default")
    await driver.hear("NodeUnpublishVolume")
    await api.gone("p")


@pytest.mark.parametrize(
    ("spec", "refused", "words"),
    [
        ({}, {}, 'volume mode "Ephemeral" not supported by driver dir.csi.example.org (only supports ["Persistent"])'),
        (
            {"volumeLifecycleModes": ["Ephemeral"]},
            {"NodePublishVolume": "no space"},
            "rpc error: code = Internal desc = no space",
        ),
    ],
)
async def test_why_a_volume_cannot_be_had_is_told(
    start: Start, api: NodeApi, driver: FakeCsiDriver, spec: Obj, refused: dict[str, str], words: str
) -> None:
    await add_driver(api, **spec)
    driver.refuse = refused
    start()
    await registered(api, driver)
    await run_pod(api, "p", {"name": "v", "csi": {"driver": driver.name}})
    await api.hears(f'MountVolume.SetUp failed for volume "v" : {words}')
    driver.refuse = {}
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


@pytest.mark.parametrize(
    ("code", "undone"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, []),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ["NodeUnpublishVolume", "NodeUnstageVolume"]),  # it may be at it still
    ],
)
async def test_what_a_driver_refused_to_stage_is_not_unstaged(
    start: Start, api: NodeApi, driver: FakeCsiDriver, code: grpc.StatusCode, undone: list[str]
) -> None:
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    driver.code, driver.refuse = code, {"NodeStageVolume": "no"}
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    failed = 'MountVolume.MountDevice failed for volume "pv" : rpc error: code = '
    # Twice, and its answer has come: what is under way when the pod goes may have been done.
    await api.until(lambda: any(failed in one["message"] and one["count"] == 2 for one in api.all(EVENTS)))
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    assert [name for name, _ in driver.calls if name.startswith("NodeUn")] == undone


async def test_a_volume_that_never_came_is_not_in_use_once_its_pod_is_gone(start: Start, api: NodeApi) -> None:
    await add_volume(api)
    start()
    await run_pod(api, "p", CLAIM)
    await api.until(lambda: in_use(api) == [UNIQUE_NAME])
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    await api.until(lambda: in_use(api) == [])


async def test_a_driver_that_is_not_there_is_waited_for(
    start: Start, api: NodeApi, options: KubeletOptions, tmp_path: Path
) -> None:
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    start()
    await run_pod(api, "p", CLAIM)
    await api.hears("driver name dir.csi.example.org not found in the list of registered CSI drivers")
    driver = FakeCsiDriver(options.root_dir, tmp_path / "store", can=())
    await driver.start()
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    await driver.stop()


GROWING = {
    "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
    "allocatedResources": {"storage": "2Gi"},
    "allocatedResourceStatuses": {"storage": "NodeResizePending"},
}


async def test_a_volume_that_has_grown_is_grown_on_the_node(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    driver.can = (STAGE, EXPAND)
    await add_driver(api, attachRequired=False)
    await add_volume(api, capacity="2Gi", status=GROWING)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    asked = await driver.hear("NodeExpandVolume")
    assert asked.capacity_range.required_bytes == 2 << 30
    assert asked.volume_capability.access_mode.mode == 1
    await api.phase("p", "Running")
    claim = api.find(PERSISTENT_VOLUME_CLAIMS, "default/c") or {}
    assert claim["status"]["capacity"] == {"storage": "2Gi"}
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def grow(api: NodeApi, name: str) -> None:
    """What a resizer does, until the node has its turn; the pod is looked at again when it is changed."""
    size = {"spec": {"capacity": {"storage": "2Gi"}}}
    await api.client.patch(PERSISTENT_VOLUMES, "pv", size)
    await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "c", {"status": GROWING}, "default", subresource="status")
    await api.client.patch(PODS, name, {"metadata": {"annotations": {"seen": "now"}}}, "default")


async def test_a_volume_grows_while_a_pod_has_it(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    driver.can = (STAGE, EXPAND)
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    driver.refuse = {"NodeExpandVolume": "not now"}
    await grow(api, "p")
    why = "Expander.NodeExpand failed to expand the volume : rpc error: code = Internal desc = not now"
    failed = 'VolumeResizeFailed: NodeExpandVolume.NodeExpandVolume failed for volume "pv" :'
    await api.hears(f"{failed} {why}")
    status = (api.find(PERSISTENT_VOLUME_CLAIMS, "default/c") or {})["status"]
    assert status["allocatedResourceStatuses"] == {"storage": "NodeResizeInProgress"}
    assert [one["type"] for one in status["conditions"]] == ["FileSystemResizePending", "NodeResizeError"]
    driver.refuse = {}
    await api.client.patch(PODS, "p", {"metadata": {"annotations": {"seen": "again"}}}, "default")
    await api.hears('FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded for volume "pv" n1')
    await api.until(
        lambda: (
            (api.find(PERSISTENT_VOLUME_CLAIMS, "default/c") or {})["status"]
            == {"phase": "Bound", "capacity": {"storage": "2Gi"}, "allocatedResources": {"storage": "2Gi"}}
            | {"allocatedResourceStatuses": {}}
        )
    )
    assert len(driver.called("NodePublishVolume")) == 1
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_volume_that_cannot_grow_in_use_is_left_alone(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    driver.can = (STAGE, EXPAND)
    driver.code = grpc.StatusCode.FAILED_PRECONDITION
    driver.refuse = {"NodeExpandVolume": "in use"}
    await add_driver(api, attachRequired=False, requiresRepublish=True)
    await add_volume(api)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    await grow(api, "p")
    await driver.hear("NodeExpandVolume")
    await api.client.patch(PODS, "p", {"metadata": {"annotations": {"seen": "again"}}}, "default")
    await driver.hear("NodePublishVolume", 3)  # this driver wants to be asked again and again
    assert len(driver.called("NodeExpandVolume")) == 1
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_volume_of_many_nodes_grows_on_each(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    driver.can = (STAGE, EXPAND)
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    await api.client.patch(PERSISTENT_VOLUMES, "pv", {"spec": {"capacity": {"storage": "2Gi"}}})
    elsewhere = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"capacity": {"storage": "2Gi"}}}
    await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "c", elsewhere, "default")
    await api.client.patch(PODS, "p", {"metadata": {"annotations": {"seen": "now"}}}, "default")
    await driver.hear("NodeExpandVolume")
    await api.hears('FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded for volume "pv" n1')
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_claim_must_be_for_the_pod_and_its_volume_for_the_claim(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    await api.client.patch(PERSISTENT_VOLUMES, "pv", {"spec": {"claimRef": {"uid": "other"}}})
    start()
    await run_pod(api, "p", CLAIM)
    await api.hears(
        "FailedMount: Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to "
        "process volumes=[v]: error processing PVC default/c: found PV object pv but its pv.Spec.ClaimRef.UID other "
        "does not point to claim.UID"
    )
    ephemeral = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "q-v", "namespace": "default"}}
    bound = {"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim | bound)
    await run_pod(api, "q", ephemeral)
    await api.hears("error processing PVC default/q-v: PVC default/q-v was not created for pod default/q (pod is not")
    for name in ("p", "q"):
        await api.client.delete(PODS, name, "default")
        await api.gone(name)


async def test_tokens_go_where_the_driver_wants_them(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    await add_driver(
        api,
        volumeLifecycleModes=["Ephemeral"],
        tokenRequests=[{"audience": "vault"}],
        serviceAccountTokenInSecrets=True,
    )
    start()
    await registered(api, driver)
    await run_pod(api, "p", {"name": "v", "csi": {"driver": driver.name}})
    await api.phase("p", "Running")
    [published] = driver.called("NodePublishVolume")
    key = "csi.storage.k8s.io/serviceAccount.tokens"
    assert '"vault": {"token": "a.b.c"' in published.secrets[key]
    assert key not in published.volume_context
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_volume_is_kept_for_a_driver_that_is_away(
    start: Start, api: NodeApi, driver: FakeCsiDriver, options: KubeletOptions, tmp_path: Path
) -> None:
    """A pod that has ended stays until its driver is back to take its volumes down, over a restart of the kubelet."""
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    kubelet = start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    await driver.stop()
    await api.until(lambda: not (api.find(CSI_NODES, "n1") or {})["spec"]["drivers"])
    kubelet.test_task.cancel()
    start()
    await api.client.delete(PODS, "p", "default")
    await api.until(lambda: in_use(api) == [UNIQUE_NAME])
    assert mounted_below(options.pods_dir)
    back = FakeCsiDriver(options.root_dir, tmp_path / "store")
    await back.start()
    await back.hear("NodeUnstageVolume")
    await api.gone("p")
    assert not mounted_below(options.root_dir)
    await back.stop()


async def test_how_full_and_how_well_volumes_are_is_told(
    start: Start, api: NodeApi, driver: FakeCsiDriver, options: KubeletOptions, tmp_path: Path
) -> None:
    options.feature_gates = {"CSIVolumeHealth": True}
    driver.can = (STAGE, STATS, CONDITION)
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    kubelet = start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    (tmp_path / "store/h1" / ILL).touch()
    await kubelet.claimed_volumes.look()
    await api.hears("VolumeConditionAbnormal: Volume v: it is ill")
    [[entry]] = kubelet.claimed_volumes.found.values()
    entry.pop("time")
    assert entry == {
        "name": "v",
        "pvcRef": {"name": "c", "namespace": "default"},
        "availableBytes": 600,
        "capacityBytes": 1000,
        "usedBytes": 400,
        "volumeHealthStats": {"abnormal": True},
    }
    assert driver.called("NodeGetVolumeStats")[0].volume_path.endswith("kubernetes.io~csi/pv/mount")
    of = '{namespace="default",persistentvolumeclaim="c"}'
    told = kubelet_metrics(kubelet)
    assert f"kubelet_volume_stats_used_bytes{of} 400\n" in told
    assert f"kubelet_volume_stats_health_status_abnormal{of} 1\n" in told
    plugin = "kubernetes.io/csi:dir.csi.example.org"
    for state in ("actual", "desired"):
        of = f'{{plugin_name="{plugin}",state="{state}_state_of_world"}}'
        assert f"volume_manager_total_volumes{of} 1\n" in told
    done = f'migrated="false",operation_name="volume_mount",status="success",volume_plugin="{plugin}"'
    assert f"storage_operation_duration_seconds_count{{{done}}} " in told
    method = 'method_name="/csi.v1.Node/NodePublishVolume",migrated="false"'
    of = f'{{driver_name="dir.csi.example.org",grpc_status_code="OK",{method}}}'
    assert f"csi_operations_seconds_count{of} " in told
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_drivers_are_asked_of_disks_too(
    start: Start, api: NodeApi, driver: FakeCsiDriver, options: KubeletOptions, tmp_path: Path
) -> None:
    options.feature_gates = {"CSIVolumeHealth": True}
    driver.can = (STAGE, STATS, CONDITION)
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    await api.client.patch(PERSISTENT_VOLUMES, "pv", {"spec": {"volumeMode": "Block"}})
    kubelet = start()
    await registered(api, driver)
    disk = {"name": "c", "image": "web:1", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}
    await api.add_pod("p", containers=[disk], volumes=[CLAIM], terminationGracePeriodSeconds=1)
    await api.phase("p", "Running")
    (tmp_path / "store/h1" / ILL).touch()

    await kubelet.claimed_volumes.look()

    await api.hears("VolumeConditionAbnormal: Volume v: it is ill")
    [[entry]] = kubelet.claimed_volumes.found.values()
    assert (entry["pvcRef"]["name"], entry["usedBytes"], entry["volumeHealthStats"]) == ("c", 400, {"abnormal": True})
    [asked] = driver.called("NodeGetVolumeStats")
    assert "/volumeDevices/publish/pv/" in asked.volume_path
    assert asked.staging_target_path.endswith("/volumeDevices/staging/pv")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")


async def test_a_volume_of_one_pod_is_not_given_to_another(start: Start, api: NodeApi, driver: FakeCsiDriver) -> None:
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    await api.client.patch(PERSISTENT_VOLUMES, "pv", {"spec": {"accessModes": ["ReadWriteOncePod"]}})
    start()
    await registered(api, driver)
    for name in ("p", "q"):
        await run_pod(api, name, CLAIM)
        if name == "p":
            await api.phase("p", "Running")
    why = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
    await api.hears(f'FailedMount: MountVolume.SetUp failed for volume "pv" : {why}')
    for name in ("q", "p"):
        await api.client.delete(PODS, name, "default")
        await api.gone(name)


async def test_the_limit_of_a_driver_is_asked_for_again_where_it_wants_that(
    start: Start, api: NodeApi, driver: FakeCsiDriver
) -> None:
    kubelet = start()
    await registered(api, driver)
    driver.limit = 3
    assert await kubelet.node.csi.refresh_limit(driver.name) == 60.0  # there is no CSIDriver that says so
    await add_driver(api, nodeAllocatableUpdatePeriodSeconds=30)
    assert len(driver.called("NodeGetInfo")) == 1
    assert await kubelet.node.csi.refresh_limit(driver.name) == 30.0
    [entry] = (api.find(CSI_NODES, "n1") or {})["spec"]["drivers"]
    assert entry["allocatable"] == {"count": 3}


async def test_what_a_pod_left_that_is_gone_is_taken_down(
    start: Start, api: NodeApi, driver: FakeCsiDriver, runtime: FakeRuntime
) -> None:
    """The pod was deleted for good while there was no kubelet."""
    await add_driver(api, attachRequired=False)
    await add_volume(api)
    kubelet = start()
    await registered(api, driver)
    await run_pod(api, "p", CLAIM)
    await api.phase("p", "Running")
    kubelet.test_task.cancel()
    await asyncio.gather(kubelet.test_task, return_exceptions=True)
    await api.client.delete(PODS, "p", "default", grace_period_seconds=0)
    await api.gone("p")
    start()
    await driver.hear("NodeUnstageVolume")
    await runtime.until(lambda: not runtime.containers)
    assert [name for name, _ in driver.calls if name.startswith("NodeUn")] == [
        "NodeUnpublishVolume",
        "NodeUnstageVolume",
    ]
    await api.until(lambda: in_use(api) == [])
