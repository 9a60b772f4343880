"""CustomResourceDefinitions and the objects they define, over the wire and over the loop-back path."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
CRON_TABS = f"/apis/{GROUP}/v1/namespaces/default/crontabs"
MERGE = "application/merge-patch+json"

SPEC: Obj = {
    "type": "object",
    "properties": {
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "image": {"type": "string"},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
    },
}
SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "spec": SPEC,
        "status": {
            "type": "object",
            "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}},
        },
    },
}


SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.labelSelector",
}


def version(name: str = "v1", schema: Obj = SCHEMA, *, storage: bool = True, served: bool = True, **more: Any) -> Obj:
    return {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": schema}, **more}


def definition(*versions: Obj, plural: str = "crontabs", kind: str = "CronTab", **spec: Any) -> Obj:
    group = spec.pop("group", GROUP)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": list(versions) or [version()],
            **spec,
        },
    }


def cron_tab(name: str = "a", api_version: str = f"{GROUP}/v1", **fields: Any) -> Obj:
    return {"apiVersion": api_version, "kind": "CronTab", "metadata": {"name": name}, **fields}


def conditions(found: Obj) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["status"].get("conditions") or ()}


async def established(cluster: Cluster, given: Obj) -> Obj:
    """Create a definition and wait until it is served."""
    created = await cluster.call("POST", DEFINITIONS, given)
    assert created.status == 201, created.body
    return await until(
        cluster, given["metadata"]["name"], lambda found: conditions(found).get("Established", ("",))[0] == "True"
    )


async def until(cluster: Cluster, name: str, is_so: Any) -> Obj:
    """The definition, once it is as asked."""
    watch = await cluster.watch(f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")
    try:
        while True:
            event = await watch.next()
            assert event is not None
            if is_so(event["object"]):
                found: Obj = event["object"]
                return found
    finally:
        watch.close()


async def deleted(cluster: Cluster, name: str = f"crontabs.{GROUP}") -> None:
    """Delete a definition and wait until it is gone."""
    watch = await cluster.watch(f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")
    assert (await cluster.call("DELETE", f"{DEFINITIONS}/{name}")).status == 200
    while (event := await watch.next()) is not None and event["type"] != "DELETED":
        pass
    watch.close()


async def test_a_definition_is_established_and_serves_at_once(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, create"."""
    found = await established(cluster, definition())

    assert conditions(found) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert found["status"]["acceptedNames"] == {
        "plural": "crontabs",
        "singular": "crontab",
        "kind": "CronTab",
        "listKind": "CronTabList",
    }
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["spec"]["conversion"] == {"strategy": "None"}

    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"cronSpec": "* * * * */5", "replicas": 3}))
    assert made.status == 201
    assert made.json["metadata"]["generation"] == 1
    listed = (await cluster.call("GET", f"/apis/{GROUP}/v1/crontabs")).json
    assert (listed["kind"], listed["apiVersion"]) == ("CronTabList", f"{GROUP}/v1")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]

    await deleted(cluster)
    assert (await cluster.call("GET", f"/apis/{GROUP}/v1/crontabs")).status == 404
    assert (await cluster.call("GET", f"/apis/{GROUP}")).status == 404


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


async def test_rules_that_do_not_compile_are_refused(cluster: Cluster) -> None:
    rule = {"rule": "self.replics > 1"}
    spec = {"type": "object", "properties": {"replicas": {"type": "integer"}}, "x-kubernetes-validations": [rule]}

    answer = await cluster.call(
        "POST", DEFINITIONS, definition(version(schema={"type": "object", "properties": {"spec": spec}}))
    )

    assert answer.status == 422
    assert "undefined field 'replics'" in answer.json["message"]
    cause = answer.json["details"]["causes"][0]["field"]
    assert cause == "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"


# Definitions.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": "plain"}, 'spec.group: Invalid value: "plain": should be a domain with at least one dot'),
        ({"scope": "Galaxy"}, 'spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'),
        (
            {"versions": [version(storage=False)]},
            "must have exactly one version marked as storage version",
        ),
        ({"versions": [version(), version()]}, "must contain unique version names"),
        (
            {"versions": [{"name": "v1", "served": True, "storage": True}]},
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            {"versions": [version(schema={"type": "object", "properties": {"spec": {"properties": {}}}})]},
            (
                "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for "
                "specified object fields"
            ),
        ),
        (
            {"versions": [version(), version("v2", {"type": "string"}, storage=False)]},
            'spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root',
        ),
        (
            {"versions": [version(subresources={"scale": {"specReplicasPath": "spec.replicas"}})]},
            'spec.subresources.scale.specReplicasPath: Invalid value: "spec.replicas": must be a simple json path',
        ),
        (
            {"versions": [version(additionalPrinterColumns=[{"name": "A", "type": "text", "jsonPath": ".spec"}])]},
            (
                'spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
                "boolean,date,integer,number,string"
            ),
        ),
        (
            {"versions": [version(selectableFields=[{"jsonPath": ".spec.none"}])]},
            'spec.selectableFields[0].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to',
        ),
        (
            {"conversion": {"strategy": "Webhook"}},
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields: Invalid value: true: "),
        (
            {"group": "batch.k8s.io"},
            (
                "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval "
                'annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111'
            ),
        ),
    ],
)
async def test_invalid_definitions_are_refused(cluster: Cluster, change: Obj, message: str) -> None:
    answer = await cluster.call(
        "POST", DEFINITIONS, definition(**change) if "versions" not in change else _with(change)
    )

    assert answer.status == 422
    assert message in answer.json["message"]


def _with(change: Obj) -> Obj:
    given = definition()
    given["spec"] |= change
    return given


