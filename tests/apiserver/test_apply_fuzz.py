"""No configuration and no list of managers gives a 500, and what was applied once applies again without a change."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.machinery.meta import Obj
from pinnace.wire.http import Peer, Request, Response
from tests.apiserver.conftest import TOKEN, Cluster
from tests.apiserver.test_apply import APPLY, DEPLOYMENTS, MERGE, PODS, whole
from tests.apiserver.test_fuzz import VALUES

NAMES = st.sampled_from(["a", "b", "main", "", 1, None])
PORTS = st.lists(
    st.fixed_dictionaries({}, optional={"containerPort": NAMES, "protocol": NAMES, "name": NAMES}), max_size=3
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": NAMES,
            "image": NAMES,
            "ports": PORTS | VALUES,
            "env": st.lists(st.fixed_dictionaries({}, optional={"name": NAMES, "value": NAMES}), max_size=3),
            "resources": VALUES,
        },
    )
    | VALUES,
    max_size=3,
)
METADATA = st.fixed_dictionaries(
    {"name": st.just("web")},
    optional={
        "labels": st.dictionaries(st.sampled_from("ab"), NAMES) | VALUES,
        "finalizers": st.lists(st.sampled_from(["x/y", "x/z"]) | VALUES, max_size=3),
        "ownerReferences": VALUES | st.lists(VALUES, max_size=2),
        "managedFields": VALUES,
        "resourceVersion": VALUES,
    },
)
ELEMENTS = st.sampled_from(["f:spec", "f:metadata", ".", 'k:{"name":"a"}', "k:", 'v:"a"', "v:[", "i:1", "i:x", "x", ""])
FIELDS = st.recursive(st.just({}) | VALUES, lambda inner: st.dictionaries(ELEMENTS, inner, max_size=3), max_leaves=8)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "manager": st.sampled_from(["a", "b", ""]),
            "operation": st.sampled_from(["Apply", "Update", "Other"]),
            "apiVersion": st.sampled_from(["apps/v1", "apps/v9", "v1", "a/b/c"]),
            "fieldsType": st.sampled_from(["FieldsV1", "FieldsV2"]),
            "fieldsV1": FIELDS,
            "subresource": st.sampled_from(["", "status"]),
            "time": st.sampled_from(["2026-01-01T00:00:00Z", "x"]),
        },
    ),
    max_size=3,
)


class Wild:
    """Requests from a thread to the server of this one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()

    def patch(self, path: str, body: Any, content_type: str, **params: str) -> Response:
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": content_type, "accept": "*/*"}
        query = urlencode({"fieldManager": "m", **params})
        request = Request("PATCH", path, query, headers, json.dumps(body).encode(), Peer("127.0.0.1"), path)
        answer = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result(60)
        assert answer.status < 500, (answer.status, answer.body, body)
        return answer

    async def _answer(self, request: Request) -> Any:
        answer = self._cluster.server.handle(request)
        return answer if isinstance(answer, Response) else await answer


async def test_any_configuration_is_applied_or_refused(cluster: Cluster) -> None:
    wild = Wild(cluster)
    kinds = [
        (f"{PODS}/web", {"apiVersion": "v1", "kind": "Pod"}),
        (f"{DEPLOYMENTS}/web", {"apiVersion": "apps/v1", "kind": "Deployment"}),
        (f"{DEPLOYMENTS}/web/status", {"apiVersion": "apps/v1", "kind": "Deployment"}),
        (f"{DEPLOYMENTS}/web/scale", {"apiVersion": "autoscaling/v1", "kind": "Scale"}),
    ]

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(kinds), METADATA | VALUES, CONTAINERS, VALUES, st.sampled_from(["true", "false"]))
    def attempt(kind: tuple[str, Obj], meta: Any, containers: Any, more: Any, force: str) -> None:
        path, head = kind
        spec = (
            {"containers": containers} if head["kind"] == "Pod" else {"template": {"spec": {"containers": containers}}}
        )
        config = {**head, "metadata": meta, "spec": spec if more is None else more, "status": more}
        done = wild.patch(path, config, APPLY, force=force)
        if done.status in (200, 201):
            again = wild.patch(path, config, APPLY)
            assert (again.status, json.loads(again.body)) == (200, json.loads(done.body))

    await cluster.call("POST", DEPLOYMENTS, whole())
    await asyncio.to_thread(attempt)


async def test_any_entries_are_taken_or_ignored(cluster: Cluster) -> None:
    wild = Wild(cluster)
    path = f"{DEPLOYMENTS}/web"

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(ENTRIES, st.integers(1, 3))
    def attempt(entries: list[Obj], replicas: int) -> None:
        wild.patch(path, {"metadata": {"managedFields": entries}}, MERGE)
        wild.patch(path, {"spec": {"replicas": replicas}}, MERGE)
        wild.patch(path, whole(replicas=replicas), APPLY, force="true")
        wild.patch(f"{path}/status", {"status": {"replicas": replicas}}, MERGE)

    await cluster.call("POST", DEPLOYMENTS, whole())
    await asyncio.to_thread(attempt)
