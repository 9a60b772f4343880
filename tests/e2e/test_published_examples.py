"""The workloads that Kubernetes' tutorials and tasks show, with stand-in programs: they behave as their pages say."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import IMAGE
from tests.e2e.test_pod_life import events
from tests.e2e.test_workloads import moment

pytestmark = [pytest.mark.e2e, pytest.mark.root]

MANIFESTS = Path(__file__).with_name("manifests")
LIMIT = 60.0  # seconds that anything may take
Kubectl = Callable[..., str]
Volumes = Callable[[str, int], None]


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    """Runs kubectl in the test's namespace; what it printed."""
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    return lambda *words, **more: cluster.kubectl("-n", namespace, *words, **more).stdout


@pytest.fixture
def volumes(cluster: Cluster, scratch: Path) -> Iterator[Volumes]:
    """Makes so many volumes of a class, as an administrator does where no provisioner is."""
    made: list[str] = []

    def make(storage_class: str, count: int) -> None:
        names = [f"{storage_class}-{number}" for number in range(count)]
        made.extend(names)
        cluster.apply(*(volume(name, storage_class, scratch / "volumes" / name) for name in names))

    yield make
    cluster.kubectl("delete", "pv", "--wait=false", *made)


def volume(name: str, storage_class: str, path: Path) -> dict[str, Any]:
    spec = {
        "storageClassName": storage_class,
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(path), "type": "DirectoryOrCreate"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def until(read: Callable[[], Any], wanted: Any) -> None:
    """Ask again and again until the answer is that: for what is of chance, or behind a server that tells no events."""
    end = time.monotonic() + LIMIT
    while (found := read()) != wanted:
        assert time.monotonic() < end, f"it is {found}"


def has_endpoints(cluster: Cluster, namespace: str, service: str) -> None:
    """Return as soon as the service leads somewhere."""
    words = ("get", "endpointslices", "-l", f"kubernetes.io/service-name={service}")
    ready = 'jsonpath={.endpoints[?(@.conditions.ready==true)].addresses[0]}{"\\n"}'
    watch = cluster.process(
        *("-n", namespace, *words, "--watch", f"--request-timeout={LIMIT:.0f}s", "-o", ready), stdout=subprocess.PIPE
    )
    try:
        assert watch.stdout is not None
        assert any(line.strip() for line in watch.stdout), f"{service} leads nowhere"
    finally:
        watch.kill()
        watch.wait()


def in_service(cluster: Cluster, namespace: str, service: str, path: str, wanted: str) -> None:
    """Read a page through the API server, which knows the service's pods when everybody does."""
    has_endpoints(cluster, namespace, service)
    raw = f"/api/v1/namespaces/{namespace}/services/{service}/proxy/{path}"

    def read() -> str | None:
        asked = cluster.kubectl("get", "--raw", raw, check=False)
        return None if asked.returncode else asked.stdout

    until(read, wanted)


def columns(text: str, *wanted: str) -> list[tuple[str, ...]]:
    """Some columns of a table that kubectl printed."""
    header, *rows = (line.split() for line in text.splitlines())
    places = [header.index(name) for name in wanted]
    return [tuple(row[place] for place in places) for row in rows]


def names(kubectl: Kubectl, resource: str, *words: str) -> list[str]:
    return kubectl("get", resource, *words, "-o", "jsonpath={.items[*].metadata.name}").split()


def test_an_application_is_deployed_exposed_scaled_and_updated(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    """https://kubernetes.io/docs/tutorials/kubernetes-basics/"""
    name = "kubernetes-bootcamp"
    script = 'mkdir /w && echo "Hello $(hostname)" > /w/index.html && exec httpd -f -p 8080 -h /w'
    made = kubectl("create", "deployment", name, f"--image={IMAGE}", "--port=8080", "--", "sh", "-c", script)
    assert made == f"deployment.apps/{name} created\n"
    strategic = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 0}}}}
    kubectl("patch", "deployment", name, "-p", json.dumps(strategic))
    done = kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    assert done.splitlines()[-1] == f'deployment "{name}" successfully rolled out'
    exposed = kubectl("expose", f"deployment/{name}", "--type=NodePort", "--port=8080")
    assert exposed == f"service/{name} exposed\n"
    has_endpoints(cluster, namespace, name)
    described = kubectl("describe", f"services/{name}")
    assert [line.split()[1] for line in described.splitlines() if line.startswith("Type:")] == ["NodePort"]
    port = kubectl("get", f"services/{name}", "-o", "go-template={{(index .spec.ports 0).nodePort}}")
    address = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    node = cluster.kubectl("get", "nodes", "-o", f"jsonpath={address}").stdout

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://{node}:{port}/", timeout=5) as page:
                return str(page.read().decode())
        except OSError:
            return ""

    until(lambda: answer() == "", False)
    [pod] = answer().split()[-1:]  # one of the template before may still be ending
    assert pod in names(kubectl, "pods", "-l", f"app={name}")
    assert kubectl("label", "pods", pod, "version=v1") == f"pod/{pod} labeled\n"
    assert names(kubectl, "pods", "-l", "version=v1") == [pod]

    assert kubectl("scale", f"deployments/{name}", "--replicas=4") == f"deployment.apps/{name} scaled\n"
    kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    table = kubectl("get", "deployments")
    assert columns(table, "NAME", "READY", "UP-TO-DATE", "AVAILABLE") == [(name, "4/4", "4", "4")]
    events = kubectl("describe", f"deployments/{name}").partition("\nEvents:")[2]
    assert "from 1 to 4" in events
    until(lambda: answer().split()[-1:] != [pod], True)

    updated = kubectl("set", "image", f"deployments/{name}", "busybox=busybox:1.37")
    assert updated == f"deployment.apps/{name} image updated\n"
    kubectl("rollout", "status", f"deployments/{name}", "--timeout=60s")
    assert kubectl("rollout", "undo", f"deployments/{name}") == f"deployment.apps/{name} rolled back\n"
    kubectl("rollout", "status", f"deployments/{name}", "--timeout=60s")
    images = kubectl("get", f"deployment/{name}", "-o", "jsonpath={.spec.template.spec.containers[*].image}")
    assert images == IMAGE

    deleted = kubectl("delete", "service", "-l", f"app={name}")
    assert deleted.startswith(f'service "{name}" deleted')
    until(answer, "")


