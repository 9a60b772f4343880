"""Image references as Docker and containerd read them: `busybox` is `docker.io/library/busybox:latest`.

Pure. The grammar is that of https://github.com/distribution/reference; a name with both a tag and a digest is
known by its digest, as containerd keeps it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_DOMAIN = "docker.io"

_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 255


class InvalidReferenceError(ValueError):
    """A name no image can have; the text is the kubelet's."""

    def __init__(self, name: str, why: str = "invalid reference format") -> None:
        super().__init__(f'couldn\'t parse image name "{name}": {why}')
        self.why = why


@dataclass(frozen=True, slots=True)
class Reference:
    """A fully qualified reference; either a tag or a digest."""

    domain: str  # docker.io, registry.k8s.io, localhost:5000
    path: str  # library/busybox
    tag: str  # empty where a digest is given
    digest: str  # sha256:<64 hex digits>, or empty

    @property
    def repository(self) -> str:
        """`docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest or the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


def _split_domain(name: str) -> tuple[str, str]:
    """The registry and the rest; Docker Hub, and its `library`, where none is named."""
    first, slash, rest = name.partition("/")
    names_a_host = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not slash or not names_a_host:
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def parse(text: str) -> Reference:
    """The fully qualified reference of what a user wrote; `InvalidReferenceError` where it is none."""
    if _HEX64.fullmatch(text):
        raise InvalidReferenceError(
            text, f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    name, at, digest = text.partition("@")
    domain, path = _split_domain(name)
    path, colon, tag = path.partition(":")
    if path != path.lower():
        raise InvalidReferenceError(text, f"invalid reference format: repository name ({path}) must be lowercase")
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
        raise InvalidReferenceError(text)
    if (colon and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        raise InvalidReferenceError(text)
    if at and not _SHA256.fullmatch(digest):
        raise InvalidReferenceError(text, "unsupported digest algorithm")
    if len(domain) + 1 + len(path) > _MAX_NAME:
        raise InvalidReferenceError(text, "repository name must not be more than 255 characters")
    return Reference(domain, path, "" if at else tag or "latest", digest)


def is_image_id(text: str) -> bool:
    """Whether `text` names an image by the digest of its config: `sha256:<64 hex digits>` or the digits alone."""
    return bool(_SHA256.fullmatch(text) or _HEX64.fullmatch(text))
