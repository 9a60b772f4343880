"""Admission webhooks, against a real HTTPS server with a certificate of the test's own authority.

Conformance: "Admission webhook, deny create", "Admission webhook, deny attach", "Admission webhook, honor timeout",
"Admission webhook, ordered mutation", "Admission webhook, mutation with defaulting", "Admission webhook, fail closed",
"Admission webhook, admission control not allowed on webhook configuration objects", "Admission webhook, discovery
document".
"""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.apis.builtin import NEWEST
from pinnace.apis.registry import Registry
from pinnace.apis.resources import DEPLOYMENTS, PODS
from pinnace.apiserver.admission.matching import rule_matches
from pinnace.apiserver.registered_webhooks import endpoint
from pinnace.apiserver.webhook_client import CallFailed
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map, pod
from tests.apiserver.hooks import CONFIGURATIONS, Hooks, add, allow, patch, register

MAPS = "/api/v1/namespaces/default/configmaps"
PODS_PATH = "/api/v1/namespaces/default/pods"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ({"message": "too red"}, 400, 'admission webhook "no.example.com" denied the request: too red'),
        ({"message": "taken", "code": 409, "reason": "Conflict"}, 409,
         'admission webhook "no.example.com" denied the request: taken'),
        ({"reason": "Forbidden", "code": 403}, 403, 'admission webhook "no.example.com" denied the request: Forbidden'),
        (None, 400, 'admission webhook "no.example.com" denied the request without explanation'),
    ],
)  # fmt: skip
async def test_a_webhook_refuses(cluster: Cluster, hooks: Hooks, status: Obj | None, code: int, message: str) -> None:
    hooks.answers["/no"] = lambda _: {"allowed": False, **({"status": status} if status else {})}
    await register(cluster, "Validating", "no", hooks.webhook("no", "/no"))

    answer = await cluster.call("POST", MAPS, config_map("a"))

    assert (answer.status, answer.json["message"]) == (code, message)
    [(_, request)] = hooks.asked
    assert request["operation"] == "CREATE"
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["namespace"], request["name"], request["dryRun"]) == ("default", "a", False)
    assert request["object"]["metadata"]["name"] == "a"
    assert request["userInfo"]["username"] == "tester"


