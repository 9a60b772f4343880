"""Flow control and deadlines of a whole server, with clients of its own over TLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import Filter, Watcher
from pinnace.apiserver.deadline import Deadlines, seconds_for
from pinnace.apiserver.flowcontrol.bootstrap import AUTOUPDATE, LEVELS, SCHEMAS
from pinnace.apiserver.request_info import parse_request
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import GVR, Obj
from pinnace.store.contract import Store
from pinnace.wire.http import Peer, Request
from tests.apiserver.conftest import Answer, Cluster, config_map, options_for
from tests.apiserver.hooks import Hooks, allow, register

MAPS = "/api/v1/namespaces/default/configmaps"
PLAIN = {"Authorization": "Bearer plain"}
OTHER = {"Authorization": "Bearer other"}
SCHEMA = "X-Kubernetes-Pf-Flowschema-Uid".lower()
LEVEL = "X-Kubernetes-Pf-Prioritylevel-Uid".lower()


@asynccontextmanager
async def running(pki: Path, store: Store, **more: Any) -> AsyncIterator[Cluster]:
    """A server that knows two users without rights of their own."""
    tokens = pki / "users.csv"
    tokens.write_text('test-token,tester,1,"system:masters"\nplain,plain-user,2\nother,other-user,3\n')
    options = options_for(pki, **more)
    options.token_auth_file = tokens
    server = ApiServer(options, store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop(0.2)


async def until(cluster: Cluster, resource: GVR, name: str, true: Any) -> Obj:
    """The object, as soon as `true` says so of it (of None while there is none)."""
    cache = cluster.server.api.storage.cache(resource)
    changed = asyncio.Event()
    leave = cache.watch(Watcher(Filter(), lambda *_: changed.set()))
    try:
        async with asyncio.timeout(60):
            while True:
                changed.clear()
                found = cache.get(name)
                if found is not None and true(found.obj()):
                    return found.obj()
                await changed.wait()
    finally:
        leave()


def dangling(schema: Obj) -> str:
    found = [each for each in (schema.get("status") or {}).get("conditions") or () if each["type"] == "Dangling"]
    return found[0]["status"] if found else ""


def level(name: str, **limited: Any) -> Obj:
    spec = {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}, **limited},
    }
    return {"metadata": {"name": name}, "spec": spec}


def schema(name: str, level: str, *users: str, **spec: Any) -> Obj:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}} for user in users],
        "resourceRules": [everything],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    reference = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 5, "rules": [rule]}
    return {"metadata": {"name": name}, "spec": {**reference, **spec}}


async def uid(cluster: Cluster, resource: GVR, name: str) -> str:
    found = await cluster.request("GET", resource.path("", name))
    return str(found["metadata"]["uid"])


async def test_a_cluster_has_kubernetes_schemas_and_levels(cluster: Cluster) -> None:
    levels = await cluster.request("GET", PRIORITY_LEVEL_CONFIGURATIONS.path())
    schemas = await cluster.request("GET", FLOW_SCHEMAS.path())

    assert {each["metadata"]["name"] for each in levels["items"]} == {each["metadata"]["name"] for each in LEVELS}
    assert {each["metadata"]["name"]: each["spec"] for each in schemas["items"]} == {
        each["metadata"]["name"]: each["spec"] for each in SCHEMAS
    }
    assert all(each["metadata"]["annotations"][AUTOUPDATE] == "true" for each in schemas["items"])


async def test_what_is_deleted_comes_back_and_what_is_mandatory_is_kept(cluster: Cluster) -> None:
    before = await until(cluster, FLOW_SCHEMAS, "catch-all", dangling)
    await cluster.request("DELETE", FLOW_SCHEMAS.path("", "probes"))
    await cluster.request(
        "PUT", FLOW_SCHEMAS.path("", "catch-all"), {**before, "spec": schema("x", "nowhere", "u")["spec"]}
    )
    mine = await cluster.request("GET", FLOW_SCHEMAS.path("", "service-accounts"))
    mine = {**mine, "metadata": {**mine["metadata"], "annotations": {AUTOUPDATE: "false"}}}
    mine["spec"] = {**mine["spec"], "matchingPrecedence": 8999}
    await cluster.request("PUT", FLOW_SCHEMAS.path("", "service-accounts"), mine)

    await until(cluster, FLOW_SCHEMAS, "probes", lambda _: True)
    kept = await until(cluster, FLOW_SCHEMAS, "catch-all", lambda each: each["spec"] == before["spec"])

    assert kept["metadata"]["generation"] == 3
    own = await cluster.request("GET", FLOW_SCHEMAS.path("", "service-accounts"))
    assert own["spec"]["matchingPrecedence"] == 8999


async def test_a_schema_without_its_level_dangles(cluster: Cluster) -> None:
    await cluster.request("POST", FLOW_SCHEMAS.path(), schema("lost", "nowhere", "plain-user"))
    found = await until(cluster, FLOW_SCHEMAS, "lost", lambda each: dangling(each) == "True")
    condition = found["status"]["conditions"][0]

    assert condition["reason"] == "NotFound"
    assert condition["message"] == (
        'This FlowSchema references the PriorityLevelConfiguration object named "nowhere" but there is no such object'
    )
    answer = await cluster.call("GET", "/version", headers=PLAIN)
    assert answer.headers[SCHEMA] == await uid(cluster, FLOW_SCHEMAS, "global-default")

    await cluster.request("POST", PRIORITY_LEVEL_CONFIGURATIONS.path(), level("nowhere"))
    found = await until(cluster, FLOW_SCHEMAS, "lost", lambda each: dangling(each) == "False")
    assert found["status"]["conditions"][0]["reason"] == "Found"


async def test_a_schema_that_is_gone_is_counted_no_more(pki: Path, store: Store) -> None:
    async with running(pki, store) as cluster:
        await cluster.request("POST", FLOW_SCHEMAS.path(), schema("mine", "workload-low", "plain-user"))
        await cluster.call("GET", MAPS, headers=PLAIN)
        control = cluster.server._limiter.control
        assert control is not None
        was_counted = ("workload-low", "mine") in control.tallies
        await cluster.request("DELETE", FLOW_SCHEMAS.path("", "mine"))
        await cluster.call("GET", MAPS, headers=PLAIN)

    assert was_counted
    assert ("workload-low", "mine") not in control.tallies


async def test_responses_say_how_a_request_was_classified(cluster: Cluster) -> None:
    """[sig-api-machinery] API priority and fairness should ensure that requests can be classified by adding FlowSchema
    and PriorityLevelConfiguration."""
    await cluster.request("POST", PRIORITY_LEVEL_CONFIGURATIONS.path(), level("mine"))
    await cluster.request("POST", FLOW_SCHEMAS.path(), schema("mine", "mine", "plain-user"))
    expected = (
        await uid(cluster, FLOW_SCHEMAS, "mine"),
        await uid(cluster, PRIORITY_LEVEL_CONFIGURATIONS, "mine"),
    )

    asked = [
        ("GET", "/api/v1/nodes", None, 200),
        ("GET", MAPS, None, 200),
        ("GET", f"{MAPS}/none", None, 404),
        ("POST", MAPS, config_map("classified"), 201),
        ("POST", MAPS, config_map("classified"), 409),
        ("GET", "/version", None, 200),
        ("GET", "/nowhere", None, 404),
    ]
    for method, path, body, status in asked:
        answer = await cluster.call(method, path, body, headers=PLAIN)
        assert (answer.status, answer.headers.get(SCHEMA), answer.headers.get(LEVEL)) == (status, *expected)
    _, writer, status, headers = await cluster.open("GET", f"{MAPS}?watch=1", headers=PLAIN)
    writer.close()
    assert (status, headers[SCHEMA]) == (200, expected[0])

    admin = await cluster.call("GET", MAPS)
    assert admin.headers[SCHEMA] == await uid(cluster, FLOW_SCHEMAS, "exempt")


async def test_one_whom_no_schema_speaks_of_is_caught(cluster: Cluster) -> None:
    nobody = {"Impersonate-User": "ghost", "Impersonate-Group": "ghosts"}
    control = cluster.server._limiter.control
    assert control is not None

    flow = control.classify(User("ghost", groups=("ghosts",)), parse_request("GET", MAPS))
    answer = await cluster.call("GET", MAPS, headers=nobody)

    assert (flow.schema, flow.level.name, flow.distinguisher) == ("catch-all", "catch-all", "ghost")
    assert answer.headers[LEVEL] != flow.headers[1][1]  # impersonation makes everybody authenticated


async def test_a_stream_is_nobodys_flow(cluster: Cluster) -> None:
    answer = await cluster.call("GET", "/api/v1/namespaces/default/pods/none/log", headers=PLAIN)

    assert answer.status == 404
    assert SCHEMA not in answer.headers


DUMPS = "/debug/api_priority_and_fairness"


async def dumped(cluster: Cluster, level: str, *expected: str) -> None:
    """Return once the level's row says so: active queues, idle, quiescing, waiting, executing."""
    async with asyncio.timeout(60):
        while True:
            table = (await cluster.call("GET", f"{DUMPS}/dump_priority_levels")).body.decode()
            row = next(line for line in table.splitlines() if line.startswith(f"{level},"))
            if tuple(cell.strip() for cell in row.split(","))[1 : 1 + len(expected)] == expected:
                return


