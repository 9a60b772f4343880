"""AuthenticationConfiguration: issuers of tokens, what makes their claims a user, and where one may be anonymous.

The `--oidc-*` flags are the same for one issuer. https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/
and https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pinnace.apiserver.authentication.claims import ASYMMETRIC, Rules, compile_rules
from pinnace.apiserver.authentication.flags import OidcFlags
from pinnace.apiserver.authn import Anonymous
from pinnace.apiserver.configuration import ConfigurationError, Shape, read_configuration, refuse
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required, too_many
from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    from pinnace.apiserver.options import Options

MOST_ISSUERS = 64

_PREFIXED: Shape = {"claim": str, "prefix": str, "expression": str}
_MAPPINGS: Shape = {
    "username": _PREFIXED,
    "groups": _PREFIXED,
    "uid": {"claim": str, "expression": str},
    "extra": [{"key": str, "valueExpression": str}],
}
_ISSUER: Shape = {
    "url": str,
    "discoveryURL": str,
    "certificateAuthority": str,
    "audiences": [str],
    "audienceMatchPolicy": str,
    "egressSelectorType": str,
}
_JWT: Shape = {
    "issuer": _ISSUER,
    "claimValidationRules": [{"claim": str, "requiredValue": str, "expression": str, "message": str}],
    "claimMappings": _MAPPINGS,
    "userValidationRules": [{"expression": str, "message": str}],
}
_SHAPE: Shape = {"jwt": [_JWT], "anonymous": {"enabled": bool, "conditions": [{"path": str}]}}
_KINDS = {
    (f"apiserver.config.k8s.io/{version}", "AuthenticationConfiguration"): _SHAPE
    for version in ("v1", "v1beta1", "v1alpha1")
}


@dataclass(slots=True)
class IssuerOptions:
    """One issuer and what its tokens must be."""

    url: str
    audiences: tuple[str, ...]
    rules: Rules
    discovery_url: str = ""
    authority: str = ""  # PEM of who signs its certificate; the machine's own where empty
    algorithms: tuple[str, ...] = ASYMMETRIC


@dataclass(slots=True)
class Authentication:
    issuers: Sequence[IssuerOptions] = ()
    anonymous: Anonymous | None = None  # None: as `--anonymous-auth` says


def load_authentication(path: Path, disallowed: Sequence[str]) -> Authentication:
    """What a file says; `disallowed` are the issuers of service account tokens. Raises ConfigurationError."""
    return authentication_of(read_configuration(path, _KINDS), disallowed)


def authentication_of(document: Obj, disallowed: Sequence[str] = ()) -> Authentication:
    """What a document says. Raises ConfigurationError."""
    causes: list[Cause] = []
    found = []
    entries = document.get("jwt") or ()
    if len(entries) > MOST_ISSUERS:
        causes.append(too_many("jwt", len(entries), MOST_ISSUERS))
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        path, issuer = f"jwt[{index}]", (entry or {}).get("issuer") or {}
        causes += _validate_issuer(issuer, f"{path}.issuer", disallowed)
        for name in ("url", "discoveryURL"):
            url = issuer.get(name)
            if url and url in seen:
                causes.append(duplicate(f"{path}.issuer.{name}", url))
            seen.add(url or "")
        rules, wrong = compile_rules(entry or {}, path)
        causes += wrong
        audiences = tuple(issuer.get("audiences") or ())
        found.append(
            IssuerOptions(
                issuer.get("url") or "",
                audiences,
                rules,
                issuer.get("discoveryURL") or "",
                issuer.get("certificateAuthority") or "",
            )
        )
    refuse(causes)
    return Authentication(found, _anonymous(document.get("anonymous")))


def _anonymous(said: Obj | None) -> Anonymous | None:
    if said is None:
        return None
    conditions = said.get("conditions") or ()
    enabled = bool(said.get("enabled"))
    if conditions and not enabled:
        why = "enabled should be set to true when conditions are defined"
        refuse([invalid_value("anonymous.conditions", conditions, why)])
    paths = frozenset(each.get("path") or "" for each in conditions)
    return Anonymous(enabled, paths if conditions else None)


def _validate_issuer(issuer: Obj, path: str, disallowed: Sequence[str]) -> list[Cause]:
    url, discovery = issuer.get("url") or "", issuer.get("discoveryURL") or ""
    if not url:
        causes = [required(f"{path}.url", "URL is required")]
    else:
        causes = _validate_url(url, f"{path}.url")
        if url in disallowed:
            why = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(disallowed))}]"
            causes.append(invalid_value(f"{path}.url", url, why))
    if discovery:
        causes += _validate_url(discovery, f"{path}.discoveryURL")
        if discovery == url:
            causes.append(invalid_value(f"{path}.discoveryURL", discovery, "discoveryURL must be different from URL"))
    causes += _validate_audiences(issuer, path)
    authority = issuer.get("certificateAuthority")
    if authority:
        import ssl

        try:
            ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError):
            why = "data does not contain any valid RSA or ECDSA certificates"
            causes.append(invalid_value(f"{path}.certificateAuthority", "<omitted>", why))
    return causes


def _validate_audiences(issuer: Obj, path: str) -> list[Cause]:
    audiences, policy = issuer.get("audiences") or (), issuer.get("audienceMatchPolicy") or ""
    where, causes = f"{path}.audiences", []
    if not audiences:
        causes.append(required(where, f"at least one {where} is required"))
    for index, audience in enumerate(audiences):
        if not audience:
            causes.append(required(f"{where}[{index}]", "audience can't be empty"))
        if audience in audiences[:index]:
            causes.append(duplicate(f"{where}[{index}]", audience))
    if len(audiences) > 1 and policy != "MatchAny":
        why = "audienceMatchPolicy must be MatchAny for multiple audiences"
        causes.append(invalid_value(f"{path}.audienceMatchPolicy", policy, why))
    if len(audiences) <= 1 and policy not in ("", "MatchAny"):
        why = "audienceMatchPolicy must be empty or MatchAny for single audience"
        causes.append(invalid_value(f"{path}.audienceMatchPolicy", policy, why))
    return causes


def _validate_url(url: str, path: str) -> list[Cause]:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [invalid_value(path, url, str(error))]
    wrong = (
        (parts.scheme != "https", "URL scheme must be https"),
        (parts.username is not None, "URL must not contain a username or password"),
        (bool(parts.query), "URL must not contain a query"),
        (bool(parts.fragment), "URL must not contain a fragment"),
    )
    return [invalid_value(path, url, why) for is_so, why in wrong if is_so]


def authentication(options: Options) -> Authentication:
    """What the flags ask for. Raises ConfigurationError."""
    disallowed = options.issuers
    if options.authentication_config is None:
        issuer = issuer_of(options.oidc, disallowed) if options.oidc is not None else None
        return Authentication([issuer] if issuer is not None else [])
    if options.oidc is not None:
        raise ConfigurationError("authentication-config file and oidc-* flags are mutually exclusive")
    return load_authentication(options.authentication_config, disallowed)


def issuer_of(flags: OidcFlags, disallowed: Sequence[str] = ()) -> IssuerOptions | None:
    """The issuer that the flags name, if they do. Raises ConfigurationError."""
    if not flags.issuer_url and not flags.client_id:
        if flags != OidcFlags():
            raise ConfigurationError(_TOGETHER)
        return None
    if not flags.issuer_url or not flags.client_id:
        raise ConfigurationError(_TOGETHER)
    for algorithm in flags.signing_algs:
        if algorithm not in ASYMMETRIC:
            raise ConfigurationError(f'oidc: unsupported signing alg: "{algorithm}"')
    prefix = flags.username_prefix
    if not prefix and flags.username_claim != "email":
        prefix = flags.issuer_url + "#"
    mappings: dict[str, Any] = {"username": {"claim": flags.username_claim, "prefix": "" if prefix == "-" else prefix}}
    if flags.groups_claim:
        mappings["groups"] = {"claim": flags.groups_claim, "prefix": flags.groups_prefix}
    issuer: Obj = {"url": flags.issuer_url, "audiences": [flags.client_id]}
    if flags.ca_file is not None:
        issuer["certificateAuthority"] = flags.ca_file.read_text()
    entry = {
        "issuer": issuer,
        "claimMappings": mappings,
        "claimValidationRules": [{"claim": name, "requiredValue": value} for name, value in flags.required_claims],
    }
    found = authentication_of({"jwt": [entry]}, disallowed).issuers[0]
    found.algorithms = flags.signing_algs
    return found


_TOGETHER = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
