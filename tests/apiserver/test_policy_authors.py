"""Under RBAC: who names parameters in a policy must be able to read them; `authorizer` answers by the same rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.bootstrap_policy import parse_rule
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Answer, Cluster, config_map, options_for
from tests.apiserver.test_policies import GROUP, MAPS, ON_DEPLOYMENTS, binding, install, policy

RBAC = "/apis/rbac.authorization.k8s.io/v1"
POLICIES = f"{GROUP}/validatingadmissionpolicies"
BINDINGS = f"{GROUP}/validatingadmissionpolicybindings"


@pytest.fixture
async def guarded(pki: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A server with RBAC on; `ann` may write policies and ConfigMaps, and read nothing."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text((pki / "tokens.csv").read_text() + "ann,ann,3,devs\n")
    options = options_for(pki, authorization_modes=("RBAC",))
    options.token_auth_file = tokens
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options, store)
    try:
        await server.start()
        made = Cluster(server, store, pki)
        await grant(made, "author", "create update | admissionregistration.k8s.io | *", "create | core | configmaps")
        yield made
    finally:
        await server.stop(0.2)
        await store.close()


async def grant(cluster: Cluster, name: str, *rules: str) -> None:
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    role = {**head, "kind": "ClusterRole", "rules": [parse_rule(rule) for rule in rules]}
    await cluster.request("POST", f"{RBAC}/clusterroles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
    bound = {**head, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]}
    await cluster.request("POST", f"{RBAC}/clusterrolebindings", bound)


async def as_ann(cluster: Cluster, path: str, body: Any) -> Answer:
    return await cluster.call("POST", path, body, headers={"Authorization": "Bearer ann"})


SECRET_PARAMS: Obj = {"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "matchConstraints": ON_DEPLOYMENTS}
ANN = "&{ann 3 [devs system:authenticated] map[]}"


async def test_parameters_must_be_open_to_the_author_of_a_policy(guarded: Cluster) -> None:
    made = policy("p", "params.data.x == 'y'", **SECRET_PARAMS)

    refused = await as_ann(guarded, POLICIES, made)
    await grant(guarded, "reader", "get | core | secrets")
    allowed = await as_ann(guarded, POLICIES, made)

    assert refused.status == 422
    assert refused.json["message"].endswith(
        f'is invalid: spec.paramKind: Forbidden: user {ANN} must have "get" permission on all objects of the '
        "referenced paramKind (kind=Secret, apiVersion=v1)"
    )
    assert allowed.status == 201


async def test_parameters_must_be_open_to_the_author_of_a_binding(guarded: Cluster) -> None:
    await guarded.request("POST", POLICIES, policy("p", "params.data.x == 'y'", **SECRET_PARAMS))
    reference = {"name": "s", "namespace": "default", "parameterNotFoundAction": "Deny"}
    made = binding("b", "p", paramRef=reference)

    refused = await as_ann(guarded, BINDINGS, made)
    await grant(guarded, "reader", "get | core | secrets | s")
    allowed = await as_ann(guarded, BINDINGS, made)

    assert refused.status == 422
    assert refused.json["message"].endswith(
        f'spec.paramRef: Forbidden: user {ANN} does not have "get" permission on the object referenced by paramRef'
    )
    assert allowed.status == 201


async def test_the_authorizer_answers_as_the_servers_does(guarded: Cluster) -> None:
    check = {
        "expression": "authorizer.group('').resource('secrets').namespace('default').name('s').check('get').allowed()",
        "messageExpression": "'missing: ' + request.userInfo.username",
    }
    await install(guarded, policy("p", check))

    refused = await as_ann(guarded, MAPS, config_map("a"))
    await grant(guarded, "reader", "get | core | secrets | s")
    allowed = await as_ann(guarded, MAPS, config_map("a"))

    assert refused.json["message"].endswith("denied request: missing: ann")
    assert allowed.status == 201
