"""The rules for the security contexts of pods and their containers.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#security-context.
"""

from __future__ import annotations

import re

from pinnace.apis.checks import MAX_INT32, every, optional_one_of
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj

_IDS = ("runAsUser", "runAsGroup", "fsGroup")
_ID_RANGE = names.in_range(0, MAX_INT32)
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}")
_SYSCTL_SHOWN = f"^({_SYSCTL_SEGMENT}[\\./])*{_SYSCTL_SEGMENT}$"


def validate_pod_security(context: Obj, spec: Obj, path: str) -> list[Cause]:
    errors = _ids(context, path)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= MAX_INT32:
            errors.append(invalid_value(f"{path}.supplementalGroups[{index}]", group, _ID_RANGE))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{path}.shareProcessNamespace", True, why))
    policy = context.get("fsGroupChangePolicy")
    errors += optional_one_of(f"{path}.fsGroupChangePolicy", policy, ("OnRootMismatch", "Always"))
    policy = context.get("supplementalGroupsPolicy")
    errors += optional_one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"))
    errors += _sysctls(context.get("sysctls") or [], f"{path}.sysctls")
    return errors + _profiles(context, path)


def _ids(context: Obj, path: str) -> list[Cause]:
    return [
        invalid_value(f"{path}.{key}", context[key], _ID_RANGE)
        for key in _IDS
        if context.get(key) is not None and not 0 <= context[key] <= MAX_INT32
    ]


def _sysctls(sysctls: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, sysctl in enumerate(sysctls):
        name = sysctl.get("name") or ""
        at = f"{path}[{index}].name"
        if not name:
            errors.append(required(at))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            errors.append(invalid_value(at, name, f"must have at most 253 characters and match regex {_SYSCTL_SHOWN}"))
        elif name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    return errors


def _profiles(context: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for key, word in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        if profile := context.get(key):
            errors += _profile(profile, word, f"{path}.{key}")
    return errors


def _profile(profile: Obj, word: str, path: str) -> list[Cause]:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        return [required(f"{path}.type", f"type is required when {path.rsplit('.', 1)[1]} is set")]
    if kind not in ("Localhost", "RuntimeDefault", "Unconfined"):
        return [not_supported(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))]
    if kind == "Localhost" and not local:
        return [required(f"{path}.localhostProfile", f"must be set when {word} type is Localhost")]
    if kind != "Localhost" and local is not None:
        return [invalid_value(f"{path}.localhostProfile", local, f"can only be set when {word} type is Localhost")]
    if word == "AppArmor":  # the name of a profile, and no file's
        padded = local and local != local.strip()
        return (
            [invalid_value(f"{path}.localhostProfile", local, "must not be padded with whitespace")] if padded else []
        )
    if local and (local.startswith("/") or ".." in local.split("/")):
        why = "must be a relative path" if local.startswith("/") else "must not contain '..'"
        return [invalid_value(f"{path}.localhostProfile", local, why)]
    return []


def validate_container_security(context: Obj, host_users: bool, path: str) -> list[Cause]:
    errors = _ids(context, path)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_value(path, context, why))
        added = (context.get("capabilities") or {}).get("add") or ()
        if "CAP_SYS_ADMIN" in added:
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_value(path, context, why))
    mount = context.get("procMount")
    errors += optional_one_of(f"{path}.procMount", mount, ("Default", "Unmasked"))
    if mount == "Unmasked" and host_users:
        why = "`hostUsers` must be false to use `Unmasked`"
        errors.append(invalid_value(f"{path}.procMount", mount, why))
    return errors + _profiles(context, path)


_NOT_OF_WINDOWS_PODS = ("hostPID", "hostIPC", "hostUsers", "shareProcessNamespace")
_NOT_OF_WINDOWS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
)
_NOT_OF_WINDOWS_CONTAINERS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def validate_for_os(system: str, spec: Obj, path: str) -> list[Cause]:
    """What the operating system that a pod names does not know."""
    contexts = [(f"{path}.securityContext", spec.get("securityContext") or {}, _NOT_OF_WINDOWS)]
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            at = f"{path}.{kind}[{index}].securityContext"
            contexts.append((at, container.get("securityContext") or {}, _NOT_OF_WINDOWS_CONTAINERS))
    if system == "linux":
        why = "windows options cannot be set for a linux pod"
        options = [f"{at}.windowsOptions" for at, context, _ in contexts if context.get("windowsOptions") is not None]
        return [field_forbidden(at, why) for at in options]
    why = "cannot be set for a windows pod"
    errors = [field_forbidden(f"{path}.{key}", why) for key in _NOT_OF_WINDOWS_PODS if spec.get(key)]
    for at, context, keys in contexts:
        errors += [field_forbidden(f"{at}.{key}", why) for key in keys if context.get(key) is not None]
    return errors


def validate_host_alias(alias: Obj, path: str) -> list[Cause]:
    """One line for a pod's /etc/hosts."""
    ip = alias.get("ip") or ""
    errors = every(f"{path}.ip", ip, names.is_ip(ip))
    for host in alias.get("hostnames") or ():
        errors += every(f"{path}.hostnames", host, names.is_dns_subdomain(host))
    return errors
