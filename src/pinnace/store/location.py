"""Where a store is, as `--etcd-servers` and its companions say it, and how it is opened.

Either `sqlite:///path/of/a/file` or the addresses of an etcd cluster's members. A backend's libraries are loaded only
when it is the one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pinnace.store.contract import Store, StoreError

BACKENDS = ("sqlite", "etcd3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Of `file` and `endpoints` one is given."""

    file: Path | None = None
    endpoints: tuple[str, ...] = ()
    prefix: str = "/registry"  # of keys in etcd
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    text: str = field(default="", compare=False)  # as it was given

    @property
    def backend(self) -> str:
        return "sqlite" if self.file is not None else "etcd3"

    def __str__(self) -> str:
        return self.text

    async def open(self) -> Store:
        """Open it; a SQLite file is made where there is none. Raises StoreError."""
        if self.file is not None:
            from pinnace.store.sqlite import SqliteStore

            return SqliteStore.open(self.file)
        try:
            from pinnace.store.etcd import EtcdStore
            from pinnace.store.etcd_client import TlsFiles
        except ImportError as error:
            raise StoreError(f"etcd needs {error.name}: pip install 'pinnace[etcd]'") from error
        tls = TlsFiles(self.ca_file, self.cert_file, self.key_file)
        return await EtcdStore.open(self.endpoints, prefix=self.prefix, tls=tls)


def parse_location(
    servers: str,
    prefix: str = "/registry",
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> Location:
    """Read `sqlite:///path` or `http(s)://host:port,…`. Raises ValueError that says what is wrong."""
    scheme, _, path = servers.partition("://")
    if scheme == "sqlite":
        if not path:
            raise ValueError(f'"{servers}" lacks the path of a file')
        return Location(file=Path(path), text=servers)
    endpoints = tuple(filter(None, servers.split(",")))
    for endpoint in endpoints:
        scheme, _, target = endpoint.partition("://")
        if scheme not in ("http", "https") or not target or "/" in target.rstrip("/"):
            raise ValueError(f'"{endpoint}" is neither sqlite:///path/of/a/file nor http(s)://host:port of an etcd')
    if not endpoints:
        raise ValueError("no servers are given")
    if not prefix.startswith("/"):
        raise ValueError(f'the prefix "{prefix}" does not start with a slash')
    if bool(cert_file) != bool(key_file):
        raise ValueError("a client certificate and its key are given both or none")
    return Location(
        endpoints=tuple(endpoint.rstrip("/") for endpoint in endpoints),
        prefix=prefix,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        text=servers,
    )
