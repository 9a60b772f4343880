"""Pods' networks made by CNI plugins, in place of the built-in bridge: a directory of configurations, one of programs.

The first configuration by name counts, read anew for every sandbox, as containerd and CRI-O do. What was done for a
sandbox is kept in a file until it is undone, for DEL must be given what ADD was, whatever the directory says by then.
Specified by https://www.cni.dev/docs/spec/ and its conventions for runtimes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import structlog

from pinnace.cri.api import PodSandboxMetadata, PortMapping
from pinnace.cri.engine.network import NetworkError, NetworkResult

_log = structlog.get_logger()

CONF_DIR = Path("/etc/cni/net.d")
BIN_DIR = Path("/opt/cni/bin")
_SECONDS = 120.0  # that a plugin may take

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CniOptions:
    """Where configurations and plugins are."""

    conf_dir: Path = CONF_DIR
    bin_dirs: Sequence[Path] = (BIN_DIR,)


def load(directory: Path) -> Document | None:
    """The network of a directory as a list of plugins; None where there is none. Raises NetworkError."""
    files = [path for path in directory.glob("*") if path.suffix in (".conflist", ".conf", ".json")]
    for path in sorted(files):
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise NetworkError(f"failed to load CNI config list file {path}: {error}") from error
        if not isinstance(found, dict) or not found.get("name"):
            raise NetworkError(f"failed to load CNI config list file {path}: no name")
        if "plugins" not in found:
            found = {"cniVersion": found.get("cniVersion", ""), "name": found["name"], "plugins": [found]}
        if not found["plugins"]:
            continue  # an empty list is no network
        return found
    return None


def capabilities(ports: Sequence[PortMapping], subnets: Sequence[str]) -> Document:
    """What a runtime can tell plugins that say they understand it."""
    mappings = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            "hostIP": port.host_ip,
        }
        for port in ports
        if port.host_port
    ]
    found: Document = {}
    if mappings:
        found["portMappings"] = mappings
    if subnets:
        found["ipRanges"] = [[{"subnet": subnet}] for subnet in subnets]
    return found


def stdin_of(network: Document, plugin: Document, known: Document, previous: Document | None) -> Document:
    """The configuration that one plugin of the list is given."""
    document = {**plugin, "cniVersion": network.get("cniVersion") or "0.1.0", "name": network["name"]}
    wanted = document.pop("capabilities", None) or {}
    told = {name: value for name, value in known.items() if wanted.get(name)}
    if told:
        document["runtimeConfig"] = told
    if previous is not None:
        document["prevResult"] = previous
    return document


def addresses(result: Document) -> list[str]:
    """The addresses of a result, of any version of CNI, without prefix length; the interface's own only."""
    found = []
    interfaces = result.get("interfaces") or []
    for entry in result.get("ips") or ():
        number = entry.get("interface")
        inside = number is None or (0 <= number < len(interfaces) and interfaces[number].get("sandbox"))
        if inside:
            found.append(str(ip_interface(entry["address"]).ip))
    old = (result[name]["ip"] for name in ("ip4", "ip6") if name in result)  # before 0.3
    return [*found, *(str(ip_interface(address).ip) for address in old)]


