"""Tables of the kubelet's small pure rules: QoS, resources, DNS, hosts, environment, back-off, Go's words, logs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cri.api import AuthConfig, CriError, DNSConfig, Image
from pinnace.kubelet.admission import rules
from pinnace.kubelet.containers.env import ConfigError, Environment, PodFacts, expand, service_environment
from pinnace.kubelet.containers.network_files import hosts_file, pod_dns
from pinnace.kubelet.containers.runtime_config import sandbox_hostname
from pinnace.kubelet.containers.security import verify_non_root
from pinnace.kubelet.go_words import duration, rpc_error
from pinnace.kubelet.images.manager import credentials, credentials_for, default_policy, valid_reference, with_tag
from pinnace.kubelet.logs import files
from pinnace.kubelet.pods import grace_period, qos_class, resource_requests
from pinnace.kubelet.probes.grpc_health import serving_state
from pinnace.kubelet.probes.manager import Tally
from pinnace.kubelet.resources.amounts import cgroup_parent, container_resources, cpu_quota, cpu_shares
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.machinery.errors import ApiError, not_found

META = {"name": "p", "namespace": "d", "uid": "u", "labels": {"b": 'say "x"', "a": "1"}}


def pod(*resources, **spec):
    containers = [{"name": f"c{index}", "image": "i", "resources": one} for index, one in enumerate(resources or ({},))]
    return {"metadata": META, "spec": {"containers": containers, **spec}}


def both(**amounts):
    return {"requests": amounts, "limits": amounts}


@pytest.mark.parametrize(
    ("resources", "expected", "parent"),
    [
        ([{}], "BestEffort", "/kubepods/besteffort/podu"),
        ([both(cpu="1", memory="1Gi")], "Guaranteed", "/kubepods/podu"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed", "/kubepods/podu"),
        ([both(cpu="1")], "Burstable", "/kubepods/burstable/podu"),
        ([both(cpu="1", memory="1Gi"), {}], "Burstable", "/kubepods/burstable/podu"),
        ([{"requests": {"cpu": "1"}}], "Burstable", "/kubepods/burstable/podu"),
        ([{"requests": {"cpu": "0"}}], "BestEffort", "/kubepods/besteffort/podu"),
    ],
)
def test_qos(resources, expected, parent):
    assert qos_class(pod(*resources)) == expected
    assert cgroup_parent(pod(*resources), "") == parent
    assert cgroup_parent(pod(*resources), "/x") == f"/x{parent}"


def test_systemd_has_a_slice_for_every_step_to_a_pods_cgroup() -> None:
    one = pod({})
    named = {**one, "metadata": {**one["metadata"], "uid": "ab-cd"}}

    assert cgroup_parent(named, "", "systemd") == (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab_cd.slice"
    )


def test_container_resources():
    burst = pod({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}})
    found = container_resources(burst, burst["spec"]["containers"][0], 4 << 30)
    assert (found.cpu_shares, found.cpu_quota, found.cpu_period) == (256, 50_000, 100_000)
    assert found.memory_limit_in_bytes == 2 << 30
    assert found.oom_score_adj == 750
    for resources, score in (([both(cpu="1", memory="1Gi")], -997), ([{}], 1000)):
        one = pod(*resources)
        assert container_resources(one, one["spec"]["containers"][0], 4 << 30).oom_score_adj == score


@given(st.integers(0, 1_000_000))
def test_shares_and_quota_stay_in_bounds(milli):
    assert 2 <= cpu_shares(milli) <= 262_144
    assert cpu_quota(milli) == 0 or cpu_quota(milli) >= 1000


def test_requests_count_init_containers_by_their_peak():
    wanted = pod({"requests": {"cpu": "1"}})
    wanted["spec"]["initContainers"] = [
        {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"name": "i", "resources": {"requests": {"cpu": "3"}}},
    ]
    assert resource_requests(wanted)["cpu"] == 3500


@pytest.mark.parametrize(
    ("metadata", "spec", "seconds"),
    [
        ({}, {}, 30),
        ({}, {"terminationGracePeriodSeconds": 5}, 5),
        ({}, {"terminationGracePeriodSeconds": 0}, 1),
        ({"deletionTimestamp": "x", "deletionGracePeriodSeconds": 9}, {"terminationGracePeriodSeconds": 5}, 9),
    ],
)
def test_grace_period(metadata, spec, seconds):
    assert grace_period({"metadata": metadata, "spec": spec}) == seconds


HOST = DNSConfig(servers=["192.0.2.1"], searches=["example.org"], options=["rotate"])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {},
            DNSConfig(
                servers=["10.96.0.10"],
                searches=["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"],
                options=["ndots:5"],
            ),
        ),
        ({"dnsPolicy": "Default"}, HOST),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirst"}, HOST),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]},
            },
            DNSConfig(servers=["1.1.1.1"], options=["ndots:2"]),
        ),
        (
            {"dnsPolicy": "Default", "dnsConfig": {"searches": ["x"], "options": [{"name": "edns0"}]}},
            DNSConfig(servers=["192.0.2.1"], searches=["example.org", "x"], options=["rotate", "edns0"]),
        ),
    ],
)
def test_dns(spec, expected):
    assert pod_dns(pod(**spec), HOST, ["10.96.0.10"], "cluster.local") == expected


def test_cluster_first_with_host_network():
    wanted = pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    assert pod_dns(wanted, HOST, ["10.96.0.10"], "cluster.local").servers == ["10.96.0.10"]


def test_hosts_file():
    wanted = pod(subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}])
    assert hosts_file(wanted, ["10.0.0.9"], "cluster.local", "") == (
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        "10.0.0.9\tp.sub.d.svc.cluster.local\tp\n\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n"
    )
    on_host = hosts_file(pod(hostNetwork=True), [], "cluster.local", "127.0.0.1 localhost\n")
    assert on_host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"


def test_hostname_as_fqdn():
    wanted = pod(hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert sandbox_hostname(wanted, "cluster.local") == "h.s.d.svc.cluster.local"
    wanted["spec"]["hostname"] = "h" * 60
    with pytest.raises(ConfigError, match=r"is too long \(64 characters is the max, 82 characters requested\)"):
        sandbox_hostname(wanted, "cluster.local")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$$$(A)", "$1"),
        ("", ""),
    ],
)
def test_expansion(text, expected):
    assert expand(text, {"A": "1"}) == expected


def test_service_environment():
    services = [
        {
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
        },
        {
            "metadata": {"name": "my-db", "namespace": "d"},
            "spec": {"clusterIP": "10.96.0.5", "ports": [{"port": 5432, "protocol": "TCP"}]},
        },
        {"metadata": {"name": "headless", "namespace": "d"}, "spec": {"clusterIP": "None", "ports": []}},
    ]
    found = service_environment(services, "d", True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["KUBERNETES_PORT_443_TCP_ADDR"] == "10.96.0.1"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.5:5432"
    assert not any(name.startswith("HEADLESS") for name in found)
    assert "MY_DB_PORT" not in service_environment(services, "d", False)


async def fetch(kind, namespace, name):
    known = {
        ("ConfigMap", "cm"): {"data": {"k": "v", "other": "w"}},
        ("Secret", "s"): {"data": {"pw": base64.b64encode(b"hidden").decode()}},
    }
    if (kind, name) not in known:
        raise not_found(kind.lower(), name)
    return known[kind, name]


def environment(**spec):
    facts = PodFacts(
        pod(both(cpu="1500m", memory="64Mi"), nodeName="n1", **spec),
        host_ips=["192.0.2.7"],
        pod_ips=["10.0.0.9"],
        allocatable={"cpu": 4000, "memory": 8 << 30},
    )
    return Environment(facts, fetch, {"SVC": "svc"})


async def test_environment():
    container = {
        "name": "c0",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": True}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(SVC)$(P_k)"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "NO", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        ],
    }
    assert await environment().build(container) == {
        "P_k": "v",
        "P_other": "w",
        "A": "1",
        "B": "1svcv",
        "PW": "hidden",
        "NODE": "n1",
        "IP": "10.0.0.9",
        "LABEL": "1",
        "CPU": "2",
        "MEM": "64",
        "SVC": "svc",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "no"}}, "couldn't find key no in ConfigMap d/cm"),
        ({"secretKeyRef": {"name": "s", "key": "no"}}, "couldn't find key no in Secret d/s"),
    ],
)
async def test_environment_errors(source, message):
    with pytest.raises(ConfigError) as error:
        await environment().build({"name": "c0", "env": [{"name": "A", "valueFrom": source}]})
    assert str(error.value) == message


def test_labels_as_a_field():
    facts = PodFacts(pod(), host_ips=[], pod_ips=[], allocatable={})
    assert facts.field("metadata.labels") == 'a="1"\nb="say \\"x\\""'


def test_backoff_doubles_and_is_forgotten():
    now = [0.0]
    backoff = Backoff(lambda: now[0])
    assert backoff.remaining("k", 0.0) == 0.0
    waits = []
    for _ in range(7):
        backoff.next("k", now[0])
        waits.append(backoff.get("k"))
        assert backoff.remaining("k", now[0]) == waits[-1]
        now[0] += waits[-1]
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    now[0] += 601
    assert backoff.remaining("k", now[0]) == 0.0
    backoff.next("k", now[0])
    assert backoff.get("k") == 10


@pytest.mark.parametrize(
    ("seconds", "digits", "text"),
    [
        (0, 9, "0s"),
        (1.5, 9, "1.5s"),
        (0.25, 9, "250ms"),
        (120, 9, "2m0s"),
        (3605, 9, "1h0m5s"),
        (1.23456, 3, "1.234s"),
        (0.0000015, 9, "1.5µs"),
        (10, 9, "10s"),
    ],
)
def test_durations(seconds, digits, text):
    assert duration(seconds, digits) == text


def test_rpc_error():
    assert rpc_error(CriError("DEADLINE_EXCEEDED", "late")) == "rpc error: code = DeadlineExceeded desc = late"


@pytest.mark.parametrize(
    ("image", "tagged", "policy", "valid"),
    [
        ("nginx", "nginx:latest", "Always", True),
        ("nginx:1.27", "nginx:1.27", "IfNotPresent", True),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "Always", True),
        (f"a@sha256:{'0' * 64}", f"a@sha256:{'0' * 64}", "IfNotPresent", True),
        ("Nginx", "Nginx:latest", "Always", False),
        ("a b", "a b:latest", "Always", False),
        ("reg.example/A:1", "reg.example/A:1", "IfNotPresent", False),
    ],
)
def test_references(image, tagged, policy, valid):
    assert (with_tag(image), default_policy(image), valid_reference(with_tag(image))) == (tagged, policy, valid)


def test_credentials():
    auth = base64.b64encode(b"me:secret").decode()
    auths = {"https://reg.example/v1/": {"auth": auth}, "*.corp.example/team": {"username": "x"}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}
    known = credentials([{"metadata": {"name": "s"}, "data": data}])
    (found,) = credentials_for("reg.example/app:1", known)
    assert found == AuthConfig(username="me", password="secret", server_address="https://reg.example/v1/")
    assert [one.username for one in credentials_for("a.corp.example/team/app:1", known)] == ["x"]
    assert not credentials_for("a.corp.example/other:1", known)
    assert not credentials_for("nginx:1", known)


UNVERIFIED = 'cannot verify user is non-root (pod: "p_d(u)", container: c0)'


@pytest.mark.parametrize(
    ("context", "image", "message"),
    [
        ({}, Image(id="i"), ""),
        ({"runAsNonRoot": True, "runAsUser": 5}, Image(id="i"), ""),
        ({"runAsNonRoot": True}, Image(id="i", uid=5), ""),
        (
            {"runAsNonRoot": True, "runAsUser": 0},
            Image(id="i"),
            """container's runAsUser breaks non-root policy (pod: "p_d(u)", container: c0)""",
        ),
        (
            {"runAsNonRoot": True},
            Image(id="i", uid=0),
            'container has runAsNonRoot and image will run as root (pod: "p_d(u)", container: c0)',
        ),
        (
            {"runAsNonRoot": True},
            Image(id="i", username="www"),
            f"container has runAsNonRoot and image has non-numeric user (www), {UNVERIFIED}",
        ),
    ],
)
def test_non_root(context, image, message):
    wanted = pod(securityContext=context)
    if not message:
        verify_non_root(wanted, wanted["spec"]["containers"][0], image)
        return
    with pytest.raises(ConfigError) as error:
        verify_non_root(wanted, wanted["spec"]["containers"][0], image)
    assert str(error.value) == message


