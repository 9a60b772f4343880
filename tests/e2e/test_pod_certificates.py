"""Pods get keys and certificates from whatever signs for them, and trust each other by these."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509

from tests.e2e.authority import Authority
from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_inside import shell
from tests.e2e.test_pod_life import create
from tests.e2e.test_pod_network import on_host_programs

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SIGNER = "test.example.com/pods"
BUNDLE = "test.example.com:pods:live"


def certified(name: str, script: str = SLEEP, **certificate: object) -> Obj:
    """A pod with key and certificate in /creds/bundle.pem, and whom to trust in /creds/ca.pem."""
    asked = {"signerName": SIGNER, "keyType": "ED25519", "credentialBundlePath": "bundle.pem", **certificate}
    trusted = {"name": BUNDLE, "path": "ca.pem", "optional": True}
    projected = {"sources": [{"podCertificate": asked}, {"clusterTrustBundle": trusted}]}
    mounts = [{"name": "creds", "mountPath": "/creds"}]
    return pod(name, container("c", script, volumeMounts=mounts), volumes=[{"name": "creds", "projected": projected}])


def certificate_of(cluster: Cluster, namespace: str, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(shell(cluster, namespace, name, "cat /creds/bundle.pem").encode())


def test_certificates_say_what_was_asked_for(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Projected PodCertificate Default Expiration", "Projected PodCertificate Custom Expiration",
    "Projected PodCertificate UserAnnotations"
    """
    authority = Authority("pods", SIGNER)
    path = "ns/custom/sa/one"
    noted = certified("noted", userAnnotations={"example.com/path": path})
    asked = {
        "plain": (certified("plain"), timedelta(hours=24), "default"),
        "short": (certified("short", maxExpirationSeconds=3600), timedelta(hours=1), "default"),
        "noted": (noted, timedelta(hours=24), path),
    }
    create(cluster, namespace, *(one for one, _, _ in asked.values()))
    authority.sign(cluster, namespace, len(asked))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod", *asked, "--timeout=60s")
    for name, (_, life, path) in asked.items():
        found = certificate_of(cluster, namespace, name)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert found.not_valid_after_utc - found.not_valid_before_utc == life
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://cluster.local/{path}"]


def test_lives_that_are_too_short_or_too_long_are_refused(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Projected PodCertificate Expiration Maximum Validation", "Projected PodCertificate Expiration
    Minimum Validation"
    """
    for seconds, limit in ((91 * 24 * 3600 + 1, "<= 7862400"), (3599, ">= 3600")):
        wrong = json.dumps(certified("wrong", maxExpirationSeconds=seconds))
        refused = cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=wrong, check=False)
        assert refused.returncode == 1
        assert f"if provided, maxExpirationSeconds must be {limit}" in refused.stderr


def test_pods_prove_to_each_other_who_they_are(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Projected PodCertificate mTLS Connection" """
    authority = Authority("pods", SIGNER)
    same = "-cert /creds/bundle.pem -key /creds/bundle.pem -CAfile /creds/ca.pem -verify_return_error"
    serve = f"export OPENSSL_CONF=/dev/null; exec openssl s_server -accept 8443 {same} -Verify 2 -www"
    create(cluster, namespace, authority.bundle(BUNDLE))
    try:
        server, client = certified("server", serve), certified("client")
        create(cluster, namespace, *map(on_host_programs, (server, client)))
        authority.sign(cluster, namespace, 2)
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=60s")
        address = cluster.json("-n", namespace, "get", "pod", "server")["status"]["podIP"]
        ask = (
            "export OPENSSL_CONF=/dev/null; for i in $(seq 50); do "
            f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect {address}:8443 {{}} -quiet 2>&1 && break;"
            " sleep 0.1; done"
        )
        said = shell(cluster, namespace, "client", ask.format(same))
        assert "verify return:1" in said
        assert "HTTP/1.0 200 ok" in said
        stranger = ask.format("-CAfile /creds/ca.pem -verify_return_error").replace("seq 50", "seq 1")
        assert "HTTP/1.0 200 ok" not in shell(cluster, namespace, "client", stranger)
    finally:
        cluster.kubectl("delete", "clustertrustbundle", BUNDLE)
