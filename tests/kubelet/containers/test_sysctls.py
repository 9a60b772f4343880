"""Which kernel parameters a kubelet lets pods set."""

from __future__ import annotations

import pytest

from pinnace.kubelet.containers.sysctls import forbidden
from pinnace.machinery.meta import Obj

HOST_NET: Obj = {"hostNetwork": True}
HOST_IPC: Obj = {"hostIPC": True}


@pytest.mark.parametrize(
    ("name", "spec", "allowed", "objection"),
    [
        ("kernel.shm_rmid_forced", {}, [], ""),
        ("kernel/shm_rmid_forced", {}, [], ""),
        ("kernel.shm_rmid_forced", HOST_IPC, [], "not allowed with host ipc enabled"),
        ("net.ipv4.tcp_syncookies", {}, [], ""),
        ("net.ipv4.tcp_syncookies", HOST_IPC, [], ""),
        ("net.ipv4.tcp_syncookies", HOST_NET, [], "not allowed with host net enabled"),
        ("net.ipv4.tcp_rmem", {}, [], ""),
        ("kernel.msgmax", {}, [], "not allowlisted"),
        ("kernel.msgmax", {}, ["kernel.msg*"], ""),
        ("kernel.msgmax", {}, ["kernel.msgmax"], ""),
        ("kernel.msgmax", HOST_IPC, ["kernel.msg*"], "not allowed with host ipc enabled"),
        ("net.core.somaxconn", {}, ["net.core.*"], ""),
        ("net.core.somaxconn", {}, ["net.ipv4.*"], "not allowlisted"),
        ("vm.swappiness", {}, ["vm.*"], "not allowlisted"),  # of no namespace
    ],
)
def test_sysctls_are_safe_or_allowed(name: str, spec: Obj, allowed: list[str], objection: str) -> None:
    context = {"sysctls": [{"name": name, "value": "1"}]}
    refusal = forbidden({"spec": {"securityContext": context, **spec}}, 37, allowed)
    if not objection:
        assert refusal is None
        return
    assert refusal is not None
    assert refusal.reason == "SysctlForbidden"
    assert refusal.message == f'Pod was rejected: forbidden sysctl: "{name}" {objection}'


def test_pods_without_sysctls_are_taken() -> None:
    assert forbidden({"spec": {}}, 37, []) is None
