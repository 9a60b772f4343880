"""A containerd of the profile's own: its files, how it starts, and how its leftovers are removed.

As a program (`python -m pinnace.cluster.containerd DIRECTORY`) it writes the configuration and becomes containerd,
which tells by sd_notify when it serves. Under the supervisor it ends with it, but does not keep the guard from acting,
as neither do the containers' shims, which outlive it. Relies on Debian's `containerd`, `runc` and
`containernetworking-plugins`, or their like; https://github.com/containerd/containerd/blob/main/docs/cri/config.md.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinnace.cluster import control, guard, pause, process, unfinished
from pinnace.cluster.preflight import cni_directory
from pinnace.cluster.profile import Profile, from_directory
from pinnace.cluster.reasons import RUNTIME_ENABLE, ClusterError
from pinnace.cri.programs import search_path

_NOT_NEEDED = (  # the first would make /opt/containerd, the second, from 2.0 on, take the machine's /run/nri/nri.sock
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
    *(f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")),
)
_START_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0
_SHARED_DIRECTORIES = ("/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni")
"""Where shims and CNI keep what is not configurable, for every containerd of a machine; removed when empty."""


class Places:
    """Where the containerd of a profile has its files."""

    def __init__(self, profile: Profile) -> None:
        self.root = profile.directory / "containerd"
        self.configuration = self.root / "config.toml"
        self.network_template = self.root / "network.json"  # filled in with the pods' subnet once that is known
        self.networks = profile.run_dir / "containerd" / "net.d"
        self.addresses = profile.run_dir / "containerd" / "addresses"  # that pods have
        self.state = profile.run_dir / "containerd"
        self.socket = self.state / "containerd.sock"
        self.pid_file = self.state / "pid"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"


def configuration(places: Places, plugins: Path, *, restrict_oom_score: bool) -> str:
    """`config.toml`. With `restrict_oom_score`, containers do not get a better score than containerd itself has.

    Of version 2, which every release from 1.3 on reads, those from 2.0 on with the CRI's settings where they have them.
    """
    cri = '[plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{places.root}/root"
state = "{places.state}/state"
disabled_plugins = [{", ".join(map(json.dumps, _NOT_NEEDED))}]

[plugins."io.containerd.gc.v1.scheduler"]
deletion_threshold = 1  # what a container wrote goes with it, not with the hundredth after it
schedule_delay = "200ms"

[grpc]
address = "{places.socket}"

{cri}]
sandbox_image = "{pause.NAME}"
restrict_oom_score_adj = {str(restrict_oom_score).lower()}
netns_mounts_under_state_dir = true
disable_hugetlb_controller = false
enable_cdi = true

{cri}.cni]
bin_dir = "{plugins}"
conf_dir = "{places.networks}"
conf_template = "{places.network_template}"

{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

{cri}.containerd.runtimes.runc.options]
Root = "{places.state}/runc"

{cri}.registry]
config_path = "/etc/containerd/certs.d"
"""


def network_template(profile: Profile, places: Places) -> str:
    """The CNI network as containerd's template: pods on the profile's bridge, with addresses of the node's subnets."""
    ipam = {"type": "host-local", "dataDir": str(places.addresses), "ranges": "RANGES", "routes": "ROUTES"}
    bridge = {
        "type": "bridge",
        "bridge": profile.pod_bridge,
        "isGateway": True,
        "hairpinMode": True,  # a pod reaches itself through its Service
        "ipam": ipam,
    }
    document = {"cniVersion": "1.0.0", "name": "pinnace", "plugins": [bridge]}
    ranges = '[{{range $n, $one := .PodCIDRRanges}}{{if $n}}, {{end}}[{"subnet": "{{$one}}"}]{{end}}]'
    routes = '[{{range $n, $one := .Routes}}{{if $n}}, {{end}}{"dst": "{{$one}}"}{{end}}]'
    return json.dumps(document, indent=2).replace('"RANGES"', ranges).replace('"ROUTES"', routes)


@contextmanager
def running(profile: Profile) -> Iterator[Places]:
    """While the profile's containerd runs: the cluster's, or one that is started for this. Raises ClusterError."""
    places = Places(profile)
    with socket.socket(socket.AF_UNIX) as probe:
        there = probe.connect_ex(str(places.socket)) == 0
    if there:
        yield places
        return
    started = _start(profile, places)
    try:
        _wait_until_it_answers(places)
        yield places
    finally:
        started.terminate()
        started.wait()


