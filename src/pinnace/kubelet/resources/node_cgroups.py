"""What of the node all pods together may use, and what the daemons beside them: limits of the cgroups of each.

How much is pure; `NodeCgroups` writes it, and goes on trying for pods, which may use more when a kubelet comes with a
lower limit. Specified by https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from pinnace.cri.api import HugepageLimit, LinuxContainerResources
from pinnace.kubelet.eviction.observations import most_processes
from pinnace.kubelet.node.machine_info import Machine
from pinnace.kubelet.node.status import capacity
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import amount_of
from pinnace.kubelet.resources.amounts import cpu_shares, page_name
from pinnace.kubelet.resources.cgroups import CgroupManager, limit_together
from pinnace.machinery.quantity import Quantity

_log = structlog.get_logger()

PODS = "pods"
RETRY = 60.0  # seconds
COMPRESSIBLE = "-compressible"  # what of an enforcement's name says that only the CPU is limited
_RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")

Amounts = Mapping[str, int]
"""By resource: millicores of cpu, units of anything else."""
Tell = Callable[[str, str, str], None]
"""`(type, reason, message)`: an event about the node."""


def limits(amounts: Amounts, *, compressible: bool = False) -> LinuxContainerResources:
    """The limits of a cgroup that may use so much; `compressible` is of the CPU alone."""
    found = LinuxContainerResources()
    if "cpu" in amounts:
        found.cpu_shares = cpu_shares(amounts["cpu"])
    if compressible:
        return found
    found.memory_limit_in_bytes = amounts.get("memory", 0)
    found.pids_limit = amounts.get("pid", 0)
    found.hugepage_limits = [
        HugepageLimit(page_size=page_name(name), limit=amount)
        for name, amount in sorted(amounts.items())
        if name.startswith("hugepages-")
    ]
    return found


def for_pods(options: KubeletOptions, machine: Machine, processes: int) -> dict[str, int]:
    """What all pods together may use: what is not reserved, where that is enforced, or else all that there is."""
    has = {name: amount_of(name, text) for name, text in capacity(options, machine)[0].items()}
    has["pid"] = processes
    if PODS not in options.enforce_node_allocatable:
        return has
    return {name: max(0, amount - options.reserved(name)) for name, amount in has.items()}


def problem(options: KubeletOptions, machine: Machine) -> str:
    """Why a node cannot keep back what its options say; empty where it can."""
    for flag, reserved in (("kube-reserved", options.kube_reserved), ("system-reserved", options.system_reserved)):
        for name, text in reserved.items():
            if name not in _RESERVABLE:
                return f'--{flag} value failed to parse: cannot reserve "{name}" resource'
            if amount_of(name, text) < 0:
                why = f'resource quantity for "{name}" cannot be negative: {text}'
                return f"--{flag} value failed to parse: {why}"
    named = options.reserved_cpus()
    if named and (min(named) < 0 or max(named) >= machine.cpus):
        return f'invalid cpuset "{options.reserved_system_cpus}" specified by --reserved-cpus'
    has, _ = capacity(options, machine)
    kept = {name: options.reserved(name) + options.kept_free(name, amount_of(name, text)) for name, text in has.items()}
    short = [
        f'Resource "{name}" has a reservation of {_quantity(name, kept[name])} but capacity of {text}. '
        "Expected capacity >= reservation."
        for name, text in has.items()
        if kept[name] > amount_of(name, text)
    ]
    return f"invalid Node Allocatable configuration. {' '.join(short)}" if short else ""


def _quantity(resource: str, amount: int) -> str:
    return str(Quantity.parse(f"{amount}m")) if resource == "cpu" else str(Quantity(amount, "binary"))


class NodeCgroups:
    """The cgroups of one node's pods as a whole, and of the daemons that something is reserved for."""

    def __init__(self, options: KubeletOptions, machine: Machine, tell: Tell) -> None:
        self._options = options
        self._machine = machine
        self._tell = tell

    def limit_reserved(self, cgroups: CgroupManager) -> None:
        """Limit the daemons' cgroups where that is asked for. Raises ValueError."""
        options = self._options
        for part, what, cgroup, reserved in (
            ("system-reserved", "System Reserved", options.system_reserved_cgroup, options.system_reserved),
            ("kube-reserved", "Kube Reserved", options.kube_reserved_cgroup, options.kube_reserved),
        ):
            for name in (part, f"{part}{COMPRESSIBLE}"):
                if name in options.enforce_node_allocatable:
                    amounts = {resource: amount_of(resource, text) for resource, text in reserved.items()}
                    wrong = _limited(cgroups, cgroup, limits(amounts, compressible=name.endswith(COMPRESSIBLE)))
                    if wrong:
                        raise ValueError(f'Failed to enforce {what} Cgroup Limits on "{cgroup}": {wrong}')
                    self._tell("Normal", "NodeAllocatableEnforced", f"Updated limits on {what.lower()} cgroup {cgroup}")

    async def limit_pods(self, cgroups: CgroupManager | None) -> None:
        """Limit what all pods may use, as often as it takes; nothing where cgroups are not the kubelet's to make."""
        if cgroups is None:
            return
        path = f"/{self._options.cgroup_root.strip('/')}/kubepods".replace("//", "/")
        wanted = limits(for_pods(self._options, self._machine, most_processes(Path("/proc"))))
        while True:
            try:
                cgroups.create(path)
                limit_together(cgroups, path, wanted)
                self._tell("Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
                return
            except OSError as error:
                names = " ".join(f'"{name}"' for name in path.strip("/").split("/"))
                why = f"Failed to update Node Allocatable Limits [{names}]: {error}"
                _log.warning("cannot limit what pods use", cgroup=path, error=str(error))
                self._tell("Warning", "FailedNodeAllocatableEnforcement", why)
            await asyncio.sleep(RETRY)


def _limited(cgroups: CgroupManager, path: str, wanted: LinuxContainerResources) -> str:
    """Limit a cgroup that is there; what is wrong where that cannot be."""
    missing = cgroups.missing(path)
    if missing:
        names = " ".join(f'"{name}"' for name in path.strip("/").split("/"))
        return f"cgroup [{names}] has some missing paths: {', '.join(missing)}"
    try:
        limit_together(cgroups, path, wanted)
    except OSError as error:
        return str(error)
    return ""
