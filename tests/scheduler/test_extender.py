"""Extenders over real HTTP: what they are asked, what becomes of their answers, and of their failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.configuration import Configuration
from pinnace.scheduler.extender import Extender, ExtenderFailed, filter_all, scores_of_all
from pinnace.scheduler.framework import BindingFailed, Rejection
from pinnace.wire.http import Request, Response
from pinnace.wire.server import serve
from tests.scheduler.objects import node, pod
from tests.scheduler.test_scheduler import scheduling

NODES = {name: node(name) for name in ("a", "b", "c")}


class Program:
    """An extender that answers as `answers` says, by verb, and remembers what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Obj]] = []
        self.url = ""

    def answer(self, request: Request) -> Response:
        verb = request.path.rpartition("/")[2]
        self.asked.append((verb, orjson.loads(request.body)))
        answer = self.answers.get(verb)
        if answer is None:
            return Response(500, (), b"no")
        body = answer(self.asked[-1][1]) if callable(answer) else answer
        return Response(200, (("Content-Type", "application/json"),), orjson.dumps(body))

    def settings(self, **more: Any) -> Obj:
        verbs = {f"{verb}Verb": verb for verb in self.answers}
        return {"urlPrefix": f"{self.url}/scheduler", "weight": 2, **verbs, **more}


@asynccontextmanager
async def program(**answers: Any) -> AsyncIterator[Program]:
    made = Program(answers)
    server = await serve(made.answer, [("127.0.0.1", 0)])
    made.url = f"http://127.0.0.1:{server.addresses[0][1]}"
    try:
        yield made
    finally:
        await server.close(0)


@asynccontextmanager
async def extender(made: Program, **more: Any) -> AsyncIterator[Extender]:
    found = Extender(made.settings(**more))
    try:
        yield found
    finally:
        await found.close()


async def test_filtering_by_names_and_by_nodes() -> None:
    answer = {"nodenames": ["a"], "failedNodes": {"b": "full"}, "failedAndUnresolvableNodes": {"c": "never"}}
    async with program(filter=answer) as made, extender(made, nodeCacheCapable=True) as one:
        assert await one.filter(pod(), NODES) == (
            ["a"], {"b": Rejection(("full",)), "c": Rejection(("never",), resolvable=False)},
        )  # fmt: skip
        assert made.asked == [("filter", {"pod": pod(), "nodenames": ["a", "b", "c"]})]
    async with program(filter={"Nodes": {"items": [NODES["b"]]}}) as made, extender(made) as one:
        assert await one.filter(pod(), NODES) == (["b"], {})
        assert [each["metadata"]["name"] for each in made.asked[0][1]["nodes"]["items"]] == ["a", "b", "c"]


async def test_each_is_asked_about_what_those_before_it_left() -> None:
    first, second = {"nodenames": ["a", "b"]}, {"nodenames": ["b"], "failedNodes": {"a": "no"}}
    async with program(filter=first) as one, program(filter=second) as two:
        async with extender(one, nodeCacheCapable=True) as x, extender(two, nodeCacheCapable=True) as y:
            left, rejected = await filter_all([x, y], pod(), NODES)
        assert (list(left), rejected) == (["b"], {"a": Rejection(("no",))})
        assert two.asked[0][1]["nodenames"] == ["a", "b"]


async def test_scores_are_weighed_and_added() -> None:
    scores = [{"host": "a", "score": 10}, {"Host": "b", "Score": 5}]
    async with program(prioritize=scores) as made, extender(made) as x, extender(made, weight=1) as y:
        assert await scores_of_all([x, y], pod(), NODES) == {"a": 300, "b": 150}


FAILURES: list[tuple[dict[str, Any], str]] = [
    ({}, "failed filter with extender at URL {url}/scheduler/filter, code 500"),
    ({"filter": {"error": "it is broken"}}, "it is broken"),
    ({"filter": {"nodenames": ["z"]}},
     'extender "{url}/scheduler" claims a filtered node "z" which is not found in the input node list'),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "words"), FAILURES)
async def test_failures(answers: dict[str, Any], words: str) -> None:
    async with program(**answers) as made:
        async with extender(made, filterVerb="filter") as strict:
            with pytest.raises(ExtenderFailed) as caught:
                await filter_all([strict], pod(), NODES)
            assert str(caught.value) == words.format(url=made.url)
        async with extender(made, filterVerb="filter", ignorable=True) as lenient:
            left, _ = await filter_all([lenient], pod(), NODES)
            assert set(left) == set(NODES)


