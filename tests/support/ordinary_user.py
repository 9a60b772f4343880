"""An ordinary user of this machine, made for a test: with a home, subordinate ids and the means to run this project.

The interpreter and the packages that the tests run with may be out of a user's sight, below /root. So the user's
programs run in a mount namespace in which they are shown in a directory of the user's, as are kubectl and /dev/net/tun,
which a user may open on most machines.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType

import pinnace

_TUN = Path("/dev/net/tun")


class OrdinaryUser:
    """A context: the user is there within it, and gone with all processes afterwards."""

    def __init__(self, name: str, directory: Path, *, subordinates: bool = True) -> None:
        """`directory` is empty, and the user may come there; without `subordinates` there are no such ids."""
        self.name = name
        self._subordinates = subordinates
        self.directory = directory
        self.home = directory / "home"
        self.pinnace = directory / "pinnace"
        self.uid = -1

    def __enter__(self) -> OrdinaryUser:
        self.directory.chmod(0o711)
        # useradd gives ordinary users subordinate ids, where the machine has a table of them.
        for table in ("/etc/subuid", "/etc/subgid"):
            Path(table).touch(0o644)
        _run("useradd", "--create-home", "--home-dir", str(self.home), "--shell", "/bin/sh", self.name)
        self.uid = self.home.stat().st_uid
        for first, count in [] if self._subordinates else self.subordinate():
            whole = f"{first}-{first + count - 1}"
            _run("usermod", "--del-subuids", whole, "--del-subgids", whole, self.name)
        self._holder = self._hold_mounts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.processes():
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        self._holder.kill()
        self._holder.wait()
        _run("userdel", self.name)

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """What root runs for the user to run something, with nothing of root's but the time of day."""
        variables = {
            "HOME": str(self.home),
            "PATH": f"{self.directory}/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{self.directory}/source:{self.directory}/packages",
            "LD_LIBRARY_PATH": f"{self.directory}/python/lib",
            **environment,
        }
        return [
            "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt",
            "setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--clear-groups", "--inh-caps=-all",
            "env", "-i", f"--chdir={self.home}", *(f"{name}={value}" for name, value in variables.items()), *arguments,
        ]  # fmt: skip

    def processes(self) -> list[int]:
        """Those that run, of the user and of the user's subordinate ids; zombies are others' to reap."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and "(zombie)" not in (status := (entry / "status").read_text()):
                    uid = int(status.partition("\nUid:")[2].split()[0])
                    if uid == self.uid or any(first <= uid < first + count for first, count in self.subordinate()):
                        found.append(int(entry.name))
            except OSError:
                continue  # it has just ended
        return found

    def subordinate(self) -> list[tuple[int, int]]:
        """First and count of each range."""
        rows = (line.split(":") for line in Path("/etc/subuid").read_text().splitlines())
        return [(int(first), int(count)) for name, first, count in rows if name == self.name]

    def mounts(self) -> set[str]:
        """The mount points below the user's directory."""
        lines = Path(f"/proc/{self._holder.pid}/mountinfo").read_text().splitlines()
        return {point for line in lines if (point := line.split()[4]).startswith(f"{self.directory}/")}

    def _hold_mounts(self) -> subprocess.Popen[str]:
        """A process that keeps the mount namespace."""
        source = Path(pinnace.__file__).parents[1]
        shown = {
            sys.base_prefix: self.directory / "python",
            str(source): self.directory / "source",
            sysconfig.get_path("purelib"): self.directory / "packages",
        }
        script = ["set -e"]
        for what, where in shown.items():
            where.mkdir()
            script.append(f"mount --bind '{what}' '{where}'")
        binaries = self.directory / "bin"
        binaries.mkdir()
        shutil.copy(_found("kubectl"), binaries / "kubectl")
        if _TUN.exists():
            tunnel = self.directory / "tun"
            os.mknod(tunnel, stat.S_IFCHR | 0o666, _TUN.stat().st_rdev)
            tunnel.chmod(0o666)
            script.append(f"mount --bind '{tunnel}' {_TUN}")
        python = self.directory / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.pinnace.write_text(f"#!{python}\nfrom pinnace.cli.main import main\nmain()\n")
        self.pinnace.chmod(0o755)
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation=slave", "sh", "-c", "\n".join([*script, "echo", "exec cat"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        if not holder.stdout.readline():
            raise OSError(f"the mounts fail with status {holder.wait()}")
        return holder


def _found(program: str) -> str:
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert path is not None
    return path


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
