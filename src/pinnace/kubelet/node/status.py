"""The Node object: registers it, keeps its status current, and tells the runtime the pods' network once it is known.

The status is worked out every ten seconds and written when it changed, or every five minutes as a heartbeat; the words
of conditions are Kubernetes' (https://kubernetes.io/docs/reference/node/node-status/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime

import structlog

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.cri.api import CriError, Image, ImageService, RuntimeFeatures, RuntimeService
from pinnace.kubelet.node.machine_info import Machine, node_info, read_machine
from pinnace.kubelet.node.startup import NodeStartup
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import amount_of
from pinnace.kubelet.runtime.health import RuntimeHealth
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, labels_of, utc_now

_log = structlog.get_logger()

MAX_NAMES = 5  # of an image
ANSWER_SECONDS = 5.0  # that the runtime has to tell its status before the node's is written without

# Type, then reason and message where it is False and where it is True
_PRESSURES = (
    (
        "MemoryPressure",
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    (
        "DiskPressure",
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    (
        "PIDPressure",
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
)
_EVENTS = {
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


def node_labels(options: KubeletOptions, machine: Machine) -> dict[str, str]:
    """The labels that a kubelet gives its node."""
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": options.hostname,
        "kubernetes.io/os": "linux",
        **options.node_labels,
    }


def new_node(options: KubeletOptions, machine: Machine) -> Obj:
    """The Node as it is registered, without status."""
    metadata: Obj = {
        "name": options.node_name,
        "labels": node_labels(options, machine),
        "annotations": {
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            **options.node_annotations,
        },
    }
    spec: Obj = {}
    if options.taints:
        spec["taints"] = options.taints
    if options.unschedulable:
        spec["unschedulable"] = True
    if options.provider_id:
        spec["providerID"] = options.provider_id
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def capacity(options: KubeletOptions, machine: Machine) -> tuple[Obj, Obj]:
    """Capacity and allocatable: what is left beside the reserved and what evictions keep free."""
    has: Obj = {"cpu": str(machine.cpus), "ephemeral-storage": f"{machine.disk // 1024}Ki"}
    has.update({name: _binary(size) for name, size in machine.huge_pages.items()})
    has["memory"] = f"{machine.memory // 1024}Ki"
    per_core = options.pods_per_core * machine.cpus
    has["pods"] = str(min(options.max_pods, per_core) if per_core else options.max_pods)
    has.update(options.capacity)
    gives = dict(has)
    disk = amount_of("ephemeral-storage", has["ephemeral-storage"])
    disk_kept = options.kept_free("ephemeral-storage", disk)
    gives["ephemeral-storage"] = str(max(0, disk - options.reserved("ephemeral-storage") - disk_kept))
    memory = amount_of("memory", has["memory"])
    memory_kept = options.kept_free("memory", memory)
    left = memory - options.reserved("memory") - memory_kept - sum(machine.huge_pages.values())
    gives["memory"] = f"{max(0, left) // 1024}Ki"
    if options.reserved("cpu"):
        milli = max(0, amount_of("cpu", has["cpu"]) - options.reserved("cpu"))
        gives["cpu"] = f"{milli}m" if milli % 1000 else str(milli // 1000)
    return has, gives


def allocatable_of_others(status: Obj, own: Container[str]) -> dict[str, str | None]:
    """What must change in a Node's allocatable for the resources that others wrote into its capacity.

    All of such an extended resource can be allocated; one that left the capacity, None here, cannot any more
    (https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/).
    """
    has, gives = status.get("capacity") or {}, status.get("allocatable") or {}
    changed = {name: amount for name, amount in has.items() if name not in own and gives.get(name) != amount}
    return changed | dict.fromkeys(name for name in gives if name not in own and name not in has)


def _binary(size: int) -> str:
    for shift, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def node_conditions(before: Obj, problem: str, now: datetime, pressures: Container[str] = ()) -> list[Obj]:
    """The kubelet's conditions, those of `pressures` True; heartbeats are now, transitions when the status changed."""
    wanted = [
        (kind, "True", *loud) if kind in pressures else (kind, "False", *quiet) for kind, quiet, loud in _PRESSURES
    ]
    if problem:
        wanted.append(("Ready", "False", "KubeletNotReady", problem))
    else:
        wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}
    moment = format_time(now)
    made = []
    for kind, status, reason, message in wanted:
        old = known.get(kind)
        same = old is not None and old.get("status") == status
        made.append(
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": moment,
                "lastTransitionTime": (old or {}).get("lastTransitionTime") if same else moment,
                "reason": reason,
                "message": message,
            }
        )
    return made


