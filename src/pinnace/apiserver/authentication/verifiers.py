"""Who knows bearer tokens beside the service accounts: what the flags ask for, in the order of being asked."""

from __future__ import annotations

from contextlib import AsyncExitStack

from pinnace.apiserver.authn import Anonymous, TokenVerifier
from pinnace.apiserver.options import Options
from pinnace.apiserver.storage import Storage


def more_verifiers(
    options: Options, storage: Storage, closing: AsyncExitStack
) -> tuple[list[TokenVerifier], Anonymous]:
    """Them, and where one may be anonymous. Raises ValueError for files that cannot be used."""
    found: list[TokenVerifier] = []
    anonymous = Anonymous(options.anonymous_auth)
    if options.enable_bootstrap_token_auth:
        from pinnace.apiserver.authentication.bootstrap_tokens import BootstrapTokens

        found.append(BootstrapTokens(storage))
    if options.authentication_config is not None or options.oidc is not None:
        from pinnace.apiserver.authentication.configuration import authentication
        from pinnace.apiserver.authentication.issuer import Issuer

        said = authentication(options)
        anonymous = said.anonymous or anonymous
        found += [Issuer(issuer) for issuer in said.issuers]
    if options.authentication_token_webhook_config_file is not None:
        from pinnace.apiserver.authentication.token_webhook import TokenWebhook

        webhook = TokenWebhook(
            options.authentication_token_webhook_config_file,
            options.authentication_token_webhook_version,
            options.authentication_token_webhook_cache_ttl,
            options.audiences,
        )
        closing.push_async_callback(webhook.close)
        found.append(webhook)
    return found, anonymous
