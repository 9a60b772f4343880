"""Protobuf bodies as kubectl 1.32 sends them, read into the JSON objects they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apiserver import protobuf
from pinnace.machinery.schema import Schemas

CONFIG_MAP = (
    b'k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x1b\n\x11\n\x01c\x12\x00\x1a\x00"\x00*\x002\x008\x00B\x00'
    b'\x12\x06\n\x01a\x12\x01b\x1a\x00"\x00'
)
ACCESS_REVIEW = (
    b'k8s\x00\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12?\n\x10\n\x00\x12\x00\x1a\x00"\x00*\x00'
    b'2\x008\x00B\x00\x12!\n\x1f\n\x07default\x12\x06create\x1a\x00"\x00*\x04pods2\x00:\x00\x1a\x08\x08\x00\x12\x00'
    b'\x1a\x00 \x00\x1a\x00"\x00'
)


def test_what_kubectl_sends() -> None:
    schemas = Schemas.load()
    assert protobuf.load(CONFIG_MAP, schemas) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"a": "b"},
    }
    review = protobuf.load(ACCESS_REVIEW, schemas)
    assert review["spec"] == {
        "resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"},
    }


@pytest.mark.parametrize("body", [b"", b"k8s\0\xff", b"k8s\0\n\x7f", b"{}", CONFIG_MAP.replace(b"v1", b"v9")])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(protobuf.ProtobufError):
        protobuf.load(body, Schemas.load())


@given(st.integers(0, len(CONFIG_MAP) - 1), st.binary(max_size=5))
def test_damage_is_refused_or_read_but_never_a_crash(at: int, noise: bytes) -> None:
    try:
        protobuf.load(CONFIG_MAP[:at] + noise + CONFIG_MAP[at + len(noise) :], Schemas.load())
    except protobuf.ProtobufError:
        pass
