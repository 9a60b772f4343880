"""kube-apiserver's flags: what cannot be ends the program with one line, what can reaches the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.apiserver.authentication.flags import OidcFlags
from pinnace.cli import kube_apiserver
from pinnace.cli.apiserver_flags import audit, authentication, authorization

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--audit-log-path", "x", "--audit-log-format", "xml"], "invalid audit log format xml"),
        (["--audit-log-path", "x", "--audit-log-mode", "late"], "invalid audit log mode late"),
        (["--audit-policy-file", "{directory}/empty"], "loading audit policy file"),
        (["--oidc-issuer-url", "https://a"], "oidc-issuer-url and oidc-client-id must be specified together"),
        (["--oidc-required-claim", "x"], '"x" is not CLAIM=VALUE'),
        (["--authentication-config", "{directory}/policy"], 'no kind "Policy" is registered'),
        (["--service-account-max-token-expiration", "1m"], "must be between 1 hour and 2^32 seconds"),
        (["--authorization-mode", "Webhook"], "authorization-mode Webhook's authorization config file not passed"),
        (["--authorization-mode", "ABAC"], "authorization-mode ABAC's authorization policy file not passed"),
        (["--authorization-mode", "RBAC,RBAC"], '"RBAC" is given twice'),
        (["--authorization-policy-file", "{directory}/policy"], "cannot specify --authorization-policy-file without"),
        (
            ["--authorization-config", "{directory}/policy", "--authorization-mode", "RBAC"],
            "can not be specified when --authorization-mode or --authorization-webhook-* flags are specified",
        ),
    ],
)
def test_flags_that_cannot_be_end_the_program_with_the_reason(flags: list[str], why: str, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(POLICY)
    (tmp_path / "empty").write_text("")
    given = ["--cert-dir", str(tmp_path / "certs"), *(flag.format(directory=tmp_path) for flag in flags)]

    ended = CliRunner().invoke(kube_apiserver.command, given)

    assert ended.exit_code != 0
    assert why in ended.output
    assert "Traceback" not in ended.output


def read(section: Any, *given: str) -> dict[str, Any]:
    """What a section makes of its flags."""

    def command(**flags: Any) -> dict[str, Any]:
        found: dict[str, Any] = section.read(flags)
        return found

    made = click.command()(section.options(command))
    result: dict[str, Any] = made.main(list(given), standalone_mode=False)
    return result


def test_the_flags_of_the_audit_log_reach_the_server(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(POLICY)

    found = read(
        audit, "--audit-policy-file", str(policy), "--audit-log-path", "-", "--audit-log-mode=batch",
        "--audit-log-batch-max-wait", "5s", "--audit-log-compress", "--audit-webhook-truncate-enabled",
    )["audit"]  # fmt: skip

    assert (found.policy_file, found.log.path, found.log.compress) == (policy, "-", True)
    assert (found.log.delivery.mode, found.log.delivery.batch_size, found.log.delivery.batch_wait) == ("batch", 1, 5)
    assert (found.webhook.delivery.mode, found.webhook.delivery.truncated) == ("batch", True)
    assert found.webhook.delivery.throttled


def test_the_flags_of_authentication_reach_the_server() -> None:
    found = read(
        authentication, "--service-account-issuer", "https://new", "--service-account-issuer", "https://old",
        "--service-account-max-token-expiration", "24h", "--oidc-issuer-url", "https://login", "--oidc-client-id", "us",
        "--oidc-required-claim", "a=b",
    )  # fmt: skip

    assert (found["service_account_issuer"], found["more_service_account_issuers"]) == ("https://new", ("https://old",))
    assert found["service_account_max_token_expiration"] == 86400
    assert found["oidc"] == OidcFlags(
        issuer_url="https://login", client_id="us", required_claims=(("a", "b"),), signing_algs=("RS256",)
    )
    assert read(authentication)["oidc"] is None


def test_the_flags_of_authorization_reach_the_server() -> None:
    found = read(authorization, "--authorization-mode", "Node,RBAC", "--authorization-webhook-version", "v1")

    assert (found["authorization_modes"], found["authorization_webhook_version"]) == (("Node", "RBAC"), "v1")