def test_a_site_keeps_its_posts_when_its_database_moves(
    cluster: Cluster, kubectl: Kubectl, namespace: str, volumes: Volumes
) -> None:
    """https://kubernetes.io/docs/tutorials/stateful-application/mysql-wordpress-persistent-volume/"""
    volumes("wordpress", 2)
    site = str(MANIFESTS / "wordpress")
    made = kubectl("apply", "-k", site).splitlines()
    [secret] = [line.removesuffix(" created") for line in made if line.startswith("secret/mysql-pass-")]
    assert {line for line in made if not line.startswith("secret/")} == {
        "service/wordpress created",
        "service/wordpress-mysql created",
        "persistentvolumeclaim/mysql-pv-claim created",
        "persistentvolumeclaim/wp-pv-claim created",
        "deployment.apps/wordpress created",
        "deployment.apps/wordpress-mysql created",
    }
    for name in ("wordpress-mysql", "wordpress"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    claims = columns(kubectl("get", "pvc"), "NAME", "STATUS", "CAPACITY")
    assert claims == [("mysql-pv-claim", "Bound", "1Gi"), ("wp-pv-claim", "Bound", "1Gi")]
    service = columns(kubectl("get", "services", "wordpress"), "NAME", "TYPE", "PORT(S)")
    assert [row[:2] for row in service] == [("wordpress", "LoadBalancer")]
    in_service(cluster, namespace, "wordpress", "cgi-bin/blog", "")
    in_service(cluster, namespace, "wordpress", "cgi-bin/blog?post=first", "post=first\n")

    [old] = names(kubectl, "pods", "-l", "tier=mysql")
    kubectl("set", "image", "deployment/wordpress-mysql", "mysql=busybox:1.37")
    kubectl("rollout", "status", "deployment/wordpress-mysql", "--timeout=60s")
    [new] = names(kubectl, "pods", "-l", "tier=mysql")
    assert new != old
    strategy = kubectl("describe", "deployment", "wordpress-mysql")
    assert [line.split()[1] for line in strategy.splitlines() if line.startswith("StrategyType:")] == ["Recreate"]
    in_service(cluster, namespace, "wordpress", "cgi-bin/blog", "post=first\n")

    deleted = kubectl("delete", "-k", site)
    assert f"{secret.replace('/', ' ', 1).replace('secret ', 'secret ')!s}".split()[1] in deleted
    assert names(kubectl, "deployments,services,pvc") == []


def test_a_ring_grows_in_order_and_finds_its_seed_by_name(
    cluster: Cluster, kubectl: Kubectl, namespace: str, volumes: Volumes
) -> None:
    """https://kubernetes.io/docs/tutorials/stateful-application/cassandra/"""
    volumes("cassandra", 4)
    kubectl("apply", "-f", str(MANIFESTS / "cassandra.yaml"))
    done = kubectl("rollout", "status", "statefulset/cassandra", "--timeout=60s").splitlines()
    assert done[-1] == "partitioned roll out complete: 3 new pods have been updated..."
    assert columns(kubectl("get", "statefulset", "cassandra"), "NAME", "READY") == [("cassandra", "3/3")]
    pods = {one["metadata"]["name"]: one for one in cluster.json("-n", namespace, "get", "pods")["items"]}
    assert sorted(pods) == ["cassandra-0", "cassandra-1", "cassandra-2"]
    for earlier, later in (("cassandra-0", "cassandra-1"), ("cassandra-1", "cassandra-2")):
        assert moment(pods[earlier], "Ready") <= pods[later]["metadata"]["creationTimestamp"]
    claims = columns(kubectl("get", "pvc"), "NAME", "STATUS")
    assert claims == [(f"cassandra-data-{name}", "Bound") for name in pods]

    kubectl("scale", "statefulset/cassandra", "--replicas=4")
    kubectl("rollout", "status", "statefulset/cassandra", "--timeout=60s")
    addresses = {
        one["metadata"]["name"]: one["status"]["podIP"] for one in cluster.json("-n", namespace, "get", "pods")["items"]
    }
    ring = kubectl("exec", "cassandra-0", "--", "cat", "/cassandra_data/ring").split()
    assert ring == [f"UN:{name}:{address}" for name, address in addresses.items()]
    described = kubectl("describe", "statefulset", "cassandra")
    assert "create Claim cassandra-data-cassandra-3 Pod cassandra-3 in StatefulSet cassandra success" in described
    assert "create Pod cassandra-3 in StatefulSet cassandra successful" in described

    kubectl("delete", "statefulset", "cassandra")
    kubectl("wait", "--for=delete", "pod", "-l", "app=cassandra", "--timeout=60s")
    assert len(names(kubectl, "pvc")) == 4  # what was stored outlives who stored it
    kubectl("delete", "pvc", "-l", "app=cassandra")
    assert names(kubectl, "pvc") == []


def test_replicas_copy_a_primary_and_return_with_their_data(
    cluster: Cluster, kubectl: Kubectl, namespace: str, volumes: Volumes
) -> None:
    """https://kubernetes.io/docs/tasks/run-application/run-replicated-stateful-application/"""
    volumes("replicated", 3)
    kubectl("apply", "-f", str(MANIFESTS / "replicated.yaml"))
    kubectl("rollout", "status", "statefulset/mysql", "--timeout=60s")
    assert names(kubectl, "pods") == ["mysql-0", "mysql-1", "mysql-2"]
    ask = ("exec", "mysql-2", "-c", "mysql", "--", "wget", "-q", "-O", "-")
    kubectl(*ask, "http://mysql-0.mysql:3306/cgi-bin/sql?hello")
    assert kubectl(*ask, "http://mysql-1.mysql:3306/cgi-bin/sql?no") == "read-only\n"
    for number in range(3):
        page = f"http://mysql-{number}.mysql:3306/cgi-bin/sql"
        until(partial(kubectl, *ask, page, check=False), f"server-id={100 + number}\nhello\n")
    seen: set[str] = set()

    def read() -> int:
        seen.add(kubectl(*ask, "http://mysql-read:3306/cgi-bin/sql").split()[0])
        return len(seen)

    until(read, 3)  # the reading service has them all

    before = kubectl("get", "pod", "mysql-2", "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "pod", "mysql-2")
    kubectl("wait", "--for=create", "pod/mysql-2", "--timeout=60s")
    assert kubectl("get", "pod", "mysql-2", "-o", "jsonpath={.metadata.uid}") != before
    kubectl("wait", "--for=condition=Ready", "pod/mysql-2", "--timeout=60s")
    assert kubectl("logs", "mysql-2", "-c", "clone-mysql") == "kept\n"
    until(lambda: "hello" in kubectl(*ask, "http://mysql-2.mysql:3306/cgi-bin/sql", check=False), True)


def test_an_agent_is_updated_on_every_node(cluster: Cluster, kubectl: Kubectl) -> None:
    """https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/"""
    daemon = "fluentd-elasticsearch"
    kubectl("apply", "-f", str(MANIFESTS / "daemon.yaml"))
    assert kubectl("get", f"ds/{daemon}", "-o", "go-template={{.spec.updateStrategy.type}}") == "RollingUpdate"
    kubectl("rollout", "status", f"ds/{daemon}", "--timeout=60s")
    table = columns(kubectl("get", "ds", daemon), "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE")
    assert table == [("1",) * 5]
    assert (
        kubectl("set", "image", f"ds/{daemon}", f"{daemon}=busybox:1.37") == f"daemonset.apps/{daemon} image updated\n"
    )
    done = kubectl("rollout", "status", f"ds/{daemon}", "--timeout=60s")
    assert done.splitlines()[-1] == f'daemon set "{daemon}" successfully rolled out'
    images = kubectl("get", "pods", "-l", f"name={daemon}", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert images == "busybox:1.37"


def test_jobs_split_work_speak_to_each_other_and_recur(cluster: Cluster, kubectl: Kubectl, namespace: str) -> None:
    """https://kubernetes.io/docs/tasks/job/: indexed-parallel-processing-static, job-with-pod-to-pod-communication and
    automated-tasks-with-cron-jobs
    """
    kubectl("apply", "-f", str(MANIFESTS / "jobs.yaml"))
    [row] = columns(kubectl("get", "cronjob", "hello"), "NAME", "SUSPEND", "ACTIVE")
    assert (row[0], kubectl("get", "cronjob", "hello", "-o", "jsonpath={.spec.schedule}")) == ("hello", "* * * * *")

    kubectl("wait", "--for=condition=Complete", "job/indexed-job", "--timeout=60s")
    events(cluster, namespace, "indexed-job", "Completed")
    described = kubectl("describe", "jobs/indexed-job")
    said = dict(line.split(":", 1) for line in described.partition("\nEvents:")[0].splitlines() if ":" in line)
    assert said["Completion Mode"].strip() == "Indexed"
    assert said["Completed Indexes"].strip() == "0-4"
    assert said["Pods Statuses"].strip() == "0 Active (0 Ready) / 5 Succeeded / 0 Failed"
    assert described.count("Created pod: indexed-job-") == 5
    assert described.rstrip().endswith("Job completed")
    index = "batch.kubernetes.io/job-completion-index"
    logs = [kubectl("logs", "-l", f"job-name=indexed-job,{index}={number}", "-c", "worker") for number in range(5)]
    assert logs == ["oof\n", "rab\n", "zab\n", "xuq\n", "zyx\n"]

    kubectl("wait", "--for=condition=Complete", "job/example-job", "--timeout=60s")
    for number in range(3):
        lines = kubectl("logs", "-l", f"job-name=example-job,{index}={number}").splitlines()
        reached = [line.split("(")[0].strip() for line in lines if line.startswith("Success")]
        assert reached == [f"Successfully reached pod: example-job-{peer}.headless-svc" for peer in range(3)]

    by_hand = kubectl("create", "job", "hello-now", "--from=cronjob/hello")
    assert by_hand == "job.batch/hello-now created\n"
    kubectl("wait", "--for=condition=Complete", "job/hello-now", "--timeout=60s")
    assert kubectl("logs", "job/hello-now").splitlines()[-1] == "Hello from the Kubernetes cluster"
