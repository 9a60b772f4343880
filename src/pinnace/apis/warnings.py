"""What the authors of objects are warned of, in `Warning` headers: the object is good, but not all of it is wise.

https://kubernetes.io/docs/reference/using-api/deprecation-policy/ and KEP-1693.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinnace.apis.core.pod_warnings import OLD_LABELS, fraction, is_fraction_of_bytes, pod_warnings
from pinnace.apis.fields import name, spec_of
from pinnace.machinery import names
from pinnace.machinery.meta import Obj, annotations_of, get_in

_SURPRISING = "which can result in surprising behavior; a DNS label is recommended:"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_INGRESS_CLASS = "kubernetes.io/ingress.class"


def on_create(group: str, kind: str, obj: Obj) -> list[str]:
    rule = _RULES.get((group, kind))
    return list(rule(obj)) if rule is not None else []


def on_update(group: str, kind: str, new: Obj, old: Obj) -> list[str]:
    """As on creation, for workloads whose spec is changed; others are written too often for anybody to read this."""
    rule = _WORKLOADS.get((group, kind))
    if rule is None or new.get("spec") == old.get("spec"):
        return []
    return list(rule(new))


def _pod(pod: Obj) -> Iterable[str]:
    yield from _in_hostnames(pod, "this is used in the Pod's hostname,")
    yield from pod_warnings(pod["metadata"], spec_of(pod))


def _workload(*path: str, named: bool = True) -> Callable[[Obj], Iterable[str]]:
    """The warnings about the template at `path`, and about names that pods inherit."""

    def warn(obj: Obj) -> Iterable[str]:
        if named:
            yield from _in_hostnames(obj, "this is used in Pod names and hostnames,")
        template = get_in(obj, *path) or {}
        at = ".".join(path)
        yield from pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, f"{at}.")

    return warn


def _in_hostnames(obj: Obj, what: str) -> Iterable[str]:
    given = name(obj)
    problems = names.is_dns_label(given) if "." in given or len(given) > names.LABEL_LENGTH else []
    if problems:
        yield f"metadata.name: {what} {_SURPRISING} [{' '.join(problems)}]"


def _service(service: Obj) -> Iterable[str]:
    spec = spec_of(service)
    if spec.get("type") == "ExternalName":
        if spec.get("externalIPs"):
            yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    elif spec.get("clusterIP") == "None" and spec.get("sessionAffinity") == "ClientIP":
        yield "spec.SessionAffinity is ignored for headless services"


def _ingress(ingress: Obj) -> Iterable[str]:
    if _INGRESS_CLASS in annotations_of(ingress):
        yield f"annotation \"{_INGRESS_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"


def _volume(volume: Obj) -> Iterable[str]:
    spec = spec_of(volume)
    if _BETA_CLASS in annotations_of(volume):
        yield f'metadata.annotations[{_BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        )


def _claim(claim: Obj) -> Iterable[str]:
    if _BETA_CLASS in annotations_of(claim):
        yield f'metadata.annotations[{_BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
    size = ((spec_of(claim).get("resources") or {}).get("requests") or {}).get("storage")
    if size is not None and is_fraction_of_bytes("storage", size):
        yield f"spec.resources.requests[storage]: {fraction(size)}"


def _runtime_class(runtime_class: Obj) -> Iterable[str]:
    for key in (runtime_class.get("scheduling") or {}).get("nodeSelector") or ():
        if key in OLD_LABELS:
            yield f"scheduling.nodeSelector[{key}]: {OLD_LABELS[key]}"


_WORKLOADS: dict[tuple[str, str], Callable[[Obj], Iterable[str]]] = {
    ("", "PodTemplate"): _workload("template", named=False),
    ("", "ReplicationController"): _workload("spec", "template"),
    ("apps", "DaemonSet"): _workload("spec", "template", named=False),
    ("apps", "Deployment"): _workload("spec", "template"),
    ("apps", "ReplicaSet"): _workload("spec", "template"),
    ("apps", "StatefulSet"): _workload("spec", "template", named=False),
    ("batch", "CronJob"): _workload("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): _workload("spec", "template"),
}
_RULES: dict[tuple[str, str], Callable[[Obj], Iterable[str]]] = {
    **_WORKLOADS,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("node.k8s.io", "RuntimeClass"): _runtime_class,
}

_ENDPOINTS = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
_DEPRECATED = {
    ("", "v1", "Endpoints"): (33, _ENDPOINTS),
    ("", "v1", "ComponentStatus"): (19, "v1 ComponentStatus is deprecated in v1.19+"),
}


def deprecation(group: str, version: str, kind: str, minor: int) -> str:
    """What every request to a version of a kind is warned of, empty where it is nobody's yet."""
    since, text = _DEPRECATED.get((group, version, kind), (0, ""))
    return text if minor >= since else ""
