"""Starts what a pod lacks: its sandbox, its files, and one container after the other.

Failures become waiting reasons and events in Kubernetes' words
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pinnace.apis.resources import RUNTIME_CLASSES
from pinnace.cri.api import ContainerState, ContainerStatus, CriError, Image, Mount, RuntimeHandler
from pinnace.kubelet.containers import env_files
from pinnace.kubelet.containers.env import ConfigError, Environment
from pinnace.kubelet.containers.network_files import dns_policy, dns_warnings, hosts_file
from pinnace.kubelet.containers.runtime_config import (
    DEFAULT_TERMINATION_PATH,
    Prepared,
    container_config,
    container_dir,
    sandbox_config,
)
from pinnace.kubelet.containers.security import verify_non_root
from pinnace.kubelet.containers.user_namespaces import has_own_users
from pinnace.kubelet.context import Node
from pinnace.kubelet.go_words import duration, rpc_error
from pinnace.kubelet.images.manager import PULL_FAILURES, ImageError
from pinnace.kubelet.pods import container_hash, described, field_path, grace_period, log_directory
from pinnace.kubelet.resources.cgroups import limit_together
from pinnace.kubelet.runtime.status import container_name, restart_count
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.status.container import Waiting
from pinnace.kubelet.sync.killing import kill_container
from pinnace.kubelet.sync.lifecycle import HookError, run_hook
from pinnace.kubelet.sync.start_times import StartTimes
from pinnace.kubelet.topology.errors import ManagerError
from pinnace.kubelet.volumes.pod_volumes import container_devices, container_mounts, image_volumes
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, namespace_of, uid_of
from pinnace.wire.tasks import end_tasks

RETRY = 10.0  # seconds until a start that failed is tried again
IMAGE_VOLUME_MOUNT_FAILED = "ImageVolumeMountFailed"  # what runtimes' errors about images as volumes begin with
SHOW_BACKOFF = 2.0  # seconds for which ErrImagePull is shown before ImagePullBackOff

# Of containers, by where they are in a pod: what measures call them.
_CONTAINER_TYPES = {
    "": "container",
    "spec.containers": "container",
    "spec.initContainers": "init_container",
    "spec.ephemeralContainers": "ephemeral_container",
}

_T = TypeVar("_T")


class Stopped(Exception):
    """The pod is to be stopped: what is being started is not wanted any more."""


class SandboxError(Exception):
    """The sandbox could not be made."""


async def unless(stopping: asyncio.Event, work: Awaitable[_T]) -> _T:
    """The result of `work`, which is given up when the pod is to be stopped. Raises Stopped."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Stopped
    finally:
        await end_tasks((stop, task))


async def create_sandbox(node: Node, pod: Obj, attempt: int) -> None:
    """Make the pod's cgroup and sandbox. Raises SandboxError."""
    measures.started_pods.inc()
    _, warning = dns_policy(pod, node.options.cluster_dns)
    if warning:
        node.tell(pod, "Warning", "MissingClusterDNS", f'pod: "{described(pod)}". {warning}')
    try:
        host_dns = node.host_dns()
        for words in dns_warnings(pod, host_dns, node.options.cluster_dns, node.options.cluster_domain):
            node.tell(pod, "Warning", "DNSConfigForming", words)
        config = sandbox_config(pod, attempt, node.options, host_dns)
        handler = await runtime_handler(node, pod)
        if has_own_users(pod):
            measures.started_user_namespaces.inc()
            _check_own_users(handler, (await node.runtime.features()).handlers)
        config.linux.security_context.namespace_options.userns_options = node.users.namespace(pod)
        log_directory(node.options.pod_logs_dir, pod).mkdir(parents=True, exist_ok=True)
        if node.cgroups is not None:
            node.cgroups.create(config.linux.cgroup_parent)
            limit_together(node.cgroups, config.linux.cgroup_parent, node.pod_limits(pod))
        async with node.starts:
            with measures.taking(measures.sandbox_seconds, handler):
                try:
                    identity = await node.runtime.run_pod_sandbox(config, handler)
                except CriError:
                    measures.sandbox_errors.inc(handler)
                    raise
        await node.cache.refresh_sandbox(identity)
    except CriError as error:
        message = f"Failed to create pod sandbox: {rpc_error(error)}"
        _count_failure(pod)
        node.tell(pod, "Warning", "FailedCreatePodSandBox", message)
        raise SandboxError(message) from error
    except (ApiError, ConfigError, OSError, ValueError) as error:
        message = f"Failed to create pod sandbox: {error.message if isinstance(error, ApiError) else error}"
        _count_failure(pod)
        node.tell(pod, "Warning", "FailedCreatePodSandBox", message)
        raise SandboxError(message) from error


