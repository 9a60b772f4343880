"""The node's devices: what plugins offer, who holds what, kept over restarts of the kubelet and of plugins.

A resource's capacity is 0 until its plugin has registered (again), and goes five minutes after the plugin did. What
pods hold is in a checkpoint, so that containers started anew get the same devices without asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import structlog

from pinnace.cri.api import CriError
from pinnace.kubelet import state_files
from pinnace.kubelet.devices import health
from pinnace.kubelet.devices.choice import Numa, Unavailable, aligned, candidates, pick
from pinnace.kubelet.devices.gate import Gate
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.pods import amount_of, containers, init_containers, is_sidecar
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.topology.errors import ManagerError
from pinnace.machinery.meta import Obj, uid_of
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.kubelet.devices.gate import Server
    from pinnace.kubelet.devices.plugins import Plugin

_log = structlog.get_logger()

STOP_GRACE = 300.0  # seconds until the resource of a plugin that is gone is gone too
_SOCKET, _CHECKPOINT = "kubelet.sock", "kubelet_internal_checkpoint"


class Held(NamedTuple):
    """The devices of one resource that a container holds, and what the plugin said it needs for them."""

    ids: list[str]
    options: dict[str, Any]


@dataclass(slots=True)
class Resource:
    """What one plugin offers."""

    name: str
    plugin: Plugin | None = None
    healthy: dict[str, Numa] = field(default_factory=dict)
    unhealthy: set[str] = field(default_factory=set)
    stopped_at: float = 0.0  # when the plugin went; 0: it is there
    task: asyncio.Task[None] | None = None


Key = tuple[str, str]  # pod UID and container


class DeviceManager:
    """`changed` is called when capacity is another; `affinity` may say which NUMA nodes a container shall use."""

    def __init__(
        self,
        directory: Path,
        changed: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._changed = changed
        self.affinity: Callable[[str, str], Numa | None] = lambda _uid, _name: None
        self._resources: dict[str, Resource] = {}
        self._held: dict[Key, dict[str, Held]] = {}
        self._gate = Gate(directory / _SOCKET, self._make_server)
        self._lock = asyncio.Lock()

    # Life.

    async def open(self) -> None:
        """Let plugins register; sockets of plugins before are removed, which tells those to register anew."""
        self._load()
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        for entry in self._directory.iterdir():
            if entry.name != _CHECKPOINT and not entry.is_dir():
                entry.unlink(missing_ok=True)
        await self._gate.open()

    async def close(self) -> None:
        await self._gate.close()
        await end_tasks(resource.task for resource in self._resources.values() if resource.task is not None)

    async def _make_server(self, socket: Path) -> Server:
        from pinnace.kubelet.devices.plugins import serve_registration

        server: Server = await serve_registration(socket, self._register)
        return server

    # Plugins.

    def _register(self, name: str, endpoint: str) -> str:
        domain, slash, _ = name.partition("/")
        if not slash or domain.endswith("kubernetes.io") or not domain:
            return f"the ResourceName {name} is invalid"
        if "/" in endpoint or not endpoint:
            return f"the endpoint {endpoint} is invalid"
        resource = self._resources.setdefault(name, Resource(name))
        if resource.task is not None:
            resource.task.cancel()
        measures.device_registrations.inc(name)
        _log.info("a device plugin registered", resource=name, endpoint=endpoint)
        resource.task = asyncio.ensure_future(self._follow(resource, self._directory / endpoint))
        return ""

    async def _follow(self, resource: Resource, socket: Path) -> None:
        """Take in a plugin's lists until it is gone."""
        from pinnace.kubelet.devices.plugins import Plugin

        plugin = Plugin(socket)
        try:
            await plugin.connect()
            async for devices in plugin.watch():
                resource.plugin, resource.stopped_at = plugin, 0.0
                resource.healthy = {name: numa for name, (healthy, numa) in devices.items() if healthy}
                resource.unhealthy = set(devices) - set(resource.healthy)
                self._save()
                self._changed()
        except (CriError, TimeoutError) as error:
            _log.info("a device plugin is gone", resource=resource.name, error=str(error))
        finally:
            await plugin.close()
        if resource.plugin is plugin or resource.plugin is None:
            resource.plugin, resource.stopped_at = None, time.monotonic()
            resource.unhealthy |= set(resource.healthy)
            resource.healthy = {}
            self._changed()

    def expire(self, now: float) -> None:
        """Forget resources whose plugins went too long ago."""
        gone = [one.name for one in self._resources.values() if one.stopped_at and now - one.stopped_at > STOP_GRACE]
        for name in gone:
            del self._resources[name]
        if gone:
            self._save()
            self._changed()

    def capacity(self) -> dict[str, tuple[int, int]]:
        """By resource how many devices there are and how many can be given to containers."""
        return {
            name: (len(one.healthy) + len(one.unhealthy), len(one.healthy)) for name, one in self._resources.items()
        }

    def devices(self) -> dict[str, dict[str, Numa]]:
        """The healthy devices, by resource."""
        return {name: one.healthy for name, one in self._resources.items()}

    def free(self, resource: str) -> dict[str, Numa]:
        """The healthy devices that nobody holds."""
        found = self._resources.get(resource)
        taken = self._taken(resource)
        return {name: numa for name, numa in found.healthy.items() if name not in taken} if found else {}

    # Who holds what.

    def manages(self, pod: Obj) -> bool:
        """Whether some container asks for a resource of a plugin."""
        return any(self._asked(container) for container in (*init_containers(pod), *containers(pod)))

    def asked(self, container: Obj) -> dict[str, int]:
        return self._asked(container)

    def _asked(self, container: Obj) -> dict[str, int]:
        limits = (container.get("resources") or {}).get("limits") or {}
        return {name: amount_of(name, text) for name, text in limits.items() if name in self._resources}

    def _taken(self, resource: str) -> set[str]:
        return {device for held in self._held.values() if resource in held for device in held[resource].ids}

    async def allocate(self, pod: Obj, prepare: Callable[[Obj], None] | None = None) -> None:
        """Give every container its devices; what init containers held, main ones may have. Raises ManagerError.

        `prepare` is called before each container's turn: what it decides, `affinity` tells.
        """
        if prepare is None and not self.manages(pod):
            return
        prepare = prepare or (lambda _container: None)
        async with self._lock:
            reusable: dict[str, set[str]] = {}
            try:
                for container in init_containers(pod):
                    prepare(container)
                    held = await self._give(uid_of(pod), container, reusable)
                    for resource, one in held.items():
                        kept = reusable.setdefault(resource, set())
                        (kept.difference_update if is_sidecar(container) else kept.update)(one.ids)
                for container in containers(pod):
                    prepare(container)
                    for resource, one in (await self._give(uid_of(pod), container, reusable)).items():
                        reusable.get(resource, set()).difference_update(one.ids)
            except ManagerError:
                self._drop(uid_of(pod))
                raise
            finally:
                if self._resources:
                    self._save()

    async def _give(self, uid: str, container: Obj, reusable: dict[str, set[str]]) -> dict[str, Held]:
        asked = self._asked(container)
        held = self._held.setdefault((uid, container["name"]), {}) if asked else {}
        for name, needed in asked.items():
            if name in held or needed == 0:
                continue
            resource = self._resources[name]
            try:
                ids = await self._choose(resource, uid, container["name"], needed, reusable.get(name, set()))
                if resource.plugin is None:
                    raise Unavailable(f"endpoint {name} has been stopped")
                with measures.taking(measures.device_allocations, name):
                    held[name] = Held(ids, await resource.plugin.allocate(ids))
            except (Unavailable, ValueError) as error:
                raise ManagerError(str(error)) from None
            except CriError as error:
                raise ManagerError(rpc_error(error)) from error
        return held

    async def _choose(self, resource: Resource, uid: str, name: str, needed: int, reusable: set[str]) -> list[str]:
        taken = self._taken(resource.name)
        first, free = candidates(resource.name, resource.healthy, taken, reusable, needed)
        affinity = self.affinity(uid, name)
        if resource.plugin is not None and resource.plugin.preferred and len(first) < needed:
            near, _ = aligned(free, resource.healthy, affinity)
            offered = near if len(first) + len(near) >= needed else free
            preferred = await resource.plugin.prefer([*first, *offered], first, needed)
            wished = [one for one in preferred if one in offered]
            free = [*wished, *(one for one in free if one not in wished)]
            if len(first) + len(wished) >= needed:
                return [*first, *wished][:needed]
        return pick(first, free, resource.healthy, affinity, needed)

    def health_of(self, uid: str, name: str) -> list[Obj]:
        """How the devices are that a container holds."""
        return [
            health.resource_status(resource, [(one, self._health(resource, one)) for one in held.ids])
            for resource, held in sorted(self.held(uid, name).items())
        ]

    def _health(self, resource: str, device: str) -> str:
        """What the plugin says; one that it never told of is taken for healthy."""
        found = self._resources.get(resource)
        return health.UNHEALTHY if found is not None and device in found.unhealthy else health.HEALTHY

    def held(self, uid: str, name: str) -> dict[str, Held]:
        """What a container holds, by resource."""
        return self._held.get((uid, name), {})

    async def starting(self, uid: str, name: str) -> None:
        """Tell plugins that want to know that a container is about to start. Raises ManagerError."""
        for resource, one in self.held(uid, name).items():
            found = self._resources.get(resource)
            if found is not None and found.plugin is not None and found.plugin.pre_start:
                try:
                    await found.plugin.starting(one.ids)
                except CriError as error:
                    told = f"device plugin PreStartContainer rpc failed with err: {rpc_error(error)}"
                    raise ManagerError(told) from error

    def release(self, uid: str) -> None:
        """The pod has ended or is gone: others may have its devices."""
        if self._drop(uid):
            self._save()

    def _drop(self, uid: str) -> bool:
        gone = [key for key in self._held if key[0] == uid]
        for key in gone:
            del self._held[key]
        return bool(gone)

    def owners(self) -> set[str]:
        """The UIDs of pods that hold devices."""
        return {uid for uid, _ in self._held}

    def keep_only(self, uids: Iterable[str]) -> None:
        """Release what pods hold that are not here any more."""
        wanted = set(uids)
        for uid in {uid for uid, _ in self._held} - wanted:
            self.release(uid)

    # The checkpoint.

    def _save(self) -> None:
        kept = {
            "resources": sorted(self._resources),
            "held": [
                [uid, name, resource, one.ids, one.options]
                for (uid, name), held in self._held.items()
                for resource, one in held.items()
            ],
        }
        state_files.note(self._directory / _CHECKPOINT, orjson.dumps(kept))

    def _load(self) -> None:
        try:
            kept = orjson.loads(state_files.read(self._directory / _CHECKPOINT))
            now = time.monotonic()
            self._resources = {name: Resource(name, stopped_at=now) for name in kept["resources"]}
            for uid, name, resource, ids, options in kept["held"]:
                self._held.setdefault((uid, name), {})[resource] = Held(ids, options)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("cannot read who holds which devices", error=str(error))
