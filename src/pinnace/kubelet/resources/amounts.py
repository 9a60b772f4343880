"""CPU shares, quotas, memory limits and OOM scores from a container's requests and limits, and a pod's cgroup path.

Pure; the arithmetic is that of the kubelet
(https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/,
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior).
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.cri.api import ContainerState, ContainerStatus, HugepageLimit, LinuxContainerResources
from pinnace.kubelet.pods import (
    BEST_EFFORT,
    BURSTABLE,
    GUARANTEED,
    amount_of,
    containers,
    init_containers,
    is_sidecar,
    qos_class,
)
from pinnace.machinery.meta import Obj, uid_of
from pinnace.machinery.quantity import Quantity

CPU_PERIOD = 100_000  # microseconds
MIN_QUOTA = 1_000
MIN_SHARES, MAX_SHARES = 2, 262_144
MIN_LIMIT = MIN_QUOTA * 1000 // CPU_PERIOD  # millicores; a lower limit makes no difference
GUARANTEED_OOM, BEST_EFFORT_OOM = -997, 1000
CRITICAL_PRIORITY = 2_000_000_000


def cpu_shares(milli: int) -> int:
    """cgroup v1 shares of so many millicores."""
    return max(MIN_SHARES, min(MAX_SHARES, milli * 1024 // 1000)) if milli > 0 else MIN_SHARES


def cpu_quota(milli: int) -> int:
    """Microseconds of CPU in each period; 0 for no limit."""
    return max(MIN_QUOTA, milli * CPU_PERIOD // 1000) if milli > 0 else 0


def _amount(container: Obj, kind: str, resource: str) -> Quantity | None:
    text = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    return None if text is None else Quantity.parse(str(text))


def _memory_request(container: Obj) -> int:
    request = _amount(container, "requests", "memory") or _amount(container, "limits", "memory")
    return request.value() if request else 0


def oom_score_adj(pod: Obj, container: Obj, memory_capacity: int) -> int:
    """How readily the kernel kills the container: -997 guaranteed, 1000 best effort, in between by request."""
    if (pod["spec"].get("priority") or 0) >= CRITICAL_PRIORITY:
        return GUARANTEED_OOM
    quality = qos_class(pod)
    if quality == GUARANTEED:
        return GUARANTEED_OOM
    if quality == BEST_EFFORT:
        return BEST_EFFORT_OOM
    rest = _shared_request(pod)
    score = _burstable_score(_memory_request(container) + rest, memory_capacity)
    if any(one["name"] == container["name"] and is_sidecar(one) for one in init_containers(pod)):
        # a sidecar must not die before the containers that it serves
        score = min(score, *(_burstable_score(_memory_request(one) + rest, memory_capacity) for one in containers(pod)))
    return score


def _shared_request(pod: Obj) -> int:
    """Every container's share of the memory that the pod requests beyond what its containers do."""
    whole = _amount(pod["spec"], "requests", "memory")
    if whole is None:
        return 0
    owners = [*containers(pod), *(one for one in init_containers(pod) if is_sidecar(one))]
    left = whole.value() - sum(_memory_request(one) for one in owners)
    return max(0, left) // len(owners)


def _burstable_score(request: int, capacity: int) -> int:
    score = 1000 - 1000 * request // capacity if capacity else 999
    return min(999, max(1000 + GUARANTEED_OOM, score))


def _limit(pod: Obj, container: Obj, resource: str) -> Quantity | None:
    """The container's limit, else that of the pod as a whole."""
    return _amount(container, "limits", resource) or _amount(pod["spec"], "limits", resource)


def container_resources(
    pod: Obj, container: Obj, memory_capacity: int, page_sizes: Iterable[str] = (), *, quotas: bool = True
) -> LinuxContainerResources:
    """The limits of a container; of huge pages of the machine's `page_sizes` that it does not ask for, it gets none.

    Without `quotas` limits of CPU time are not enforced.
    """
    cpu_limit = _limit(pod, container, "cpu")
    cpu_request = _amount(container, "requests", "cpu") or _amount(container, "limits", "cpu")
    memory = _limit(pod, container, "memory")
    quota = cpu_quota(cpu_limit.milli_value()) if cpu_limit and quotas else 0
    return LinuxContainerResources(
        cpu_period=CPU_PERIOD if quota else 0,
        cpu_quota=quota,
        cpu_shares=cpu_shares(cpu_request.milli_value() if cpu_request else 0),
        memory_limit_in_bytes=memory.value() if memory else 0,
        oom_score_adj=oom_score_adj(pod, container, memory_capacity),
        hugepage_limits=huge_page_limits(container, page_sizes),
    )


def huge_page_limits(container: Obj, page_sizes: Iterable[str]) -> list[HugepageLimit]:
    """What a container may use of huge pages, by size."""
    limits = (container.get("resources") or {}).get("limits") or {}
    asked = dict.fromkeys(page_sizes, "0")
    asked |= {name: str(text) for name, text in limits.items() if name.startswith("hugepages-")}
    return [
        HugepageLimit(page_size=page_name(name), limit=Quantity.parse(text).value())
        for name, text in sorted(asked.items())
    ]


def page_name(resource: str) -> str:
    """`hugepages-2Mi` as cgroups call the size: `2MB`."""
    return f"{resource.removeprefix('hugepages-').removesuffix('i')}B"


def actual_resources(granted: Obj, status: ContainerStatus) -> Obj:
    """What a container has by the runtime's word, in the words of what it was granted where that is the same."""
    has = status.resources
    if status.state is not ContainerState.RUNNING or has is None:
        return granted
    found: Obj = {name: value for name, value in granted.items() if value}
    limits, requests = dict(granted.get("limits") or {}), dict(granted.get("requests") or {})
    if "cpu" in limits and has.cpu_quota > 0 and has.cpu_period:
        _show(limits, "cpu", has.cpu_quota * 1000 // has.cpu_period, MIN_LIMIT)
    if "memory" in limits and has.memory_limit_in_bytes > 0:
        _show(limits, "memory", has.memory_limit_in_bytes, 0)
    if "cpu" in requests and has.cpu_shares:
        _show(requests, "cpu", -(-has.cpu_shares * 1000 // 1024), MIN_SHARES)
    if limits:
        found["limits"] = limits
    if requests:
        found["requests"] = requests
    return found


def _show(listed: Obj, resource: str, amount: int, least: int) -> None:
    """Put the amount there, unless it means the same as what is there; all below `least` do."""
    granted = amount_of(resource, listed[resource])
    if amount != granted and max(amount, granted) > least:
        listed[resource] = str(Quantity.parse(f"{amount}m") if resource == "cpu" else Quantity(amount, "binary"))


def cgroup_parent(pod: Obj, root: str, driver: str = "cgroupfs") -> str:
    """`<root>/kubepods[/burstable|/besteffort]/pod<uid>`, or the path of the slice that systemd has for it."""
    middle = {GUARANTEED: [], BURSTABLE: ["burstable"], BEST_EFFORT: ["besteffort"]}[qos_class(pod)]
    path = "/" + "/".join([*filter(None, root.split("/")), "kubepods", *middle, f"pod{uid_of(pod)}"])
    return path if driver != "systemd" else slice_path(path)


def slice_path(path: str) -> str:
    """Where systemd has the cgroup that others have at a path; a path of slices is what it is."""
    if path.endswith(".slice"):
        return path
    names = [name.replace("-", "_") for name in filter(None, path.split("/"))]
    return "".join(f"/{'-'.join(names[: depth + 1])}.slice" for depth in range(len(names)))
