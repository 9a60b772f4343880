"""What a kubelet leaves to the next one: whole, or not there; and neither torn files nor full disks stop a node."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

import pytest

from pinnace.kubelet import state_files
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.topology import configured
from pinnace.kubelet.topology.cpu_manager import CpuManager
from tests.kubelet.conftest import Start
from tests.kubelet.node_api import NodeApi
from tests.kubelet.topology.test_choices import machine


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "made" / "state"
    state_files.write(file, b"one")
    state_files.write(file, b"another")
    assert state_files.read(file) == b"another"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("left", [b"", bytes(4096)])
def test_what_a_power_failure_left_empty_counts_as_not_there(left: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(left)
    with pytest.raises(FileNotFoundError):
        state_files.read(tmp_path / "state")


async def test_a_kubelet_starts_after_a_power_failure(
    api: NodeApi, start: Start, options: KubeletOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configured, "read_topology", lambda _path: machine())
    options.cpu_manager_policy = "static"
    options.kube_reserved = {"cpu": "1"}
    for file in (
        "cpu_manager_state",
        "dra_manager_state",
        "device-plugins/kubelet_internal_checkpoint",
        "pods/gone/resources.json",
        "pods/gone/userns",
        "pods/gone/volumes/kubernetes.io~csi/v/vol_data.json",
        "plugins/kubernetes.io/iscsi/iface-default/192.0.2.1:3260-iqn.2026-01.org.example:a-lun-0.json",
    ):
        path = options.root_dir / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1"}])
    await api.phase("p", "Running")


def test_cpus_are_given_back_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = CpuManager(machine(), {0}, (), tmp_path / "state")
    cpus.allocate("uid", "web", 2, None, ())

    def full(_path: Path, _content: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_files, "write", full)

    assert cpus.release(["uid"])
    assert not cpus.owners()
