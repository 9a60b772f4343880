"""Makes running pods as large as they were granted: the cgroup of the pod and those of its containers.

`resize` decides what and in which order; here it is done, step by step, and told when it fails or is complete.
"""

from __future__ import annotations

from dataclasses import replace

from pinnace.cri.api import ContainerState, CriError, LinuxContainerResources
from pinnace.kubelet.context import Node
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.pods import find_container
from pinnace.kubelet.resources.allocation import POD, resizable, same, with_sizes
from pinnace.kubelet.resources.amounts import cgroup_parent, container_resources
from pinnace.kubelet.resources.cgroups import limit_together, pod_resources
from pinnace.kubelet.resources.resize import Difference, Limits, difference, steps, too_small
from pinnace.machinery.meta import Obj, uid_of


async def actuate(node: Node, pod: Obj, resized: Difference) -> bool:
    """Change the limits of what runs; False where that failed and is to be tried again."""
    before = with_sizes(pod, node.resizing.actual(pod))
    if before is pod:
        return True
    if resized:
        node.resizing.began(pod)
    quotas = node.options.cpu_cfs_quota
    whole = pod_resources(before, quotas=quotas), pod_resources(pod, quotas=quotas)
    ids = _running(node, pod, resized)
    limits = {name: (_limits(node, before, name), _limits(node, pod, name)) for name in ids}
    refusal = await _too_small(node, pod, whole, limits, ids)
    if refusal:
        node.resizing.failed(pod, refusal)
        return False
    names = {identity: name for name, identity in ids.items()}
    try:
        for step in steps(whole, {ids[name]: pair for name, pair in limits.items()}):
            if not step.container_id:
                _limit_pod(node, pod, step.limits)
                continue
            await node.runtime.update_container_resources(step.container_id, step.limits)
            status = node.cache.get(uid_of(pod)).latest(names[step.container_id])
            if status is not None:
                await node.refresh(status, uid_of(pod))
    except (CriError, OSError) as error:
        node.resizing.failed(pod, rpc_error(error) if isinstance(error, CriError) else str(error))
        return False
    for name in (*resized.update, *([POD] if pod["spec"].get("resources") else [])):
        owner = pod["spec"] if name == POD else find_container(pod, name)
        node.resizing.set_actual(pod, name, (owner or {}).get("resources") or {})
    return True


def settle(node: Node, pod: Obj) -> None:
    """Say that a resize is complete, once nothing that runs has other sizes than it was granted."""
    if not node.resizing.in_progress(uid_of(pod)):
        return
    actual = node.resizing.actual(pod)
    whole = pod["spec"].get("resources")
    if whole and not same(whole, actual.get(POD) or {}):
        return
    if not difference(pod, actual, node.cache.get(uid_of(pod))):
        node.resizing.completed(pod)


def _running(node: Node, pod: Obj, resized: Difference) -> dict[str, str]:
    """The ids of containers whose limits may change as they run; those without any of their own have the pod's."""
    runtime = node.cache.get(uid_of(pod))
    found = {}
    for container in resizable(pod):
        status = runtime.current(container["name"])
        running = status is not None and status.state is ContainerState.RUNNING
        if status is not None and running and container["name"] not in resized.restart:
            found[container["name"]] = status.id
    return found


def _limits(node: Node, pod: Obj, name: str) -> LinuxContainerResources:
    container = find_container(pod, name) or {"name": name}
    # Who is killed first is decided when a container starts: runtimes do not change it later.
    found = container_resources(pod, container, node.memory_capacity(), quotas=node.options.cpu_cfs_quota)
    return replace(found, oom_score_adj=0)


def _limit_pod(node: Node, pod: Obj, limits: LinuxContainerResources) -> None:
    if node.cgroups is not None:
        limit_together(node.cgroups, cgroup_parent(pod, node.options.cgroup_root), limits)


async def _too_small(node: Node, pod: Obj, whole: Limits, limits: dict[str, Limits], ids: dict[str, str]) -> str:
    """Why memory cannot shrink as asked; what is in use is asked for only where some limit shrinks."""
    if not too_small(whole, 1 << 62, {name: (pair, 1 << 62) for name, pair in limits.items()}):
        return ""
    used = {one.id: one.memory_working_set_bytes for one in await node.runtime.list_container_stats()}
    path = cgroup_parent(pod, node.options.cgroup_root)
    all_used = node.cgroups.usage(path).memory_working_set if node.cgroups is not None else 0
    return too_small(whole, all_used, {name: (pair, used.get(ids[name], 0)) for name, pair in limits.items()})
