"""What a server needs to speak TLS: certificate, key, and the authority whose client certificates it believes.

TLS 1.2 is the oldest version spoken. A client certificate is asked for, not demanded; one that the authority did not
sign ends the handshake. Session tickets are off: a resumed session would carry an identity past its certificate's end.
"""

from __future__ import annotations

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
