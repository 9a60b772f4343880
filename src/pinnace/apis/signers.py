"""What the names of certificates' signers look like, and how long the certificates of pods may live.

Specified by https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#signers.
"""

from __future__ import annotations

from pinnace.apis.checks import every
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required

SHORTEST_POD_CERTIFICATE, LONGEST_POD_CERTIFICATE = 3600, 91 * 24 * 3600  # seconds


def signer_errors(signer: str, path: str) -> list[Cause]:
    if not signer:
        return [required(path)]
    domain, slash, rest = signer.partition("/")
    if not slash or not rest or "/" in rest:
        why = 'must be a fully qualified domain and path of the form "example.com/signer-name"'
        return [invalid_value(path, signer, why)]
    return every(path, signer, names.is_fully_qualified_domain(domain))
