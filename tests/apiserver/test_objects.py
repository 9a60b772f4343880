"""Writing and reading objects: creation, updates, patches, deletion, and the words of every refusal."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pinnace.apis.resources import CONFIG_MAPS
from pinnace.machinery.errors import ApiError
from tests.apiserver.conftest import Cluster, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str, replicas: int = 1, **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **more}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def test_create_fills_in_what_the_server_sets(cluster: Cluster) -> None:
    sent = config_map("a", k="v")
    sent["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}
    made = await cluster.request("POST", MAPS, sent)

    meta = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
    assert meta["creationTimestamp"] > "2020"
    assert meta["namespace"] == "default"
    stored = cluster.server.api.storage.cache(CONFIG_MAPS).get("default/a")
    assert stored is not None
    assert int(meta["resourceVersion"]) == stored.revision
    assert "generation" not in meta, "ConfigMaps count none"
    assert sent["metadata"]["uid"] == "mine", "the caller's object is left alone"
    assert await cluster.request("GET", f"{MAPS}/a") == made


async def test_generated_names_are_unique_and_of_the_right_alphabet(cluster: Cluster) -> None:
    sent = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x" * 70}}
    names = {(await cluster.request("POST", MAPS, sent))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch("x{58}[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)


async def test_concurrent_creations_of_one_name_make_one(cluster: Cluster) -> None:
    results = await asyncio.gather(
        *(cluster.request("POST", MAPS, config_map("a", n=str(n))) for n in range(10)), return_exceptions=True
    )
    errors = [result for result in results if isinstance(result, ApiError)]
    assert len(errors) == 9
    assert {(error.code, error.message) for error in errors} == {(409, 'configmaps "a" already exists')}


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("GET", f"{MAPS}/none", None, 404, 'configmaps "none" not found'),
        ("GET", f"{DEPLOYMENTS}/none", None, 404, 'deployments.apps "none" not found'),
        ("GET", "/api/v1/nothing", None, 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/pods/x", None, 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/x/nodes", None, 404, "the server could not find the requested resource"),
        ("POST", "/api/v1/pods", pod("x"), 405, "the server does not allow this method on the requested resource"),
        ("PUT", MAPS, config_map("x"), 405, "the server does not allow this method on the requested resource"),
        ("DELETE", "/api/v1/namespaces", None, 405, "the server does not allow this method on the requested resource"),
        ("PUT", f"{MAPS}/none", config_map("none"), 404, 'configmaps "none" not found'),
        (
            "PUT",
            f"{MAPS}/other",
            config_map("none"),
            400,
            "the name of the object (none) does not match the name on the URL (other)",
        ),
        ("POST", "/api/v1/namespaces/none/configmaps", config_map("x"), 404, 'namespaces "none" not found'),
        (
            "POST",
            MAPS,
            {"metadata": {"name": "x", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            MAPS,
            {"metadata": {"name": "x", "resourceVersion": "5"}},
            400,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "POST",
            DEPLOYMENTS,
            config_map("x"),
            400,
            "the API version in the data (v1) does not match the expected API version (apps/v1)",
        ),
        (
            "POST",
            MAPS,
            {},
            422,
            'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
        ),
        (
            "POST",
            MAPS,
            config_map("Bad_Name"),
            422,
            (
                'ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a '
                "lowercase RFC 1123 subdomain "
                "must consist of lower case alphanumeric characters, '-' or '.', and must start and "
                "end with an alphanumeric "
                "character (e.g. 'example.com', regex used for validation is "
                "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default",
            None,
            403,
            'namespaces "default" is forbidden: this namespace may not be deleted',
        ),
    ],
)
async def test_refusals(cluster: Cluster, method: str, path: str, body: Any, code: int, message: str) -> None:
    error = await cluster.refused(method, path, body)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("path", "body", "content_type", "code", "message"),
    [
        (
            DEPLOYMENTS,
            b'{"a":',
            "application/json",
            400,
            (
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; "
                'json parse error: unexpected end of JSON input ({"a":)'
            ),
        ),
        (
            DEPLOYMENTS,
            b"{]",
            "application/json",
            400,
            (
                "the object provided is unrecognized (must be of type Deployment): couldn't get "
                "version/kind; json parse "
                "error: invalid character ']' looking for beginning of object key string ({])"
            ),
        ),
        (
            MAPS,
            b'{"data":{"a":1}}',
            "application/json",
            400,
            (
                'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal '
                "number into Go struct "
                "field ConfigMap.data of type string"
            ),
        ),
        (
            MAPS,
            b"x",
            "application/cbor",
            415,
            (
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json, application/yaml, application/vnd.kubernetes.protobuf"
            ),
        ),
        (
            MAPS,
            b"x",
            "application/vnd.kubernetes.protobuf",
            400,
            (
                "the object provided is unrecognized (must be of type ConfigMap): provided data "
                "does not appear to be a "
                "protobuf message, expected prefix [107 56 115 0] (78)"
            ),
        ),
    ],
)
async def test_bodies_that_are_no_objects(
    cluster: Cluster, path: str, body: bytes, content_type: str, code: int, message: str
) -> None:
    answer = await cluster.call("POST", path, body, content_type=content_type)
    assert (answer.status, answer.json["message"]) == (code, message)
    assert answer.json["kind"] == "Status"


async def test_yaml_goes_in_and_comes_out(cluster: Cluster) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yy\ndata:\n  mode: '0755'\n"
    answer = await cluster.call(
        "POST", MAPS, body, content_type="application/yaml", headers={"Accept": "application/yaml"}
    )
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/yaml"
    assert b'mode: "0755"' in answer.body


async def test_field_validation_warns_refuses_or_ignores(cluster: Cluster) -> None:
    body = b'{"metadata":{"name":"n"},"dta":{},"data":{"a":"1","a":"2"}}'
    answer = await cluster.call("POST", MAPS, body)
    assert answer.status == 201
    assert sorted(answer.warnings) == ['299 - "duplicate field \\"data.a\\""', '299 - "unknown field \\"dta\\""']
    answer = await cluster.call("POST", f"{MAPS}?fieldValidation=Strict", body.replace(b'"n"', b'"m"'))
    assert answer.status == 400
    assert "strict decoding error: " in answer.json["message"]
    answer = await cluster.call("POST", f"{MAPS}?fieldValidation=Ignore", body.replace(b'"n"', b'"o"'))
    assert (answer.status, answer.warnings) == (201, [])
    answer = await cluster.call("POST", f"{MAPS}?fieldValidation=Some", body)
    assert answer.status == 422


async def test_dry_run_leaves_no_trace(cluster: Cluster) -> None:
    made = await cluster.request("POST", MAPS, config_map("a"), {"dryRun": "All"})
    assert made["metadata"]["uid"]
    error = await cluster.refused("GET", f"{MAPS}/a")
    assert error.is_not_found
    answer = await cluster.call("POST", f"{MAPS}?dryRun=Some", config_map("a"))
    assert answer.status == 422


# Updates.


async def test_update_with_an_old_version_conflicts_without_one_it_does_not(cluster: Cluster) -> None:
    first = await cluster.request("POST", MAPS, config_map("a", k="1"))
    second = await cluster.request("PUT", f"{MAPS}/a", {**first, "data": {"k": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])

    error = await cluster.refused("PUT", f"{MAPS}/a", {**first, "data": {"k": "3"}})
    assert error.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    third = await cluster.request("PUT", f"{MAPS}/a", config_map("a", k="3"))
    assert third["data"] == {"k": "3"}
    assert third["metadata"]["uid"] == first["metadata"]["uid"]
    none = {"metadata": {**first["metadata"], "resourceVersion": "0"}}  # as authors say who mean it
    fourth = await cluster.request("PUT", f"{MAPS}/a", {**first, **none, "data": {"k": "4"}})
    assert fourth["data"] == {"k": "4"}
    patch = {"metadata": {"resourceVersion": "0"}, "data": {"k": "5"}}
    fifth = await cluster.request("PATCH", f"{MAPS}/a", patch, content_type="application/merge-patch+json")
    assert fifth["data"] == {"k": "5"}


async def test_an_update_that_changes_nothing_writes_nothing(cluster: Cluster) -> None:
    first = await cluster.request("POST", DEPLOYMENTS, deployment("d"))
    assert await cluster.request("PUT", f"{DEPLOYMENTS}/d", first) == first
    assert await cluster.request("PATCH", f"{DEPLOYMENTS}/d", {}, content_type="application/merge-patch+json") == first


async def test_concurrent_updates_without_a_version_all_land(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    patches = (
        cluster.request("PATCH", f"{MAPS}/a", {"data": {f"k{n}": "v"}}, content_type="application/merge-patch+json")
        for n in range(30)
    )
    await asyncio.gather(*patches)
    assert len((await cluster.request("GET", f"{MAPS}/a"))["data"]) == 30


async def test_generation_counts_changes_of_the_spec_only(cluster: Cluster) -> None:
    made = await cluster.request("POST", DEPLOYMENTS, deployment("d"))
    assert made["metadata"]["generation"] == 1
    relabeled = {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}}
    made = await cluster.request("PUT", f"{DEPLOYMENTS}/d", relabeled)
    assert made["metadata"]["generation"] == 1
    made = await cluster.request("PUT", f"{DEPLOYMENTS}/d", {**made, "spec": {**made["spec"], "replicas": 3}})
    assert made["metadata"]["generation"] == 2


async def test_a_write_of_a_deployments_status_leaves_its_labels(cluster: Cluster) -> None:
    await cluster.request("POST", DEPLOYMENTS, deployment("d"))
    patch = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "status": {"readyReplicas": 1}}

    after = await cluster.request(
        "PATCH", f"{DEPLOYMENTS}/d/status", patch, content_type="application/merge-patch+json"
    )

    meta = after["metadata"]
    assert (meta.get("labels"), meta["annotations"], after["status"]) == (None, {"c": "d"}, {"readyReplicas": 1})


async def test_status_and_spec_have_paths_of_their_own(cluster: Cluster) -> None:
    made = await cluster.request("POST", DEPLOYMENTS, {**deployment("d"), "status": {"replicas": 9}})
    assert (made.get("status") or {}).get("replicas") is None
    status = {"replicas": 2, "observedGeneration": 1}
    both = {**made, "spec": {**made["spec"], "replicas": 5}, "status": status}
    after = await cluster.request("PUT", f"{DEPLOYMENTS}/d/status", both)
    assert (after["spec"]["replicas"], after["status"]["replicas"]) == (1, 2)
    after = await cluster.request("PUT", f"{DEPLOYMENTS}/d", {**after, "status": {"replicas": 7}})
    assert after["status"]["replicas"] == 2


async def test_immutable_metadata(cluster: Cluster) -> None:
    made = await cluster.request("POST", MAPS, config_map("a"))
    error = await cluster.refused("PUT", f"{MAPS}/a", {**made, "metadata": {**made["metadata"], "uid": "other"}})
    assert error.is_conflict
    assert "Precondition failed: UID in precondition: other" in error.message


@pytest.mark.parametrize(
    ("content_type", "patch", "data"),
    [
        ("application/merge-patch+json", {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        ("application/strategic-merge-patch+json", {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        ("application/json-patch+json", [{"op": "remove", "path": "/data/a"}], {"b": "2"}),
    ],
)
async def test_patches(cluster: Cluster, content_type: str, patch: Any, data: dict[str, str]) -> None:
    await cluster.request("POST", MAPS, config_map("a", a="1", b="2"))
    assert (await cluster.request("PATCH", f"{MAPS}/a", patch, content_type=content_type))["data"] == data


async def test_patches_that_cannot_be(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    answer = await cluster.call("PATCH", f"{MAPS}/a", b"{}", content_type="application/json")
    assert answer.status == 415
    answer = await cluster.call("PATCH", f"{MAPS}/a", b"[]", content_type="application/merge-patch+json")
    assert answer.status == 400
    answer = await cluster.call("PATCH", f"{MAPS}/a", b"{", content_type="application/merge-patch+json")
    assert (answer.status, answer.json["message"]) == (400, "error decoding patch: unexpected end of JSON input")
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}}
    error = await cluster.refused("PATCH", f"{MAPS}/a", stale, content_type="application/merge-patch+json")
    assert error.is_conflict


async def test_scale_shows_and_sets_replicas(cluster: Cluster) -> None:
    await cluster.request("POST", DEPLOYMENTS, deployment("d", replicas=2))
    scale = await cluster.request("GET", f"{DEPLOYMENTS}/d/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "app=d"})
    after = await cluster.request("PUT", f"{DEPLOYMENTS}/d/scale", {**scale, "spec": {"replicas": 4}})
    assert after["spec"]["replicas"] == 4
    patch = {"spec": {"replicas": 6}}
    path = f"{DEPLOYMENTS}/d/scale"
    after = await cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")
    assert (await cluster.request("GET", f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == after["spec"]["replicas"] == 6
    error = await cluster.refused("PUT", path, {**scale, "spec": {"replicas": 1}})
    assert error.is_conflict


# Deletion.


async def test_delete_answers_with_a_status_and_the_object_is_gone(cluster: Cluster) -> None:
    made = await cluster.request("POST", MAPS, config_map("a"))
    answer = await cluster.request("DELETE", f"{MAPS}/a")
    assert answer["status"] == "Success"
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    assert (await cluster.refused("DELETE", f"{MAPS}/a")).is_not_found


async def test_finalizers_hold_an_object_until_they_are_gone(cluster: Cluster) -> None:
    sent = config_map("a")
    sent["metadata"]["finalizers"] = ["example.com/hold"]
    await cluster.request("POST", MAPS, sent)
    marked = await cluster.request("DELETE", f"{MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    error = await cluster.refused(
        "PATCH",
        f"{MAPS}/a",
        {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}},
        content_type="application/merge-patch+json",
    )
    assert "no new finalizers can be added if the object is being deleted" in error.message
    patch = {"metadata": {"finalizers": None}}
    await cluster.request("PATCH", f"{MAPS}/a", patch, content_type="application/merge-patch+json")
    assert (await cluster.refused("GET", f"{MAPS}/a")).is_not_found


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_propagation_policies_become_finalizers(cluster: Cluster, policy: str, finalizer: str) -> None:
    await cluster.request("POST", DEPLOYMENTS, deployment("d"))
    marked = await cluster.request("DELETE", f"{DEPLOYMENTS}/d", {"propagationPolicy": policy})
    assert marked["metadata"]["finalizers"] == [finalizer]


async def test_preconditions(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    error = await cluster.refused("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "x"}})
    assert error.is_conflict
    error = await cluster.refused("DELETE", f"{MAPS}/a", {"preconditions": {"resourceVersion": "1"}})
    assert "ResourceVersion in precondition: 1" in error.message


async def test_a_running_pod_ends_with_grace_and_one_without_node_at_once(cluster: Cluster) -> None:
    await cluster.request("POST", PODS, pod("free"))
    await cluster.request("DELETE", f"{PODS}/free")
    assert (await cluster.refused("GET", f"{PODS}/free")).is_not_found

    await cluster.request("POST", PODS, pod("bound", nodeName="n1"))
    marked = await cluster.request("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 20})
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    again = await cluster.request("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 25})
    assert again["metadata"]["deletionGracePeriodSeconds"] == 20, "never put off"
    again = await cluster.request("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 5})
    assert again["metadata"]["deletionGracePeriodSeconds"] == 5
    await cluster.request("DELETE", f"{PODS}/bound", {"gracePeriodSeconds": 0})
    assert (await cluster.refused("GET", f"{PODS}/bound")).is_not_found


async def test_delete_collection_takes_what_the_selector_says(cluster: Cluster) -> None:
    for n in range(4):
        sent = config_map(f"a{n}")
        sent["metadata"]["labels"] = {"parity": str(n % 2)}
        await cluster.request("POST", MAPS, sent)
    await cluster.request("DELETE", MAPS, None, {"labelSelector": "parity=0"})
    left = await cluster.request("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["a1", "a3"]


async def test_delete_collection_answers_with_what_there_was(cluster: Cluster) -> None:
    for name in ("a", "b"):
        await cluster.request("POST", MAPS, config_map(name))
    gone = (await cluster.call("DELETE", MAPS)).json
    assert [item["metadata"]["name"] for item in gone["items"]] == ["a", "b"]
    assert (await cluster.request("GET", MAPS))["items"] == []


async def test_a_namespace_goes_when_its_finalizer_does(cluster: Cluster) -> None:
    made = await cluster.request(
        "POST", "/api/v1/namespaces", {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}
    )
    assert made["spec"]["finalizers"] == ["kubernetes"]
    marked = await cluster.request("DELETE", "/api/v1/namespaces/n")
    assert marked["status"]["phase"] == "Terminating"
    error = await cluster.refused("POST", "/api/v1/namespaces/n/configmaps", config_map("x"))
    assert error.code == 403
    assert error.message == (
        'configmaps "x" is forbidden: unable to create new content in namespace n because it is being terminated'
    )
    assert error.details is not None
    assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
    await cluster.request("PUT", "/api/v1/namespaces/n/finalize", {**marked, "spec": {}})
    assert (await cluster.refused("GET", "/api/v1/namespaces/n")).is_not_found


# Pods and services.


async def test_admission_completes_a_pod(cluster: Cluster) -> None:
    made = await cluster.request("POST", PODS, pod("p", priorityClassName="system-node-critical"))
    spec = made["spec"]
    assert spec["serviceAccountName"] == "default"
    assert (spec["priority"], spec["preemptionPolicy"]) == (2000001000, "PreemptLowerPriority")
    mount = spec["containers"][0]["volumeMounts"][0]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert re.fullmatch("kube-api-access-[a-z0-9]{5}", mount["name"])
    assert {toleration["key"] for toleration in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    bare = await cluster.request("POST", PODS, pod("q", automountServiceAccountToken=False))
    assert not bare["spec"].get("volumes")


async def test_a_pod_waits_a_moment_for_the_account_of_its_new_namespace(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.apiserver.admission.service_account._PATIENCE", 60.0)
    await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "fresh"}})
    created = asyncio.create_task(cluster.request("POST", "/api/v1/namespaces/fresh/pods", pod("p")))
    await asyncio.sleep(0)
    assert not created.done()

    account = {"metadata": {"name": "default"}}
    await cluster.request("POST", "/api/v1/namespaces/fresh/serviceaccounts", account)

    assert (await created)["spec"]["serviceAccountName"] == "default"


async def test_admission_refuses_a_pod(cluster: Cluster) -> None:
    error = await cluster.refused("POST", PODS, pod("p", serviceAccountName="none"))
    assert error.message == (
        'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found'
    )
    error = await cluster.refused("POST", PODS, pod("p", priorityClassName="none"))
    assert error.message == 'pods "p" is forbidden: no PriorityClass with name none was found'


async def test_a_new_node_is_tainted(cluster: Cluster) -> None:
    made = await cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "n"}, "status": {"phase": "x"}})
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert made["status"]["phase"] == "x", "a kubelet says what it knows when it registers"


async def test_binding_puts_a_pod_on_a_node_once(cluster: Cluster) -> None:
    made = await cluster.request("POST", PODS, pod("p"))
    made["status"]["nominatedNodeName"] = "n2"
    await cluster.request("PUT", f"{PODS}/p/status", made)
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    answer = await cluster.request("POST", f"{PODS}/p/binding", binding)
    assert answer["status"] == "Success"
    bound = await cluster.request("GET", f"{PODS}/p")
    assert bound["spec"]["nodeName"] == "n1"
    assert "nominatedNodeName" not in bound["status"]
    assert any(c["type"] == "PodScheduled" and c["status"] == "True" for c in bound["status"]["conditions"])
    error = await cluster.refused("POST", f"{PODS}/p/binding", binding)
    assert error.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"'
    )


async def test_eviction_deletes(cluster: Cluster) -> None:
    await cluster.request("POST", PODS, pod("p"))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    await cluster.request("POST", f"{PODS}/p/eviction", eviction)
    assert (await cluster.refused("GET", f"{PODS}/p")).is_not_found


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec}}


async def test_services_get_addresses_and_ports_of_their_own(cluster: Cluster) -> None:
    kubernetes = await cluster.request("GET", f"{SERVICES}/kubernetes")
    assert kubernetes["spec"]["clusterIP"] == "10.96.0.1"
    made = await cluster.request("POST", SERVICES, service("a", type="NodePort"))
    ip, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    assert ip.startswith("10.")
    assert made["spec"]["clusterIPs"] == [ip]
    assert 30000 <= port <= 32767

    error = await cluster.refused("POST", SERVICES, service("b", clusterIP=ip))
    assert error.message == (
        f'Service "b" is invalid: spec.clusterIPs: Invalid value: ["{ip}"]: '
        f"failed to allocate IP {ip}: provided IP is already allocated"
    )
    error = await cluster.refused(
        "POST", SERVICES, service("b", type="NodePort", ports=[{"port": 1, "nodePort": port}])
    )
    assert error.message == (
        f'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated'
    )
    error = await cluster.refused("POST", SERVICES, service("b", type="NodePort", ports=[{"port": 1, "nodePort": 80}]))
    assert "The range of valid ports is 30000-32767" in error.message
    again = await cluster.request("PUT", f"{SERVICES}/a", made)
    assert again["spec"]["clusterIP"] == ip

    await cluster.request("DELETE", f"{SERVICES}/a")
    assert (await cluster.request("POST", SERVICES, service("b", clusterIP=ip)))["spec"]["clusterIP"] == ip
    headless = await cluster.request("POST", SERVICES, service("c", clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]
    external = service("d", type="ExternalName", externalName="example.com")
    assert "clusterIP" not in (await cluster.request("POST", SERVICES, external))["spec"]
