"""Lets the pods of hollow nodes live: takes each through the steps of `behaviour`, one write a step.

A key is one pod. What happens next follows from what the API holds, so a new process goes on where another ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_network
from typing import TYPE_CHECKING

from pinnace.apis.resources import PODS
from pinnace.client.controller import Controller
from pinnace.client.informer import Informer, InformerFactory
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.kubelet.hollow.behaviour import PREFIX, Behaviour, Step, next_step
from pinnace.kubelet.hollow.status import Place
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, get_in, key_of, name_of, namespace_of, uid_of, utc_now
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.client.client import Client

ADDRESSES = ip_network("198.18.0.0/15")  # of pods: the range that RFC 2544 keeps for what stands in for a network
_KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
)
_KEPT_SPEC = ("nodeName", "restartPolicy", "activeDeadlineSeconds")
_KEPT_STATUS = ("phase", "podIP", "containerStatuses")


class HollowPods(Controller):
    """`behaviours` has the nodes that are ours, by name; `hosts` their addresses."""

    name = "hollow-pods"
    workers = 32

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        behaviours: Mapping[str, Behaviour],
        hosts: Mapping[str, str],
    ) -> None:
        self._behaviours = behaviours
        self._hosts = hosts
        self._since: dict[str, tuple[str, float]] = {}  # uid -> the stage it is in, and since when
        self._addresses = _addresses()
        super().__init__(client, informers)

    def setup(self) -> None:
        self.pods = Informer(self.client, PODS, transform=_slim)
        self.pods.add_index("node", lambda pod: (pod["spec"].get("nodeName") or "",))
        self.pods.add_index("address", lambda pod: (get_in(pod, "status", "podIP", default=""),))
        self.pods.add_handler(self._seen, lambda _, pod: self._seen(pod), self._gone)

    def node_added(self, name: str) -> None:
        """Take up the pods that were bound to the node before it was ours."""
        for pod in self.pods.store.by_index("node", name):
            self.queue.add(key_of(pod))

    async def run(self) -> None:
        watching = asyncio.create_task(self.pods.run(), name="hollow pods")
        try:
            await self.pods.wait_synced()
            await super().run()
        finally:
            await end_tasks([watching])

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.store.get(key)
        if pod is None:
            return None
        behaviour = self._behaviours.get(get_in(pod, "spec", "nodeName", default=""))
        step = next_step(pod, behaviour) if behaviour is not None else None
        if step is None:
            return None
        left = self._left(pod, step)
        if left > 0:
            return left
        try:
            await self._take(pod, step)
        except ApiError as error:
            if not error.is_not_found and not error.is_conflict:  # gone, or changed: the next event tells
                raise
        return None

    def _left(self, pod: Obj, step: Step) -> float:
        """Seconds until the step is due."""
        now = time.monotonic()
        stage, since = self._since.get(uid_of(pod), ("", 0.0))
        if stage != step.stage:
            self._since[uid_of(pod)] = step.stage, now
            since = now
        return since + step.after - now

    async def _take(self, pod: Obj, step: Step) -> None:
        name, namespace, uid = name_of(pod), namespace_of(pod), uid_of(pod)
        if step.status is None:
            await self.client.delete(PODS, name, namespace, grace_period_seconds=0, uid=uid)
            return
        address = get_in(pod, "status", "podIP") or self._free_address()
        place = Place(address, self._hosts.get(pod["spec"]["nodeName"], ""))
        seen = {"uid": uid, "resourceVersion": pod["metadata"]["resourceVersion"]}
        patch = {"metadata": seen, "status": step.status(utc_now(), place)}
        await self.client.patch(PODS, name, patch, namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status")

    def _free_address(self) -> str:
        return next(text for one in self._addresses if not self.pods.store.by_index("address", text := str(one)))

    def _seen(self, pod: Obj) -> None:
        if get_in(pod, "spec", "nodeName") in self._behaviours:
            self.queue.add(key_of(pod))

    def _gone(self, pod: Obj) -> None:
        self._since.pop(uid_of(pod), None)


def _slim(pod: Obj) -> Obj:
    """What the steps need of a pod: there may be tens of thousands."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    kept: Obj = {name: metadata[name] for name in _KEPT_METADATA if name in metadata}
    told = {name: value for name, value in annotations_of(pod).items() if name.startswith(PREFIX)}
    if told:
        kept["annotations"] = told
    life: Obj = {name: spec[name] for name in _KEPT_SPEC if name in spec}
    for name in ("containers", "initContainers"):
        life[name] = [_slim_container(one) for one in spec.get(name) or ()]
    known: Obj = {name: status[name] for name in _KEPT_STATUS if name in status}
    if unready := [one for one in status.get("conditions") or () if one["type"] == "Ready" and one["status"] != "True"]:
        known["conditions"] = unready  # of most pods there is none
    return {"metadata": kept, "spec": life, "status": known}


def _slim_container(container: Obj) -> Obj:
    return {name: container[name] for name in ("name", "image", "restartPolicy") if name in container}


def _addresses() -> Iterator[IPv4Address]:
    while True:
        yield from ADDRESSES.hosts()  # type: ignore[misc] # an IPv4 network
