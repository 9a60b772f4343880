"""`pinnace metrics-server`, as a server of its own."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

from pinnace.testing import Cluster
from tests.support.ports import free_port

PINNACE = Path(sys.executable).with_name("pinnace")


def test_it_serves_until_it_is_told_to_end(cluster: Cluster, tmp_path: Path) -> None:
    port = free_port()
    command = [
        str(PINNACE),
        "metrics-server",
        f"--kubeconfig={cluster.kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={tmp_path}",
        f"--requestheader-client-ca-file={cluster.directory / 'front-proxy-ca.crt'}",
        "--metric-resolution=10s",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("metrics server listening" in line for line in process.stderr)
            context = ssl.create_default_context(cafile=str(tmp_path / "metrics-server-ca.crt"))
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/livez", context=context) as answer:
                assert answer.read() == b"ok"
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
