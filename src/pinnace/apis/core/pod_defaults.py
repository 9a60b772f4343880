"""What a pod, or the template of one, is given where its author said nothing.

All workloads send their templates through `default_pod_spec`; what only pods get is in `default_pod`. Specified in
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity, QuantityError

FILE_MODE = 0o644


def default_pod(pod: Obj) -> None:
    """A pod as the API stores it."""
    spec = pod.get("spec")
    if spec is None:
        spec = pod["spec"] = {}
    default_pod_spec(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    on_host = spec.get("hostNetwork")
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container["resources"]
        if resources:
            _requests_from_limits(resources)
        if on_host:
            for port in container.get("ports") or ():
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]
    if spec.get("resources"):
        _default_pod_resources(spec)


def default_template(template: Obj) -> None:
    """A pod template: its spec, and metadata that is there even when empty."""
    if template.get("metadata") is None:
        template["metadata"] = {}
    spec = template.get("spec")
    if spec is None:
        spec = template["spec"] = {}
    default_pod_spec(spec)


def default_pod_spec(spec: Obj) -> None:
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    # `serviceAccount` is the old name of `serviceAccountName`; the API shows both.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in spec.get("containers") or ():
        default_container(container)
    for container in spec.get("initContainers") or ():
        default_container(container)
    for container in spec.get("ephemeralContainers") or ():
        default_container(container)
    for volume in spec.get("volumes") or ():
        default_volume(volume)


def default_container(container: Obj) -> None:
    get = container.get
    if get("resources") is None:
        container["resources"] = {}
    if not get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if not get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(get("image") or "")
    if ports := get("ports"):
        for port in ports:
            if not port.get("protocol"):
                port["protocol"] = "TCP"
    if env := get("env"):
        for variable in env:
            if source := variable.get("valueFrom"):
                _default_env_source(source)
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in container and container[kind] is not None:
            _default_probe(container[kind])
    if lifecycle := get("lifecycle"):
        for hook in lifecycle.values():
            if isinstance(hook, dict) and hook.get("httpGet"):
                _default_http_get(hook["httpGet"])


def pull_policy(image: str) -> str:
    """`Always` for an image named by the tag `latest`, or by neither tag nor digest."""
    name, at, _ = image.partition("@")
    tag = name[name.rfind("/") + 1 :].partition(":")[2]
    return "Always" if tag == "latest" or not (tag or at) else "IfNotPresent"


def _default_env_source(source: Obj) -> None:
    field = source.get("fieldRef")
    if field is not None and not field.get("apiVersion"):
        field["apiVersion"] = "v1"
    resource = source.get("resourceFieldRef")
    if resource is not None and not resource.get("divisor"):
        resource["divisor"] = "0"
    file_key = source.get("fileKeyRef")
    if file_key is not None and file_key.get("optional") is None:
        file_key["optional"] = False


def _default_probe(probe: Obj) -> None:
    if not probe.get("timeoutSeconds"):
        probe["timeoutSeconds"] = 1
    if not probe.get("periodSeconds"):
        probe["periodSeconds"] = 10
    if not probe.get("successThreshold"):
        probe["successThreshold"] = 1
    if not probe.get("failureThreshold"):
        probe["failureThreshold"] = 3
    if probe.get("httpGet") is not None:
        _default_http_get(probe["httpGet"])
    grpc = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _default_http_get(action: Obj) -> None:
    if not action.get("path"):
        action["path"] = "/"
    if not action.get("scheme"):
        action["scheme"] = "HTTP"


def default_volume(volume: Obj) -> None:
    for source, settings in volume.items():
        if source != "name" and settings is not None:
            rule = _VOLUME_DEFAULTS.get(source)
            if rule:
                rule(settings)
            return
    volume["emptyDir"] = {}


def _default_mode(settings: Obj) -> None:
    if settings.get("defaultMode") is None:
        settings["defaultMode"] = FILE_MODE


def _default_downward(settings: Obj) -> None:
    _default_mode(settings)
    _default_downward_items(settings)


def _default_downward_items(settings: Obj) -> None:
    for item in settings.get("items") or ():
        _default_env_source(item)


def _default_projected(settings: Obj) -> None:
    _default_mode(settings)
    for source in settings.get("sources") or ():
        token = source.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        if source.get("downwardAPI"):
            _default_downward_items(source["downwardAPI"])
        certificate = source.get("podCertificate")
        if certificate is not None and certificate.get("maxExpirationSeconds") is None:
            certificate["maxExpirationSeconds"] = 86400


def _default_ephemeral(settings: Obj) -> None:
    claim = (settings.get("volumeClaimTemplate") or {}).get("spec")
    if claim is not None and not claim.get("volumeMode"):
        claim["volumeMode"] = "Filesystem"


def _default_image_volume(settings: Obj) -> None:
    if not settings.get("pullPolicy"):
        settings["pullPolicy"] = pull_policy(settings.get("reference") or "")


def _setter(**defaults: Any) -> Any:
    def apply(settings: Obj) -> None:
        for key, value in defaults.items():
            if settings.get(key) in (None, "") and settings.get(key) != value:
                settings[key] = value

    return apply


_VOLUME_DEFAULTS: dict[str, Any] = {
    "secret": _default_mode,
    "configMap": _default_mode,
    "downwardAPI": _default_downward,
    "projected": _default_projected,
    "ephemeral": _default_ephemeral,
    "image": _default_image_volume,
    "hostPath": _setter(type=""),
    "iscsi": _setter(iscsiInterface="default"),
    "rbd": _setter(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "azureDisk": _setter(cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False),
    "scaleIO": _setter(storageMode="ThinProvisioned", fsType="xfs"),
}
"""By the name of the volume source; persistent volumes use the same."""


def default_volume_source(source: str, settings: Obj) -> None:
    """The defaults of one volume source that pods and persistent volumes share."""
    if rule := _VOLUME_DEFAULTS.get(source):
        rule(settings)


def _requests_from_limits(resources: Obj) -> None:
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.get("requests")
    if not requests:
        resources["requests"] = dict(limits)
        return
    for name, amount in limits.items():
        requests.setdefault(name, amount)


def _default_pod_resources(spec: Obj) -> None:
    """A pod's own requests: what its containers ask for together, else its limit."""
    resources = spec["resources"]
    limits = resources.get("limits") or {}
    if not limits:
        return
    requests = resources.setdefault("requests", {})
    for name, amount in limits.items():
        if name not in requests:
            asked = _asked(spec, name)
            requests[name] = str(asked) if asked is not None else amount


def _asked(spec: Obj, name: str) -> Quantity | None:
    """What containers request of one resource: those that run side by side summed, or the largest init container."""
    total = Quantity(Decimal(0))
    largest = Quantity(Decimal(0))
    found = False
    try:
        for container in spec.get("containers") or ():
            amount = (container["resources"].get("requests") or {}).get(name)
            if amount is not None:
                found = True
                total = total + Quantity.parse(amount)
        for container in spec.get("initContainers") or ():
            amount = (container["resources"].get("requests") or {}).get(name)
            if amount is None:
                continue
            found = True
            if container.get("restartPolicy") == "Always":
                total = total + Quantity.parse(amount)
            else:
                largest = max(largest, Quantity.parse(amount))
    except QuantityError:
        return None
    return max(total, largest) if found else None
