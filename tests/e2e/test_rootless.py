"""A cluster of an ordinary user: pods, Services and kubectl as root has them; back after kills, gone after delete."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.cluster.profile import Profile
from tests.e2e.conftest import PINNACE, Cluster, Result
from tests.e2e.pods import IMAGE, container, pod
from tests.support.images import busybox_archive
from tests.support.ordinary_user import OrdinaryUser
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs newuidmap"),
    pytest.mark.skipif(
        any(
            switch.exists() and switch.read_text().strip() == "0"
            for switch in map(
                Path, ("/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone")
            )
        ),
        reason="this machine forbids user namespaces",
    ),
]

LIMIT = 60.0  # seconds


class UsersCluster(Cluster):
    """One whose commands an ordinary user gives."""

    def __init__(self, user: OrdinaryUser) -> None:
        super().__init__(user.home / ".pinnace", "own")
        self.user = user
        self.output = ""  # of `start`

    def process(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.user.command("kubectl", *arguments), text=True, **options)

    def _run(self, command: list[str], *, stdin: str | None = None, check: bool, timeout: float) -> Result:
        program = str(self.user.pinnace) if command[0] == PINNACE else command[0]
        wrapped = self.user.command(program, *command[1:])
        result = subprocess.run(wrapped, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and result.returncode != 0:
            pytest.fail(f"{' '.join(command)} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result


@pytest.fixture(scope="module")
def user(scratch: Path) -> Iterator[OrdinaryUser]:
    scratch.chmod(0o711)
    directory = scratch / "user"
    directory.mkdir()
    with OrdinaryUser(f"pn-{os.getpid()}", directory) as made:
        yield made


@pytest.fixture(scope="module")
def own(user: OrdinaryUser, scratch: Path) -> Iterator[UsersCluster]:
    """A cluster with an image of which not all is root's, a Deployment of two pods and a Service before it."""
    cluster = UsersCluster(user)
    page = tarfile.TarInfo("www/index.html")
    page.uid, page.gid = 1000, 100
    try:
        cluster.output = cluster.pinnace("start").stdout
        archive = busybox_archive(user.directory / "image.tar", IMAGE, entries=[page])
        cluster.pinnace("image", "load", str(archive))
        cluster.apply(*_site())
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        yield cluster
    finally:
        cluster.pinnace("delete", check=False)


def _site() -> list[dict[str, Any]]:
    labels = {"app": "web"}
    server = container(
        "web", "trap exit TERM; echo serving; hostname > /www/index.html; httpd -f -p 8080 -h /www & wait"
    )
    server["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1}
    server["resources"] = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [server]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    return [deployment, service]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pods(cluster: UsersCluster) -> dict[str, tuple[bool, int]]:
    """Readiness and restarts of the Deployment's pods, by name; nothing while the API server cannot be asked."""
    listed = cluster.kubectl("get", "pods", "-l", "app=web", "--no-headers", check=False)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {name: (ready == "1/1", int(restarts)) for name, ready, _, restarts, *_ in rows}


def running(user: OrdinaryUser, module: str) -> list[int]:
    """The processes of one of our programs, the eldest first."""
    return sorted(
        (pid for pid in user.processes() if f"-m\0{module}\0" in _read(f"/proc/{pid}/cmdline")),
        key=lambda pid: int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19] or 0),
    )


