"""ServiceAccount: every pod runs as one, and finds its credentials mounted unless it does not want them.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#service-account-admission-controller
"""

from __future__ import annotations

import asyncio
import random

from pinnace.apis.resources import SERVICE_ACCOUNTS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.cache import CachedObject, Filter, ResourceCache, Watcher
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, annotations_of

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
MIRROR = "kubernetes.io/config.mirror"
_PATIENCE = 1.5  # seconds
_TOKEN_SECONDS = 3607  # an hour, and a little more that says it was not the author who chose it
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccount(Plugin):
    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.operation != "CREATE" or attributes.resource != ("", "pods") or attributes.subresource:
            return
        if pod is None or MIRROR in (annotations_of(pod) or {}):
            return  # the kubelet runs a static pod without asking; its mirror names no account
        spec = pod.setdefault("spec", {})
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes, name)
        if _wants_token(spec, account):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]

    async def _account(self, attributes: Attributes, name: str) -> Obj:
        """The account; the default one is waited for a moment, as a controller makes it for every new namespace."""
        namespace = attributes.namespace
        cache = attributes.call.api.storage.cache(SERVICE_ACCOUNTS)
        found = cache.get(f"{namespace}/{name}")
        if found is None and name == "default":
            found = await _appearance(cache, namespace, name)
        if found is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            pod_name = (attributes.obj or {})["metadata"].get("name", "")
            raise errors.forbidden("pods", pod_name, why)
        return found.obj()


async def _appearance(cache: ResourceCache, namespace: str, name: str) -> CachedObject | None:
    """The object as soon as it is there, or None when it does not come."""
    came = asyncio.Event()
    leave = cache.watch(Watcher(Filter(namespace, name), lambda *_: came.set()))
    try:
        async with asyncio.timeout(_PATIENCE):
            await came.wait()
    except TimeoutError:
        pass
    finally:
        leave()
    return cache.get(f"{namespace}/{name}")


def _wants_token(spec: Obj, account: Obj) -> bool:
    for source in (spec, account):
        wanted = source.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _mount_token(spec: Obj) -> None:
    """Add the projected volume, and mount it where a container mounts nothing in its place."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    without = [
        container
        for container in containers
        if all(mount.get("mountPath") != MOUNT_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not without:
        return
    name = "kube-api-access-" + "".join(random.choices(_ALPHABET, k=5))
    for container in without:
        container["volumeMounts"] = [
            *(container.get("volumeMounts") or ()),
            {"name": name, "readOnly": True, "mountPath": MOUNT_PATH},
        ]
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _projection()}]


def _projection() -> Obj:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
        "defaultMode": 420,
    }