async def test_what_may_not_change_is_immutable(cluster: Cluster) -> None:
    await established(cluster, definition())
    path = f"{DEFINITIONS}/crontabs.{GROUP}"

    scope = await cluster.call("PATCH", path, {"spec": {"scope": "Cluster"}}, content_type=MERGE)
    kind = await cluster.call("PATCH", path, {"spec": {"names": {"kind": "Other"}}}, content_type=MERGE)
    gone = await cluster.call("PATCH", path, {"spec": {"versions": [version("v2")]}}, content_type=MERGE)

    assert scope.json["message"].endswith('spec.scope: Invalid value: "Cluster": field is immutable')
    assert 'spec.names.kind: Invalid value: "Other": field is immutable' in kind.json["message"]
    assert "v1 was previously a storage version, and must remain in spec.versions" in gone.json["message"]


async def test_names_that_are_taken_are_not_accepted(cluster: Cluster) -> None:
    await established(cluster, definition())
    other = definition(plural="others", kind="CronTab")
    name = f"others.{GROUP}"

    assert (await cluster.call("POST", DEFINITIONS, other)).status == 201
    refused = await until(cluster, name, lambda found: "NamesAccepted" in conditions(found))

    assert conditions(refused)["NamesAccepted"] == ("False", "ListKindConflict")
    assert conditions(refused)["Established"] == ("False", "NotAccepted")
    assert refused["status"]["conditions"][0]["message"] == '"CronTabList" is already in use'
    assert (await cluster.call("GET", f"/apis/{GROUP}/v1/others")).status == 404

    await deleted(cluster)
    accepted = await until(cluster, name, lambda found: conditions(found)["Established"][0] == "True")
    assert accepted["status"]["acceptedNames"]["kind"] == "CronTab"


async def test_groups_of_the_project_are_marked(cluster: Cluster) -> None:
    given = definition(group="things.k8s.io")
    given["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}

    found = await established(cluster, given)

    assert conditions(found)["KubernetesAPIApprovalPolicyConformant"] == ("False", "UnapprovedAnnotation")


async def test_the_status_of_a_definition_can_be_written(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, status sub-resource"."""
    await established(cluster, definition())
    path = f"{DEFINITIONS}/crontabs.{GROUP}/status"
    found = (await cluster.call("GET", path)).json
    note = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    found["status"]["conditions"].append(note)

    assert (await cluster.call("PUT", path, found)).status == 200
    patch = {"status": {"storedVersions": ["v1"]}}
    patched = await cluster.call("PATCH", path, patch, content_type=MERGE)

    assert "StatusUpdate" in conditions(patched.json)
    assert "StatusUpdate" in conditions((await cluster.call("GET", path)).json)


async def test_definitions_are_listed_and_deleted_by_label(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, list"."""
    for index in range(10):
        given = definition(plural=f"things{index}", kind=f"Thing{index}")
        given["metadata"]["labels"] = {"run": "me"}
        await established(cluster, given)
    await established(cluster, definition())

    listed = await cluster.call("GET", f"{DEFINITIONS}?labelSelector=run%3Dme")
    assert len(listed.json["items"]) == 10

    watch = await cluster.watch(f"{DEFINITIONS}?watch=1")
    assert (await cluster.call("DELETE", f"{DEFINITIONS}?labelSelector=run%3Dme")).status == 200
    left = 10
    while left:
        event = await watch.next()
        assert event is not None
        left -= event["type"] == "DELETED"
    watch.close()
    names = [item["metadata"]["name"] for item in (await cluster.call("GET", DEFINITIONS)).json["items"]]
    assert names == [f"crontabs.{GROUP}"]


async def test_discovery_tells_of_definitions_and_of_what_they_define(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, discovery", "Aggregated Discovery Interface CRDs",
    "Aggregated Discovery Endpoint Accept Headers CRDs"."""
    aggregated = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    before = await cluster.call("GET", "/apis", headers=aggregated)
    groups = (await cluster.call("GET", "/apis")).json["groups"]
    assert "apiextensions.k8s.io" in [group["name"] for group in groups]
    resources = (await cluster.call("GET", "/apis/apiextensions.k8s.io/v1")).json["resources"]
    assert "customresourcedefinitions" in [one["name"] for one in resources]

    given = definition(
        version(
            subresources={
                "status": {},
                "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
            }
        ),
        version("v1beta1", {"type": "object"}, storage=False),
        version("v2", {"type": "object", "description": "new"}, storage=False, served=False),
    )
    given["spec"]["names"] |= {"shortNames": ["ct"], "categories": ["all"]}
    await established(cluster, given)

    group = (await cluster.call("GET", f"/apis/{GROUP}")).json
    assert [one["version"] for one in group["versions"]] == ["v1", "v1beta1"]
    assert group["preferredVersion"]["version"] == "v1"
    entries = {one["name"]: one for one in (await cluster.call("GET", f"/apis/{GROUP}/v1")).json["resources"]}
    assert entries["crontabs"] == {
        "name": "crontabs",
        "singularName": "crontab",
        "namespaced": True,
        "kind": "CronTab",
        "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        "shortNames": ["ct"],
        "categories": ["all"],
    }
    assert entries["crontabs/status"]["verbs"] == ["get", "patch", "update"]
    assert (entries["crontabs/scale"]["group"], entries["crontabs/scale"]["kind"]) == ("autoscaling", "Scale")
    after = await cluster.call("GET", "/apis", headers=aggregated)
    assert after.headers["etag"] != before.headers["etag"]
    assert GROUP in [item["metadata"]["name"] for item in after.json["items"]]
    assert (await cluster.call("GET", f"/apis/{GROUP}/v2/crontabs")).status == 404


# Objects.


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
    unpinned = await cluster.call("PUT", path, cron_tab(spec={"replicas": 4}))
    assert unpinned.status == 422
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in unpinned.json["message"]
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
