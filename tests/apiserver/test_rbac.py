"""Who may do what: rules, aggregation, refusals in Kubernetes' words, escalation, impersonation, reviews.

Conformance: "SubjectReview, API Operations", "OIDC Discovery (ServiceAccountIssuerDiscovery)" (who may read it).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.bootstrap_policy import cluster_roles, parse_rule, reconciled
from pinnace.apiserver.rbac import Policy, RoleKey, Rule, covers, rule_text
from pinnace.apiserver.request_info import parse_request
from pinnace.apiserver.server import ApiServer
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import TOKEN, Cluster, config_map, options_for
from tests.apiserver.test_kubectl import KUBECTL, kubectl

RBAC = "/apis/rbac.authorization.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"


@pytest.mark.parametrize(
    ("rule", "method", "path", "allowed"),
    [
        ("get | core | pods", "GET", f"{PODS}/a", True),
        ("get | core | pods", "GET", PODS, False),  # a list
        ("list | core | pods", "GET", PODS, True),
        ("get | core | pods", "GET", f"{PODS}/a/log", False),
        ("get | core | pods/log", "GET", f"{PODS}/a/log", True),
        ("get | core | pods/*", "GET", f"{PODS}/a/log", False),  # only `*/log` and `*` are patterns
        ("get | core | */log", "GET", f"{PODS}/a/log", True),
        ("* | core | *", "DELETE", PODS, True),
        ("update | * | */scale", "PUT", "/apis/apps/v1/namespaces/n/deployments/d/scale", True),
        ("update | * | */scale", "PUT", "/apis/apps/v1/namespaces/n/deployments/d", False),
        ("get | apps | pods", "GET", f"{PODS}/a", False),
        ("get | core | pods | a b", "GET", f"{PODS}/b", True),
        ("get | core | pods | a b", "GET", f"{PODS}/c", False),
        ("create | core | pods | a", "POST", PODS, False),  # a create has no name yet
        ("get | url | /healthz", "GET", "/healthz", True),
        ("get | url | /healthz", "GET", "/healthz/etcd", False),
        ("get | url | /healthz/*", "GET", "/healthz/etcd", True),
        ("get | url | *", "GET", "/anything", True),
        ("get | url | /api", "POST", "/api", False),
        ("get | url | *", "GET", f"{PODS}/a", False),
        ("* | * | *", "GET", "/metrics", False),
    ],
)
def test_rules_match_requests(rule: str, method: str, path: str, allowed: bool) -> None:
    assert Rule.of(parse_rule(rule)).allows(parse_request(method, path)) is allowed


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        (["get list | core | pods"], "get | core | pods", []),
        (["get | core | pods"], "get list | core | pods", ['{APIGroups:[""], Resources:["pods"], Verbs:["list"]}']),
        (["get | core | pods", "list | core | pods"], "get list | core | pods", []),
        (["* | * | *"], "* | * | *", []),
        (["get | core | *"], "get | core | pods", []),
        (["get | core | pods"], "get | core | *", ['{APIGroups:[""], Resources:["*"], Verbs:["get"]}']),
        (["get | core | pods | a"], "get | core | pods", ['{APIGroups:[""], Resources:["pods"], Verbs:["get"]}']),
        (["get | core | pods"], "get | core | pods | a", []),
        (["get | core | */scale"], "get | core | pods/scale", []),
        (["get | url | /a/*"], "get | url | /a/b", []),
        (["get | url | /a"], "get | url | /b", ['{NonResourceURLs:["/b"], Verbs:["get"]}']),
    ],
)
def test_what_a_rule_covers_of_another(owned: list[str], wanted: str, missing: list[str]) -> None:
    found = covers([Rule.of(parse_rule(line)) for line in owned], parse_rule(wanted))

    assert [rule_text(part) for part in found] == missing


def test_aggregated_roles_hold_what_their_labels_select_at_any_depth() -> None:
    policy = Policy()
    for role in cluster_roles():
        policy.set_role(RoleKey("", role["metadata"]["name"]), role)
    admin = {"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "User", "name": "ann"}]}
    policy.set_binding("shop", "admin", admin)
    ann = policy.grants(User("ann"))

    assert ann.allows(parse_request("GET", "/api/v1/namespaces/shop/pods/a/log"))  # of view
    assert ann.allows(parse_request("DELETE", "/api/v1/namespaces/shop/secrets/a"))  # of edit
    assert ann.allows(parse_request("POST", f"{RBAC}/namespaces/shop/roles"))  # of admin
    assert ann.allows(parse_request("GET", "/api/v1/namespaces/shop"))
    assert not ann.allows(parse_request("GET", "/api/v1/namespaces/other/pods/a"))
    assert not ann.allows(parse_request("GET", "/api/v1/nodes"))


def test_a_change_of_a_role_counts_at_once() -> None:
    policy = Policy()
    binding = {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "Group", "name": "g"}]}
    policy.set_binding("", "b", binding)
    user, asked = User("u", groups=("g",)), parse_request("GET", PODS)

    assert not policy.grants(user).allows(asked)
    assert policy.grants(user).why_not("") == 'RBAC: clusterrole.rbac.authorization.k8s.io "r" not found'
    policy.set_role(RoleKey("", "r"), {"metadata": {"name": "r"}, "rules": [parse_rule("list | core | pods")]})
    assert policy.grants(user).allows(asked)
    policy.set_binding("", "b", None)
    assert not policy.grants(user).allows(asked)


def test_reconciling_keeps_what_people_added_and_restores_what_they_took() -> None:
    wanted = next(role for role in cluster_roles() if role["metadata"]["name"] == "system:basic-user")
    extra = parse_rule("get | core | nodes")
    mine = {**wanted, "metadata": {**wanted["metadata"], "annotations": {}}, "rules": [extra]}

    changed = reconciled(mine, wanted)

    assert changed is not None
    assert changed["rules"] == [extra, *wanted["rules"]]
    assert reconciled(wanted, wanted) is None
    off = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    assert reconciled({**mine, "metadata": {**mine["metadata"], "annotations": off}}, wanted) is None


# Over HTTP.

ANN = {"Authorization": "Bearer ann"}
NOBODY = {"Authorization": ""}


@pytest.fixture
async def guarded(pki: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A server with Node and RBAC on; `ann` is somebody without rights of her own."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text((pki / "tokens.csv").read_text() + "ann,ann,3,devs\n")
    options = options_for(pki, authorization_modes=("Node", "RBAC"))
    options.token_auth_file = tokens
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options, store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop(0.2)
        await store.close()


async def grant(cluster: Cluster, name: str, *rules: str, namespace: str = "default") -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}}
    await cluster.request(
        "POST", f"{RBAC}/namespaces/{namespace}/roles", {**role, "rules": [parse_rule(rule) for rule in rules]}
    )
    await cluster.request(
        "POST", f"{RBAC}/namespaces/{namespace}/rolebindings", binding(name, "Role", name, "User", "ann")
    )


def binding(name: str, role_kind: str, role: str, kind: str, who: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": role_kind, "name": role},
        "subjects": [{"kind": kind, "name": who, "apiGroup": group}],
    }


@pytest.mark.parametrize(
    ("headers", "method", "path", "code", "message"),
    [
        (ANN, "GET", PODS, 403,
         'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default"'),
        (ANN, "GET", f"{PODS}/web/log", 403,
         ('pods "web" is forbidden: User "ann" cannot get resource "pods/log" in API group ""'
         ' in the namespace "default"')),
        (ANN, "GET", "/apis/apps/v1/deployments", 403,
         ('deployments.apps is forbidden: User "ann" cannot list resource "deployments" in API group "apps"'
         " at the cluster scope")),
        (ANN, "GET", "/api/v1/namespaces/default", 403,
         ('namespaces "default" is forbidden: User "ann" cannot get resource "namespaces" in API group ""'
         ' in the namespace "default"')),
        (ANN, "GET", "/metrics", 403, 'forbidden: User "ann" cannot get path "/metrics"'),
        (NOBODY, "GET", "/api", 403, 'forbidden: User "system:anonymous" cannot get path "/api"'),
        (NOBODY, "GET", PODS, 403,
         ('pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group ""'
         ' in the namespace "default"')),
        ({"Authorization": "Bearer wrong"}, "GET", "/version", 401, "Unauthorized"),
    ],
)  # fmt: skip
async def test_refusals_are_in_kubernetes_words(
    guarded: Cluster, headers: dict[str, str], method: str, path: str, code: int, message: str
) -> None:
    answer = await guarded.call(method, path, headers=headers)

    assert (answer.status, answer.json["message"]) == (code, message)
    if code == 403:
        assert answer.json["reason"] == "Forbidden"


async def test_everybody_sees_what_discovery_and_health_show(guarded: Cluster) -> None:
    for path in ("/version", "/healthz", "/readyz"):
        assert (await guarded.call("GET", path, headers=NOBODY)).status == 200
    for path in ("/api", "/apis", "/apis/apps/v1", "/openapi/v3"):
        assert (await guarded.call("GET", path, headers=ANN)).status == 200


async def test_rights_come_and_go_with_roles(guarded: Cluster) -> None:
    assert (await guarded.call("GET", PODS, headers=ANN)).status == 403
    await grant(guarded, "reader", "list | core | pods")
    assert (await guarded.call("GET", PODS, headers=ANN)).status == 200
    assert (await guarded.call("GET", "/api/v1/pods", headers=ANN)).status == 403
    await guarded.request("DELETE", f"{RBAC}/namespaces/default/rolebindings/reader")
    assert (await guarded.call("GET", PODS, headers=ANN)).status == 403


async def test_who_may_see_one_object_may_list_and_watch_that_one(guarded: Cluster) -> None:
    secrets = "/api/v1/namespaces/default/configmaps"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"], "resourceNames": ["mine"]}
    await guarded.request("POST", f"{RBAC}/namespaces/default/roles", {"metadata": {"name": "one"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ann"}],
    }
    await guarded.request("POST", f"{RBAC}/namespaces/default/rolebindings", binding)

    answers = [
        (await guarded.call("GET", f"{secrets}{query}", headers=ANN)).status
        for query in ("?fieldSelector=metadata.name%3Dmine", "?fieldSelector=metadata.name%3Dother", "")
    ]

    assert answers == [200, 403, 403]


async def test_nobody_grants_what_they_do_not_hold(guarded: Cluster) -> None:
    manage = "create update | rbac.authorization.k8s.io | roles rolebindings"
    await grant(guarded, "own", manage, "get | core | pods")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more"}}
    path = f"{RBAC}/namespaces/default/roles"

    refused = await guarded.call(
        "POST", path, {**role, "rules": [parse_rule("get list | core | pods secrets")]}, headers=ANN
    )

    assert refused.status == 403
    assert refused.json["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "ann" (groups=["devs" "system:authenticated"]) '
        "is attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )
    held = await guarded.call("POST", path, {**role, "rules": [parse_rule("get | core | pods")]}, headers=ANN)
    assert held.status == 201
    bindings = f"{RBAC}/namespaces/default/rolebindings"
    bound = await guarded.call("POST", bindings, binding("b", "ClusterRole", "view", "User", "x"), headers=ANN)
    assert bound.status == 403
    assert "is attempting to grant RBAC permissions not currently held" in bound.json["message"]
    await grant(guarded, "binder", "bind | rbac.authorization.k8s.io | clusterroles | view")
    bound = await guarded.call("POST", bindings, binding("b", "ClusterRole", "view", "User", "x"), headers=ANN)
    assert bound.status == 201


async def test_acting_as_somebody_else_needs_the_right_to(guarded: Cluster) -> None:
    whoami = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

    refused = await guarded.call("GET", PODS, headers={**ANN, "Impersonate-User": "bob"})
    assert refused.json["message"] == (
        'users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    assert (await guarded.call("GET", PODS, headers={**ANN, "Impersonate-Group": "g"})).status == 400

    headers = {"Impersonate-User": "bob", "Impersonate-Group": "g", "Impersonate-Uid": "7", "Impersonate-Extra-a": "b"}
    answer = await guarded.call("POST", path, whoami, headers=headers)  # by an administrator
    assert answer.json["status"]["userInfo"] == {
        "username": "bob",
        "uid": "7",
        "groups": ["g", AUTHENTICATED],
        "extra": {"a": ["b"]},
    }
    odd = {"Impersonate-User": "bob", "Impersonate-Group": "one, with a comma", "Impersonate-Extra-a": "b, c"}
    info = (await guarded.call("POST", path, whoami, headers=odd)).json["status"]["userInfo"]
    assert (info["groups"], info["extra"]) == (["one, with a comma", AUTHENTICATED], {"a": ["b, c"]})
    account = await guarded.call("POST", path, whoami, headers={"Impersonate-User": "system:serviceaccount:n:s"})
    assert account.json["status"]["userInfo"]["groups"] == [
        "system:serviceaccounts",
        "system:serviceaccounts:n",
        AUTHENTICATED,
    ]
    assert (await guarded.call("GET", PODS, headers={"Impersonate-User": "bob"})).status == 403


async def test_reviews_tell_the_truth(guarded: Cluster) -> None:
    await grant(guarded, "reader", "list | core | pods")
    group = "/apis/authorization.k8s.io/v1"

    async def may(user: str, **attributes: str) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        answer = await guarded.request("POST", f"{group}/subjectaccessreviews", body)
        allowed: bool = answer["status"]["allowed"]
        return allowed

    assert await may("ann", verb="list", resource="pods", namespace="default")
    assert not await may("ann", verb="list", resource="pods")
    assert not await may("bob", verb="list", resource="pods", namespace="default")
    assert await may("system:kube-scheduler", verb="create", resource="pods", subresource="binding")

    rules = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    answer = await guarded.call("POST", f"{group}/selfsubjectrulesreviews", rules, headers=ANN)
    found = answer.json["status"]
    assert {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]} in found["resourceRules"]
    assert any("/healthz" in rule["nonResourceURLs"] for rule in found["nonResourceRules"])


async def test_default_roles_are_made_once_and_mended_at_the_next_start(guarded: Cluster) -> None:
    path = f"{RBAC}/clusterroles/system:basic-user"
    role = await guarded.request("GET", path)
    assert role["metadata"]["labels"] == {"kubernetes.io/bootstrapping": "rbac-defaults"}
    await guarded.request("PUT", path, {**role, "rules": []})
    restarted = ApiServer(options_for(guarded.pki, authorization_modes=("RBAC",)), guarded.store)
    try:
        await restarted.start()
        mended = await restarted.loopback_request("system:admin", "GET", path, {}, None, "application/json")
    finally:
        await restarted.stop(0.2)

    assert mended["rules"] == role["rules"]


async def test_always_deny_leaves_the_masters(pki: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(pki, authorization_modes=("AlwaysDeny",)), store)
    try:
        await server.start()
        cluster = Cluster(server, store, pki)
        assert (await cluster.call("POST", "/api/v1/namespaces/default/configmaps", config_map("a"))).status == 201
        answer = await cluster.call("GET", "/version", headers={"Authorization": "Bearer plain"})
        assert answer.json["message"].endswith("Everything is forbidden.")
    finally:
        await server.stop(0.2)
        await store.close()


async def test_applying_what_is_not_there_needs_the_right_to_create_it(guarded: Cluster) -> None:
    await grant(guarded, "patcher", "patch | core | configmaps")
    path = "/api/v1/namespaces/default/configmaps/c?fieldManager=ann"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
    content_type = "application/apply-patch+yaml"
    refused = await guarded.call("PATCH", path, config, headers=ANN, content_type=content_type)
    assert refused.status == 403
    assert 'User "ann" cannot create resource "configmaps"' in refused.json["message"]
    await guarded.call("PATCH", path, config, content_type=content_type)
    assert (await guarded.call("PATCH", path, config, headers=ANN, content_type=content_type)).status == 200


@pytest.fixture
def anns_kubeconfig(guarded: Cluster, tmp_path: Path) -> Path:
    """Two contexts: `ann`, and `admin`, who may do everything."""
    authority = str(guarded.pki / "ca.crt")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": guarded.url, "certificate-authority": authority}}],
        "users": [{"name": "ann", "user": {"token": "ann"}}, {"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name}} for name in ("ann", "admin")],
        "current-context": "ann",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.skipif(not KUBECTL, reason="needs kubectl")
async def test_kubectl_asks_what_it_may(guarded: Cluster, anns_kubeconfig: Path) -> None:
    await grant(guarded, "reader", "list | core | pods")

    assert (await kubectl(anns_kubeconfig, "auth", "can-i", "list", "pods")).strip() == "yes"
    assert (await kubectl(anns_kubeconfig, "auth", "can-i", "delete", "pods", fails=True)).strip() == "no"
    assert "pods " in await kubectl(anns_kubeconfig, "auth", "can-i", "--list")
    assert "system:authenticated" in await kubectl(anns_kubeconfig, "auth", "whoami")
    assert (await kubectl(anns_kubeconfig, "--context=admin", "auth", "can-i", "*", "*")).strip() == "yes"
    as_ann = ("--context=admin", "--as=ann", "auth", "can-i", "list", "pods")
    assert (await kubectl(anns_kubeconfig, *as_ann)).strip() == "yes"
    forbidden = await kubectl(anns_kubeconfig, "get", "secrets", fails=True)
    assert forbidden.strip() == (
        'Error from server (Forbidden): secrets is forbidden: User "ann" cannot list resource "secrets" '
        'in API group "" in the namespace "default"'
    )


@pytest.mark.skipif(not KUBECTL, reason="needs kubectl")
async def test_kubectl_reconciles_roles(guarded: Cluster, anns_kubeconfig: Path) -> None:
    await grant(guarded, "reader", "list | core | pods")
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader", "namespace": "default"},
        "rules": [parse_rule("get | core | services")],
    }

    said = await kubectl(anns_kubeconfig, "--context=admin", "auth", "reconcile", "-f", "-", stdin=json.dumps(role))

    assert "role.rbac.authorization.k8s.io/reader reconciled" in said
    found = await guarded.request("GET", f"{RBAC}/namespaces/default/roles/reader")
    assert len(found["rules"]) == 2  # what was there stays
