"""A containerd of a test's own: root, state, socket, CNI network and cgroups nobody else has; ended by its pid.

Needs Debian's `containerd`, `runc` and `containernetworking-plugins`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from pinnace.cluster.containerd import end_shims, shims
from pinnace.cri.api import ImageSpec
from pinnace.cri.remote import RemoteImageService

CNI_PLUGINS = Path("/usr/lib/cni" if Path("/usr/lib/cni").is_dir() else "/opt/cni/bin")
PAUSE = "docker.io/library/pause:test"  # what sandboxes are made of; to be loaded as `pause:test`
LIMIT = 60.0  # seconds


def missing() -> str:
    """What a machine lacks to run one; empty where it can."""
    for program in ("containerd", "runc", "ctr"):
        if shutil.which(program) is None:
            return f"needs {program}"
    if not (CNI_PLUGINS / "bridge").exists():
        return "needs containernetworking-plugins"
    return "needs root" if os.geteuid() else ""


def release() -> tuple[int, int]:
    """The first two numbers of the one that this machine has."""
    said = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" v?(\d+)\.(\d+)\.", said)
    assert found, said
    return int(found[1]), int(found[2])


def out_of_memory(runtime: str) -> set[str]:
    """What a runtime says of a container that has ended because it needed too much memory.

    Where cgroups are of version 1, a containerd watches those of a container only if it finds all of its hierarchies:
    for a moment after some program has unmounted one of its own, and for good after an unclean end of it, it does not.
    """
    if runtime == "containerd" and Path("/sys/fs/cgroup/memory").is_dir():
        return {"OOMKilled", "Error"}
    return {"OOMKilled"}


class Containerd:
    """`start` and `kill` as often as a test likes; `close` leaves nothing."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory
        self.bridge = f"cric{os.getpid() % 100000:05d}{number}"
        self.subnet = f"10.{160 + os.getpid() % 30}.{number}.0/24"
        self.run = Path(tempfile.mkdtemp(prefix="cri-", dir="/run"))
        self.socket = self.run / "containerd.sock"
        self.endpoint = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "containerd.log"
        self._configure()

    def _configure(self) -> None:
        network = self.directory / "net.d"
        network.mkdir(parents=True)
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.directory / "ipam"),
                "ranges": [[{"subnet": self.subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        document = {"cniVersion": "1.0.0", "name": self.bridge, "plugins": [bridge]}
        (network / "10-test.conflist").write_text(json.dumps(document))
        (self.directory / "config.toml").write_text(
            f"""
version = 2
root = "{self.directory}/root"
state = "{self.run}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{network}"
"""
        )

    def start(self) -> None:
        """Until it says that it serves, as to systemd."""
        path = self.run / "ready.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(path))
            ready.settimeout(LIMIT)
            with self.log.open("ab") as log:
                command = ["containerd", "--config", str(self.directory / "config.toml")]
                environment = os.environ | {"NOTIFY_SOCKET": str(path)}
                self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                raise AssertionError(self.log.read_text()) from None

    def load(self, archive: Path) -> None:
        """Images of a docker-archive; what it names `NAME:TAG` is docker.io/library/NAME:TAG here.

        The CRI hears of it a moment later: `knows` waits for that.
        """
        loaded = self.ctr("--namespace=k8s.io", "images", "import", str(archive))
        assert loaded.returncode == 0, loaded.stderr

    async def knows(self, *names: str) -> None:
        """Return once the CRI has these images."""
        images = RemoteImageService(self.endpoint)
        try:
            async with asyncio.timeout(LIMIT):
                while True:
                    found = [await images.image_status(ImageSpec(image=name)) for name in names]
                    if None not in found:
                        return
                    await asyncio.sleep(0.01)
        finally:
            await images.close()

    def ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ctr", f"--address={self.socket}", *words], capture_output=True, text=True, check=False)

    def kill(self) -> None:
        """SIGKILL: containers run on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def shims(self) -> list[int]:
        """The processes that hold its containers."""
        return shims(self.socket)

    def close(self) -> None:
        end_shims(self.socket)
        if self.process is not None:
            self.process.terminate()
            self.process.wait(LIMIT)
            self.process = None
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            where = line.split()[1]
            if where.startswith((f"{self.run}/", f"{self.directory}/")):
                subprocess.run(["umount", "-l", where], check=False)
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
