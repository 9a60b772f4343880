"""From CRI's container config and an image's config to an OCI runtime-spec `config.json`; pure.

The result is what runc or crun would be given, with extensions: `process.user.username` names a user to look up in the
container's own /etc/passwd where the pod gives no number, and `process.user.strict` keeps that user's other groups out.
Defaults (capabilities, mounts) are those containerd gives a Kubernetes container.
https://github.com/opencontainers/runtime-spec is the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pinnace.cri.api import (
    ContainerConfig,
    CriError,
    LinuxContainerSecurityContext,
    Mount,
    MountPropagation,
    NamespaceMode,
    PodSandboxConfig,
)
from pinnace.cri.engine.identity import CAPABILITIES
from pinnace.cri.engine.images.manifest import ImageConfig

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = (  # noqa: SIM905
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP "
    "CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
).split()

_PROPAGATION = {
    MountPropagation.PRIVATE: "rprivate",
    MountPropagation.HOST_TO_CONTAINER: "rslave",
    MountPropagation.BIDIRECTIONAL: "rshared",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the sandbox gives its containers, as paths on the host; empty where the node's own is used."""

    network: str = ""
    ipc: str = ""
    uts: str = ""
    pid: str = ""  # of the pod's shared namespace, or of the target container
    user: str = ""
    root: Sequence[int] = ()  # who the pod's root user and group are on the node, with `user`
    shm: str = "/dev/shm"
    resolv_conf: str = ""
    hostname: str = ""  # the file
    hostname_text: str = ""
    host_devices: Sequence[Mapping[str, Any]] = field(default_factory=list)  # OCI devices, for privileged containers


def arguments(config: ContainerConfig, image: ImageConfig) -> list[str]:
    """The command line by Kubernetes' table of command and args over ENTRYPOINT and CMD."""
    command, args = list(config.command), list(config.args)
    if not command:
        command = list(image.entrypoint)
        args = args or list(image.cmd)
    if not command and not args:
        raise CriError("INVALID_ARGUMENT", "no command specified")
    return command + args


def environment(config: ContainerConfig, image: ImageConfig, hostname: str) -> list[str]:
    """The image's variables overlaid by the pod's, with PATH, HOSTNAME and TERM seen to."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, **image.env}
    if config.tty:
        merged.setdefault("TERM", "xterm")
    merged.update(config.envs)
    return [f"{name}={value}" for name, value in merged.items()]


def capabilities(security: LinuxContainerSecurityContext) -> dict[str, list[str]]:
    """The OCI sets: all for privileged, else the defaults with drops (ALL first) and adds applied."""

    def full(name: str) -> str:
        name = name.upper()
        return name if name.startswith("CAP_") else f"CAP_{name}"

    everything = [f"CAP_{name}" for name in CAPABILITIES]
    adds = [full(name) for name in security.capabilities.add_capabilities]
    drops = [full(name) for name in security.capabilities.drop_capabilities]
    if security.privileged:
        chosen = everything
    else:
        chosen = list(DEFAULT_CAPABILITIES)
        if "CAP_ALL" in adds:
            chosen = everything
        if "CAP_ALL" in drops:
            chosen = []
        chosen += [name for name in adds if name not in chosen and name != "CAP_ALL"]
        # What no kernel knows is left out, as runc does with a warning.
        chosen = [name for name in chosen if name not in drops and name in everything]
    wanted = [full(name) for name in security.capabilities.add_ambient_capabilities]
    ambient = [name for name in wanted if name in everything and name not in drops]
    chosen = [*chosen, *(name for name in ambient if name not in chosen)]
    return {"bounding": chosen, "effective": chosen, "permitted": chosen, "inheritable": ambient, "ambient": ambient}


def user(security: LinuxContainerSecurityContext, image: ImageConfig) -> dict[str, Any]:
    """Who runs: the pod's number, else the pod's name, else the image's USER."""
    chosen: dict[str, Any] = {}
    if security.run_as_user is not None:
        chosen["uid"] = security.run_as_user
    elif security.run_as_username:
        chosen["username"] = security.run_as_username
    elif image.user:
        chosen["username"] = image.user
    if security.run_as_group is not None:
        chosen["gid"] = security.run_as_group
    chosen["additionalGids"] = list(security.supplemental_groups)
    if security.supplemental_groups_policy == "Strict":
        chosen["strict"] = True
    return chosen


