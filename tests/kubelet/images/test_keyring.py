"""Which credentials fit an image."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pinnace.cri.api import AuthConfig
from pinnace.kubelet.images.keyring import Credential, Known, Owner, lookup, matches, merged, of_secrets
from pinnace.kubelet.images.references import repository

ME = base64.b64encode(b"me:secret").decode()
OWNER = Owner("Secret", "d", "s", "u")


def secret(**auths: dict[str, Any]) -> dict[str, Any]:
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}
    return {"metadata": {"name": "s", "namespace": "d", "uid": "u"}, "data": data}


def users(image: str, known: Known) -> list[str]:
    return [one.auth.username for one in lookup(repository(image), known)]


def test_a_pull_secrets_credentials_tell_whose_they_are():
    known = of_secrets([secret(**{"https://reg.example/v1/": {"auth": ME}})])
    auth = AuthConfig(username="me", password="secret", server_address="https://reg.example/v1/")
    assert lookup(repository("reg.example/app:1"), known) == [Credential(auth, OWNER)]


def test_an_older_form_of_a_pull_secret():
    data = {".dockercfg": base64.b64encode(json.dumps({"reg.example": {"auth": ME}}).encode()).decode()}
    known = of_secrets([{"metadata": {"name": "s"}, "data": data}])
    assert users("reg.example/app", known) == ["me"]


def test_a_pull_secret_that_cannot_be_read_is_left_out():
    broken = {"metadata": {"name": "b"}, "data": {".dockerconfigjson": "bm9uc2Vuc2U="}}
    assert users("reg.example/app", of_secrets([broken, secret(**{"reg.example": {"auth": ME}})])) == ["me"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a.corp.example/team/app:1", ["team", "corp"]),
        ("a.corp.example/other:1", ["corp"]),
        ("a.b.corp.example/team/app:1", []),
        ("corp.example:5000/app", ["port"]),
        ("nginx:1", ["hub"]),
        ("docker.io/team/app", ["hub"]),
    ],
)
def test_the_most_specific_comes_first(image, expected):
    known = of_secrets(
        [
            secret(
                **{
                    "*.corp.example": {"username": "corp"},
                    "*.corp.example/team": {"username": "team"},
                    "corp.example:5000": {"username": "port"},
                    "https://index.docker.io/v1/": {"username": "hub"},
                }
            )
        ]
    )
    assert users(image, known) == expected


def test_every_secret_for_a_registry_is_tried():
    first, second = (secret(**{"reg.example": {"username": name}}) for name in "ab")
    assert users("reg.example/app", of_secrets([first, second])) == ["a", "b"]
    assert users("reg.example/app", merged([of_secrets([second]), of_secrets([first])])) == ["b", "a"]


@pytest.mark.parametrize(
    ("pattern", "repository", "fits"),
    [
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.us-east-1.amazonaws.com/app", True),
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.us-east-1.amazonaws.com.cn/app", False),
        ("*.io", "k8s.io/pause", True),
        ("*.io", "reg.k8s.io/pause", False),
        ("reg*.example", "registry.example/x", True),
        ("reg.example:8080", "reg.example/x", False),
        ("reg.example:8080/a", "reg.example:8080/ab", True),
    ],
)
def test_patterns(pattern, repository, fits):
    assert matches(pattern, repository) is fits


def test_equal_credentials_have_equal_hashes():
    one, other = (Credential(AuthConfig(username="me", password=word)) for word in ("a", "b"))
    assert one.hash == Credential(AuthConfig(username="me", password="a"), OWNER).hash
    assert one.hash != other.hash
