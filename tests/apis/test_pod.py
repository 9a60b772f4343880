"""Pods: what they are given, what is refused and how they are shown."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis import resources
from pinnace.apis.core.pod import qos_class, validate_binding, validate_ephemeral_update, validate_resize
from pinnace.apis.core.pod_defaults import pull_policy
from pinnace.apis.registry import Registry

NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
POD = Registry().by_gvr(resources.PODS)
assert POD is not None
assert POD.default
assert POD.prepare
assert POD.validate
assert POD.validate_update
assert POD.row


def pod(**spec: Any) -> dict[str, Any]:
    spec.setdefault("containers", [{"name": "web", "image": "nginx"}])
    meta = {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def created(**spec: Any) -> dict[str, Any]:
    obj = pod(**spec)
    POD.default(obj)
    POD.prepare(obj, None)
    return obj


def refused(**spec: Any) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in POD.validate(created(**spec))]


def container(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "web", "image": "nginx", **fields}]


def test_a_minimal_pod_becomes_whole() -> None:
    assert created()["spec"] == {
        "containers": [
            {
                "name": "web",
                "image": "nginx",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert created()["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert refused() == []


def test_details_of_a_pod_are_filled_in() -> None:
    spec = created(
        hostNetwork=True,
        serviceAccountName="robot",
        volumes=[
            {"name": "a"},
            {"name": "b", "secret": {"secretName": "s"}},
            {"name": "c", "hostPath": {"path": "/x"}},
            {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "e", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
        containers=container(
            image="nginx:1.25",
            ports=[{"containerPort": 80}],
            env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            resources={"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            livenessProbe={"httpGet": {"port": 80}},
            readinessProbe={"grpc": {"port": 80}},
        ),
    )["spec"]
    web = spec["containers"][0]
    assert web["imagePullPolicy"] == "IfNotPresent"
    assert web["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert web["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert web["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    numbers = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert web["livenessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, **numbers}
    assert web["readinessProbe"] == {"grpc": {"port": 80, "service": ""}, **numbers}
    assert spec["serviceAccount"] == "robot"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["a"]["emptyDir"] == {}
    assert volumes["b"]["secret"]["defaultMode"] == 420
    assert volumes["c"]["hostPath"] == {"path": "/x", "type": ""}
    assert volumes["d"]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert volumes["e"]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"image": "a"}]}, "spec.containers[0].name: Required value"),
        ({"containers": [{"name": "A", "image": "a"}]}, f'spec.containers[0].name: Invalid value: "A": {LABEL}'),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image: Required value"),
        (
            {"containers": container(image=" a")},
            'spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace',
        ),
        ({"containers": container() * 2}, 'spec.containers[1].name: Duplicate value: "web"'),
        (
            {"initContainers": container(), "containers": container()},
            'spec.initContainers[0].name: Duplicate value: "web"',
        ),
        (
            {"restartPolicy": "Sometimes"},
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
        ),
        (
            {"dnsPolicy": "Mine"},
            (
                'spec.dnsPolicy: Unsupported value: "Mine": supported values: '
                '"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"'
            ),
        ),
        ({"dnsPolicy": "None"}, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
        (
            {"activeDeadlineSeconds": 0},
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        ({"hostname": "A"}, f'spec.hostname: Invalid value: "A": {LABEL}'),
        ({"containers": container(ports=[{}])}, "spec.containers[0].ports[0].containerPort: Required value"),
        (
            {"containers": container(ports=[{"containerPort": 70000}])},
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"containers": container(ports=[{"containerPort": 1, "protocol": "UDPX"}])},
            'spec.containers[0].ports[0].protocol: Unsupported value: "UDPX": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"containers": container(ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}])},
            'spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//9"',
        ),
        (
            {"containers": container(volumeMounts=[{"name": "v", "mountPath": "/a"}])},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (
            {
                "volumes": [{"name": "v"}],
                "containers": container(volumeMounts=[{"name": "v", "mountPath": "/a"}] * 2),
            },
            'spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
        ),
        (
            {"volumes": [{"name": "v"}, {"name": "v"}]},
            'spec.volumes[1].name: Duplicate value: "v"',
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        ({"volumes": [{"name": "v", "secret": {}}]}, "spec.volumes[0].secret.secretName: Required value"),
        ({"volumes": [{"name": "v", "configMap": {}}]}, "spec.volumes[0].configMap.name: Required value"),
        (
            {"containers": container(livenessProbe={})},
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            {"containers": container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2})},
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            {"containers": container(readinessProbe={"httpGet": {"port": 0}})},
            "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            {"containers": container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})},
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            {"containers": container(resources={"limits": {"cpu": "-1"}})},
            'spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            {"containers": container(env=[{"name": "A", "valueFrom": {}}])},
            (
                'spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, '
                "`resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            ),
        ),
        (
            {"containers": container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])},
            (
                'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "x": '
                "error converting fieldPath: field label not supported: x"
            ),
        ),
        (
            {"tolerations": [{"operator": "Equal"}]},
            'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, '
            'which means \\"match all values and all keys\\"'.replace('\\"', '"'),
        ),
        (
            {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]},
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            {
                "affinity": {
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
                }
            },
            (
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: "
                "Required value: must have at least one node selector term"
            ),
        ),
        (
            {"initContainers": [{"name": "i", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}}]},
            (
                "spec.initContainers[0].livenessProbe: Forbidden: "
                "may not be set for init containers without restartPolicy=Always"
            ),
        ),
        (
            {"securityContext": {"runAsUser": -1}},
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
    ],
)
def test_a_wrong_pod_is_told_what_is_wrong(spec: dict[str, Any], message: str) -> None:
    assert message in refused(**spec)


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1000m", "memory": "1"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}, {}], "Burstable"),
        ([{"requests": {"example.com/gpu": "1"}}], "BestEffort"),
    ],
)
def test_the_quality_of_service(resources: list[Any], quality: str) -> None:
    assert qos_class({"containers": [{"resources": one} for one in resources]}) == quality


def changed(old: dict[str, Any], **spec: Any) -> list[str]:
    new = copy.deepcopy(old)
    new["spec"].update(spec)
    return [f"{cause.field}: {cause.message}" for cause in POD.validate_update(new, old)]


def test_an_update_may_change_images_and_add_tolerations() -> None:
    old = created(activeDeadlineSeconds=10)
    containers = copy.deepcopy(old["spec"]["containers"])
    containers[0]["image"] = "nginx:2"
    assert changed(old, containers=containers, tolerations=[{"operator": "Exists"}], activeDeadlineSeconds=5) == []


def test_an_update_may_change_nothing_else() -> None:
    old = created(tolerations=[{"key": "a", "operator": "Exists"}])
    assert changed(old, nodeName="n")[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    more = [*old["spec"]["containers"], {"name": "b", "image": "b", "imagePullPolicy": "Always"}]
    assert "spec.containers: Forbidden: pod updates may not add or remove containers" in changed(old, containers=more)
    assert (
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        in changed(old, tolerations=[])
    )
    assert changed(old, schedulingGates=[{"name": "g"}])[0] == (
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"
    )


def test_a_gated_pod_says_so() -> None:
    conditions = created(schedulingGates=[{"name": "g"}])["status"]["conditions"]
    assert [(one["type"], one["status"], one["reason"]) for one in conditions] == [
        ("PodScheduled", "False", "SchedulingGated")
    ]


def test_ephemeral_containers_are_only_added() -> None:
    old = created(ephemeralContainers=[{"name": "e", "image": "e"}])
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"][0]["image"] = "f"
    assert [cause.field for cause in validate_ephemeral_update(new, old)] == ["spec.ephemeralContainers[0]"]
    assert validate_ephemeral_update(old, old) == []


def resources(**requests: str) -> dict[str, Any]:
    return {"requests": {name.replace("_", "-"): value for name, value in requests.items()}}


def sized(first: dict[str, Any], **spec: Any) -> dict[str, Any]:
    other = {"name": "other", "image": "i", "resources": resources(cpu="1", memory="1Gi")}
    return created(containers=[*container(resources=first), other], **spec)


INIT: list[dict[str, Any]] = [{"name": "init", "image": "i", "resources": resources(cpu="1")}]
SIDECAR: list[dict[str, Any]] = [{**INIT[0], "restartPolicy": "Always"}]
MORE = resources(cpu="2")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (sized(resources(cpu="1")), sized(resources(cpu="2", memory="1Gi")), []),
        (sized({}, initContainers=SIDECAR), sized({}, initContainers=[{**SIDECAR[0], "resources": MORE}]), []),
        (sized({}, resources=resources(cpu="3")), sized({}, resources=resources(cpu="4")), []),
        (
            sized(resources(cpu="1", memory="1Gi")),
            sized(resources(cpu="1")),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        ),
        (
            sized({"limits": {"cpu": "1"}}),
            sized({"requests": {"cpu": "1"}}),
            ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"],
        ),
        (
            sized(resources(cpu="1", ephemeral_storage="1Gi")),
            sized(resources(cpu="1", ephemeral_storage="2Gi")),
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            sized({}, initContainers=INIT),
            sized({}, initContainers=[{**INIT[0], "resources": MORE}]),
            ["spec.initContainers[0].resources: Forbidden: resources for non-sidecar init containers are immutable"],
        ),
        (
            sized({}),
            created(containers=list(reversed(sized({})["spec"]["containers"]))),
            ["spec: Forbidden: containers may not be renamed or reordered on resize"],
        ),
        (
            created(
                containers=container(
                    resources={"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}
                )
            ),
            created(
                containers=container(
                    resources={"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "2", "memory": "1"}}
                )
            ),
            ['spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing'],
        ),
    ],
)
def test_a_resize_changes_cpu_and_memory_alone(old: dict[str, Any], new: dict[str, Any], told: list[str]) -> None:
    assert [f"{cause.field}: {cause.message}" for cause in validate_resize(new, old)] == told


def test_static_pods_and_those_of_windows_keep_their_size() -> None:
    mirror = created()
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert [cause.message for cause in validate_resize(mirror, mirror)] == ["Forbidden: static pods cannot be resized"]
    windows = created(os={"name": "windows"})
    assert [cause.message for cause in validate_resize(windows, windows)] == [
        "Forbidden: windows pods cannot be resized"
    ]


def test_a_binding_names_a_node() -> None:
    assert [cause.field for cause in validate_binding({"target": {}})] == ["target.name"]
    assert validate_binding({"target": {"kind": "Node", "name": "n"}}) == []


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("spec", "status", "shown"),
    [
        ({}, {"phase": "Pending"}, ["web", "0/1", "Pending", "0", "10m"]),
        (
            {},
            {"phase": "Running", "containerStatuses": [{"ready": True, "restartCount": 0, "state": RUNNING}]},
            ["web", "1/1", "Running", "0", "10m"],
        ),
        (
            {},
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "restartCount": 2,
                        "state": waiting("CrashLoopBackOff"),
                        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:55Z"}},
                    }
                ],
            },
            ["web", "0/1", "CrashLoopBackOff", "2 (5s ago)", "10m"],
        ),
        (
            {},
            {
                "phase": "Succeeded",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
            },
            ["web", "0/1", "Completed", "0", "10m"],
        ),
        (
            {},
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]},
            ["web", "0/1", "ExitCode:3", "0", "10m"],
        ),
        ({}, {"phase": "Failed", "reason": "Evicted"}, ["web", "0/1", "Evicted", "0", "10m"]),
        (
            {"initContainers": [{"name": "i"}, {"name": "j"}]},
            {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": RUNNING}]},
            ["web", "0/1", "Init:0/2", "0", "10m"],
        ),
        (
            {"initContainers": [{"name": "i"}]},
            {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": waiting("ErrImagePull")}]},
            ["web", "0/1", "Init:ErrImagePull", "0", "10m"],
        ),
        (
            {"initContainers": [{"name": "i"}]},
            {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 1}}}],
            },
            ["web", "0/1", "Init:ExitCode:1", "1", "10m"],
        ),
        (
            {"initContainers": [{"name": "i", "restartPolicy": "Always"}]},
            {
                "phase": "Running",
                "initContainerStatuses": [{"name": "i", "started": True, "ready": True, "state": RUNNING}],
                "containerStatuses": [{"ready": True, "state": RUNNING}],
            },
            ["web", "2/2", "Running", "0", "10m"],
        ),
        (
            {},
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
            },
            ["web", "0/1", "SchedulingGated", "0", "10m"],
        ),
    ],
)
def test_one_word_says_how_a_pod_is_doing(spec: dict[str, Any], status: dict[str, Any], shown: list[str]) -> None:
    obj = {**created(**spec), "status": status}
    assert POD.row(obj, NOW)[:5] == shown


def test_a_pod_that_is_going_is_terminating() -> None:
    obj = created()
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert POD.row(obj, NOW)[2] == "Terminating"
    obj["status"]["reason"] = "NodeLost"
    assert POD.row(obj, NOW)[2] == "Unknown"


def test_wide_cells_say_where_a_pod_is() -> None:
    obj = created(nodeName="n", readinessGates=[{"conditionType": "a"}, {"conditionType": "b"}])
    obj["status"] |= {
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "a", "status": "True"}],
    }
    assert POD.row(obj, NOW)[5:] == ["10.0.0.1", "n", "<none>", "1/2"]
    assert [column.priority for column in POD.columns] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_selectors_see_where_a_pod_is() -> None:
    obj = created(nodeName="n")
    read = {field: fn(obj) for field, fn in POD.selectable_fields.items()}
    assert read["spec.nodeName"] == "n"
    assert read["status.phase"] == "Pending"
    assert read["spec.hostNetwork"] == "false"
    assert read["status.podIP"] == ""
