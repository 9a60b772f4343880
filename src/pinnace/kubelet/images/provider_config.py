"""Which plugins know credentials of registries: the CredentialProviderConfig of `--image-credential-provider-config`.

`parse` and `problems` are pure, `load` reads a file or a directory of them, once, when the kubelet starts. Specified by
https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pinnace.machinery.configuration import ConfigurationError, parse_configuration, refuse
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_qualified_name

GATE = "KubeletServiceAccountTokenForCredentialProviders"
PLUGIN_VERSIONS = tuple(f"credentialprovider.kubelet.k8s.io/{version}" for version in ("v1", "v1alpha1", "v1beta1"))
CACHE_TYPES = ("ServiceAccount", "Token")

_PLUGIN_V1 = PLUGIN_VERSIONS[0]
_SUFFIXES = (".json", ".yaml", ".yml")
_PROVIDER = {
    "name": str,
    "matchImages": [str],
    "defaultCacheDuration": str,
    "apiVersion": str,
    "args": [str],
    "env": [{"name": str, "value": str}],
}
_TOKENS = {
    "serviceAccountTokenAudience": str,
    "cacheType": str,
    "requireServiceAccount": bool,
    "requiredServiceAccountAnnotationKeys": [str],
    "optionalServiceAccountAnnotationKeys": [str],
}
_KIND = "CredentialProviderConfig"
_KINDS = {
    ("kubelet.config.k8s.io/v1", _KIND): {"providers": [{**_PROVIDER, "tokenAttributes": _TOKENS}]},
    ("kubelet.config.k8s.io/v1beta1", _KIND): {"providers": [_PROVIDER]},
    ("kubelet.config.k8s.io/v1alpha1", _KIND): {"providers": [_PROVIDER]},
}


@dataclass(frozen=True, slots=True)
class TokenAttributes:
    """Which service account's token a plugin is shown, and which of the account's annotations."""

    audience: str
    cache_type: str
    require_account: bool
    required_annotations: Sequence[str] = ()
    optional_annotations: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One plugin: a program of the directory of plugins, and the images it knows credentials of."""

    name: str
    api_version: str
    match_images: Sequence[str]
    cache_seconds: float  # where its answer does not say it
    args: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    tokens: TokenAttributes | None = None


def load(path: Path | None, directory: Path | None, *, tokens: bool) -> list[Provider]:
    """The plugins that a file tells of, or a directory of files, and whose programs are in another; none without both.

    `tokens` is whether plugins may be shown tokens. Raises ConfigurationError.
    """
    if path is None and directory is None:
        return []
    if directory is None or not directory.exists():
        raise ConfigurationError(f"plugin binary directory {directory or ''} did not exist")
    if path is None:
        raise ConfigurationError("credential provider config path is empty")
    documents = [_read(file) for file in _files(path)]
    listed = [one for document in documents for one in document.get("providers") or ()]
    names: set[str] = set()
    for one in listed:
        if one.get("name", "") in names:
            raise ConfigurationError(f'duplicate provider name "{one.get("name", "")}" found in configuration file(s)')
        names.add(one.get("name", ""))
    try:
        refuse(problems(listed, tokens=tokens))
    except ConfigurationError as error:
        raise ConfigurationError(f"failed to validate credential provider config: {error}") from None
    found = [_provider(one) for one in listed]
    for one in found:
        if not os.access(directory / one.name, os.X_OK) or (directory / one.name).is_dir():
            raise ConfigurationError(f"plugin binary executable {directory / one.name} did not exist")
    return found


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ConfigurationError(f'unable to access path "{path}": stat {path}: no such file or directory')
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.is_file() and one.suffix in _SUFFIXES)
    if not found:
        raise ConfigurationError(f'no configuration files found in directory "{path}"')
    return found


def _read(file: Path) -> Obj:
    try:
        return parse(file.read_text())
    except OSError as error:
        why = f"open {file}: {(error.strerror or '').lower()}"
        raise ConfigurationError(f'unable to read file "{file}": {why}') from None
    except ConfigurationError as error:
        raise ConfigurationError(f'error decoding config "{file}": {error}') from None


def parse(text: str) -> Obj:
    """The document in `text`. Raises ConfigurationError."""
    try:
        document = parse_configuration(text, _KINDS)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).removeprefix("failed decoding: ")) from None
    for one in document.get("providers") or ():
        if one.get("defaultCacheDuration") is not None:
            try:
                parse_duration(one["defaultCacheDuration"])
            except ValueError:
                raise ConfigurationError(f'time: invalid duration "{one["defaultCacheDuration"]}"') from None
    return document


def problems(listed: Sequence[Obj], *, tokens: bool) -> list[Cause]:
    """What is wrong with `providers`."""
    found = [] if listed else [required("providers", "at least 1 item in plugins is required")]
    seen: set[str] = set()
    for one in listed:
        found += _of_provider(one, seen)
        if one.get("tokenAttributes") is not None:
            found += _of_tokens(one["tokenAttributes"], one.get("apiVersion", ""), allowed=tokens)
    return found