def image_list(images: Iterable[Image], most: int) -> list[Obj]:
    """`status.images`: the largest, with their names; -1 for all of them."""
    listed = [
        {"names": [*image.repo_digests, *image.repo_tags][:MAX_NAMES], "sizeBytes": image.size}
        for image in sorted(images, key=lambda image: -image.size)
        if image.repo_tags or image.repo_digests
    ]
    return listed if most < 0 else listed[:most]


def runtime_features(found: RuntimeFeatures) -> Obj:
    """`status.features` and `status.runtimeHandlers`."""
    handlers = [
        {
            "name": one.name,
            "features": {
                "recursiveReadOnlyMounts": one.recursive_read_only_mounts,
                "userNamespaces": one.user_namespaces,
            },
        }
        for one in found.handlers
    ]
    features = {"features": {"supplementalGroupsPolicy": found.supplemental_groups_policy}}
    return {**features, "runtimeHandlers": handlers} if handlers else features


def essence(status: Obj) -> Obj:
    """A status without its heartbeats: what must be written when it changes."""
    kept = dict(status)
    kept["conditions"] = [
        {name: value for name, value in one.items() if name != "lastHeartbeatTime"}
        for one in sorted(status.get("conditions") or (), key=lambda one: str(one["type"]))
        if one["type"] in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]
    return kept


