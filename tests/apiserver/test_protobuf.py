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

PROJECTED = bytes.fromhex(
    "6b3873000a090a0276311203506f6412ab020a330a017812001a0022002a003200380042005a0e0a046b657931120676616c"
    "7565315a0e0a046b657932120676616c7565327a0012e3010a330a07706f64696e666f1228d201250a2312210a1f0a066c61"
    "62656c7312150a027631120f6d657461646174612e6c6162656c73128a010a10636c69656e742d636f6e7461696e65721203"
    "696d6722096d6f756e747465737422212d2d627265616b5f6f6e5f65787065637465645f636f6e74656e743d66616c736522"
    "102d2d72657472795f74696d653d3132302a0042004a1d0a07706f64696e666f10001a0c2f6574632f706f64696e666f2200"
    "32006a007200800100880100900100a201001a054e65766572320042004a0052005800600068008201008a01009a0100c201"
    "001a0e0a001a0022002a0032004a005a001a002200"
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


def test_every_field_has_the_name_it_has_in_json() -> None:
    schemas = Schemas.load()
    for message, fields in protobuf._messages().items():
        schema = protobuf._schema(message, schemas)
        if schema is not None and schema.fields:
            spelled = {name.lower(): name for name in schema.fields}
            assert {name: spelled.get(name.lower(), name) for name, *_ in fields.values()} == {
                name: name for name, *_ in fields.values()
            }


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_the_zero_of_a_pointer_is_what_its_author_wrote() -> None:
    spec = field(1, b"me") + b"\x10\x1e" + b"\x28\x00"  # leaseDurationSeconds 30, leaseTransitions 0
    kind = field(1, b"coordination.k8s.io/v1") + field(2, b"Lease")

    lease = protobuf.load(protobuf.MAGIC + field(1, kind) + field(2, field(2, spec)), Schemas.load())

    assert lease["spec"] == {"holderIdentity": "me", "leaseDurationSeconds": 30, "leaseTransitions": 0}


@pytest.mark.parametrize(
    ("message", "value"),
    [("k8s.io.api.core.v1.Toleration", {}), ("k8s.io.api.core.v1.PodDNSConfigOption", {"value": ""})],
)
def test_an_empty_text_is_one_only_where_its_author_could_leave_it_out(message: str, value: dict[str, str]) -> None:
    number = next(number for number, (name, *_) in protobuf._messages()[message].items() if name == "value")

    assert protobuf._read(message, field(int(number), b""), Schemas.load()) == value


def test_a_message_with_nothing_but_items_is_not_a_list() -> None:
    pod = protobuf.load(PROJECTED, Schemas.load())

    item = {"path": "labels", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}
    assert pod["spec"]["volumes"] == [
        {"name": "podinfo", "projected": {"sources": [{"downwardAPI": {"items": [item]}}]}}
    ]


def test_fields_of_newer_pods_are_read() -> None:
    rule = field(1, b"Restart") + field(2, field(1, b"In") + b"\x10\x2a\x10\x2b")
    reference = field(1, b"env") + field(2, b"a.env") + field(3, b"K") + b"\x20\x00"
    variable = field(1, b"V") + field(3, field(5, reference))
    container = field(1, b"c") + field(7, variable) + field(25, rule)
    certificate = field(1, b"a/b") + field(2, b"ED25519") + field(7, field(1, b"k") + field(2, b"v"))
    volume = field(1, b"v") + field(2, field(26, field(1, field(6, certificate))))
    spec = field(1, volume) + field(2, container) + field(41, b"h")
    kind = field(1, b"v1") + field(2, b"Pod")

    pod = protobuf.load(protobuf.MAGIC + field(1, kind) + field(2, field(2, spec)), Schemas.load())

    (read,) = pod["spec"]["containers"]
    assert read["restartPolicyRules"] == [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42, 43]}}]
    by_file = {"volumeName": "env", "path": "a.env", "key": "K", "optional": False}
    assert read["env"] == [{"name": "V", "valueFrom": {"fileKeyRef": by_file}}]
    assert pod["spec"]["hostnameOverride"] == "h"
    (source,) = pod["spec"]["volumes"][0]["projected"]["sources"]
    projected = {"signerName": "a/b", "keyType": "ED25519", "userAnnotations": {"k": "v"}}
    assert source == {"podCertificate": projected}


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