def _of_provider(one: Obj, seen: set[str]) -> Iterator[Cause]:
    name = one.get("name") or ""
    for wrong, why in (
        ("/" in name, "provider name cannot contain '/'"),
        (" " in name, "provider name cannot contain spaces"),
        (name == ".", "provider name cannot be '.'"),
        (name == "..", "provider name cannot be '..'"),
    ):
        if wrong:
            yield invalid_value("providers.name", name, why)
    if name in seen:
        yield duplicate("providers.name", name)
    seen.add(name)
    version = one.get("apiVersion") or ""
    if not version:
        yield required("providers.apiVersion")
    elif version not in PLUGIN_VERSIONS:
        yield not_supported("providers.apiVersion", version, PLUGIN_VERSIONS)
    if not one.get("matchImages"):
        yield required("providers.matchImages", "at least 1 item in matchImages is required")
    for image in one.get("matchImages") or ():
        why = _no_url(image)
        if why:
            yield invalid_value("providers.matchImages", image, f"match image is invalid: {why}")
    text = one.get("defaultCacheDuration")
    if text is None:
        yield required("providers.defaultCacheDuration")
    elif parse_duration(text) < 0:
        yield invalid_value("providers.defaultCacheDuration", text, "must be greater than or equal to 0")


def _of_tokens(attributes: Obj, version: str, *, allowed: bool) -> Iterator[Cause]:
    path = "providers.tokenAttributes"
    if not allowed:
        why = f"tokenAttributes is not supported when {GATE} feature gate is disabled"
        yield field_forbidden(path, why)
    if not attributes.get("serviceAccountTokenAudience"):
        yield required(f"{path}.serviceAccountTokenAudience")
    if attributes.get("requireServiceAccount") is None:
        yield required(f"{path}.requireServiceAccount")
    if version != _PLUGIN_V1:
        yield field_forbidden(path, f"tokenAttributes is only supported for {_PLUGIN_V1} API version")
    needed = attributes.get("requiredServiceAccountAnnotationKeys") or []
    optional = attributes.get("optionalServiceAccountAnnotationKeys") or []
    if attributes.get("requireServiceAccount") is False and needed:
        why = "requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set"
        yield field_forbidden(f"{path}.requiredServiceAccountAnnotationKeys", why)
    yield from _of_keys(f"{path}.requiredServiceAccountAnnotationKeys", needed)
    yield from _of_keys(f"{path}.optionalServiceAccountAnnotationKeys", optional)
    both = sorted({*needed} & {*optional})
    if both:
        yield invalid_value(path, both, "annotation keys cannot be both required and optional")
    kind = attributes.get("cacheType") or ""
    if not kind:
        values = f"Supported values are: {', '.join(CACHE_TYPES)}"
        why = f"cacheType is required to be set when tokenAttributes is specified. {values}"
        yield required(f"{path}.cacheType", why)
    elif kind not in CACHE_TYPES:
        yield not_supported(f"{path}.cacheType", kind, CACHE_TYPES)


def _of_keys(path: str, keys: Sequence[str]) -> Iterator[Cause]:
    for index, key in enumerate(keys):
        yield from (invalid_value(path, key, problem) for problem in is_qualified_name(key.lower()))
        if key in keys[:index]:
            yield duplicate(path, key)


def _no_url(image: str) -> str:
    """Why `https://IMAGE` is no URL, in Go's words; empty where it is one."""
    host = image.partition("/")[0]
    escape = re.search(r"%(?![0-9a-fA-F]{2}).{0,2}", image)
    character = re.search(r"[\s^`{|}\\]", host)
    port = re.search(r":(?!\d*$).*", host)
    why = ""
    if escape:
        why = f'invalid URL escape "{escape[0]}"'
    elif character:
        why = f'invalid character "{character[0]}" in host name'
    elif port and not host.startswith("["):
        why = f'invalid port "{port[0]}" after host'
    return f'parse "https://{image}": {why}' if why else ""


def _provider(one: Obj) -> Provider:
    attributes = one.get("tokenAttributes")
    tokens = attributes and TokenAttributes(
        attributes["serviceAccountTokenAudience"],
        attributes["cacheType"],
        attributes["requireServiceAccount"],
        attributes.get("requiredServiceAccountAnnotationKeys") or (),
        attributes.get("optionalServiceAccountAnnotationKeys") or (),
    )
    return Provider(
        one["name"],
        one["apiVersion"],
        one["matchImages"],
        parse_duration(one["defaultCacheDuration"]),
        one.get("args") or (),
        {each["name"]: each["value"] for each in one.get("env") or ()},
        tokens or None,
    )
