"""Which container runtime a server of ours uses: the embedded engine of a directory, or one that serves CRI v1.

Endpoints are written as the kubelet's: `unix:///run/containerd/containerd.sock`; the engine's is `pinnace:///DIRECTORY`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.values import DIRECTORY, Text
from pinnace.cri.programs import find_program
from pinnace.cri.runtime import OpenRuntime, open_remote

if TYPE_CHECKING:
    from pinnace.cri.engine.cni import CniOptions
    from pinnace.cri.engine.engine import Engine

DEFAULT_DIRECTORY = Path("/var/lib/pinnace/engine")
DEFAULT_ENDPOINT = f"pinnace://{DEFAULT_DIRECTORY}"
_PATHS = Text("paths", lambda text: [Path(part).absolute() for part in text.split(",") if part])


@dataclass(frozen=True, slots=True)
class ContainerRuntime:
    """A runtime that was chosen; one of `directory` and `endpoint` is given."""

    directory: Path | None
    endpoint: str
    image_endpoint: str
    request_timeout: float
    parts: EngineParts  # for the engine

    async def open(self) -> OpenRuntime:
        """Take it into use; another than the embedded engine need not be there yet."""
        if self.directory is not None:
            engine = make_engine(self.directory, parts=self.parts)
            await engine.start()
            return OpenRuntime(engine, engine, engine.cgroups, engine.stop)
        return open_remote(self.endpoint, self.image_endpoint, self.request_timeout)


def _program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise ValueError(f'there is no program "{name}"')
    return str(Path(found).absolute())


def _handler(text: str) -> tuple[str, str]:
    name, equals, program = text.partition("=")
    if not (name and equals):
        raise ValueError(f'"{text}" is not HANDLER=PROGRAM')
    return name, _program(program)


def engine_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that put other programs in place of what the embedded engine has itself."""
    for option in (
        click.option(
            "--oci-runtime",
            type=Text("program", _program),
            help="Let this program (runc, crun) run containers, by name or path.  [default: the engine does]",
        ),
        click.option(
            "--runtime-handler",
            "runtime_handlers",
            type=Text("name=program", _handler),
            multiple=True,
            help="Let pods whose RuntimeClass has this handler be run by this program: gvisor=runsc. May be repeated.",
        ),
        click.option("--cni-bin-dir", type=_PATHS, help="Where the plugins are, if not in /opt/cni/bin."),
        click.option(
            "--cni-conf-dir",
            type=DIRECTORY,
            help="Let the CNI plugins that this directory configures (/etc/cni/net.d) make pods' networks.",
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class EngineParts:
    """The programs that do a part of the embedded engine's work."""

    cni: CniOptions | None = None  # in place of its network
    oci_runtime: str = ""  # in place of its launcher
    handlers: Mapping[str, str] = field(default_factory=dict)  # for RuntimeClasses with these handlers only


def read_parts(flags: Mapping[str, Any]) -> EngineParts:
    """What those flags say; either of the two of CNI means plugins."""
    conf_dir, bin_dirs = flags["cni_conf_dir"], flags["cni_bin_dir"]
    cni = None
    if conf_dir is not None or bin_dirs:
        from pinnace.cri.engine.cni import BIN_DIR, CONF_DIR, CniOptions

        cni = CniOptions(conf_dir=(conf_dir or CONF_DIR).absolute(), bin_dirs=tuple(bin_dirs or [BIN_DIR]))
    return EngineParts(cni, flags["oci_runtime"] or "", dict(flags["runtime_handlers"]))


def choose(
    endpoint: str, image_endpoint: str, request_timeout: float, parts: EngineParts | None = None
) -> ContainerRuntime:
    """Read the endpoints. Raises ValueError with the user's message."""
    scheme, _, path = endpoint.partition("://")
    if scheme == "pinnace":
        if not path.startswith("/"):
            raise ValueError(f'"{endpoint}" lacks the directory: pinnace:///ITS/DIRECTORY')
        if image_endpoint:
            raise ValueError("the embedded engine has its own images: give no other endpoint for them")
        return ContainerRuntime(Path(path), "", "", request_timeout, parts or EngineParts())
    if parts not in (None, EngineParts()):
        raise ValueError("another container runtime has its own CNI plugins and OCI runtimes: give none")
    try:
        from pinnace.cri.remote import parse_endpoint
    except ImportError as error:
        raise ValueError(f"a container runtime's socket needs {error.name}: pip install 'pinnace[cri]'") from error
    for one in filter(None, (endpoint, image_endpoint)):
        parse_endpoint(one)
    return ContainerRuntime(None, endpoint, image_endpoint, request_timeout, EngineParts())


def make_engine(directory: Path, cluster_cidrs: Sequence[str] = (), parts: EngineParts | None = None) -> Engine:
    """The engine of a directory, not started. One in another place than the default has names of its own too."""
    from pinnace.cri.engine.engine import Engine, EngineOptions
    from pinnace.cri.engine.network import NetworkOptions

    if directory == DEFAULT_DIRECTORY:
        network, state = NetworkOptions(cluster_cidrs=cluster_cidrs), Path("/run/pinnace/engine")
    else:
        short = f"{zlib.crc32(str(directory).encode()):08x}"
        network = NetworkOptions(bridge=f"pne-{short}", table=f"pinnace-{short}-engine", cluster_cidrs=cluster_cidrs)
        state = Path("/run/pinnace") / f"engine-{short}"
    parts = parts or EngineParts()
    options = EngineOptions(network=network, cni=parts.cni, oci_runtime=parts.oci_runtime, handlers=parts.handlers)
    return Engine(directory, state, options)
