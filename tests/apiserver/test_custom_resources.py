"""Objects of custom kinds, over the wire: what is refused, pruned, defaulted, shown, watched and cleaned up."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.contract import Store
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for
from tests.apiserver.custom import (
    CRON_TABS,
    DEFINITIONS,
    GROUP,
    MERGE,
    SCALE,
    SCHEMA,
    SPEC,
    conditions,
    cron_tab,
    definition,
    deleted,
    established,
    until,
    version,
)


@pytest.fixture
def store(each_store: Store) -> Store:
    return each_store


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"replicas": "string"},
            'spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"',
        ),
        (
            {"replicas": 15},
            "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10",
        ),
        ({"cronSpec": "*"}, 'spec.cronSpec: Invalid value: "*": spec.cronSpec in body should match'),
    ],
)
async def test_invalid_objects_are_refused_in_the_words_of_the_api(cluster: Cluster, spec: Obj, message: str) -> None:
    await established(cluster, definition())

    answer = await cluster.call("POST", CRON_TABS, cron_tab(spec=spec))

    assert answer.status == 422
    assert answer.json["message"].startswith(f'CronTab.{GROUP} "a" is invalid: {message}')


async def test_rules_in_cel_are_asked_on_create_and_update(cluster: Cluster) -> None:
    rules = [
        {"rule": "self.minReplicas <= self.replicas", "message": "replicas should be at least minReplicas."},
        {"rule": "self.replicas >= oldSelf.replicas", "messageExpression": "'was ' + string(oldSelf.replicas)"},
    ]
    integers = {"replicas": {"type": "integer"}, "minReplicas": {"type": "integer"}}
    spec = {"type": "object", "properties": integers, "required": ["replicas", "minReplicas"]}
    schema = {"type": "object", "properties": {"spec": {**spec, "x-kubernetes-validations": rules}}}
    await established(cluster, definition(version(schema=schema)))

    refused = await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 1, "minReplicas": 2}))
    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 3, "minReplicas": 2}))
    smaller = await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"replicas": 2}}, content_type=MERGE)

    assert refused.status == 422
    assert refused.json["message"].endswith('spec: Invalid value: "object": replicas should be at least minReplicas.')
    assert made.status == 201
    assert smaller.json["message"].endswith('spec: Invalid value: "object": was 3')


async def test_unknown_fields_are_pruned_and_told(cluster: Cluster) -> None:
    await established(cluster, definition())
    given = cron_tab(spec={"image": "x", "odd": 1}, other=2)

    made = await cluster.call("POST", CRON_TABS, given)
    strict = await cluster.call("POST", f"{CRON_TABS}?fieldValidation=Strict", cron_tab("b", spec={"odd": 1}))

    assert made.json["spec"] == {"image": "x"}
    assert made.warnings == ['299 - "unknown field \\"other\\""', '299 - "unknown field \\"spec.odd\\""']
    assert strict.status == 400
    assert strict.json["message"].endswith('strict decoding error: unknown field "spec.odd"')


@pytest.mark.parametrize("schema", [{"type": "object", "x-kubernetes-preserve-unknown-fields": True}, SCHEMA])
async def test_strict_validation_takes_what_fits_the_schema(cluster: Cluster, schema: Obj) -> None:
    """Conformance: "Server side field validation, unknown fields CR no validation schema",
    "Server side field validation, valid CR with validation schema"."""
    await established(cluster, definition(version(schema=schema)))
    given = cron_tab(spec={"image": "x"} if schema is SCHEMA else {"any": {"thing": 1}})

    answer = await cluster.call("POST", f"{CRON_TABS}?fieldValidation=Strict", given)

    assert (answer.status, answer.warnings) == (201, [])


async def test_strict_validation_refuses_unknown_and_duplicate_fields(cluster: Cluster) -> None:
    """Conformance: "Server side field validation, unknown fields CR fails validation",
    "Server side field validation, CR duplicates", "Server side field validation, unknown metadata"."""
    template = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"template": template}}
    schema = {"type": "object", "properties": {"spec": free}}
    await established(cluster, definition(version(schema=schema)))
    embedded = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "unknownSubMeta": 1}}
    given = cron_tab(spec={"template": embedded, "a": 1}, unknown=1)
    given["metadata"]["unknownMeta"] = 1
    body = json.dumps(given).replace('"a": 1', '"a": 1, "a": 2').encode()

    answer = await cluster.call("POST", f"{CRON_TABS}?fieldValidation=Strict", body)

    assert answer.status == 400
    assert answer.json["message"].endswith(
        'strict decoding error: duplicate field "spec.a", unknown field "metadata.unknownMeta", '
        'unknown field "spec.template.metadata.unknownSubMeta", unknown field "unknown"'
    )


async def test_patches_work_but_for_strategic_ones(cluster: Cluster) -> None:
    await established(cluster, definition())
    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"image": "x", "replicas": 1}))
    path = f"{CRON_TABS}/a"

    merged = await cluster.call("PATCH", path, {"spec": {"image": None, "replicas": 2}}, content_type=MERGE)
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    patched = await cluster.call("PATCH", path, operations, content_type="application/json-patch+json")
    strategic = await cluster.call("PATCH", path, {}, content_type="application/strategic-merge-patch+json")

    assert merged.json["spec"] == {"replicas": 2}
    assert patched.json["spec"] == {"replicas": 3}
    assert patched.json["metadata"]["generation"] == 3
    assert strategic.status == 415
    assert strategic.json["message"] == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )
    none = {**made.json["metadata"], "resourceVersion": "0"}
    for unpinned in (cron_tab(spec={"replicas": 4}), {**made.json, "metadata": none}):
        refused = await cluster.call("PUT", path, unpinned)
        assert refused.status == 422
        why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        assert why in refused.json["message"]
    stale = await cluster.call("PUT", path, {**made.json, "spec": {"replicas": 4}})
    assert stale.status == 409


async def test_status_has_a_path_of_its_own_where_asked_for(cluster: Cluster) -> None:
    await established(cluster, definition(version(subresources={"status": {}, "scale": SCALE})))
    path = f"{CRON_TABS}/a"
    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 3}, status={"replicas": 9}))
    assert "status" not in made.json

    ignored = await cluster.call("PATCH", path, {"status": {"replicas": 9}}, content_type=MERGE)
    assert "status" not in ignored.json
    told = {"spec": {"replicas": 8}, "status": {"replicas": 2, "labelSelector": "app=a"}}
    status = await cluster.call("PATCH", f"{path}/status", told, content_type=MERGE)
    assert (status.json["spec"], status.json["status"]) == ({"replicas": 3}, told["status"])
    assert status.json["metadata"]["generation"] == 1

    found = (await cluster.call("GET", f"{path}/scale")).json
    assert (found["kind"], found["spec"], found["status"]) == (
        "Scale",
        {"replicas": 3},
        {"replicas": 2, "selector": "app=a"},
    )
    found["spec"]["replicas"] = 5
    assert (await cluster.call("PUT", f"{path}/scale", found)).json["spec"] == {"replicas": 5}
    again = (await cluster.call("GET", path)).json
    assert (again["spec"]["replicas"], again["metadata"]["generation"]) == (5, 2)
    beyond = await cluster.call("PATCH", f"{path}/scale", {"spec": {"replicas": 11}}, content_type=MERGE)
    assert beyond.status == 422


async def test_without_a_status_subresource_status_counts_as_any_field(cluster: Cluster) -> None:
    await established(cluster, definition())
    await cluster.call("POST", CRON_TABS, cron_tab(status={"replicas": 1}))

    patched = await cluster.call("PATCH", f"{CRON_TABS}/a", {"status": {"replicas": 2}}, content_type=MERGE)

    assert patched.json["status"] == {"replicas": 2}
    assert patched.json["metadata"]["generation"] == 2
    assert (await cluster.call("GET", f"{CRON_TABS}/a/status")).status == 404


async def test_defaults_come_on_create_and_on_read(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, defaulting"."""
    await established(cluster, definition())
    path = f"{DEFINITIONS}/crontabs.{GROUP}"
    await cluster.call("POST", CRON_TABS, cron_tab(spec={}))

    def with_default(field: str, value: Any) -> Obj:
        properties = {**SPEC["properties"], field: {**SPEC["properties"][field], "default": value}}
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
        return {"spec": {"versions": [version(schema=schema)]}}

    assert (await cluster.call("PATCH", path, with_default("image", "d"), content_type=MERGE)).status == 200
    assert (await cluster.call("GET", f"{CRON_TABS}/a")).json["spec"] == {"image": "d"}
    made = await cluster.call("POST", CRON_TABS, cron_tab("b", spec={}))
    assert made.json["spec"] == {"image": "d"}

    assert (await cluster.call("PATCH", path, with_default("replicas", 7), content_type=MERGE)).status == 200
    assert (await cluster.call("GET", f"{CRON_TABS}/a")).json["spec"] == {"replicas": 7}
    assert (await cluster.call("GET", f"{CRON_TABS}/b")).json["spec"] == {"image": "d", "replicas": 7}


