"""Flags of who is calling."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import DURATION, FILE, NAMES, switch

options = section(
    click.option("--client-ca-file", type=FILE, help="Who signs client certificates."),
    click.option("--token-auth-file", type=FILE, help='Bearer tokens: token,user,uid,"group1,group2" a line.'),
    switch("--anonymous-auth", default=True, show_default=True, help="Serve health to anybody."),
    click.option("--authentication-config", type=FILE, help="An AuthenticationConfiguration: issuers of tokens."),
    click.option("--oidc-issuer-url", default="", help="An OpenID Connect issuer, an https URL."),
    click.option("--oidc-client-id", default="", help="The audience that its tokens must be for."),
    click.option("--oidc-ca-file", type=FILE, help="Who signs its certificate.  [default: who the machine trusts]"),
    click.option("--oidc-username-claim", default="sub", show_default=True, help="Claim that is the user's name."),
    click.option(
        "--oidc-username-prefix", default="", help="Before the name; - for none.  [default: the issuer and #]"
    ),
    click.option("--oidc-groups-claim", default="", help="Claim that names the user's groups."),
    click.option("--oidc-groups-prefix", default="", help="Before each group."),
    click.option("--oidc-required-claim", multiple=True, metavar="CLAIM=VALUE", help="What a token must say."),
    click.option("--oidc-signing-algs", type=NAMES, default="RS256", show_default=True, help="How it may be signed."),
    click.option(
        "--authentication-token-webhook-config-file", type=FILE, help="Kubeconfig of a server that knows tokens."
    ),
    click.option(
        "--authentication-token-webhook-cache-ttl",
        type=DURATION,
        default="2m",
        show_default=True,
        help="How long its answers count.",
    ),
    click.option(
        "--authentication-token-webhook-version",
        type=click.Choice(("v1", "v1beta1")),
        default="v1beta1",
        show_default=True,
        help="Of the TokenReviews it is sent.",
    ),
    switch("--enable-bootstrap-token-auth", default=False, show_default=True, help="Believe bootstrap tokens."),
    click.option("--service-account-signing-key-file", type=FILE, help="Key that signs service account tokens."),
    click.option("--service-account-key-file", "key_files", type=FILE, multiple=True, help="Keys that verify them."),
    click.option(
        "--service-account-issuer",
        multiple=True,
        help="The tokens' issuer, a URL; tokens of the further ones, if there are any, hold too.",
    ),
    switch(
        "--service-account-lookup", default=True, show_default=True, help="A token holds while its account is there."
    ),
    click.option(
        "--service-account-max-token-expiration", type=DURATION, default="0s", help="Longest life of a token."
    ),
    switch(
        "--service-account-extend-token-expiration",
        default=True,
        show_default=True,
        help="Pods' tokens are good for a year; use after the hour is noted in the audit log.",
    ),
    click.option("--api-audiences", default="", help="Audiences a token may be for, separated by commas."),
    click.option("--requestheader-client-ca-file", type=FILE, help="Who signs certificates of proxies to be believed."),
    click.option(
        "--requestheader-allowed-names", type=NAMES, default="", help="Common names of such proxies.  [default: any]"
    ),
    *(
        click.option(f"--requestheader-{name}", type=NAMES, default=default, show_default=True, help=words)
        for name, default, words in (
            ("username-headers", "X-Remote-User", "Headers in which they name who asks."),
            ("uid-headers", "X-Remote-Uid", "Headers in which they tell the UID."),
            ("group-headers", "X-Remote-Group", "Headers in which they name groups."),
            ("extra-headers-prefix", "X-Remote-Extra-", "What headers begin with that tell more."),
        )
    ),
)

_REQUEST_HEADERS = (
    "requestheader_allowed_names",
    "requestheader_username_headers",
    "requestheader_uid_headers",
    "requestheader_group_headers",
    "requestheader_extra_headers_prefix",
)
_AS_THEY_ARE = (
    "client_ca_file",
    "token_auth_file",
    "anonymous_auth",
    "authentication_config",
    "authentication_token_webhook_config_file",
    "authentication_token_webhook_cache_ttl",
    "authentication_token_webhook_version",
    "enable_bootstrap_token_auth",
    "service_account_signing_key_file",
    "service_account_lookup",
    "service_account_extend_token_expiration",
    "requestheader_client_ca_file",
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    longest = flags["service_account_max_token_expiration"]
    if longest and not 3600 <= longest <= 1 << 32:
        why = "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"
        raise click.BadParameter(why, param_hint="--service-account-max-token-expiration")
    found = {name: flags[name] for name in _AS_THEY_ARE} | {
        "oidc": _oidc(flags),
        "service_account_key_files": flags["key_files"],
        "service_account_max_token_expiration": int(longest),
        "api_audiences": tuple(filter(None, flags["api_audiences"].split(","))),
        **{name: tuple(flags[name]) for name in _REQUEST_HEADERS},
    }
    issuers = tuple(filter(None, flags["service_account_issuer"]))
    if issuers:
        found["service_account_issuer"], found["more_service_account_issuers"] = issuers[0], issuers[1:]
    return found


def _oidc(flags: dict[str, Any]) -> Any:
    """What the `--oidc-*` flags say, None where none of them is given."""
    from pinnace.apiserver.authentication.flags import OidcFlags

    required = []
    for text in flags["oidc_required_claim"]:
        claim, equals, value = text.partition("=")
        if not equals or not claim:
            raise click.BadParameter(f'"{text}" is not CLAIM=VALUE', param_hint="--oidc-required-claim")
        required.append((claim, value))
    names = ("issuer_url", "client_id", "ca_file", "username_claim", "username_prefix", "groups_claim", "groups_prefix")
    found = OidcFlags(
        **{name: flags[f"oidc_{name}"] for name in names},
        required_claims=tuple(required),
        signing_algs=tuple(flags["oidc_signing_algs"]),
    )
    return found if found != OidcFlags() else None