class NodeStatus:
    """Keeps the Node object of one kubelet; `node` gives it as last seen."""

    def __init__(
        self,
        client: Client,
        runtime: RuntimeService,
        images: ImageService,
        options: KubeletOptions,
        events: EventRecorder,
        node: Callable[[], Obj | None],
        health: RuntimeHealth,
        pressures: Callable[[], Container[str]] = tuple,
    ) -> None:
        self._health = health
        # Capacity and allocatable of the resources of device plugins.
        self.devices: Callable[[], Mapping[str, tuple[int, int]]] = dict
        self.volumes_in_use: Callable[[], list[str]] = list  # unique names
        self._pressures = pressures
        self._client = client
        self._runtime = runtime
        self._images = images
        self._options = options
        self._events = events
        self._node = node
        self.machine = read_machine(options.root_dir)
        self._runtime_version = ""
        self._features = RuntimeFeatures()
        self._present: list[Image] = []
        self._written: Obj = {}
        self._written_at = 0.0
        self._pod_cidr = ""
        self._wake = asyncio.Event()
        self._started = NodeStartup()
        self.shutting_down: Callable[[], str] = str  # why the node is not ready though its runtime is, or nothing
        self.port = options.advertised_port or options.port

    def poke(self) -> None:
        """Look again now: the Node object changed, or the runtime."""
        self._wake.set()

    async def run(self) -> None:
        """Register, then update until cancelled."""
        self.tell("Normal", "Starting", "Starting kubelet.")
        self._started.registering()
        if self._options.register_node:
            await self._register()
        self._started.registered()
        ready = False
        while True:
            self._wake.clear()
            try:
                await self._learn_pod_cidr()
                ready = await self.update()
                if ready:
                    self._started.ready()
            except ApiError as error:
                _log.warning("cannot write node status", error=error.message)
            try:
                # until the node is ready for the first time, look often: somebody waits for it
                async with asyncio.timeout(self._options.status_update_frequency if ready else 0.2):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _register(self) -> None:
        """Create the Node, or bring the labels of one that is there up to date, and tell if it was rebooted since."""
        node = new_node(self._options, self.machine)
        node["status"] = await self._status({})
        self._tell_changes({}, {"conditions": [one for one in node["status"]["conditions"] if one["type"] != "Ready"]})
        pause = 0.1
        while True:
            try:
                await self._client.create(NODES, node)
                return
            except ApiError as error:
                if error.is_already_exists:
                    await self._adopt(node)
                    return
                _log.info("cannot register the node yet", error=error.message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    async def _adopt(self, wanted: Obj) -> None:
        try:
            found = await self._client.get(NODES, self._options.node_name)
            before = get_in(found, "status", "nodeInfo", "bootID")
            if before and before != self.machine.boot_id:
                about = f"Node {self._options.node_name} has been rebooted, boot id: {self.machine.boot_id}"
                self.tell("Warning", "Rebooted", about)
            labels = {k: v for k, v in labels_of(wanted).items() if labels_of(found).get(k) != v}
            if labels:
                await self._client.patch(NODES, self._options.node_name, {"metadata": {"labels": labels}})
        except ApiError as error:
            _log.warning("cannot update the node's labels", error=error.message)

    async def _learn_pod_cidr(self) -> None:
        """Tell the runtime the pods' network as soon as the Node has it."""
        node = self._node() or {}
        found = get_in(node, "spec", "podCIDRs") or [get_in(node, "spec", "podCIDR")]
        cidr = ",".join(one for one in found if one) or self._options.pod_cidr
        if cidr and cidr != self._pod_cidr:
            try:
                await self._runtime.update_runtime_config(cidr)
            except CriError as error:
                _log.warning("runtime refuses the pod network", cidr=cidr, error=error.message)
                return
            self._pod_cidr = cidr

    async def update(self) -> bool:
        """Write the status if it is due; whether the node is ready. Raises ApiError."""
        node = self._node()
        before: Obj = self._written or (node or {}).get("status") or {}
        status = await self._status(before)
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"])
        drifted = essence((node or {}).get("status") or {}).get("conditions") != essence(status)["conditions"]
        due = time.monotonic() - self._written_at > self._options.status_report_frequency
        others = allocatable_of_others((node or {}).get("status") or {}, status["capacity"])
        if essence(status) == essence(self._written) and not due and not drifted and not others:
            return ready
        patch: Obj = {"status": {**status, "addresses": [*status["addresses"], {"$patch": "replace"}]}}
        patch["status"]["allocatable"] = status["allocatable"] | others
        if "volumesInUse" in before and "volumesInUse" not in status:
            patch["status"]["volumesInUse"] = None
        for part in ("capacity", "allocatable"):
            gone = set((self._written or {}).get(part) or ()) - set(status[part])
            patch["status"][part] = patch["status"][part] | dict.fromkeys(gone)
        await self._client.patch(
            NODES, self._options.node_name, patch, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )
        self._tell_changes(before, status)
        self._written, self._written_at = status, time.monotonic()
        return ready

    async def _status(self, before: Obj) -> Obj:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._ask_runtime()
        except (CriError, OSError, TimeoutError) as error:
            _log.warning("the container runtime does not answer", error=str(error))
        has, gives = capacity(self._options, self.machine)
        for name, (there, free) in self.devices().items():
            has[name], gives[name] = str(there), str(free)
        in_use = self.volumes_in_use()
        addresses = [{"type": "InternalIP", "address": address} for address in self._options.node_ips]
        return {
            "addresses": [*addresses, {"type": "Hostname", "address": self._options.hostname}],
            "allocatable": gives,
            "capacity": has,
            "conditions": node_conditions(before, self._problem(), utc_now(), self._pressures()),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "images": image_list(self._present, self._options.node_status_max_images),
            "nodeInfo": node_info(self.machine, self._runtime_version, self._options.kubernetes_version),
            **runtime_features(self._features),
            **({"volumesInUse": in_use} if in_use else {}),
        }

    def _problem(self) -> str:
        """Why the node is not ready."""
        problem, shutting_down = self._health.problem(), self.shutting_down()
        if problem and shutting_down:
            return f"[{problem.removeprefix('[').removesuffix(']')}, {shutting_down}]"
        return problem or shutting_down

    async def _ask_runtime(self) -> None:
        self._health.answered(await self._runtime.status())
        version = await self._runtime.version()
        self._runtime_version = f"{version.runtime_name}://{version.runtime_version}"
        self._features = await self._runtime.features()
        self._present = await self._images.list_images()

    def _tell_changes(self, before: Obj, status: Obj) -> None:
        old = {one["type"]: one["status"] for one in before.get("conditions") or ()}
        for condition in status["conditions"]:
            kind, now = condition["type"], condition["status"]
            first_quiet = old.get(kind) is None and (now == "False" or kind == "Ready")
            if old.get(kind) != now and (old.get(kind) is not None or first_quiet or not self._written):
                name = _EVENTS[(kind, now)]
                self.tell("Normal", name, f"Node {self._options.node_name} status is now: {name}")

    def tell(self, kind: str, reason: str, message: str) -> None:
        """An event about the node."""
        name = self._options.node_name
        self._events.event_about({"kind": "Node", "name": name, "uid": name}, kind, reason, message)
