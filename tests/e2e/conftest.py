"""A real cluster, started as a user starts it, with real kubectl pointed at it.

On the embedded engine, or with `--container-runtime=containerd` on a containerd, without the tests marked `engine`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containerd import missing, release
from tests.support.images import busybox_archive

PINNACE = str(Path(sys.executable).with_name("pinnace"))
IMAGES = ("busybox:1.36", "busybox:1.37")
Result = subprocess.CompletedProcess[str]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--container-runtime") == "engine":
        return
    left_out = [item for item in items if item.get_closest_marker("engine")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


class Cluster:
    """A profile in a home of its own."""

    runtime = "engine"  # what `start` makes of it: all clusters of a run have the same

    def __init__(self, home: Path, profile: str) -> None:
        self.home = home
        self.profile = profile
        self.directory = home / "profiles" / profile
        self.kubeconfig = home.with_name(home.name + ".kubeconfig")
        self.environment = os.environ | {"PINNACE_HOME": str(home), "KUBECONFIG": str(self.kubeconfig)}

    @property
    def keeper(self) -> str:
        """A part of the command of the process that looks after containers."""
        return {"engine": "engine.monitor", "containerd": "containerd --config"}[self.runtime]

    def pinnace(self, command: str, *arguments: str, check: bool = True, timeout: float = 180) -> Result:
        return self._run([PINNACE, command, "-p", self.profile, *arguments], check=check, timeout=timeout)

    def start(self, *arguments: str) -> Result:
        return self.pinnace("start", f"--container-runtime={self.runtime}", *arguments)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 180) -> Result:
        return self._run(["kubectl", *arguments], stdin=stdin, check=check, timeout=timeout)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "-o", "json").stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def process(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A kubectl that goes on; the caller ends it."""
        return subprocess.Popen(["kubectl", *arguments], env=self.environment, text=True, **options)

    def features(self, handler: str = "") -> dict[str, bool]:
        """What the node says that its container runtime can, and a handler of it."""
        [node] = self.json("get", "nodes")["items"]
        handlers = [one for one in node["status"].get("runtimeHandlers", ()) if one.get("name", "") == handler]
        found: dict[str, bool] = dict(node["status"].get("features", {}))
        for one in handlers:
            found |= one.get("features", {})
        return found

    def need(self, feature: str) -> None:
        """Skip where the container runtime cannot do that."""
        if not self.features().get(feature):
            pytest.skip(f"the container runtime does not support {feature}")

    def need_release(self, major: int, minor: int, what: str) -> None:
        """Skip where the container runtime is a containerd from before it could do that."""
        if self.runtime == "containerd" and release() < (major, minor):
            pytest.skip(f"a containerd before {major}.{minor} knows no {what}")

    def need_cdi(self) -> None:
        """Skip where the container runtime knows no devices of the Container Device Interface."""
        if self.runtime == "containerd":
            settings = subprocess.run(["containerd", "config", "default"], capture_output=True, text=True, check=True)
            if "enable_cdi" not in settings.stdout:
                pytest.skip("this containerd does not know the Container Device Interface")

    def load_images(self, directory: Path) -> None:
        for name in IMAGES:
            archive = busybox_archive(directory / f"{name.replace(':', '-')}.tar", name)
            self.pinnace("image", "load", str(archive))

    def _run(self, command: list[str], *, stdin: str | None = None, check: bool, timeout: float) -> Result:
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )
        if check and result.returncode != 0:
            pytest.fail(f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result


@pytest.fixture(scope="session", autouse=True)
def runtime(request: pytest.FixtureRequest) -> str:
    """The container runtime of this run."""
    name = str(request.config.getoption("--container-runtime"))
    if name == "containerd" and (reason := missing()):
        pytest.skip(reason)
    Cluster.runtime = name
    return name


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory on a real disk, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="pn-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(scratch: Path) -> Iterator[Cluster]:
    """One cluster for all tests that leave it as they found it."""
    made = Cluster(scratch / "home", "e2e")
    try:
        made.start()
        made.load_images(scratch)
        yield made
    finally:
        made.pinnace("delete", check=False)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test."""
    name = request.node.name.replace("_", "-").split("[")[0][:50].strip("-").lower()
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