def _count_failure(pod: Obj) -> None:
    measures.started_pods_errors.inc()
    if has_own_users(pod):
        measures.started_user_namespaces_errors.inc()


async def runtime_handler(node: Node, pod: Obj) -> str:
    """The handler of the pod's RuntimeClass, empty for the runtime's default. Raises ApiError and ConfigError."""
    name = pod["spec"].get("runtimeClassName")
    if not name:
        return ""
    try:
        handler: str = (await node.client.get(RUNTIME_CLASSES, name))["handler"]
    except ApiError as error:
        if error.is_not_found:
            raise ConfigError(f'runtimeclass.node.k8s.io "{name}" not found') from None
        raise
    return handler


def _check_own_users(handler: str, handlers: Sequence[RuntimeHandler]) -> None:
    """Raise ConfigError unless the runtime's handler can give a pod users of its own."""
    if not handlers:
        raise ConfigError("runtime handlers are not set")
    found = next((one for one in handlers if one.name == handler), None)
    if found is None:
        raise ConfigError(f'the handler "{handler}" is not known')
    if not found.user_namespaces:
        raise ConfigError(f'RuntimeClass handler "{handler}" does not support user namespaces')


class Starter:
    """Starts containers of one pod; `waiting` says by name why some do not start."""

    def __init__(
        self, node: Node, stopping: asyncio.Event, show: Callable[[], object], times: StartTimes | None = None
    ) -> None:
        self._node = node
        self._times = times
        self._show = show  # writes the pod's status, before something that takes long
        self._stopping = stopping
        self.waiting: dict[str, Waiting] = {}
        self._counts: dict[str, int] = {}  # restarts of containers that were removed to start all of the pod anew

    async def begin_anew(self, pod: Obj, trigger: str) -> None:
        """Remove all containers, none of which runs any more. Raises CriError.

        That one goes last whose end began it: a kubelet started meanwhile sees by it that the others are to go.
        """
        runtime = self._node.cache.get(uid_of(pod))
        for status in sorted(runtime.containers, key=lambda one: container_name(one) == trigger):
            name = container_name(status)
            self._counts[name] = max(self._counts.get(name, 0), restart_count(status) + 1)
            self.waiting.pop(name, None)
            await self._node.runtime.remove_container(status.id)
            self._node.cache.drop(status.id)

    def backoff_left(self, pod: Obj, container: Obj) -> float:
        """Seconds that a container which ended must still wait; notes the waiting reason."""
        latest = self._node.cache.get(uid_of(pod)).latest(container["name"])
        if latest is None or latest.state is not ContainerState.EXITED:
            return 0.0
        finished = latest.finished_at / 1e9
        key = _backoff_key(pod, container)
        left = self._node.crashes.remaining(key, finished)
        if left > 0:
            name = container["name"]
            wait = duration(self._node.crashes.get(key))
            text = f"back-off {wait} restarting failed container={name} pod={described(pod)}"
            self.waiting[name] = Waiting("CrashLoopBackOff", text)
            told = f"Back-off restarting failed container {name} in pod {described(pod)}"
            self._node.tell_container(pod, name, "Warning", "BackOff", told)
            return left
        self._node.crashes.next(key, finished)
        return 0.0

    async def start(self, pod: Obj, container: Obj, volumes: Mapping[str, Path]) -> float:
        """Start one container; 0 when it runs, else seconds until another attempt makes sense. Raises Stopped."""
        name = container["name"]
        left = self.backoff_left(pod, container)
        if left > 0:
            return left
        wanted = container
        kind = _CONTAINER_TYPES[field_path(pod, name).partition("{")[0]]
        measures.started_containers.inc(kind)
        try:
            image = await unless(self._stopping, self._image(pod, container))
            images = {}
            for volume, source in image_volumes(pod, container).items():
                wanted = {"name": name, "image": source["reference"], "imagePullPolicy": source.get("pullPolicy")}
                measures.image_volumes.inc()
                images[volume] = await unless(self._stopping, self._image(pod, wanted))
                measures.image_volumes_mounted.inc()
        except ImageError as error:
            if wanted is not container:
                measures.image_volumes_failed.inc()
            self.waiting[name] = Waiting(error.reason, error.message)
            measures.started_containers_errors.inc(error.reason, kind)
            self._node.tell_container(pod, name, "Warning", "Failed", f"Error: {error.reason}")
            if error.reason in PULL_FAILURES:
                return SHOW_BACKOFF
            return self._node.puller.remaining(pod, wanted.get("image") or "") or RETRY
        try:
            prepared = await self._prepare(pod, container, image, volumes, images)
        except (ConfigError, OSError) as error:
            self._failed(pod, name, "CreateContainerConfigError", str(error))
            return RETRY
        return await self._run(pod, container, prepared)

    def _failed(self, pod: Obj, name: str, reason: str, message: str) -> None:
        measures.started_containers_errors.inc(reason, _CONTAINER_TYPES[field_path(pod, name).partition("{")[0]])
        self.waiting[name] = Waiting(reason, message)
        self._node.tell_container(pod, name, "Warning", "Failed", f"Error: {message}")

    async def _image(self, pod: Obj, container: Obj) -> Image:
        def tell(kind: str, reason: str, message: str) -> None:
            self._node.tell_container(pod, container["name"], kind, reason, message)
            if self._times is not None and reason == "Pulled" and message.startswith("Successfully"):
                self._times.pulled()
            if reason == "Pulling":
                if self._times is not None:
                    self._times.pulling()
                self._show()

        return await self._node.puller.ensure(pod, container, await self._pull_secrets(pod), tell)

    async def _pull_secrets(self, pod: Obj) -> list[Obj]:
        found, missing = [], []
        fetch = self._node.objects.fetch_for(pod)
        for reference in pod["spec"].get("imagePullSecrets") or ():
            try:
                found.append(await fetch("Secret", namespace_of(pod), reference["name"]))
            except ApiError:
                missing.append(reference["name"])
        if missing:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
            text += "attempting to pull the image may not succeed."
            self._node.tell(pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        return found

    async def _prepare(
        self, pod: Obj, container: Obj, image: Image, volumes: Mapping[str, Path], images: Mapping[str, Image]
    ) -> Prepared:
        """Environment, mounts and checks; `images` are those that volumes name. Raises ConfigError."""
        node = self._node
        verify_non_root(pod, container, image)
        runtime = node.cache.get(uid_of(pod))
        ips = runtime.ips or (node.options.node_ips if pod["spec"].get("hostNetwork") else [])
        environment = Environment(
            node.facts(pod, ips),
            node.objects.fetch_for(pod),
            node.service_links(pod),
            lambda reference: env_files.variable(reference, volumes),
        )
        envs = await unless(self._stopping, environment.build(container))
        pod_dir = node.options.pods_dir / uid_of(pod)
        mounts = container_mounts(pod, container, volumes, envs, pod_dir, images)
        users = node.users.namespace(pod)
        if users is not None:
            for mount in mounts:
                mount.uidMappings, mount.gidMappings = users.uids, users.gids
        mounts += self._own_mounts(pod, container, ips, {mount.container_path for mount in mounts})
        latest = runtime.latest(container["name"])
        shown = _shown_count(node.statuses.shown(pod), container["name"])
        attempt = restart_count(latest) + 1 if latest is not None else self._counts.get(container["name"], shown)
        prepared = Prepared(envs=envs, image=image, attempt=attempt, mounts=mounts)
        prepared.devices = container_devices(pod, container, volumes)
        try:
            await node.devices.starting(uid_of(pod), container["name"])
        except ManagerError as error:
            raise ConfigError(str(error)) from error
        prepared.cdi_devices += node.claims.cdi_devices(pod, container)
        prepared.hold(node.devices.held(uid_of(pod), container["name"]).values())
        return prepared

    def _own_mounts(self, pod: Obj, container: Obj, ips: list[str], taken: set[str]) -> list[Mount]:
        """The hosts file and the file for termination messages."""
        node, found = self._node, []
        if "/etc/hosts" not in taken:
            hosts = node.options.pods_dir / uid_of(pod) / "etc-hosts"
            hosts.parent.mkdir(parents=True, exist_ok=True)
            hosts.write_text(hosts_file(pod, ips, node.options.cluster_domain, _node_hosts()))
            found.append(Mount(container_path="/etc/hosts", host_path=str(hosts)))
        path = container.get("terminationMessagePath") or DEFAULT_TERMINATION_PATH
        if path not in taken:
            directory = container_dir(node.options, pod, container["name"])
            directory.mkdir(parents=True, exist_ok=True)
            file = directory / secrets.token_hex(4)
            file.touch()
            file.chmod(0o666)
            found.append(Mount(container_path=path, host_path=str(file)))
        return found

    async def _run(self, pod: Obj, container: Obj, prepared: Prepared) -> float:
        node, name = self._node, container["name"]
        sandbox = node.cache.get(uid_of(pod)).sandbox
        if sandbox is None:
            return RETRY
        config = container_config(pod, container, prepared, node.options, node.memory_capacity(), node.page_sizes)
        node.managers.bind(uid_of(pod), name, config.linux.resources)
        config.linux.resources.unified.update(node.container_files(pod, container))
        pod_config = sandbox_config(pod, sandbox.metadata.attempt, node.options, node.host_dns())
        users = node.users.namespace(pod)
        pod_config.linux.security_context.namespace_options.userns_options = users
        config.linux.security_context.namespace_options.userns_options = users
        log_directory(node.options.pod_logs_dir, pod).joinpath(name).mkdir(parents=True, exist_ok=True)
        try:
            identity = await node.runtime.create_container(sandbox.id, config, pod_config)
        except CriError as error:
            mounting = error.message.startswith(IMAGE_VOLUME_MOUNT_FAILED)
            self._failed(pod, name, IMAGE_VOLUME_MOUNT_FAILED if mounting else "CreateContainerError", error.message)
            return RETRY
        node.resizing.set_actual(pod, name, container.get("resources") or {})
        node.tell_container(pod, name, "Normal", "Created", "Container created")
        try:
            await node.runtime.start_container(identity)
        except CriError as error:
            await node.cache.refresh_container(identity, sandbox.id)
            self._failed(pod, name, "RunContainerError", error.message)
            return RETRY
        node.tell_container(pod, name, "Normal", "Started", "Container started")
        self.waiting.pop(name, None)
        await node.cache.refresh_container(identity, sandbox.id)
        return await self._post_start(pod, container, identity)

    async def _post_start(self, pod: Obj, container: Obj, identity: str) -> float:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return 0.0
        node, name = self._node, container["name"]
        runtime = node.cache.get(uid_of(pod))
        address = runtime.ips[0] if runtime.ips else node.options.node_ip
        try:
            await unless(self._stopping, run_hook(hook, container, identity, address, node.runtime))
        except HookError as error:
            node.tell_container(pod, name, "Warning", "FailedPostStartHook", "PostStartHook failed")
            status = _by_id(node, pod, identity)
            if status is not None:
                await kill_container(node, pod, status, grace_period(pod), "FailedPostStartHook")
            self.waiting[name] = Waiting("PostStartHookError", str(error))
            return RETRY
        return 0.0


def _by_id(node: Node, pod: Obj, identity: str) -> ContainerStatus | None:
    return next((one for one in node.cache.get(uid_of(pod)).containers if one.id == identity), None)


def _backoff_key(pod: Obj, container: Obj) -> str:
    # with its resources, for one that was given more shall not wait for the failures it had with less
    return f"{uid_of(pod)}_{container['name']}_{container_hash(container)}_{container.get('resources') or ''}"


def _shown_count(status: Obj, name: str) -> int:
    """The restart count the API shows, so that one whose container was lost goes on counting."""
    for kind in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(kind) or ():
            if one["name"] == name:
                return int(one.get("restartCount") or 0)
    return 0


def _node_hosts() -> str:
    try:
        return Path("/etc/hosts").read_text()
    except OSError:
        return ""
