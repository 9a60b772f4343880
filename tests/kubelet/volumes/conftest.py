"""One pod's volumes below a temporary directory, without a kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pinnace.kubelet.containers.env import PodFacts
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.objects import ObjectFetcher
from pinnace.kubelet.volumes.context import VolumeContext
from pinnace.kubelet.volumes.disks import Disks
from pinnace.kubelet.volumes.mounts import mounted_below
from pinnace.kubelet.volumes.pod_certificates import PodCertificates
from pinnace.kubelet.volumes.pod_volumes import set_up_all
from pinnace.kubelet.volumes.tear_down import remove_volumes
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.meta import utc_now
from tests.kubelet.node_api import NodeApi


class Volumes:
    """One pod's volumes below a temporary directory."""

    def __init__(self, api: NodeApi, pods_dir: Path) -> None:
        self.api = api
        self.pods_dir = pods_dir
        self.fs_group: int | None = None
        self.csi = CsiDrivers(api.client, "n1", pods_dir.parent, lambda: None, lambda: None)
        self.disks = Disks(pods_dir.parent, pods_dir)
        self.told: list[str] = []  # events' messages
        self.changed = asyncio.Event()  # set when a certificate has come
        self.node = {"metadata": {"name": "n1", "uid": "n1-uid", "labels": {"kubernetes.io/hostname": "n1"}}}
        self.certificates = PodCertificates(
            api.client,
            lambda: self.node,
            lambda *told: self.told.append(told[-1]),
            lambda _: self.changed.set(),
            utc_now,
        )

    async def set_up(
        self, *volumes: dict[str, Any], uid: str = "u1", use: str = "volumeMounts", **spec: Any
    ) -> dict[str, Path]:
        """The paths of volumes that a pod's one container has as `volumeMounts` or `volumeDevices`."""
        if self.fs_group is not None:
            spec["securityContext"] = {"fsGroup": self.fs_group}
        container = {"name": "c", use: [{"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes]}
        pod = {
            "metadata": {"name": "p", "namespace": "default", "uid": uid, "labels": {"app": "x"}},
            "spec": {"containers": [container], "volumes": list(volumes), **spec},
        }
        facts = PodFacts(pod, host_ips=[], pod_ips=[], allocatable={})
        objects = ObjectFetcher(self.api.client)
        context = VolumeContext(
            pod=pod,
            pods_dir=self.pods_dir,
            facts=facts,
            fetch=objects.fetch_for(pod),
            bundles=objects.bundles,
            certificates=self.certificates,
            tokens=Tokens(self.api.client, utc_now),
            client=self.api.client,
            csi=self.csi,
            disks=self.disks,
            node=lambda: self.node,
            tell=lambda _about, _kind, reason, message: self.told.append(f"{reason}: {message}"),
        )
        return await set_up_all(context)

    async def persistent(self, name: str = "pv", **spec: Any) -> dict[str, Any]:
        """A volume of a pod by a bound claim, with what the persistent volume is."""
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"volumeName": name},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
        }
        made = await self.api.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
        reference = {"name": name, "namespace": "default", "uid": made["metadata"]["uid"]}
        volume = {"metadata": {"name": name}, "spec": {"capacity": {"storage": "1Gi"}, "claimRef": reference, **spec}}
        await self.api.client.create(PERSISTENT_VOLUMES, volume)
        return {"name": "v", "persistentVolumeClaim": {"claimName": name}}

    async def remove(self, uid: str = "u1") -> None:
        """The pod is gone."""
        await remove_volumes(self.csi, self.disks, uid)


@pytest.fixture
async def volumes(api: NodeApi, tmp_path: Path) -> AsyncIterator[Volumes]:
    made = Volumes(api, tmp_path / "pods")
    yield made
    await made.certificates.close()
    for uid in ("u1", "u2"):
        await made.remove(uid)
    assert not list((tmp_path / "pods").glob("*"))
    assert not mounted_below(tmp_path)