async def test_what_was_valid_once_may_stay(cluster: Cluster) -> None:
    await established(
        cluster, definition(version(schema={"type": "object", "x-kubernetes-preserve-unknown-fields": True}))
    )
    await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 50, "image": "x"}))
    path = f"{DEFINITIONS}/crontabs.{GROUP}"
    await cluster.call("PATCH", path, {"spec": {"versions": [version()]}}, content_type=MERGE)

    kept = await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"image": "y"}}, content_type=MERGE)
    worse = await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"replicas": 51}}, content_type=MERGE)

    assert kept.status == 200
    assert worse.status == 422


async def test_objects_are_selected_by_the_fields_that_the_definition_names(cluster: Cluster) -> None:
    """Conformance: "custom-resource-definition-field-selectors-list-watch-register-informers"."""
    fields = [{"jsonPath": ".spec.image"}, {"jsonPath": ".spec.replicas"}]
    await established(cluster, definition(version(selectableFields=fields)))
    watch = await cluster.watch(f"{CRON_TABS}?watch=1&fieldSelector=spec.image%3Dblue")
    for name, image, replicas in (("a", "blue", 1), ("b", "red", 1), ("c", "blue", 2)):
        await cluster.call("POST", CRON_TABS, cron_tab(name, spec={"image": image, "replicas": replicas}))

    listed = await cluster.call("GET", f"{CRON_TABS}?fieldSelector=spec.image%3Dblue,spec.replicas%3D2")
    unknown = await cluster.call("GET", f"{CRON_TABS}?fieldSelector=spec.cronSpec%3Dx")
    await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"image": "red"}}, content_type=MERGE)

    assert [item["metadata"]["name"] for item in listed.json["items"]] == ["c"]
    assert (unknown.status, unknown.json["message"]) == (400, "field label not supported: spec.cronSpec")
    assert await watch.take(3) == [("ADDED", "a"), ("ADDED", "c"), ("DELETED", "a")]
    watch.close()


