"""One manifest, every kubectl verb a newcomer tries on it; each does what it does on Kubernetes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.alone]

MANIFEST = Path(__file__).parents[2] / "examples" / "site.yaml"
LIMIT = 120.0  # seconds that anything may take


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("apply", "-f", str(MANIFEST))
    cluster.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")
    cluster.kubectl("-n", "site", "rollout", "status", "deployment/client", "--timeout=120s")
    yield cluster
    cluster.kubectl("delete", "-f", str(MANIFEST), "--ignore-not-found", "--timeout=120s")


def pods(site: Cluster, app: str = "web") -> list[str]:
    """Names of the pods that are not on their way out."""
    items = site.json("-n", "site", "get", "pods", "-l", f"app={app}")["items"]
    return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def answering_pods(url: str, wanted: int) -> set[str]:
    """Who answers: asked until `wanted` different pods did, at most 300 times."""
    seen: set[str] = set()
    for _ in range(300):
        found = re.search(r"I am (\S+),", fetch(url))
        assert found
        seen.add(found[1])
        if len(seen) == wanted:
            break
    return seen


def test_rollout_brings_up_three_ready_replicas(site: Cluster) -> None:
    out = site.kubectl("-n", "site", "get", "deployment", "web", "--no-headers").stdout

    assert out.split()[:4] == ["web", "3/3", "3", "3"]


def test_get_pods_wide_shows_kubernetes_columns(site: Cluster) -> None:
    header, *rows = site.kubectl("-n", "site", "get", "pods", "-l", "app=web", "-o", "wide").stdout.splitlines()

    assert header.split("  ")[0] == "NAME"
    assert re.split(r"\s{2,}", header.strip()) == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]  # fmt: skip
    for row in rows:
        columns = row.split()
        assert columns[1:4] == ["1/1", "Running", "0"]
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", columns[5])
        assert columns[6:] == ["e2e", "<none>", "<none>"]


def test_every_replica_answers_through_the_node_port(site: Cluster) -> None:
    assert answering_pods("http://127.0.0.1:30080/", 3) == set(pods(site))


def test_the_node_port_answers_on_the_nodes_address(site: Cluster) -> None:
    address = site.pinnace("ip").stdout.strip()

    assert "Hello from Pinnace" in fetch(f"http://{address}:30080/")


def test_the_page_shows_config_map_and_secret(site: Cluster) -> None:
    page = fetch("http://127.0.0.1:30080/")

    assert page.startswith("Hello from Pinnace\n")
    assert "the door opens with sesame" in page


@pytest.mark.parametrize("name", ["web", "web.site", "web.site.svc.cluster.local"])
def test_a_pod_fetches_the_page_by_name(site: Cluster, name: str) -> None:
    out = site.kubectl(
        "-n", "site", "exec", "deployment/client", "--", "wget", "-q", "-O", "-", f"http://{name}/"
    ).stdout

    assert "Hello from Pinnace" in out


def test_a_pod_fetches_the_page_through_the_cluster_ip(site: Cluster) -> None:
    address = site.json("-n", "site", "get", "service", "web")["spec"]["clusterIP"]
    out = site.kubectl(
        "-n", "site", "exec", "deployment/client", "--", "wget", "-q", "-O", "-", f"http://{address}/"
    ).stdout

    assert "Hello from Pinnace" in out


def test_a_pod_reaches_the_api_server(site: Cluster) -> None:
    out = site.kubectl(
        "-n", "site", "exec", "deployment/client", "--", "nc", "-w", "5", "kubernetes.default", "443", stdin=""
    )

    assert out.returncode == 0


def test_the_job_completes(site: Cluster) -> None:
    site.kubectl("-n", "site", "wait", "--for=condition=complete", "job/prepare", "--timeout=120s")

    logs = site.kubectl("-n", "site", "logs", "-l", "job-name=prepare", "--tail=-1").stdout
    assert logs.count("prepared by prepare-") == 2


def test_logs_follow_what_is_written(site: Cluster) -> None:
    follower = site.process("-n", "site", "logs", "-f", "deployment/client", stdout=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        lines = [follower.stdout.readline() for _ in range(6)]
    finally:
        follower.kill()
        follower.wait()

    assert sum(line == "Hello from Pinnace\n" for line in lines) >= 2


def test_exec_with_a_terminal_is_a_shell(site: Cluster) -> None:
    master, slave = pty.openpty()
    shell = site.process(
        "-n", "site", "exec", "-it", "deployment/web", "--", "sh", stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        os.write(master, b"tty && echo $((6 * 7)) && exit 3\n")
        output, deadline = b"", time.monotonic() + LIMIT
        with contextlib.suppress(OSError):  # the terminal is gone when the shell is
            while time.monotonic() < deadline and select.select([master], [], [], LIMIT)[0]:
                output += os.read(master, 4096)
        code = shell.wait(LIMIT)
    finally:
        shell.kill()
        os.close(master)

    assert b"/dev/pts/" in output
    assert b"42" in output
    assert code == 3


def test_exec_passes_input_output_and_exit_code(site: Cluster) -> None:
    result = site.kubectl(
        "-n", "site", "exec", "-i", "deployment/web", "--", "sh", "-c", "cat; echo err >&2; exit 7",
        stdin="one\ntwo\n", check=False,
    )  # fmt: skip

    assert result.stdout == "one\ntwo\n"
    assert "err\n" in result.stderr
    assert "command terminated with exit code 7" in result.stderr
    assert result.returncode == 7


def test_exec_of_a_missing_program_says_so(site: Cluster) -> None:
    result = site.kubectl("-n", "site", "exec", "deployment/web", "--", "no-such-program", check=False)

    assert result.returncode != 0
    assert 'exec: "no-such-program": executable file not found in $PATH' in result.stderr


def test_port_forward_carries_a_request(site: Cluster) -> None:
    forwarder = site.process("-n", "site", "port-forward", "service/web", ":80", stdout=subprocess.PIPE)
    try:
        assert forwarder.stdout is not None
        line = forwarder.stdout.readline()
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8080", line)
        assert found, line
        for _ in range(3):
            assert "Hello from Pinnace" in fetch(f"http://127.0.0.1:{found[1]}/")
    finally:
        forwarder.kill()
        forwarder.wait()


def test_attach_shows_what_is_written(site: Cluster) -> None:
    attached = site.process("-n", "site", "attach", "deployment/client", stdout=subprocess.PIPE)
    try:
        assert attached.stdout is not None
        lines = {attached.stdout.readline() for _ in range(4)}
    finally:
        attached.kill()
        attached.wait()

    assert "Hello from Pinnace\n" in lines


def test_scale_changes_the_number_of_pods(site: Cluster) -> None:
    site.kubectl("-n", "site", "scale", "deployment/web", "--replicas=5")
    site.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")
    grown = pods(site)
    site.kubectl("-n", "site", "scale", "deployment/web", "--replicas=3")
    site.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")

    assert len(grown) == 5
    assert len(pods(site)) == 3


def test_set_image_rolls_out_and_undo_rolls_back(site: Cluster) -> None:
    def image() -> str:
        return str(
            site.json("-n", "site", "get", "pods", "-l", "app=web")["items"][0]["spec"]["containers"][0]["image"]
        )

    site.kubectl("-n", "site", "set", "image", "deployment/web", "web=busybox:1.37")
    site.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")
    site.kubectl("-n", "site", "wait", "--for=delete", "pod", "-l", "app=web,never=matches", "--timeout=60s")
    template = site.json("-n", "site", "get", "deployment", "web")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "busybox:1.37"

    history = site.kubectl("-n", "site", "rollout", "history", "deployment/web").stdout
    assert re.search(r"^1\s", history, re.M)
    assert re.search(r"^2\s", history, re.M)

    undone = site.kubectl("-n", "site", "rollout", "undo", "deployment/web").stdout
    site.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")
    template = site.json("-n", "site", "get", "deployment", "web")["spec"]["template"]
    assert undone == "deployment.apps/web rolled back\n"
    assert template["spec"]["containers"][0]["image"] == "busybox:1.36"
    assert image() in ("busybox:1.36", "busybox:1.37")


def test_describe_shows_state_and_events(site: Cluster) -> None:
    pod = site.kubectl("-n", "site", "describe", "pod", pods(site)[0]).stdout
    deployment = site.kubectl("-n", "site", "describe", "deployment", "web").stdout

    for line in ("Status:           Running", "Service Account:  default", "QoS Class:                   Burstable"):
        assert line in pod
    assert "/config from config (rw)" in pod
    assert re.search(r"Normal\s+Scheduled\s+\S+.*\s+default-scheduler\s+Successfully assigned site/web-", pod)
    assert re.search(r"Normal\s+Started\s+.*kubelet\s+", pod)
    assert "StrategyType:           RollingUpdate" in deployment
    assert re.search(r"Available\s+True\s+MinimumReplicasAvailable", deployment)
    assert "ScalingReplicaSet" in deployment


def test_explain_shows_a_field_with_its_description(site: Cluster) -> None:
    out = site.kubectl("explain", "deployment.spec.strategy").stdout

    assert re.search(r"GROUP:\s+apps", out)
    assert re.search(r"FIELD: strategy <DeploymentStrategy>", out)
    assert re.search(r"rollingUpdate\s+<RollingUpdateDeployment>", out)


def test_a_deleted_pod_is_replaced(site: Cluster) -> None:
    gone = pods(site)[0]
    site.kubectl("-n", "site", "delete", "pod", gone, "--timeout=60s")
    site.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")

    assert gone not in pods(site)
    assert len(pods(site)) == 3


def test_delete_removes_all_of_it_and_frees_the_port(site: Cluster) -> None:
    site.kubectl("delete", "-f", str(MANIFEST), "--timeout=120s")

    assert site.kubectl("get", "namespace", "site", check=False).returncode == 1
    assert site.kubectl("get", "pods", "-A", "-l", "app=web", "-o", "name").stdout == ""
    with socket.socket() as probe:
        probe.settimeout(10)
        assert probe.connect_ex(("127.0.0.1", 30080)) != 0