def mounts(
    config: ContainerConfig, around: Surroundings, layers: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """The default file systems, the engine's files, then the pod's volumes, outer directories first."""
    privileged = config.linux.security_context.privileged
    access = "rw" if privileged else "ro"
    guarded = ["nosuid", "noexec", "nodev"]
    taken = {mount.container_path.rstrip("/") or "/" for mount in config.mounts}
    found: list[dict[str, Any]] = [
        _mount("/proc", "proc", "proc", guarded),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", guarded),
        _mount("/sys", "sysfs", "sysfs", [*guarded, access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*guarded, "relatime", access]),
    ]
    own = [
        ("/dev/shm", around.shm, "rw"),
        ("/etc/hostname", around.hostname, ""),
        ("/etc/resolv.conf", around.resolv_conf, ""),
    ]
    readonly = "ro" if config.linux.security_context.readonly_rootfs else "rw"
    for destination, source, mode in own:
        if source and destination not in taken:
            found.append(_mount(destination, "bind", source, ["rbind", "rprivate", mode or readonly]))
    found = [mount for mount in found if mount["destination"] not in taken]
    volumes = sorted(config.mounts, key=lambda mount: len([p for p in mount.container_path.split("/") if p]))
    for volume in volumes:
        if volume.image is not None:
            found.append(_image_mount(volume, (layers or {})[volume.image.image]))
            continue
        access = "rro" if volume.recursive_read_only else "ro" if volume.readonly else "rw"
        options = ["rbind", _PROPAGATION[volume.propagation], access]
        if volume.uidMappings:
            options.append("ridmap")
        found.append(_mount(volume.container_path, "bind", volume.host_path, options))
    return found


def _image_mount(volume: Mount, layers: Sequence[str]) -> dict[str, Any]:
    """An image as a volume: its layers, the topmost first, read-only; programs in it run, as from Kubernetes 1.36 on.

    The extension `subpath` names a directory in it that is mounted in place of the whole.
    """
    made = _mount(volume.container_path, "overlay", "overlay", ["ro", "nosuid", "nodev"])
    made["options"].append("lowerdir=" + ":".join(layers))
    return {**made, "subpath": volume.image_sub_path} if volume.image_sub_path else made


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def namespaces(config: ContainerConfig, around: Surroundings, cgroup_namespace: bool) -> list[dict[str, Any]]:
    """Which namespaces are new (no path) and which are the sandbox's."""
    option = config.linux.security_context.namespace_options
    found: list[dict[str, Any]] = [{"type": "mount"}]
    if option.pid != NamespaceMode.NODE:
        found.append({"type": "pid", "path": around.pid} if around.pid else {"type": "pid"})
    found += [
        {"type": kind, "path": path}
        for kind, path in (("network", around.network), ("ipc", around.ipc), ("uts", around.uts))
        if path
    ]
    if around.user:
        found.append({"type": "user", "path": around.user})
    if cgroup_namespace and not config.linux.security_context.privileged:
        found.append({"type": "cgroup"})
    return found


def build(
    config: ContainerConfig,
    sandbox: PodSandboxConfig,
    image: ImageConfig,
    around: Surroundings,
    *,
    cgroups_path: str,
    cgroup_namespace: bool,
    devices: Sequence[Mapping[str, Any]],
    seccomp: Mapping[str, Any] | None,
    layers: Mapping[str, Sequence[str]] | None = None,  # of images that are volumes, the topmost first
) -> dict[str, Any]:
    """The whole config.json; CriError INVALID_ARGUMENT where the config makes none."""
    security = config.linux.security_context
    oom_score_adj = config.linux.resources.oom_score_adj
    linux: dict[str, Any] = {
        "namespaces": namespaces(config, around, cgroup_namespace),
        "devices": [dict(device) for device in [*devices, *(around.host_devices if security.privileged else [])]],
        "cgroupsPath": cgroups_path,
        "resources": _resources(config),
        "maskedPaths": [] if security.privileged else list(security.masked_paths),
        "readonlyPaths": [] if security.privileged else list(security.readonly_paths),
    }
    if seccomp and not security.privileged:
        linux["seccomp"] = dict(seccomp)
    if around.user:
        linux["root"] = list(around.root)
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": config.tty,
            "user": user(security, image),
            "args": arguments(config, image),
            "env": environment(config, image, around.hostname_text),
            "cwd": config.working_dir or image.working_dir or "/",
            "capabilities": capabilities(security),
            "noNewPrivileges": security.no_new_privs,
            "oomScoreAdj": oom_score_adj,
            "rlimits": [],
        },
        "root": {"path": "rootfs", "readonly": security.readonly_rootfs},
        "mounts": mounts(config, around, layers),
        "linux": linux,
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": config.metadata.name,
            "io.kubernetes.cri.sandbox-name": sandbox.metadata.name,
            "io.kubernetes.cri.sandbox-namespace": sandbox.metadata.namespace,
            "io.kubernetes.cri.sandbox-uid": sandbox.metadata.uid,
        },
    }


def _resources(config: ContainerConfig) -> dict[str, Any]:
    limits = config.linux.resources
    cpu = {
        "shares": limits.cpu_shares,
        "quota": limits.cpu_quota,
        "period": limits.cpu_period,
        "cpus": limits.cpuset_cpus,
        "mems": limits.cpuset_mems,
    }
    found: dict[str, Any] = {"cpu": {name: value for name, value in cpu.items() if value}}
    if limits.memory_limit_in_bytes:
        found["memory"] = {"limit": limits.memory_limit_in_bytes}
    if limits.pids_limit:
        found["pids"] = {"limit": limits.pids_limit}
    return found


def resolv_conf(servers: Sequence[str], searches: Sequence[str], options: Sequence[str]) -> str:
    """resolv.conf(5) for a pod's DNS config."""
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(f"{line}\n" for line in lines)
