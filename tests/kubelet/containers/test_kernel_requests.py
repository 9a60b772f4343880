"""What pods ask of the kernel: AppArmor, groups, huge pages, block devices, mounts that are seen outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import Device, HugepageLimit, Mount, MountPropagation
from pinnace.cri.engine import identity, propagation
from pinnace.kubelet.admission.rules import Refusal, refuse_apparmor
from pinnace.kubelet.containers.security import container_context
from pinnace.kubelet.resources.amounts import container_resources
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.empty_dir import page_size
from pinnace.kubelet.volumes.pod_volumes import container_devices

Obj = dict[str, Any]


def pod(*containers: Obj, **spec: Any) -> Obj:
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": list(containers), **spec}}


def confined(kind: str) -> Obj:
    return {"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}


@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost"])
def test_pods_that_need_apparmor_are_refused_where_there_is_none(kind: str) -> None:
    text = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    refusal = Refusal("AppArmor", f"Pod was rejected: {text}", text)
    assert refuse_apparmor(pod(confined(kind)), enabled=False) == refusal
    assert refuse_apparmor(pod({"name": "c"}, securityContext={"appArmorProfile": {"type": kind}}), enabled=False)
    assert refuse_apparmor(pod(confined(kind)), enabled=True) is None


def test_pods_that_need_no_apparmor_run_without() -> None:
    assert refuse_apparmor(pod({"name": "c"}, confined("Unconfined")), enabled=False) is None


def test_a_strict_policy_leaves_out_the_groups_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("web:x:1000:1000::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("staff:x:50:web\n")
    merged = container_context(pod({"name": "c"}), {"name": "c"}, None, Path("/root"))
    strict = container_context(
        pod({"name": "c"}, securityContext={"supplementalGroupsPolicy": "Strict"}), {"name": "c"}, None, Path("/root")
    )
    assert (merged.supplemental_groups_policy, strict.supplemental_groups_policy) == ("Merge", "Strict")
    assert identity.resolve_user({"uid": 1000, "additionalGids": [7]}, str(tmp_path))[2] == [1000, 7, 50]
    assert identity.resolve_user({"uid": 1000, "additionalGids": [7], "strict": True}, str(tmp_path))[2] == [1000, 7]


def huge(**sizes: str) -> Obj:
    amounts = {f"hugepages-{name}": value for name, value in sizes.items()}
    return {"name": "c", "resources": {"requests": amounts, "limits": amounts}}


def test_huge_pages_are_of_the_size_that_is_asked_for() -> None:
    one, two = pod(huge(**{"2Mi": "4Mi"})), pod(huge(**{"2Mi": "4Mi", "1Gi": "1Gi"}))
    assert page_size(one, "HugePages") == page_size(two, "HugePages-2Mi") == 2 << 20
    assert page_size(two, "HugePages-1Gi") == 1 << 30
    for of, medium, why in (
        (pod({"name": "c"}), "HugePages", "there is no resource request for huge pages"),
        (two, "HugePages", "container requests multiple huge page sizes"),
        (one, "HugePages-1Gi", "medium 1Gi was not found"),
    ):
        with pytest.raises(VolumeError, match=why):
            page_size(of, medium)


def test_a_container_may_use_the_huge_pages_it_asks_for() -> None:
    container = huge(**{"2Mi": "4Mi", "1Gi": "1Gi"})
    limits = container_resources(pod(container), container, 1 << 30).hugepage_limits
    assert limits == [HugepageLimit(page_size="1GB", limit=1 << 30), HugepageLimit(page_size="2MB", limit=4 << 20)]


def test_block_volumes_are_devices() -> None:
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "x", "readOnly": True}}
    other = {"name": "w", "persistentVolumeClaim": {"claimName": "y"}}
    container = {"name": "c", "volumeDevices": [{"name": v, "devicePath": f"/dev/{v}"} for v in ("v", "w")]}
    volumes = {"v": Path("/dev/loop5"), "w": Path("/dev/loop6")}
    assert container_devices(pod(container, volumes=[claim, other]), container, volumes) == [
        Device(container_path="/dev/v", host_path="/dev/loop5", permissions="r"),
        Device(container_path="/dev/w", host_path="/dev/loop6", permissions="mrw"),
    ]


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /private rw - tmpfs tmpfs rw
31 22 0:31 / /with\\040space rw master:2 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "way", "problem"),
    [
        ("/srv/x", MountPropagation.BIDIRECTIONAL, ""),
        ("/privately", MountPropagation.BIDIRECTIONAL, ""),
        (
            "/private/x",
            MountPropagation.BIDIRECTIONAL,
            'path "/private/x" is mounted on "/private" but it is not a shared mount',
        ),
        (
            "/with space",
            MountPropagation.BIDIRECTIONAL,
            'path "/with space" is mounted on "/with space" but it is not a shared mount',
        ),
        ("/private", MountPropagation.HOST_TO_CONTAINER, ""),
    ],
)
def test_mounts_are_seen_outside_of_shared_mounts_alone(path: str, way: MountPropagation, problem: str) -> None:
    assert propagation.problem([Mount(container_path="/m", host_path=path, propagation=way)], MOUNTS) == problem
