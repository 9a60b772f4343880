"""ServiceAccount: every pod runs as one, and finds its credentials mounted unless it does not want them.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#service-account-admission-controller
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from pinnace.apis.resources import SERVICE_ACCOUNTS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.cache import CachedObject, Filter, ResourceCache, Watcher
from pinnace.machinery.meta import Obj, annotations_of

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
MIRROR = "kubernetes.io/config.mirror"
ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_EPHEMERAL = "ephemeralContainers"
_PATIENCE = 1.5  # seconds
_TOKEN_SECONDS = 3607  # an hour, and a little more that says it was not the author who chose it
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccount(Plugin):
    concerns = frozenset({("", "pods")})

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.operation != "CREATE" or attributes.resource != ("", "pods") or attributes.subresource:
            return
        if pod is None or _is_mirror(pod):
            return  # the kubelet runs a static pod without asking, and its mirror stays as it is
        spec = pod.setdefault("spec", {})
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes, name)
        if _wants_token(spec, account):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.resource != ("", "pods") or pod is None:
            return
        where = (attributes.operation, attributes.subresource)
        if where not in (("CREATE", ""), ("UPDATE", "ephemeralcontainers")):
            return
        if _is_mirror(pod):
            why = _wrong_mirror(pod["spec"])
        else:
            name = pod["spec"].get("serviceAccountName") or "default"
            why = _not_mountable(pod["spec"], await self._account(attributes, name))
        if why:
            raise attributes.forbidden(why)

    async def _account(self, attributes: Attributes, name: str) -> Obj:
        """The account; the default one is waited for a moment, as a controller makes it for every new namespace."""
        namespace = attributes.namespace
        cache = attributes.call.api.storage.cache(SERVICE_ACCOUNTS)
        found = cache.get(f"{namespace}/{name}")
        if found is None and name == "default":
            found = await _appearance(cache, namespace, name)
        if found is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise attributes.forbidden(why)
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


def _is_mirror(pod: Obj) -> bool:
    return MIRROR in (annotations_of(pod) or {})


def _wrong_mirror(spec: Obj) -> str:
    """Why a mirror is refused: a static pod has no credentials of the cluster's, and so its mirror shows none."""
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    volumes = spec.get("volumes") or ()
    if any(volume.get("secret") for volume in volumes) or any(True for _ in _secrets_of_env(spec)):
        return "a mirror pod may not reference secrets"
    for volume in volumes:
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                return "a mirror pod may not use ServiceAccountToken volume projections"
    return ""


def _secrets_of_env(spec: Obj) -> Iterator[tuple[str, str]]:
    """Secrets that environments are made of, each after the place that names it."""
    kinds = (("init container", "initContainers"), ("container", "containers"), ("ephemeral container", _EPHEMERAL))
    for word, kind in kinds:
        for container in spec.get(kind) or ():
            place = f"{word} {container.get('name')}"
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if reference:
                    yield f"{place} with envVar {variable.get('name')}", reference.get("name") or ""
            for source in container.get("envFrom") or ():
                if source.get("secretRef"):
                    yield f"{place} with envFrom", source["secretRef"].get("name") or ""


def _not_mountable(spec: Obj, account: Obj) -> str:
    """Why the pod is refused where its account insists on the secrets it lists."""
    if annotations_of(account).get(ENFORCE) != "true":
        return ""
    known = {one.get("name") for one in account.get("secrets") or ()}
    owner = account["metadata"]["name"]
    rest = f"is not allowed because service account {owner} does not reference that secret"
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName")
        if secret and secret not in known:
            return f'volume with secret.secretName="{secret}" {rest}'
    for place, secret in _secrets_of_env(spec):
        if secret not in known:
            return f'{place} referencing secret.secretName="{secret}" {rest}'
    pulled = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for index, one in enumerate(spec.get("imagePullSecrets") or ()):
        if one.get("name") not in pulled:
            what = f'imagePullSecrets[{index}].name="{one.get("name")}"'
            return f"{what} is not allowed because service account {owner} does not reference that imagePullSecret"
    return ""


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
