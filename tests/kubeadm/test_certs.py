"""The PKI: made once, kept while good, renewed when not, refused when damaged."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pinnace.kubeadm.certs import ClusterNames, ensure_certificates
from pinnace.kubeadm.pki import PkiError, load_certificate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTER = ClusterNames("node-1", "192.168.49.1", "10.96.0.0/16")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_makes_every_certificate_that_kubeadm_makes(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)

    made = {file.name for file in tmp_path.iterdir()}
    assert made >= {"ca.crt", "ca.key", "apiserver.crt", "apiserver-kubelet-client.crt", "front-proxy-ca.crt"}
    assert made >= {"front-proxy-client.crt", "sa.key", "sa.pub", "admin.crt", "scheduler.crt", "kubelet-client.crt"}


def test_the_api_server_answers_to_every_name_a_client_may_use(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)

    names = (
        load_certificate(tmp_path / "apiserver.crt")
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.96.0.1", "127.0.0.1", "::1", "192.168.49.1"}
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)


def test_the_kubelet_is_its_node_and_the_admin_is_a_master(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)

    assert load_certificate(tmp_path / "kubelet-client.crt").subject.rfc4514_string() == (
        "CN=system:node:node-1,O=system:nodes"
    )
    assert load_certificate(tmp_path / "admin.crt").subject.rfc4514_string() == (
        "CN=kubernetes-super-admin,O=system:masters"
    )


def test_private_keys_are_for_the_owner_alone(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)

    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("*.key")} == {0o600}


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)
    before = contents(tmp_path)

    ensure_certificates(tmp_path, CLUSTER, NOW + timedelta(days=30))

    assert contents(tmp_path) == before


def test_a_new_name_renews_the_leaf_and_keeps_the_authority(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)
    before = contents(tmp_path)

    ensure_certificates(tmp_path, ClusterNames("node-1", "192.168.58.1", "10.96.0.0/16"), NOW)

    after = contents(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"apiserver.crt", "apiserver.key", "kubelet.crt", "kubelet.key"}


def test_a_leaf_that_expires_soon_is_renewed(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)

    ensure_certificates(tmp_path, CLUSTER, NOW + timedelta(days=1080))

    assert load_certificate(tmp_path / "admin.crt").not_valid_after_utc > NOW + timedelta(days=2000)


def test_a_lost_key_of_the_authority_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)
    (tmp_path / "ca.key").unlink()
    before = contents(tmp_path)

    with pytest.raises(PkiError, match=r"ca\.key is missing while .*ca\.crt exists"):
        ensure_certificates(tmp_path, CLUSTER, NOW)

    assert contents(tmp_path) == before


def test_a_damaged_certificate_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, CLUSTER, NOW)
    (tmp_path / "ca.crt").write_text("not a certificate")

    with pytest.raises(PkiError, match=r"ca\.crt is not a readable certificate"):
        ensure_certificates(tmp_path, CLUSTER, NOW)