def _read(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return ")" + " 0" * 40


def test_start_says_what_is_limited(own: UsersCluster) -> None:
    said = [line for line in own.output.splitlines() if line.startswith("! Without root: ")]

    assert any("limits of CPU" in line for line in said)
    assert own.pinnace("status").stdout.count("Running") == 3


def test_pods_find_services_by_name_and_run_commands(own: UsersCluster) -> None:
    found = own.kubectl(
        "exec",
        "deployment/web",
        "--",
        "sh",
        "-c",
        "nslookup web.default.svc.cluster.local; until wget -qO- web; do sleep 0.1; done",
    )

    assert "Name:\tweb.default.svc.cluster.local" in found.stdout
    assert found.stdout.split()[-1] in pods(own)
    assert own.kubectl("logs", "deployment/web").stdout == "serving\n"


def test_services_answer_at_the_machine_by_port_forward(own: UsersCluster) -> None:
    forwarder = own.process("port-forward", "service/web", ":80", stdout=subprocess.PIPE)
    try:
        assert forwarder.stdout is not None
        port = int(forwarder.stdout.readline().split()[2].rpartition(":")[2])
        assert _ask(port) in pods(own)
    finally:
        forwarder.terminate()
        forwarder.wait()


def test_node_ports_answer_at_the_machine_for_as_long_as_they_are_there(own: UsersCluster) -> None:
    own.kubectl("create", "service", "nodeport", "brief", "--tcp=80:8080")
    own.kubectl("set", "selector", "service", "brief", "app=web")
    port = own.json("get", "service", "brief")["spec"]["ports"][0]["nodePort"]

    wait_until(lambda: _ask(port) in pods(own))
    own.kubectl("delete", "service", "brief")
    wait_until(lambda: not _ask(port))
    [other] = own.json("get", "service", "web")["spec"]["ports"]
    assert _ask(other["nodePort"]) in pods(own)


def test_host_ports_answer_at_the_machine(own: UsersCluster) -> None:
    free = free_port()
    ports = [{"containerPort": 8080, "hostPort": free}]
    server = container("c", "echo published > /www/index.html; httpd -f -p 8080 -h /www", ports=ports)
    own.apply(pod("published", server))

    wait_until(lambda: _ask(free) == "published")
    own.kubectl("delete", "pod", "published")
    wait_until(lambda: not _ask(free))


def _ask(port: int) -> str:
    """What answers at a port of the machine's loopback; nothing where nothing does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT) as answer:
            return str(answer.read().decode().strip())
    except (OSError, http.client.HTTPException):
        return ""


def test_pods_have_other_users_than_root(own: UsersCluster) -> None:
    script = (
        "id -u; stat -c %u:%g /www/index.html; touch /data/file && stat -c %g /data/file; grep -c . /proc/self/uid_map"
    )
    asking = container("asking", script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    own.apply(
        pod(
            "asking", asking, restartPolicy="Never", securityContext={"runAsUser": 1000, "fsGroup": 2000},
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )  # fmt: skip
    own.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asking", "--timeout=60s")

    assert own.kubectl("logs", "asking").stdout.split() == ["1000", "1000:100", "2000", "2"]


def test_directories_of_an_image_can_be_replaced(own: UsersCluster) -> None:
    """Overlayfs marks those that hide others by attributes, which only root of the machine may set as it does."""
    replace = "rm -r /www && mkdir /www && ls -A /www | wc -l"
    own.apply(pod("replacing", container("replacing", replace), restartPolicy="Never"))
    own.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/replacing", "--timeout=60s")

    assert own.kubectl("logs", "replacing").stdout == "0\n"


@pytest.mark.skipif(not shutil.which("slirp4netns"), reason="needs slirp4netns")
def test_pods_reach_other_machines(own: UsersCluster) -> None:
    """They are asked for by the machine's own address, which is not one of the cluster's."""
    address = _address_of_this_machine()
    if not address:
        pytest.skip("this machine has no address beside the loopback's")
    with socket.create_server((address, 0)) as server:
        server.settimeout(LIMIT)
        asking = own.process(
            "exec", "deployment/web", "--", "nc", address, str(server.getsockname()[1]), stdout=subprocess.PIPE
        )
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"far")

    assert asking.communicate(timeout=LIMIT)[0] == "far"


def _address_of_this_machine() -> str:
    shown = subprocess.run(
        ["ip", "-4", "-o", "route", "get", "198.51.100.1"], capture_output=True, text=True, check=False
    )
    words = shown.stdout.split()
    return words[words.index("src") + 1] if "src" in words else ""


def test_a_killed_supervisor_is_started_again_and_pods_run_on(own: UsersCluster) -> None:
    before = pods(own)
    [supervisor] = running(own.user, "pinnace.cluster.supervisor")

    os.kill(supervisor, signal.SIGKILL)

    wait_until(lambda: running(own.user, "pinnace.cluster.supervisor") not in ([], [supervisor]))
    wait_until(lambda: pods(own) == before)


def test_killed_namespaces_come_back_with_their_pods(own: UsersCluster) -> None:
    """The machine that they are is switched on again: pods are the same, their containers new."""
    names = pods(own).keys()
    _, init = running(own.user, "pinnace.cluster.rootless.keeper")

    os.kill(init, signal.SIGKILL)

    wait_until(lambda: own.pinnace("status", check=False).stdout.count("Running") == 3)
    wait_until(lambda: pods(own).keys() == names and all(ready and again for ready, again in pods(own).values()))


def test_stop_and_start_keep_what_there_is(own: UsersCluster) -> None:
    names = pods(own).keys()

    own.pinnace("stop")
    assert own.user.processes() == []
    assert own.pinnace("image", "ls").stdout.split() == [f"docker.io/library/{IMAGE}"]
    assert own.user.processes() == []
    own.pinnace("start")

    wait_until(lambda: pods(own).keys() == names and all(ready for ready, _ in pods(own).values()))


def test_root_leaves_the_clusters_of_users_alone(own: UsersCluster) -> None:
    result = subprocess.run(
        [PINNACE, "delete", "-p", own.profile], env=own.environment, capture_output=True, text=True, check=False
    )

    assert result.returncode == 37
    assert f'The cluster "{own.profile}" was started without root' in result.stderr


def test_delete_leaves_nothing(user: OrdinaryUser) -> None:
    files, mounts = _files(user.home), user.mounts()
    cluster = UsersCluster(user)
    cluster.profile = "brief"
    cluster.pinnace("start", "--keep-context")
    cluster.pinnace("delete")

    assert not [pid for pid in user.processes() if "brief" in _read(f"/proc/{pid}/cmdline")]
    assert user.mounts() == mounts
    assert not {path for path in _files(user.home) - files if "brief" in path}
    assert not Profile("brief", user.home / ".pinnace").directory.exists()


def _files(root: Path) -> set[str]:
    return {f"{directory}/{name}" for directory, folders, files in os.walk(root) for name in (*folders, *files)}


def test_a_user_without_subordinate_ids_is_told_what_to_do(scratch: Path) -> None:
    directory = scratch / "poor"
    directory.mkdir()
    with OrdinaryUser(f"pn-{os.getpid()}-poor", directory, subordinates=False) as user:
        result = UsersCluster(user).pinnace("start", check=False)

        assert result.returncode == 57
        assert "has no 65536 subordinate user ids" in result.stderr
        assert f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user.name}" in result.stderr
        assert not (user.home / ".pinnace").exists()