@asynccontextmanager
async def held_up(
    pki: Path, store: Store, hooks: Hooks, length: int = 10, queues: int = 64, **more: Any
) -> AsyncIterator[Cluster]:
    """A server with one seat a level, where both users share a level, and nothing is written before `hooks.slow`."""
    async with running(pki, store, max_requests_inflight=1, max_mutating_requests_inflight=0, **more) as cluster:
        queuing = {"queues": queues, "handSize": 1, "queueLengthLimit": length}
        shared = level("shared", limitResponse={"type": "Queue", "queuing": queuing})
        await cluster.request("POST", PRIORITY_LEVEL_CONFIGURATIONS.path(), shared)
        by_user = schema("shared", "shared", "plain-user", "other-user", distinguisherMethod={"type": "ByUser"})
        await cluster.request("POST", FLOW_SCHEMAS.path(), by_user)
        hooks.answers["/slow"] = allow
        await register(cluster, "Validating", "slow", hooks.webhook("slow", "/slow", timeoutSeconds=30))
        yield cluster


def post(cluster: Cluster, name: str, query: str = "", headers: dict[str, str] = PLAIN) -> asyncio.Task[Answer]:
    return asyncio.create_task(cluster.call("POST", MAPS + query, config_map(name), headers=headers))


async def test_requests_wait_in_their_queue_and_are_refused_when_it_is_full(
    pki: Path, store: Store, hooks: Hooks
) -> None:
    async with held_up(pki, store, hooks, length=1, queues=1) as cluster:
        first = post(cluster, "first")
        await dumped(cluster, "shared", "0", "false", "false", "0", "1")
        second = post(cluster, "second")
        await dumped(cluster, "shared", "1", "false", "false", "1", "1")
        refused = await post(cluster, "third")
        hooks.slow.set()

        assert ((await first).status, (await second).status) == (201, 201)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.body == b"Too many requests, please try again later.\n"
        assert refused.headers[SCHEMA] == await uid(cluster, FLOW_SCHEMAS, "shared")
        await dumped(cluster, "shared", "0", "true", "false", "0", "0", "2", "1", "0", "0")