async def test_watches_tell_of_objects_and_end_with_the_definition(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, watch"."""
    await established(cluster, definition())
    watch = await cluster.watch(f"{CRON_TABS}?watch=1")
    await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 1}))
    await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"replicas": 2}}, content_type=MERGE)
    await cluster.call("DELETE", f"{CRON_TABS}/a")
    await cluster.call("POST", CRON_TABS, cron_tab("b"))
    assert await watch.take(4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]

    await deleted(cluster)

    assert await watch.take(1) == [("DELETED", "b")]
    assert await watch.next() is None
    watch.close()


async def test_objects_that_wait_for_finalizers_hold_their_definition(cluster: Cluster) -> None:
    await established(cluster, definition())
    held = cron_tab()
    held["metadata"]["finalizers"] = ["example.com/wait"]
    await cluster.call("POST", CRON_TABS, held)
    name = f"crontabs.{GROUP}"

    assert (await cluster.call("DELETE", f"{DEFINITIONS}/{name}")).status == 200
    found = await until(cluster, name, lambda one: conditions(one)["Terminating"][1] == "InstanceDeletionInProgress")
    assert found["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    refused = await cluster.call("POST", CRON_TABS, cron_tab("b"))
    assert refused.status == 405
    assert refused.json["message"] == "create not allowed while custom resource definition is terminating"
    verbs = (await cluster.call("GET", f"/apis/{GROUP}/v1")).json["resources"][0]["verbs"]
    assert verbs == ["delete", "deletecollection", "get", "list", "watch"]

    watch = await cluster.watch(f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")
    freed = await cluster.call("PATCH", f"{CRON_TABS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert freed.status == 200
    while (event := await watch.next()) is not None and event["type"] != "DELETED":
        pass
    watch.close()
    assert (await cluster.call("GET", CRON_TABS)).status == 404


async def test_tables_have_the_columns_that_were_asked_for(cluster: Cluster) -> None:
    columns = [
        {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec", "description": "When."},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
        {"name": "Label", "type": "string", "jsonPath": ".metadata.labels.app\\.kubernetes\\.io/name"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    await established(cluster, definition(version(additionalPrinterColumns=columns)))
    given = cron_tab(spec={"cronSpec": "* * * * */5", "replicas": 2})
    given["metadata"]["labels"] = {"app.kubernetes.io/name": "web"}
    await cluster.call("POST", CRON_TABS, given)

    table = await cluster.call("GET", CRON_TABS, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})

    headers = [(one["name"], one["type"], one["priority"]) for one in table.json["columnDefinitions"]]
    assert headers == [
        ("Name", "string", 0),
        ("Spec", "string", 0),
        ("Replicas", "integer", 1),
        ("Label", "string", 0),
        ("Age", "date", 0),
    ]
    assert table.json["rows"][0]["cells"][:4] == ["a", "* * * * */5", 2, "web"]
    assert table.json["columnDefinitions"][1]["description"] == "When."


async def test_deprecated_versions_warn(cluster: Cluster) -> None:
    old = version("v1beta1", {"type": "object"}, storage=False, deprecated=True)
    await established(cluster, definition(version(), old))

    answer = await cluster.call(
        "POST", CRON_TABS.replace("/v1/", "/v1beta1/"), cron_tab(api_version=f"{GROUP}/v1beta1")
    )

    listed = await cluster.call("GET", CRON_TABS.replace("/v1/", "/v1beta1/"))

    warning = f'299 - "{GROUP}/v1beta1 CronTab is deprecated; use {GROUP}/v1 CronTab"'
    assert (answer.warnings, listed.warnings) == ([warning], [warning])


async def test_embedded_resources_are_resources(cluster: Cluster) -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"pod": embedded}}}}
    await established(cluster, definition(version(schema=schema)))

    good = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"any": 1}}
    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"pod": good}))
    bad = await cluster.call("POST", CRON_TABS, cron_tab("b", spec={"pod": {"metadata": {}}}))

    assert made.json["spec"]["pod"] == good
    assert "spec.pod.apiVersion: Required value: must not be empty" in bad.json["message"]