class CniNetwork:
    """The network of one engine by plugins; blocking, to be called in threads. Calls may overlap."""

    def __init__(self, directory: Path, options: CniOptions) -> None:
        self._directory = directory / "cni"
        self._options = options
        self._subnets: list[str] = []

    @property
    def configured(self) -> bool:
        try:
            return load(self._options.conf_dir) is not None
        except NetworkError:
            return False

    def configure(self, subnets: Sequence[str]) -> None:
        """The node's pod ranges, for plugins that want to be told."""
        self._subnets = list(subnets)

    def restore(self, mappings: Mapping[str, tuple[list[str], list[PortMapping]]]) -> None:
        """Nothing: host ports are the plugins' own."""

    def add(
        self,
        container_id: str,
        netns: str,
        interface: str = "eth0",
        ports: Sequence[PortMapping] = (),
        pod: PodSandboxMetadata | None = None,
    ) -> NetworkResult:
        """ADD by every plugin in turn; all is undone where one fails."""
        network = load(self._options.conf_dir)
        if network is None:
            raise NetworkError("cni plugin not initialized")
        known = capabilities(ports, self._subnets)
        environment = self._environment(container_id, netns, interface, pod)
        record = {"network": network, "known": known, "environment": environment, "result": None}
        self._write(container_id, record)
        result: Document | None = None
        try:
            for plugin in network["plugins"]:
                result = self._call("ADD", plugin, stdin_of(network, plugin, known, result), environment) or result
            if result is None:
                raise NetworkError("the plugins gave no result")
            record["result"] = result
            self._write(container_id, record)
        except BaseException:
            self.remove(container_id)
            raise
        return NetworkResult(interface=interface, host_interface="", ips=addresses(result))

    def remove(self, container_id: str) -> None:
        """DEL by every plugin, the last first; idempotent. What a plugin cannot undo does not keep the others."""
        try:
            record = json.loads(self._file(container_id).read_text())
        except (OSError, ValueError):
            return
        network, environment = record["network"], record["environment"]
        if not Path(environment["CNI_NETNS"]).exists():
            environment["CNI_NETNS"] = ""
        for plugin in reversed(network["plugins"]):
            try:
                self._call("DEL", plugin, stdin_of(network, plugin, record["known"], record["result"]), environment)
            except NetworkError as error:
                _log.warning("a sandbox's network is not undone", sandbox=container_id, error=str(error))
        self._file(container_id).unlink(missing_ok=True)

    def destroy(self) -> None:
        """Undo what is left; bridges and the like are the plugins' own."""
        for file in self._directory.glob("*.json"):
            self.remove(file.stem)

    def _file(self, container_id: str) -> Path:
        return self._directory / f"{container_id}.json"

    def _write(self, container_id: str, record: Document) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        temporary = self._directory / f".{container_id}"
        temporary.write_text(json.dumps(record))
        temporary.rename(self._file(container_id))

    def _environment(
        self, container_id: str, netns: str, interface: str, pod: PodSandboxMetadata | None
    ) -> dict[str, str]:
        arguments = {"IgnoreUnknown": "1", "K8S_POD_INFRA_CONTAINER_ID": container_id}
        if pod is not None:
            arguments |= {"K8S_POD_NAMESPACE": pod.namespace, "K8S_POD_NAME": pod.name, "K8S_POD_UID": pod.uid}
        return {
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": interface,
            "CNI_ARGS": ";".join(f"{name}={value}" for name, value in arguments.items()),
            "CNI_PATH": ":".join(str(path) for path in self._options.bin_dirs),
        }

    def _call(self, command: str, plugin: Document, given: Document, environment: dict[str, str]) -> Document | None:
        kind = str(plugin.get("type") or "")
        program = self._program(kind)
        failed = f'plugin type="{kind}" failed ({command.lower()}): '
        try:
            done = subprocess.run(
                [program],
                input=json.dumps(given).encode(),
                capture_output=True,
                env={**os.environ, **environment, "CNI_COMMAND": command},
                check=False,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NetworkError(f"{failed}{error}") from error
        try:
            answer = json.loads(done.stdout) if done.stdout.strip() else None
        except ValueError:
            answer = None
        if done.returncode == 0:
            return answer if isinstance(answer, dict) else None
        if isinstance(answer, dict) and answer.get("msg"):
            details = f"; {answer['details']}" if answer.get("details") else ""
            raise NetworkError(f"{failed}{answer['msg']}{details}")
        raise NetworkError(f"{failed}{done.stderr.decode(errors='replace').strip() or f'exit {done.returncode}'}")

    def _program(self, kind: str) -> Path:
        where = self._options.bin_dirs
        if kind and "/" not in kind:
            for directory in where:
                if os.access(directory / kind, os.X_OK):
                    return directory / kind
        raise NetworkError(f'failed to find plugin "{kind}" in path [{" ".join(map(str, where))}]')
