"""Every pod runs as a service account, and mounts what that account lets it."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.apiserver.conftest import Cluster, pod

NAMESPACE = "/api/v1/namespaces/default"
PODS = f"{NAMESPACE}/pods"
SECRET_ENV = [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]


def account(name: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, **more.pop("metadata", {})},
        **more,
    }


async def test_the_default_account_of_a_new_namespace_is_waited_for(cluster: Cluster) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}}
    await cluster.request("POST", "/api/v1/namespaces", namespace)
    waiting = asyncio.create_task(cluster.request("POST", "/api/v1/namespaces/fresh/pods", pod("a")))
    await cluster.request("POST", "/api/v1/namespaces/fresh/serviceaccounts", account("default"))
    assert (await waiting)["spec"]["serviceAccountName"] == "default"


async def test_a_pod_of_an_account_that_is_not_there_is_refused(cluster: Cluster) -> None:
    refused = await cluster.refused("POST", PODS, pod("a", serviceAccountName="nobody"))
    assert refused.message == (
        'pods "a" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found'
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
        (
            {"containers": [{"name": "c", "image": "i", "env": SECRET_ENV}]},
            "a mirror pod may not reference secrets",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
async def test_a_mirror_shows_no_credentials(cluster: Cluster, spec: Any, why: str) -> None:
    mirror = pod("a", nodeName="n", **spec)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    refused = await cluster.refused("POST", PODS, mirror)
    assert refused.message == f'pods "a" is forbidden: {why}'


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
            'volume with secret.secretName="s" is not allowed because service account strict does not reference that secret',
        ),
        (
            {"containers": [{"name": "c", "image": "i", "env": SECRET_ENV}]},
            (
                'container c with envVar E referencing secret.secretName="s" is not allowed because service account strict '
                "does not reference that secret"
            ),
        ),
        (
            {"imagePullSecrets": [{"name": "p"}]},
            (
                'imagePullSecrets[0].name="p" is not allowed because service account strict does not reference that '
                "imagePullSecret"
            ),
        ),
        ({"volumes": [{"name": "v", "secret": {"secretName": "known"}}]}, ""),
    ],
)
async def test_a_strict_account_mounts_what_it_lists(cluster: Cluster, spec: Any, why: str) -> None:
    annotations = {"kubernetes.io/enforce-mountable-secrets": "true"}
    strict = account("strict", metadata={"annotations": annotations}, secrets=[{"name": "known"}])
    await cluster.request("POST", f"{NAMESPACE}/serviceaccounts", strict)
    answer = await cluster.call("POST", PODS, pod("a", serviceAccountName="strict", **spec))
    if why:
        assert answer.status == 403
        assert answer.json["message"] == f'pods "a" is forbidden: {why}'
    else:
        assert answer.status == 201
