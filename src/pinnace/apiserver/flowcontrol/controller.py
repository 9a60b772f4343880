"""Flow control as the cluster's objects configure it: which flow a request is of, and what every level may do.

The objects are followed in the watch cache, so a change counts from the moment it is stored; what is not there yet is
taken from the bootstrap. This loop keeps the cluster's own objects, says of every schema whether its level exists, and
divides the seats that levels lend. Specified in KEP-1040.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import structlog

from pinnace.apis.resources import FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS
from pinnace.apiserver.authn import User
from pinnace.apiserver.cache import Filter, Watcher
from pinnace.apiserver.flowcontrol.bootstrap import LEVELS, MANDATORY, SCHEMAS, Request, ensure, kept_spec
from pinnace.apiserver.flowcontrol.concurrency import ADJUSTMENT_SECONDS, divide, limits
from pinnace.apiserver.flowcontrol.level import Flow, Level, Tally, shape_of
from pinnace.apiserver.flowcontrol.matching import distinguisher, in_order, matches
from pinnace.apiserver.flowcontrol.queueset import hash_flow
from pinnace.apiserver.request_info import RequestInfo
from pinnace.apiserver.storage import Storage
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_time, utc_now

log = structlog.get_logger()

FLOWS = 10_000  # that are remembered
LONGEST_PATH = 1024  # characters of the path of such a one
LOOK_SECONDS = 60.0  # between looks at the cluster's own objects, which changes cause too


class FlowControl:
    def __init__(self, storage: Storage, total: int, clock: Callable[[], float]) -> None:
        """`total` is how many seats there are."""
        self._storage = storage
        self._total = total
        self.clock = clock
        self.levels: dict[str, Level] = {}
        self.quiescing: list[Level] = []
        self.tallies: dict[tuple[str, str], Tally] = {}  # by level and schema
        self._schemas: list[Obj] = []  # as they are tried
        self._flows: dict[tuple[object, ...], Flow] = {}
        self._is_stale = True
        self._changed = asyncio.Event()
        self._leave: list[Callable[[], None]] = []

    def start(self) -> None:
        """Follow the objects from now on."""
        for resource in (FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS):
            watcher = Watcher(Filter(), lambda *_: self._note_change())
            self._leave.append(self._storage.cache(resource).watch(watcher))

    def stop(self) -> None:
        for leave in self._leave:
            leave()

    def classify(self, user: User, info: RequestInfo) -> Flow:
        """The flow that the request is of."""
        if info.is_resource:
            where = info.namespace or (info.name if info.resource == "namespaces" else "")
            key: tuple[object, ...] = (
                user.name, user.groups, info.verb, info.group, info.resource, info.subresource, where
            )  # fmt: skip
        else:
            key = (user.name, user.groups, info.verb, info.path)
        if self._is_stale:
            self.digest()
        found = self._flows.get(key)
        if found is None:
            if len(self._flows) >= FLOWS:
                self._flows.clear()
            found = self._match(user, info)
            if len(info.path) <= LONGEST_PATH:
                self._flows[key] = found
        return found

    def _match(self, user: User, info: RequestInfo) -> Flow:
        # Somebody may be neither authenticated nor not, so that not even the last resort speaks of them: it has them.
        last_resort = next(each for each in self._schemas if each["metadata"]["name"] == "catch-all")
        schema = next((each for each in self._schemas if matches(each, user, info)), last_resort)
        level = self.levels[schema["spec"]["priorityLevelConfiguration"]["name"]]
        meta = schema["metadata"]
        told = distinguisher(schema, user, info)
        tally = self.tallies.setdefault((level.name, meta["name"]), Tally())
        hand = level.queues.hand(hash_flow(meta["name"], told))
        return Flow(meta["name"], meta.get("uid", ""), told, level, hand, tally)

    def _note_change(self) -> None:
        self._is_stale = True
        self._changed.set()

    def digest(self) -> None:
        """Take the objects as they are."""
        self._is_stale = False
        self._flows.clear()
        now = self.clock()
        configured = self._objects(PRIORITY_LEVEL_CONFIGURATIONS, LEVELS)
        for name, obj in configured.items():
            shape, known = shape_of(obj), self.levels.get(name)
            if known is None or known.shape != shape:
                self.levels[name] = Level(name, shape, now)
                if known is not None:
                    self._retire(known)
            self.levels[name].uid = obj["metadata"].get("uid", "")
        for name in self.levels.keys() - configured.keys():
            self._retire(self.levels.pop(name))
        bounds = limits({name: obj["spec"] for name, obj in configured.items()}, self._total)
        for name, level in self.levels.items():
            is_new = level.limits != bounds[name]
            level.limit(bounds[name], bounds[name].nominal if is_new else level.queues.limit, now)
        self._schemas = [
            schema
            for schema in in_order(self._objects(FLOW_SCHEMAS, SCHEMAS).values())
            if schema["spec"]["priorityLevelConfiguration"]["name"] in self.levels
        ]
        self._forget()

    def _forget(self) -> None:
        """Count no more what no schema leads to; what is still on its way is seen to its end."""
        led = {(each["spec"]["priorityLevelConfiguration"]["name"], each["metadata"]["name"]) for each in self._schemas}
        for key in [key for key, tally in self.tallies.items() if key not in led and tally.is_idle]:
            del self.tallies[key]

    def _retire(self, level: Level) -> None:
        level.is_quiescing = True
        self.quiescing = [each for each in (*self.quiescing, level) if not each.queues.is_idle]

    def _objects(self, resource: GVR, own: tuple[Obj, ...]) -> dict[str, Obj]:
        """By name: those there are, and the mandatory ones as they must be, whether or not they are so yet."""
        found = self._existing(resource)
        for wanted in own:
            name = wanted["metadata"]["name"]
            if name in MANDATORY:
                found[name] = {**found[name], "spec": kept_spec(found[name], wanted)} if name in found else wanted
        return found

    def _existing(self, resource: GVR) -> dict[str, Obj]:
        return {key: each.obj() for key, each in self._storage.cache(resource).objects.items()}

    def all_levels(self) -> Iterator[Level]:
        """Those that are configured, by name, then those that are being emptied."""
        if self._is_stale:
            self.digest()
        yield from (self.levels[name] for name in sorted(self.levels))
        yield from (level for level in self.quiescing if not level.queues.is_idle)

    # Upkeep.

    async def ensure(self, request: Request) -> None:
        """Make and mend the cluster's own objects. Raises ApiError."""
        await ensure(request, {each: self._existing(each) for each in (PRIORITY_LEVEL_CONFIGURATIONS, FLOW_SCHEMAS)})

    async def run(self, request: Request) -> None:
        """Keep objects, conditions and limits right until cancelled."""
        looked = -LOOK_SECONDS
        while True:
            now = self.clock()
            if self._changed.is_set() or now - looked >= LOOK_SECONDS:
                looked = now
                self._changed.clear()
                try:
                    await self.ensure(request)
                    await self._say_what_dangles(request)
                except ApiError as error:
                    log.warning("cannot put flow control's objects right", error=error.message)
                    looked -= LOOK_SECONDS  # again at the next adjustment
            try:
                async with asyncio.timeout(ADJUSTMENT_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                self.adjust()

    async def _say_what_dangles(self, request: Request) -> None:
        levels = self._existing(PRIORITY_LEVEL_CONFIGURATIONS)
        changed = [
            said
            for schema in self._existing(FLOW_SCHEMAS).values()
            if (said := with_dangling(schema, levels)) is not None
        ]
        await asyncio.gather(
            *(request("PUT", FLOW_SCHEMAS.path("", each["metadata"]["name"]) + "/status", each) for each in changed)
        )

    def adjust(self) -> None:
        """Divide the seats by what was wanted since the last call."""
        if self._is_stale:
            self.digest()
        now = self.clock()
        wanted = {name: level.queues.demand.settle(now) for name, level in self.levels.items()}
        for name, current in divide({name: each.limits for name, each in self.levels.items()}, wanted).items():
            level = self.levels[name]
            if not level.is_exempt and level.queues.limit != current:
                level.queues.set_limit(current, now)


def with_dangling(schema: Obj, levels: dict[str, Obj]) -> Obj | None:
    """The schema with its condition, None when that is what it says already."""
    wanted = schema["spec"]["priorityLevelConfiguration"]["name"]
    is_there = wanted in levels
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{wanted}"'
    condition = {
        "type": "Dangling",
        "status": "False" if is_there else "True",
        "reason": "Found" if is_there else "NotFound",
        "message": f"{about} and it exists" if is_there else f"{about} but there is no such object",
    }
    status = schema.get("status") or {}
    conditions = status.get("conditions") or []
    before: Obj = next((each for each in conditions if each.get("type") == "Dangling"), {})
    if before.items() >= condition.items():
        return None
    same = before.get("status") == condition["status"] and before.get("lastTransitionTime")
    condition["lastTransitionTime"] = same or format_time(utc_now())
    others = [each for each in conditions if each.get("type") != "Dangling"]
    return {**schema, "status": {**status, "conditions": [*others, condition]}}
