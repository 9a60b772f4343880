"""Publishes the cluster's certificate authority as a ClusterTrustBundle, for pods to mount as a projected volume.

The name ends in a hash of the content: a new authority is a new bundle, and the old one goes. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#cluster-trust-bundles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pinnace.apis.resources import CLUSTER_TRUST_BUNDLES
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of

SIGNER = "kubernetes.io/kube-apiserver-serving"


def bundle(ca: str) -> Obj:
    digest = hashlib.sha256(ca.encode()).hexdigest()[:24]
    return {
        "apiVersion": CLUSTER_TRUST_BUNDLES.api_version,
        "kind": "ClusterTrustBundle",
        "metadata": {"name": f"{SIGNER.replace('/', ':')}:{digest}"},
        "spec": {"signerName": SIGNER, "trustBundle": ca},
    }


class ClusterTrustBundlePublisher(Controller):
    """There is one key, the signer's name; `ca` is the PEM bundle to publish."""

    name = "kube-apiserver-serving-clustertrustbundle-publisher-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, ca: str) -> None:
        self._wanted = bundle(ca)
        super().__init__(client, informers)

    def setup(self) -> None:
        self.bundles = self.watch(CLUSTER_TRUST_BUNDLES, _if_ours)
        self.queue.add(SIGNER)

    async def reconcile(self, _key: str) -> None:
        found = {name_of(one): one for one in self.bundles.store.list() if any(_if_ours(one))}
        mine = found.pop(name_of(self._wanted), None)
        if mine is None:
            await self._create()
        elif mine["spec"] != self._wanted["spec"]:
            await self.client.update(CLUSTER_TRUST_BUNDLES, {**mine, "spec": self._wanted["spec"]})
        for name in found:
            await self._delete(name)

    async def _create(self) -> None:
        try:
            await self.client.create(CLUSTER_TRUST_BUNDLES, self._wanted)
        except ApiError as error:
            if not error.is_already_exists:
                raise

    async def _delete(self, name: str) -> None:
        try:
            await self.client.delete(CLUSTER_TRUST_BUNDLES, name)
        except ApiError as error:
            if not error.is_not_found:
                raise


def _if_ours(one: Obj) -> Iterable[str]:
    return (SIGNER,) if get_in(one, "spec", "signerName") == SIGNER else ()
