"""What the machine is and has: kernel, operating system, CPUs, memory, disk, huge pages; read from /proc and /sys."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from pinnace.machinery.meta import Obj

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that do not change while the kubelet runs."""

    architecture: str
    cpus: int
    memory: int  # bytes
    disk: int  # bytes of the file system of the root directory
    huge_pages: dict[str, int]  # hugepages-2Mi -> bytes
    kernel_version: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str
    swap: int = 0  # bytes


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def read_machine(root: Path) -> Machine:
    disk = os.statvfs(root)
    return Machine(
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        cpus=os.cpu_count() or 1,
        memory=_total(_read("/proc/meminfo"), "MemTotal:"),
        swap=_total(_read("/proc/meminfo"), "SwapTotal:"),
        disk=disk.f_blocks * disk.f_frsize,
        huge_pages=huge_pages(Path("/sys/kernel/mm/hugepages")),
        kernel_version=platform.release(),
        os_image=_os_image(_read("/etc/os-release")),
        machine_id=_read("/etc/machine-id"),
        system_uuid=_read("/sys/class/dmi/id/product_uuid") or _read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
    )


def has_unified_cgroups() -> bool:
    """Whether the machine has cgroups of version 2 alone."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def has_apparmor() -> bool:
    """Whether the kernel confines processes by AppArmor profiles."""
    return _read("/sys/module/apparmor/parameters/enabled").startswith("Y")


def has_swap(swaps: str | None = None) -> bool:
    """Whether /proc/swaps lists any: its first line is a heading, and what is deleted does not count."""
    lines = (_read("/proc/swaps") if swaps is None else swaps).splitlines()[1:]
    return any(line.strip() and not line.split()[0].endswith("\\040(deleted)") for line in lines)


def _total(text: str, what: str) -> int:
    for line in text.splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    return 0


def _os_image(text: str) -> str:
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return "Linux"


def huge_pages(directory: Path) -> dict[str, int]:
    """Bytes of huge pages by resource (`hugepages-2Mi`), of a directory as the kernel has them."""
    found = {}
    for entry in sorted(directory.glob("hugepages-*kB")):
        kilobytes = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
        count = int(_read(str(entry / "nr_hugepages")) or 0)
        size = f"{kilobytes >> 20}Gi" if kilobytes >= 1 << 20 else f"{kilobytes >> 10}Mi"
        if kilobytes < 1024:
            size = f"{kilobytes}Ki"
        found[f"hugepages-{size}"] = count * kilobytes * 1024
    return found


def node_info(machine: Machine, runtime_version: str, kubelet_version: str) -> Obj:
    """`status.nodeInfo`."""
    minor = int(kubelet_version.split(".")[1])
    return {
        **({"swap": {"capacity": machine.swap}} if machine.swap and minor >= 34 else {}),
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel_version,
        "osImage": machine.os_image,
        "containerRuntimeVersion": runtime_version,
        "kubeletVersion": kubelet_version,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }
