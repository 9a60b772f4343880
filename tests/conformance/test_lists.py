"""Lists in chunks, and representations that there are not."""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import Any
from urllib.error import HTTPError

import pytest

from pinnace.testing import Api, ApiError, Cluster

COUNT = 100


def fill(api: Api, namespace: str) -> str:
    """Make pod templates; the path of their collection."""
    container = {"name": "main", "image": "example.com/any"}
    for number in range(COUNT):
        body = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": f"template-{number:04d}"},
            "template": {"spec": {"containers": [container]}},
        }
        api.create(body, namespace)
    return f"/api/v1/namespaces/{namespace}/podtemplates"


def test_a_list_comes_in_chunks_of_one_state(api: Api, namespace: str) -> None:
    """Conformance: "API Chunking, server should return chunks of results for list calls" """
    path = fill(api, namespace)
    found: list[str] = []
    params = {"limit": "17"}
    revision = ""
    while True:
        chunk = api.request("GET", path, params=params)
        names = [item["metadata"]["name"] for item in chunk["items"]]
        assert len(names) <= 17
        found += names
        metadata = chunk["metadata"]
        assert metadata["resourceVersion"] == (revision or metadata["resourceVersion"])
        revision = metadata["resourceVersion"]
        if not metadata.get("continue"):
            assert "remainingItemCount" not in metadata
            break
        assert metadata["remainingItemCount"] == COUNT - len(found)
        params["continue"] = metadata["continue"]
        if len(found) == 17:  # what is written meanwhile does not show
            api.delete("podtemplates", "template-0099", namespace)
    assert found == [f"template-{number:04d}" for number in range(COUNT)]
    whole = api.request("GET", path)
    assert len(whole["items"]) == COUNT - 1
    assert "continue" not in whole["metadata"]


def test_a_list_goes_on_after_its_state_was_compacted_away(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "API Chunking, server should support continue listing from the last key even if the original
    version has been compacted away"
    """
    path = fill(api, namespace)
    first = api.request("GET", path, params={"limit": "40"})
    api.delete("podtemplates", "template-0050", namespace)
    plane = cluster._plane
    assert plane is not None
    cluster._running_thread().call(plane.server.store.compact(plane.server.store.revision))
    with pytest.raises(ApiError) as caught:
        api.request("GET", path, params={"limit": "40", "continue": first["metadata"]["continue"]})
    assert caught.value.code == 410
    status = caught.value.to_status()
    assert status["reason"] == "Expired"
    token = _inconsistent_token(cluster, path, first["metadata"]["continue"])
    second = api.request("GET", path, params={"limit": "40", "continue": token})
    assert len(second["items"]) == 40
    assert second["metadata"]["remainingItemCount"] == COUNT - 1 - 80
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    third = api.request("GET", path, params={"limit": "40", "continue": second["metadata"]["continue"]})
    names = [one["metadata"]["name"] for part in (first, second, third) for one in part["items"]]
    assert names == [f"template-{number:04d}" for number in range(COUNT) if number != 50]


def _inconsistent_token(cluster: Cluster, path: str, token: str) -> str:
    """What the 410 offers for going on from the last key, in the newest state."""
    _, body = fetch(cluster, f"{path}?limit=40&continue={token}")
    found: str = json.loads(body)["metadata"]["continue"]
    return found


def fetch(cluster: Cluster, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a GET as administrator, whatever they are."""
    tls = ssl.create_default_context(cadata=cluster.ca)
    tls.load_cert_chain(cluster.directory / "admin.crt", cluster.directory / "admin.key")
    request = urllib.request.Request(cluster.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, context=tls, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        ("/api/v1/namespaces/default/pods", "application/json;as=Table;v=v1;g=meta.k8s.io", 200),
        ("/api/v1/nodes", "application/json;as=Table;v=v1beta1;g=meta.k8s.io", 200),
        ("/api/v1/pods", "application/json;as=Table;v=v1alpha9;g=meta.k8s.io", 406),
        ("/api/v1/pods", "application/json;as=Unknown;v=v1;g=meta.k8s.io", 406),
        ("/api/v1/pods", "text/html", 406),
    ],
)
def test_what_cannot_be_shown_so_is_not_acceptable(cluster: Cluster, path: str, accept: str, code: int) -> None:
    """Conformance: "API metadata HTTP return" """
    status, body = fetch(cluster, path, Accept=accept)
    assert status == code
    answer: dict[str, Any] = json.loads(body)
    assert answer["kind"] == ("Table" if code == 200 else "Status")
