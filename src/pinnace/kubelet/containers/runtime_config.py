"""A pod and its containers in the runtime's terms: `PodSandboxConfig` and `ContainerConfig`.

Pure assembly of what `security`, `resources`, `network_files` and `env` decide. Labels and annotations are the
kubelet's own names, which is how a kubelet started anew recognizes what runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pinnace.cri.api import (
    CDIDevice,
    ContainerConfig,
    ContainerMetadata,
    Device,
    DNSConfig,
    Image,
    ImageSpec,
    LinuxContainerConfig,
    LinuxPodSandboxConfig,
    Mount,
    MountPropagation,
    PodSandboxConfig,
    PodSandboxMetadata,
    PortMapping,
)
from pinnace.kubelet import pods
from pinnace.kubelet.containers.env import ConfigError, expand
from pinnace.kubelet.containers.network_files import pod_dns
from pinnace.kubelet.containers.security import container_context, sandbox_context
from pinnace.kubelet.devices.manager import Held
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.resources.amounts import cgroup_parent, container_resources
from pinnace.machinery.meta import Obj, annotations_of, labels_of, name_of, namespace_of, uid_of

MAX_HOSTNAME = 64  # the kernel's limit
DEFAULT_TERMINATION_PATH = "/dev/termination-log"

_PROPAGATION = {
    "None": MountPropagation.PRIVATE,
    "HostToContainer": MountPropagation.HOST_TO_CONTAINER,
    "Bidirectional": MountPropagation.BIDIRECTIONAL,
}


def pod_labels(pod: Obj) -> dict[str, str]:
    return {
        pods.LABEL_POD_NAME: name_of(pod),
        pods.LABEL_POD_NAMESPACE: namespace_of(pod),
        pods.LABEL_POD_UID: uid_of(pod),
    }


def sandbox_hostname(pod: Obj, cluster_domain: str) -> str:
    """The host name inside the pod; raises ConfigError where setHostnameAsFQDN asks for too long a one."""
    hostname, domain = pods.pod_hostname(pod, cluster_domain)
    if not pod["spec"].get("setHostnameAsFQDN") or not domain:
        return hostname
    fqdn = f"{hostname}.{domain}"
    if len(fqdn) > MAX_HOSTNAME:
        raise ConfigError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long "
            f"({MAX_HOSTNAME} characters is the max, {len(fqdn)} characters requested)"
        )
    return fqdn


def sandbox_config(pod: Obj, attempt: int, options: KubeletOptions, host_dns: DNSConfig) -> PodSandboxConfig:
    host_network = pods.is_host_network(pod)
    sysctls = (pod["spec"].get("securityContext") or {}).get("sysctls") or []
    return PodSandboxConfig(
        metadata=PodSandboxMetadata(name=name_of(pod), namespace=namespace_of(pod), uid=uid_of(pod), attempt=attempt),
        hostname="" if host_network else sandbox_hostname(pod, options.cluster_domain),  # empty: the machine's
        log_directory=str(pods.log_directory(options.pod_logs_dir, pod)),
        dns_config=pod_dns(pod, host_dns, options.cluster_dns, options.cluster_domain),
        port_mappings=[] if host_network else port_mappings(pod),
        labels={**labels_of(pod), **pod_labels(pod)},
        annotations=dict(annotations_of(pod)),
        linux=LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent(pod, options.cgroup_root, options.cgroup_driver),
            security_context=sandbox_context(pod),
            sysctls={one["name"]: str(one["value"]) for one in sysctls},
        ),
    )


def port_mappings(pod: Obj) -> list[PortMapping]:
    """The host ports of main containers and sidecars."""
    sidecars = [one for one in pods.init_containers(pod) if pods.is_sidecar(one)]
    return [
        PortMapping(
            protocol=port.get("protocol") or "TCP",
            container_port=port["containerPort"],
            host_port=port["hostPort"],
            host_ip=port.get("hostIP") or "",
        )
        for container in (*sidecars, *pods.containers(pod))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


@dataclass(slots=True, kw_only=True)
class Prepared:
    """What was made ready for one container: its environment, mounts and image."""

    envs: dict[str, str]
    image: Image
    attempt: int
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    cdi_devices: list[str] = field(default_factory=list)

    def hold(self, held: Iterable[Held]) -> None:
        """Add what the plugins of devices said that a container with them needs; its own variables win."""
        for one in held:
            options = one.options
            self.envs = {**options["envs"], **self.envs}
            self.annotations.update(options["annotations"])
            self.cdi_devices += [name for name in options["cdi_devices"] if name not in self.cdi_devices]
            for inside, outside, readonly in options["mounts"]:
                self.mounts.append(Mount(container_path=inside, host_path=outside, readonly=readonly))
            for inside, outside, permissions in options["devices"]:
                self.devices.append(Device(container_path=inside, host_path=outside, permissions=permissions))


def propagation(mount: Obj) -> MountPropagation:
    return _PROPAGATION[mount.get("mountPropagation") or "None"]


def container_config(
    pod: Obj,
    container: Obj,
    prepared: Prepared,
    options: KubeletOptions,
    memory_capacity: int,
    page_sizes: Iterable[str] = (),
) -> ContainerConfig:
    name = container["name"]
    envs = prepared.envs
    return ContainerConfig(
        metadata=ContainerMetadata(name=name, attempt=prepared.attempt),
        image=ImageSpec(image=prepared.image.id),
        command=[expand(word, envs) for word in container.get("command") or ()],
        args=[expand(word, envs) for word in container.get("args") or ()],
        working_dir=container.get("workingDir") or "",
        envs=envs,
        mounts=prepared.mounts,
        devices=prepared.devices,
        CDI_devices=[CDIDevice(name=name) for name in prepared.cdi_devices],
        labels={pods.LABEL_CONTAINER_NAME: name, **pod_labels(pod)},
        annotations={**container_annotations(pod, container, prepared.attempt), **prepared.annotations},
        log_path=f"{name}/{prepared.attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=LinuxContainerConfig(
            resources=container_resources(pod, container, memory_capacity, page_sizes, quotas=options.cpu_cfs_quota),
            security_context=container_context(
                pod, container, prepared.image, options.root_dir, seccomp_default=options.seccomp_default
            ),
        ),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or "",
    )


def container_annotations(pod: Obj, container: Obj, attempt: int) -> dict[str, str]:
    found = {
        pods.ANNOTATION_HASH: pods.container_hash(container),
        pods.ANNOTATION_RESTART_COUNT: str(attempt),
        pods.ANNOTATION_TERMINATION_PATH: container.get("terminationMessagePath") or DEFAULT_TERMINATION_PATH,
        pods.ANNOTATION_TERMINATION_POLICY: container.get("terminationMessagePolicy") or "File",
        pods.ANNOTATION_POD_GRACE: str(pods.grace_period(pod)),
    }
    if container.get("ports"):
        found["io.kubernetes.container.ports"] = orjson.dumps(container["ports"]).decode()
    return found


def container_dir(options: KubeletOptions, pod: Obj, name: str) -> Path:
    """Where the kubelet keeps a container's termination messages."""
    return options.pods_dir / uid_of(pod) / "containers" / name
