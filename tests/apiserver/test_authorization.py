"""Who may do what, where files and other servers decide: ABAC, webhooks, AuthorizationConfiguration.

Conformance: "SubjectReview, API Operations" is in `test_rbac`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.authorization.abac import Abac, load_policies
from pinnace.apiserver.authorization.configuration import authorizers_of, load_authorization
from pinnace.apiserver.authorization.webhook import WebhookOptions, opinion_of, review_spec
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.apiserver.request_info import parse_request, selecting
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map, serving
from tests.apiserver.remote import Remote

MAPS = "/api/v1/namespaces/default/configmaps"
PLAIN = {"Authorization": "Bearer plain"}
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


# ABAC.


def policy(**spec: Any) -> str:
    return json.dumps({"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": spec})


@pytest.mark.parametrize(
    ("line", "method", "path", "allowed"),
    [
        (policy(user="alice", namespace="*", resource="*", apiGroup="*"), "DELETE", f"{MAPS}/a", True),
        (policy(user="bob", namespace="*", resource="*", apiGroup="*"), "GET", f"{MAPS}/a", False),
        (policy(user="*", namespace="default", resource="configmaps", readonly=True), "GET", f"{MAPS}/a", True),
        (policy(user="*", namespace="default", resource="configmaps", readonly=True), "PUT", f"{MAPS}/a", False),
        (policy(user="*", namespace="other", resource="configmaps"), "GET", f"{MAPS}/a", False),
        (policy(user="*", namespace="*", resource="*"), "GET", "/apis/apps/v1/deployments", False),
        (policy(group="staff", namespace="*", resource="*", apiGroup="*"), "GET", f"{MAPS}/a", True),
        (policy(user="alice", group="other", namespace="*", resource="*", apiGroup="*"), "GET", f"{MAPS}/a", False),
        (policy(group="staff", nonResourcePath="/healthz*"), "GET", "/healthz/ping", True),
        (policy(group="staff", nonResourcePath="/healthz"), "GET", f"{MAPS}/a", False),
        (policy(namespace="*", resource="*", apiGroup="*"), "GET", f"{MAPS}/a", False),
        ('{"user": "alice"}', "PUT", f"{MAPS}/a", True),
        ('{"readonly": true}', "GET", f"{MAPS}/a", True),
        ('{"user": "alice", "resource": "pods"}', "GET", f"{MAPS}/a", False),
    ],
)
def test_a_policy_allows_what_all_of_it_matches(
    line: str, method: str, path: str, allowed: bool, tmp_path: Path
) -> None:
    file = tmp_path / "policy.jsonl"
    file.write_text(f"# people\n\n{line}\n")
    user = User("alice", groups=("staff", AUTHENTICATED))

    opinion = load_policies(file).decide(user, parse_request(method, path))

    assert opinion.allowed is (True if allowed else None)
    assert opinion.reason == ("" if allowed else "No policy matched.")


def test_a_line_that_is_no_policy_is_named(tmp_path: Path) -> None:
    file = tmp_path / "policy.jsonl"
    file.write_text('{"user": "a"}\n{"kind": "Policy", "apiVersion": "v9"}\n')

    with pytest.raises(ConfigurationError, match=r'line 2: .*: no kind "Policy" is registered for version "v9"'):
        load_policies(file)


def test_nobody_is_allowed_by_no_policy() -> None:
    assert Abac([]).decide(User("a"), parse_request("GET", "/")).allowed is None


# Webhooks.


def test_a_review_tells_all_of_a_request() -> None:
    user = User("jane", "7", ("g",), {"a": ("b",)})
    info = parse_request("GET", "/apis/apps/v1/namespaces/n/deployments")
    asked = selecting(info, {"fieldSelector": "metadata.name!=x", "labelSelector": "a in (b,c),!d"})

    assert review_spec(user, asked) == {
        "resourceAttributes": {
            "namespace": "n",
            "verb": "list",
            "group": "apps",
            "version": "v1",
            "resource": "deployments",
            "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "NotIn", "values": ["x"]}]},
            "labelSelector": {
                "requirements": [
                    {"key": "a", "operator": "In", "values": ["b", "c"]},
                    {"key": "d", "operator": "DoesNotExist"},
                ]
            },
        },
        "user": "jane",
        "groups": ["g"],
        "uid": "7",
        "extra": {"a": ["b"]},
    }
    path = review_spec(User("jane"), parse_request("GET", "/metrics"))
    assert path["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({"allowed": True}, True),
        ({"allowed": False}, None),
        ({"allowed": False, "denied": True}, False),
        ({"allowed": True, "denied": True}, False),
    ],
)
def test_a_webhook_allows_denies_or_leaves_it_to_others(status: Obj, allowed: bool | None) -> None:
    assert opinion_of({"status": {**status, "reason": "because"}})[:2] == (allowed, "because")


async def test_a_webhook_decides_and_its_answers_are_remembered(pki: Path, tmp_path: Path) -> None:
    def answer(_: str, review: Any) -> Any:
        attributes = review["spec"].get("resourceAttributes") or {}
        name = attributes.get("name")
        return {"status": {"allowed": name == "mine", "denied": name == "hidden", "reason": "the owner says so"}}

    async with Remote(pki, answer) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        more = {"authorization_modes": ("Webhook", "RBAC"), "authorization_webhook_config_file": file}
        async with serving(pki, tmp_path, **more) as cluster:
            for name in ("mine", "hidden"):
                await cluster.call("POST", MAPS, config_map(name))
            remote.asked.clear()

            answers = [
                await cluster.call("GET", f"{MAPS}/{name}", headers=PLAIN) for name in ("mine", "hidden", "mine")
            ]
            review: Obj = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
            attributes = {"verb": "get", "resource": "configmaps", "namespace": "default", "name": "mine"}
            said = await cluster.call(
                "POST", REVIEWS, {**review, "spec": {"user": "x", "resourceAttributes": attributes}}
            )

    assert [found.status for found in answers] == [200, 403, 200]
    assert answers[1].json["message"].endswith('in the namespace "default": the owner says so')
    assert said.json["status"] == {"allowed": True, "reason": "the owner says so"}
    first = remote.asked[0]
    assert first["apiVersion"] == "authorization.k8s.io/v1beta1"
    assert (first["spec"]["user"], first["spec"]["group"]) == ("plain-user", [AUTHENTICATED])
    assert [asked["spec"]["resourceAttributes"]["name"] for asked in remote.asked] == ["mine", "hidden", "mine"]


async def test_what_a_webhook_is_not_asked_about_goes_on_where_it_is_away(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: {}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
    config = tmp_path / "authorization.yaml"
    webhook = {
        "timeout": "1s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        "matchConditions": [
            {"expression": "has(request.resourceAttributes)"},
            {"expression": "request.resourceAttributes.resource == 'secrets'"},
        ],
    }
    config.write_text(
        json.dumps(
            {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "AuthorizationConfiguration",
                "authorizers": [
                    {"type": "Webhook", "name": "guard", "webhook": webhook},
                    {"type": "AlwaysAllow", "name": "rest"},
                ],
            }
        )
    )
    async with serving(pki, tmp_path, authorization_config=config) as cluster:
        assert (await cluster.call("GET", "/api/v1/namespaces/default/secrets")).status == 200  # of system:masters
        assert (await cluster.call("GET", MAPS, headers=PLAIN)).status == 200  # not for the webhook


async def test_a_webhook_that_must_be_heard_denies_where_it_is_away(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: (400, {})) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        webhook = {
            "timeout": "1s",
            "subjectAccessReviewVersion": "v1",
            "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        }
        config = tmp_path / "authorization.yaml"
        kinds = [{"type": "Webhook", "name": "guard", "webhook": webhook}, {"type": "AlwaysAllow", "name": "rest"}]
        document = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthorizationConfiguration"}
        config.write_text(json.dumps({**document, "authorizers": kinds}))
        async with serving(pki, tmp_path, authorization_config=config) as cluster:
            answer = await cluster.call("GET", MAPS, headers=PLAIN)
    assert answer.status == 500  # it is not the client's fault
    assert "the server rejected our request" in answer.json["message"]


async def test_a_policy_in_cel_may_ask_what_only_a_webhook_knows(pki: Path, tmp_path: Path) -> None:
    def answer(_: str, review: Any) -> Any:
        return {"status": {"allowed": (review["spec"].get("resourceAttributes") or {}).get("verb") != "bless"}}

    async with Remote(pki, answer) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        more = {"authorization_modes": ("Webhook",), "authorization_webhook_config_file": file}
        async with serving(pki, tmp_path, **more) as cluster:
            admission = "/apis/admissionregistration.k8s.io/v1"
            rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
            check = "authorizer.group('').resource('configmaps').check('bless').allowed()"
            spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": check}]}
            named: Obj = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "p"}}
            made = await cluster.call("POST", f"{admission}/validatingadmissionpolicies",
                               {**named, "kind": "ValidatingAdmissionPolicy", "spec": spec})  # fmt: skip
            assert made.status == 201, made.body
            bound = {"policyName": "p", "validationActions": ["Deny"]}
            made = await cluster.call("POST", f"{admission}/validatingadmissionpolicybindings",
                               {**named, "kind": "ValidatingAdmissionPolicyBinding", "spec": bound})  # fmt: skip
            assert made.status == 201, made.body

            refused = await cluster.call("POST", MAPS, config_map("a"), headers=PLAIN)

    assert refused.status == 422
    assert any((asked["spec"].get("resourceAttributes") or {}).get("verb") == "bless" for asked in remote.asked)


# Configuration.

GOOD: Obj = {
    "timeout": "3s",
    "subjectAccessReviewVersion": "v1",
    "failurePolicy": "NoOpinion",
    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": __file__},
}


def test_a_configuration_names_authorizers_in_order() -> None:
    found = authorizers_of(
        {
            "authorizers": [
                {"type": "Node", "name": "node"},
                {"type": "Webhook", "name": "one", "webhook": {**GOOD, "authorizedTTL": "1m"}},
                {"type": "Webhook", "name": "two.example", "webhook": {**GOOD, "cacheUnauthorizedRequests": False}},
            ]
        }
    )

    assert found[0] == "Node"
    one, two = found[1:]
    assert isinstance(one, WebhookOptions)
    assert isinstance(two, WebhookOptions)
    assert (one.name, one.authorized_seconds, one.unauthorized_seconds, one.timeout) == ("one", 60, 30, 3)
    assert (two.authorized_seconds, two.unauthorized_seconds) == (300, 0)


def hook(**changes: Any) -> list[Obj]:
    webhook = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return [{"type": "Webhook", "name": "a", "webhook": webhook}]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "authorizers: Required value: at least one authorization mode must be defined"),
        ([{"type": "Node"}], "authorizers[0].name: Required value"),
        ([{"name": "a"}], "authorizers[0].type: Required value"),
        ([{"type": "All", "name": "a"}], 'authorizers[0].type: Unsupported value: "All"'),
        ([{"type": "Node", "name": "a"}, {"type": "RBAC", "name": "a"}], 'authorizers[1].name: Duplicate value: "a"'),
        ([{"type": "Node", "name": "a"}, {"type": "Node", "name": "b"}], '[1].type: Duplicate value: "Node"'),
        ([{"type": "Webhook", "name": "a"}], "authorizers[0].webhook: Required value: required when type=Webhook"),
        ([{"type": "Node", "name": "a", "webhook": {}}], "may only be specified when type=Webhook"),
        (hook(timeout=None), "webhook.timeout: Required value"),
        (hook(timeout="1m"), "must be <= 30s"),
        (hook(subjectAccessReviewVersion="v2"), 'subjectAccessReviewVersion: Unsupported value: "v2"'),
        (hook(failurePolicy="Fail"), 'failurePolicy: Unsupported value: "Fail"'),
        (hook(connectionInfo={"type": "KubeConfigFile", "kubeConfigFile": "a"}), "must be an absolute path"),
        (hook(connectionInfo={}), "webhook.connectionInfo.type: Required value"),
        (hook(matchConditions=[{"expression": "true"}]), "required if match conditions are specified"),
        (
            hook(matchConditionSubjectAccessReviewVersion="v1", matchConditions=[{"expression": "1"}]),
            "matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool",
        ),
        (
            hook(matchConditionSubjectAccessReviewVersion="v1", matchConditions=[{"expression": "request.x"}]),
            "undefined field 'x'",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_says_why(entries: list[Obj], why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        authorizers_of({"authorizers": entries})

    assert why in str(caught.value)


def test_an_unknown_field_of_a_configuration_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizer: []\n")

    with pytest.raises(ConfigurationError, match='unknown field "authorizer"'):
        load_authorization(file)


async def test_a_review_that_cannot_be_is_refused(cluster: Cluster) -> None:
    attributes = {"verb": "list", "resource": "pods", "labelSelector": {}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}

    answer = await cluster.call("POST", REVIEWS, {**review, "spec": {"user": "x", "resourceAttributes": attributes}})

    assert answer.status == 422
    path = "spec.resourceAttributes.labelSelector"
    why = f"when {path} is specified, requirements or rawSelector is required"
    assert f"{path}.requirements: Required value: {why}" in answer.json["message"]


async def test_abac_lists_the_rules_of_a_user(pki: Path, tmp_path: Path) -> None:
    file = tmp_path / "policies"
    lines = (
        policy(user="plain-user", namespace="default", resource="pods", readonly=True),
        policy(user="plain-user", namespace="other", resource="secrets", apiGroup="*"),
        policy(group=AUTHENTICATED, namespace="*", nonResourcePath="/logs*"),
        policy(user="plain-user", namespace="*", resource="*", apiGroup="apps"),
        policy(user="somebody", namespace="*", resource="*", apiGroup="*"),
        policy(user="plain-user", namespace="*", resource="*", apiGroup="authorization.k8s.io"),
    )
    file.write_text("\n".join(lines))
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    path = REVIEWS.replace("subjectaccess", "selfsubjectrules")
    async with serving(pki, tmp_path, authorization_modes=("ABAC",), authorization_policy_file=file) as cluster:
        status = (await cluster.call("POST", path, review, headers=PLAIN)).json["status"]

    assert status["incomplete"] is False
    assert status["resourceRules"] == [
        {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]},
        {"verbs": ["*"], "apiGroups": ["authorization.k8s.io"], "resources": ["*"]},
    ]
    assert status["nonResourceRules"] == [{"verbs": ["*"], "nonResourceURLs": ["/logs*"]}]
