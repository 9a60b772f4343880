"""Credentials that plugins know: programs that are run with an image's name and answer with what its registry is shown.

A plugin that fails, or answers nonsense, is as good as none: the log tells of it. Answers are kept as long as they say.
Relies on https://kubernetes.io/docs/reference/config-api/kubelet-credentialprovider.v1/; tokens of service accounts are
KEP-4412's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from pinnace.apis.resources import SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.cri.api import AuthConfig
from pinnace.kubelet.images.keyring import Credential, Known, Owner, matches
from pinnace.kubelet.images.provider_config import Provider, TokenAttributes
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.configuration import ConfigurationError, parse_configuration
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, namespace_of, uid_of
from pinnace.machinery.metrics import Counter, Histogram

_log = structlog.get_logger()

PATIENCE = 60.0  # seconds that a plugin has
PURGE_PERIOD = 900.0
TOKEN_SECONDS = 3600
_GLOBAL = "global"
_RESPONSE = {"cacheKeyType": str, "cacheDuration": str, "auth": dict}

errors = Counter(
    "kubelet_credential_provider_plugin_errors", "Number of errors from credential provider plugin", ("plugin_name",)
)
durations = Histogram(
    "kubelet_credential_provider_plugin_duration",
    "Duration of execution in seconds for credential provider plugin",
    ("plugin_name",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


class PluginError(Exception):
    """A plugin did not tell credentials."""


class Accounts(Protocol):
    """The service accounts of pods here. Both raise ApiError."""

    async def account(self, namespace: str, name: str) -> Obj: ...

    async def token(self, pod: Obj, audience: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plugin said."""

    cache_key_type: str
    seconds: float | None  # how long it may be kept; None: as long as the plugin's configuration says
    auth: Mapping[str, AuthConfig]  # by pattern of registry and path


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a plugin is told of the pod's service account; nothing where it does not want to know."""

    token: str = ""
    annotations: tuple[tuple[str, str], ...] = ()
    owner: Owner | None = None
    cache_key: tuple[object, ...] = ()


