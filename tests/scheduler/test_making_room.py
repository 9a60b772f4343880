"""The whole scheduler while pods of lower priority take their time to leave."""

from __future__ import annotations

from typing import Any

from pinnace.machinery.meta import Obj
from pinnace.scheduler.configuration import Configuration
from tests.scheduler.objects import node, pod
from tests.scheduler.test_extender import program
from tests.scheduler.test_scheduler import SmallApi, scheduling

BUSY = "0/2 nodes are available: 2 Insufficient cpu."
TERMINATING = f"{BUSY} preemption: not eligible due to a terminating pod on the nominated node."


def placed(name: str, where: str = "a", **more: Any) -> Obj:
    made = pod(name, cpu="1", nodeName=where, **more)
    return {**made, "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}}


def ending(api: SmallApi) -> set[str]:
    return {name for name, obj in api.objects["pods"].items() if "deletionTimestamp" in obj["metadata"]}


def nominated(api: SmallApi, name: str) -> str:
    found: str = api.objects["pods"][name]["status"].get("nominatedNodeName") or ""
    return found


async def test_while_victims_end_no_others_are_asked_to_leave() -> None:
    async with scheduling(node("a", cpu="2"), node("b", cpu="500m")) as api:
        for name in ("v1", "v2"):
            api.put("pods", placed(name))
        api.put("pods", {**placed("other", "b"), "spec": {**placed("other", "b")["spec"], "containers": []}})
        api.put("pods", pod("p", cpu="1", priority=5))
        await api.until(lambda: ending(api))
        [first] = ending(api)
        assert api.condition("p")["message"] == BUSY
        api.delete("pods", "other")  # has it try again, to no avail
        await api.until(lambda: api.condition("p")["message"] == TERMINATING)
        assert (nominated(api, "p"), ending(api)) == ("a", {first})
        api.delete("pods", first)
        await api.until(lambda: "p" in api.placed())
        events = {event["reason"]: event for event in api.events if event["involvedObject"]["name"] == first}
        assert events["Preempted"]["message"] == "Preempted by pod uid-p on node a"


async def test_room_is_kept_for_who_it_was_made_for() -> None:
    async with scheduling(node("a", cpu="1")) as api:
        api.put("pods", placed("victim"))
        api.put("pods", pod("p", cpu="1", priority=5))
        await api.until(lambda: ending(api) and nominated(api, "p"))
        api.put("pods", pod("equal", cpu="1", priority=5))
        await api.until(lambda: api.condition("equal"))
        api.delete("pods", "victim")
        await api.until(lambda: "p" in api.placed())
        assert "equal" not in api.placed()


async def test_room_of_a_pod_that_does_not_come_is_free_for_others() -> None:
    async with scheduling(node("a", cpu="2")) as api:
        api.put("pods", placed("victim"))
        api.put("pods", placed("high", priority=9))
        api.put("pods", pod("p", cpu="1", priority=5))
        await api.until(lambda: ending(api) and nominated(api, "p"))
        api.put("pods", pod("equal", cpu="1", priority=5))
        await api.until(lambda: api.condition("equal"))
        api.delete("pods", "p")
        await api.until(lambda: nominated(api, "equal") == "a")
        api.delete("pods", "victim")
        await api.until(lambda: "equal" in api.placed())


async def test_a_pod_of_still_higher_priority_takes_the_node_from_the_one_nominated() -> None:
    async with scheduling(node("a", cpu="1")) as api:
        api.put("pods", placed("victim"))
        api.put("pods", pod("first", cpu="1", priority=5))
        await api.until(lambda: ending(api) and nominated(api, "first"))
        api.put("pods", pod("second", cpu="1", priority=9))
        await api.until(lambda: nominated(api, "second") == "a" and nominated(api, "first") == "")
        api.delete("pods", "victim")
        await api.until(lambda: "second" in api.placed())
        assert "first" not in api.placed()


async def test_nothing_helps_where_the_pod_would_never_fit() -> None:
    async with scheduling(node("a", cpu="1"), node("b", cpu="4")) as api:
        api.put("pods", placed("small"))
        api.put("pods", placed("high", "b", priority=9))
        api.put("pods", pod("p", cpu="4", priority=5))
        await api.until(lambda: api.condition("p"))
        assert api.condition("p")["message"] == (
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
            "1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        )


async def test_an_extender_says_which_node_may_be_freed() -> None:
    kept = {"nodeNameToMetaVictims": {"b": {"pods": [{"uid": "uid-vb"}]}}}
    async with program(preempt=kept) as made:
        found = Configuration(extenders=(made.settings(nodeCacheCapable=True),), initial_backoff_seconds=0.05)
        async with scheduling(node("a", cpu="1"), node("b", cpu="1"), configuration=found) as api:
            api.put("pods", placed("va", "a", priority=1))
            api.put("pods", placed("vb", "b", priority=2))
            api.put("pods", pod("p", cpu="1", priority=5))
            await api.until(lambda: ending(api) and nominated(api, "p"))
            assert (ending(api), nominated(api, "p")) == ({"vb"}, "b")
            api.delete("pods", "vb")
            await api.until(lambda: "p" in api.placed())
            assert api.placed()["p"] == "b"