def test_tally_counts_results_in_a_row():
    tally = Tally({"failureThreshold": 3, "successThreshold": 2})
    assert [tally.add(ok) for ok in (False, False, True, False, False, False, True, True)] == [
        None, None, None, None, None, False, None, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "state"), [(b"\0\0\0\0\2\x08\x01", 1), (b"\0\0\0\0\2\x08\x02", 2), (b"\0\0\0\0\0", 0), (b"", -1)]
)
def test_grpc_answer(message, state):
    assert serving_state(message) == state


NODE = {
    "metadata": {"name": "n1", "labels": {"disk": "ssd", "size": "5"}},
    "spec": {"taints": [{"key": "dead", "effect": "NoExecute"}]},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2"}},
}
TOLERATES = [{"operator": "Exists"}]


def affinity(operator, key="size", values=("3",)):
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}, "tolerations": TOLERATES}


def ports(number):
    one = pod(tolerations=TOLERATES)
    one["spec"]["containers"][0]["ports"] = [{"hostPort": number, "containerPort": number}]
    return one


@pytest.mark.parametrize(
    ("wanted", "others", "reason"),
    [
        (pod(tolerations=TOLERATES), [], None),
        (pod(), [], "TaintToleration"),
        (pod({"requests": {"cpu": "3"}}, tolerations=TOLERATES), [], "OutOfcpu"),
        (pod({"requests": {"cpu": "1"}}, tolerations=TOLERATES), [pod({"requests": {"cpu": "1500m"}})], "OutOfcpu"),
        (pod({"requests": {"example.com/gpu": "1"}}, tolerations=TOLERATES), [], "OutOfexample.com/gpu"),
        (pod(tolerations=TOLERATES), [pod(), pod()], "OutOfpods"),
        (pod(tolerations=TOLERATES, nodeSelector={"disk": "hdd"}), [], "NodeAffinity"),
        (pod(**affinity("Gt")), [], None),
        (pod(**affinity("Lt")), [], "NodeAffinity"),
        (pod(**affinity("NotIn", "disk", ("ssd",))), [], "NodeAffinity"),
        (ports(80), [ports(81)], None),
        (ports(80), [ports(80)], "NodePorts"),
    ],
)
def test_admission(wanted, others, reason):
    found = rules.admit(wanted, others, NODE)
    assert (found.reason if found else None) == reason


