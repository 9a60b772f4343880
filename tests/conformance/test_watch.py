"""What a watcher is told, over HTTPS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pinnace.testing import Api

Obj = dict[str, Any]


def config_map(name: str, mutation: int = 0, **labels: str) -> Obj:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mutation": str(mutation)}}


def mutate(api: Api, namespace: str, name: str, mutation: int) -> Obj:
    return api.patch("configmaps", name, {"data": {"mutation": str(mutation)}}, namespace)


def relabel(api: Api, namespace: str, name: str, label: str) -> Obj:
    return api.patch("configmaps", name, {"metadata": {"labels": {"watch": label}}}, namespace)


def take(events: Iterator[Obj], count: int) -> list[tuple[str, str, str]]:
    """Type, name and mutation of the next events."""
    return [
        (event["type"], event["object"]["metadata"]["name"], event["object"]["data"]["mutation"])
        for event in islice(events, count)
    ]


def test_watchers_see_what_their_selector_matches(api: Api, namespace: str) -> None:
    """Conformance: "watch-configmaps-with-multiple-watchers" """
    start = api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")["metadata"]["resourceVersion"]
    for name, label in (("a", "A"), ("b", "B")):
        api.create(config_map(name, watch=label), namespace)
        mutate(api, namespace, name, 1)
        api.delete("configmaps", name, namespace)
    for_a = [("ADDED", "a", "0"), ("MODIFIED", "a", "1"), ("DELETED", "a", "1")]
    for_b = [("ADDED", "b", "0"), ("MODIFIED", "b", "1"), ("DELETED", "b", "1")]
    for selector, expected in (
        ("watch=A", for_a),
        ("watch=B", for_b),
        ("watch in (A,B)", for_a + for_b),
        ("watch", for_a + for_b),
    ):
        with api.watch("configmaps", namespace, labels=selector, resource_version=start) as events:
            assert take(events, len(expected)) == expected


def test_a_watch_begins_after_the_revision_it_names(api: Api, namespace: str) -> None:
    """Conformance: "watch-configmaps-from-resource-version" """
    api.create(config_map("x"), namespace)
    first = mutate(api, namespace, "x", 1)
    mutate(api, namespace, "x", 2)
    api.delete("configmaps", "x", namespace)
    after = first["metadata"]["resourceVersion"]
    with api.watch("configmaps", namespace, fields="metadata.name=x", resource_version=after) as events:
        assert take(events, 2) == [("MODIFIED", "x", "2"), ("DELETED", "x", "2")]


def test_a_watch_goes_on_where_another_ended(api: Api, namespace: str) -> None:
    """Conformance: "watch-configmaps-closed-and-restarted" """
    fields = "metadata.name=x"
    with api.watch("configmaps", namespace, fields=fields) as events:
        api.create(config_map("x"), namespace)
        mutate(api, namespace, "x", 1)
        seen = list(islice(events, 2))
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED"]
    mutate(api, namespace, "x", 2)
    last = seen[-1]["object"]["metadata"]["resourceVersion"]
    with api.watch("configmaps", namespace, fields=fields, resource_version=last) as events:
        api.delete("configmaps", "x", namespace)
        assert take(events, 2) == [("MODIFIED", "x", "2"), ("DELETED", "x", "2")]


def test_an_object_that_no_longer_matches_is_deleted_to_the_watcher(api: Api, namespace: str) -> None:
    """Conformance: "watch-configmaps-label-changed" """
    with api.watch("configmaps", namespace, labels="watch=on") as events:
        api.create(config_map("x", watch="on"), namespace)
        mutate(api, namespace, "x", 1)
        relabel(api, namespace, "x", "off")
        mutate(api, namespace, "x", 2)
        relabel(api, namespace, "x", "on")
        mutate(api, namespace, "x", 3)
        api.delete("configmaps", "x", namespace)
        assert take(events, 6) == [
            ("ADDED", "x", "0"),
            ("MODIFIED", "x", "1"),
            ("DELETED", "x", "1"),
            ("ADDED", "x", "2"),
            ("MODIFIED", "x", "3"),
            ("DELETED", "x", "3"),
        ]


def test_watches_from_different_revisions_agree(api: Api, namespace: str) -> None:
    """Conformance: "watch-consistency" """
    count = 40

    def produce() -> None:
        for number in range(count // 4):
            name = f"c{number}"
            api.create(config_map(name), namespace)
            mutate(api, namespace, name, 1)
            mutate(api, namespace, name, 2)
            api.delete("configmaps", name, namespace)

    # The namespace gets a ConfigMap of its own, the CA's, which is no event of this test.
    fields = "metadata.name!=kube-root-ca.crt"
    start = api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")["metadata"]["resourceVersion"]
    writer = threading.Thread(target=produce)
    writer.start()
    with api.watch("configmaps", namespace, fields=fields, resource_version=start) as events:
        revisions = [event["object"]["metadata"]["resourceVersion"] for event in islice(events, count)]
    writer.join()
    assert revisions == sorted(set(revisions), key=int)
    for position, revision in enumerate(revisions[:-1]):
        with api.watch("configmaps", namespace, fields=fields, resource_version=revision) as events:
            rest = [event["object"]["metadata"]["resourceVersion"] for event in islice(events, count - position - 1)]
        assert rest == revisions[position + 1 :]
