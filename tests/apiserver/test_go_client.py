"""The server as Go's HTTP/2 client sees it, the one in kubectl, Helm and every controller written in Go."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.apiserver.conftest import TOKEN, Cluster

PROGRAM = Path(__file__).parent / "go_client" / "main.go"

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs Go (Debian package golang-go)")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os
    import subprocess

    folder = tmp_path_factory.mktemp("go")
    where = folder / "client"
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "GO111MODULE": "off", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", where, PROGRAM], env=environment, cwd=folder, check=True, timeout=300)
    return where


async def test_go_program_does_everything_over_one_connection(cluster: Cluster, program: Path) -> None:
    """GETs, LISTs, POSTs and a hundred watches at once; watches are cancelled by resets of their streams."""
    process = await asyncio.create_subprocess_exec(
        program, cluster.url, cluster.pki / "ca.crt", TOKEN, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 150)
    assert out.decode().split() == ["ok", "1"]
