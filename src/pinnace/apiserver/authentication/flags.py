"""The `--oidc-*` flags as data.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#configuring-the-api-server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcFlags:
    issuer_url: str = ""
    client_id: str = ""
    ca_file: Path | None = None  # who signs the issuer's certificate
    username_claim: str = "sub"
    username_prefix: str = ""  # the issuer's URL and # where empty, unless the claim is email; "-" for none
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: tuple[tuple[str, str], ...] = ()
    signing_algs: tuple[str, ...] = ("RS256",)
