"""Whose pod goes first, what it is told, and whose wrote too much."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.kubelet.eviction.messages import condition_message, eviction_message
from pinnace.kubelet.eviction.ranking import ContainerUsage, Disk, PodUsage, is_critical, rank
from pinnace.kubelet.eviction.storage import excess, is_limited
from pinnace.kubelet.eviction.thresholds import Amount, Observation, Signal, Threshold
from pinnace.machinery.meta import Obj

MI = 1024 * 1024


def pod(name: str, *, priority: int = 0, containers: list[Obj] | None = None, **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"priority": priority, "containers": containers or [{"name": "c"}], **spec},
    }


def asking(name: str, memory: str = "", disk: str = "", *, priority: int = 0) -> Obj:
    asked = {"memory": memory, "ephemeral-storage": disk}
    resources = {"requests": {key: value for key, value in asked.items() if value}}
    return pod(name, priority=priority, containers=[{"name": "c", "resources": resources}])


def using(memory: int = 0, rootfs: int = 0, logs: int = 0, processes: int = 0, **volumes: int) -> PodUsage:
    one = ContainerUsage(name="c", memory=memory, rootfs=Disk(rootfs, 1), logs=Disk(logs, 1))
    sizes = {name: Disk(size, 1) for name, size in volumes.items()}
    return PodUsage(containers=[one], volumes=sizes, processes=processes)


def names(pods: list[Obj]) -> str:
    return " ".join(one["metadata"]["name"] for one in pods)


@pytest.mark.parametrize(
    ("pods", "usages", "expected"),
    [
        pytest.param(
            [asking("within", "100Mi"), asking("beyond", "1Mi")],
            {"within": using(90 * MI), "beyond": using(2 * MI)},
            "beyond within",
            id="who uses more than asked for goes first",
        ),
        pytest.param(
            [asking("high", priority=5), asking("low", priority=1)],
            {"high": using(90 * MI), "low": using(2 * MI)},
            "low high",
            id="then priority",
        ),
        pytest.param(
            [asking("little", "10Mi"), asking("much", "50Mi")],
            {"little": using(15 * MI), "much": using(60 * MI)},
            "much little",
            id="then what is used beyond the request",
        ),
        pytest.param(
            [asking("best", "", priority=9), asking("guaranteed", "100Mi", priority=0)],
            {"best": using(1), "guaranteed": using(99 * MI)},
            "best guaranteed",
            id="a priority does not save who uses more than asked for",
        ),
        pytest.param(
            [asking("known"), asking("unknown", priority=9)],
            {"known": using(90 * MI)},
            "unknown known",
            id="what cannot be measured goes first",
        ),
    ],
)
def test_order_for_memory(pods, usages, expected):
    assert names(rank(pods, usages, Signal.MEMORY_AVAILABLE)) == expected


def test_order_for_processes():
    pods = [pod("few"), pod("many"), pod("important", priority=3)]
    usages = {"few": using(processes=2), "many": using(processes=900), "important": using(processes=5000)}
    assert names(rank(pods, usages, Signal.PID_AVAILABLE)) == "many few important"


@pytest.mark.parametrize(
    ("signal", "dedicated", "expected"),
    [
        ("nodefs.available", False, "layer volume logs"),
        ("nodefs.available", True, "volume logs layer"),
        ("imagefs.available", True, "layer logs volume"),
        ("imagefs.available", False, "layer volume logs"),
    ],
)
def test_order_for_disks(signal, dedicated, expected):
    """What counts is what is on the file system that is short."""
    cache = {"volumes": [{"name": "v", "emptyDir": {}}]}
    pods = [pod("logs"), pod("volume", **cache), pod("layer")]
    usages = {"logs": using(logs=10), "volume": using(v=20), "layer": using(rootfs=30)}
    assert names(rank(pods, usages, Signal(signal), dedicated_image_fs=dedicated)) == expected


def test_memory_volumes_are_no_disk():
    pods = [pod("tmpfs", volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}]), pod("disk")]
    assert names(rank(pods, {"tmpfs": using(v=900), "disk": using(logs=1)}, Signal.NODEFS_AVAILABLE)) == "disk tmpfs"


@pytest.mark.parametrize(
    ("annotations", "priority", "critical"),
    [
        ({}, 0, False),
        ({}, 2_000_000_000, True),
        ({"kubernetes.io/config.source": "file"}, 0, True),
        ({"kubernetes.io/config.mirror": "x"}, 0, True),
    ],
)
def test_critical_pods(annotations, priority, critical):
    one = pod("p", priority=priority)
    one["metadata"]["annotations"] = annotations
    assert is_critical(one) is critical


# What is said.


def test_message_of_an_eviction():
    threshold = Threshold(Signal.MEMORY_AVAILABLE, Amount(100 * MI))
    seen = {Signal.MEMORY_AVAILABLE: Observation(75_000 * 1024, 1 << 32)}
    message, annotations = eviction_message("memory", asking("p", "10Mi"), using(memory=20 * MI), [threshold], seen)
    assert message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 75000Ki. "
        "Container c was using 20Mi, request is 10Mi, has larger consumption of memory. "
    )
    assert annotations == {
        "starved_resource": "memory",
        "offending_containers": "c",
        "offending_containers_usage": "20Mi",
    }


@pytest.mark.parametrize(
    ("resource", "usage", "words"),
    [
        (
            "ephemeral-storage",
            using(rootfs=3 * MI, logs=MI),
            "Container c was using 4Mi, request is 0, has larger consumption of ephemeral-storage. ",
        ),
        ("memory", using(memory=0), ""),
        ("inodes", using(rootfs=MI), ""),
        ("memory", None, ""),
    ],
)
def test_only_containers_that_use_more_than_they_asked_for_are_named(resource, usage, words):
    message, _ = eviction_message(resource, pod("p"), usage, [], {})
    assert message == f"The node was low on resource: {resource}. {words}"


def test_percentages_are_told_as_amounts():
    threshold = Threshold(Signal.NODEFS_INODES_FREE, Amount(part=0.05))
    seen = {Signal.NODEFS_INODES_FREE: Observation(40_000, 1_000_000)}
    message, _ = eviction_message("inodes", pod("p"), None, [threshold], seen)
    assert message == "The node was low on resource: inodes. Threshold quantity: 50k, available: 40k. "


def test_message_of_a_refusal():
    assert condition_message(("DiskPressure", "MemoryPressure")) == (
        "The node had condition: [DiskPressure MemoryPressure]. "
    )


# Who wrote too much.

LIMITED = {"name": "c", "resources": {"limits": {"ephemeral-storage": "10Mi"}}}


@pytest.mark.parametrize(
    ("one", "usage", "signal", "message"),
    [
        pytest.param(
            pod("p", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]),
            using(v=MI + 1),
            "emptydirfs.limit",
            'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ',
            id="emptyDir",
        ),
        pytest.param(
            pod("p", containers=[LIMITED], volumes=[{"name": "v", "emptyDir": {}}]),
            using(rootfs=4 * MI, logs=4 * MI, v=4 * MI),
            "ephemeralpodfs.limit",
            "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
            id="pod",
        ),
        pytest.param(
            pod("p", containers=[LIMITED, {"name": "d", "resources": {"limits": {"ephemeral-storage": "1Gi"}}}]),
            using(rootfs=11 * MI),
            "ephemeralcontainerfs.limit",
            'Container c exceeded its local ephemeral storage limit "10Mi". ',
            id="container",
        ),
    ],
)
def test_who_wrote_too_much(one, usage, signal, message):
    assert is_limited(one)
    assert excess(one, usage) == (signal, message)


@pytest.mark.parametrize(
    ("one", "usage", "dedicated"),
    [
        (pod("p", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]), using(v=MI), False),
        (pod("p", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "0"}}]), using(v=MI), False),
        (pod("p", volumes=[{"name": "v", "emptyDir": {}}]), using(v=900 * MI), False),
        (pod("p", containers=[LIMITED]), using(rootfs=10 * MI), False),
        (pod("p", containers=[LIMITED]), using(rootfs=90 * MI), True),
        (
            pod(
                "p",
                containers=[LIMITED],
                initContainers=[{**LIMITED, "name": "i", "resources": {"limits": {"ephemeral-storage": "1Gi"}}}],
            ),
            using(logs=9 * MI, v=50 * MI),
            False,
        ),
    ],
)
def test_who_did_not(one, usage, dedicated):
    assert excess(one, usage, dedicated_image_fs=dedicated) is None
