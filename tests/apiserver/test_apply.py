"""Server-side apply and managedFields over the wire: who owns what, conflicts, creation, status and scale."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from pinnace.machinery import fieldset
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Answer, Cluster, config_map, pod

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str = "web", **spec: Any) -> Obj:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def whole(name: str = "web", replicas: int = 1, image: str = "nginx:1") -> Obj:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80}]}]},
    }
    return deployment(name, replicas=replicas, selector={"matchLabels": {"app": name}}, template=template)


async def apply(cluster: Cluster, path: str, config: Any, manager: str = "a", **params: str) -> Answer:
    query = urlencode({"fieldManager": manager, **params} if manager else params)
    body = config if isinstance(config, bytes) else json.dumps(config).encode()
    return await cluster.call("PATCH", f"{path}?{query}", body, content_type=APPLY)


def managers(obj: Obj) -> list[tuple[str, str, str]]:
    """Manager, operation and subresource of each entry."""
    entries = obj["metadata"].get("managedFields", [])
    return [(entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries]


def owned(obj: Obj, manager: str, operation: str = "") -> list[str]:
    found: set[str] = set()
    for entry in obj["metadata"].get("managedFields", []):
        if entry["manager"] == manager and entry["operation"].startswith(operation):
            found |= set(map(fieldset.path_text, fieldset.paths(entry["fieldsV1"])))
    return sorted(found)


# Every write is tracked.


@pytest.mark.parametrize(
    ("headers", "query", "manager"),
    [
        ({"User-Agent": "kubectl/v1.33.0 (linux/amd64) kubernetes/abc"}, "", "kubectl"),
        ({"User-Agent": "curl"}, "", "curl"),
        ({"User-Agent": "x" * 200}, "", "x" * 128),
        ({}, "", "unknown"),
        ({"User-Agent": "curl"}, "?fieldManager=me", "me"),
    ],
)
async def test_a_write_is_its_managers(cluster: Cluster, headers: dict[str, str], query: str, manager: str) -> None:
    made = await cluster.call("POST", MAPS + query, config_map("c", a="b"), headers=headers)
    assert made.status == 201
    (entry,) = made.json["metadata"]["managedFields"]
    assert entry.pop("time") == made.json["metadata"]["creationTimestamp"]
    assert entry == {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {".": {}, "f:a": {}}},
    }


@pytest.mark.parametrize(
    ("manager", "cause"),
    [
        ("x" * 129, "Too long: may not be more than 128 bytes"),
        ("a\tb", 'Invalid value: "a\\tb": invalid character U+0009 (at position 1)'),
    ],
)
@pytest.mark.parametrize(
    ("method", "options"), [("POST", "CreateOptions"), ("PUT", "UpdateOptions"), ("PATCH", "PatchOptions")]
)
async def test_names_of_managers_are_judged(
    cluster: Cluster, method: str, options: str, manager: str, cause: str
) -> None:
    await cluster.call("POST", MAPS, config_map("c", a="b"))
    path = MAPS if method == "POST" else f"{MAPS}/c"
    body: Any = {"data": {"x": "y"}} if method == "PATCH" else config_map("c", x="y")
    query = urlencode({"fieldManager": manager})
    refused = await cluster.call(
        method, f"{path}?{query}", body, content_type=MERGE if method == "PATCH" else "application/json"
    )
    assert refused.status == 422
    assert refused.json["message"] == f'{options}.meta.k8s.io "" is invalid: fieldManager: {cause}'


async def test_updates_and_patches_take_what_they_change(cluster: Cluster) -> None:
    made = (await cluster.call("POST", f"{MAPS}?fieldManager=a", config_map("c", a="1", b="1"))).json
    made["data"]["a"] = "2"
    await cluster.call("PUT", f"{MAPS}/c?fieldManager=b", made)
    for number, (content_type, patch) in enumerate(
        (
            (MERGE, {"data": {"c": "1"}}),
            ("application/strategic-merge-patch+json", {"data": {"d": "1"}}),
            ("application/json-patch+json", [{"op": "add", "path": "/data/e", "value": "1"}]),
        )
    ):
        answer = await cluster.call("PATCH", f"{MAPS}/c?fieldManager=p{number}", patch, content_type=content_type)
        assert answer.status == 200
    found = (await cluster.call("GET", f"{MAPS}/c")).json
    assert owned(found, "a") == [".data", ".data.b"]
    assert [owned(found, manager) for manager in ("b", "p0", "p1", "p2")] == [
        [".data.a"],
        [".data.c"],
        [".data.d"],
        [".data.e"],
    ]


async def test_what_the_server_adds_is_nobodys(cluster: Cluster) -> None:
    made = (await cluster.call("POST", f"{PODS}?fieldManager=a", pod("p"))).json
    assert made["spec"]["serviceAccountName"] == "default"
    assert made["spec"]["containers"][0]["volumeMounts"]
    assert owned(made, "a") == [
        '.spec.containers[name="main"]',
        *(
            f'.spec.containers[name="main"].{name}'
            for name in (
                "image",
                "imagePullPolicy",
                "name",
                "resources",
                "terminationMessagePath",
                "terminationMessagePolicy",
            )
        ),
        *(f".spec.{name}" for name in ("dnsPolicy", "enableServiceLinks", "restartPolicy", "schedulerName")),
        ".spec.securityContext",
        ".spec.terminationGracePeriodSeconds",
    ]


TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


@pytest.mark.parametrize(
    ("path", "obj", "fields"),
    [
        (
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
            {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}},
        ),
        (
            "/api/v1/namespaces/default/services",
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
             "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}},
            {
                "f:spec": {
                    "f:internalTrafficPolicy": {},
                    "f:ports": {
                        ".": {},
                        'k:{"port":80,"protocol":"TCP"}': {
                            ".": {},
                            "f:port": {},
                            "f:protocol": {},
                            "f:targetPort": {},
                        },
                    },
                    "f:selector": {},
                    "f:sessionAffinity": {},
                    "f:type": {},
                }
            },
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
            {
                "f:spec": {
                    "f:accessModes": {},
                    "f:resources": {"f:requests": {".": {}, "f:storage": {}}},
                    "f:volumeMode": {},
                }
            },
        ),
        (
            "/api/v1/namespaces/default/events",
            {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "source": {"component": "x"},
             "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Tested"},
            {"f:involvedObject": {}, "f:reason": {}, "f:source": {"f:component": {}}},
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
             "spec": {"scaleTargetRef": TARGET, "maxReplicas": 3}},
            {
                "f:spec": {
                    "f:maxReplicas": {},
                    "f:metrics": {},
                    "f:minReplicas": {},
                    "f:scaleTargetRef": {"f:apiVersion": {}, "f:kind": {}, "f:name": {}},
                }
            },
        ),
        (
            PODS,
            {**pod("p"), "metadata": {"generateName": "p-", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}},
            {"f:generateName": {}, "f:ownerReferences": {".": {}, 'k:{"uid":"u"}': {}}},
        ),
    ],
)  # fmt: skip
async def test_entries_are_those_of_kubernetes(cluster: Cluster, path: str, obj: Obj, fields: Obj) -> None:
    made = await cluster.call("POST", path, obj)
    assert made.status == 201, made.json
    found = made.json["metadata"]["managedFields"][0]["fieldsV1"]
    assert (found["f:metadata"] if path == PODS else found) == fields


async def test_what_goes_elsewhere_is_owned_where_it_goes(cluster: Cluster) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    made = await cluster.call("POST", "/api/v1/namespaces/default/secrets?fieldManager=a", secret)
    assert owned(made.json, "a") == [".data", ".data.a", ".type"]


async def test_status_has_managers_of_its_own(cluster: Cluster) -> None:
    await cluster.call("POST", f"{PODS}?fieldManager=a", pod("p"))
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "metadata": {"labels": {"x": "y"}}}
    answer = await cluster.call("PATCH", f"{PODS}/p/status?fieldManager=kubelet", patch, content_type=MERGE)
    assert managers(answer.json) == [("a", "Update", ""), ("kubelet", "Update", "status")]
    assert '.status.conditions[type="Ready"].status' in owned(answer.json, "kubelet")


async def test_components_of_this_process_are_named(cluster: Cluster) -> None:
    made = await cluster.request("POST", MAPS, config_map("c", a="b"), user="system:kube-controller-manager")
    assert managers(made) == [("kube-controller-manager", "Update", "")]


async def test_a_write_that_changes_nothing_writes_nothing(cluster: Cluster) -> None:
    made = (await cluster.call("POST", f"{MAPS}?fieldManager=a", config_map("c", a="b"))).json
    again = await cluster.call("PUT", f"{MAPS}/c?fieldManager=b", config_map("c", a="b"))
    assert again.json == made


async def test_managers_are_kept_or_reset_as_a_client_says(cluster: Cluster) -> None:
    await cluster.call("POST", f"{MAPS}?fieldManager=a", config_map("c", a="b"))
    kept = await cluster.call("PATCH", f"{MAPS}/c", {"metadata": {"managedFields": []}}, content_type=MERGE)
    assert managers(kept.json) == [("a", "Update", "")]
    reset = await cluster.call("PATCH", f"{MAPS}/c", {"metadata": {"managedFields": [{}]}}, content_type=MERGE)
    assert "managedFields" not in reset.json["metadata"]
    changed = await cluster.call("PATCH", f"{MAPS}/c", {"data": {"c": "d"}}, content_type=MERGE)
    assert "managedFields" not in changed.json["metadata"]
    applied = await apply(cluster, f"{MAPS}/c", config_map("c", x="y"), "me")
    assert managers(applied.json) == [("me", "Apply", ""), ("before-first-apply", "Update", "")]


# Applying.


async def test_applying_creates_what_is_not_there(cluster: Cluster) -> None:
    answer = await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    assert answer.status == 201
    obj = answer.json
    assert obj["metadata"]["generation"] == 1
    assert obj["spec"]["template"]["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    port = '.spec.template.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"]'
    assert owned(obj, "a", "Apply") == [
        ".spec.replicas",
        ".spec.selector",
        ".spec.template.metadata.labels.app",
        '.spec.template.spec.containers[name="web"]',
        '.spec.template.spec.containers[name="web"].image',
        '.spec.template.spec.containers[name="web"].name',
        port,
        f"{port}.containerPort",
    ]
    again = await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    assert (again.status, again.json) == (200, obj)


async def test_yaml_is_applied(cluster: Cluster) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: b\n"
    answer = await apply(cluster, f"{MAPS}/c", body)
    assert (answer.status, answer.json["data"]) == (201, {"a": "b"})


async def test_conflicts_are_refused_and_forced(cluster: Cluster) -> None:
    await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    await cluster.call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=hpa", {"spec": {"replicas": 5}}, content_type=MERGE)
    refused = await apply(cluster, f"{DEPLOYMENTS}/web", whole(replicas=2), "b")
    assert refused.status == 409
    assert refused.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 1 conflict: conflict with "hpa" using apps/v1: .spec.replicas',
        "reason": "Conflict",
        "details": {
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "hpa" using apps/v1',
                    "field": ".spec.replicas",
                }
            ]
        },
        "code": 409,
    }
    both = await apply(cluster, f"{DEPLOYMENTS}/web", whole(replicas=2, image="nginx:2"), "b")
    assert both.json["message"] == (
        'Apply failed with 2 conflicts: conflicts with "a":\n- .spec.template.spec.containers[name="web"].image\n'
        'conflicts with "hpa" using apps/v1:\n- .spec.replicas'
    )
    forced = await apply(cluster, f"{DEPLOYMENTS}/web", whole(replicas=2, image="nginx:2"), "b", force="true")
    assert (forced.status, forced.json["spec"]["replicas"], forced.json["metadata"]["generation"]) == (200, 2, 3)
    assert managers(forced.json) == [("a", "Apply", ""), ("b", "Apply", "")]


async def test_what_is_no_longer_applied_goes(cluster: Cluster) -> None:
    await apply(cluster, f"{MAPS}/c", config_map("c", a="1", b="1"))
    await apply(cluster, f"{MAPS}/c", config_map("c", c="1"), "other")
    answer = await apply(cluster, f"{MAPS}/c", config_map("c", a="1"))
    assert answer.json["data"] == {"a": "1", "c": "1"}
    gone = await apply(cluster, f"{MAPS}/c", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    assert gone.json["data"] == {"c": "1"}
    assert managers(gone.json) == [("other", "Apply", "")]


async def test_a_dry_run_stores_nothing(cluster: Cluster) -> None:
    made = await apply(cluster, f"{MAPS}/c", config_map("c", a="1"), dryRun="All")
    assert (made.status, managers(made.json)) == (201, [("a", "Apply", "")])
    assert (await cluster.call("GET", f"{MAPS}/c")).status == 404
    await apply(cluster, f"{MAPS}/c", config_map("c", a="1"))
    changed = await apply(cluster, f"{MAPS}/c", config_map("c", a="2"), dryRun="All")
    assert (changed.status, changed.json["data"]) == (200, {"a": "2"})
    assert (await cluster.call("GET", f"{MAPS}/c")).json["data"] == {"a": "1"}


async def test_status_is_applied_to_what_is_there(cluster: Cluster) -> None:
    config = {**deployment(), "status": {"readyReplicas": 1}}
    del config["spec"]
    absent = await apply(cluster, f"{DEPLOYMENTS}/web/status", config, "ctl")
    assert (absent.status, absent.json["message"]) == (404, 'deployments.apps "web" not found')
    await apply(cluster, f"{DEPLOYMENTS}/web", {**whole(), "status": {"readyReplicas": 9}})
    answer = await apply(cluster, f"{DEPLOYMENTS}/web/status", {**config, "spec": {"replicas": 7}}, "ctl")
    assert (answer.status, answer.json["status"], answer.json["spec"]["replicas"]) == (200, {"readyReplicas": 1}, 1)
    assert managers(answer.json) == [("a", "Apply", ""), ("ctl", "Apply", "status")]
    assert owned(answer.json, "ctl") == [".status.readyReplicas"]
    assert not any(path.startswith(".status") for path in owned(answer.json, "a"))


async def test_scale_is_applied(cluster: Cluster) -> None:
    await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    config = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}}
    refused = await apply(cluster, f"{DEPLOYMENTS}/web/scale", config, "hpa")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    answer = await apply(cluster, f"{DEPLOYMENTS}/web/scale", config, "hpa", force="true")
    assert (answer.status, answer.json["kind"], answer.json["spec"]) == (200, "Scale", {"replicas": 4})
    obj = (await cluster.call("GET", f"{DEPLOYMENTS}/web")).json
    assert managers(obj) == [("a", "Apply", ""), ("hpa", "Apply", "scale")]
    assert owned(obj, "hpa") == [".spec.replicas"]
    assert ".spec.replicas" not in owned(obj, "a")


async def test_scaling_is_tracked(cluster: Cluster) -> None:
    await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    await cluster.call(
        "PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=kubectl", {"spec": {"replicas": 3}}, content_type=MERGE
    )
    obj = (await cluster.call("GET", f"{DEPLOYMENTS}/web")).json
    assert managers(obj) == [("a", "Apply", ""), ("kubectl", "Update", "scale")]
    refused = await apply(cluster, f"{DEPLOYMENTS}/web", whole())
    assert refused.json["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    )


async def test_versions_of_a_kind_share_their_managers(cluster: Cluster) -> None:
    path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/h"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    config = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}}
    old = {**config, "apiVersion": "autoscaling/v1",
           "spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}}  # fmt: skip
    assert (await apply(cluster, path.format("v1"), old)).status == 201
    new = {**config, "apiVersion": "autoscaling/v2", "spec": {"scaleTargetRef": target, "maxReplicas": 4}}
    refused = await apply(cluster, path.format("v2"), new, "b")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "a": .spec.maxReplicas'
    mine = await apply(cluster, path.format("v2"), {**new, "spec": {"scaleTargetRef": target, "maxReplicas": 5}})
    assert (mine.status, mine.json["spec"]["maxReplicas"]) == (200, 5)
    assert [entry["apiVersion"] for entry in mine.json["metadata"]["managedFields"]] == ["autoscaling/v2"]
    assert "metrics" not in mine.json["spec"] or mine.json["spec"]["metrics"]


_NO_MAP = (
    "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
    "json: cannot unmarshal array into Go value of type map[string]interface {}"
)
_NO_UID = (
    'Operation cannot be fulfilled on configmaps "c": uid mismatch: the provided object specified uid u, '
    "and no existing object was found"
)
_NAMED = "failed to create typed patch object (/c; /v1, Kind=ConfigMap): "


@pytest.mark.parametrize(
    ("params", "config", "status", "message"),
    [
        ({}, config_map("c"), 422,
         'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'),
        ({"fieldManager": "x" * 129}, config_map("c"), 422,
         'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes'),
        ({"fieldManager": "a"}, {"data": {}}, 400, "invalid object type: /, Kind="),
        ({"fieldManager": "a"}, deployment(), 400, "invalid object type: apps/v1, Kind=Deployment"),
        ({"fieldManager": "a"}, b"", 400, "invalid object type: /, Kind="),
        ({"fieldManager": "a"}, b"[]", 400,
         _NO_MAP),
        ({"fieldManager": "a"}, config_map("d"), 400,
         "the name of the object (d) does not match the name on the URL (c)"),
        ({"fieldManager": "a"}, {**config_map("c"), "metadata": {"name": "c", "namespace": "other"}}, 400,
         "the namespace of the provided object does not match the namespace sent on the request"),
        ({"fieldManager": "a"}, {**config_map("c"), "metadata": {"name": "c", "managedFields": []}}, 400,
         "metadata.managedFields must be nil"),
        ({"fieldManager": "a"}, {**config_map("c"), "foo": 1}, 400, _NAMED + ".foo: field not declared in schema"),
        ({"fieldManager": "a"}, {**config_map("c"), "data": {"a": 1}}, 400,
         _NAMED + ".data.a: expected string, got &value.valueUnstructured{Value:1}"),
        ({"fieldManager": "a"}, {**config_map("c"), "metadata": "c"}, 400,
         _NAMED.replace("/c;", "/;") + ".metadata: expected map, got &{c}"),
        ({"fieldManager": "a"}, {**config_map("c"), "metadata": {"name": "c", "uid": "u"}}, 409,
         _NO_UID),
        ({"fieldManager": "a", "fieldValidation": "Strict"}, b"apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap", 400,
         None),
    ],
)  # fmt: skip
async def test_what_cannot_be_applied_is_refused(
    cluster: Cluster, params: dict[str, str], config: Any, status: int, message: str | None
) -> None:
    answer = await apply(cluster, f"{MAPS}/c", config, "", **params)
    assert answer.status == status, answer.json
    if message is not None:
        assert answer.json["message"] == message
    else:
        assert "error strict decoding YAML: " in answer.json["message"]


async def test_keys_given_twice_are_warned_of(cluster: Cluster) -> None:
    body = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "a": "2"}}'
    answer = await apply(cluster, f"{MAPS}/c", body)
    assert (answer.status, answer.json["data"]) == (201, {"a": "2"})
    assert 'key \\"a\\" already set in map' in answer.warnings[0]
    quiet = await apply(cluster, f"{MAPS}/c", body, fieldValidation="Ignore")
    assert quiet.warnings == []


async def test_force_is_for_apply_alone(cluster: Cluster) -> None:
    refused = await cluster.call("PATCH", f"{MAPS}/c?force=true", {}, content_type=MERGE)
    assert (refused.status, refused.json["message"]) == (
        422,
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
    )


async def test_a_version_named_must_be_the_stored_one(cluster: Cluster) -> None:
    made = (await apply(cluster, f"{MAPS}/c", config_map("c", a="1"))).json
    await cluster.call("PATCH", f"{MAPS}/c", {"data": {"b": "1"}}, content_type=MERGE)
    config = config_map("c", a="2")
    config["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    refused = await apply(cluster, f"{MAPS}/c", config)
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert "the object has been modified" in refused.json["message"]


async def test_types_of_patches_that_are_served_are_told(cluster: Cluster) -> None:
    await cluster.call("POST", MAPS, config_map("c", a="b"))
    refused = await cluster.call("PATCH", f"{MAPS}/c", {}, content_type="application/x")
    assert refused.status == 415
    assert refused.json["message"].endswith(APPLY)


async def test_deep_documents_are_no_trouble(cluster: Cluster) -> None:
    deep: Any = "x"
    for _ in range(240):
        deep = {"a": deep}
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 1}
    path = "/apis/apps/v1/namespaces/default/controllerrevisions/r"
    for data in (deep, {"b": deep}):
        answer = await apply(cluster, path, {**revision, "data": data})
        assert answer.status in (201, 200, 422), answer.json


async def test_many_appliers_at_once_all_get_their_field(cluster: Cluster) -> None:
    import asyncio

    async def one(number: int) -> int:
        config = config_map("c", **{f"k{number}": "x"})
        return (await apply(cluster, f"{MAPS}/c", config, f"m{number}")).status

    codes = await asyncio.gather(*(one(number) for number in range(12)))
    assert sorted(codes) == [200] * 11 + [201]
    obj = (await cluster.call("GET", f"{MAPS}/c")).json
    assert len(obj["data"]) == len(managers(obj)) == 12
