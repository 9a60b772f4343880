"""The baseline standard: no known way to more privileges than a container should have.

Specified in https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline.
"""

from __future__ import annotations

from pinnace.apis.podsecurity.findings import (
    Finding,
    all_containers,
    containers_text,
    context_of,
    plural,
    quoted,
    setters,
    setters_text,
)
from pinnace.machinery.meta import Obj

_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_PROFILES = ("", "RuntimeDefault", "Localhost")

_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t")
_SYSCTLS: dict[str, int] = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}
"""The sysctls that are safe, and the minor that first said so."""


def app_armor(meta: Obj, spec: Obj) -> Finding | None:
    def type_of(context: Obj) -> str:
        return (context.get("appArmorProfile") or {}).get("type") or ""

    contexts = [context_of(spec), *(context_of(container) for container in all_containers(spec))]
    bad = sorted({type_of(context) for context in contexts} - set(_PROFILES))
    who = setters(spec, lambda context: type_of(context) not in _PROFILES)
    notes = sorted(
        f"{key}={quoted([value])}"
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    if notes:
        who = " and ".join([*filter(None, [who]), plural(len(notes), "annotation", "annotations")])
    if not who:
        return None
    values = [*bad, *notes]
    reason = plural(len(values), "forbidden AppArmor profile", "forbidden AppArmor profiles")
    return Finding(reason, f"{who} must not set AppArmor profile type to {quoted(values)}")


def capabilities(_meta: Obj, spec: Obj) -> Finding | None:
    bad, added = added_capabilities(spec, _CAPABILITIES)
    if not bad:
        return None
    detail = f"{containers_text(bad)} must not include {quoted(added)} in securityContext.capabilities.add"
    return Finding("non-default capabilities", detail)


def added_capabilities(spec: Obj, allowed: frozenset[str]) -> tuple[list[str], list[str]]:
    """The containers that add others than those allowed, and what they add."""
    bad: list[str] = []
    added: set[str] = set()
    for container in all_containers(spec):
        beyond = set((context_of(container).get("capabilities") or {}).get("add") or ()) - allowed
        if beyond:
            bad.append(container.get("name") or "")
            added |= beyond
    return bad, sorted(added)


def host_namespaces(_meta: Obj, spec: Obj) -> Finding | None:
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return Finding("host namespaces", ", ".join(used)) if used else None


def host_path_volumes(_meta: Obj, spec: Obj) -> Finding | None:
    bad = [volume.get("name") for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Finding("hostPath volumes", f"{plural(len(bad), 'volume', 'volumes')} {quoted(bad)}") if bad else None


def host_ports(_meta: Obj, spec: Obj) -> Finding | None:
    bad: list[str] = []
    ports: set[str] = set()
    for container in all_containers(spec):
        found = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if found:
            bad.append(container.get("name") or "")
            ports |= found
    if not bad:
        return None
    verb, noun = plural(len(bad), "uses", "use"), plural(len(ports), "hostPort", "hostPorts")
    return Finding("hostPort", f"{containers_text(bad)} {verb} {noun} {', '.join(sorted(ports))}")


def host_of_probes(_meta: Obj, spec: Obj) -> Finding | None:
    bad: set[str] = set()
    hosts: set[str] = set()
    for container in all_containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(kind) for kind in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [lifecycle.get(kind) for kind in ("postStart", "preStop")]
        actions = [one.get(how) or {} for one in handlers if one for how in ("httpGet", "tcpSocket")]
        found = {str(action["host"]) for action in actions if action.get("host")}
        if found:
            bad.add(container.get("name") or "")
            hosts |= found
    if not bad:
        return None
    verb, noun = plural(len(bad), "uses", "use"), plural(len(hosts), "host", "hosts")
    detail = f"{containers_text(sorted(bad))} {verb} probe or lifecycle {noun} {quoted(sorted(hosts))}"
    return Finding("probe or lifecycle host", detail)


def privileged(_meta: Obj, spec: Obj) -> Finding | None:
    bad = [one.get("name") or "" for one in all_containers(spec) if context_of(one).get("privileged")]
    if not bad:
        return None
    return Finding("privileged", f"{containers_text(bad)} must not set securityContext.privileged=true")


def proc_mount(_meta: Obj, spec: Obj) -> Finding | None:
    bad: list[str] = []
    kinds: set[str] = set()
    for container in all_containers(spec):
        kind = context_of(container).get("procMount") or "Default"
        if kind != "Default":
            bad.append(container.get("name") or "")
            kinds.add(kind)
    if not bad:
        return None
    detail = f"{containers_text(bad)} must not set securityContext.procMount to {quoted(sorted(kinds))}"
    return Finding("procMount", detail)


def proc_mount_1_34(meta: Obj, spec: Obj) -> Finding | None:
    """A pod with users of its own may see all of its /proc."""
    return None if spec.get("hostUsers") is False else proc_mount(meta, spec)


def selinux(_meta: Obj, spec: Obj) -> Finding | None:
    return _selinux(spec, _SELINUX_TYPES)


def selinux_1_31(_meta: Obj, spec: Obj) -> Finding | None:
    return _selinux(spec, (*_SELINUX_TYPES, "container_engine_t"))


def _selinux(spec: Obj, allowed: tuple[str, ...]) -> Finding | None:
    contexts = [context_of(spec), *(context_of(container) for container in all_containers(spec))]
    options = [context.get("seLinuxOptions") or {} for context in contexts]
    types = sorted({one.get("type") or "" for one in options} - set(allowed))

    def is_bad(context: Obj) -> bool:
        one = context.get("seLinuxOptions") or {}
        return bool((one.get("type") or "") not in allowed or one.get("user") or one.get("role"))

    who = setters(spec, is_bad)
    if not who:
        return None
    data = [f"{plural(len(types), 'type', 'types')} {quoted(types)}"] if types else []
    data += [f"{key} may not be set" for key in ("user", "role") if any(one.get(key) for one in options)]
    return Finding("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}")


def seccomp_annotations(meta: Obj, spec: Obj) -> Finding | None:
    """Before 1.19 profiles were annotations."""
    keys = [_SECCOMP_POD, *(f"{_SECCOMP_CONTAINER}{one.get('name')}" for one in all_containers(spec))]
    annotations = meta.get("annotations") or {}
    bad = sorted(
        {
            f"{key}={quoted([annotations[key]])}"
            for key in keys
            if key in annotations
            and annotations[key] not in ("runtime/default", "docker/default")
            and not annotations[key].startswith("localhost/")
        }
    )
    if not bad:
        return None
    return Finding("seccompProfile", f"forbidden {plural(len(bad), 'annotation', 'annotations')} {', '.join(bad)}")


def seccomp(_meta: Obj, spec: Obj) -> Finding | None:
    contexts = [context_of(spec), *(context_of(container) for container in all_containers(spec))]
    bad = sorted({_seccomp_type(context) for context in contexts} - set(_PROFILES))
    if not bad:
        return None
    who = setters(spec, lambda context: _seccomp_type(context) not in _PROFILES)
    return Finding("seccompProfile", f"{who} must not set securityContext.seccompProfile.type to {quoted(bad)}")


def _seccomp_type(context: Obj) -> str:
    return (context.get("seccompProfile") or {}).get("type") or ""


def sysctls(minor: int) -> frozenset[str]:
    """The sysctls that are safe, as that minor knows them."""
    return frozenset(name for name, since in _SYSCTLS.items() if since <= minor)


def forbidden_sysctls(spec: Obj, allowed: frozenset[str]) -> Finding | None:
    listed = context_of(spec).get("sysctls") or ()
    bad = [one.get("name") or "" for one in listed if one.get("name") not in allowed]
    return Finding("forbidden sysctls", ", ".join(bad)) if bad else None


def windows_host_process(_meta: Obj, spec: Obj) -> Finding | None:
    def is_bad(context: Obj) -> bool:
        return bool((context.get("windowsOptions") or {}).get("hostProcess"))

    bad = [one.get("name") or "" for one in all_containers(spec) if is_bad(context_of(one))]
    who = setters_text(is_bad(context_of(spec)), bad)
    return (
        Finding("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true") if who else None
    )
