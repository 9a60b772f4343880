"""What an image's name says: whether its shape is good, its tag and repository, and the pull policy it has by default.

Pure. Specified by https://kubernetes.io/docs/concepts/containers/images/#image-names.
"""

from __future__ import annotations

import re

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
_NAMED = re.compile(
    rf"(?:{_HOST}(?::\d+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z][\w.+-]*:[0-9a-fA-F]{{32,}})?"
)
_IDENTITY = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


def default_policy(image: str) -> str:
    """`Always` for a `latest` or missing tag, else `IfNotPresent`."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def valid_reference(image: str) -> bool:
    """Whether a reference has the shape that every registry accepts."""
    return _NAMED.fullmatch(image) is not None or _IDENTITY.fullmatch(image) is not None


def with_tag(image: str) -> str:
    """The reference with the tag `latest` where it has neither tag nor digest."""
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return f"{image}:latest"


def repository(image: str) -> str:
    """The reference without tag and digest, in full: `docker.io/library/nginx`."""
    bare = image.partition("@")[0]
    above, slash, last = bare.rpartition("/")
    bare = f"{above}{slash}{last.partition(':')[0]}"
    first, slash, rest = bare.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = "docker.io", bare
    if first in ("docker.io", "index.docker.io"):
        return f"docker.io/{rest if '/' in rest else f'library/{rest}'}"
    return f"{first}/{rest}"
