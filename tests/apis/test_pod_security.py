"""What the Pod Security Standards find in pods, in which words, at which version."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.podsecurity.evaluation import violations
from pinnace.apis.podsecurity.policy import Policy, Standard, policy_of

Obj = dict[str, Any]

GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def spec(*contexts: Obj, **more: Any) -> Obj:
    names = "abcdef"
    listed = [{"name": names[i], "securityContext": context} for i, context in enumerate(contexts or ({},))]
    return {"containers": listed, **more}


def one(**more: Any) -> Obj:
    return {"containers": [{"name": "a", **more}]}


@pytest.mark.parametrize(
    ("pod", "finding"),
    [
        (spec(), ""),
        (spec(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (
            spec({"privileged": True}, {"privileged": True}),
            'privileged (containers "a", "b" must not set securityContext.privileged=true)',
        ),
        (
            spec({"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}}),
            (
                'non-default capabilities (container "a" must not include "BPF", "NET_RAW" in '
                "securityContext.capabilities.add)"
            ),
        ),
        (
            spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
            'hostPath volumes (volume "v")',
        ),
        (one(ports=[{"hostPort": 80}, {"hostPort": 81}]), 'hostPort (container "a" uses hostPorts 80, 81)'),
        (one(ports=[{"containerPort": 80}]), ""),
        (
            one(livenessProbe={"httpGet": {"host": "10.0.0.1"}}),
            'probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")',
        ),
        (
            spec({"procMount": "Unmasked"}),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (spec({"procMount": "Unmasked"}, hostUsers=False), ""),
        (
            spec({"seLinuxOptions": {"type": "spc_t", "user": "u"}}, securityContext={"seLinuxOptions": {"role": "r"}}),
            (
                'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: '
                'type "spc_t"; user may not be set; role may not be set)'
            ),
        ),
        (
            spec({"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            spec(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            spec(securityContext={"windowsOptions": {"hostProcess": True}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            spec({"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")',
        ),
    ],
)
def test_what_the_baseline_does_not_allow(pod: Obj, finding: str) -> None:
    expected = f'violates PodSecurity "baseline:latest": {finding}' if finding else ""
    assert violations(Standard("baseline"), {}, pod) == expected


@pytest.mark.parametrize(
    ("pod", "finding"),
    [
        (spec(GOOD), ""),
        (
            spec({}, {}),
            (
                'allowPrivilegeEscalation != false (containers "a", "b" must set '
                "securityContext.allowPrivilegeEscalation=false), "
                'unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), '
                'runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), '
                'seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to '
                '"RuntimeDefault" or "Localhost")'
            ),
        ),
        (
            spec({**GOOD, "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}}),
            'unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (
            spec(GOOD, volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]),
            'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")',
        ),
        (
            spec({**GOOD, "runAsNonRoot": False}),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            spec(GOOD, securityContext={"runAsUser": 0}),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            spec({**GOOD, "privileged": True}, hostIPC=True),
            'host namespaces (hostIPC=true), privileged (container "a" must not set securityContext.privileged=true)',
        ),
    ],
)
def test_what_the_restricted_standard_does_not_allow(pod: Obj, finding: str) -> None:
    expected = f'violates PodSecurity "restricted:latest": {finding}' if finding else ""
    assert violations(Standard("restricted"), {}, pod) == expected


@pytest.mark.parametrize(
    ("standard", "pod", "allowed"),
    [
        (Standard("baseline", 33), one(livenessProbe={"httpGet": {"host": "h"}}), True),
        (Standard("baseline", 34), one(livenessProbe={"httpGet": {"host": "h"}}), False),
        (Standard("baseline", 26), spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), False),
        (Standard("baseline", 32), spec(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), True),
        (Standard("restricted", 7), spec({"runAsNonRoot": True}), True),
        (Standard("restricted", 8), spec({"runAsNonRoot": True}), False),
        (
            Standard("restricted", 25),
            spec({"runAsNonRoot": True}, os={"name": "windows"}),
            True,
        ),
        (Standard("privileged"), spec({"privileged": True}), True),
    ],
)
def test_a_version_has_the_checks_of_its_time(standard: Standard, pod: Obj, allowed: bool) -> None:
    assert (violations(standard, {}, pod) == "") is allowed


def test_annotations_of_old_are_judged_too() -> None:
    meta = {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}}
    assert violations(Standard("baseline"), meta, spec()).endswith(
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to "
        '"container.apparmor.security.beta.kubernetes.io/a="unconfined"")'
    )
    meta = {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}
    assert violations(Standard("baseline", 18), meta, spec()).endswith(
        'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    )


PREFIX = "pod-security.kubernetes.io"


@pytest.mark.parametrize(
    ("labels", "policy", "errors"),
    [
        ({}, Policy(), []),
        (
            {f"{PREFIX}/enforce": "baseline", f"{PREFIX}/enforce-version": "v1.30"},
            Policy(enforce=Standard("baseline", 30), warn=Standard("baseline", 30)),
            [],
        ),
        (
            {f"{PREFIX}/enforce": "baseline", f"{PREFIX}/warn": "restricted"},
            Policy(enforce=Standard("baseline"), warn=Standard("restricted")),
            [],
        ),
        (
            {f"{PREFIX}/enforce": "strict", f"{PREFIX}/warn": "x", f"{PREFIX}/audit-version": "1.2"},
            Policy(enforce=Standard("restricted")),
            [
                (
                    f'metadata.labels[{PREFIX}/enforce]: Invalid value: "strict": '
                    "must be one of privileged, baseline, restricted"
                ),
                f'metadata.labels[{PREFIX}/audit-version]: Invalid value: "1.2": must be "latest" or "v1.x"',
                f'metadata.labels[{PREFIX}/warn]: Invalid value: "x": must be one of privileged, baseline, restricted',
            ],
        ),
    ],
)
def test_a_namespace_says_its_policy_in_labels(labels: dict[str, str], policy: Policy, errors: list[str]) -> None:
    found, wrong = policy_of(labels)
    assert found == policy
    assert [f"{cause.field}: {cause.message}" for cause in wrong] == errors
