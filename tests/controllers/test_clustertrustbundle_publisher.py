"""The authority that signs the API server's certificate is published as a trust bundle."""

from __future__ import annotations

from typing import Any

from pinnace.apis.resources import CLUSTER_TRUST_BUNDLES
from pinnace.controllers.clustertrustbundle_publisher import ClusterTrustBundlePublisher, bundle
from pinnace.machinery.meta import name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running


def test_the_name_says_whose_and_which() -> None:
    assert name_of(bundle("PEM")) == "kubernetes.io:kube-apiserver-serving:384fb9a44fabe158be2757b9"


async def test_the_newest_authority_alone_is_published() -> None:
    api = FakeApi()
    await api.client.create(CLUSTER_TRUST_BUNDLES, bundle("OLD"))
    others = {**bundle("OTHER"), "metadata": {"name": "x:y:z"}, "spec": {"signerName": "x/y", "trustBundle": "OTHER"}}
    await api.client.create(CLUSTER_TRUST_BUNDLES, others)

    def make(client: Any, informers: Any) -> ClusterTrustBundlePublisher:
        return ClusterTrustBundlePublisher(client, informers, "PEM")

    async with running(api, make):
        await api.until(
            lambda: {name_of(one) for one in api.all(CLUSTER_TRUST_BUNDLES)} == {name_of(bundle("PEM")), "x:y:z"}
        )