async def test_cluster_scoped_objects(cluster: Cluster) -> None:
    await established(cluster, definition(scope="Cluster"))
    path = f"/apis/{GROUP}/v1/crontabs"

    assert (await cluster.call("POST", path, cron_tab())).status == 201
    assert "namespace" not in (await cluster.call("GET", f"{path}/a")).json["metadata"]
    assert (await cluster.call("GET", CRON_TABS)).status == 404


async def test_everything_is_served_again_after_a_restart(pki: Path, tmp_path: Path) -> None:
    for round_ in range(2):
        store = SqliteStore.open(tmp_path / "state.db")
        server = ApiServer(options_for(pki), store)
        await server.start()
        try:
            cluster = Cluster(server, store, pki)
            if not round_:
                await established(cluster, definition())
                await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 2}))
            else:
                found = await cluster.call("GET", f"{CRON_TABS}/a")
                assert (found.status, found.json["spec"]) == (200, {"replicas": 2})
                assert (await cluster.call("GET", f"/apis/{GROUP}")).status == 200
                await deleted(cluster)
        finally:
            await server.stop(0.2)
            await store.close()


async def test_two_servers_on_one_store_serve_the_same(cluster: Cluster, pki: Path) -> None:
    other = ApiServer(options_for(pki), cluster.store)
    await other.start()
    try:
        second = Cluster(other, cluster.store, pki)
        await established(cluster, definition())
        await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 2}))

        assert (await second.call("GET", f"{CRON_TABS}/a")).json["spec"] == {"replicas": 2}
        await deleted(second)
        assert (await cluster.call("GET", CRON_TABS)).status == 404
    finally:
        await other.stop(0.2)


