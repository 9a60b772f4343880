"""NodeRestriction: a kubelet writes its own Node and the pods on it, and labels itself only with what is its to say.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction.
"""

from __future__ import annotations

from pinnace.apis.resources import NODES, PODS, SERVICE_ACCOUNTS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.node_authorizer import LEASE_NAMESPACE, MIRROR, named_by, node_name_of
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, annotations_of, get_in, labels_of, uid_of

_KUBELET_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    )
)
_KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_GROWTH = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
_RESTRICTED = "node-restriction.kubernetes.io"


class NodeRestriction(Plugin):
    """Looks at kubelets only; where the Node authorizer is off, at nobody."""

    async def validate(self, attributes: Attributes) -> None:
        call = attributes.call
        if not call.user.name.startswith("system:node:") or "Node" not in call.api.authorizer.modes:
            return
        node = node_name_of(call.user)
        check = _CHECKS.get(attributes.resource)
        if node is not None and check is not None:
            check(attributes, node)


def _refused(attributes: Attributes, why: str) -> ApiError:
    kind = attributes.call.kind
    name = attributes.call.info.name or (attributes.obj or {}).get("metadata", {}).get("name", "")
    return errors.forbidden(kind.plural, name, why, kind.group)


def _check_node(attributes: Attributes, node: str) -> None:
    new, old = attributes.obj, attributes.old
    name = (new or old or {})["metadata"].get("name", "")
    if attributes.operation == "DELETE" or name != node:
        raise _refused(attributes, f'node "{node}" is not allowed to modify node "{name}"')
    assert new is not None
    if new["metadata"].get("ownerReferences") != (old or {"metadata": {}})["metadata"].get("ownerReferences"):
        raise _refused(attributes, f'node "{node}" is not allowed to set or modify ownerReferences')
    if get_in(new, "spec", "configSource", default=None) not in (
        None,
        get_in(old, "spec", "configSource", default=None) if old else None,
    ):
        raise _refused(attributes, f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
    labels, before = labels_of(new), labels_of(old) if old is not None else {}
    changed = {key for key in {*labels, *before} if labels.get(key) != before.get(key)}
    forbidden = sorted(filter(_is_forbidden_label, changed))
    if forbidden:
        verb = "set" if old is None else "modify"
        raise _refused(attributes, f"is not allowed to {verb} labels: {', '.join(forbidden)}")
    if old is not None and get_in(new, "spec", "taints", default=[]) != get_in(old, "spec", "taints", default=[]):
        raise _refused(attributes, f'node "{node}" is not allowed to modify taints')


def _is_forbidden_label(key: str) -> bool:
    """What is in Kubernetes' own namespaces and not named as a kubelet's to set."""
    prefix, slash, _ = key.rpartition("/")
    if not slash or key in _KUBELET_LABELS:
        return False
    if prefix == _RESTRICTED or prefix.endswith("." + _RESTRICTED):
        return True
    if any(prefix == each or prefix.endswith("." + each) for each in _KUBELET_PREFIXES):
        return False
    return any(prefix == each or prefix.endswith("." + each) for each in ("kubernetes.io", "k8s.io"))


def _check_pod(attributes: Attributes, node: str) -> None:
    subresource, operation = attributes.subresource, attributes.operation
    if not subresource:
        if operation == "CREATE":
            _check_mirror(attributes, node)
        elif operation == "DELETE":
            if get_in(attributes.old or {}, "spec", "nodeName", default="") != node:
                raise _refused(attributes, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            raise _refused(
                attributes, f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
            )
    elif subresource == "status":
        old, new = attributes.old or {}, attributes.obj or {}
        if get_in(old, "spec", "nodeName", default="") != node:
            raise _refused(
                attributes, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
            )
        if labels_of(new) != labels_of(old):
            raise _refused(attributes, f'node "{node}" cannot update labels through pod status')
    elif subresource == "eviction":
        call = attributes.call
        found = call.api.storage.cache(PODS).get(call.key)
        if found is not None and get_in(found.obj(), "spec", "nodeName", default="") != node:
            raise _refused(attributes, f'node "{node}" can only evict pods with spec.nodeName set to itself')


def _check_mirror(attributes: Attributes, node: str) -> None:
    """A kubelet makes mirrors of its static pods, which stand for themselves and reach for nothing."""
    pod = attributes.obj
    assert pod is not None
    if MIRROR not in (annotations_of(pod) or {}):
        why = f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        raise _refused(attributes, why)
    spec = pod.get("spec") or {}
    if spec.get("nodeName") != node:
        raise _refused(attributes, f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = pod["metadata"].get("ownerReferences") or []
    if len(owners) != 1 or owners[0].get("kind") != "Node" or owners[0].get("name") != node:
        raise _refused(attributes, f'node "{node}" can only create pods with an owner reference set to itself')
    if spec.get("serviceAccountName"):
        raise _refused(attributes, f'node "{node}" can not create pods that reference a service account')
    plain = {**pod, "metadata": {**pod["metadata"], "annotations": {}}}  # mirrors otherwise count as naming nothing
    for what in ("secrets", "configmaps", "persistentvolumeclaims"):
        if named_by(plain, what):
            raise _refused(attributes, f'node "{node}" can not create pods that reference {what}')


def _check_claim(attributes: Attributes, node: str) -> None:
    """A kubelet tells of a claim how it grows, and nothing else."""
    if attributes.subresource != "status" or attributes.operation != "UPDATE":
        return  # the authorizer lets no kubelet do more
    old, new = (_without_growth(one or {}) for one in (attributes.old, attributes.obj))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
        raise _refused(attributes, f"{why}: {', '.join(changed)}")


def _without_growth(claim: Obj) -> Obj:
    metadata = {
        key: value for key, value in claim["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in _GROWTH}
    return {**claim, "metadata": metadata, "status": status}


def _check_lease(attributes: Attributes, node: str) -> None:
    name = (attributes.obj or attributes.old or {})["metadata"].get("name", "")
    if attributes.namespace != LEASE_NAMESPACE:
        why = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
        raise _refused(attributes, why)
    if name != node:
        raise _refused(attributes, "can only access node lease with the same name as the requesting node")


def _check_csi_node(attributes: Attributes, node: str) -> None:
    if (attributes.obj or attributes.old or {})["metadata"].get("name", "") != node:
        raise _refused(attributes, "can only access CSINode with the same name as the requesting node")


def _check_pod_certificate(attributes: Attributes, node: str) -> None:
    """A kubelet asks but for pods that run on it, as what they are: otherwise it could be any pod of the cluster."""
    if attributes.operation != "CREATE" or attributes.subresource:
        raise _refused(attributes, f"unexpected operation {attributes.operation}")
    spec = (attributes.obj or {}).get("spec") or {}
    asked = {key: spec.get(key) or "" for key in ("podName", "podUID", "serviceAccountName", "nodeName", "nodeUID")}
    if asked["nodeName"] != node:
        named = f'PodCertificateRequest.Spec.NodeName="{asked["nodeName"]}"'
        raise _refused(attributes, f'{named}, which is not the requesting node "{node}"')
    key = f"{attributes.namespace}/{asked['podName']}"
    pod, this = _known(attributes, PODS, key), _known(attributes, NODES, node)
    if pod is None:
        why = f'while retrieving pod "{key}" named in the PodCertificateRequest: pod "{asked["podName"]}" not found'
        raise _refused(attributes, why)
    if this is None or uid_of(this) != asked["nodeUID"]:
        known, said = uid_of(this) if this else "", f'names node UID "{asked["nodeUID"]}"'
        why = f'PodCertificateRequest for pod "{key}" {said}, inconsistent with the running node ("{known}")'
        raise _refused(attributes, why)
    if uid_of(pod) != asked["podUID"]:
        said = f'contains pod UID ("{asked["podUID"]}") which differs from running pod "{uid_of(pod)}"'
        raise _refused(attributes, f'PodCertificateRequest for pod "{key}" {said}')
    if get_in(pod, "spec", "nodeName", default="") != node:
        raise _refused(attributes, f'pod "{key}" is not running on node "{node}" named in the PodCertificateRequest')
    if MIRROR in annotations_of(pod):
        raise _refused(attributes, f'pod "{key}" is a mirror pod')
    _check_account(attributes, key, spec, get_in(pod, "spec", "serviceAccountName", default=""))


def _check_account(attributes: Attributes, pod: str, spec: Obj, runs_as: str) -> None:
    name, uid = spec.get("serviceAccountName") or "", spec.get("serviceAccountUID") or ""
    if name != runs_as:
        said = f'contains serviceAccountName ("{name}") that differs from running pod ("{runs_as}")'
        raise _refused(attributes, f'PodCertificateRequest for pod "{pod}" {said}')
    account = _known(attributes, SERVICE_ACCOUNTS, f"{attributes.namespace}/{name}")
    known = uid_of(account) if account is not None else ""
    if known != uid:
        said = f'names service account UID "{uid}", which differs from the running service account ("{known}")'
        raise _refused(attributes, f'PodCertificateRequest for pod "{pod}" {said}')


def _known(attributes: Attributes, resource: GVR, key: str) -> Obj | None:
    found = attributes.call.api.storage.cache(resource).get(key)
    return found.obj() if found is not None else None


def _check_slice(attributes: Attributes, node: str) -> None:
    """A driver advertises the devices of its own node; what is changed the authorizer has looked at."""
    if attributes.operation not in ("CREATE", "DELETE"):
        return
    found = attributes.obj if attributes.operation == "CREATE" else attributes.old
    if get_in(found or {}, "spec", "nodeName", default="") != node:
        doing = attributes.operation.lower()
        raise _refused(attributes, f"can only {doing} ResourceSlice with the same NodeName as the requesting node")


_CHECKS = {
    ("certificates.k8s.io", "podcertificaterequests"): _check_pod_certificate,
    ("", "nodes"): _check_node,
    ("", "persistentvolumeclaims"): _check_claim,
    ("", "pods"): _check_pod,
    ("coordination.k8s.io", "leases"): _check_lease,
    ("storage.k8s.io", "csinodes"): _check_csi_node,
    ("resource.k8s.io", "resourceslices"): _check_slice,
}