async def test_a_flood_of_one_user_does_not_starve_another(pki: Path, store: Store, hooks: Hooks) -> None:
    """[sig-api-machinery] API priority and fairness should ensure that requests can't be drowned out (fairness)."""
    async with held_up(pki, store, hooks, length=1000) as cluster:
        done: list[str] = []
        flood = [post(cluster, f"flood-{number}") for number in range(60)]
        await dumped(cluster, "shared", "1", "false", "false", "59", "1")
        mouse = post(cluster, "mouse", headers=OTHER)
        await dumped(cluster, "shared", "2", "false", "false", "60", "1")
        for task in (*flood, mouse):
            task.add_done_callback(lambda task: done.append("mouse" if task is mouse else "flood"))
        hooks.slow.set()

        assert {answer.status for answer in await asyncio.gather(mouse, *flood)} == {201}
        assert done.index("mouse") < 10


async def test_an_exempt_request_waits_for_nobody(pki: Path, store: Store, hooks: Hooks) -> None:
    async with held_up(pki, store, hooks) as cluster:
        waiting = [post(cluster, f"a-{number}") for number in range(5)]
        await dumped(cluster, "shared", "1", "false", "false", "4", "1")

        answer = await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "urgent"}})
        read = await cluster.call("GET", MAPS, headers=PLAIN)
        hooks.slow.set()
        await asyncio.gather(*waiting)

        assert (answer.status, read.status) == (201, 200)  # nor does what is answered out of memory


