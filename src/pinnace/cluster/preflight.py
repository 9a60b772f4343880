"""What must hold before a cluster can start; each check raises a ClusterError that says what to do."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pinnace.cluster import pause
from pinnace.cluster.profile import CONTAINERD, CRIO, CRIO_SOCKET, ENGINE, ROOTLESS, Profile, is_rootless, other_configs
from pinnace.cluster.reasons import (
    DOWNGRADE_UNSUPPORTED,
    HOME_PERMISSION,
    MISSING_FEATURE,
    NEEDS_ROOT,
    PORT_IN_USE,
    RUNTIME_ENABLE,
    USAGE,
    VERSION_UNSUPPORTED,
    ClusterError,
)
from pinnace.cri.programs import find_program

DEFAULT_PORT = 8443
# Below the ports of Services and of outgoing connections, which would take those of clusters that are stopped.
_OTHER_PORTS = range(20_000, 30_000)
_CNI_PLUGINS = ("bridge", "host-local", "loopback")
_CNI_DIRECTORIES = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))


def require_root() -> None:
    """Root's powers, on the machine or in namespaces of the user's own."""
    if os.geteuid() != 0 and ROOTLESS not in os.environ:
        raise ClusterError(
            NEEDS_ROOT,
            "Running containers on this machine needs root privileges",
            "Run the command again with sudo",
        )


def require_owner(profile: Profile) -> None:
    """The cluster must be one of ours: that of another user, or of root, is in other namespaces."""
    try:
        owner = profile.directory.stat().st_uid
        rootless = profile.load().rootless if os.access(profile.directory, os.X_OK) else owner != 0
    except (OSError, ClusterError):
        return  # it is not there, or nobody can tell
    if rootless and os.geteuid() == 0 and ROOTLESS not in os.environ:
        why, advice = "was started without root", "Run the command again as the user who did, without sudo"
    elif os.geteuid() not in (0, owner):
        why, advice = f"belongs to {_user(owner)}", "Run the command again as that user"
    else:
        return
    raise ClusterError(HOME_PERMISSION, f'The cluster "{profile.name}" {why}', advice)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def require_writable_home(home: Path) -> None:
    """The home, or what will hold it, must be a directory we may write to."""
    nearest = home
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    advice = "Set PINNACE_HOME to a directory of yours"
    if not nearest.is_dir():
        raise ClusterError(HOME_PERMISSION, f"{nearest} is not a directory", advice)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        probe = home / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ClusterError(HOME_PERMISSION, f"{home} is not writable: {error.strerror}", advice) from error


def require_ipv6() -> None:
    """What a cluster of both address families needs of the kernel."""
    if not Path("/proc/net/if_inet6").exists():
        raise ClusterError(
            MISSING_FEATURE, "This kernel has no IPv6", "Load it: sudo modprobe ipv6, or leave it at IPv4"
        )


def require_features() -> None:
    """Kernel features and programs without which no pod can run."""
    if not (_has_overlay() or (_load_module("overlay") and _has_overlay())):
        raise ClusterError(MISSING_FEATURE, "This kernel has no overlayfs", "Load it: sudo modprobe overlay")
    for namespace in ("net", "mnt", "pid", "uts", "ipc"):
        if not Path(f"/proc/self/ns/{namespace}").exists():
            raise ClusterError(MISSING_FEATURE, f"This kernel has no {namespace} namespaces")
    if find_program("nft") is None:
        raise ClusterError(MISSING_FEATURE, "nft was not found", "Install nftables: sudo apt-get install nftables")


def choose_runtime(wanted: str, existing: str = "") -> str:
    """`engine`, `containerd`, `crio` or `unix:///PATH`, of what the user wrote (nothing: the profile's own)."""
    name = {"": existing or ENGINE, "cri-o": CRIO}.get(wanted, wanted)
    if name.startswith("/"):
        name = f"unix://{name}"
    if name not in (ENGINE, CONTAINERD, CRIO) and not re.fullmatch("unix:///.+", name):
        raise ClusterError(
            USAGE,
            f'There is no container runtime "{wanted}"',
            f"Choose {ENGINE} (the built-in one), {CONTAINERD}, {CRIO}, or unix:///PATH of a socket that serves CRI v1",
        )
    if existing and name != existing:
        raise ClusterError(
            USAGE,
            f'The cluster\'s pods run on the container runtime "{existing}", which cannot be changed',
            "Delete the cluster first, or leave --container-runtime out",
        )
    return name


def require_runtime(name: str) -> None:
    """What the container runtime of that name needs."""
    if name == ENGINE:
        return
    if is_rootless():
        why = f"Without root only the container runtime {ENGINE} runs pods"
        raise ClusterError(RUNTIME_ENABLE, why, "Leave --container-runtime out, or run the command again with sudo")
    if not all(map(importlib.util.find_spec, ("grpc", "google.protobuf"))):
        raise ClusterError(
            RUNTIME_ENABLE, "A container runtime's socket needs grpcio and protobuf", "pip install 'pinnace[cri]'"
        )
    if name != CONTAINERD:
        path = CRIO_SOCKET if name == CRIO else name.removeprefix("unix://")
        if not Path(path).is_socket():
            raise ClusterError(RUNTIME_ENABLE, f"There is no container runtime at {path}", "Start it first")
        return
    missing = [program for program in ("containerd", "ctr", "runc") if find_program(program) is None]
    if cni_directory() is None:
        missing.append("CNI plugins")
    if missing:
        raise ClusterError(
            RUNTIME_ENABLE,
            f"The container runtime {CONTAINERD} lacks {', '.join(missing)}",
            "Install them: sudo apt-get install containerd runc containernetworking-plugins",
        )
    if not pause.supported():
        raise ClusterError(RUNTIME_ENABLE, f"{CONTAINERD} can be used on amd64 and arm64 machines only")


def cni_directory() -> Path | None:
    """Where the CNI plugins of pods' networks are; None where they are not installed."""
    return next((place for place in _CNI_DIRECTORIES if all((place / one).exists() for one in _CNI_PLUGINS)), None)


def _has_overlay() -> bool:
    return "\toverlay\n" in Path("/proc/filesystems").read_text()


def _load_module(name: str) -> bool:
    """Whether `modprobe` loaded it; distributions' kernels have as modules what nothing has used yet."""
    program = find_program("modprobe")
    return program is not None and subprocess.run([program, "-q", name], check=False).returncode == 0


def choose_port(profile: Profile, wanted: int | None) -> int:
    """The API server's port: the wanted one if it is free, else the default one, else any that nobody has."""
    if wanted is not None:
        if not 1 <= wanted <= 65535:
            raise ClusterError(PORT_IN_USE, f"{wanted} is not a port number", "Choose one from 1 to 65535")
        if not port_is_free(wanted):
            raise ClusterError(
                PORT_IN_USE,
                f"Port {wanted} on 127.0.0.1 is in use by another program",
                "Choose another one with --apiserver-port, or none to have a free one chosen",
            )
        return wanted
    others = {other.api_server_port for other in other_configs(profile)}
    start = int.from_bytes(os.urandom(4), "big") % len(_OTHER_PORTS)  # another one than who chooses at the same time
    candidates: list[int] = [DEFAULT_PORT, *_OTHER_PORTS[start:], *_OTHER_PORTS[:start]]
    for port in candidates:
        if port not in others and port_is_free(port):
            return port
    raise ClusterError(
        PORT_IN_USE, "No port for the API server is free on 127.0.0.1", "Choose one with --apiserver-port"
    )


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def check_feature_gates(version: str, gates: Mapping[str, bool]) -> None:
    """Raise for gates that the version does not have, or that cannot be set so."""
    if not gates:
        return
    from pinnace.machinery.features import FeatureGateError, FeatureGates

    try:
        FeatureGates(_number(version)[1], gates)
    except FeatureGateError as error:
        raise ClusterError(USAGE, str(error), "Choose the features with --feature-gates") from None


def choose_version(wanted: str, minors: list[int], existing: str = "") -> str:
    """`v1.37.0` of what the user wrote (`v1.37.0`, `1.37`, `stable`, `latest`, or nothing for the newest or the
    profile's own)."""
    newest = max(minors)
    if not wanted:
        return existing or f"v1.{newest}.0"
    if wanted in ("stable", "latest"):
        version = f"v1.{newest}.0"
    else:
        match = re.fullmatch(r"v?1\.(\d+)(?:\.(\d+))?", wanted)
        if not match:
            raise ClusterError(
                VERSION_UNSUPPORTED,
                f'"{wanted}" is not a Kubernetes version',
                f"Write it like v1.{newest}.0, 1.{newest} or latest",
            )
        if int(match[1]) not in minors:
            raise ClusterError(
                VERSION_UNSUPPORTED,
                f"Kubernetes {wanted} is not supported",
                f"Choose a version from v1.{min(minors)} to v1.{newest}",
            )
        version = f"v1.{match[1]}.{match[2] or 0}"
    if existing and _number(version) < _number(existing):
        raise ClusterError(
            DOWNGRADE_UNSUPPORTED,
            f"The cluster runs Kubernetes {existing} and cannot go back to {version}",
            "Delete it first (pinnace delete), or use another profile (-p)",
        )
    return version


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.lstrip("v").split("."))