def _start(profile: Profile, places: Places) -> subprocess.Popen[bytes]:
    """A containerd outside of the supervisor; returns when it serves."""
    places.state.mkdir(parents=True, exist_ok=True, mode=0o711)
    profile.logs_dir.mkdir(parents=True, exist_ok=True)
    notify_path = places.state / "started.sock"
    notify_path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(notify_path))
        receiver.settimeout(0.1)
        environment = os.environ | {"NOTIFY_SOCKET": str(notify_path), "PATH": search_path()}
        command = [sys.executable, "-m", "pinnace.cluster.containerd", str(profile.directory)]
        with (profile.logs_dir / "containerd.log").open("ab") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + _START_TIMEOUT
        while started.poll() is None and time.monotonic() < deadline:
            try:
                if b"READY=1" in receiver.recv(4096):
                    return started
            except TimeoutError:
                continue  # to see whether it has ended
    started.kill()
    started.wait()
    raise ClusterError(RUNTIME_ENABLE, "containerd does not start", "See: pinnace logs containerd")


def _wait_until_it_answers(places: Places) -> None:
    import asyncio  # here, for the program that becomes containerd needs none of this

    from pinnace.cri.remote import RemoteRuntimeService

    async def answers() -> None:
        service = RemoteRuntimeService(places.endpoint)
        try:
            await asyncio.wait_for(service.serving(), _START_TIMEOUT)
        finally:
            await service.close()

    try:
        asyncio.run(answers())
    except TimeoutError:
        raise ClusterError(RUNTIME_ENABLE, "containerd does not answer", "See: pinnace logs containerd") from None


class CtrError(Exception):
    """containerd's own client failed; with what it said."""


def ctr(address: Path, *words: str) -> str:
    """Let containerd's own client work on what kubelets see; its output. Raises CtrError."""
    command = ["ctr", f"--address={address}", "--namespace=k8s.io", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": search_path()}
    )
    if done.returncode:
        raise CtrError(done.stderr.strip().removeprefix("ctr: "))
    return done.stdout


def load_pause(places: Places) -> None:
    """The image that sandboxes are made of. Raises CtrError."""
    with tempfile.NamedTemporaryFile(prefix="pinnace-pause-") as file:
        file.write(pause.archive())
        file.flush()
        ctr(places.socket, "images", "import", file.name)


def end(profile: Profile) -> None:
    """End the containerd that runs, if one does; its containers go on."""
    places = Places(profile)
    try:
        pid = int(places.pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if os.fsencode(places.configuration) not in command:
        return  # the number is another's now
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if control.wait_for_exit(pid, _STOP_TIMEOUT):
            return


def sweep(profile: Profile) -> None:
    """Kill what containers there still are, and remove what containerd keeps outside of the profile; it has ended."""
    end_shims(Places(profile).socket)
    for directory in map(Path, _SHARED_DIRECTORIES):
        try:
            directory.rmdir()
        except OSError:
            pass  # another containerd's


def shims(address: Path, identity: str = "") -> list[int]:
    """The processes that hold the containers of the containerd at a socket; only those of a sandbox."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        asked = {os.fsencode(address), identity.encode() or command[0]}
        if b"containerd-shim" in command[0] and asked <= set(command):
            found.append(int(entry.name))
    return found


def end_shims(address: Path, identity: str = "") -> bool:
    """Kill such shims with what they hold, and wait until they have ended; whether there were any."""
    found = shims(address, identity)
    for shim in found:
        for child in _children(shim):
            _kill(child)
        _kill(shim)
    for shim in found:
        control.wait_for_exit(shim, _STOP_TIMEOUT)
    return bool(found)


def _children(shim: int) -> list[int]:
    """The containers of a shim, which are its main thread's; none of one that has just ended by itself."""
    try:
        return [int(child) for child in Path(f"/proc/{shim}/task/{shim}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended


def _may_better_scores() -> bool:
    """Whether this process may let the kernel spare it more than it does: some machines' root may not."""
    file = Path("/proc/self/oom_score_adj")
    score = file.read_text()
    try:
        file.write_text(str(max(int(score) - 1, -1000)))
        file.write_text(score)
    except OSError:
        return False
    return True


def main() -> None:
    process.die_with_parent()
    profile = from_directory(Path(sys.argv[1]))
    guard.release(profile, os.getpid())  # else containers, which are its children, would keep the guard from acting
    places = Places(profile)
    plugins = cni_directory()
    if plugins is None:
        raise SystemExit("the CNI plugins are gone")
    places.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    places.networks.mkdir(parents=True, exist_ok=True)
    places.network_template.write_text(network_template(profile, places))
    places.configuration.write_text(configuration(places, plugins, restrict_oom_score=not _may_better_scores()))
    places.pid_file.write_text(str(os.getpid()))
    unfinished.remove(places)
    os.execvp("containerd", ["containerd", "--config", str(places.configuration)])


if __name__ == "__main__":
    main()
