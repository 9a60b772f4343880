"""A pod against a standard: which checks a version of it has, in which order, and what they find.

Checks came with minors and changed with them; a namespace pinned to a minor keeps the checks of that time. Specified in
https://kubernetes.io/docs/concepts/security/pod-security-standards/ and KEP-2579.
"""

from __future__ import annotations

from functools import lru_cache

from pinnace.apis.podsecurity import baseline, restricted
from pinnace.apis.podsecurity.findings import Check, Finding
from pinnace.apis.podsecurity.policy import PRIVILEGED, Standard
from pinnace.apis.podsecurity.restricted import not_on_windows, not_with_own_users
from pinnace.machinery.meta import Obj

_Versions = tuple[tuple[int, Check], ...]
"""A check by the minors it is so since."""


def _sysctls(minor: int) -> tuple[int, Check]:
    allowed = baseline.sysctls(minor)
    return minor, lambda _meta, spec: baseline.forbidden_sysctls(spec, allowed)


_BASELINE: dict[str, _Versions] = {
    "appArmorProfile": ((0, baseline.app_armor),),
    "capabilities_baseline": ((0, baseline.capabilities),),
    "hostNamespaces": ((0, baseline.host_namespaces),),
    "hostPathVolumes": ((0, baseline.host_path_volumes),),
    "hostPorts": ((0, baseline.host_ports),),
    "hostProbesAndHostLifecycle": ((34, baseline.host_of_probes),),
    "privileged": ((0, baseline.privileged),),
    "procMount": ((0, baseline.proc_mount), (34, baseline.proc_mount_1_34)),
    "seLinuxOptions": ((0, baseline.selinux), (31, baseline.selinux_1_31)),
    "seccompProfile_baseline": ((0, baseline.seccomp_annotations), (19, baseline.seccomp)),
    "sysctls": (_sysctls(0), _sysctls(27), _sysctls(29), _sysctls(32)),
    "windowsHostProcess": ((0, baseline.windows_host_process),),
}
_RESTRICTED: dict[str, _Versions] = {
    "allowPrivilegeEscalation": (
        (8, restricted.privilege_escalation),
        (25, not_on_windows(restricted.privilege_escalation)),
    ),
    "capabilities_restricted": ((22, restricted.capabilities), (25, not_on_windows(restricted.capabilities))),
    "restrictedVolumes": ((0, restricted.volumes),),
    "runAsNonRoot": ((0, restricted.run_as_non_root), (34, not_with_own_users(restricted.run_as_non_root))),
    "runAsUser": ((23, restricted.run_as_user), (34, not_with_own_users(restricted.run_as_user))),
    "seccompProfile_restricted": ((19, restricted.seccomp), (25, not_on_windows(restricted.seccomp))),
}
_OVERRIDDEN = {
    "capabilities_restricted": "capabilities_baseline",
    "restrictedVolumes": "hostPathVolumes",
    "seccompProfile_restricted": "seccompProfile_baseline",
}


@lru_cache(maxsize=128)
def checks_of(standard: Standard) -> tuple[Check, ...]:
    if standard.level == PRIVILEGED:
        return ()
    chosen = _of_minor(_BASELINE, standard.minor)
    if standard.level == "restricted":
        stricter = _of_minor(_RESTRICTED, standard.minor)
        for name in stricter:
            chosen.pop(_OVERRIDDEN.get(name, ""), None)
        chosen |= stricter
    return tuple(chosen.values())


def _of_minor(checks: dict[str, _Versions], minor: int) -> dict[str, Check]:
    found: dict[str, Check] = {}
    for name, versions in checks.items():
        for since, check in versions:
            if since <= minor:
                found[name] = check
    return found


def evaluate(standard: Standard, meta: Obj, spec: Obj) -> list[Finding]:
    """What of a pod, or of a pod template, the standard does not allow."""
    return [finding for check in checks_of(standard) if (finding := check(meta, spec)) is not None]


def violations(standard: Standard, meta: Obj, spec: Obj) -> str:
    """`violates PodSecurity "restricted:latest": …`, empty where the pod is allowed."""
    found = evaluate(standard, meta, spec)
    return f'violates PodSecurity "{standard}": {", ".join(map(str, found))}' if found else ""