async def test_a_client_that_leaves_leaves_the_queue_and_the_seat(pki: Path, store: Store, hooks: Hooks) -> None:
    async with held_up(pki, store, hooks) as cluster:
        connections = []
        for name in ("first", "second"):
            _, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.tls)
            body = json.dumps(config_map(name)).encode()
            head = (
                f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer plain\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            connections.append(writer)
        await dumped(cluster, "shared", "1", "false", "false", "1", "1")
        for writer in connections:
            writer.transport.abort()
        await dumped(cluster, "shared", "0", "true", "false", "0", "0")
        hooks.slow.set()

        listed = await cluster.request("GET", MAPS)
        assert listed["items"] == []


async def test_who_waits_too_long_is_refused(pki: Path, store: Store, hooks: Hooks) -> None:
    async with held_up(pki, store, hooks, request_timeout=1.0) as cluster:
        first, second = post(cluster, "first"), post(cluster, "second")

        answers = sorted([(await first).status, (await second).status])
        hooks.slow.set()

        assert answers == [429, 504]
        await dumped(cluster, "shared", "0", "true", "false", "0", "0", "1", "0", "1", "0")


async def test_without_fairness_there_are_two_limits(pki: Path, store: Store, hooks: Hooks) -> None:
    async with running(pki, store, enable_priority_and_fairness=False, max_mutating_requests_inflight=1) as cluster:
        hooks.answers["/slow"] = allow
        await register(cluster, "Validating", "slow", hooks.webhook("slow", "/slow", timeoutSeconds=30))
        attempts = [post(cluster, f"a-{number}") for number in range(2)]
        done, rest = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        hooks.slow.set()

        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert SCHEMA not in refused.headers
        assert [task.result().status for task in (await asyncio.wait(rest))[0]] == [201]
        assert (await cluster.call("GET", f"{DUMPS}/dump_queues")).status == 404
        told = (await cluster.call("GET", "/metrics")).body.decode()
        terminated = next(line for line in told.splitlines() if line.startswith("apiserver_request_terminations_total"))
        assert 'code="429"' in terminated
        assert terminated.endswith(" 1")
        assert (await cluster.request("GET", FLOW_SCHEMAS.path()))["items"] == []


async def test_the_tables_and_metrics_tell_who_waits(pki: Path, store: Store, hooks: Hooks) -> None:
    async with held_up(pki, store, hooks, queues=1) as cluster:
        tasks = [post(cluster, f"a-{number}") for number in range(2)]
        await dumped(cluster, "shared", "1", "false", "false", "1", "1")

        async def table(path: str) -> list[list[str]]:
            text = (await cluster.call("GET", f"{DUMPS}/{path}")).body.decode()
            return [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]

        queues = await table("dump_queues")
        requests = await table("dump_requests?includeRequestDetails=1")
        figures = (await cluster.call("GET", "/metrics")).body.decode()
        hooks.slow.set()
        await asyncio.gather(*tasks)
        after = (await cluster.call("GET", "/metrics")).body.decode()

        assert queues[0][:5] == ["PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse"]
        assert next(row for row in queues if row[0] == "shared")[1:5] == ["0", "1", "1", "1"]
        assert requests[1][:5] == ["shared", "shared", "0", "0", "plain-user"]
        assert requests[1][10:] == ["plain-user", "create", MAPS, "default", "", "v1", "configmaps", ""]
        labels = '{flow_schema="shared",priority_level="shared"}'
        assert f"apiserver_flowcontrol_current_inqueue_requests{labels} 1" in figures
        assert f"apiserver_flowcontrol_current_executing_seats{labels} 1" in figures
        assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="shared"} 1' in figures
        assert f"apiserver_flowcontrol_dispatched_requests_total{labels} 2" in after
        waited = 'request_wait_duration_seconds_count{execute="true",flow_schema="shared",priority_level="shared"} 2'
        assert f"apiserver_flowcontrol_{waited}" in after


