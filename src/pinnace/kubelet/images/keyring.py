"""Which credentials fit an image: those of pull secrets and plugins, by the pattern of registry and path they are for.

Pure. Specified by https://kubernetes.io/docs/concepts/containers/images/#config-json.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import orjson
import structlog

from pinnace.cri.api import AuthConfig
from pinnace.machinery.meta import Obj, name_of, namespace_of, uid_of

_log = structlog.get_logger()

_DEFAULT_REGISTRY = "index.docker.io"
_HUB = ("docker.io", _DEFAULT_REGISTRY)


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that a credential was found by."""

    kind: Literal["Secret", "ServiceAccount"]
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a registry is shown; `owner` is None for what every pod of the node may use."""

    auth: AuthConfig
    owner: Owner | None = None

    @property
    def hash(self) -> str:
        """Equal for credentials that say the same."""
        said = {one.name: getattr(self.auth, one.name) for one in fields(self.auth) if getattr(self.auth, one.name)}
        return hashlib.sha256(orjson.dumps(said)).hexdigest()


Known = dict[str, list[Credential]]
"""Pattern of registry and path -> what is shown there."""


def of_secrets(secrets: Iterable[Obj]) -> Known:
    """The credentials of pull secrets; one that cannot be read is left out."""
    found: Known = {}
    for secret in secrets:
        owner = Owner("Secret", namespace_of(secret), name_of(secret), uid_of(secret))
        try:
            for registry, entry in _entries(secret.get("data") or {}).items():
                found.setdefault(_pattern(registry), []).append(Credential(_auth(entry, registry), owner))
        except (ValueError, AttributeError, TypeError):
            _log.warning("pull secret cannot be read", secret=name_of(secret))
    return found


def merged(all_known: Iterable[Known]) -> Known:
    """What all of them hold, earlier ones first."""
    found: Known = {}
    for known in all_known:
        for pattern, credentials in known.items():
            found.setdefault(pattern, []).extend(credentials)
    return found


def lookup(repository: str, known: Known) -> list[Credential]:
    """Those that fit an image's repository, those of the most specific pattern first."""
    fitting = [one for pattern in sorted(known, reverse=True) if matches(pattern, repository) for one in known[pattern]]
    if not fitting and repository.partition("/")[0] in _HUB:
        return known.get(_DEFAULT_REGISTRY, [])
    return fitting


def matches(pattern: str, repository: str) -> bool:
    """Whether `*.example.com:5000/team` stands for an image: `*` is for one part of the host, paths are prefixes."""
    wanted, _, path = pattern.partition("/")
    host, _, rest = repository.partition("/")
    wanted, _, wanted_port = wanted.partition(":")
    host, _, port = host.partition(":")
    globs, parts = wanted.split("."), host.split(".")
    return (
        wanted_port == port
        and len(globs) == len(parts)
        and rest.startswith(path)
        and all(fnmatch.fnmatchcase(part, glob) for glob, part in zip(globs, parts, strict=True))
    )


def _entries(data: Obj) -> Mapping[str, Any]:
    if ".dockerconfigjson" in data:
        whole: Mapping[str, Any] = orjson.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        return whole
    if ".dockercfg" in data:
        plain: Mapping[str, Any] = orjson.loads(base64.b64decode(data[".dockercfg"]))
        return plain
    return {}


def _pattern(registry: str) -> str:
    """What is looked for: the registry without scheme and without the version of its API."""
    bare = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, path = bare.partition("/")
    for version in ("v1", "v2"):
        if path == version or path.startswith(f"{version}/"):
            path = path[len(version) + 1 :]
    return f"{host}{slash}{path}".rstrip("/")


def _auth(entry: Mapping[str, Any], registry: str) -> AuthConfig:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().rstrip("\0").partition(":")
    return AuthConfig(
        username=username,
        password=password,
        server_address=registry,
        identity_token=entry.get("identitytoken") or "",
        registry_token=entry.get("registrytoken") or "",
    )
