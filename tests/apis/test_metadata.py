"""What every object's metadata must be: names, labels, annotations, owners, finalizers."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

import copy
from typing import Any

import pytest

from .objects import errors, kind_of, made
from .tables.core import NOT_A_LABEL, NOT_A_SUBDOMAIN
from .tables.pods import NOT_A_LABEL_1035
from .tables.storage import NOT_QUALIFIED

OWNER: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}


def config_map(**metadata: Any) -> dict[str, Any]:
    return made("v1", "ConfigMap", metadata=metadata)


@pytest.mark.parametrize(
    ("metadata", "messages"),
    [
        ({"name": "a.b-c"}, []),
        ({"name": "a" * 253}, []),
        ({"name": "a" * 254}, [f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 bytes']),
        ({"generateName": "Aa-"}, [f'metadata.generateName: Invalid value: "Aa-": {NOT_A_SUBDOMAIN}']),
        ({"namespace": "a.b"}, ['metadata.namespace: Invalid value: "a.b": must not contain dots']),
        ({"labels": {"example.com/a": "B_c.d"}}, []),
        (
            {"labels": {"a/b/c": ""}},
            ['metadata.labels: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters'],
        ),
        (
            {"labels": {"a": "b c"}},
            [
                (
                    'metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric '
                    "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
                    "'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                )
            ],
        ),
        ({"labels": {"a": "b" * 64}}, [f'metadata.labels: Invalid value: "{"b" * 64}": must be no more than 63 bytes']),
        ({"annotations": {"Example.com/A": "anything: \n"}}, []),
        ({"annotations": {"a b": ""}}, [f'metadata.annotations: Invalid value: "a b": {NOT_QUALIFIED}']),
        (
            {"annotations": {"a": "x" * (256 << 10)}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        ({"ownerReferences": [OWNER, {**OWNER, "uid": "v", "controller": True}]}, []),
        (
            {"ownerReferences": [{}]},
            [
                'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty',
                'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
                'metadata.ownerReferences.name: Invalid value: "": must not be empty',
                'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
            ],
        ),
        (
            {"ownerReferences": [{**OWNER, "apiVersion": "v1", "kind": "Event"}]},
            [
                (
                    'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"r","uid":"u"}: '
                    "/v1, Kind=Event is disallowed from being an owner"
                )
            ],
        ),
        ({"finalizers": ["example.com/a", "orphan"]}, []),
        (
            {"finalizers": ["a"]},
            [
                'metadata.finalizers: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified'
            ],
        ),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            [
                (
                    'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion '
                    "cannot be both set"
                )
            ],
        ),
    ],
)
def test_metadata_of_a_new_object(metadata: dict[str, Any], messages: list[str]) -> None:
    found = errors(config_map(**metadata))
    assert len(found) == len(messages)
    assert all(one.startswith(message) for one, message in zip(found, messages, strict=True))


def test_only_one_owner_is_the_controller() -> None:
    owners = [{**OWNER, "controller": True}, {**OWNER, "uid": "v", "name": "s", "controller": True}]
    (message,) = errors(config_map(ownerReferences=owners))
    assert message.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for r and s'
    )


@pytest.mark.parametrize(
    ("api_version", "kind", "name", "message"),
    [
        ("v1", "Pod", "a.b", ""),
        ("v1", "Pod", "A", NOT_A_SUBDOMAIN),
        ("v1", "Service", "a.b", NOT_A_LABEL_1035),
        ("v1", "Namespace", "a.b", "must not contain dots"),
        ("apps/v1", "StatefulSet", "A", NOT_A_LABEL),
        ("apps/v1", "Deployment", "a.b", ""),
        ("rbac.authorization.k8s.io/v1", "Role", "A:b", ""),
        ("rbac.authorization.k8s.io/v1", "Role", "a/b", "may not contain '/'"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest", "A:b", ""),
        ("networking.k8s.io/v1", "IPAddress", "a", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ],
)
def test_what_a_kind_may_be_called(api_version: str, kind: str, name: str, message: str) -> None:
    rules = kind_of(api_version, kind)
    assert rules.validate
    obj = made(api_version, kind, metadata={"name": name})
    found = [cause.message for cause in rules.validate(obj) if cause.field == "metadata.name"]
    assert found == ([f'Invalid value: "{name}": {message}'] if message else [])


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ({}, {"labels": {"a": "b"}}, []),
        ({}, {"name": "other"}, ['metadata.name: Invalid value: "other": field is immutable']),
        ({}, {"uid": "other"}, ['metadata.uid: Invalid value: "other": field is immutable']),
        ({"generation": 2}, {"generation": 1}, ["metadata.generation: Invalid value: 1: must not be decremented"]),
        (
            {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]},
            {"finalizers": ["a/b", "c/d"]},
            [
                (
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new "
                    'finalizers []string{"c/d"}'
                )
            ],
        ),
    ],
)
def test_what_of_metadata_may_change(old: dict[str, Any], new: dict[str, Any], messages: list[str]) -> None:
    before = config_map(**old)
    after = copy.deepcopy(before)
    after["metadata"] |= new
    assert errors(after, before) == messages
