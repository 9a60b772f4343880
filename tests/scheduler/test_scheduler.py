"""The whole scheduler against a small API in memory: pods get nodes, failures are told, lost bindings tried again."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pinnace.client.client import Client
from pinnace.client.transport import JSON, Params
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj
from pinnace.scheduler.configuration import Configuration
from pinnace.scheduler.scheduler import Scheduler
from tests.scheduler.objects import node, pod

PATIENCE = 30.0


SOON = Configuration(initial_backoff_seconds=0.05)


class SmallApi:
    """Nodes, pods, namespaces and events, with list, watch, binding and the status of pods."""

    def __init__(self) -> None:
        self.objects: defaultdict[str, dict[str, Obj]] = defaultdict(dict)
        self.events: list[Obj] = []
        self.bindings: list[str] = []
        self.before_binding: Callable[[str], None] = lambda _: None
        self._versions = itertools.count(2)
        self._version = "1"
        self._watchers: defaultdict[str, list[asyncio.Queue[Obj]]] = defaultdict(list)
        self._changed = asyncio.Condition()

    def put(self, resource: str, obj: Obj) -> None:
        self._version = str(next(self._versions))
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": self._version}}
        known = obj["metadata"]["name"] in self.objects[resource]
        self.objects[resource][obj["metadata"]["name"]] = obj
        self._tell(resource, {"type": "MODIFIED" if known else "ADDED", "object": obj})

    def delete(self, resource: str, name: str) -> None:
        self._version = str(next(self._versions))
        obj = self.objects[resource].pop(name)
        gone = {**obj, "metadata": {**obj["metadata"], "resourceVersion": self._version}}
        self._tell(resource, {"type": "DELETED", "object": gone})

    def _tell(self, resource: str, event: Obj) -> None:
        for queue in self._watchers[resource]:
            queue.put_nowait(event)
        self._telling = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds of the API's contents."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), PATIENCE)

    def placed(self) -> dict[str, str]:
        return {
            name: obj["spec"]["nodeName"] for name, obj in self.objects["pods"].items() if "nodeName" in obj["spec"]
        }

    def condition(self, name: str) -> Obj:
        conditions = self.objects["pods"][name]["status"].get("conditions") or [{}]
        found: Obj = conditions[0]
        return found

    # The transport.

    async def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, content_type: str = JSON
    ) -> Obj:
        await asyncio.sleep(0)
        *_, last = path.split("/")
        if method == "GET":
            return {"kind": "List", "metadata": {"resourceVersion": self._version},
                    "items": list(self.objects[last].values())}  # fmt: skip
        if last == "binding":
            return self._bind(path.split("/")[-2], body)
        if method == "DELETE":
            self._end(last)
        elif last == "status":
            name = path.split("/")[-2]
            obj = self.objects["pods"][name]
            self.put("pods", {**obj, "status": {**obj["status"], **body["status"]}})
        elif last == "events":
            self.events.append(body)
            await self._notify()
        return {}

    def _end(self, name: str) -> None:
        """Pods take their time to end: `delete` is the end of it."""
        obj = self.objects["pods"][name]
        self.put("pods", {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-01-01T00:00:30Z"}})

    def _bind(self, name: str, binding: Obj) -> Obj:
        self.before_binding(name)
        obj = self.objects["pods"].get(name)
        if obj is None:
            raise errors.not_found("pods", name)
        self.bindings.append(name)
        self.put("pods", {**obj, "spec": {**obj["spec"], "nodeName": binding["target"]["name"]}})
        return {"kind": "Status", "status": "Success"}

    async def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        resource = path.split("/")[-1]
        queue: asyncio.Queue[Obj] = asyncio.Queue()
        for obj in self.objects[resource].values():
            if int(obj["metadata"]["resourceVersion"]) > int(params["resourceVersion"]):
                queue.put_nowait({"type": "ADDED", "object": obj})
        self._watchers[resource].append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers[resource].remove(queue)

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        raise NotImplementedError

    async def close(self) -> None: ...


@asynccontextmanager
async def scheduling(*nodes: Obj, configuration: Configuration = SOON) -> AsyncIterator[SmallApi]:
    api = SmallApi()
    for each in nodes:
        api.put("nodes", each)
    task = asyncio.ensure_future(Scheduler(Client(api), configuration=configuration).run())
    try:
        yield api
    finally:
        before = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not before


async def test_pods_are_bound_and_it_is_said() -> None:
    async with scheduling(node("a"), node("b")) as api:
        for index in range(50):
            api.put("pods", pod(f"p{index}", cpu="100m"))
        await api.until(lambda: len(api.placed()) == 50)
        assert sorted(api.bindings) == sorted(f"p{index}" for index in range(50))
        assert sorted(list(api.placed().values()).count(name) for name in ("a", "b")) == [25, 25]
        await api.until(lambda: len(api.events) == 50)
        event = next(event for event in api.events if event["involvedObject"]["name"] == "p0")
        assert (event["type"], event["reason"], event["source"]["component"]) == (
            "Normal", "Scheduled", "default-scheduler",
        )  # fmt: skip
        assert event["message"] == f"Successfully assigned default/p0 to {api.placed()['p0']}"


async def test_pod_of_another_scheduler_is_left_alone() -> None:
    async with scheduling(node("a")) as api:
        api.put("pods", pod("theirs", schedulerName="mine"))
        api.put("pods", pod("ours"))
        await api.until(api.placed)
        assert set(api.placed()) == {"ours"}


async def test_failure_is_told_and_a_new_node_helps() -> None:
    async with scheduling(node("small", cpu="1")) as api:
        api.put("pods", pod("p", cpu="2"))
        message = (
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
            "1 Preemption is not helpful for scheduling."
        )
        await api.until(lambda: api.condition("p").get("message") == message)
        assert {**api.condition("p"), "lastTransitionTime": ""} == {
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": "",
        }  # fmt: skip
        await api.until(lambda: api.events)
        assert (api.events[0]["type"], api.events[0]["reason"], api.events[0]["message"]) == (
            "Warning", "FailedScheduling", message,
        )  # fmt: skip
        api.put("nodes", node("big", cpu="4"))
        await api.until(api.placed)
        assert api.placed() == {"p": "big"}


async def test_without_nodes() -> None:
    async with scheduling() as api:
        api.put("pods", pod("p"))
        await api.until(lambda: api.condition("p").get("message") == "no nodes available to schedule pods")


async def test_room_that_a_deleted_or_finished_pod_leaves_is_used() -> None:
    async with scheduling(node("a", cpu="2")) as api:
        api.put("pods", pod("first", cpu="2"))
        await api.until(api.placed)
        api.put("pods", pod("second", cpu="2"))
        await api.until(lambda: api.condition("second"))
        api.put("pods", {**api.objects["pods"]["first"], "status": {"phase": "Succeeded"}})
        await api.until(lambda: "second" in api.placed())
        api.put("pods", pod("third", cpu="2"))
        await api.until(lambda: api.condition("third"))
        api.delete("pods", "second")
        await api.until(lambda: "third" in api.placed())


async def test_room_is_free_once_a_pod_has_shrunk_and_not_when_it_is_asked_to() -> None:
    async with scheduling(node("a", cpu="2")) as api:
        api.put("pods", pod("first", cpu="2"))
        await api.until(api.placed)
        bound = api.objects["pods"]["first"]
        has = {"requests": {"cpu": "2"}}
        [container] = bound["spec"]["containers"]
        asked = {**bound["spec"], "containers": [{**container, "resources": {"requests": {"cpu": "1"}}}]}
        status = {"name": "c", "resources": has, "allocatedResources": has["requests"]}
        api.put("pods", {**bound, "spec": asked, "status": {"phase": "Running", "containerStatuses": [status]}})
        api.put("pods", pod("second", cpu="1"))
        await api.until(lambda: api.condition("second").get("reason") == "Unschedulable")
        shrunk = {"name": "c", "resources": {"requests": {"cpu": "1"}}, "allocatedResources": {"cpu": "1"}}
        api.put("pods", {**bound, "spec": asked, "status": {"phase": "Running", "containerStatuses": [shrunk]}})
        await api.until(lambda: "second" in api.placed())


async def test_refused_binding_is_tried_again() -> None:
    async with scheduling(node("a", cpu="1")) as api:
        refusals = iter([True, False])

        def refuse_once(name: str) -> None:
            if next(refusals):
                raise errors.unavailable("not now")

        api.before_binding = refuse_once
        api.put("pods", pod("p", cpu="1"))
        await api.until(api.placed)
        assert api.placed() == {"p": "a"}
        assert any(event["message"] == 'running Bind plugin "DefaultBinder": not now' for event in api.events)


async def test_pod_that_vanishes_while_it_is_bound_leaves_its_room() -> None:
    async with scheduling(node("a", cpu="1")) as api:

        def vanish(name: str) -> None:
            if name == "p":
                api.delete("pods", "p")

        api.before_binding = vanish
        api.put("pods", pod("p", cpu="1"))
        await api.until(lambda: "p" not in api.objects["pods"])
        api.put("pods", pod("q", cpu="1"))
        await api.until(api.placed)
        assert api.placed() == {"q": "a"}


async def test_gated_pod_waits() -> None:
    async with scheduling(node("a")) as api:
        api.put("pods", pod("gated", schedulingGates=[{"name": "g"}]))
        api.put("pods", pod("free"))
        await api.until(api.placed)
        assert set(api.placed()) == {"free"}
        api.put("pods", pod("gated"))
        await api.until(lambda: "gated" in api.placed())
