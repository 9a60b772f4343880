"""Which kernel parameters a pod may set here: the safe ones, and what the node's owner allows besides.

Only parameters of a namespace of the pod's own count (https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/).
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.podsecurity.baseline import sysctls as safe_sysctls
from pinnace.kubelet.admission.rules import Refusal
from pinnace.machinery.meta import Obj

_IPC = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")
_NET = ("net.",)


def forbidden(pod: Obj, minor: int, allowed_unsafe: Iterable[str]) -> Refusal | None:
    """Why the pod's sysctls cannot be had; `allowed_unsafe` are names, or patterns that end in `*`."""
    spec = pod["spec"]
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ():
        why = _objection(sysctl["name"].replace("/", "."), spec, safe_sysctls(minor), allowed_unsafe)
        if why:
            text = f'forbidden sysctl: "{sysctl["name"]}" {why}'
            return Refusal("SysctlForbidden", f"Pod was rejected: {text}", text)
    return None


def _objection(name: str, spec: Obj, safe: frozenset[str], allowed_unsafe: Iterable[str]) -> str:
    patterns = (*safe, *allowed_unsafe)
    if not any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in patterns):
        return "not allowlisted"
    if name.startswith(_NET):
        return "not allowed with host net enabled" if spec.get("hostNetwork") else ""
    if name.startswith(_IPC):
        return "not allowed with host ipc enabled" if spec.get("hostIPC") else ""
    return "not allowlisted"  # the machine's own