async def test_webhooks_change_objects_in_the_order_of_their_names(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/first"], hooks.answers["/second"] = add("first", "1"), add("second", "2")
    await register(cluster, "Mutating", "b", hooks.webhook("second", "/second"))
    await register(cluster, "Mutating", "a", hooks.webhook("first", "/first", reinvocationPolicy="IfNeeded"))

    made = await cluster.request("POST", MAPS, config_map("a", zero="0"))

    assert made["data"] == {"zero": "0", "first": "1", "second": "2"}
    assert [path for path, _ in hooks.asked] == ["/first", "/second", "/first"]  # who asked for it sees the change
    assert hooks.asked[1][1]["object"]["data"]["first"] == "1"


async def test_what_a_webhook_adds_is_defaulted_and_pruned(cluster: Cluster, hooks: Hooks) -> None:
    init = {"name": "init", "image": "busybox", "bogus": 1}
    hooks.answers["/pods"] = patch({"op": "add", "path": "/spec/initContainers", "value": [init]})
    await register(cluster, "Mutating", "pods", hooks.webhook("pods", "/pods", "pods"))

    made = await cluster.request("POST", PODS_PATH, pod("a"))

    [container] = made["spec"]["initContainers"]
    assert container["terminationMessagePolicy"] == "File"
    assert "bogus" not in container


async def test_deletion_shows_the_old_object_and_can_be_refused(cluster: Cluster, hooks: Hooks) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    hooks.answers["/no"] = lambda _: {"allowed": False, "status": {"message": "keep it"}}
    await register(cluster, "Validating", "no", hooks.webhook("no", "/no"))

    error = await cluster.refused("DELETE", f"{MAPS}/a")

    assert error.message == 'admission webhook "no.example.com" denied the request: keep it'
    [(_, request)] = hooks.asked
    assert (request["operation"], request["object"]) == ("DELETE", None)
    assert request["oldObject"]["metadata"]["name"] == "a"


async def test_attaching_can_be_refused(cluster: Cluster, hooks: Hooks) -> None:
    await cluster.request("POST", PODS_PATH, pod("a", nodeName="n"))
    hooks.answers["/no"] = lambda _: {"allowed": False, "status": {"message": "no terminals"}}
    await register(cluster, "Validating", "no", hooks.webhook("no", "/no", "pods/attach"))

    answer = await cluster.call("POST", f"{PODS_PATH}/a/attach?stdin=true")

    assert answer.json["message"] == 'admission webhook "no.example.com" denied the request: no terminals'
    [(_, request)] = hooks.asked
    assert (request["operation"], request["subResource"]) == ("CONNECT", "attach")
    assert request["object"]["kind"] == "PodAttachOptions"


@pytest.mark.parametrize(
    ("subresource", "kind", "group", "body"),
    [
        ("eviction", "Eviction", "policy", {"apiVersion": "policy/v1"}),
        ("binding", "Binding", "", {"apiVersion": "v1", "target": {"kind": "Node", "name": "n"}}),
    ],
)
async def test_evictions_and_bindings_can_be_refused(
    cluster: Cluster, hooks: Hooks, subresource: str, kind: str, group: str, body: Obj
) -> None:
    await cluster.request("POST", PODS_PATH, pod("a"))
    hooks.answers["/no"] = lambda _: {"allowed": False, "status": {"message": "not now"}}
    await register(cluster, "Validating", "no", hooks.webhook("no", "/no", f"pods/{subresource}"))

    sent = {"kind": kind, "metadata": {"name": "a"}, **body}
    error = await cluster.refused("POST", f"{PODS_PATH}/a/{subresource}", sent)

    assert error.message == 'admission webhook "no.example.com" denied the request: not now'
    [(_, request)] = hooks.asked
    assert (request["operation"], request["subResource"], request["name"]) == ("CREATE", subresource, "a")
    assert request["kind"] == {"group": group, "version": "v1", "kind": kind}
    assert request["resource"]["resource"] == "pods"
    assert request["object"]["kind"] == kind


async def test_a_service_is_called_by_its_name(cluster: Cluster, hooks: Hooks) -> None:
    """Nobody has a certificate for a Service's address: it must be for the name."""
    spec = {"type": "ExternalName", "externalName": "localhost"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec}
    await cluster.request("POST", "/api/v1/namespaces/default/services", service)
    named = {"name": "hook", "namespace": "default", "path": "/x", "port": hooks.port}
    config = {"service": named, "caBundle": hooks.bundle}
    await register(cluster, "Validating", "svc", hooks.webhook("svc", "/x", clientConfig=config))

    error = await cluster.refused("POST", MAPS, config_map("a"))

    assert f'Post "https://hook.default.svc:{hooks.port}/x?timeout=10s": tls: failed to verify' in error.message
    assert "certificate is not valid for the name it was called by" in error.message


async def test_any_ready_endpoint_of_a_service_is_chosen(cluster: Cluster) -> None:
    ports = [{"name": "web", "port": 443, "targetPort": 8443}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": ports}}
    await cluster.request("POST", "/api/v1/namespaces/default/services", service)
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    for number in (1, 2):
        endpoint_slice = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"hook-{number}", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8443}],
            "endpoints": [
                {"addresses": ["192.0.2.9"], "conditions": {"ready": False}},
                {"addresses": [f"192.0.2.{number}"], "conditions": {"ready": True}},
            ],
        }
        await cluster.request("POST", slices, endpoint_slice)

    chosen = {endpoint(cluster.server.api.storage, "default", "hook", 443) for _ in range(100)}

    assert chosen == {("192.0.2.1", 8443), ("192.0.2.2", 8443)}
    with pytest.raises(CallFailed, match='no service port 80 found for service "hook"'):
        endpoint(cluster.server.api.storage, "default", "hook", 80)


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_a_webhook_that_cannot_be_called_fails_as_its_policy_says(
    cluster: Cluster, hooks: Hooks, policy: str
) -> None:
    config = {"service": {"name": "hook", "namespace": "default"}}
    await register(cluster, "Validating", "gone", hooks.webhook("gone", "/", clientConfig=config, failurePolicy=policy))

    answer = await cluster.call("POST", MAPS, config_map("a"))

    assert answer.status == (500 if policy == "Fail" else 201)
    if policy == "Fail":
        assert answer.json["message"] == (
            'Internal error occurred: failed calling webhook "gone.example.com": '
            'failed to call webhook: service "hook" not found'
        )


