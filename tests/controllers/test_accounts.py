"""Controllers that act as ServiceAccounts of their own: with the rights of their roles, and no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.apis.resources import CONFIG_MAPS, TOKEN_REVIEWS
from pinnace.apiserver.bootstrap_policy import cluster_roles
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection, load
from pinnace.client.service_account import ServiceAccountClients, ServiceAccountTransport
from pinnace.controllers.accounts import ACCOUNTS
from pinnace.controllers.manager import CONTROLLERS, ControllerManager, Options
from pinnace.machinery.errors import ApiError
from pinnace.testing import Cluster
from pinnace.testing.api import Api
from tests.controllers.test_deployment import deployment


def test_every_account_has_a_role() -> None:
    of_namespaces = {"bootstrap-signer", "token-cleaner"}  # whose roles are in some namespaces
    roles = {role["metadata"]["name"].removeprefix("system:controller:") for role in cluster_roles()}
    assert set(ACCOUNTS.values()) <= {*roles, *of_namespaces}
    assert set(ACCOUNTS) <= set(CONTROLLERS)


class Server:
    """Of one account: what it was asked."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.bearer = ""
        self.refuses = False
        self.accounts = 0

    async def create(self, resource: Any, obj: Any, namespace: str = "", **where: str) -> Any:
        if not where:
            self.accounts += 1
            return obj
        if not self.accounts:
            raise ApiError(404, "NotFound", 'serviceaccounts "a" not found')
        return {"status": {"token": f"token-{len(self.tokens)}"}}

    async def request(self, *_: Any, **__: Any) -> Any:
        self.tokens.append(self.bearer)
        if self.refuses:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return {}


async def test_tokens_are_asked_for_once_and_when_they_hold_no_longer() -> None:
    server: Any = Server()
    transport = ServiceAccountTransport(server, server, "a")
    await asyncio.gather(*(transport.request("GET", "/x") for _ in range(3)))
    assert (server.accounts, server.tokens) == (1, ["token-0"] * 3)

    server.refuses = True
    with pytest.raises(ApiError, match="Unauthorized"):
        await transport.request("GET", "/x")
    server.refuses = False
    await transport.request("GET", "/x")
    assert server.tokens[-1] == "token-4"


async def roll_out(cluster: Cluster, connection: Connection) -> None:
    root = Client(HttpsTransport(connection))
    accounts = ServiceAccountClients(root, connection, "kube-controller-manager")
    names = ("*", "-kube-apiserver-serving-clustertrustbundle-publisher-controller")
    manager = ControllerManager(root, Options(root_ca="none", controllers=names), accounts.client)
    running = asyncio.create_task(manager.run())
    try:
        await asyncio.to_thread(see_pods, cluster.api)
        await who_wrote_is_who_should(root, accounts.client("deployment-controller"))
    finally:
        running.cancel()
        await asyncio.wait([running])
        await accounts.close()
        await root.transport.close()


def see_pods(api: Api) -> None:
    api.wait_for("serviceaccounts", "default")
    api.create(deployment())
    (pod, *_) = api.wait_until(lambda: api.list("pods"))
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    assert api.wait_for("configmaps", "kube-root-ca.crt")["data"]["ca.crt"] == "none"


async def who_wrote_is_who_should(root: Client, client: Client) -> None:
    assert isinstance(client.transport, ServiceAccountTransport)
    token = client.transport._transport.bearer
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": token}}
    user = (await root.create(TOKEN_REVIEWS, review))["status"]["user"]
    assert user["username"] == "system:serviceaccount:kube-system:deployment-controller"
    with pytest.raises(ApiError, match="cannot list resource"):
        await client.list(CONFIG_MAPS, "default")


@pytest.mark.pinnace(controllers=False, scheduler=False)
def test_a_rollout_by_accounts_of_their_own(pinnace: Cluster) -> None:
    asyncio.run(roll_out(pinnace, load(pinnace.kubeconfig)))
