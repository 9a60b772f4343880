"""Which pods may use an image that is on the node already."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cri.api import AuthConfig
from pinnace.kubelet.images.keyring import Credential, Owner
from pinnace.kubelet.images.verification import POLICIES, Policy, pattern_problem, proven, with_credential

IMAGE = "reg.example/team/app:1"
EMPTY: dict[str, Any] = {"imageRef": "sha256:1", "credentialMapping": {}}


def credential(password: str = "p", name: str = "s", kind: str = "Secret") -> Credential:
    return Credential(AuthConfig(username="me", password=password), Owner(kind, "d", name, f"uid-{name}"))  # type: ignore[arg-type]


NODES = Credential(AuthConfig(username="node", password="p"))


@pytest.mark.parametrize(
    ("policy", "pulled_here", "exempt"),
    [
        ("NeverVerify", True, True),
        ("NeverVerifyPreloadedImages", True, False),
        ("NeverVerifyPreloadedImages", False, True),
        ("AlwaysVerify", False, False),
        ("NeverVerifyAllowlistedImages", False, False),
    ],
)
def test_policies(policy, pulled_here, exempt):
    assert Policy(policy).exempts(IMAGE, pulled_here=pulled_here) is exempt


@pytest.mark.parametrize(
    ("image", "exempt"),
    [
        ("nginx:1", True),
        ("docker.io/library/nginx", True),
        ("docker.io/library/nginx-extra", False),
        ("reg.example/public/app@sha256:" + "0" * 64, True),
        ("reg.example/private/app", False),
    ],
)
def test_the_allowlist(image, exempt):
    policy = Policy(POLICIES[2], ["nginx", "reg.example/public/*"])
    assert policy.exempts(image, pulled_here=True) is exempt


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("reg.example/app", ""),
        ("reg.example/*", ""),
        (" a", "leading/trailing spaces are not allowed:  a"),
        ("", "the supplied pattern is too short: "),
        ("/*", "at least registry hostname is required"),
        ("reg.example/a*", "not a valid wildcard pattern, only patterns ending with '/*' are allowed: reg.example/a*"),
        ("reg.example/app:1", "neither tag nor digest is accepted in an image reference: reg.example/app:1"),
        (
            "A",
            "failed to parse as an image name: invalid reference format: repository name (library/A) must be lowercase",
        ),
    ],
)
def test_patterns(pattern, why):
    assert pattern_problem(pattern) == why


def test_an_image_that_needed_no_credential_is_for_everybody():
    for used in (None, NODES):
        assert proven(with_credential(EMPTY, IMAGE, used), IMAGE, []) == (True, None)


def test_an_image_that_was_fetched_nobody_knows_how_is_for_nobody():
    assert proven(EMPTY, IMAGE, [credential()]) == (False, None)
    assert proven(None, IMAGE, [credential()]) == (False, None)


@pytest.mark.parametrize(
    ("shown", "may", "learns"),
    [
        (credential(), True, False),
        (credential("p", "copy"), True, True),  # the same word in another secret
        (credential("new"), True, True),  # the same secret, which says another word now
        (credential("new", "other"), False, False),
        (credential("p", "s", "ServiceAccount"), False, False),
        (NODES, False, False),
    ],
)
def test_an_image_that_needed_a_secret(shown, may, learns):
    record = with_credential(EMPTY, IMAGE, credential())
    assert proven(record, IMAGE, [shown]) == (may, shown if learns else None)


def test_a_record_is_of_a_repository_not_of_its_tags():
    record = with_credential(EMPTY, IMAGE, credential())
    assert proven(record, "reg.example/team/app:2", [credential()])[0]
    assert not proven(record, "reg.example/team/other:1", [credential()])[0]


def test_a_service_account_counts_whatever_its_token():
    record = with_credential(EMPTY, IMAGE, credential("t1", "sa", "ServiceAccount"))
    assert proven(record, IMAGE, [credential("t2", "sa", "ServiceAccount")]) == (True, None)
    assert proven(record, IMAGE, [credential("t1", "other", "ServiceAccount")]) == (False, None)


def test_records_grow_and_say_each_thing_once():
    record = EMPTY
    for used in (
        credential("1", "b"),
        credential("1", "a"),
        credential("2", "b"),
        credential("t", "x", "ServiceAccount"),
    ):
        record = with_credential(record, IMAGE, used)
    known = record["credentialMapping"]["reg.example/team/app"]
    assert [one["name"] for one in known["kubernetesSecrets"]] == ["a", "b"]
    assert known["kubernetesSecrets"][1]["credentialHash"] == credential("2").hash
    assert known["kubernetesServiceAccounts"] == [{"uid": "uid-x", "namespace": "d", "name": "x"}]
    assert with_credential(record, IMAGE, credential("2", "b")) is record
    free = with_credential(record, IMAGE, None)
    assert free["credentialMapping"]["reg.example/team/app"] == {"nodePodsAccessible": True}
    assert with_credential(free, IMAGE, credential()) is free
