"""A CSI driver in a pod, as drivers run in clusters: claims of its class, and what becomes of them when it is gone.

Its external companions (provisioner, attacher, resizer) are played by the tests, step by step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinnace
from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE, SLEEP, Obj, container, pod
from tests.e2e.test_crash import kill, processes
from tests.e2e.test_pod_life import create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

PLAIN, ATTACHED = "plain.csi.example.org", "attached.csi.example.org"
LIMIT = 2  # volumes of a driver that the node can have
SPACE = "csi"
MIB = 1 << 20


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


class Driver:
    """The driver's pod, and its companions."""

    def __init__(self, cluster: Cluster, store: Path) -> None:
        self.cluster = cluster
        self.store = store
        self.root = cluster.directory / "kubelet"

    def start(self) -> None:
        spec = self._pod()
        labels = {"app": "csi"}
        self.cluster.kubectl("create", "namespace", SPACE)
        self.cluster.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": "driver", "namespace": SPACE},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec},
                },
            },
            *(self._object(name, attachRequired=name == ATTACHED) for name in (PLAIN, ATTACHED)),
            *(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "StorageClass",
                    "metadata": {"name": name.partition(".")[0]},
                    "provisioner": name,
                    "allowVolumeExpansion": True,
                }
                for name in (PLAIN, ATTACHED)
            ),
        )
        until(lambda: self.registered() == {PLAIN, ATTACHED})

    def _object(self, name: str, **more: Any) -> Obj:
        modes = ["Persistent", "Ephemeral"]
        spec = {"podInfoOnMount": True, "volumeLifecycleModes": modes, "fsGroupPolicy": "File", "seLinuxMount": True}
        metadata = {"name": name}
        return {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata, "spec": {**spec, **more}}

    def _pod(self) -> Obj:
        """The machine's Python with this package: the image has none."""
        source = Path(pinnace.__file__).parent.parent
        here = Path(__file__).parents[2]
        volumes: list[Obj] = []
        mounts: list[Obj] = []
        readable = {"/usr", "/lib", "/lib64", "/etc", sys.base_prefix, sys.prefix, str(source), str(here / "tests")}
        for number, path in enumerate(sorted(path for path in readable if Path(path).exists())):
            volumes.append({"name": f"read-{number}", "hostPath": {"path": path, "type": "Directory"}})
            mounts.append({"name": f"read-{number}", "mountPath": path, "readOnly": True})
        for name, writable in (("root", self.root), ("store", self.store.parent), ("dev", Path("/dev"))):
            volumes.append({"name": name, "hostPath": {"path": str(writable)}})
            mount = {"name": name, "mountPath": str(writable)}
            mounts.append(mount | ({"mountPropagation": "Bidirectional"} if name == "root" else {}))
        program = [sys.executable, "-m", "tests.support.csi_driver", f"--root={self.root}", f"--store={self.store}"]
        environment = {
            "PYTHONPATH": f"{source}:{here}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": "/usr/sbin:/usr/bin:/bin",
        }
        driver = {
            "name": "driver",
            "image": IMAGE,
            "command": [*program, f"--limit={LIMIT}", PLAIN, ATTACHED],
            "workingDir": str(here),
            "env": [{"name": key, "value": value} for key, value in environment.items()],
            "securityContext": {"privileged": True},
            "volumeMounts": mounts,
        }
        return {"containers": [driver], "volumes": volumes, "terminationGracePeriodSeconds": 5}

    def stop(self) -> None:
        for what in ("daemonset/driver", f"csidriver/{PLAIN}", f"csidriver/{ATTACHED}", "sc/plain", "sc/attached"):
            self.cluster.kubectl("-n", SPACE, "delete", what)
        self.cluster.kubectl("delete", "namespace", SPACE)

    def registered(self) -> set[str]:
        found = self.cluster.kubectl("get", "csinode", "-o", "json").stdout
        return {one["name"] for node in json.loads(found)["items"] for one in node["spec"]["drivers"] or ()}

    def calls(self, method: str, volume: str) -> list[Obj]:
        lines = (self.store / "calls").read_text().splitlines()
        told = [json.loads(line) for line in lines]
        return [one for one in told if one["method"] == method and one.get("volume_id") == volume]

    def provision(self, namespace: str, name: str, *, attached: bool = False, **more: Any) -> str:
        """Make the volume that a claim asks for, as an external provisioner does; its name and handle."""
        about = "{.metadata.annotations.volume\\.kubernetes\\.io/storage-provisioner}"
        driver = ATTACHED if attached else PLAIN
        waiting = ("wait", f"--for=jsonpath={about}={driver}", f"pvc/{name}", "--timeout=60s")
        self.cluster.kubectl("-n", namespace, *waiting)
        claim = self.cluster.json("-n", namespace, "get", "pvc", name)
        volume = f"pvc-{claim['metadata']['uid']}"
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace}
        spec = {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "volumeMode": claim["spec"]["volumeMode"],
            "storageClassName": claim["spec"]["storageClassName"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {**reference, "uid": claim["metadata"]["uid"]},
            "csi": {"driver": driver, "volumeHandle": volume, "fsType": "ext4"},
            **more,
        }
        metadata = {"name": volume, "annotations": {"pv.kubernetes.io/provisioned-by": driver}}
        self.cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
        self.cluster.kubectl(
            "-n", namespace, "wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{name}", "--timeout=60s"
        )
        return volume

    def attachments(self) -> list[Obj]:
        return [
            one for one in self.cluster.json("get", "volumeattachment")["items"] if one["spec"]["attacher"] == ATTACHED
        ]

    def attach(self) -> None:
        """Attach what is to be attached, as an external attacher does."""
        for one in until(self.attachments):
            status = {"status": {"attached": True, "attachmentMetadata": {"path": "/dev/zero"}}}
            where = ("volumeattachment", one["metadata"]["name"], "--subresource=status", "--type=merge")
            self.cluster.kubectl("patch", *where, "-p", json.dumps(status))


@pytest.fixture(scope="module")
def driver(cluster: Cluster, scratch: Path) -> Iterator[Driver]:
    (scratch / "csi").mkdir()
    made = Driver(cluster, scratch / "csi" / "store")
    made.start()
    yield made
    left = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/csi/" in line]
    made.stop()
    assert [path for path in left if path.startswith(str(made.root))] == []
    wait_gone = (made.root / "plugins" / "kubernetes.io" / "csi").rglob("*")
    assert [path for path in wait_gone if path.is_file()] == []


@pytest.fixture
def volumes(cluster: Cluster, driver: Driver) -> Iterator[list[str]]:
    """Volumes that a test made, to be removed."""
    made: list[str] = []
    yield made
    for one in made:
        cluster.kubectl("delete", "pv", one, "--wait=false")


def claim(name: str, kind: str = "plain", mode: str = "Filesystem") -> Obj:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": mode,
        "storageClassName": kind,
        "resources": {"requests": {"storage": "8Mi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def using(name: str, source: Obj, script: str = SLEEP, **spec: Any) -> Obj:
    mounted = container("c", script, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    return pod(name, mounted, volumes=[{"name": "v", **source}], **spec)


def of_claim(name: str) -> Obj:
    return {"persistentVolumeClaim": {"claimName": name}}


def ready(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def gone(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.kubectl("-n", namespace, "delete", "pod", name, "--timeout=60s")


def test_a_claim_is_provisioned_mounted_and_grows_in_use(
    cluster: Cluster, namespace: str, driver: Driver, volumes: list[str]
) -> None:
    create(cluster, namespace, claim("data"))
    volume = driver.provision(namespace, "data")
    volumes.append(volume)
    create(
        cluster,
        namespace,
        using("p", of_claim("data"), "echo here > /v/file; " + SLEEP, securityContext={"fsGroup": 4242}),
    )
    ready(cluster, namespace, "p")
    until(lambda: (driver.store / volume / "file").exists())
    assert (driver.store / volume).stat().st_gid == 4242
    published = driver.calls("NodePublishVolume", volume)[-1]
    assert published["volume_context"]["csi.storage.k8s.io/pod.name"] == "p"
    assert "mount_flags" not in published["volume_capability"]["mount"]  # no context= without SELinux

    patch = {"spec": {"resources": {"requests": {"storage": "16Mi"}}}}
    cluster.kubectl("-n", namespace, "patch", "pvc", "data", "-p", json.dumps(patch))
    grown = {"spec": {"capacity": {"storage": "16Mi"}}}
    cluster.kubectl("patch", "pv", volume, "-p", json.dumps(grown))
    pending = {
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
        "allocatedResources": {"storage": "16Mi"},
        "allocatedResourceStatuses": {"storage": "NodeResizePending"},
    }
    where = ("pvc", "data", "--subresource=status", "-p", json.dumps({"status": pending}))
    cluster.kubectl("-n", namespace, "patch", *where)
    cluster.kubectl("-n", namespace, "annotate", "pod", "p", "look=again")
    wait(cluster, namespace, "pvc/data", ".status.capacity.storage", "16Mi")
    status = cluster.json("-n", namespace, "get", "pvc", "data")["status"]
    assert "conditions" not in status
    assert not status.get("allocatedResourceStatuses")
    told = f'MountVolume.NodeExpandVolume succeeded for volume "{volume}"'
    until(lambda: told in cluster.kubectl("-n", namespace, "get", "events").stdout)
    inside = cluster.kubectl("-n", namespace, "exec", "p", "--", "cat", "/v/.size").stdout
    assert inside == str(16 * MIB)
    assert len(driver.calls("NodePublishVolume", volume)) == 1

    gone(cluster, namespace, "p")
    until(lambda: driver.calls("NodeUnstageVolume", volume))
    assert len(driver.calls("NodeUnpublishVolume", volume)) == 1


def test_volumes_are_attached_within_the_nodes_limit(
    cluster: Cluster, namespace: str, driver: Driver, volumes: list[str]
) -> None:
    for name in ("a", "b", "c"):
        create(cluster, namespace, claim(name, "attached"))
        volumes.append(driver.provision(namespace, name, attached=True))
    for name in ("a", "b"):
        create(cluster, namespace, using(name, of_claim(name)))
    until(lambda: len(driver.attachments()) == 2)
    driver.attach()
    for name in ("a", "b"):
        ready(cluster, namespace, name)
    assert driver.calls("NodeStageVolume", volumes[0])[0]["publish_context"] == {"path": "/dev/zero"}
    create(cluster, namespace, using("c", of_claim("c")))
    full = "node(s) exceed max volume count"
    until(lambda: full in cluster.kubectl("-n", namespace, "get", "events").stdout)
    gone(cluster, namespace, "a")
    until(lambda: {one["spec"]["source"]["persistentVolumeName"] for one in driver.attachments()} == set(volumes[1:]))
    driver.attach()
    ready(cluster, namespace, "c")
    for name in ("b", "c"):
        gone(cluster, namespace, name)
    until(lambda: not driver.attachments())


def test_a_block_volume_is_a_device(cluster: Cluster, namespace: str, driver: Driver, volumes: list[str]) -> None:
    create(cluster, namespace, claim("disk", mode="Block"))
    volumes.append(driver.provision(namespace, "disk"))
    script = "echo written | dd of=/dev/disk conv=sync; dd if=/dev/disk bs=8 count=1; " + SLEEP
    main = container("c", script, volumeDevices=[{"name": "v", "devicePath": "/dev/disk"}])
    create(cluster, namespace, pod("p", main, volumes=[{"name": "v", **of_claim("disk")}]))
    until(lambda: "written" in cluster.kubectl("-n", namespace, "logs", "p", check=False).stdout)
    assert (driver.store / volumes[0] / "disk").read_bytes().startswith(b"written")
    gone(cluster, namespace, "p")
    assert driver.calls("NodeUnpublishVolume", volumes[0])


def test_inline_volumes_live_as_long_as_their_pod(
    cluster: Cluster, namespace: str, driver: Driver, volumes: list[str]
) -> None:
    inline = {"csi": {"driver": PLAIN, "volumeAttributes": {"what": "ever"}}}
    create(cluster, namespace, using("p", inline, "echo x > /v/x; " + SLEEP))
    template = {"metadata": {"labels": {"of": "q"}}, "spec": claim("")["spec"]}
    create(cluster, namespace, using("q", {"ephemeral": {"volumeClaimTemplate": template}}))
    until(lambda: cluster.kubectl("-n", namespace, "get", "pvc", "q-v", check=False).returncode == 0)
    volumes.append(driver.provision(namespace, "q-v"))
    for name in ("p", "q"):
        ready(cluster, namespace, name)
    for name in ("p", "q"):
        gone(cluster, namespace, name)
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pvc/q-v", "--timeout=60s")


def test_volumes_outlive_their_driver_and_the_kubelet(
    cluster: Cluster, namespace: str, driver: Driver, volumes: list[str]
) -> None:
    create(cluster, namespace, claim("data"))
    volumes.append(driver.provision(namespace, "data"))
    script = "while sleep 0.1; do date > /v/now; done"
    create(cluster, namespace, using("p", of_claim("data"), script))
    ready(cluster, namespace, "p")
    now = driver.store / volumes[0] / "now"

    def goes_on() -> None:
        before = now.stat().st_mtime_ns
        until(lambda: now.stat().st_mtime_ns > before)

    until(now.exists)
    cluster.kubectl("-n", SPACE, "patch", "daemonset", "driver", "-p", json.dumps(nowhere({"not": "here"})))
    until(lambda: driver.registered() == set())
    goes_on()
    kill([pid for pid, command in processes(cluster).items() if "node" in command])
    goes_on()
    cluster.kubectl("-n", namespace, "delete", "pod", "p", "--wait=false")
    until(lambda: '"FailedMount"' not in cluster.kubectl("-n", namespace, "get", "events", "-o", "json").stdout)
    assert not driver.calls("NodeUnpublishVolume", volumes[0])
    cluster.kubectl("-n", SPACE, "patch", "daemonset", "driver", "-p", json.dumps(nowhere(None)))
    cluster.kubectl("-n", namespace, "wait", "--for=delete", "pod/p", "--timeout=60s")
    assert driver.calls("NodeUnstageVolume", volumes[0])


def nowhere(labels: Obj | None) -> Obj:
    """A DaemonSet that runs on nodes with these labels."""
    return {"spec": {"template": {"spec": {"nodeSelector": labels}}}}
