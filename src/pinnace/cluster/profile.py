"""A profile: the directory that holds all there is of one local cluster, and the choices made when it was created.

Files live under `$PINNACE_HOME/profiles/<name>` (default home: `~/.pinnace`), what must not outlive a reboot under
`/run/pinnace/<id>`, or for an ordinary user under `run/<id>` of the home. The names of kernel objects (bridges, tables,
cgroups) derive from the id, so that profiles of several homes share a machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

from pinnace.cluster.reasons import CONFIG_LOAD, HOME_PERMISSION, PROFILE_NOT_FOUND, USAGE, ClusterError

DEFAULT_PROFILE = "pinnace"
ENGINE, CONTAINERD, CRIO = "engine", "containerd", "crio"  # container runtimes by name
CRIO_SOCKET = "/var/run/crio/crio.sock"
ROOTLESS = "PINNACE_ROOTLESS"
"""Set in the environment of what works in the namespaces of an ordinary user."""
_ANNOUNCED = "profile"  # a link in the directory of what runs
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]+")


def default_home() -> Path:
    """`$PINNACE_HOME`, or `~/.pinnace`."""
    return Path(os.environ.get("PINNACE_HOME") or Path.home() / ".pinnace").absolute()


def is_rootless() -> bool:
    """Whether clusters run in user namespaces: those of ordinary users do."""
    return ROOTLESS in os.environ or os.geteuid() != 0


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """What was decided when the cluster was created; `config.json` of the profile."""

    name: str
    kubernetes_version: str  # v1.37.0
    node_name: str
    node_ip: str
    machine_cidr: str  # the network of the profile's machines; like the next two, of IPv4, or of both with a comma
    pod_cidr: str
    service_cidr: str
    dns_domain: str
    api_server_port: int  # on 127.0.0.1 and on the node's address
    feature_gates: dict[str, bool] = field(default_factory=dict)  # what --feature-gates says, for every server
    container_runtime: str = ENGINE  # or another name, or unix:///PATH of its socket
    rootless: bool = False  # whether it runs in the namespaces of an ordinary user
    extra_config: tuple[str, ...] = ()  # flags of servers, COMPONENT.KEY=VALUE, which go over what the profile says

    @property
    def minor(self) -> int:
        """37 of v1.37.0."""
        return int(self.kubernetes_version.split(".")[1])

    @property
    def machine_addresses(self) -> dict[str, int]:
        """The node's addresses with the length of their networks' prefixes, that of IPv4 first."""
        import ipaddress  # few commands want it

        four, *sixes = (ipaddress.ip_network(cidr) for cidr in self.machine_cidr.split(","))
        return {self.node_ip: four.prefixlen} | {str(six[1]): six.prefixlen for six in sixes}

    @property
    def server_url(self) -> str:
        return f"https://127.0.0.1:{self.api_server_port}"


class Profile:
    """Where a cluster's files are."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise ClusterError(
                USAGE,
                f'Invalid profile name "{name}": only letters, digits and "-" are allowed, '
                "it must have at least 2 characters and start with a letter or a digit",
            )
        self.name = name
        self.home = home or default_home()
        self.directory = self.home / "profiles" / name
        digest = f"{zlib.crc32(str(self.directory).encode()):08x}"  # hashlib would load all of OpenSSL
        self.id = f"{name.lower()[:40]}-{digest}"
        self._short = digest
        # A user's own /run/user/<uid> would go at logout, and the cluster with it.
        self.run_dir = (self.home / "run" if is_rootless() else Path("/run/pinnace")) / self.id
        self.config_file = self.directory / "config.json"
        self.pki_dir = self.directory / "pki"
        self.logs_dir = self.directory / "logs"
        self.store_file = self.directory / "state.db"
        self.kubelet_dir = self.directory / "kubelet"
        self.pod_logs_dir = self.directory / "pods"
        self.engine_dir = self.directory / "engine"
        self.volumes_dir = self.directory / "volumes"
        self.admin_kubeconfig = self.directory / "admin.conf"
        self.manifests_dir = self.directory / "manifests"
        self.hollow_file = self.directory / "hollow.json"

    # Names of kernel objects: at most 15 characters for links.

    @property
    def machine_bridge(self) -> str:
        return f"pnm-{self._short}"

    @property
    def pod_bridge(self) -> str:
        return f"pnb-{self._short}"

    @property
    def table_prefix(self) -> str:
        return f"pinnace-{self._short}"

    @property
    def cgroup_root(self) -> str:
        return f"/pinnace-{self._short}"

    @property
    def supervisor_permit(self) -> Path:
        return self.run_dir / "permit"

    @property
    def control_socket(self) -> Path:
        return self.run_dir / "control.sock"

    @property
    def namespaces_socket(self) -> Path:
        """Where the first process of an ordinary user's namespaces listens."""
        return self.run_dir / "namespaces.sock"

    @property
    def loopback_socket(self) -> Path:
        """Where the keeper of these namespaces hands out listeners of the machine's loopback."""
        return self.run_dir / "loopback.sock"

    @property
    def image_root(self) -> Path:
        return self.engine_dir / "images"

    def exists(self) -> bool:
        return self.config_file.exists()

    def load(self) -> ProfileConfig:
        """The stored choices. Raises ClusterError for a profile that is not there or cannot be read."""
        try:
            text = self.config_file.read_text()
        except FileNotFoundError:
            raise ClusterError(
                PROFILE_NOT_FOUND,
                f'Profile "{self.name}" not found',
                f"Create it: {_command('start', self.name)}",
            ) from None
        except OSError as error:
            raise ClusterError(CONFIG_LOAD, f"{self.config_file} cannot be read: {error.strerror}") from error
        try:
            stored = json.loads(text)
            needed = [one.name for one in fields(ProfileConfig) if one.default is one.default_factory is MISSING]
            optional = ("feature_gates", "container_runtime", "rootless", "extra_config")
            chosen = {name: stored[name] for name in optional if name in stored}
            chosen["extra_config"] = tuple(chosen.get("extra_config", ()))
            config = ProfileConfig(**{name: stored[name] for name in needed}, **chosen)
            _ = config.minor, config.api_server_port + 0
        except (ValueError, KeyError, TypeError, IndexError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ClusterError(
                CONFIG_LOAD,
                f'Profile "{self.name}" is corrupt: {self.config_file}: {what}',
                f"Remove it: {_command('delete', self.name)}",
            ) from error
        return config

    def save(self, config: ProfileConfig) -> None:
        """Write `config.json` in one step."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self.config_file.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(config), indent=2) + "\n")
            temporary.replace(self.config_file)
        except OSError as error:
            raise ClusterError(
                HOME_PERMISSION,
                f"{self.directory} is not writable: {error.strerror}",
                "Set PINNACE_HOME to a directory of yours",
            ) from error

    def announce(self) -> None:
        """Let those who look from other homes see the profile, until it is deleted or the machine is switched off."""
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        try:
            (self.run_dir / _ANNOUNCED).symlink_to(self.directory)
        except FileExistsError:
            pass  # by an earlier start

    def remove(self) -> None:
        """Delete every file, and the directories above that are empty then."""
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        for parent in (self.directory.parent, self.run_dir.parent, self.home):
            try:
                parent.rmdir()
            except OSError:
                pass  # others live there


def list_profiles(home: Path | None = None) -> list[str]:
    """Names of the profiles in a home, valid or not."""
    root = (home or default_home()) / "profiles"
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def from_directory(directory: Path) -> Profile:
    """The profile whose directory this is."""
    return Profile(directory.name, directory.parent.parent)


def _command(verb: str, profile: str) -> str:
    return f"pinnace {verb}" + (f" -p {profile}" if profile != DEFAULT_PROFILE else "")


def other_configs(beside: Profile) -> Iterator[ProfileConfig]:
    """What other profiles reserve, running or not: the home's, and other homes' since the machine was started."""
    here = [Profile(name, beside.home) for name in list_profiles(beside.home)]
    for one in (*here, *announced_profiles(beside)):
        if one.directory == beside.directory:
            continue
        try:
            yield one.load()
        except ClusterError:
            continue  # a corrupt profile reserves nothing


def announced_profiles(beside: Profile) -> list[Profile]:
    """The profiles that were started since the machine was, in whatever home."""
    found = (from_directory(link.readlink()) for link in beside.run_dir.parent.glob(f"*/{_ANNOUNCED}"))
    return [one for one in found if one.exists()]
