"""What an OCI runtime is told of a container: none of the launcher's extensions, and nothing that would be refused."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cri.engine.launcher import LaunchError
from pinnace.cri.engine.oci_runtime import in_plain_words

ALL = (1 << 41) - 1
OCI = {"program": "/usr/sbin/runc", "root": "/run/oci", "cgroup": "/kubepods/pod1/c", "privileged": False}


def spec(**linux: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.1.0",
        "process": {"oomScoreAdj": -997, "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"]}},
        "root": {"path": "rootfs"},
        "mounts": [],
        "linux": {"cgroupsPath": "", **linux},
    }


def test_the_root_and_the_cgroup_are_where_they_are() -> None:
    document = in_plain_words(spec(), "/bundle/rootfs", OCI, -1000, ALL)

    assert document["root"]["path"] == "/bundle/rootfs"
    assert document["linux"]["cgroupsPath"] == "/kubepods/pod1/c"
    assert document["process"]["oomScoreAdj"] == -997


def test_no_more_is_asked_than_may_be_given() -> None:
    without_resource = ALL & ~(1 << 24)

    document = in_plain_words(spec(), "/r", OCI, 0, without_resource)

    assert document["process"]["oomScoreAdj"] == 0
    assert document["process"]["capabilities"] == {"bounding": ["CAP_CHOWN"]}


@pytest.mark.parametrize("privileged", [False, True])
def test_devices_are_allowed_one_by_one_or_all(privileged: bool) -> None:
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}

    document = in_plain_words(spec(devices=[device]), "/r", {**OCI, "privileged": privileged}, 0, ALL)

    assert document["linux"]["resources"]["devices"] == [
        {"allow": privileged, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ]


@pytest.mark.parametrize(
    ("options", "propagation"), [([], "rprivate"), (["rslave"], "rslave"), (["rslave", "rshared"], "rshared")]
)
def test_mounts_travel_as_far_as_the_farthest_is_to(options: list[str], propagation: str) -> None:
    mounts = [{"destination": f"/{one}", "type": "bind", "options": ["rbind", one]} for one in options]

    document = in_plain_words({**spec(), "mounts": mounts}, "/r", OCI, 0, ALL)

    assert document["linux"]["rootfsPropagation"] == propagation


def test_what_only_the_launcher_can_do_is_refused() -> None:
    image = {**spec(), "mounts": [{"destination": "/x", "type": "overlay", "subpath": "a"}]}

    with pytest.raises(LaunchError, match="a directory of an image cannot be mounted by an OCI runtime"):
        in_plain_words(image, "/r", OCI, 0, ALL)
    with pytest.raises(LaunchError, match="a pod with users of its own cannot be run by an OCI runtime"):
        in_plain_words(spec(root=[65536, 65536]), "/r", OCI, 0, ALL)
