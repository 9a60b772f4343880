"""`pinnace delete` leaves no trace, whatever happened before; `stop` and `start` keep what must be kept."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cluster.profile import Profile
from tests.e2e.conftest import Cluster
from tests.e2e.test_crash import kill, processes

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.alone]

Trace = dict[str, set[str]]


def trace(homes: Path) -> Trace:
    """All that a cluster could leave on this machine."""
    return {
        "processes": {
            command
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and (command := _command(entry))
            and "pinnace" in command
            and "pytest" not in command
        },
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "namespaces": {
            str(link.readlink())
            for kind in ("net", "mnt", "pid", "uts", "ipc")
            for link in Path("/proc").glob(f"[0-9]*/ns/{kind}")
            if _is_alive(link.parents[1]) and _readable(link)
        },
        "links": {link.name for link in Path("/sys/class/net").iterdir()},
        "nftables": set(_output("nft", "list", "tables").splitlines()),
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/pinnace*") if path.is_dir()},
        "hierarchies": {line.split(":")[1] for line in Path("/proc/self/cgroup").read_text().splitlines()},
        # The files of the cluster that other tests share change as its pods go.
        "files": {str(path) for path in homes.iterdir()}
        | {
            path
            for root in (homes / "fresh", Path("/run/pinnace"), Path("/run/netns"), Path("/var/run/netns"))
            for path in _files(root)
            if not path.startswith(f"{Profile('e2e', homes / 'home').run_dir}/")
        },
        # By device: the routes of another cluster's bridge change with its pods.
        "routes": {
            line.partition(" dev ")[2].split()[0]
            for line in _output("ip", "route", "show", "table", "all").splitlines()
            if " dev " in line
        },
    }


def _files(root: Path) -> Iterator[str]:
    """Everything below a directory; what goes meanwhile is gone."""
    for directory, folders, files in os.walk(root):
        yield from (f"{directory}/{name}" for name in (*folders, *files))


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_alive(process: Path) -> bool:
    """Not a zombie: those are their parent's to reap, not ours to have left."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _readable(link: Path) -> bool:
    try:
        link.readlink()
    except OSError:
        return False
    return True


def _output(*command: str) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}).stdout


def left_behind(before: Trace, after: Trace) -> Trace:
    """What is there now and was not before."""
    return {kind: more for kind in before if (more := after[kind] - before[kind])}


@pytest.fixture
def fresh(scratch: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of this test alone, not started yet."""
    made = Cluster(scratch / "fresh", "fresh")
    yield made
    made.pinnace("delete", check=False)


def fill(cluster: Cluster, scratch: Path) -> None:
    """Pods with every kind of mount, a NodePort, a finished Job."""
    cluster.load_images(scratch)
    cluster.kubectl("apply", "-f", str(Path(__file__).parents[2] / "examples" / "site.yaml"))
    cluster.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")


def test_delete_leaves_nothing(fresh: Cluster, scratch: Path) -> None:
    before = trace(scratch)
    fresh.start()
    fill(fresh, scratch)

    fresh.pinnace("delete")

    after = trace(scratch)
    left = left_behind(before, after)
    left.get("files", set()).difference_update(str(path) for path in scratch.glob("*.tar"))
    assert {kind: more for kind, more in left.items() if more} == {}


def test_delete_after_everything_was_killed_leaves_nothing(fresh: Cluster, scratch: Path) -> None:
    before = trace(scratch)
    fresh.start()
    fill(fresh, scratch)
    kill(list(processes(fresh)))

    fresh.pinnace("delete")

    left = left_behind(before, trace(scratch))
    left.get("files", set()).difference_update(str(path) for path in scratch.glob("*.tar"))
    assert {kind: more for kind, more in left.items() if more} == {}


def test_stop_ends_the_containers_and_start_brings_them_back(fresh: Cluster, scratch: Path) -> None:
    """What servers were told stays, too."""
    fresh.start("--extra-config=kubelet.max-pods=250", "--extra-config=apiserver.event-ttl=2h")
    fill(fresh, scratch)
    uids = {item["metadata"]["uid"] for item in fresh.json("-n", "site", "get", "pods", "-l", "app=web")["items"]}

    fresh.pinnace("stop")
    stopped = fresh.pinnace("status", check=False)
    httpds = [
        entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _command(entry).startswith("httpd")
    ]
    fresh.pinnace("start")

    assert (stopped.returncode, "host: Stopped" in stopped.stdout) == (7, True)
    assert not httpds
    fresh.kubectl("-n", "site", "rollout", "status", "deployment/web", "--timeout=120s")
    fresh.kubectl("-n", "site", "wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=120s")
    again = fresh.json("-n", "site", "get", "pods", "-l", "app=web")["items"]
    assert {item["metadata"]["uid"] for item in again} == uids
    assert {item["status"]["containerStatuses"][0]["restartCount"] for item in again} == {1}
    [node] = fresh.json("get", "nodes")["items"]
    assert node["status"]["capacity"]["pods"] == "250"


@pytest.mark.engine
def test_a_supervisor_that_hangs_is_deleted_too(fresh: Cluster, scratch: Path) -> None:
    before = trace(scratch)
    fresh.start()
    for pid, command in processes(fresh).items():
        if "cluster.node" in command:
            os.kill(pid, signal.SIGSTOP)

    fresh.pinnace("delete")

    assert left_behind(before, trace(scratch)) == {}
