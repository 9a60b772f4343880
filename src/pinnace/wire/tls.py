"""What a server needs to speak TLS: certificate, key, and the authority whose client certificates it believes.

TLS 1.2 is the oldest version spoken. A client certificate is asked for, not demanded; one that the authority did not
sign ends the handshake. Files that change count from the next connection on. Session tickets are off: a resumed session
would carry an identity past its certificate's end.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Paths of PEM files; without `client_ca_file` no client certificate is asked for."""

    cert_file: Path | str
    key_file: Path | str
    client_ca_file: Path | str | None = None
    protocols: tuple[str, ...] = ("h2", "http/1.1")  # offered by ALPN, the best first
    more_client_cas: tuple[Path | str, ...] = ()  # others whose client certificates are believed

    def stamp(self) -> tuple[tuple[int, int] | None, ...]:
        """What differs when one of the files was written or replaced."""
        files = (self.cert_file, self.key_file, self.client_ca_file, *self.more_client_cas)
        return tuple(_stamp(file) for file in files if file is not None)

    def server_context(self) -> ssl.SSLContext:
        """A context for accepted sockets; raises OSError or ssl.SSLError for files that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(self.protocols)
        context.load_cert_chain(self.cert_file, self.key_file)
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
            for file in self.more_client_cas:
                context.load_verify_locations(file)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _stamp(file: Path | str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 # at each connection
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