class Plugin:
    """One plugin, and what it has said; `run` asks it."""

    def __init__(
        self,
        provider: Provider,
        accounts: Accounts,
        run: Callable[[Provider, Obj], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._accounts = accounts
        self._run = run
        self._clock = clock
        self._kept: dict[tuple[object, ...], tuple[float, Answer]] = {}  # until when
        self._asking: dict[tuple[object, ...], asyncio.Task[Answer]] = {}
        self._purged = clock()

    async def credentials(self, pod: Obj, repository: str) -> Known:
        """What it knows for an image of a pod; nothing where it fails."""
        if not any(matches(pattern, repository) for pattern in self._provider.match_images):
            return {}
        try:
            shown = await self._shown(pod)
            if shown is None:
                return {}
            answer = self._known(repository, shown) or await self._ask(repository, shown)
        except ApiError as error:
            _log.warning("cannot show a credential provider its token", plugin=self._provider.name, error=error.message)
            return {}
        except PluginError as error:
            told = "Failed getting credential from external registry credential provider"
            _log.warning(told, plugin=self._provider.name, error=str(error))
            return {}
        return {pattern: [Credential(auth, shown.owner)] for pattern, auth in answer.auth.items()}

    async def _shown(self, pod: Obj) -> _Shown | None:
        """None where the plugin is not asked for this pod. Raises ApiError."""
        wanted, name = self._provider.tokens, pod["spec"].get("serviceAccountName") or ""
        if wanted is None:
            return _Shown()
        if not name:
            return None if wanted.require_account else _Shown()
        account = await self._accounts.account(namespace_of(pod), name)
        annotations = _annotations(account, wanted)
        if annotations is None:
            return None
        token = await self._accounts.token(pod, wanted.audience)
        owner = Owner("ServiceAccount", namespace_of(pod), name, uid_of(account))
        key: tuple[object, ...] = (owner, annotations)
        if wanted.cache_type == "Token":
            key += (hashlib.sha256(token.encode()).hexdigest(),)
        return _Shown(token, annotations, owner, key)

    def _known(self, repository: str, shown: _Shown) -> Answer | None:
        now = self._clock()
        if now > self._purged + PURGE_PERIOD:
            self._kept = {key: kept for key, kept in self._kept.items() if now <= kept[0]}
            self._purged = now
        for key in (repository, _registry(repository), _GLOBAL):
            until, answer = self._kept.get((key, shown.cache_key), (-inf, None))
            if answer is not None and now <= until:
                return answer
        return None

    async def _ask(self, repository: str, shown: _Shown) -> Answer:
        """Equal questions at the same time are asked once. Raises PluginError."""
        question = (repository, shown.token, shown.annotations)
        task = self._asking.get(question)
        if task is None:
            task = asyncio.create_task(self._answer(repository, shown), name=f"plugin {self._provider.name}")
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        return await asyncio.shield(task)

    async def _answer(self, repository: str, shown: _Shown) -> Answer:
        provider = self._provider
        began = time.perf_counter()
        try:
            said = await self._run(provider, request(provider.api_version, repository, shown.token, shown.annotations))
        except PluginError:
            errors.inc(provider.name)
            raise
        finally:
            durations.observe(time.perf_counter() - began, provider.name)
        answer = read_answer(said, provider.api_version)
        keys = {"Image": repository, "Registry": _registry(repository), "Global": _GLOBAL}
        if answer.cache_key_type not in keys:
            kind = answer.cache_key_type
            raise PluginError(f'credential provider plugin did not return a valid cacheKeyType: "{kind}"')
        seconds = provider.cache_seconds if answer.seconds is None else answer.seconds
        if seconds:
            self._kept[(keys[answer.cache_key_type], shown.cache_key)] = (self._clock() + seconds, answer)
        return answer


class ApiAccounts:
    """The service accounts of pods here, as the API server has them."""

    def __init__(self, client: Client, tokens: Tokens) -> None:
        self._client = client
        self._tokens = tokens

    async def account(self, namespace: str, name: str) -> Obj:
        return await self._client.get(SERVICE_ACCOUNTS, name, namespace)

    async def token(self, pod: Obj, audience: str) -> str:
        return await self._tokens.get(pod, audience, TOKEN_SECONDS)


class CredentialProviders:
    """Every plugin of a node."""

    def __init__(self, providers: Sequence[Provider], directory: Path, accounts: Accounts) -> None:
        async def run(provider: Provider, asked: Obj) -> bytes:
            return await run_plugin(directory, provider, asked)

        self._plugins = [Plugin(one, accounts, run) for one in providers]

    async def credentials(self, pod: Obj, repository: str) -> list[Known]:
        """What each knows for an image of a pod, in the order of their configuration."""
        return [await one.credentials(pod, repository) for one in self._plugins]


def request(version: str, image: str, token: str = "", annotations: Sequence[tuple[str, str]] = ()) -> Obj:
    """What a plugin reads."""
    asked: Obj = {"kind": "CredentialProviderRequest", "apiVersion": version, "image": image}
    if token:
        asked["serviceAccountToken"] = token
    if annotations:
        asked["serviceAccountAnnotations"] = dict(annotations)
    return asked


def read_answer(said: bytes, version: str) -> Answer:
    """What a plugin wrote. Raises PluginError, which tells nothing of what it wrote, for that may be a secret."""
    try:
        found = orjson.loads(said)
        actual = str(found.get("apiVersion") or "")
    except (orjson.JSONDecodeError, AttributeError):
        raise PluginError("error reading GVK from response: couldn't get version/kind; json parse error") from None
    if actual != version:
        said_version = f"expected apiVersion:{version}, actual apiVersion:{actual}"
        raise PluginError(f"apiVersion from credential plugin response did not match {said_version}")
    try:
        document = parse_configuration(said.decode(), {(version, "CredentialProviderResponse"): _RESPONSE})
        text = document.get("cacheDuration")
        seconds = None if text is None else parse_duration(text)
        auth = {
            pattern: AuthConfig(username=entry.get("username") or "", password=entry.get("password") or "")
            for pattern, entry in (document.get("auth") or {}).items()
        }
    except (ConfigurationError, ValueError, AttributeError):
        raise PluginError("error decoding credential provider plugin response from stdout") from None
    return Answer(document.get("cacheKeyType") or "", seconds, auth)


async def run_plugin(directory: Path, provider: Provider, asked: Obj) -> bytes:
    """What a plugin writes for a request. Raises PluginError."""
    what = f"error execing credential provider plugin {provider.name} for image {asked['image']}"
    try:
        process = await asyncio.create_subprocess_exec(
            directory / provider.name,
            *provider.args,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, **provider.env},
        )
    except OSError as error:
        why = f"fork/exec {directory / provider.name}: {(error.strerror or '').lower()}"
        raise PluginError(f"{what}: {why}: ") from None
    try:
        async with asyncio.timeout(PATIENCE):
            output, complaint = await process.communicate(orjson.dumps(asked))
    except TimeoutError:
        raise PluginError(f"{what}: context deadline exceeded: ") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        code = process.returncode
        why = f"exit status {code}" if code > 0 else f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
        raise PluginError(f"{what}: {why}: {complaint.decode(errors='replace')}")
    return output


def _annotations(account: Obj, wanted: TokenAttributes) -> tuple[tuple[str, str], ...] | None:
    """Those of an account that a plugin is shown; None where it lacks one without which the plugin is not asked."""
    has = annotations_of(account)
    if any(key not in has for key in wanted.required_annotations):
        return None
    keys = {*wanted.required_annotations, *(key for key in wanted.optional_annotations if key in has)}
    return tuple((key, has[key]) for key in sorted(keys))


def _registry(repository: str) -> str:
    return repository.partition("/")[0]
