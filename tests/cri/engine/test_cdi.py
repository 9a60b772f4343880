"""Devices that files on the node describe: which files count, and what a container gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinnace.cri.api import CDIDevice, ContainerConfig, ContainerMetadata, CriError, Device, ImageSpec, Mount
from pinnace.cri.engine import cdi

SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.example/gpu",
    "containerEdits": {"env": ["DRIVER=1"], "additionalGids": [44]},
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["GPU0=yes"],
                "hooks": [
                    {"hookName": "createContainer", "path": "/bin/ldconfig", "args": ["ldconfig", "-v"], "timeout": 3},
                    {"hookName": "poststop", "path": "/bin/true"},
                ],
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
                "mounts": [{"hostPath": "/usr/lib/gpu", "containerPath": "/lib/gpu", "options": ["ro", "rbind"]}],
            },
        },
        {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu1"}]}},
    ],
}


def config(*names: str) -> ContainerConfig:
    devices = [CDIDevice(name=name) for name in names]
    made = ContainerConfig(metadata=ContainerMetadata(name="c"), image=ImageSpec(image="i"), CDI_devices=devices)
    made.linux.security_context.supplemental_groups = [7]
    return made


def test_a_container_gets_what_its_devices_need() -> None:
    specs = cdi.devices_of(SPEC)
    made, hooks = cdi.inject(config("vendor.example/gpu=0", "vendor.example/gpu=1"), specs)
    assert made.envs == {"DRIVER": "1", "GPU0": "yes"}
    assert made.devices == [
        Device(container_path="/dev/gpu0", host_path="/dev/null", permissions="rw"),
        Device(container_path="/dev/gpu1", host_path="/dev/gpu1", permissions="rwm"),
    ]
    assert made.mounts == [Mount(container_path="/lib/gpu", host_path="/usr/lib/gpu", readonly=True)]
    assert made.linux.security_context.supplemental_groups == [7, 44]
    assert hooks == {
        "createContainer": [{"path": "/bin/ldconfig", "args": ["ldconfig", "-v"], "timeout": 3}],
        "poststop": [{"path": "/bin/true"}],
    }


def test_devices_are_also_named_by_annotations() -> None:
    asked = config("vendor.example/gpu=0")
    asked.annotations = {"cdi.k8s.io/plugin": "vendor.example/gpu=1, vendor.example/gpu=0", "other": "x=y"}

    assert cdi.wanted(asked) == ["vendor.example/gpu=0", "vendor.example/gpu=1"]


def test_a_device_that_is_described_nowhere_is_named() -> None:
    with pytest.raises(CriError, match="injection failed: unresolvable CDI devices vendor"):
        cdi.inject(config("vendor.example/gpu=9"), cdi.devices_of(SPEC))


def test_later_directories_win_and_what_is_no_description_is_left_out(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    for directory in (first, second):
        directory.mkdir()
    (first / "gpu.json").write_text(json.dumps(SPEC))
    (first / "broken.json").write_text("{")
    (first / "list.json").write_text("[]")
    (second / "gpu.yaml").write_text("kind: vendor.example/gpu\ndevices:\n- name: '0'\n")
    specs = cdi.read_specs((first, second, tmp_path / "none"))
    assert sorted(specs) == ["vendor.example/gpu=0", "vendor.example/gpu=1"]
    assert specs["vendor.example/gpu=0"] == [{}, {}]
