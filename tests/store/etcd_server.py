"""A real etcd of the tests' own, on loopback ports that were free, with its data in a temporary directory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_ports

START_SECONDS = 60.0


class EtcdServer:
    """One single-member cluster; may be killed and started again on the same data and ports."""

    def __init__(self, directory: Path, *flags: str, tls: Path | None = None) -> None:
        self.directory = directory
        self._flags = flags
        self._tls = tls  # a directory with ca.crt, server.crt, server.key: clients must have a certificate of that CA
        self.client_port, self._peer_port, self._metrics_port = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        self._said = os.memfd_create("etcd")  # all that it writes, to tell why it ended

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.client_port}"

    def start(self, alarmed: bool = False) -> None:
        program = shutil.which("etcd")
        if program is None:
            pytest.skip("needs etcd: install Debian's etcd-server")
        peer = f"http://127.0.0.1:{self._peer_port}"
        self._process = subprocess.Popen(
            [
                program,
                f"--data-dir={self.directory}",
                f"--listen-client-urls={self.endpoint}",
                f"--advertise-client-urls={self.endpoint}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                f"--listen-metrics-urls=http://127.0.0.1:{self._metrics_port}",
                "--heartbeat-interval=20",
                "--election-timeout=100",
                *self._tls_flags(),
                *self._flags,
            ],
            stdout=self._said,
            stderr=self._said,
            env={"GOMAXPROCS": "2"},
        )
        self._wait(alarmed)

    def _tls_flags(self) -> list[str]:
        if self._tls is None:
            return []
        return [
            f"--cert-file={self._tls / 'server.crt'}",
            f"--key-file={self._tls / 'server.key'}",
            f"--trusted-ca-file={self._tls / 'ca.crt'}",
            "--client-cert-auth",
        ]

    def _wait(self, alarmed: bool) -> None:
        """Until it is healthy, or says why it is not: asked over the network, there is no event for it."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, f"etcd ended at its start: {self._last_words()}"
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{self._metrics_port}/health"
                try:
                    urllib.request.urlopen(url, timeout=1).close()
                except urllib.error.HTTPError:
                    if not alarmed:
                        raise
                return
            time.sleep(0.02)
        raise AssertionError("etcd did not become healthy in time")

    def _last_words(self) -> str:
        return os.pread(self._said, 2000, max(0, os.fstat(self._said).st_size - 2000)).decode(errors="replace")

    def __del__(self) -> None:
        os.close(self._said)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def make_room(self) -> None:
        """Start it again with the quota that it has by default, and lift its alarm."""
        self._flags = ()
        self.start(alarmed=True)
        for alarm in self._alarm({"action": "GET"})["alarms"]:
            self._alarm({"action": "DEACTIVATE", **alarm})

    def _alarm(self, request: dict[str, str]) -> Any:
        url, body = f"{self.endpoint}/v3/maintenance/alarm", json.dumps(request).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=START_SECONDS) as answer:
            return json.load(answer)

    def pause(self) -> None:
        """Let it answer nobody, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
