"""Volumes that are directories: made for claims, found again, deleted with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.core.volume_binding import BIND_COMPLETED, PROVISIONED_BY, PROVISIONER
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from pinnace.controllers.directories import is_below, may_be_deleted
from pinnace.controllers.host_path_volumes import (
    IN_TREE,
    HostPathProvisioner,
    Provisioner,
    is_to_be_deleted,
    is_wanted,
    refusal,
    volume_of,
)
from pinnace.controllers.persistentvolume_binder import PersistentVolumeBinder
from pinnace.machinery.meta import Obj, annotations_of, uid_of
from tests.apis.test_volume_binding import claim, storage_class, volume
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

NAME = "k8s.io/minikube-hostpath"
KEY = "default/data"
STANDARD = storage_class("standard", provisioner=NAME, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def asking(name: str = NAME, **spec: Any) -> Obj:
    made = claim(storage_class="standard", **spec)
    made["metadata"]["annotations"] = {PROVISIONER: name}
    return made


LOCAL = Provisioner(NAME, Path("/srv/volumes"))
DELAYED = {**STANDARD, "volumeBindingMode": "WaitForFirstConsumer"}
PLACED = asking()
PLACED["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "n1"


@pytest.mark.parametrize(
    ("wanting", "its_class", "expected"),
    [
        (asking(), STANDARD, True),
        (asking("disk.example.com"), STANDARD, False),
        (asking(volumeName="pv"), STANDARD, False),
        (asking(), None, False),
        (asking(), {**STANDARD, "provisioner": "disk.example.com"}, False),
        (asking(), DELAYED, False),
        (PLACED, DELAYED, True),
    ],
)
def test_for_whom_a_volume_is_made(wanting: Obj, its_class: Obj | None, expected: bool) -> None:
    assert is_wanted(wanting, its_class, LOCAL) is expected


def test_a_volume_says_whose_it_is_and_where() -> None:
    made = volume_of(asking(), {**STANDARD, "mountOptions": ["ro"]}, LOCAL)
    assert made["metadata"] == {"name": "pvc-u1", "annotations": {PROVISIONED_BY: NAME}}
    assert made["spec"]["hostPath"] == {"path": "/srv/volumes/default/data", "type": ""}
    assert (made["spec"]["claimRef"]["name"], made["spec"]["claimRef"]["uid"]) == ("data", "u1")
    assert made["spec"]["capacity"] == {"storage": "1Gi"}
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert made["spec"]["mountOptions"] == ["ro"]
    in_tree = volume_of(asking(IN_TREE.name), STANDARD, IN_TREE)
    assert in_tree["spec"]["hostPath"]["path"] == "/tmp/hostpath_pv/u1"
    assert annotations_of(in_tree)["kubernetes.io/createdby"] == "hostpath-dynamic-provisioner"


def test_what_a_directory_cannot_be() -> None:
    assert refusal(asking()) == ""
    assert refusal(asking(volumeMode="Block")) == "does not support block volume provisioning"
    assert refusal(asking(selector={"matchLabels": {"a": "b"}})) == "claim Selector is not supported"


@pytest.mark.parametrize(
    ("phase", "policy", "by", "expected"),
    [
        ("Released", "Delete", NAME, True),
        ("Bound", "Delete", NAME, False),
        ("Released", "Retain", NAME, False),
        ("Released", "Delete", "disk.example.com", False),
    ],
)
def test_which_volumes_go(phase: str, policy: str, by: str, expected: bool) -> None:
    one = volume("pv", phase=phase, persistentVolumeReclaimPolicy=policy, annotations={PROVISIONED_BY: by})
    assert is_to_be_deleted(one, LOCAL) is expected


@pytest.mark.parametrize("path", ["/tmp", "/", "/home/tmp/x", "/tmp/../etc", "tmp/x", "/tmpx/y", ""])
def test_what_is_no_directory_below_another_is_left_alone(path: str) -> None:
    assert not may_be_deleted(path)
    assert is_below("/tmp/a/b", Path("/tmp/a"))
    assert not is_below("/tmp/a", Path("/tmp/a"))


def both(root: Path) -> Any:
    provisioner = Provisioner(NAME, root)
    return PersistentVolumeBinder, lambda client, informers: HostPathProvisioner(
        client, informers, provisioner=provisioner
    )


def phase(api: FakeApi, key: str = KEY) -> str:
    return str(((api.find(PERSISTENT_VOLUME_CLAIMS, key) or {}).get("status") or {}).get("phase", ""))


async def test_a_claim_gets_a_directory_and_takes_it_along(tmp_path: Path) -> None:
    api = FakeApi()
    await api.client.create(STORAGE_CLASSES, STANDARD)
    async with running(api, *both(tmp_path)):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="standard"))
        await api.until(lambda: phase(api) == "Bound")
        directory = tmp_path / "default" / "data"
        assert directory.is_dir()
        assert directory.stat().st_mode & 0o777 == 0o777
        (directory / "file").write_text("data")
        [made] = api.all(PERSISTENT_VOLUMES)
        assert made["spec"]["hostPath"]["path"] == str(directory)
        bound = api.all(PERSISTENT_VOLUME_CLAIMS)[0]
        assert annotations_of(bound)[BIND_COMPLETED] == "yes"
        await api.until(lambda: messages(api, "ProvisioningSucceeded"))
        assert messages(api, "ProvisioningSucceeded") == [f"Successfully provisioned volume pvc-{uid_of(bound)}"]
        assert messages(api, "Provisioning") == [f'External provisioner is provisioning volume for claim "{KEY}"']

        await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await api.until(lambda: not api.all(PERSISTENT_VOLUMES))
        assert not directory.exists()
        assert list(tmp_path.iterdir()) == []


async def test_a_new_claim_of_the_name_waits_until_the_old_data_are_gone(tmp_path: Path) -> None:
    api = FakeApi()
    await api.client.create(STORAGE_CLASSES, STANDARD)
    directory = tmp_path / "default" / "data"
    directory.mkdir(parents=True)
    (directory / "old").touch()
    old = volume_of(asking(), STANDARD, Provisioner(NAME, tmp_path))
    old["metadata"]["name"], old["spec"]["claimRef"]["uid"] = "pvc-u0", "u0"
    await api.client.create(PERSISTENT_VOLUMES, old)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="standard"))
    async with running(api, *both(tmp_path)):
        await api.until(lambda: phase(api) == "Bound")
        assert [one["metadata"]["name"] for one in api.all(PERSISTENT_VOLUMES)] == ["pvc-u1"]
        assert list(directory.iterdir()) == []


async def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    api = FakeApi()
    await api.client.create(STORAGE_CLASSES, STANDARD)
    (tmp_path / "default").write_text("a file in the way")
    async with running(api, *both(tmp_path)):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="standard"))
        await api.until(lambda: messages(api, "ProvisioningFailed"))
    said = messages(api, "ProvisioningFailed")[0]
    assert said.startswith(f'failed to provision volume with StorageClass "standard": mkdir {tmp_path}/default/data: ')


async def test_a_directory_elsewhere_is_not_deleted(tmp_path: Path) -> None:
    api = FakeApi()
    other = tmp_path / "other"
    other.mkdir()
    made = volume("pv", phase="Released", persistentVolumeReclaimPolicy="Delete", annotations={PROVISIONED_BY: NAME})
    made["spec"]["hostPath"] = {"path": str(other)}
    await api.client.create(PERSISTENT_VOLUMES, made)
    async with running(api, both(tmp_path / "own")[1]):
        await api.until(lambda: messages(api, "VolumeFailedDelete"))
    assert other.is_dir()


async def test_the_controller_managers_own_provisioner(tmp_path: Path) -> None:
    api = FakeApi()
    own = Provisioner(IN_TREE.name, tmp_path)
    await api.client.create(STORAGE_CLASSES, {**STANDARD, "provisioner": IN_TREE.name})

    def binder(client: Any, informers: Any) -> PersistentVolumeBinder:
        return PersistentVolumeBinder(client, informers, in_tree=IN_TREE.name)

    def maker(client: Any, informers: Any) -> HostPathProvisioner:
        return HostPathProvisioner(client, informers, provisioner=own)

    async with running(api, binder, maker):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="standard"))
        await api.until(lambda: phase(api) == "Bound")
        await api.until(lambda: messages(api, "ProvisioningSucceeded"))
        assert messages(api, "ProvisioningSucceeded") == [
            "Successfully provisioned volume pvc-u1 using kubernetes.io/host-path"
        ]
        assert messages(api, "ExternalProvisioning") == []
        assert (tmp_path / "u1").is_dir()
        await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await api.until(lambda: not api.all(PERSISTENT_VOLUMES))
        assert not (tmp_path / "u1").exists()


async def test_a_volume_made_by_hand_is_deleted_below_tmp_alone(tmp_path: Path) -> None:
    api = FakeApi()
    directory = tmp_path / "by-hand"
    directory.mkdir()
    assert may_be_deleted(str(directory)), "pytest keeps its directories below /tmp"
    for name, path in (("here", str(directory)), ("there", "/srv/nothing")):
        made = volume(name, phase="", persistentVolumeReclaimPolicy="Delete")
        gone = {"namespace": "default", "name": "gone", "uid": "u9"}
        made["spec"] |= {"hostPath": {"path": path}, "claimRef": gone}
        await api.client.create(PERSISTENT_VOLUMES, made)
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: len(api.all(PERSISTENT_VOLUMES)) == 1)
        await api.until(lambda: messages(api, "VolumeFailedDelete"))
    assert not directory.exists()
    assert messages(api, "VolumeFailedDelete") == [
        "host_path deleter only supports /tmp/.+ but received provided /srv/nothing"
    ]
