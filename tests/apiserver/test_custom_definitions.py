"""CustomResourceDefinitions: what they must be, their conditions, discovery, and how they come and go."""

from __future__ import annotations

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import (
    CRON_TABS,
    DEFINITIONS,
    GROUP,
    MERGE,
    conditions,
    cron_tab,
    definition,
    deleted,
    established,
    until,
    version,
)


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


async def test_what_was_never_established_goes_at_once(cluster: Cluster) -> None:
    await established(cluster, definition())
    given = definition(plural="others", kind="CronTab")
    assert (await cluster.call("POST", DEFINITIONS, given)).status == 201
    await until(cluster, f"others.{GROUP}", lambda found: "NamesAccepted" in conditions(found))

    await deleted(cluster, f"others.{GROUP}")

    assert (await cluster.call("GET", CRON_TABS)).status == 200


async def test_versions_come_and_go_while_objects_stay(cluster: Cluster) -> None:
    await established(cluster, definition())
    await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 2}))
    path, other = f"{DEFINITIONS}/crontabs.{GROUP}", CRON_TABS.replace("/v1/", "/v2/")
    more = {"spec": {"versions": [version(), version("v2", storage=False)]}}

    assert (await cluster.call("GET", f"{other}/a")).status == 404
    assert (await cluster.call("PATCH", path, more, content_type=MERGE)).status == 200
    found = await cluster.call("GET", f"{other}/a")
    assert (found.json["apiVersion"], found.json["spec"]) == (f"{GROUP}/v2", {"replicas": 2})
    assert (await cluster.call("GET", f"/apis/{GROUP}")).json["preferredVersion"]["version"] == "v2"
    less = {"spec": {"versions": [version()]}}
    assert (await cluster.call("PATCH", path, less, content_type=MERGE)).status == 200
    assert (await cluster.call("GET", f"{other}/a")).status == 404
    assert (await cluster.call("GET", f"{CRON_TABS}/a")).json["spec"] == {"replicas": 2}


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
        "storageVersionHash": "EdX2FP+L0js=",
    }
    assert entries["crontabs/status"]["verbs"] == ["get", "patch", "update"]
    assert (entries["crontabs/scale"]["group"], entries["crontabs/scale"]["kind"]) == ("autoscaling", "Scale")
    after = await cluster.call("GET", "/apis", headers=aggregated)
    assert after.headers["etag"] != before.headers["etag"]
    assert GROUP in [item["metadata"]["name"] for item in after.json["items"]]
    assert (await cluster.call("GET", f"/apis/{GROUP}/v2/crontabs")).status == 404
