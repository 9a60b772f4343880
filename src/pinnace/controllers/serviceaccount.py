"""Gives every namespace the ServiceAccount `default`, which pods run as unless they say otherwise.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import NAMESPACES, SERVICE_ACCOUNTS
from pinnace.client.controller import Controller, itself
from pinnace.controllers.namespace import is_active
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, namespace_of

_NAME = "default"


class ServiceAccountController(Controller):
    """One key is one namespace."""

    name = "serviceaccount-controller"
    workers = 1

    def setup(self) -> None:
        self.namespaces = self.watch(NAMESPACES, itself)
        self.accounts = self.watch(SERVICE_ACCOUNTS, _its_namespace, field_selector=f"metadata.name={_NAME}")

    async def reconcile(self, key: str) -> None:
        namespace = self.namespaces.store.get(key)
        if namespace is None or not is_active(namespace) or f"{key}/{_NAME}" in self.accounts.store:
            return
        account: Obj = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": _NAME, "namespace": key},
        }
        try:
            await self.client.create(SERVICE_ACCOUNTS, account)
        except ApiError as error:
            if not error.is_already_exists:
                raise


def _its_namespace(obj: Obj) -> Iterable[str]:
    return (namespace_of(obj),)
