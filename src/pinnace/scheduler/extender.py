"""Other programs that have a say in where pods go: asked over HTTP to filter, to score, to spare victims and to bind.

The messages are those of `k8s.io/kube-scheduler/extender/v1`; which verbs an extender has is said in the configuration
(https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/#kubescheduler-config-k8s-io-v1-Extender).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from pinnace.machinery.duration import parse_duration
from pinnace.machinery.meta import Obj, name_of, namespace_of, uid_of
from pinnace.scheduler.framework import MAX_SCORE, BindingFailed, Rejection

if TYPE_CHECKING:
    import ssl

    import aiohttp

MAX_EXTENDER_SCORE = 10
TIMEOUT_SECONDS = 5.0

Victims = Mapping[str, tuple[Sequence[Obj], int]]
"""Node names, each with the pods that would have to leave it and how many of them against a budget."""


class ExtenderFailed(Exception):
    """An extender did not answer, or said that something went wrong."""


class Extender:
    """One entry of `extenders`."""

    def __init__(self, settings: Obj) -> None:
        self.url = settings.get("urlPrefix", "").rstrip("/")
        self.ignorable = bool(settings.get("ignorable"))
        self.weight = settings.get("weight", 0)
        self._settings = settings
        self._managed = frozenset(one["name"] for one in settings.get("managedResources") or ())
        self._by_name = bool(settings.get("nodeCacheCapable"))
        self._timeout = parse_duration(settings["httpTimeout"]) if settings.get("httpTimeout") else TIMEOUT_SECONDS
        self._session: aiohttp.ClientSession | None = None

    def has(self, verb: str) -> bool:
        """Whether it is asked to `filter`, `prioritize`, `preempt` or `bind`."""
        return bool(self._settings.get(f"{verb}Verb"))

    def is_interested(self, pod: Obj) -> bool:
        """Whether it looks after this pod: every one, or those with a resource that it manages."""
        if not self._managed:
            return True
        spec = pod["spec"]
        return any(
            self._managed & ((container.get("resources") or {}).get(kind) or {}).keys()
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
            for kind in ("requests", "limits")
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # The verbs.

    async def filter(self, pod: Obj, nodes: Mapping[str, Obj]) -> tuple[list[str], dict[str, Rejection]]:
        """The nodes that remain, and why the others do not."""
        answer = await self._ask("filter", self._about(pod, nodes))
        failed = {name: Rejection((why,)) for name, why in (answer.get("failednodes") or {}).items()}
        hopeless = answer.get("failedandunresolvablenodes") or {}
        failed |= {name: Rejection((why,), resolvable=False) for name, why in hopeless.items()}
        if answer.get("nodenames") is not None:
            left = answer["nodenames"]
        else:
            left = [name_of(node) for node in (answer.get("nodes") or {}).get("items") or ()]
        for name in left:
            if name not in nodes:
                raise ExtenderFailed(f'extender "{self.url}" claims a filtered node "{name}" which is not found in '
                                     "the input node list")  # fmt: skip
        return left, failed

    async def prioritize(self, pod: Obj, nodes: Mapping[str, Obj]) -> dict[str, float]:
        """What it adds to the scores of nodes."""
        answer = await self._ask("prioritize", self._about(pod, nodes))
        scores = [_lower(one) for one in answer.get("", ())]
        return {one["host"]: one.get("score", 0) * self.weight * MAX_SCORE / MAX_EXTENDER_SCORE for one in scores}

    async def bind(self, pod: Obj, node_name: str) -> None:
        """Bind in the scheduler's stead; raises BindingFailed."""
        args = {"podName": name_of(pod), "podNamespace": namespace_of(pod), "podUID": uid_of(pod), "node": node_name}
        try:
            await self._ask("bind", args)
        except ExtenderFailed as error:
            raise BindingFailed(str(error)) from None

    async def preempt(self, pod: Obj, victims: Victims) -> dict[str, tuple[frozenset[str], int]]:
        """Which nodes it agrees to free: the uids of the pods to leave each, and how many of them against a budget."""
        args: Obj = {"pod": pod}
        if self._by_name:
            args["nodeNameToMetaVictims"] = {
                name: {"pods": [{"uid": uid_of(one)} for one in pods], "numPDBViolations": against}
                for name, (pods, against) in victims.items()
            }
        else:
            args["nodeNameToVictims"] = {
                name: {"pods": list(pods), "numPDBViolations": against} for name, (pods, against) in victims.items()
            }
        answer = await self._ask("preempt", args)
        kept = {}
        for name, found in (answer.get("nodenametometavictims") or {}).items():
            told = _lower(found)
            kept[name] = frozenset(one["uid"] for one in told.get("pods") or ()), told.get("numpdbviolations") or 0
        return kept

    def _about(self, pod: Obj, nodes: Mapping[str, Obj]) -> Obj:
        if self._by_name:
            return {"pod": pod, "nodenames": list(nodes)}
        return {"pod": pod, "nodes": {"metadata": {}, "items": list(nodes.values())}}

    # HTTP.

    async def _ask(self, verb: str, args: Obj) -> Obj:
        """The answer, names of fields in lower case (a list under the empty name). Raises ExtenderFailed."""
        import aiohttp

        url = f"{self.url}/{self._settings[f'{verb}Verb'].lstrip('/')}"
        if self._session is None:
            timeout = aiohttp.ClientTimeout(self._timeout)
            self._session = aiohttp.ClientSession(connector=self._connector(), timeout=timeout)
        try:
            headers = {"Content-Type": "application/json"}
            async with self._session.post(url, data=orjson.dumps(args), headers=headers) as response:
                body = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ExtenderFailed(f'Post "{url}": {error or "context deadline exceeded"}') from None
        if response.status != 200:
            raise ExtenderFailed(f"failed {verb} with extender at URL {url}, code {response.status}")
        return _answer(body, url)

    def _connector(self) -> aiohttp.TCPConnector:
        import aiohttp

        context = _tls(self._settings.get("tlsConfig") or {}) if self.url.startswith("https:") else None
        return aiohttp.TCPConnector(ssl=context) if context is not None else aiohttp.TCPConnector()


