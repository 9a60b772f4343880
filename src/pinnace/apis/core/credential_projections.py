"""The rules for projected sources that bring credentials: trust bundles and pod certificates.

Specified by https://kubernetes.io/docs/concepts/storage/projected-volumes/.
"""

from __future__ import annotations

from pinnace.apis.checks import every
from pinnace.apis.signers import LONGEST_POD_CERTIFICATE, SHORTEST_POD_CERTIFICATE, signer_errors
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
CERTIFICATE_PATHS = ("credentialBundlePath", "keyPath", "certificateChainPath")
_KUBERNETES_SECONDS = 24 * 3600  # the longest life of what signers of kubernetes.io make


def validate_trust_bundle(settings: Obj, path: str) -> list[Cause]:
    """Of a `clusterTrustBundle` source, but for its path."""
    name, signer = settings.get("name"), settings.get("signerName")
    if name is not None and signer is not None:
        return [invalid_value(path, settings, "only one of name and signerName may be used")]
    if name is not None:
        return _named(settings, name, path)
    if signer is None:
        return [required(path, "either name or signerName must be specified")]
    if not signer:
        return [required(f"{path}.signerName", "must be a valid signer name")]
    errors = signer_errors(signer, f"{path}.signerName")
    return errors + label_selector_errors(settings.get("labelSelector"), f"{path}.labelSelector")


def _named(settings: Obj, name: str, path: str) -> list[Cause]:
    if not name:
        return [required(f"{path}.name", "must be a valid object name")]
    errors = every(f"{path}.name", name, names.is_dns_subdomain(name.rpartition(":")[2]))
    selector = settings.get("labelSelector")
    if selector is not None:
        why = "labelSelector must be unset if name is specified"
        errors.append(invalid_value(f"{path}.labelSelector", selector, why))
    return errors


def validate_pod_certificate(settings: Obj, path: str) -> list[Cause]:
    """Of a `podCertificate` source, but for its paths."""
    signer, key_type = settings.get("signerName") or "", settings.get("keyType") or ""
    errors = signer_errors(signer, f"{path}.signerName")
    if key_type not in KEY_TYPES:
        errors.append(not_supported(f"{path}.keyType", key_type, KEY_TYPES))
    longest = _KUBERNETES_SECONDS if signer.startswith("kubernetes.io/") else LONGEST_POD_CERTIFICATE
    seconds, at = settings.get("maxExpirationSeconds"), f"{path}.maxExpirationSeconds"
    if seconds is not None and seconds < SHORTEST_POD_CERTIFICATE:
        why = f"if provided, maxExpirationSeconds must be >= {SHORTEST_POD_CERTIFICATE}"
        errors.append(invalid_value(at, seconds, why))
    if seconds is not None and seconds > longest:
        errors.append(invalid_value(at, seconds, f"if provided, maxExpirationSeconds must be <= {longest}"))
    if not any(settings.get(key) for key in CERTIFICATE_PATHS):
        errors.append(required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
    return errors
