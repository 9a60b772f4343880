"""A certificate with its key on disk, in one PEM file for each time it was renewed, and a link to the one that counts.

Files have the names of the original: `kubelet-client-2026-01-31-17-05-09.pem` and `kubelet-client-current.pem`, mode
0600; the link is replaced in one step, so that a reader finds either the old or the new.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n?", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN (?:EC |RSA )?PRIVATE KEY-----.*?-----END (?:EC |RSA )?PRIVATE KEY-----\n?", re.DOTALL)


class Pair(NamedTuple):
    """PEM of a certificate, with those of its signers if any, and of its key."""

    certificate: bytes
    key: bytes


class CertificateStore:
    """Pairs of one purpose, such as `kubelet-client`, in a directory."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix

    @property
    def path(self) -> Path:
        """The link: certificate and key."""
        return self._directory / f"{self._prefix}-current.pem"

    def current(self) -> Pair | None:
        """The pair that counts; None where there is none that can be read."""
        try:
            text = self.path.read_bytes()
        except OSError:
            return None
        certificate, key = _CERTIFICATES.search(text), _KEY.search(text)
        return Pair(certificate.group(), key.group()) if certificate and key else None

    def update(self, pair: Pair, now: datetime) -> None:
        """Write a pair, and have it count from now on. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / f"{self._prefix}-{now:%Y-%m-%d-%H-%M-%S}.pem"
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as writer:
            writer.write(pair.certificate.rstrip(b"\n") + b"\n" + pair.key.rstrip(b"\n") + b"\n")
            writer.flush()
            os.fsync(writer.fileno())
        link = self._directory / f".{self._prefix}-current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(file)
        link.replace(self.path)
