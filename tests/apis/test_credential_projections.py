"""What the API server says of projected trust bundles and pod certificates that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core.volumes import validate_volumes

KEYS = '"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"'
SECONDS = "podCertificate.maxExpirationSeconds: Invalid value:"
MUST_BE = "if provided, maxExpirationSeconds must be"
NO_PATH = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
CERTIFICATE: dict[str, Any] = {"signerName": "example.com/x", "keyType": "ED25519", "credentialBundlePath": "both.pem"}
BUNDLE: dict[str, Any] = {"name": "example.com:x:live", "path": "ca.pem"}


def causes(kind: str, source: dict[str, Any]) -> list[str]:
    volume = {"name": "v", "projected": {"sources": [{kind: source}]}}
    errors, _ = validate_volumes([volume], "spec.volumes")
    return [f"{one.field.removeprefix('spec.volumes[0].projected.sources[0].')}: {one.message}" for one in errors]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"maxExpirationSeconds": 3600}, []),
        (
            {"maxExpirationSeconds": 3599},
            [f"{SECONDS} 3599: {MUST_BE} >= 3600"],
        ),
        (
            {"maxExpirationSeconds": 7862401},
            [f"{SECONDS} 7862401: {MUST_BE} <= 7862400"],
        ),
        (
            {"signerName": "kubernetes.io/x", "maxExpirationSeconds": 86401},
            [f"{SECONDS} 86401: {MUST_BE} <= 86400"],
        ),
        ({"keyType": "DSA"}, [f'podCertificate.keyType: Unsupported value: "DSA": supported values: {KEYS}']),
        ({"signerName": ""}, ["podCertificate.signerName: Required value"]),
        (
            {"credentialBundlePath": ""},
            [f"podCertificate: Required value: {NO_PATH}"],
        ),
        ({"keyPath": "../x"}, ["podCertificate.keyPath: Invalid value: \"../x\": must not contain '..'"]),
    ],
)
def test_pod_certificates(change: dict[str, Any], wrong: list[str]) -> None:
    assert causes("podCertificate", {**CERTIFICATE, **change}) == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        (BUNDLE, []),
        ({"signerName": "example.com/x", "labelSelector": {}, "path": "ca.pem"}, []),
        ({"path": "ca.pem"}, ["clusterTrustBundle: Required value: either name or signerName must be specified"]),
        ({"name": "", "path": "ca.pem"}, ["clusterTrustBundle.name: Required value: must be a valid object name"]),
        ({"name": "x"}, ["clusterTrustBundle.path: Required value"]),
        (
            {**BUNDLE, "labelSelector": {}},
            ["clusterTrustBundle.labelSelector: Invalid value: {}: labelSelector must be unset if name is specified"],
        ),
        (
            {"signerName": "", "path": "ca.pem"},
            ["clusterTrustBundle.signerName: Required value: must be a valid signer name"],
        ),
    ],
)
def test_trust_bundles(source: dict[str, Any], wrong: list[str]) -> None:
    assert causes("clusterTrustBundle", source) == wrong


def test_two_sources_do_not_write_one_file() -> None:
    sources = [{"clusterTrustBundle": BUNDLE}, {"podCertificate": {**CERTIFICATE, "keyPath": "ca.pem"}}]
    errors, _ = validate_volumes([{"name": "v", "projected": {"sources": sources}}], "spec.volumes")
    assert [one.message.rpartition(": ")[0].rpartition(": ")[2] for one in errors] == ["conflicting duplicate paths"]