async def test_binary_bodies_are_not_read(cluster: Cluster) -> None:
    await established(cluster, definition())

    answer = await cluster.call("POST", CRON_TABS, b"k8s\0", content_type="application/vnd.kubernetes.protobuf")

    assert answer.status == 415
    assert answer.json["message"].endswith("accepted media types include: application/json, application/yaml")


async def test_many_objects_go_with_their_definition(cluster: Cluster) -> None:
    await established(cluster, definition())
    for index in range(150):
        await cluster.request("POST", CRON_TABS, cron_tab(f"x{index}"))

    await deleted(cluster)

    found, _ = await cluster.store.range(f"/registry/{GROUP}/")
    assert not found
    await established(cluster, definition())
    assert not (await cluster.call("GET", CRON_TABS)).json["items"]


async def test_definitions_come_and_go_in_a_storm(cluster: Cluster) -> None:
    async def one(index: int) -> None:
        given = definition(plural=f"storms{index}", kind=f"Storm{index}")
        path = CRON_TABS.replace("crontabs", f"storms{index}")
        for _ in range(3):
            await established(cluster, given)
            made = {**cron_tab(), "kind": f"Storm{index}"}
            assert (await cluster.call("POST", path, made)).status == 201
            await deleted(cluster, given["metadata"]["name"])
            assert (await cluster.call("GET", path)).status == 404

    await asyncio.gather(*(one(index) for index in range(5)))

    assert GROUP not in [group["name"] for group in (await cluster.call("GET", "/apis")).json["groups"]]


async def test_rights_to_custom_objects_are_given_as_any(pki: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(pki, authorization_modes=("Node", "RBAC")), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        await established(cluster, definition())
        plain = {"Authorization": "Bearer plain"}
        refused = await cluster.call("GET", CRON_TABS, headers=plain)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "crons"},
            "rules": [{"apiGroups": [GROUP], "resources": ["crontabs"], "verbs": ["list"]}],
        }
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "plain-user"}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "crons"}
        binding = {**role, "kind": "ClusterRoleBinding", "subjects": [subject], "roleRef": reference}
        del binding["rules"]
        for plural, obj in (("clusterroles", role), ("clusterrolebindings", binding)):
            made = await cluster.call("POST", f"/apis/rbac.authorization.k8s.io/v1/{plural}", obj)
            assert made.status == 201

        assert refused.status == 403
        assert refused.json["message"] == (
            f'crontabs.{GROUP} is forbidden: User "plain-user" cannot list resource "crontabs" in API group "{GROUP}" '
            'in the namespace "default"'
        )
        assert (await cluster.call("GET", CRON_TABS, headers=plain)).status == 200
        assert (await cluster.call("DELETE", f"{CRON_TABS}/a", headers=plain)).status == 403
    finally:
        await server.stop(0.2)
        await store.close()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"kind": "Other"}, 422, f'CronTab.{GROUP} "a" is invalid: kind: Invalid value: "Other": must be CronTab'),
        (
            {"apiVersion": f"{GROUP}/v2"},
            400,
            (f"the API version in the data ({GROUP}/v2) does not match the expected API version ({GROUP}/v1)"),
        ),
    ],
)
async def test_objects_of_another_kind_are_refused(cluster: Cluster, change: Obj, code: int, message: str) -> None:
    await established(cluster, definition())

    answer = await cluster.call("POST", CRON_TABS, {**cron_tab(), **change})

    assert (answer.status, answer.json["message"]) == (code, message)