def test_admission_message():
    found = rules.admit(pod({"requests": {"cpu": "3"}}), [], NODE)
    assert found.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"
    )


# Logs.

LINES = [
    b"2026-01-01T00:00:01.000000001Z stdout F one\n",
    b"2026-01-01T00:00:02.000000001Z stderr F two\n",
    b"2026-01-01T00:00:03.000000001Z stdout P thr\n",
    b"2026-01-01T00:00:03.000000002Z stdout F ee\n",
    b"2026-01-01T00:00:04.000000001Z stdout F \n",
]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, b"one\ntwo\nthree\n\n"),
        ({"tailLines": "2"}, b"three\n\n"),
        ({"tailLines": "0"}, b""),
        ({"tailLines": "99"}, b"one\ntwo\nthree\n\n"),
        ({"limitBytes": "6"}, b"one\ntw"),
        ({"sinceTime": "2026-01-01T00:00:03Z"}, b"three\n\n"),
        ({"timestamps": "true", "tailLines": "2"}, LINES[2][:30] + b" three\n" + LINES[4][:30] + b" \n"),
        ({"stream": "Stderr"}, b"two\n"),
    ],
)
def test_log_options(tmp_path, params, expected):
    path = Path(tmp_path, "0.log")
    path.write_bytes(b"".join(LINES) + b"2026-01-01T00:00:05.000000001Z stdout F unfinished")
    options = files.parse_options(params, datetime(2026, 1, 1, tzinfo=UTC))
    assert b"".join(files.read_all(path, options)) == expected


@pytest.mark.parametrize("params", [{"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceSeconds": "0"}])
def test_log_options_that_are_refused(params):
    with pytest.raises(ApiError) as error:
        files.parse_options(params, datetime(2026, 1, 1, tzinfo=UTC))
    assert error.value.code == 422


@given(st.lists(st.binary(max_size=300).map(lambda text: text.replace(b"\n", b"")), max_size=30), st.integers(0, 40))
def test_tail_gives_the_last_lines(tmp_path_factory, texts, count):
    path = tmp_path_factory.mktemp("log") / "0.log"
    path.write_bytes(b"".join(b"2026-01-01T00:00:01.000000001Z stdout F " + text + b"\n" for text in texts))
    found = b"".join(files.read_all(path, files.LogOptions(tail_lines=count)))
    assert found == b"".join(text + b"\n" for text in texts[max(0, len(texts) - count) :])


def test_rotation_keeps_so_many_files(tmp_path):
    path = tmp_path / "0.log"
    for second in range(5):
        path.write_text(str(second))
        files.rotate(path, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), 4)
    names = [one.name for one in files.rotated_files(path)]
    assert names == ["0.log.20260101-000002.gz", "0.log.20260101-000003.gz", "0.log.20260101-000004"]
