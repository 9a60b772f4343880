"""The Node authorizer: a kubelet reads what the pods on its own node need, and writes what is its own.

Which secrets, config maps, claims and service accounts a node's pods name is looked up in their cached objects; an
index says which pods a node has. https://kubernetes.io/docs/reference/access-authn-authz/node/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pinnace.apis.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    RESOURCE_SLICES,
    VOLUME_ATTACHMENTS,
)
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.apiserver.rbac import Rule
from pinnace.apiserver.request_info import RequestInfo
from pinnace.apiserver.storage import Storage
from pinnace.machinery.meta import Obj, annotations_of, get_in
from pinnace.machinery.selectors import SelectorError, parse_fields

NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
MIRROR = "kubernetes.io/config.mirror"

_READ = ("get", "list", "watch")
_CSI_SECRETS = ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef", "controllerExpandSecretRef")


def _rule(verbs: str, group: str, resources: str) -> Rule:
    return Rule(frozenset(verbs.split()), frozenset((group,)), frozenset(resources.split()))


# What every node may, of whatever name: NodeRestriction narrows the writes to its own.
NODE_RULES = (
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    _rule("get list watch", "", "services"),
    _rule("create get list watch", "", "nodes"),
    _rule("update patch", "", "nodes/status nodes"),
    _rule("create update patch", "", "events"),
    _rule("create update patch", "events.k8s.io", "events"),
    _rule("get list watch", "", "pods"),
    _rule("create delete", "", "pods"),
    _rule("update patch", "", "pods/status"),
    _rule("create", "", "pods/eviction"),
    _rule("get update patch", "", "persistentvolumeclaims/status"),
    _rule("get", "", "endpoints"),
    _rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    _rule("get list watch", "storage.k8s.io", "csidrivers"),
    _rule("get list watch", "node.k8s.io", "runtimeclasses"),
    _rule("get list watch", "certificates.k8s.io", "clustertrustbundles"),
    _rule("create get list watch", "certificates.k8s.io", "podcertificaterequests"),
)


def node_name_of(user: User) -> str | None:
    """The node whose kubelet this is; None for anybody else."""
    if NODES_GROUP not in user.groups or not user.name.startswith(NODE_PREFIX):
        return None
    return user.name[len(NODE_PREFIX) :] or None


class NodeAuthorizer:
    """Decides for kubelets; `start` once the caches are filled."""

    def __init__(self, storage: Storage, is_strict: bool = True) -> None:
        """`is_strict` is whether a kubelet sees but its own Node, and lists but the pods of it."""
        self.is_strict = is_strict
        self._storage = storage
        self._pods: dict[str, dict[str, None]] = {}  # node -> keys of its pods

    def start(self) -> Callable[[], None]:
        """Follow the pods; returns the way out."""
        cache = self._storage.cache(PODS)
        for found in cache.objects.values():
            self._see("ADDED", found, None)
        return cache.watch(Watcher(Filter(), self._see))

    def _see(self, kind: str, pod: CachedObject, event: Event | None) -> None:
        node = pod.fields.get("spec.nodeName", "")
        if event is not None and event.old is not None:
            before = event.old.fields.get("spec.nodeName", "")
            if before == node and kind != "DELETED":
                return
            self._pods.get(before, {}).pop(pod.key, None)
            if not self._pods.get(before, True):
                del self._pods[before]
        if node and kind != "DELETED":
            self._pods.setdefault(node, {})[pod.key] = None

    def decide(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        """Whether the kubelet of `node` may, and why not."""
        if info.is_resource:
            resource = info.group, info.resource
            special = _SPECIAL.get(resource) or (_STRICT.get(resource) if self.is_strict else None)
            if special is not None:
                return special(self, node, info)
        return _is_for_all(info), ""

    def _pods_on(self, node: str, namespace: str) -> Iterator[Obj]:
        cache = self._storage.cache(PODS)
        for key in self._pods.get(node, ()):
            if not namespace or key.startswith(namespace + "/"):
                found = cache.get(key)
                if found is not None:
                    yield found.obj()

    # The graph: an object may be read where a path leads from the node through a pod to it.

    def _own_node(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb in _READ and not info.subresource:
            if info.name == node:
                return True, ""
            which = f"'{info.name}'" if info.name else "all nodes"
            return False, f"node '{node}' cannot read {which}, only its own Node object"
        return _is_for_all(info), ""

    def _own_pods(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb not in _READ or info.subresource:
            return _is_for_all(info), ""
        if info.verb != "get" and _selects_node(info.field_selector, node):
            return True, ""
        if not info.name and info.verb != "get":
            return False, "can only list/watch pods with spec.nodeName field selector"
        if f"{info.namespace}/{info.name}" in self._pods.get(node, ()):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _secrets(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        return self._readable(node, info, self._needs_secret)

    def _config_maps(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        return self._readable(node, info, lambda pod, name: name in named_by(pod, "configmaps"))

    def _readable(self, node: str, info: RequestInfo, needs: Callable[[Obj, str], bool]) -> tuple[bool, str]:
        if info.verb not in _READ or info.subresource:
            return False, "can only read resources of this type"
        if not info.name:
            return False, "No Object name found"
        if any(needs(pod, info.name) for pod in self._pods_on(node, info.namespace)):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _needs_secret(self, pod: Obj, name: str) -> bool:
        if name in named_by(pod, "secrets"):
            return True
        namespace = pod["metadata"]["namespace"]
        for volume in self._volumes_of(pod):
            for field in _CSI_SECRETS:
                reference = get_in(volume, "spec", "csi", field, default=None) or {}
                if reference.get("name") == name and reference.get("namespace") == namespace:
                    return True
        return False

    def _volumes_of(self, pod: Obj) -> Iterator[Obj]:
        """The PersistentVolumes behind a pod's claims."""
        namespace = pod["metadata"]["namespace"]
        for claim_name in named_by(pod, "persistentvolumeclaims"):
            claim = self._storage.cache(PERSISTENT_VOLUME_CLAIMS).get(f"{namespace}/{claim_name}")
            volume_name = get_in(claim.obj(), "spec", "volumeName", default="") if claim is not None else ""
            volume = self._storage.cache(PERSISTENT_VOLUMES).get(volume_name) if volume_name else None
            if volume is not None:
                yield volume.obj()

    def _claims(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.subresource == "status":
            if info.verb not in ("get", "update", "patch"):
                return False, "can only get individual resources of this type"
        elif info.verb != "get" or info.subresource:
            return False, "can only get individual resources of this type"
        if any(info.name in named_by(pod, "persistentvolumeclaims") for pod in self._pods_on(node, info.namespace)):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _volumes(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb != "get" or info.subresource:
            return False, "can only get individual resources of this type"
        for pod in self._pods_on(node, ""):
            if any(volume["metadata"]["name"] == info.name for volume in self._volumes_of(pod)):
                return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _attachments(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb != "get" or info.subresource:
            return False, "can only get individual resources of this type"
        found = self._storage.cache(VOLUME_ATTACHMENTS).get(info.name)
        if found is not None and get_in(found.obj(), "spec", "nodeName", default="") == node:
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _accounts(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        """Tokens are made, and accounts read, for pods of the node."""
        if (info.verb, info.subresource) not in (("create", "token"), ("get", "")):
            return False, "can only create tokens for individual service accounts"
        for pod in self._pods_on(node, info.namespace):
            if get_in(pod, "spec", "serviceAccountName", default="") == info.name and not _is_mirror(pod):
                return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _device_claims(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb != "get" or info.subresource:
            return False, "can only get individual resources of this type"
        if any(info.name in device_claims(pod) for pod in self._pods_on(node, info.namespace)):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _slices(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        """What drivers on the node advertise of it; NodeRestriction looks at what is created and deleted."""
        if info.subresource:
            return False, "cannot authorize ResourceSlice subresources"
        if info.verb == "create":
            return True, ""
        if info.verb in ("get", "update", "patch", "delete"):
            found = self._storage.cache(RESOURCE_SLICES).get(info.name)
            if found is not None and get_in(found.obj(), "spec", "nodeName", default="") == node:
                return True, ""
            return False, f"no relationship found between node '{node}' and this object"
        if info.verb in ("list", "watch", "deletecollection"):
            if not self.is_strict or _selects_node(info.field_selector, node):
                return True, ""
            return False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
        allowed = "get, watch, list, create, update, patch, delete, deletecollection"
        return False, f"only the following verbs are allowed for a ResourceSlice: {allowed}"

    def _leases(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb not in ("get", "create", "update", "patch", "delete"):
            return False, "can only get, create, update, patch, or delete a node lease"
        if info.namespace != LEASE_NAMESPACE:
            return False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
        if info.verb != "create" and info.name != node:
            return False, "can only access node lease with the same name as the requesting node"
        return True, ""

    def _csi_nodes(self, node: str, info: RequestInfo) -> tuple[bool, str]:
        if info.verb not in ("get", "create", "update", "patch", "delete"):
            return False, "can only get, create, update, patch, or delete a CSINode"
        if info.subresource:
            return False, "cannot authorize CSINode subresources"
        if info.verb != "create" and info.name != node:
            return False, "can only access CSINode with the same name as the requesting node"
        return True, ""


_SPECIAL: dict[tuple[str, str], Callable[[NodeAuthorizer, str, RequestInfo], tuple[bool, str]]] = {
    ("", "secrets"): NodeAuthorizer._secrets,
    ("", "configmaps"): NodeAuthorizer._config_maps,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claims,
    ("", "persistentvolumes"): NodeAuthorizer._volumes,
    ("", "serviceaccounts"): NodeAuthorizer._accounts,
    ("storage.k8s.io", "volumeattachments"): NodeAuthorizer._attachments,
    ("resource.k8s.io", "resourceclaims"): NodeAuthorizer._device_claims,
    ("resource.k8s.io", "resourceslices"): NodeAuthorizer._slices,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._leases,
    ("storage.k8s.io", "csinodes"): NodeAuthorizer._csi_nodes,
}


_STRICT = {("", "nodes"): NodeAuthorizer._own_node, ("", "pods"): NodeAuthorizer._own_pods}


def _is_for_all(info: RequestInfo) -> bool:
    return any(rule.allows(info) for rule in NODE_RULES)


def _selects_node(field_selector: str, node: str) -> bool:
    """Whether a selector of pods demands that they be of the node."""
    try:
        return parse_fields(field_selector).exact("spec.nodeName") == node
    except SelectorError:
        return False


def _is_mirror(pod: Obj) -> bool:
    return MIRROR in (annotations_of(pod) or {})


def device_claims(pod: Obj) -> set[str]:
    """Names of the ResourceClaims that a pod uses, its own or made for it."""
    status = pod.get("status") or {}
    named = [*(pod.get("spec") or {}).get("resourceClaims", ()), *status.get("resourceClaimStatuses", ())]
    found = {one.get("resourceClaimName") or "" for one in [*named, status.get("extendedResourceClaimStatus") or {}]}
    return found - {""}


def named_by(pod: Obj, what: str) -> set[str]:
    """Names of the secrets, configmaps or persistentvolumeclaims that a pod's spec uses; of a mirror pod, none."""
    spec = pod.get("spec") or {}
    found: set[str] = set()
    if _is_mirror(pod):
        return found
    if what == "secrets":
        found.update(each.get("name", "") for each in spec.get("imagePullSecrets") or ())
    if what != "persistentvolumeclaims":
        for list_name in ("containers", "initContainers", "ephemeralContainers"):
            for container in spec.get(list_name) or ():
                found.update(_of_environment(container, what))
    for volume in spec.get("volumes") or ():
        found.update(_of_volume(volume, what, pod["metadata"]["name"]))
    found.discard("")
    return found


def _of_environment(container: Obj, what: str) -> Iterator[str]:
    source, key = ("secretRef", "secretKeyRef") if what == "secrets" else ("configMapRef", "configMapKeyRef")
    for each in container.get("envFrom") or ():
        yield (each.get(source) or {}).get("name", "")
    for each in container.get("env") or ():
        yield ((each.get("valueFrom") or {}).get(key) or {}).get("name", "")


def _of_volume(volume: Obj, what: str, pod_name: str) -> Iterator[str]:
    if what == "persistentvolumeclaims":
        yield (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if volume.get("ephemeral"):
            yield f"{pod_name}-{volume['name']}"
        return
    if what == "configmaps":
        yield (volume.get("configMap") or {}).get("name", "")
    else:
        yield (volume.get("secret") or {}).get("secretName", "")
        for value in volume.values():
            if isinstance(value, dict):
                yield from _references(value)
    source = "secret" if what == "secrets" else "configMap"
    for each in (volume.get("projected") or {}).get("sources") or ():
        yield (each.get(source) or {}).get("name", "")


def _references(source: dict[str, Any]) -> Iterator[str]:
    """Volume plugins name the secret they log in with as `secretRef` or `nodePublishSecretRef`."""
    for field in ("secretRef", "nodePublishSecretRef"):
        yield (source.get(field) or {}).get("name", "")
    if isinstance(source.get("secretName"), str):  # azureFile
        yield source["secretName"]