def _tls(settings: Obj) -> ssl.SSLContext:
    import base64
    import ssl
    import tempfile

    data = base64.b64decode(settings["caData"]).decode() if settings.get("caData") else None
    context = ssl.create_default_context(cafile=settings.get("caFile"), cadata=data)
    if settings.get("insecure"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.get("certFile"):
        context.load_cert_chain(settings["certFile"], settings.get("keyFile"))
    elif settings.get("certData"):
        with tempfile.NamedTemporaryFile() as file:  # OpenSSL reads chains from files alone
            file.write(base64.b64decode(settings["certData"]) + b"\n" + base64.b64decode(settings["keyData"]))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _answer(body: bytes, url: str) -> Obj:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ExtenderFailed(f"extender at URL {url} answers what is no JSON: {error}") from None
    if isinstance(found, list):
        return {"": found}
    answer = _lower(found)
    if answer.get("error"):
        raise ExtenderFailed(answer["error"])
    return answer


def _lower(found: Any) -> Obj:
    """The object as Go reads it: whatever case names of fields are in."""
    return {name.lower(): value for name, value in found.items()} if isinstance(found, dict) else {}


async def filter_all(
    extenders: Iterable[Extender], pod: Obj, nodes: Mapping[str, Obj]
) -> tuple[dict[str, Obj], dict[str, Rejection]]:
    """Ask one after the other: the nodes that all leave, and why the others are out."""
    left = dict(nodes)
    rejected: dict[str, Rejection] = {}
    for extender in extenders:
        if not left:
            break
        if not extender.has("filter"):
            continue
        try:
            names, failed = await extender.filter(pod, left)
        except ExtenderFailed:
            if extender.ignorable:
                continue
            raise
        rejected |= failed
        left = {name: left[name] for name in names}
    return left, rejected


async def scores_of_all(extenders: Iterable[Extender], pod: Obj, nodes: Mapping[str, Obj]) -> dict[str, float]:
    """What all together add to the nodes' scores; who fails adds nothing."""

    async def ask(extender: Extender) -> dict[str, float]:
        try:
            return await extender.prioritize(pod, nodes)
        except ExtenderFailed:
            return {}

    total: dict[str, float] = {}
    asked = [extender for extender in extenders if extender.has("prioritize")]
    for scores in await asyncio.gather(*map(ask, asked)):
        for name, score in scores.items():
            total[name] = total.get(name, 0) + score
    return total
