"""The way out of a cluster's network namespace: slirp4netns, which carries packets as connections of its user's.

It stays in the machine's network; it ends by itself when the first process of the namespaces does (slirp4netns(1)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

DEVICE = "tap0"
NAMESERVER = "10.0.2.3"
_MTU = 65520


def program(path: str) -> str:
    """slirp4netns, where it is installed and can open a tunnel; else nothing."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return ""
    return shutil.which("slirp4netns", path=path) or ""


def connect(slirp: str, pid: int, lifeline: int, log: Path) -> subprocess.Popen[bytes]:
    """Give the network of `pid` a way out, which goes when the other end of `lifeline` is closed. Raises OSError."""
    ready, told = os.pipe()
    try:
        with log.open("ab") as file:
            process = subprocess.Popen(
                [slirp, "--configure", f"--mtu={_MTU}", "--disable-host-loopback", f"--exit-fd={lifeline}",
                 f"--ready-fd={told}", str(pid), DEVICE],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=(lifeline, told),
            )  # fmt: skip
        os.close(told)
        told = -1
        if not os.read(ready, 1):
            raise OSError(f"it ended with status {process.wait()}")
        return process
    finally:
        os.close(ready)
        if told >= 0:
            os.close(told)