# Deadlines.


async def test_a_request_has_the_time_it_asks_for(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/slow"] = allow
    await register(cluster, "Validating", "slow", hooks.webhook("slow", "/slow", timeoutSeconds=30))

    answer = await post(cluster, "late", "?timeout=300ms")
    hooks.slow.set()

    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    why = "Timeout: request did not complete within requested timeout - context deadline exceeded"
    assert answer.json["message"] == why
    assert (await cluster.call("GET", f"{MAPS}/late")).status == 404
    assert (await post(cluster, "late", "?timeout=30s")).status == 201


@pytest.mark.parametrize(
    ("text", "why"),
    [("bogus", 'invalid duration "bogus"'), ("30", 'missing unit in duration "30"'), ("1x", 'invalid duration "1x"')],
)
async def test_a_timeout_that_is_none_is_refused(cluster: Cluster, text: str, why: str) -> None:
    for method, path in (("GET", MAPS), ("POST", MAPS), ("GET", "/version")):
        answer = await cluster.call(method, f"{path}?timeout={text}", config_map("a") if method == "POST" else None)

        assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
        assert answer.json["message"] == f"invalid timeout specified in the request URL - time: {why}"


@pytest.mark.parametrize(
    ("method", "path", "query", "seconds"),
    [
        ("GET", MAPS, "", 60.0),
        ("GET", MAPS, "timeout=5s", 5.0),
        ("GET", MAPS, "timeout=2m", 60.0),
        ("GET", MAPS, "timeout=0s", 60.0),
        ("POST", MAPS, "", 34.0),
        ("POST", MAPS, "timeout=50s", 34.0),
        ("DELETE", MAPS, "timeout=1s", 1.0),
        ("GET", MAPS, "timeoutSeconds=1", 60.0),
        ("POST", "/somewhere", "", 60.0),
    ],
)
def test_the_time_that_a_request_has(method: str, path: str, query: str, seconds: float) -> None:
    request = Request(method, path, query, {}, b"", Peer(""))

    assert seconds_for(request, parse_request(method, path), 60.0) == seconds


async def test_work_is_not_ended_while_the_store_has_its_write() -> None:
    writing: set[asyncio.Task[Any]] = set()
    deadlines = Deadlines(writing)
    stored = asyncio.Event()

    async def write() -> str:
        task = asyncio.current_task()
        assert task is not None
        deadline = deadlines.begin(Request("POST", MAPS, "", {}, b"", Peer("")), 60.0)
        writing.add(task)
        try:
            deadline.end()
            await stored.wait()
            writing.discard(task)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "told" if deadline.was_cause() and stored.is_set() else "lost"
        finally:
            deadline.close()
        return "forgotten"

    work = asyncio.create_task(write())
    await asyncio.sleep(0)
    stored.set()

    async with asyncio.timeout(60):
        assert await work == "told"
    assert not work.cancelling()