async def test_a_certificate_of_a_stranger_is_not_believed(cluster: Cluster, hooks: Hooks) -> None:
    config = {"url": f"https://127.0.0.1:{hooks.port}/x"}
    await register(cluster, "Validating", "stranger", hooks.webhook("stranger", "/x", clientConfig=config))

    error = await cluster.refused("POST", MAPS, config_map("a"))

    assert error.code == 500
    assert 'failed calling webhook "stranger.example.com": failed to call webhook: Post "https://127.0.0.1' in (
        error.message
    )
    assert "x509: certificate signed by unknown authority" in error.message
    assert hooks.asked == []


async def test_a_slow_webhook_is_waited_for_as_long_as_it_says(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/slow"] = allow
    await register(cluster, "Validating", "slow", hooks.webhook("slow", "/slow", timeoutSeconds=1))

    error = await cluster.refused("POST", MAPS, config_map("a"))

    assert error.message == (
        'Internal error occurred: failed calling webhook "slow.example.com": failed to call webhook: '
        f'Post "https://127.0.0.1:{hooks.port}/slow?timeout=1s": context deadline exceeded'
    )


async def test_configurations_themselves_are_out_of_reach(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda _: {"allowed": False}
    hooks.answers["/change"] = add("x", "y")
    for kind, path in (("Validating", "/no"), ("Mutating", "/change")):
        await register(cluster, kind, kind.lower(), hooks.webhook(kind.lower(), path, "*/*"))

    await cluster.request("DELETE", f"{CONFIGURATIONS}/mutatingwebhookconfigurations/mutating")
    await cluster.request("DELETE", f"{CONFIGURATIONS}/validatingwebhookconfigurations/validating")

    assert hooks.asked == []


async def test_selectors_choose_by_the_labels_of_object_and_namespace(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda _: {"allowed": False}
    of_object = hooks.webhook("object", "/no", objectSelector={"matchLabels": {"guard": "yes"}})
    of_namespace = hooks.webhook("namespace", "/no", namespaceSelector={"matchLabels": {"guard": "yes"}})
    await register(cluster, "Validating", "no", of_object, of_namespace)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept", "labels": {"guard": "yes"}}}
    await cluster.request("POST", "/api/v1/namespaces", namespace)

    await cluster.request("POST", MAPS, config_map("a"))
    labelled = config_map("b")
    labelled["metadata"]["labels"] = {"guard": "yes"}
    assert '"object.example.com"' in (await cluster.refused("POST", MAPS, labelled)).message
    error = await cluster.refused("POST", "/api/v1/namespaces/kept/configmaps", config_map("a"))
    assert '"namespace.example.com"' in error.message


async def test_dry_runs_and_warnings(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/warn"] = lambda _: {"allowed": True, "warnings": ["old name"]}
    await register(cluster, "Validating", "warn", hooks.webhook("warn", "/warn"))

    answer = await cluster.call("POST", f"{MAPS}?dryRun=All", config_map("a"))

    assert answer.status == 201
    assert answer.warnings == ['299 - "old name"']
    assert hooks.asked[0][1]["dryRun"] is True


SKIP = [{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]


async def test_match_conditions_leave_requests_out(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Mutating Admission webhook, mutating webhook excluding object with specific name"."""
    hooks.answers["/change"] = add("changed", "yes")
    await register(cluster, "Mutating", "change", hooks.webhook("change", "/change", matchConditions=SKIP))

    skipped = await cluster.request("POST", MAPS, config_map("skip-me", a="b"))
    changed = await cluster.request("POST", MAPS, config_map("other", a="b"))

    assert skipped["data"] == {"a": "b"}
    assert changed["data"] == {"a": "b", "changed": "yes"}
    assert len(hooks.asked) == 1


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
async def test_match_conditions_are_kept_and_changed(cluster: Cluster, hooks: Hooks, kind: str) -> None:
    """Conformance: "Mutating Admission webhook, create and update mutating webhook configuration with matchConditions",
    "Validating Admission webhook, create and update validating webhook configuration with matchConditions".
    """
    await register(cluster, kind, "cel", hooks.webhook("cel", "/", "secrets", matchConditions=SKIP))
    path = f"{CONFIGURATIONS}/{kind.lower()}webhookconfigurations/cel"
    stored = await cluster.request("GET", path)
    assert stored["webhooks"][0]["matchConditions"] == SKIP

    more = [*SKIP, {"name": "by-admin", "expression": "authorizer.requestResource.check('deletecollection').allowed()"}]
    patched = [{"op": "replace", "path": "/webhooks/0/matchConditions", "value": more}]
    await cluster.request("PATCH", path, patched, content_type="application/json-patch+json")

    stored = await cluster.request("GET", path)
    assert stored["webhooks"][0]["matchConditions"] == more


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ([{"name": "x", "expression": "object.a ="}], 'expression: Invalid value: "object.a =": compilation failed: '),
        ([{"name": "x", "expression": "params.a == 1"}], "undeclared reference to 'params' (in container '')"),
        ([{"name": "x", "expression": "'a'"}], "expression: Invalid value: \"'a'\": must evaluate to bool"),
        ([{"name": "x", "expression": ""}], "webhooks[0].matchConditions[0].expression: Required value"),
        ([{"name": "", "expression": "true"}], "webhooks[0].matchConditions[0].name: Required value"),
        ([SKIP[0], SKIP[0]], 'webhooks[0].matchConditions[1].name: Duplicate value: "skip-me"'),
    ],
)
async def test_bad_match_conditions_are_refused(
    cluster: Cluster, hooks: Hooks, kind: str, conditions: list[Obj], told: str
) -> None:
    """Conformance: "Mutating Admission webhook, reject mutating webhook configurations with invalid matchConditions",
    "Validing Admission webhook, reject validating webhook configurations with invalid matchConditions".
    """
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": "cel"},
        "webhooks": [hooks.webhook("cel", "/", matchConditions=conditions)],
    }
    error = await cluster.refused("POST", f"{CONFIGURATIONS}/{kind.lower()}webhookconfigurations", body)

    assert error.code == 422
    assert told in error.message


@pytest.mark.parametrize(
    ("policy", "expression", "status", "asked"),
    [
        ("Fail", "object.data.missing == 'x'", 403, 0),
        ("Ignore", "object.data.missing == 'x'", 201, 0),
        ("Fail", "request.userInfo.username == 'tester' && request.operation == 'CREATE'", 201, 1),
        ("Fail", "authorizer.group('apps').resource('deployments').check('create').allowed()", 201, 1),
        ("Fail", "!authorizer.path('/healthz').check('get').allowed()", 201, 0),
        ("Fail", "authorizer.serviceAccount('default', 'x').group('').resource('pods').check('get').errored()", 201, 0),
    ],
)  # fmt: skip
async def test_match_conditions_see_the_request_and_fail_as_the_policy_says(
    cluster: Cluster, hooks: Hooks, policy: str, expression: str, status: int, asked: int
) -> None:
    hooks.answers["/ok"] = allow
    conditions = [{"name": "c", "expression": expression}]
    webhook = hooks.webhook("cel", "/ok", matchConditions=conditions, failurePolicy=policy)
    await register(cluster, "Validating", "cel", webhook)

    answer = await cluster.call("POST", MAPS, config_map("a", a="b"))

    assert (answer.status, len(hooks.asked)) == (status, asked)
    if status == 403:
        assert answer.json["message"] == (
            f"configmaps \"a\" is forbidden: expression '{expression}' resulted in error: no such key: missing"
        )


async def test_built_in_plugins_see_what_a_webhook_made_only_where_another_look_is_due(
    cluster: Cluster, hooks: Hooks
) -> None:
    """The second round is for those who asked for it, and happens once."""
    hooks.answers["/first"], hooks.answers["/second"] = add("first", "1"), add("second", "2")
    again = {"reinvocationPolicy": "IfNeeded"}
    await register(cluster, "Mutating", "a", hooks.webhook("first", "/first", **again))
    await register(cluster, "Mutating", "b", hooks.webhook("second", "/second", **again))

    await cluster.request("POST", MAPS, config_map("a", zero="0"))

    assert [path for path, _ in hooks.asked] == ["/first", "/second", "/first"]


async def test_a_connection_that_was_closed_is_opened_again(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/ok"] = allow
    await register(cluster, "Validating", "ok", hooks.webhook("ok", "/ok"))
    await cluster.request("POST", MAPS, config_map("a"))
    hooks.hangs_up.add("/ok")

    await cluster.request("POST", MAPS, config_map("b"))

    assert [request["name"] for _, request in hooks.asked] == ["a", "b", "b"]


@pytest.mark.parametrize(("size", "status"), [(1 << 20, 201), (4 << 20, 500)])
async def test_answers_may_be_long_but_not_endless(cluster: Cluster, hooks: Hooks, size: int, status: int) -> None:
    hooks.answers["/long"] = lambda _: {"allowed": True, "auditAnnotations": {"long": "x" * size}}
    await register(cluster, "Validating", "long", hooks.webhook("long", "/long"))

    answer = await cluster.call("POST", MAPS, config_map("a"))

    assert answer.status == status
    assert status == 201 or answer.json["message"].endswith("the answer is longer than 3145728 bytes")


async def test_an_answer_that_is_none_is_a_failure(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/odd"] = lambda _: {"allowed": True, "uid": "another"}
    await register(cluster, "Validating", "odd", hooks.webhook("odd", "/odd"))

    error = await cluster.refused("POST", MAPS, config_map("a"))

    assert "received invalid webhook response: expected response.uid=" in error.message


@pytest.mark.parametrize(
    ("rule", "operation", "subresource", "matches"),
    [
        ({}, "CREATE", "", True),
        ({"operations": ["UPDATE"]}, "CREATE", "", False),
        ({"apiGroups": ["apps"]}, "CREATE", "", False),
        ({"apiVersions": ["v2"]}, "CREATE", "", False),
        ({"scope": "Namespaced"}, "CREATE", "", True),
        ({"scope": "Cluster"}, "CREATE", "", False),
        ({"resources": ["pods"]}, "UPDATE", "status", False),
        ({"resources": ["pods/status"]}, "UPDATE", "status", True),
        ({"resources": ["pods/*"]}, "UPDATE", "status", True),
        ({"resources": ["*"]}, "UPDATE", "status", False),
        ({"resources": ["*/*"]}, "UPDATE", "status", True),
        ({"resources": ["*/scale"]}, "UPDATE", "status", False),
        ({"resources": ["services", "pods"]}, "DELETE", "", True),
    ],
)
def test_rules_name_requests(rule: Obj, operation: str, subresource: str, matches: bool) -> None:
    kind = Registry(NEWEST).by_gvr(PODS)
    assert kind is not None
    whole = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods"], **rule}

    assert rule_matches(whole, operation, kind, subresource) is matches


def test_a_rule_for_one_kind_leaves_others_alone() -> None:
    kind = Registry(NEWEST).by_gvr(DEPLOYMENTS)
    assert kind is not None
    rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["*"]}
    assert not rule_matches(rule, "CREATE", kind, "")


async def test_how_long_admission_takes_is_told_and_what_webhooks_said(cluster: Cluster, hooks: Hooks) -> None:
    hooks.answers["/no"] = lambda _: {"allowed": False, "status": {"code": 403}}
    await register(cluster, "Validating", "no", hooks.webhook("no", "/no"))
    gone = hooks.webhook("gone", "/gone", failurePolicy="Ignore")
    gone["clientConfig"]["url"] = "https://127.0.0.1:1/gone"
    await register(cluster, "Mutating", "gone", gone)
    for _ in range(2):
        assert (await cluster.call("POST", MAPS, config_map("a"))).status == 403

    text = (await cluster.call("GET", "/metrics")).body.decode()
    found = {
        (
            sample.name.removeprefix("apiserver_admission_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }

    no, lost = "no.example.com", "gone.example.com"
    assert found["webhook_request_total", "403", no, "CREATE", "true", "validating"] == 2
    assert found["webhook_rejection_count_total", "no_error", no, "CREATE", "403", "validating"] == 2
    assert found["webhook_admission_duration_seconds_count", no, "CREATE", "true", "validating"] == 2
    assert found["webhook_fail_open_count_total", lost, "admit"] == 2
    assert found["webhook_request_total", "503", lost, "CREATE", "false", "admit"] == 2
    refusing = found[
        "controller_admission_duration_seconds_count", "ValidatingAdmissionWebhook", "CREATE", "true", "validate"
    ]
    assert refusing == 2
    assert found["step_admission_duration_seconds_count", "CREATE", "true", "validate"] == 2
    steps = found["step_admission_duration_seconds_count", "CREATE", "false", "admit"]
    assert (
        found["controller_admission_duration_seconds_count", "NamespaceLifecycle", "CREATE", "false", "admit"] <= steps
    )
    assert found["step_admission_duration_seconds_sum", "CREATE", "false", "admit"] > 0
