"""The kubelet: makes the parts of a node's agent, joins them, and runs them until cancelled.

Needs a client to an API server and the two services of the CRI. Nothing is remembered between runs but what the API
and the runtime hold: a kubelet that was killed takes over the running containers when it is started anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

import structlog

from pinnace.apis.resources import NODES, PODS, RESOURCE_CLAIMS, SERVICES
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.informer import InformerFactory
from pinnace.cri.api import CriError, ImageService, RuntimeService
from pinnace.kubelet.admission.admitter import Admitter
from pinnace.kubelet.containers.user_namespaces import UserRanges
from pinnace.kubelet.context import Node
from pinnace.kubelet.csi import drivers
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.devices import dra
from pinnace.kubelet.devices.dra import DraManager
from pinnace.kubelet.devices.gate import Gate, Server
from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.devices.slices import SliceWiper
from pinnace.kubelet.eviction.surroundings import ImageDisk, make_manager
from pinnace.kubelet.housekeeping import keep_house
from pinnace.kubelet.images import configured as pulling
from pinnace.kubelet.images.gc import ImageCollector, ImageGCPolicy
from pinnace.kubelet.logs.rotation import keep_rotated
from pinnace.kubelet.node.lease import NodeLease
from pinnace.kubelet.node.shutdown import NodeShutdown
from pinnace.kubelet.node.status import NodeStatus
from pinnace.kubelet.objects import ObjectFetcher
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.plugins.sockets import Handler, PluginSockets
from pinnace.kubelet.pods import is_static
from pinnace.kubelet.probes.manager import Probes
from pinnace.kubelet.resources.cgroups import CgroupManager
from pinnace.kubelet.resources.node_cgroups import NodeCgroups, for_pods, problem
from pinnace.kubelet.resources.qos_cgroups import QosCgroups
from pinnace.kubelet.resources.resizing import Resizing
from pinnace.kubelet.resources.swap import LIMITED_SWAP, may_swap
from pinnace.kubelet.resources.unified import memory_qos
from pinnace.kubelet.runtime.health import RuntimeHealth
from pinnace.kubelet.runtime.pleg import Pleg
from pinnace.kubelet.runtime.status import RuntimeCache
from pinnace.kubelet.server.auth import ServerAuth
from pinnace.kubelet.sources.pod_sources import PodSources, api_object
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.statistics.claimed_volumes import ClaimedVolumes
from pinnace.kubelet.statistics.pod_usage import UsageReader
from pinnace.kubelet.statistics.summary import Summary
from pinnace.kubelet.status.writer import StatusWriter
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.kubelet.sync.pod_workers import PodWorkers
from pinnace.kubelet.topology import configured
from pinnace.kubelet.topology.manager import ResourceManagers
from pinnace.kubelet.topology.rebinding import Rebinding
from pinnace.kubelet.volumes import csi_published
from pinnace.kubelet.volumes.disks import Disks
from pinnace.kubelet.volumes.mounts import share
from pinnace.kubelet.volumes.pod_certificates import PodCertificates
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, uid_of, utc_now

_log = structlog.get_logger()


class Kubelet:
    """One node's agent. `run()` is everything; `pods()`, `workers` and `node` are for its HTTP server."""

    def __init__(
        self,
        client: Client,
        runtime: RuntimeService,
        images: ImageService,
        options: KubeletOptions,
        cgroups: CgroupManager | None = None,
    ) -> None:
        self.options = options
        runtime, images = measures.measured_runtime(runtime), measures.measured_runtime(images)
        cgroups = None if cgroups is None else measures.measured_cgroups(cgroups)
        for directory in (options.root_dir, options.pods_dir, options.pod_logs_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self._factory = InformerFactory(client)
        self._pods = self._factory.informer(PODS, field_selector=f"spec.nodeName={options.node_name}")
        self._nodes = self._factory.informer(NODES, field_selector=f"metadata.name={options.node_name}")
        self._services = self._factory.informer(SERVICES)
        self.pods_known = asyncio.Event()  # set once every pod of the API has its worker
        cache = RuntimeCache(runtime, options.node_ip)
        devices = DeviceManager(options.root_dir / "device-plugins", self._node_changed)
        managers = configured.make(options, devices)
        self._rebinding = Rebinding(runtime, cache, lambda: managers.cpu)
        self._pod_resources = Gate(options.root_dir / "pod-resources" / "kubelet.sock", self._serve_pod_resources)
        self._slices = SliceWiper(client, options.node_name)
        self.node = self._make_node(client, runtime, images, cache, managers, cgroups)
        self.workers = PodWorkers(self.node, lambda pod: self._admitter.admit(pod))
        self._sources = PodSources(self.node, self._pods, self.workers)
        health = RuntimeHealth(time.monotonic)
        self._pleg = Pleg(runtime, cache, health, self.workers.poke, options.relist_period)
        self.node_status = NodeStatus(
            client,
            runtime,
            images,
            options,
            self.node.events,
            self.node_object,
            health,
            lambda: self.eviction.conditions,
        )
        self.node_status.devices = devices.capacity
        self.node_status.volumes_in_use = self.node.csi.in_use
        self.node_status.shutting_down = lambda: self.shutdown.problem
        self.node.swap_capacity = self.node_status.machine.swap
        self.node.page_sizes = self.node_status.machine.huge_pages
        csi_published.adopt(self.node.csi, options.pods_dir)
        self._lease = NodeLease(client, options.node_name, options.node_lease_duration, self.node_object)
        self.usages = UsageReader(runtime, options)
        self.claimed_volumes = ClaimedVolumes(self.node, self.workers)
        self.summary = Summary(self)
        self.auth = ServerAuth(client, options)
        self.image_disk = ImageDisk(images, options.root_dir)
        self._images = ImageCollector(
            images,
            image_gc_policy(options),
            self._used_images,
            self.image_disk.read,
            self.node_status.tell,
            forget=self.node.puller.forget_images,
        )
        self.eviction = make_manager(
            self.node, self.workers, self.usages, self.image_disk, self._images, self.node_status
        )
        self.shutdown = NodeShutdown(
            options, self.workers, self.node_status.tell, self.node_status.poke, self.node.statuses.flush
        )
        machine = self.node_status.machine
        self._qos = QosCgroups(options.cgroup_root, for_pods(options, machine, 0)["cpu"], memory_qos(options))
        self._cgroups = NodeCgroups(options, machine, self.node_status.tell)
        wrong = problem(options, machine)
        if wrong:
            raise ValueError(wrong)
        if cgroups is not None:
            self._cgroups.limit_reserved(cgroups)
        self._admitter = Admitter(self.node, self.workers, self.shutdown, self.eviction, self._qos)

    def _make_node(
        self,
        client: Client,
        runtime: RuntimeService,
        images: ImageService,
        cache: RuntimeCache,
        managers: ResourceManagers,
        cgroups: CgroupManager | None,
    ) -> Node:
        """What all workers share; it calls back to workers, which are made after it."""
        options = self.options
        events = EventRecorder(client, "kubelet", options.node_name)
        tokens = Tokens(client, utc_now)

        def poke(uid: str) -> None:
            self.workers.poke(uid)

        def mounted_changed(uid: str) -> None:
            self.workers.refresh(uid)

        def tell(pod: Obj, kind: str, reason: str, message: str) -> None:
            events.event(pod, kind, reason, message)

        def tell_part(pod: Obj, path: str, kind: str, reason: str, message: str) -> None:
            events.event(pod, kind, reason, message, field_path=path)

        return Node(
            options=options,
            client=client,
            runtime=runtime,
            puller=pulling.make(options, client, images, tokens),
            cache=cache,
            probes=Probes(runtime, tell_part, poke),
            events=events,
            statuses=StatusWriter(client, lambda pod: api_object(self._pods, pod)),
            objects=ObjectFetcher(client, mounted_changed),
            tokens=tokens,
            certificates=PodCertificates(client, self.node_object, tell, mounted_changed, utc_now),
            services=self._services.store.list,
            node_object=self.node_object,
            csi=CsiDrivers(
                client, options.node_name, options.root_dir, self.node_object, self._node_changed, self._poke_all
            ),
            disks=Disks(options.root_dir, options.pods_dir, options.volume_plugin_dir),
            crashes=Backoff(time.time, longest=options.max_container_restart_period),
            starts=asyncio.Semaphore(options.max_parallel_starts),
            resizing=Resizing(
                options.pods_dir,
                lambda uid: self.workers.taken(but=uid),
                self.node_object,
                tell,
                poke,
                managers.fixed(),
                lambda pod, container: options.swap_behavior == LIMITED_SWAP and may_swap(pod, container),
            ),
            devices=managers.devices,
            managers=managers,
            users=UserRanges(options.pods_dir, options.max_pods),
            claims=DraManager(
                options.root_dir,
                lambda namespace, name: client.get(RESOURCE_CLAIMS, name, namespace),
                self._slices,
                poke,
            ),
            cpus_changed=self._rebinding.poke,
            cgroups=cgroups,
        )

    def _poke_all(self) -> None:
        """Something came that pods may be waiting for."""
        for uid in self.workers:
            self.workers.poke(uid)

    def _node_changed(self) -> None:
        """What the node's status tells is another now."""
        self.node_status.poke()

    def _used_images(self) -> Iterable[str]:
        """What containers here were made from, however it is called."""
        for pod in self.node.cache.pods.values():
            for one in pod.containers:
                yield from (one.image_id, one.image_ref, one.image.image)

    # What others ask.

    def node_object(self) -> Obj | None:
        """This node as the API has it."""
        return self._nodes.store.get(self.options.node_name)

    def pods(self) -> list[Obj]:
        """Every pod this kubelet looks after, with the status it decided."""
        return [{**one.pod, "status": self.node.statuses.shown(one.pod)} for one in self.workers.values()]

    def find_pod(self, namespace: str, name: str, uid: str = "") -> Obj | None:
        """A pod by its names; a static one also by its mirror's UID."""
        found = None
        for pod in self.pods():
            if name_of(pod) == name and pod["metadata"].get("namespace") == namespace:
                if not uid or uid_of(pod) == uid:
                    return pod
                found = pod if is_static(pod) else found
        return found

    # The life of the kubelet.

    def share_mounts(self) -> None:
        """Have what plugins in containers mount for pods reach other pods; it stays so when the kubelet ends."""
        try:
            share(self.options.root_dir)
        except OSError as error:
            _log.warning("mounts of plugins in containers do not reach other pods", error=str(error))

    async def run(self) -> None:
        """Run until cancelled; containers go on without it."""
        server = None
        try:
            await self._wait_for_runtime()
            await self._open_sockets()
            self._sources.read_files()
            self._nodes.add_handler(lambda _: self._node_told(), lambda _old, _new: self._node_told())
            self._factory.start()
            if self.options.tls_cert_file is not None and self.options.enable_server:
                from pinnace.kubelet.server.server import start_server

                server = await start_server(self)
                self.node_status.port = self.options.advertised_port or server.addresses[0][1]
            async with asyncio.TaskGroup() as group:
                for name, work in self._loops():
                    group.create_task(work(), name=f"kubelet {name}")
        except asyncio.CancelledError:
            if self.options.shutdown_on_sigterm:
                await self._shut_down()
            raise
        finally:
            await self._close()
            if server is not None:
                await server.close(1.0)

    def _node_told(self) -> None:
        """The API has the node otherwise than before."""
        self.node_status.poke()
        self.node.csi.node_changed()

    async def _shut_down(self) -> None:
        """The process was told to end, and the node goes down with it."""
        if self.shutdown.enabled:
            self.shutdown.under_way = True
            try:
                await self.node_status.update()
            except ApiError as error:
                _log.warning("cannot write node status", error=error.message)
            await self.shutdown.end_pods()

    def _loops(self) -> list[tuple[str, Callable[[], Coroutine[None, None, None]]]]:
        loops: list[tuple[str, Callable[[], Coroutine[None, None, None]]]] = [
            ("runtime", self._pleg.run),
            ("node status", self.node_status.run),
            ("lease", self._lease.run),
            ("node cgroups", lambda: self._cgroups.limit_pods(self.node.cgroups)),
            ("housekeeping", self._keep_house),
            ("CPUs", self._rebind),
            ("plugins", self._follow_plugins),
            ("images", self._images.run),
            ("eviction", self._keep_from_pressure),
            ("shutdown", self.shutdown.watch),
            ("logs", lambda: keep_rotated(self.node)),
            ("volumes", self.claimed_volumes.run),
            ("storage drivers", self.node.csi.keep_limits),
            ("pods", self._follow_pods),
            *self._sources.loops(),
        ]
        if self.options.healthz_port:
            loops.append(("health", self._serve_health))
        if self.options.read_only_port:
            loops.append(("read-only server", self._serve_read_only))
        return loops

    async def _serve_health(self) -> None:
        from pinnace.kubelet.server.server import serve_health

        await serve_health(self.options.healthz_bind_address, self.options.healthz_port)

    async def _serve_read_only(self) -> None:
        from pinnace.kubelet.server.server import serve_read_only

        await serve_read_only(self)

    async def _wait_for_runtime(self) -> None:
        """Until it answers, and what is its own to say is known."""
        while True:
            if await self._pleg.relist_once():
                try:
                    await self._learn_from_runtime()
                    await self.node.puller.recover()
                    return
                except CriError as error:
                    _log.warning("runtime does not answer", error=str(error))
            await asyncio.sleep(0.5)

    async def _learn_from_runtime(self) -> None:
        runtime = self.node.runtime
        self.options.container_runtime = (await runtime.version()).runtime_name
        try:
            self.options.cgroup_driver = await runtime.runtime_config()
        except CriError as error:
            if error.code != "UNIMPLEMENTED":
                raise
        if self.options.cgroup_driver == "systemd" and self.node.cgroups is not None:
            from pinnace.kubelet.resources.systemd_cgroups import by_systemd

            self.node.cgroups = by_systemd(self.node.cgroups)

    async def _follow_plugins(self) -> None:
        self._slices.started()
        try:
            handlers: dict[str, Handler] = {dra.TYPE: self.node.claims, drivers.TYPE: self.node.csi}
            await PluginSockets(self.options.root_dir / "plugins_registry", handlers).run()
        except OSError as error:
            _log.warning("plugins cannot register", error=str(error))

    async def _rebind(self) -> None:
        await self.pods_known.wait()
        await self._rebinding.run()

    async def _open_sockets(self) -> None:
        try:
            await self.node.devices.open()
            await self._pod_resources.open()
        except OSError as error:
            _log.warning("device plugins cannot register", error=str(error))

    async def _serve_pod_resources(self, socket: Path) -> Server:
        from pinnace.kubelet.devices.pod_resources import serve

        server: Server = await serve(socket, self.workers.running, self.node.managers)
        return server

    async def _follow_pods(self) -> None:
        """Take in the API's pods once what they need to start is known: this node, and services for their variables."""
        await asyncio.gather(self._services.wait_synced(), self._nodes.wait_synced(), self._pods.wait_synced())
        self._sources.follow_api()
        self.node.resizing.open()
        self.pods_known.set()

    async def _keep_house(self) -> None:
        await self.pods_known.wait()
        await self._sources.all_seen()
        await keep_house(self.node, self.workers, self._qos)

    async def _keep_from_pressure(self) -> None:
        await self.pods_known.wait()
        await self.eviction.run()

    async def _close(self) -> None:
        await self.node.devices.close()
        await self._pod_resources.close()
        await self.node.claims.close()
        await self.workers.close()
        await self.node.objects.close()
        await self.node.certificates.close()
        await self.node.csi.close()
        await self.node.probes.close()
        await self.node.statuses.close()
        try:
            async with asyncio.timeout(1.0):
                await self.node.events.close()
        except TimeoutError:
            pass
        await self._factory.stop()


def image_gc_policy(options: KubeletOptions) -> ImageGCPolicy:
    """When images go, by the kubelet's options."""
    return ImageGCPolicy(
        high_threshold_percent=options.image_gc_high_threshold_percent,
        low_threshold_percent=options.image_gc_low_threshold_percent,
        min_age=options.image_minimum_gc_age,
        max_age=options.image_maximum_gc_age,
    )
