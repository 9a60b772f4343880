"""Stops containers and pods: the preStop hook, the stop signal, the grace period, sidecars last.

Specified by https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable

import structlog

from pinnace.cri.api import ContainerStatus, CriError
from pinnace.kubelet.context import Node
from pinnace.kubelet.pods import find_container, init_containers, is_sidecar
from pinnace.kubelet.runtime.status import container_name
from pinnace.kubelet.sync.lifecycle import HookError, run_hook
from pinnace.machinery.meta import Obj, name_of, uid_of

_log = structlog.get_logger()

MINIMUM_GRACE = 2  # seconds that are left for the stop signal whatever the preStop hook took


async def kill_container(node: Node, pod: Obj, status: ContainerStatus, grace: int, message: str = "") -> None:
    """Stop one running container; returns when it has exited. Raises CriError."""
    name = container_name(status)
    container = find_container(pod, name)
    node.tell_container(pod, name, "Normal", "Killing", message or f"Stopping container {name}")
    began = time.monotonic()
    hook = ((container or {}).get("lifecycle") or {}).get("preStop")
    if hook and container and grace > 0:
        try:
            async with asyncio.timeout(grace):
                await run_hook(hook, container, status.id, _address(node, pod), node.runtime)
        except (HookError, TimeoutError) as error:
            _log.info("preStop hook failed", pod=name_of(pod), container=name, error=str(error))
            node.tell_container(pod, name, "Warning", "FailedPreStopHook", "PreStopHook failed")
        grace = max(MINIMUM_GRACE, grace - int(time.monotonic() - began))
    await _stop(node, pod, status, grace)


async def stop_all_at_once(node: Node, pod: Obj, statuses: Iterable[ContainerStatus]) -> None:
    """Stop running containers without their preStop hooks, with the least of a grace period. Raises CriError."""
    await _all(_stop_at_once(node, pod, status) for status in statuses)


async def _stop_at_once(node: Node, pod: Obj, status: ContainerStatus) -> None:
    name = container_name(status)
    node.tell_container(pod, name, "Normal", "Killing", f"Stopping container {name}")
    await _stop(node, pod, status, MINIMUM_GRACE)


async def _all(stops: Iterable[Awaitable[None]]) -> None:
    """Do all of it, and only then raise what one of them raised: the next attempt begins with every container anew."""
    for result in await asyncio.gather(*stops, return_exceptions=True):
        if result is not None:
            raise result


async def _stop(node: Node, pod: Obj, status: ContainerStatus, grace: int) -> None:
    node.probes.forget(status.id)
    try:
        await node.runtime.stop_container(status.id, grace)
    except CriError as error:
        if error.code != "NOT_FOUND":
            raise
    await node.refresh(status, uid_of(pod))


def _address(node: Node, pod: Obj) -> str:
    ips = node.cache.get(uid_of(pod)).ips
    return ips[0] if ips else node.options.node_ip


async def kill_pod(node: Node, pod: Obj, grace: int) -> None:
    """Stop every container, main ones first and sidecars in reverse order after them, then the sandboxes."""
    began = time.monotonic()
    runtime = node.cache.get(uid_of(pod))
    sidecars = [one["name"] for one in init_containers(pod) if is_sidecar(one)]
    running = runtime.running()
    first = [status for status in running if container_name(status) not in sidecars]
    await _all(kill_container(node, pod, status, grace) for status in first)
    for name in reversed(sidecars):
        left = max(1, grace - int(time.monotonic() - began))
        await _all(kill_container(node, pod, one, left) for one in running if container_name(one) == name)
    for sandbox in list(runtime.sandboxes):
        await node.runtime.stop_pod_sandbox(sandbox.id)
        await node.cache.refresh_sandbox(sandbox.id)
    for status in node.cache.get(uid_of(pod)).running():
        await node.refresh(status, uid_of(pod))  # what stopping the sandbox ended


async def remove_pod(node: Node, uid: str) -> None:
    """Remove the sandboxes of a pod and with them its containers. Raises CriError."""
    runtime = node.cache.get(uid)
    for sandbox in list(runtime.sandboxes):
        await node.runtime.remove_pod_sandbox(sandbox.id)
    for status in list(runtime.containers):
        await node.runtime.remove_container(status.id)
        node.cache.drop(status.id)
        node.messages.forget(status.id)
    for sandbox in list(runtime.sandboxes):
        node.cache.drop(sandbox.id)
