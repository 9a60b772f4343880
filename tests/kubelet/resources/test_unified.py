"""What cgroups of version 2 are told beside limits: memory QoS, and whom the OOM killer takes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cri.api import HugepageLimit
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.resources.amounts import container_resources
from pinnace.kubelet.resources.cgroups import pod_resources
from pinnace.kubelet.resources.qos_cgroups import class_limits
from pinnace.kubelet.resources.unified import MemoryQos, container_files, memory_qos, pod_files
from pinnace.machinery.meta import Obj

MI = 1 << 20
THROTTLING, TIERED, FORMER = MemoryQos(0.9), MemoryQos(reserved=True), MemoryQos(reserved=True, tiered=False)


def pod(request: str = "", limit: str = "", **more: str) -> Obj:
    """A pod of one container with these amounts of memory, and `more` of anything else requested and limited."""
    requests = {"memory": request} if request else {}
    limits = {"memory": limit} if limit else {}
    resources = {"requests": requests | more, "limits": limits | more}
    return {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


def files(of: Obj, qos: MemoryQos) -> dict[str, str]:
    container = of["spec"]["containers"][0]
    return container_files(of, container, qos, allocatable_memory=1000 * MI, single_process_oom_kill=True)


@pytest.mark.parametrize(
    ("of", "high"),
    [
        (pod("100Mi", "1000Mi"), 910 * MI),
        (pod("100Mi"), 910 * MI),  # of what the node has
        (pod("", "500Mi"), 450 * MI),
        (pod(), 900 * MI),
        (pod("1Mi", "2Mi"), 1990656),  # whole pages
        (pod("500Mi", "500Mi"), 0),
        (pod("500Mi", "500Mi", cpu="1"), 0),  # a Guaranteed one
    ],
)
def test_memory_is_throttled_between_request_and_limit(of: Obj, high: int) -> None:
    assert files(of, THROTTLING) == ({"memory.high": str(high)} if high else {})
    assert pod_files(of, THROTTLING) == {}


@pytest.mark.parametrize(
    ("of", "qos", "kept"),
    [
        (pod("100Mi", "100Mi", cpu="1"), TIERED, {"memory.min": str(100 * MI)}),
        (pod("100Mi"), TIERED, {"memory.low": str(100 * MI)}),
        (pod("100Mi"), FORMER, {"memory.min": str(100 * MI)}),
        (pod(), TIERED, {}),
        (pod("100Mi"), MemoryQos(), {}),
    ],
)
def test_requested_memory_is_kept_for_containers_and_for_what_they_are_in(of: Obj, qos: MemoryQos, kept: Obj) -> None:
    assert files(of, qos) == kept
    assert pod_files(of, qos) == kept


def test_classes_of_pods_keep_what_their_pods_do() -> None:
    pods = [pod("100Mi", "100Mi", cpu="1"), pod("30Mi"), pod("20Mi"), pod()]
    limits = class_limits(pods, 2000, TIERED)
    assert {path: one.unified for path, one in limits.items()} == {
        "/kubepods": {"memory.min": str(150 * MI)},
        "/kubepods/burstable": {"memory.low": str(50 * MI)},
        "/kubepods/besteffort": {},
    }


@pytest.mark.parametrize(
    ("version", "gates", "settings", "qos"),
    [
        ("v1.37.0", {}, {}, MemoryQos()),
        ("v1.37.0", {}, {"memory_throttling_factor": 0.8}, MemoryQos(0.8)),
        ("v1.37.0", {}, {"memory_reservation_policy": "TieredReservation"}, TIERED),
        ("v1.37.0", {"MemoryQoS": False}, {"memory_throttling_factor": 0.9}, MemoryQos()),
        ("v1.36.0", {"MemoryQoS": True}, {}, THROTTLING),
        ("v1.35.0", {"MemoryQoS": True}, {}, MemoryQos(0.9, reserved=True, tiered=False)),
        ("v1.35.0", {}, {}, MemoryQos()),
    ],
)
def test_what_is_configured_counts_where_the_feature_is_on(
    version: str, gates: dict[str, bool], settings: Obj, qos: MemoryQos
) -> None:
    options = KubeletOptions(
        node_name="n",
        node_ips=["192.0.2.1"],
        root_dir=Path("/r"),
        pod_logs_dir=Path("/l"),
        kubernetes_version=version,
        feature_gates=gates,
        **settings,
    )
    assert memory_qos(options) == qos


@pytest.mark.parametrize(("single", "written"), [(False, {"memory.oom.group": "1"}), (True, {})])
def test_the_oom_killer_takes_the_whole_container_along(single: bool, written: dict[str, str]) -> None:
    of = pod("1Mi")
    (container,) = of["spec"]["containers"]
    found = container_files(of, container, MemoryQos(), allocatable_memory=0, single_process_oom_kill=single)
    assert found == written


def test_huge_pages_are_for_those_who_ask_for_them() -> None:
    sizes = ("hugepages-1Gi", "hugepages-2Mi")
    asking, other = pod("1Mi", **{"hugepages-2Mi": "4Mi"}), pod()
    some = [HugepageLimit(page_size="1GB", limit=0), HugepageLimit(page_size="2MB", limit=4 * MI)]
    none = [HugepageLimit(page_size="1GB", limit=0), HugepageLimit(page_size="2MB", limit=0)]
    for of, limits in ((asking, some), (other, none)):
        assert container_resources(of, of["spec"]["containers"][0], 0, sizes).hugepage_limits == limits
        assert pod_resources(of, page_sizes=sizes).hugepage_limits == limits
