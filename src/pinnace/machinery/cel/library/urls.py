"""Kubernetes' `url` functions. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-url-library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import CelError, Opaque

function = Functions()
_PATH_SAFE = "/:@&=+$,;!*'()~-._"


@dataclass(frozen=True)
class Url(Opaque):
    parts: SplitResult
    cel_type: ClassVar[Type] = opaque("kubernetes.URL")


def read_url(text: str) -> Url:
    """An absolute URI or an absolute path. Raises ValueError."""
    if not text or any(ord(letter) < 0x20 or letter == "\x7f" for letter in text) or " " in text.partition("?")[0]:
        raise ValueError("invalid")
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError("invalid URI for request")
    host = parts.netloc.rpartition("@")[2]
    if host.startswith("[") and "]" not in host:
        raise ValueError("missing ']' in host")
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not (port.isascii() and port.isdigit()):
        raise ValueError(f'invalid port ":{port}" after host')
    return Url(parts)


@function("url(string): kubernetes.URL")
def _url(text: str) -> Url:
    try:
        return read_url(text)
    except ValueError:
        raise CelError(
            f'URL parse error during conversion from string: parse "{text}": invalid URI for request'
        ) from None


@function("isURL(string): bool")
def _is_url(text: str) -> bool:
    try:
        read_url(text)
    except ValueError:
        return False
    return True


@function("(kubernetes.URL).getScheme(): string")
def _scheme(url: Url) -> str:
    return url.parts.scheme


@function("(kubernetes.URL).getHost(): string")
def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


@function("(kubernetes.URL).getHostname(): string")
def _hostname(url: Url) -> str:
    host = _host(url)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@function("(kubernetes.URL).getPort(): string")
def _port(url: Url) -> str:
    return _host(url).rpartition("]")[2].rpartition(":")[2] if ":" in _host(url).rpartition("]")[2] else ""


@function("(kubernetes.URL).getEscapedPath(): string")
def _path(url: Url) -> str:
    path = url.parts.path
    return path if "%" in path else quote(unquote(path), safe=_PATH_SAFE)


@function("(kubernetes.URL).getQuery(): map(string, list(string))")
def _query(url: Url) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(url.parts.query, keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found
