"""Security contexts: a pod's and a container's merged, and what that means in the runtime's terms.

Pure, but for a look at the machine's processors. `verify_non_root` refuses what `runAsNonRoot` forbids, in Kubernetes'
words. Specified by https://kubernetes.io/docs/tasks/configure-pod-container/security-context/.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pinnace.cri.api import (
    Capability,
    Image,
    LinuxContainerSecurityContext,
    LinuxSandboxSecurityContext,
    NamespaceMode,
    NamespaceOption,
    SecurityProfile,
)
from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.pods import all_containers, described, is_host_network
from pinnace.machinery.meta import Obj

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_INHERITED = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "seLinuxOptions", "appArmorProfile")


@cache
def thermal_paths(processors: Path = Path("/sys/devices/system/cpu")) -> tuple[str, ...]:
    """What tells how hot each processor is: by that, other containers' work can be spied on, so it is masked, too."""
    return tuple(sorted(str(path) for path in processors.glob("cpu[0-9]*/thermal_throttle")))


def effective(pod: Obj, container: Obj) -> Obj:
    """The container's security context, with what it leaves out taken from the pod's."""
    shared = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    merged = {name: shared[name] for name in _INHERITED if shared.get(name) is not None}
    merged.update({name: value for name, value in own.items() if value is not None})
    return merged


def verify_non_root(pod: Obj, container: Obj, image: Image) -> None:
    """Raises ConfigError where the container must not run as root and would, or might."""
    context = effective(pod, container)
    if not context.get("runAsNonRoot"):
        return
    where = f'(pod: "{described(pod)}", container: {container["name"]})'
    user = context.get("runAsUser")
    if user is not None:
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    if image.uid is None and image.username:
        what = f"container has runAsNonRoot and image has non-numeric user ({image.username})"
        raise ConfigError(f"{what}, cannot verify user is non-root {where}")
    if not image.uid:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def namespace_options(pod: Obj) -> NamespaceOption:
    """Which namespaces are the host's, the pod's or the container's own."""
    spec = pod["spec"]
    pid = NamespaceMode.CONTAINER
    if spec.get("hostPID"):
        pid = NamespaceMode.NODE
    elif spec.get("shareProcessNamespace"):
        pid = NamespaceMode.POD
    return NamespaceOption(
        network=NamespaceMode.NODE if is_host_network(pod) else NamespaceMode.POD,
        pid=pid,
        ipc=NamespaceMode.NODE if spec.get("hostIPC") else NamespaceMode.POD,
    )


def seccomp(profile: Any, root: Path) -> SecurityProfile:
    """A seccomp profile; files of `Localhost` are looked up below `<root>/seccomp`."""
    kind = (profile or {}).get("type") or "Unconfined"
    if kind == "Localhost":
        return SecurityProfile(profile_type=kind, localhost_ref=str(root / "seccomp" / profile["localhostProfile"]))
    return SecurityProfile(profile_type=kind)


def apparmor(profile: Any) -> SecurityProfile | None:
    """An AppArmor profile; None where none is asked for."""
    kind = (profile or {}).get("type")
    if not kind:
        return None
    return SecurityProfile(profile_type=kind, localhost_ref=(profile or {}).get("localhostProfile") or "")


def needs_apparmor(pod: Obj) -> bool:
    """Whether some container asks to be confined by AppArmor."""
    asked = [apparmor(effective(pod, container).get("appArmorProfile")) for container in all_containers(pod)]
    return any(profile is not None and profile.profile_type != "Unconfined" for profile in asked)


def supplemental_groups(pod: Obj) -> list[int]:
    """fsGroup, then the groups asked for."""
    shared = pod["spec"].get("securityContext") or {}
    groups = [] if shared.get("fsGroup") is None else [int(shared["fsGroup"])]
    groups += [int(group) for group in shared.get("supplementalGroups") or ()]
    return list(dict.fromkeys(groups))


def sandbox_context(pod: Obj) -> LinuxSandboxSecurityContext:
    shared = pod["spec"].get("securityContext") or {}
    return LinuxSandboxSecurityContext(
        namespace_options=namespace_options(pod),
        run_as_user=shared.get("runAsUser"),
        run_as_group=shared.get("runAsGroup"),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=shared.get("supplementalGroupsPolicy") or "Merge",
        privileged=any((one.get("securityContext") or {}).get("privileged") for one in all_containers(pod)),
        seccomp=SecurityProfile(profile_type="RuntimeDefault"),  # the sandbox's own process asks for no more
    )


def container_context(
    pod: Obj, container: Obj, image: Image | None, root: Path, *, seccomp_default: bool = False
) -> LinuxContainerSecurityContext:
    """What the runtime must enforce for one container; the image's user counts where none is asked for.

    With `seccomp_default` so does the runtime's own seccomp profile where none is asked for.
    """
    context = effective(pod, container)
    privileged = bool(context.get("privileged"))
    capabilities = context.get("capabilities") or {}
    unmasked = context.get("procMount") == "Unmasked" or privileged
    unasked = {"type": "RuntimeDefault"} if seccomp_default else None
    made = LinuxContainerSecurityContext(
        capabilities=Capability(
            add_capabilities=list(capabilities.get("add") or ()), drop_capabilities=list(capabilities.get("drop") or ())
        ),
        privileged=privileged,
        namespace_options=namespace_options(pod),
        run_as_user=context.get("runAsUser"),
        run_as_group=context.get("runAsGroup"),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=(pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy")
        or "Merge",
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        seccomp=None if privileged else seccomp(context.get("seccompProfile") or unasked, root),
        apparmor=None if privileged else apparmor(context.get("appArmorProfile")),
        masked_paths=[] if unmasked else [*MASKED_PATHS, *thermal_paths()],
        readonly_paths=[] if unmasked else list(READONLY_PATHS),
    )
    if made.run_as_user is None and image is not None:
        if image.username:
            made.run_as_username = image.username
        else:
            made.run_as_user = image.uid or 0  # an image that names nobody means root, and a group needs a user
    return made