async def test_binding() -> None:
    async with program(bind={}) as made, extender(made) as one:
        await one.bind(pod("p"), "a")
        args = {"podName": "p", "podNamespace": "default", "podUID": "uid-p", "node": "a"}
        assert made.asked == [("bind", args)]
    async with program(bind={"error": "taken"}) as made, extender(made) as one:
        with pytest.raises(BindingFailed, match="taken"):
            await one.bind(pod("p"), "a")


async def test_preemption_that_an_extender_narrows() -> None:
    answer = {"nodeNameToMetaVictims": {"a": {"pods": [{"uid": "uid-v"}], "numPDBViolations": 1}}}
    async with program(preempt=answer) as made, extender(made, nodeCacheCapable=True) as one:
        kept = await one.preempt(pod("p"), {"a": ([pod("v"), pod("w")], 2), "b": ([pod("x")], 0)})
        assert kept == {"a": (frozenset({"uid-v"}), 1)}
        assert made.asked[0][1]["nodeNameToMetaVictims"]["a"] == {
            "pods": [{"uid": "uid-v"}, {"uid": "uid-w"}], "numPDBViolations": 2,
        }  # fmt: skip


def requesting(**resources: str) -> Obj:
    return pod(container={"resources": {"requests": resources}})


def test_who_is_looked_after() -> None:
    managing = Extender({"managedResources": [{"name": "example.com/gpu"}]})
    assert managing.is_interested(requesting(**{"example.com/gpu": "1"}))
    assert not managing.is_interested(requesting(cpu="1"))
    assert Extender({}).is_interested(pod())


def by_name(name: str) -> Callable[[Obj], Obj]:
    """Lets one node pass."""

    def answer(args: Obj) -> Obj:
        others = {one: "not this one" for one in args["nodenames"] if one != name}
        return {"nodenames": [one for one in args["nodenames"] if one == name], "failedNodes": others}

    return answer


async def test_a_scheduler_with_an_extender() -> None:
    async with program(filter=by_name("b"), bind={}) as made:
        found = Configuration(extenders=(made.settings(nodeCacheCapable=True),), initial_backoff_seconds=0.05)
        async with scheduling(node("a"), node("b"), configuration=found) as api:
            api.put("pods", pod("p"))
            await api.until(lambda: any(event["reason"] == "Scheduled" for event in api.events))
            assert [verb for verb, _ in made.asked] == ["filter", "bind"]
            assert made.asked[1][1]["node"] == "b"
            assert api.bindings == []


async def test_why_the_extender_says_no() -> None:
    async with program(filter=by_name("x")) as made:
        found = Configuration(extenders=(made.settings(nodeCacheCapable=True),))
        async with scheduling(node("a"), node("b", cpu="1"), configuration=found) as api:
            api.put("pods", pod("p", cpu="2"))
            await api.until(lambda: api.condition("p").get("message"))
            assert api.condition("p")["message"].startswith(
                "0/2 nodes are available: 1 Insufficient cpu, 1 not this one. preemption: "
            )


async def test_an_extender_that_prefers() -> None:
    async with program(prioritize=[{"host": "b", "score": 10}]) as made:
        found = Configuration(extenders=(made.settings(weight=100),))
        async with scheduling(node("a", cpu="64"), node("b"), configuration=found) as api:
            for index in range(3):
                api.put("pods", pod(f"p{index}", cpu="1"))
            await api.until(lambda: len(api.placed()) == 3)
            assert set(api.placed().values()) == {"b"}


async def test_a_failing_extender_is_told_of_and_asked_again() -> None:
    async with program(filter=None) as made:
        found = Configuration(extenders=(made.settings(filterVerb="filter"),), initial_backoff_seconds=0.05)
        async with scheduling(node("a"), configuration=found) as api:
            api.put("pods", pod("p"))
            await api.until(lambda: api.condition("p").get("reason") == "SchedulerError")
            made.answers["filter"] = {"nodes": {"items": [node("a")]}}
            await api.until(api.placed)
            assert api.placed() == {"p": "a"}
