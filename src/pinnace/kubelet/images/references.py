"""What an image's name says: whether its shape is good, its tag and repository, and the pull policy it has by default.

Pure. Specified by https://kubernetes.io/docs/concepts/containers/images/#image-names.
"""

from __future__ import annotations

from pinnace.cri.engine.images.reference import InvalidReferenceError, parse


def default_policy(image: str) -> str:
    """`Always` for a `latest` or missing tag, else `IfNotPresent`."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def problem(image: str) -> str:
    """Why no registry accepts a reference; empty where nothing is wrong with it."""
    try:
        parse(image)
    except InvalidReferenceError as error:
        return error.why
    return ""


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
