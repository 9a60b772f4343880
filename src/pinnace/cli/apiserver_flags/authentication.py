"""Flags of who is calling."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import FILE, NAMES, switch

options = section(
    click.option("--client-ca-file", type=FILE, help="Who signs client certificates."),
    click.option("--token-auth-file", type=FILE, help='Bearer tokens: token,user,uid,"group1,group2" a line.'),
    switch("--anonymous-auth", default=True, show_default=True, help="Serve health to anybody."),
    click.option("--service-account-signing-key-file", type=FILE, help="Key that signs service account tokens."),
    click.option("--service-account-key-file", "key_files", type=FILE, multiple=True, help="Keys that verify them."),
    click.option("--service-account-issuer", default="", help="The tokens' issuer, a URL."),
    click.option("--api-audiences", default="", help="Audiences a token may be for, separated by commas."),
    click.option("--requestheader-client-ca-file", type=FILE, help="Who signs certificates of proxies to be believed."),
    click.option(
        "--requestheader-allowed-names", type=NAMES, default="", help="Common names of such proxies.  [default: any]"
    ),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    found = {
        "client_ca_file": flags["client_ca_file"],
        "token_auth_file": flags["token_auth_file"],
        "anonymous_auth": flags["anonymous_auth"],
        "service_account_signing_key_file": flags["service_account_signing_key_file"],
        "service_account_key_files": flags["key_files"],
        "api_audiences": tuple(filter(None, flags["api_audiences"].split(","))),
        "requestheader_client_ca_file": flags["requestheader_client_ca_file"],
        "requestheader_allowed_names": tuple(flags["requestheader_allowed_names"]),
    }
    if flags["service_account_issuer"]:
        found["service_account_issuer"] = flags["service_account_issuer"]
    return found
