"""Which hosts have a registry's images, and how they are reached: the `hosts.toml` files of containerd.

`certs.d/DOMAIN[:PORT]/hosts.toml`, or `_default/hosts.toml` for every registry without one of its own; where there is
none, Docker's certificate files of that directory count. Read at every pull, so that changes need no restart.
https://github.com/containerd/containerd/blob/main/docs/hosts.md specifies them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DIRECTORIES = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
"""Those of containerd and of Docker, which other programs write, too; the first that knows a registry counts."""

_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
_CAPABILITIES = frozenset({"pull", "resolve", "push"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class HostsError(Exception):
    """A file that says nothing sensible about a registry; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host that may have images of a registry."""

    url: str  # the root of the API: https://registry.example/v2
    capabilities: frozenset[str] = _CAPABILITIES  # pull: by digest; resolve: by tag, too
    ca: tuple[Path, ...] = ()  # authorities to trust beside the machine's
    client: tuple[tuple[Path, Path | None], ...] = ()  # certificates to show, with their keys
    skip_verify: bool = False
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dial_timeout: float | None = None  # seconds
    proxy: str = ""
    namespace: str = ""  # the registry that it stands for, where it is another

    @property
    def name(self) -> str:
        """Its host and port."""
        return urlsplit(self.url).netloc


def hosts_for(domain: str, directories: Sequence[Path] = DIRECTORIES) -> list[Host]:
    """The hosts to try for a registry, in order. Raises HostsError."""
    underscored = f"{domain.replace(':', '_')}_" if ":" in domain else domain
    for directory in directories:
        for name in dict.fromkeys((underscored, domain, "_default")):
            where = directory / name
            if where.is_dir():
                return _read(domain, where)
    return parse({}, domain, Path())


def _read(domain: str, where: Path) -> list[Host]:
    path = where / "hosts.toml"
    try:
        text = path.read_text()
    except FileNotFoundError:
        return parse(_certificates(where), domain, where)
    except (OSError, UnicodeDecodeError) as error:
        raise HostsError(f"failed to read {path}: {error}") from None
    try:
        return parse(tomllib.loads(text), domain, where)
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError) as error:
        raise HostsError(f"failed to parse {path}: {error}") from None


def _certificates(where: Path) -> dict[str, Any]:
    """What Docker's certificate files say, in the words of hosts.toml."""
    clients = [[str(path), str(path.with_suffix(".key"))] for path in sorted(where.glob("*.cert"))]
    return {"ca": [str(path) for path in sorted(where.glob("*.crt"))], "client": clients}


def parse(document: Mapping[str, Any], domain: str, directory: Path) -> list[Host]:
    """The hosts of a parsed file, the registry's own server last; paths are relative to `directory`.

    Raises ValueError, or another error of Python's for what has the wrong type.
    """
    found = []
    for url, fields in (document.get("host") or {}).items():
        found.append(_host(url, fields, directory))
    found.append(_server(document, domain, directory))
    return [one if is_own(one.name, domain) else replace(one, namespace=domain) for one in found]


def is_own(host: str, domain: str) -> bool:
    """Whether a host is the registry itself, and no mirror of it."""
    return host == domain or (domain == _HUB and host == _HUB_HOST)


def _server(document: Mapping[str, Any], domain: str, directory: Path) -> Host:
    """The registry itself; one of this machine is spoken to without TLS, unless something is said of certificates."""
    if document.get("server"):
        return _host(document["server"], document, directory)
    secured = any(document.get(name) for name in ("ca", "client", "skip_verify"))
    scheme = "http" if _LOCAL.fullmatch(domain) and not secured else "https"
    name = _HUB_HOST if domain == _HUB else domain
    return _host(f"{scheme}://{name}", {**document, "override_path": False}, directory)


def _host(url: str, fields: Mapping[str, Any], directory: Path) -> Host:
    if "://" not in url:
        url = f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"unable to parse server {url!r}")
    path = parts.path.rstrip("/")
    if not (fields.get("override_path") or path.endswith("/v2")):
        path += "/v2"
    capabilities = frozenset(_strings(fields.get("capabilities"))) or _CAPABILITIES
    if unknown := capabilities - _CAPABILITIES:
        raise ValueError(f"unknown capability {sorted(unknown)[0]}")
    return Host(
        url=f"{parts.scheme}://{parts.netloc}{path}",
        capabilities=capabilities,
        ca=tuple(directory / path for path in _strings(fields.get("ca"))),
        client=tuple(_pair(one, directory) for one in _list(fields.get("client"))),
        skip_verify=bool(fields.get("skip_verify")),
        header={name: tuple(_strings(given)) for name, given in (fields.get("header") or {}).items()},
        dial_timeout=_seconds(fields["dial_timeout"]) if fields.get("dial_timeout") else None,
        proxy=str(fields.get("proxy") or ""),
    )


def _list(given: Any) -> list[Any]:
    return [] if given is None else given if isinstance(given, list) else [given]


def _strings(given: Any) -> list[str]:
    found = _list(given)
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{given!r} is neither a string nor a list of strings")
    return found


def _pair(given: Any, directory: Path) -> tuple[Path, Path | None]:
    """A client's certificate and its key, which may be in one file."""
    certificate, *key = _strings(given)
    return directory / certificate, directory / key[0] if key and key[0] else None


def _seconds(given: str) -> float:
    """A Go duration."""
    parts = _DURATION.findall(given)
    if not parts or "".join(number + unit for number, unit in parts) != given:
        raise ValueError(f"invalid duration {given!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
