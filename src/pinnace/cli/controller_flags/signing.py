"""Flags of what is signed: certificates, and tokens of ServiceAccounts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pinnace.cli.apiserver_flags.section import Decorator, section
from pinnace.cli.values import DURATION, FILE

_SIGNERS = {  # as the flags call them -> signerName
    "kube-apiserver-client": "kubernetes.io/kube-apiserver-client",
    "kubelet-client": "kubernetes.io/kube-apiserver-client-kubelet",
    "kubelet-serving": "kubernetes.io/kubelet-serving",
    "legacy-unknown": "kubernetes.io/legacy-unknown",
}


def _pair(name: str, what: str) -> list[Decorator]:
    return [
        click.option(f"--cluster-signing{name}-cert-file", type=FILE, help=f"Authority that signs {what}."),
        click.option(f"--cluster-signing{name}-key-file", type=FILE, help="Its key."),
    ]


options = section(
    *_pair("", "every request of Kubernetes' own signers"),
    *(one for name, signer in _SIGNERS.items() for one in _pair(f"-{name}", f"requests to {signer}")),
    click.option(
        "--cluster-signing-duration", type=DURATION, default="8760h0m0s", show_default=True,
        help="How long a certificate lives at most.",
    ),
    click.option("--service-account-private-key-file", type=FILE, help="Key that signs the tokens in Secrets."),
)  # fmt: skip


def read(flags: dict[str, Any]) -> dict[str, Any]:
    from pinnace.controllers.certificate_authority import KeyPair

    def pair(name: str) -> KeyPair | None:
        flag = f"cluster_signing{name.replace('-', '_')}"
        cert, key = flags[f"{flag}_cert_file"], flags[f"{flag}_key_file"]
        if (cert is None) != (key is None):
            missing = "cert" if cert is None else "key"
            raise click.BadParameter("needs its twin", param_hint=f"--cluster-signing{name}-{missing}-file")
        return KeyPair(cert.read_bytes(), key.read_bytes()) if cert is not None else None

    default = pair("")
    own = {name: pair(f"-{name}") for name in _SIGNERS}
    if default is not None and any(own.values()):
        why = "cannot be given beside authorities of single signers"
        raise click.BadParameter(why, param_hint="--cluster-signing-cert-file")
    found = {signer: own[name] or default for name, signer in _SIGNERS.items()}
    key_file = flags["service_account_private_key_file"]
    return {
        "signing": {signer: authority for signer, authority in found.items() if authority is not None},
        "signing_duration": timedelta(seconds=flags["cluster_signing_duration"]),
        "service_account_key": key_file.read_bytes() if key_file is not None else b"",
    }
