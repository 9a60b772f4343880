"""Puts the cluster's certificate authority into the ConfigMap `kube-root-ca.crt` of every namespace, for pods to mount.

Specified by https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-token-volume.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import CONFIG_MAPS, NAMESPACES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.namespace import is_active
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, namespace_of

_NAME = "kube-root-ca.crt"
_DESCRIPTION = {
    "kubernetes.io/description": (
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
        "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
        "Kubernetes clusters."
    )
}


class RootCaController(Controller):
    """One key is one namespace; `ca` is the PEM bundle to publish."""

    name = "root-ca-certificate-publisher-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, ca: str) -> None:
        self._data = {"ca.crt": ca}
        super().__init__(client, informers)

    def setup(self) -> None:
        self.namespaces = self.watch(NAMESPACES, itself)
        self.config_maps = self.watch(CONFIG_MAPS, _its_namespace, field_selector=f"metadata.name={_NAME}")

    async def reconcile(self, key: str) -> None:
        namespace = self.namespaces.store.get(key)
        if namespace is None or not is_active(namespace):
            return
        found = self.config_maps.store.get(f"{key}/{_NAME}")
        if found is None:
            await self._create(key)
        elif found.get("data") != self._data or not _DESCRIPTION.items() <= annotations_of(found).items():
            metadata = {**found["metadata"], "annotations": {**annotations_of(found), **_DESCRIPTION}}
            await self.client.update(CONFIG_MAPS, {**found, "metadata": metadata, "data": self._data})

    async def _create(self, namespace: str) -> None:
        config_map: Obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _NAME, "namespace": namespace, "annotations": _DESCRIPTION},
            "data": self._data,
        }
        try:
            await self.client.create(CONFIG_MAPS, config_map)
        except ApiError as error:
            if not error.is_already_exists:
                raise


def _its_namespace(obj: Obj) -> Iterable[str]:
    return (namespace_of(obj),)
