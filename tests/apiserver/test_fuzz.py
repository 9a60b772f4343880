"""No input gives a 500: whatever the path, the query and the body, the answer is a Status with a code below that."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.wire.http import Peer, Request, Response
from tests.apiserver.conftest import TOKEN, Cluster

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "name", "namespace", "spec", "data", "labels", "status", "containers", "kind",
                             "apiVersion", "ports", "template", "selector", "finalizers", "resourceVersion", "uid",
                             "op", "path", "value", "replicas", "target", "subjects", "roleRef", "rules", "items"])
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)  # fmt: skip
SEGMENTS = st.sampled_from(
    ["pods", "x", "status", "namespaces", "default", "services", "binding", "scale", "log", "proxy", "token", "a:b:c",
     "deployments", "nodes", "configmaps", "eviction", "finalize", "watch", "bindings", "", "..", "%", "kubernetes"]
)  # fmt: skip
PATHS = st.builds(
    lambda prefix, rest: prefix + "/" + "/".join(rest),
    st.sampled_from(["/api/v1", "/apis/apps/v1", "/api", "/apis", "", "/openapi", "/api/v1/namespaces/default"]),
    st.lists(SEGMENTS, max_size=5),
)
QUERIES = st.dictionaries(
    st.sampled_from(["limit", "continue", "resourceVersion", "labelSelector", "fieldSelector", "dryRun", "pretty",
                     "timeoutSeconds", "fieldValidation", "gracePeriodSeconds", "propagationPolicy", "container",
                     "includeObject", "resourceVersionMatch", "sendInitialEvents"]),
    st.text(max_size=6) | st.sampled_from(["1", "-1", "All", "a=b", "metadata.name=x", "true"]),
    max_size=3,
)  # fmt: skip
TYPES = st.sampled_from(
    ["application/json", "application/yaml", "application/merge-patch+json", "application/json-patch+json",
     "application/strategic-merge-patch+json", "application/vnd.kubernetes.protobuf", "", "text/plain"]
)  # fmt: skip
BODIES = VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)
BODIES |= st.binary(max_size=40).map(lambda tail: b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12" + tail)


async def _status(cluster: Cluster, request: Request) -> Any:
    answer = cluster.server.handle(request)
    if not isinstance(answer, Response) and asyncio.iscoroutine(answer):
        answer = await answer
    return answer


async def test_no_input_gives_a_500(cluster: Cluster) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), PATHS, QUERIES, TYPES, BODIES)
    def attempt(method: str, path: str, query: dict[str, str], content_type: str, body: bytes) -> None:
        from urllib.parse import urlencode

        headers = {"authorization": f"Bearer {TOKEN}", "content-type": content_type, "accept": "*/*"}
        request = Request(method, path, urlencode(query), headers, body, Peer("127.0.0.1"), path)
        answer = asyncio.run_coroutine_threadsafe(_status(cluster, request), loop).result(60)
        assert answer.status < 500 or answer.status in (503, 504), (answer.status, answer.body)

    await asyncio.to_thread(attempt)


KINDS = st.sampled_from(
    ["/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/services", "/api/v1/namespaces",
     "/apis/apps/v1/namespaces/default/deployments", "/api/v1/nodes", "/apis/batch/v1/namespaces/default/jobs",
     "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/api/v1/namespaces/default/persistentvolumeclaims",
     "/apis/networking.k8s.io/v1/namespaces/default/ingresses", "/api/v1/namespaces/default/events",
     "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"]
)  # fmt: skip


async def test_no_object_gives_a_500(cluster: Cluster) -> None:
    loop = asyncio.get_running_loop()
    names = iter(range(10**6))

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(KINDS, VALUES, VALUES)
    def attempt(path: str, spec: Any, more: Any) -> None:
        obj = {**(more if isinstance(more, dict) else {}), "metadata": {"name": f"n{next(names)}"}, "spec": spec}
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        request = Request("POST", path, "", headers, json.dumps(obj).encode(), Peer("127.0.0.1"), path)
        answer = asyncio.run_coroutine_threadsafe(_status(cluster, request), loop).result(60)
        assert answer.status < 500, (answer.status, answer.body, obj)

    await asyncio.to_thread(attempt)
