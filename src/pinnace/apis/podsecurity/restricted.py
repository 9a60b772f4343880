"""The restricted standard: what is known to harden a pod.

Specified in https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted.
"""

from __future__ import annotations

from pinnace.apis.podsecurity.baseline import added_capabilities
from pinnace.apis.podsecurity.baseline import seccomp as seccomp_baseline
from pinnace.apis.podsecurity.findings import (
    Check,
    Finding,
    all_containers,
    containers_text,
    context_of,
    is_windows,
    plural,
    quoted,
    setters,
    setters_text,
)
from pinnace.machinery.meta import Obj

_VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
_NET_BIND = frozenset({"NET_BIND_SERVICE"})


def not_on_windows(check: Check) -> Check:
    """Since 1.25: what Windows does not know is not asked of its pods."""
    return lambda meta, spec: None if is_windows(spec) else check(meta, spec)


def not_with_own_users(check: Check) -> Check:
    """Since 1.34: root is nobody outside of a pod with users of its own."""
    return lambda meta, spec: None if spec.get("hostUsers") is False else check(meta, spec)


def privilege_escalation(_meta: Obj, spec: Obj) -> Finding | None:
    bad = [
        one.get("name") or ""
        for one in all_containers(spec)
        if context_of(one).get("allowPrivilegeEscalation") is not False
    ]
    if not bad:
        return None
    detail = f"{containers_text(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail)


def capabilities(_meta: Obj, spec: Obj) -> Finding | None:
    keeping = [
        one.get("name") or ""
        for one in all_containers(spec)
        if "ALL" not in ((context_of(one).get("capabilities") or {}).get("drop") or ())
    ]
    details = [f'{containers_text(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    bad, added = added_capabilities(spec, _NET_BIND)
    if bad:
        text = f"{containers_text(bad)} must not include {quoted(added)} in securityContext.capabilities.add"
        details.append(text)
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(_meta: Obj, spec: Obj) -> Finding | None:
    bad: list[str] = []
    types: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [key for key in volume if key != "name" and volume[key] is not None]
        if not any(key in _VOLUMES for key in sources):
            bad.append(volume.get("name") or "")
            types.add(sources[0] if sources else "unknown")
    if not bad:
        return None
    noun, verb = plural(len(bad), "volume", "volumes"), plural(len(bad), "uses", "use")
    what = plural(len(types), "type", "types")
    detail = f"{noun} {quoted(bad)} {verb} restricted volume {what} {quoted(sorted(types))}"
    return Finding("restricted volume types", detail)


def run_as_non_root(_meta: Obj, spec: Obj) -> Finding | None:
    reason = "runAsNonRoot != true"
    who = setters(spec, lambda context: context.get("runAsNonRoot") is False)
    if who:
        return Finding(reason, f"{who} must not set securityContext.runAsNonRoot=false")
    if context_of(spec).get("runAsNonRoot"):
        return None
    bad = [one.get("name") or "" for one in all_containers(spec) if context_of(one).get("runAsNonRoot") is None]
    return Finding(reason, f"pod or {containers_text(bad)} must set securityContext.runAsNonRoot=true") if bad else None


def run_as_user(_meta: Obj, spec: Obj) -> Finding | None:
    bad = [one.get("name") or "" for one in all_containers(spec) if context_of(one).get("runAsUser") == 0]
    who = setters_text(context_of(spec).get("runAsUser") == 0, bad)
    return Finding("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def seccomp(meta: Obj, spec: Obj) -> Finding | None:
    explicit = seccomp_baseline(meta, spec)
    if explicit is not None or context_of(spec).get("seccompProfile"):
        return explicit
    bad = [one.get("name") or "" for one in all_containers(spec) if not context_of(one).get("seccompProfile")]
    if not bad:
        return None
    wanted = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", f"pod or {containers_text(bad)} must set {wanted}")
