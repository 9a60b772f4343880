"""Admission policies in CEL over real HTTPS: what they refuse, warn of and change, with which parameters and words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map, pod
from tests.apiserver.custom import definition, established, version
from tests.apiserver.test_prerelease import EVERYTHING, serving

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def rule(group: str, resource: str, **more: Any) -> Obj:
    return {"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"],
            "resources": [resource], **more}  # fmt: skip


ON_MAPS: Obj = {"resourceRules": [rule("", "configmaps")]}
ON_DEPLOYMENTS: Obj = {"resourceRules": [rule("apps", "deployments")]}


def policy(name: str, *expressions: str | Obj, kind: str = "Validating", **spec: Any) -> Obj:
    checks = [one if isinstance(one, dict) else {"expression": one} for one in expressions]
    given = {"validations": checks} if kind == "Validating" and checks else {}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}AdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": ON_MAPS, **given, **spec},
    }


def binding(name: str, of: str, kind: str = "Validating", **spec: Any) -> Obj:
    actions = {"validationActions": ["Deny"]} if kind == "Validating" else {}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}AdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": of, **actions, **spec},
    }


async def install(cluster: Cluster, made: Obj, **spec: Any) -> None:
    """The policy and a binding `b` for it, which have effect at once."""
    kind = made["kind"].removesuffix("AdmissionPolicy")
    plural = made["kind"].lower().removesuffix("y") + "ies"
    await cluster.request("POST", f"{GROUP}/{plural}", made)
    bound = binding("b", made["metadata"]["name"], kind, **spec)
    await cluster.request("POST", f"{GROUP}/{bound['kind'].lower()}s", bound)


def deployment(name: str, replicas: int = 1, **metadata: Any) -> Obj:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **metadata},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}},
        },
    }


async def test_a_deployment_is_validated(cluster: Cluster) -> None:
    """Conformance: "ValidatingAdmissionPolicy" (should validate against a Deployment)."""
    made = policy(
        "replicas.example.com",
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + "
         "string(object.spec.replicas)"},
        {"expression": "namespaceObject.metadata.name == 'default'", "message": "Internal error! Other namespace"},
        matchConstraints=ON_DEPLOYMENTS,
    )  # fmt: skip
    await install(cluster, made)

    await cluster.request("POST", DEPLOYMENTS, deployment("two", 2))
    answer = await cluster.call("POST", DEPLOYMENTS, deployment("one", 1))

    why = "ValidatingAdmissionPolicy 'replicas.example.com' with binding 'b' denied request: wants replicas > 1, got 1"
    assert (answer.status, answer.json["reason"], answer.json["code"]) == (422, "Invalid", 422)
    assert answer.json["message"] == f'deployments.apps "one" is forbidden: {why}'
    assert answer.json["details"]["causes"] == [{"message": why}]


async def test_expressions_refer_to_variables(cluster: Cluster) -> None:
    """Conformance: "ValidatingAdmissionPolicy" (should allow expressions to refer variables.)."""
    made = policy(
        "vars.example.com",
        "variables.oddReplicas",
        "!variables.tooMany",
        matchConstraints=ON_DEPLOYMENTS,
        variables=[
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
            {"name": "tooMany", "expression": "variables.replicas > 5"},
            {"name": "never", "expression": "object.spec.nowhere"},
        ],
    )
    await install(cluster, made)

    await cluster.request("POST", DEPLOYMENTS, deployment("three", 3))
    assert (
        "failed expression: variables.oddReplicas"
        in (await cluster.refused("POST", DEPLOYMENTS, deployment("four", 4))).message
    )
    assert (
        "failed expression: !variables.tooMany"
        in (await cluster.refused("POST", DEPLOYMENTS, deployment("seven", 7))).message
    )


@pytest.mark.parametrize(
    ("validation", "status", "reason", "why"),
    [
        ({"expression": "object.data.a == 'x'"}, 422, "Invalid", "failed expression: object.data.a == 'x'"),
        ({"expression": "false", "message": "no maps"}, 422, "Invalid", "no maps"),
        ({"expression": "false", "message": "no", "reason": "Forbidden"}, 403, "Forbidden", "no"),
        ({"expression": "false", "message": "no", "reason": "Unauthorized"}, 401, "Unauthorized", "no"),
        ({"expression": "false", "message": "no", "reason": "RequestEntityTooLarge"}, 413, "RequestEntityTooLarge",
         "no"),
        ({"expression": "false", "messageExpression": "'no ' + object.metadata.name", "message": "x"}, 422, "Invalid",
         "no a"),
        ({"expression": "false", "messageExpression": "object.nope", "message": "x"}, 0, "", ""),
        ({"expression": "false", "messageExpression": "string(object.nope)", "message": "x"}, 422, "Invalid", "x"),
        ({"expression": "object.missing == 1"}, 422, "Invalid",
         "expression 'object.missing == 1' resulted in error: no such key: missing"),
        ({"expression": "request.operation == 'UPDATE'"}, 422, "Invalid",
         "failed expression: request.operation == 'UPDATE'"),
        ({"expression": "request.userInfo.username != 'tester'", "message": "not you"}, 422, "Invalid", "not you"),
        ({"expression": "!authorizer.requestResource.check('create').allowed()", "message": "x"}, 422, "Invalid", "x"),
        ({"expression": "oldObject != null", "message": "new"}, 422, "Invalid", "new"),
    ],
)  # fmt: skip
async def test_refusals_say_why(cluster: Cluster, validation: Obj, status: int, reason: str, why: str) -> None:
    made = policy("p", validation)
    if not status:
        error = await cluster.refused("POST", f"{GROUP}/validatingadmissionpolicies", made)
        assert 'spec.validations[0].messageExpression: Invalid value: "object.nope": must evaluate to string' in (
            error.message
        )
        return
    await install(cluster, made)

    answer = await cluster.call("POST", MAPS, config_map("a", a="b"))

    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert answer.json["message"] == (
        f"configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {why}"
    )


async def test_a_policy_that_may_fail_lets_by_what_it_cannot_judge(cluster: Cluster) -> None:
    await install(cluster, policy("p", "object.missing == 1", "object.data.a == 'b'", failurePolicy="Ignore"))

    await cluster.request("POST", MAPS, config_map("a", a="b"))
    assert (
        "failed expression: object.data.a == 'b'"
        in (await cluster.refused("POST", MAPS, config_map("c", a="x"))).message
    )


async def test_warnings_come_with_the_answer(cluster: Cluster) -> None:
    await install(cluster, policy("p", {"expression": "false", "message": "old style"}), validationActions=["Warn"])

    answer = await cluster.call("POST", MAPS, config_map("a"))

    assert answer.status == 201
    assert answer.warnings == [
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': old style\""
    ]


async def test_failures_that_are_only_audited_let_the_request_by(cluster: Cluster) -> None:
    made = policy("p", "false", auditAnnotations=[{"key": "k", "valueExpression": "'seen ' + object.metadata.name"}])
    await install(cluster, made, validationActions=["Audit"])
    answer = await cluster.call("POST", MAPS, config_map("a"))
    assert (answer.status, answer.warnings) == (201, [])


@pytest.mark.parametrize(
    ("constraints", "labels", "refused"),
    [
        ({}, {}, True),
        ({"objectSelector": {"matchLabels": {"guard": "yes"}}}, {}, False),
        ({"objectSelector": {"matchLabels": {"guard": "yes"}}}, {"guard": "yes"}, True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, {}, True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}, {}, False),
        ({"excludeResourceRules": [rule("", "configmaps", resourceNames=["a"])]}, {}, False),
        ({"excludeResourceRules": [rule("", "configmaps", resourceNames=["b"])]}, {}, True),
        ({"resourceRules": [rule("", "configmaps", resourceNames=["b"])]}, {}, False),
        ({"resourceRules": [rule("", "configmaps", operations=["DELETE"])]}, {}, False),
        ({"resourceRules": [rule("*", "*", apiVersions=["*"])]}, {}, True),
    ],
)
async def test_constraints_choose_requests(cluster: Cluster, constraints: Obj, labels: Obj, refused: bool) -> None:
    await install(cluster, policy("p", "false", matchConstraints={**ON_MAPS, **constraints}))
    made = config_map("a")
    made["metadata"]["labels"] = labels
    assert (await cluster.call("POST", MAPS, made)).status == (422 if refused else 201)


@pytest.mark.parametrize(("resources", "refused"), [({}, True), ({"resourceRules": [rule("", "secrets")]}, False)])
async def test_a_binding_narrows_what_its_policy_matches(cluster: Cluster, resources: Obj, refused: bool) -> None:
    await install(cluster, policy("p", "false"), matchResources=resources)
    assert (await cluster.call("POST", MAPS, config_map("a"))).status == (422 if refused else 201)


async def test_versions_that_are_equivalent_match(cluster: Cluster) -> None:
    scaler = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"}},
    }
    named = {"resourceRules": [rule("autoscaling", "horizontalpodautoscalers", apiVersions=["v2"])]}
    check = "object.apiVersion != 'autoscaling/v2' || request.requestResource.version != 'v1'"
    await install(cluster, policy("p", check, matchConstraints=named))
    path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
    assert (await cluster.call("POST", path, scaler)).status == 422


async def test_conditions_come_before_validations(cluster: Cluster) -> None:
    conditions = [{"name": "not-system", "expression": "!object.metadata.name.startsWith('sys')"}]
    await install(cluster, policy("p", "false", matchConditions=conditions))
    assert (await cluster.call("POST", MAPS, config_map("sys-a"))).status == 201
    assert (await cluster.call("POST", MAPS, config_map("a"))).status == 422


async def test_deletions_show_the_old_object(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("kept", keep="yes"))
    on_delete = {"resourceRules": [rule("", "configmaps", operations=["DELETE"])]}
    check = {"expression": "object == null && oldObject.data.keep != 'yes'", "message": "keep it"}
    await install(cluster, policy("p", check, matchConstraints=on_delete))
    assert "keep it" in (await cluster.refused("DELETE", f"{MAPS}/kept")).message


async def test_policies_cannot_keep_themselves(cluster: Cluster) -> None:
    everything = {"resourceRules": [rule("*", "*", operations=["*"], apiVersions=["*"])]}
    await install(cluster, policy("p", "false", matchConstraints=everything))
    await cluster.request("DELETE", f"{GROUP}/validatingadmissionpolicybindings/b")
    await cluster.request("DELETE", f"{GROUP}/validatingadmissionpolicies/p")
    await cluster.request("POST", MAPS, config_map("a"))


# Parameters.

PARAMETRIZED: Obj = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": ON_DEPLOYMENTS}
LIMIT = {"expression": "object.spec.replicas <= int(params.data.most)", "messageExpression":
         "'at most ' + params.data.most"}  # fmt: skip


async def test_parameters_are_objects_of_the_cluster(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("limit", most="3"))
    reference = {"name": "limit", "parameterNotFoundAction": "Deny"}
    await install(cluster, policy("p", LIMIT, **PARAMETRIZED), paramRef=reference)

    await cluster.request("POST", DEPLOYMENTS, deployment("three", 3))
    assert "at most 3" in (await cluster.refused("POST", DEPLOYMENTS, deployment("four", 4))).message
    await cluster.request(
        "PATCH", f"{MAPS}/limit", {"data": {"most": "4"}}, content_type="application/merge-patch+json"
    )
    await cluster.request("POST", DEPLOYMENTS, deployment("four", 4))


async def test_parameters_may_be_chosen_by_label(cluster: Cluster) -> None:
    for name, most in (("a", "5"), ("b", "2")):
        made = config_map(name, most=most)
        made["metadata"]["labels"] = {"limit": "yes"}
        await cluster.request("POST", MAPS, made)
    reference = {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}
    await install(cluster, policy("p", LIMIT, **PARAMETRIZED), paramRef={**reference, "namespace": "default"})
    await cluster.request("POST", DEPLOYMENTS, deployment("two", 2))
    assert "at most 2" in (await cluster.refused("POST", DEPLOYMENTS, deployment("four", 4))).message


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("Allow", ""),
        ("Deny", "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
    ],
)
async def test_what_happens_without_parameters(cluster: Cluster, action: str, why: str) -> None:
    reference = {"name": "nowhere", "parameterNotFoundAction": action}
    await install(cluster, policy("p", LIMIT, **PARAMETRIZED), paramRef=reference)
    answer = await cluster.call("POST", DEPLOYMENTS, deployment("four", 4))
    assert answer.status == (422 if why else 201)
    assert not why or answer.json["message"].endswith(f"denied request: {why}")


async def test_a_kind_of_parameters_that_is_not_served_refuses(cluster: Cluster) -> None:
    spec = {**PARAMETRIZED, "paramKind": {"apiVersion": "rules.example.com/v1", "kind": "Limit"}}
    await install(cluster, policy("p", LIMIT, **spec), paramRef={"name": "x", "parameterNotFoundAction": "Allow"})
    error = await cluster.refused("POST", DEPLOYMENTS, deployment("a"))
    assert error.message == (
        "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure "
        "policy: failed to find resource referenced by paramKind: 'rules.example.com/v1, Kind=Limit'"
    )


async def test_custom_resources_can_be_parameters(cluster: Cluster) -> None:
    spec = {"type": "object", "properties": {"most": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": spec}}
    await established(cluster, definition(version(schema=schema), plural="limits", kind="Limit", scope="Cluster"))
    limit = {"apiVersion": "stable.example.com/v1", "kind": "Limit", "metadata": {"name": "l"}, "spec": {"most": 2}}
    await cluster.request("POST", "/apis/stable.example.com/v1/limits", limit)
    of_kind = {"paramKind": {"apiVersion": "stable.example.com/v1", "kind": "Limit"}}
    check = {"expression": "object.spec.replicas <= params.spec.most", "message": "too many"}
    made = policy("p", check, **{**PARAMETRIZED, **of_kind})
    await install(cluster, made, paramRef={"name": "l", "parameterNotFoundAction": "Deny"})

    await cluster.request("POST", DEPLOYMENTS, deployment("two", 2))
    assert "too many" in (await cluster.refused("POST", DEPLOYMENTS, deployment("three", 3))).message


async def test_scales_are_seen_as_scales(cluster: Cluster) -> None:
    await cluster.request("POST", DEPLOYMENTS, deployment("a", 1))
    on_scale = {"resourceRules": [rule("apps", "deployments/scale")]}
    checks = ["object.kind == 'Scale' && oldObject.spec.replicas == 1", "object.spec.replicas < 5"]
    await install(cluster, policy("p", *checks, matchConstraints=on_scale))
    one_more = "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1}]"
    raised = mutating("m", patched(one_more), matchConstraints=on_scale)
    await cluster.request("POST", f"{GROUP}/mutatingadmissionpolicies", raised)
    await cluster.request("POST", f"{GROUP}/mutatingadmissionpolicybindings", binding("m", "m", "Mutating"))
    path, merge = f"{DEPLOYMENTS}/a/scale", {"content_type": "application/merge-patch+json"}

    assert (
        "object.spec.replicas < 5" in (await cluster.refused("PATCH", path, {"spec": {"replicas": 4}}, **merge)).message
    )
    scaled = await cluster.request("PATCH", path, {"spec": {"replicas": 3}}, **merge)

    assert scaled["spec"]["replicas"] == 4


# What is no policy.


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validations": [{"expression": "object.x +"}]},
         ('spec.validations[0].expression: Invalid value: "object.x +": compilation failed: ERROR: <input>:1:11: '
         "Syntax error: mismatched input '<EOF>' expecting")),
        ({"validations": [{"expression": "object.x"}]},
         'spec.validations[0].expression: Invalid value: "object.x": must evaluate to bool'),
        ({"validations": [{"expression": "params.x == 1"}]}, "undeclared reference to 'params' (in container '')"),
        ({"validations": [{"expression": "request.nope == 1"}]}, "undefined field 'nope'"),
        ({"validations": [{"expression": "variables.b"}], "variables": [{"name": "a", "expression": "true"}]},
         "undefined field 'b'"),
        ({"validations": [{"expression": "true", "reason": "Odd"}]},
         ('spec.validations[0].reason: Unsupported value: "Odd": supported values: "Forbidden", "Invalid", '
         '"RequestEntityTooLarge", "Unauthorized"')),
        ({"validations": [{"expression": ""}]}, "spec.validations[0].expression: Required value"),
        ({"validations": []}, "validations or auditAnnotations must contain at least one item"),
        ({"variables": [{"name": "1x", "expression": "1"}], "validations": [{"expression": "true"}]},
         'spec.variables[0].name: Invalid value: "1x": name is not a valid CEL identifier'),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
         'spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type]'),
        ({"matchConditions": [{"name": "m", "expression": "1"}], "validations": [{"expression": "true"}]},
         'spec.matchConditions[0].expression: Invalid value: "1": must evaluate to bool'),
        ({"matchConstraints": None, "validations": [{"expression": "true"}]},
         "spec.matchConstraints: Required value"),
        ({"paramKind": {"apiVersion": "v1"}, "validations": [{"expression": "true"}]},
         "spec.paramKind.kind: Required value"),
    ],
)  # fmt: skip
async def test_policies_with_bad_expressions_are_refused(cluster: Cluster, changes: Obj, told: str) -> None:
    error = await cluster.refused("POST", f"{GROUP}/validatingadmissionpolicies", policy("p", **changes))
    assert error.code == 422
    assert told in error.message


# Policies that change objects.


def mutating(name: str, *mutations: Obj, **spec: Any) -> Obj:
    return policy(name, kind="Mutating", mutations=list(mutations), **{"reinvocationPolicy": "Never", **spec})


def applied(expression: str) -> Obj:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> Obj:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def test_a_deployment_is_mutated(cluster: Cluster) -> None:
    """Conformance: "MutatingAdmissionPolicy" (should mutate a Deployment)."""
    change = applied("Object{spec: Object.spec{replicas: object.spec.replicas + 100}}")
    await install(cluster, mutating("m", change, matchConstraints=ON_DEPLOYMENTS))
    made = await cluster.request("POST", DEPLOYMENTS, deployment("a", 1))
    assert made["spec"]["replicas"] == 101


async def test_a_deployment_is_given_annotations(cluster: Cluster) -> None:
    """Conformance: "MutatingAdmissionPolicy" (should mutate a Deployment with annotations)."""
    change = applied("Object{metadata: Object.metadata{annotations: {'my-foo-annotation': 'myAnnotationValue'}}}")
    await install(cluster, mutating("m", change, matchConstraints=ON_DEPLOYMENTS))
    made = await cluster.request("POST", DEPLOYMENTS, deployment("a", annotations={"mine": "stays"}))
    assert made["metadata"]["annotations"] == {"mine": "stays", "my-foo-annotation": "myAnnotationValue"}


async def test_containers_are_merged_by_name(cluster: Cluster) -> None:
    sidecar = "Object.spec.initContainers{name: 'proxy', image: 'proxy:1', restartPolicy: 'Always'}"
    on_pods = {"resourceRules": [rule("", "pods", operations=["CREATE"])]}
    conditions = [
        {"name": "once", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'proxy')"}
    ]
    change = applied(f"Object{{spec: Object.spec{{initContainers: [{sidecar}]}}}}")
    await install(cluster, mutating("m", change, matchConstraints=on_pods, matchConditions=conditions))
    made = await cluster.request(
        "POST", "/api/v1/namespaces/default/pods", pod("a", initContainers=[{"name": "own", "image": "busybox"}])
    )
    assert {each["name"] for each in made["spec"]["initContainers"]} == {"own", "proxy"}
    proxy = next(each for each in made["spec"]["initContainers"] if each["name"] == "proxy")
    assert proxy["imagePullPolicy"] == "IfNotPresent"  # what a policy adds is defaulted


async def test_json_patches_are_lists_of_operations(cluster: Cluster) -> None:
    key = "'/metadata/labels/' + jsonpatch.escapeKey('example.com/env')"
    operations = (
        "[JSONPatch{op: 'test', path: '/data/a', value: 'b'}, "
        "JSONPatch{op: 'add', path: '/metadata/labels', value: {'x': 'y'}}, "
        f"JSONPatch{{op: 'add', path: {key}, value: object.data.a + variables.suffix}}]"
    )
    suffix = [{"name": "suffix", "expression": "'-' + request.operation"}]
    await install(cluster, mutating("m", patched(operations), variables=suffix))
    made = await cluster.request("POST", MAPS, config_map("a", a="b"))
    assert made["metadata"]["labels"] == {"x": "y", "example.com/env": "b-CREATE"}


async def test_a_policy_that_wants_another_look_gets_one(cluster: Cluster) -> None:
    count = "string(int(object.?data.?count.orValue('0')) + 1)"
    change = applied(f"Object{{data: {{'count': {count}}}}}")
    await install(cluster, mutating("a", change, reinvocationPolicy="IfNeeded"))
    second = mutating("b", applied("Object{data: {'other': 'x'}}"))
    await cluster.request("POST", f"{GROUP}/mutatingadmissionpolicies", second)
    await cluster.request("POST", f"{GROUP}/mutatingadmissionpolicybindings", binding("c", "b", "Mutating"))
    made = await cluster.request("POST", MAPS, config_map("a"))
    assert made["data"] == {"count": "2", "other": "x"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (applied("Object{data: {'a': object.nope}}"), "resulted in error: no such key: nope"),
        (applied("Object{metadata: Object.metadata{name: 'other'}}"), "the name of the object may not be changed"),
        (patched("[JSONPatch{op: 'test', path: '/data/a', value: 'z'}]"), "denied request: "),
        (applied("Object{nope: 'x'}"), "invalid ApplyConfiguration: .nope: field not declared in schema"),
        (applied("Object{metadata: Object.metadata{ownerReferences: [{'uid': 'x', 'name': 'y'}]}}"), ""),
    ],
)
async def test_mutations_that_fail_refuse(cluster: Cluster, change: Obj, told: str) -> None:
    await install(cluster, mutating("m", change))
    error = await cluster.refused("POST", MAPS, config_map("a", a="b"))
    assert error.code == 422
    assert "policy 'm' with binding 'b' denied request: " in error.message
    assert told in error.message


@pytest.mark.parametrize("minor", [30, 34, 37])
async def test_mutating_policies_work_where_they_are_beta_or_alpha(pki: Path, tmp_path: Path, minor: int) -> None:
    """Before 1.36 they are served where they are asked for and the feature is on; other minors are none the worse."""
    gates = {"MutatingAdmissionPolicy": True} if minor > 30 else {}
    async with serving(pki, tmp_path / "state.db", minor, EVERYTHING, gates) as cluster:
        version = {30: "", 34: "v1beta1"}.get(minor, "v1")
        path = f"/apis/admissionregistration.k8s.io/{version}"
        made = mutating("m", applied("Object{data: {'added': 'yes'}}"))
        for each, plural in ((made, "policies"), (binding("b", "m", "Mutating"), "policybindings")):
            if version:
                each["apiVersion"] = path.removeprefix("/apis/")
                await cluster.request("POST", f"{path}/mutatingadmission{plural}", each)

        stored = await cluster.request("POST", MAPS, config_map("a", own="x"))

        assert stored["data"] == {"own": "x", **({"added": "yes"} if version else {})}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (applied("object"), "must evaluate to Object"),
        (applied("Wrong{a: 1}"), "undeclared reference to 'Wrong'"),
        (patched("[JSONPatch{op: 1}]"), "expected type of field 'op' is 'string' but provided type is 'int'"),
        (patched("[JSONPatch{bad: 'x'}]"), "undefined field 'bad'"),
        ({"patchType": "Odd"}, 'spec.mutations[0].patchType: Unsupported value: "Odd"'),
        ({"patchType": "JSONPatch"}, "spec.mutations[0].jsonPatch: Required value"),
    ],
)
async def test_mutating_policies_with_bad_expressions_are_refused(cluster: Cluster, change: Obj, told: str) -> None:
    error = await cluster.refused("POST", f"{GROUP}/mutatingadmissionpolicies", mutating("m", change))
    assert error.code == 422
    assert told in error.message


async def test_policies_are_cheap(cluster: Cluster) -> None:
    """A simple policy costs a write a fifth of a millisecond at most."""
    from pinnace.apiserver.admission.chain import Attributes
    from pinnace.apiserver.admission.policies import ValidatingPolicies
    from pinnace.apiserver.authn import User
    from pinnace.apiserver.call import Call
    from pinnace.apiserver.request_info import parse_request

    await install(cluster, policy("p", "object.data.a.size() < 10 && object.metadata.name != 'x'"))
    api = cluster.server.api
    info = parse_request("POST", MAPS)
    kind = api.registry.by_gvr(info.gvr)
    assert kind is not None
    attributes = Attributes(Call(api, User("u"), info, kind, {}, None), "CREATE", config_map("a", a="b"), None)
    plugin = ValidatingPolicies()
    await plugin.validate(attributes)
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            await plugin.validate(attributes)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 0.0002
