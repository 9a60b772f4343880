"""The kubelet: joins pod sources, the runtime's events and the workers of pods, and runs them until cancelled.

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
from pinnace.kubelet import admission, preemption
from pinnace.kubelet.containers import sysctls
from pinnace.kubelet.containers.user_namespaces import UserRanges
from pinnace.kubelet.context import Node
from pinnace.kubelet.csi import drivers
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.devices import dra
from pinnace.kubelet.devices.dra import DraManager
from pinnace.kubelet.devices.gate import Gate, Server
from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.eviction.ranking import is_critical
from pinnace.kubelet.eviction.surroundings import ImageDisk, make_manager
from pinnace.kubelet.images.gc import ImageCollector, ImageGCPolicy
from pinnace.kubelet.images.manager import ImagePuller
from pinnace.kubelet.logs.rotation import keep_rotated
from pinnace.kubelet.node.lease import NodeLease
from pinnace.kubelet.node.machine_info import has_apparmor
from pinnace.kubelet.node.shutdown import NodeShutdown
from pinnace.kubelet.node.status import NodeStatus, capacity
from pinnace.kubelet.objects import ObjectFetcher
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.plugins.sockets import Handler, PluginSockets
from pinnace.kubelet.pods import amount_of, is_mirror, is_static
from pinnace.kubelet.probes.manager import Probes
from pinnace.kubelet.resources.cgroups import CgroupManager, share_classes
from pinnace.kubelet.resources.qos_cgroups import QosCgroups
from pinnace.kubelet.resources.resizing import Resizing
from pinnace.kubelet.resources.swap import LIMITED_SWAP, may_swap
from pinnace.kubelet.runtime import gc
from pinnace.kubelet.runtime.health import RuntimeHealth
from pinnace.kubelet.runtime.pleg import Pleg
from pinnace.kubelet.runtime.status import PodRuntimeStatus, RuntimeCache, container_name
from pinnace.kubelet.server.auth import ServerAuth
from pinnace.kubelet.static_pods import Mirrors, StaticPods, UrlPods
from pinnace.kubelet.statistics.pod_usage import UsageReader
from pinnace.kubelet.statistics.summary import Summary
from pinnace.kubelet.status.writer import StatusWriter
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.kubelet.sync.pod_workers import PodWorker, Stage
from pinnace.kubelet.topology import configured
from pinnace.kubelet.topology.rebinding import Rebinding
from pinnace.kubelet.volumes import csi
from pinnace.kubelet.volumes.mounts import share
from pinnace.kubelet.volumes.pod_certificates import PodCertificates
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, key_of, name_of, uid_of, utc_now

_log = structlog.get_logger()


class Kubelet:
    """One node's agent. `run()` is everything; `pods()` and `node` are for its HTTP server."""

    def __init__(
        self,
        client: Client,
        runtime: RuntimeService,
        images: ImageService,
        options: KubeletOptions,
        cgroups: CgroupManager | None = None,
    ) -> None:
        self.options = options
        options.root_dir.mkdir(parents=True, exist_ok=True)
        options.pods_dir.mkdir(parents=True, exist_ok=True)
        options.pod_logs_dir.mkdir(parents=True, exist_ok=True)
        self._client = client
        self._factory = InformerFactory(client)
        self._pods = self._factory.informer(PODS, field_selector=f"spec.nodeName={options.node_name}")
        self._nodes = self._factory.informer(NODES, field_selector=f"metadata.name={options.node_name}")
        self._services = self._factory.informer(SERVICES)
        events = EventRecorder(client, "kubelet", options.node_name)
        cache = RuntimeCache(runtime, options.node_ip)
        devices = DeviceManager(options.root_dir / "device-plugins", self._devices_changed)
        managers = configured.make(options, devices)
        self._pod_resources = Gate(options.root_dir / "pod-resources" / "kubelet.sock", self._serve_pod_resources)
        self._rebinding = Rebinding(runtime, cache, lambda: managers.cpu)
        self.node = Node(
            options=options,
            client=client,
            runtime=runtime,
            puller=ImagePuller(images, parallel=options.max_parallel_image_pulls),
            cache=cache,
            probes=Probes(runtime, self._tell, self._poke),
            events=events,
            statuses=StatusWriter(client, self._api_object),
            objects=ObjectFetcher(client, self._mounted_changed),
            tokens=Tokens(client, utc_now),
            certificates=PodCertificates(client, self.node_object, self._tell_pod, self._mounted_changed, utc_now),
            services=self._services.store.list,
            node_object=self.node_object,
            csi=CsiDrivers(client, options.node_name, options.root_dir, self.node_object, self._poke_node),
            crashes=Backoff(time.time, longest=options.max_container_restart_period),
            starts=asyncio.Semaphore(options.max_parallel_starts),
            resizing=Resizing(
                options.pods_dir,
                self._others,
                self.node_object,
                self._tell_pod,
                self._poke,
                managers.fixed(),
                lambda pod, container: options.swap_behavior == LIMITED_SWAP and may_swap(pod, container),
            ),
            devices=devices,
            managers=managers,
            users=UserRanges(options.pods_dir, options.max_pods),
            claims=DraManager(options.root_dir, lambda namespace, name: client.get(RESOURCE_CLAIMS, name, namespace)),
            cpus_changed=lambda: self._rebinding.poke(),
            cgroups=cgroups,
        )
        self.workers: dict[str, PodWorker] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}  # pod UID -> who wants to know of changes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._static: StaticPods | None = None
        if options.manifest_dir is not None:
            self._static = StaticPods(
                options.manifest_dir, options.node_name, self._static_changed, options.file_check_frequency
            )
        self._url: UrlPods | None = None
        if options.manifest_url:
            headers, period = options.manifest_url_header, options.http_check_frequency
            self._url = UrlPods(options.manifest_url, headers, options.node_name, self._static_changed, period)
        self._mirrors = Mirrors(client, self._mirror_pods, self.node_object)
        self._mirrors_due = asyncio.Event()
        self.pods_known = asyncio.Event()  # set once every pod of the API has its worker
        health = RuntimeHealth(time.monotonic)
        self._pleg = Pleg(runtime, cache, health, self._poke, options.relist_period)
        self.node_status = NodeStatus(
            client, runtime, images, options, events, self.node_object, health, lambda: self.eviction.conditions
        )
        self.node_status.devices = self.node.devices.capacity
        self.node.swap_capacity = self.node_status.machine.swap
        self.node_status.volumes_in_use = self.node.csi.in_use
        csi.adopt(self.node.csi, options.pods_dir)
        gives = capacity(options, self.node_status.machine)[1]
        self._qos = QosCgroups(options.cgroup_root, amount_of("cpu", gives["cpu"]))
        self.usages = UsageReader(runtime, options)
        self.image_disk = ImageDisk(images, options.root_dir)
        self.summary = Summary(self)
        self.auth = ServerAuth(client, options)
        policy = ImageGCPolicy(
            high_threshold_percent=options.image_gc_high_threshold_percent,
            low_threshold_percent=options.image_gc_low_threshold_percent,
            min_age=options.image_minimum_gc_age,
            max_age=options.image_maximum_gc_age,
        )
        self._images = ImageCollector(images, policy, self._used_images, self.image_disk.read, self.node_status.tell)
        self.eviction = make_manager(
            self.node, self.workers, self.usages, self.image_disk, self._images, self.node_status
        )
        self.shutdown = NodeShutdown(
            options, self.workers, self.node_status.tell, self.node_status.poke, self.node.statuses.flush
        )
        self.node_status.shutting_down = lambda: self.shutdown.problem
        self._lease = NodeLease(client, options.node_name, options.node_lease_duration, self.node_object)

    def _used_images(self) -> Iterable[str]:
        """What containers here were made from, however it is called."""
        for pod in self.node.cache.pods.values():
            for one in pod.containers:
                yield from (one.image_id, one.image_ref, one.image.image)

    def _devices_changed(self) -> None:
        self.node_status.poke()

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
            if self._static is not None:
                self._static.read()
            self._nodes.add_handler(lambda _: self._node_changed(), lambda _old, _new: self._node_changed())
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

    def _node_changed(self) -> None:
        self.node_status.poke()
        self.node.csi.node_changed()

    def _poke_node(self) -> None:
        self.node_status.poke()

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
            ("housekeeping", self._housekeeping),
            ("CPUs", self._rebind),
            ("plugins", self._follow_plugins),
            ("images", self._images.run),
            ("eviction", self._keep_from_pressure),
            ("shutdown", self.shutdown.watch),
            ("logs", lambda: keep_rotated(self.node)),
            ("mirrors", self._keep_mirrors),
            ("pods", self._follow_pods),
        ]
        if self._static is not None:
            loops.append(("static pods", self._static.run))
        if self._url is not None:
            loops.append(("static pods of a URL", self._url.run))
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
        if self.options.cgroup_driver == "systemd":
            self.node.cgroups = None  # slices are systemd's: what the runtime does not ask of it is not done

    async def _follow_plugins(self) -> None:
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

        server: Server = await serve(socket, self._running_pods, self.node.managers)
        return server

    def _running_pods(self) -> list[Obj]:
        return [one.pod for one in self.workers.values() if one.admitted and one.stage is Stage.SYNCING]

    async def _close(self) -> None:
        await self.node.devices.close()
        await self._pod_resources.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.node.objects.close()
        await self.node.certificates.close()
        await self.node.probes.close()
        await self.node.statuses.close()
        try:
            async with asyncio.timeout(1.0):
                await self.node.events.close()
        except TimeoutError:
            pass
        await self._factory.stop()

    # Pods come, change and go.

    async def _follow_pods(self) -> None:
        """Take in the API's pods once what they need to start is known: this node, and services for their variables."""
        await asyncio.gather(self._services.wait_synced(), self._nodes.wait_synced(), self._pods.wait_synced())
        self._pods.add_handler(self._added, lambda _old, new: self._added(new), self._deleted)
        self.node.resizing.open()
        self.pods_known.set()

    def _added(self, pod: Obj) -> None:
        if is_mirror(pod):
            self._mirrors_due.set()
            for worker in self.workers.values():
                if key_of(worker.pod) == key_of(pod):
                    self.node.statuses.retry(worker.pod)
            return
        self._want(pod)

    def _deleted(self, pod: Obj) -> None:
        if is_mirror(pod):
            self._mirrors_due.set()
            return
        worker = self.workers.get(uid_of(pod))
        if worker is not None:
            worker.remove()

    def _want(self, pod: Obj) -> None:
        worker = self.workers.get(uid_of(pod))
        if worker is None:
            self._start_worker(pod)
        elif worker.stage is not Stage.FINISHED and _wish(worker.asked) != _wish(pod):
            worker.update(pod)
        elif not is_static(pod):
            worker.note(pod)
            self.node.statuses.retry(pod)

    def _start_worker(self, pod: Obj) -> PodWorker:
        uid = uid_of(pod)
        self.node.objects.register(pod)
        worker = self.workers[uid] = PodWorker(self.node, pod, self._admit)
        task = self._tasks[uid] = asyncio.create_task(worker.run(), name=f"pod {key_of(pod)}")
        task.add_done_callback(lambda _: self._finished(uid))
        return worker

    def _finished(self, uid: str) -> None:
        self.workers.pop(uid, None)
        self._tasks.pop(uid, None)
        self.node.objects.unregister(uid)
        self.node.certificates.forget(uid)
        self.node.resizing.forget(uid)
        self.node.users.forget(uid)
        self.node.resizing.retry()

    def _static_pods(self) -> dict[str, Obj]:
        """Those of the directory and of the URL, by UID."""
        return {uid: pod for source in (self._static, self._url) if source for uid, pod in source.pods.items()}

    def _static_changed(self) -> None:
        wanted = self._static_pods()
        for uid, pod in wanted.items():
            if uid not in self.workers:
                self._start_worker(pod)
        for uid, worker in self.workers.items():
            if is_static(worker.pod) and uid not in wanted:
                worker.remove()
        self._mirrors_due.set()

    def _admit(self, pod: Obj) -> admission.Refusal | None:
        options = self.options
        refusal = self.shutdown.admit(pod) or self.eviction.admit(pod)
        refusal = refusal or sysctls.forbidden(pod, options.minor, options.allowed_unsafe_sysctls)
        if refusal is not None:
            return refusal
        refusal = admission.refuse_apparmor(pod, enabled=has_apparmor())
        refusal = refusal or admission.admit(pod, (), self.node_object())
        if refusal is not None:
            return refusal
        self._make_room(pod)
        others = self._others(uid_of(pod))
        refusal = admission.admit(pod, others, self.node_object())
        if refusal is None:
            self._divide_cpu([*others, pod])
        return refusal

    def _divide_cpu(self, pods: list[Obj]) -> None:
        if self.node.cgroups is not None:
            self._qos.apply(self.node.cgroups, pods)

    def _make_room(self, pod: Obj) -> None:
        """End others for a critical pod that the node has no room for. Raises Postponed until they have ended."""
        node = self.node_object()
        if node is None or not is_critical(pod):
            return
        allocatable = get_in(node, "status", "allocatable", default={})
        others = self._others(uid_of(pod))
        if not preemption.lacking(pod, others, allocatable):
            return
        staying = [one for one in others if not self.workers[uid_of(one)].ending]
        missing = preemption.lacking(pod, staying, allocatable)
        chosen = preemption.victims(pod, staying, missing) if missing else []
        if chosen is None:
            return
        for one in chosen:
            self._tell_pod(one, "Warning", preemption.REASON, preemption.MESSAGE)
            preemption.preemptions.inc(",".join(sorted(missing)))
            worker = self.workers[uid_of(one)]
            worker.fail(preemption.REASON, preemption.MESSAGE, disruption=preemption.DISRUPTION)
        raise admission.Postponed

    def _others(self, uid: str) -> list[Obj]:
        """The other pods that the node has taken and that have not ended."""
        return [
            one.pod
            for one in self.workers.values()
            if one.uid != uid
            and one.stage in (Stage.SYNCING, Stage.TERMINATING)
            and (one.admitted or self.node.resizing.is_granted(one.uid))
        ]

    def listen(self, uid: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back on every change that the runtime reports of a pod; returns what ends that."""
        self._listeners.setdefault(uid, set()).add(callback)

        def unlisten() -> None:
            callbacks = self._listeners.get(uid, set())
            callbacks.discard(callback)
            if not callbacks:
                self._listeners.pop(uid, None)

        return unlisten

    def _poke(self, uid: str) -> None:
        for callback in list(self._listeners.get(uid, ())):
            callback()
        worker = self.workers.get(uid)
        if worker is not None:
            worker.poke()

    def _tell_pod(self, pod: Obj, kind: str, reason: str, message: str) -> None:
        self.node.events.event(pod, kind, reason, message)

    def _mounted_changed(self, uid: str) -> None:
        """An object that a pod mounts is another now."""
        worker = self.workers.get(uid)
        if worker is not None:
            worker.refresh()

    def _tell(self, pod: Obj, path: str, kind: str, reason: str, message: str) -> None:
        self.node.events.event(pod, kind, reason, message, field_path=path)

    # Mirror pods.

    def _mirror_pods(self) -> list[Obj]:
        return [pod for pod in self._pods.store.list() if is_mirror(pod)]

    def _api_object(self, pod: Obj) -> Obj | None:
        """The API's object of a pod: a static pod's is its mirror."""
        found = self._pods.store.get(key_of(pod))
        if is_static(pod):
            return found if found is not None and is_mirror(found) else None
        if found is not None and uid_of(found) == uid_of(pod):
            return found
        return pod

    async def _keep_mirrors(self) -> None:
        await self._pods.wait_synced()
        while True:
            self._mirrors_due.clear()
            await self._mirrors.reconcile(self._static_pods())
            try:
                async with asyncio.timeout(self.options.sync_frequency):
                    await self._mirrors_due.wait()
            except TimeoutError:
                continue

    # Housekeeping.

    async def _housekeeping(self) -> None:
        await self.pods_known.wait()  # before that, every container would seem to belong to nobody
        if self._url is not None:
            await self._url.seen.wait()
        while True:
            self._adopt_orphans()
            for uid, worker in list(self.workers.items()):
                if worker.stage is Stage.SYNCING:
                    await gc.collect_pod(self.node, uid)
            await gc.collect_beyond_all(self.node)
            await gc.collect_directories(self.node, {*self.workers, *self.node.cache.pods})
            self.node.crashes.collect()
            self._divide_cpu(self._others(""))
            self.node.resizing.retry()
            self._share_classes()
            self.node.managers.keep_only(self.workers)
            await self.node.claims.keep_only(self.workers)
            self.node.devices.expire(time.monotonic())
            await asyncio.sleep(self.options.housekeeping_period)

    async def _keep_from_pressure(self) -> None:
        await self.pods_known.wait()
        await self.eviction.run()

    def _share_classes(self) -> None:
        if self.node.cgroups is None:
            return
        pods = [one.pod for one in self.workers.values() if one.admitted and one.stage is Stage.SYNCING]
        try:
            share_classes(self.node.cgroups, pods, self.options.cgroup_root)
        except OSError as error:
            _log.warning("cannot share CPUs between QoS classes", error=str(error))

    def _adopt_orphans(self) -> None:
        """What runs without anybody wishing for it is stopped and removed like a deleted pod."""
        for uid, runtime in list(self.node.cache.pods.items()):
            if uid and uid not in self.workers:
                _log.info("stopping a pod that nobody wishes for", pod=runtime.name, namespace=runtime.namespace)
                self._start_worker(orphan_pod(uid, runtime)).remove()


def _wish(pod: Obj) -> tuple[object, ...]:
    """What of a pod a worker acts upon; its status is the kubelet's own, but for conditions of others."""
    metadata = pod["metadata"]
    others = tuple(
        (one["type"], one.get("status"))
        for one in get_in(pod, "status", "conditions", default=[])
        if one["type"] in {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    )
    return (
        pod["spec"],
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
        others,
    )


def orphan_pod(uid: str, runtime: PodRuntimeStatus) -> Obj:
    """As much of a pod as the runtime still knows: enough to stop it."""
    names = dict.fromkeys(container_name(status) for status in runtime.containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": runtime.name, "namespace": runtime.namespace, "uid": uid},
        "spec": {"containers": [{"name": name} for name in names]},
    }
