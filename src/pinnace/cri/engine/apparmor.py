"""AppArmor: which profile confines a container, and the one that does where none is named.

The default profile is the engine's own, loaded when the first container needs it: it lets a container do what it
likes but write to files of the kernel that its namespaces do not cover, and mount. Relies on securityfs and on
`apparmor_parser`; specified by https://kubernetes.io/docs/tutorials/security/apparmor/ and apparmor.d(5).
"""

from __future__ import annotations

import subprocess
from functools import cached_property
from pathlib import Path

from pinnace.cri.api import CriError, LinuxContainerSecurityContext
from pinnace.cri.engine import _syscalls as sys_
from pinnace.cri.programs import find_program

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_LOADED = Path("/sys/kernel/security/apparmor/profiles")
_ABI = Path("/etc/apparmor.d/abi/3.0")

_PROFILE = """\
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  umount,
  ptrace (trace, read, tracedby, readby) peer={name},
  signal (send, receive) peer={name},
  signal (receive) peer=unconfined,

  deny mount,
  deny /proc/* w,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwklx,
  deny /proc/{{acpi,bus,driver,dynamic_debug,fs,irq,scsi,sysvipc,tty}}/** wklx,
  deny /proc/sys/{{abi,crypto,debug,dev,fs,net,sunrpc,user,vm}}/** wklx,
  deny /proc/sys/kernel/{{[^s]*,s[^h]*,sh[^m]*}}{{,/**}} wklx,
  deny /sys/{{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}}/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def profile_text(name: str, *, abi: bool = False) -> str:
    """The default profile as `apparmor_parser` reads it; with the features that `abi` 3.0 has where that is known."""
    return ("abi <abi/3.0>,\n" if abi else "") + _PROFILE.format(name=name)


def loaded_profiles(listing: str) -> set[str]:
    """The names in the kernel's list of profiles, of lines like `NAME (enforce)`."""
    return {line.rpartition(" (")[0] for line in listing.splitlines() if line}


class AppArmor:
    """What confines the containers of one engine, whose default profile has a `name` of its own."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _parser(self) -> str:
        """The program that loads profiles; empty where that or the kernel's part is missing, or not ours to load."""
        if sys_.in_user_namespace():
            return ""
        try:
            enabled = _ENABLED.read_text().startswith("Y") and _LOADED.exists()
        except OSError:
            return ""
        return (find_program("apparmor_parser") or "") if enabled else ""

    def profile(self, security: LinuxContainerSecurityContext) -> str:
        """The profile of a container, loaded; empty for none. CriError where it cannot have what it asks for."""
        wanted = security.apparmor.profile_type if security.apparmor else ""
        if wanted == "Unconfined" or (security.privileged and wanted != "Localhost"):
            return ""
        if not self._parser:
            if wanted:
                raise _failed("apparmor is not supported")
            return ""
        if security.apparmor and wanted == "Localhost":
            name = security.apparmor.localhost_ref.removeprefix("localhost/")
            if name not in self._loaded():
                raise _failed(f"apparmor profile not found {name}")
            return name
        if self._name not in self._loaded():
            self._parse("--replace", "--skip-cache")
        return self._name

    def remove(self) -> None:
        """Unload the default profile, where this engine or one before it loaded it."""
        if self._parser and self._name in self._loaded():
            self._parse("--remove")

    @staticmethod
    def _loaded() -> set[str]:
        return loaded_profiles(_LOADED.read_text())

    def _parse(self, *options: str) -> None:
        done = subprocess.run(
            [self._parser, *options],
            input=profile_text(self._name, abi=_ABI.exists()),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _failed(f"apparmor_parser {' '.join(options)}: {done.stderr.strip()}")


def _failed(why: str) -> CriError:
    return CriError("UNKNOWN", f"failed to get container spec opts: failed to generate apparmor spec opts: {why}")
