"""The audit log: what a policy may say and what it chooses, what events tell, where they go and what is never lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from pinnace.apiserver.audit.backends import Buffer, Event, LogBackend, fitted
from pinnace.apiserver.audit.event import source_ips, without_managed_fields
from pinnace.apiserver.audit.log_file import LogFile, older_parts, tidy
from pinnace.apiserver.audit.options import AuditOptions, Delivery, LogOptions, WebhookOptions, problems
from pinnace.apiserver.audit.policy import load_policy, policy_of
from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.apiserver.request_info import parse_request
from pinnace.machinery.meta import Obj
from pinnace.wire.http import Peer, Request, Response, StreamingResponse, UpgradeResponse, discard
from tests.apiserver.conftest import TOKEN, Cluster, config_map, pod, serving
from tests.apiserver.hooks import Hooks, add, register
from tests.apiserver.remote import Remote

MAPS = "/api/v1/namespaces/default/configmaps"
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

RULES: list[Obj] = [
    {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"]},
    {"level": "None", "userGroups": ["system:nodes"], "resources": [{"group": "", "resources": ["nodes/*"]}]},
    {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
    {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"], "resourceNames": ["locked"]}]},
    {"level": "Request", "namespaces": ["kube-system"], "resources": [{"group": "", "resources": ["secrets"]}]},
    {"level": "RequestResponse", "resources": [{"group": "apps"}, {"group": "", "resources": ["*/status"]}]},
    {"level": "Metadata", "verbs": ["get", "create"], "omitStages": ["RequestReceived"]},
]


@pytest.mark.parametrize(
    ("user", "method", "path", "level"),
    [
        ("system:kube-proxy", "GET", "/api/v1/watch/services", "None"),
        ("system:kube-proxy", "GET", "/api/v1/services/x", "Metadata"),
        ("node", "PUT", "/api/v1/nodes/a/status", "None"),
        ("node", "GET", "/api/v1/nodes/a", "None"),  # `nodes/*` is nodes too
        ("node", "GET", "/api/v1/pods", "None"),
        ("jane", "GET", "/healthz/etcd", "None"),
        ("jane", "GET", "/version", "None"),
        ("jane", "GET", "/version/", "Metadata"),
        ("jane", "PUT", f"{MAPS}/locked", "Request"),
        ("jane", "PUT", f"{MAPS}/open", "None"),
        ("jane", "GET", "/api/v1/namespaces/kube-system/secrets", "Request"),
        ("jane", "GET", "/api/v1/namespaces/default/secrets/x", "Metadata"),
        ("jane", "DELETE", "/apis/apps/v1/namespaces/default/deployments/x", "RequestResponse"),
        ("jane", "PUT", "/api/v1/namespaces/default/pods/x/status", "RequestResponse"),
    ],
)
def test_the_first_rule_that_matches_decides(user: str, method: str, path: str, level: str) -> None:
    policy = policy_of({"rules": RULES, "omitStages": ["Panic"]})
    who = User(user, groups=("system:nodes", AUTHENTICATED) if user == "node" else (AUTHENTICATED,))

    verdict = policy.verdict(who, parse_request(method, path))

    assert verdict.level.word == level
    assert "Panic" in verdict.omit_stages


HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEAD, "loading audit policy file: loaded illegal policy with 0 rules: from file {}"),
        (HEAD + "rules: [{}]", "rules[0].level: Required value"),
        (
            HEAD + "rules: [{level: All}]",
            'rules[0].level: Unsupported value: "All": supported values: "Metadata", "None"',
        ),
        (HEAD + "rules: [{level: None, user: [a]}]", 'strict decoding error: unknown field "rules[0].user"'),
        (
            HEAD + "rules: [{level: None, users: a}]",
            "json: cannot unmarshal string into Go struct field rules[0].users",
        ),
        (
            HEAD + "rules: [{level: None, nonResourceURLs: [healthz, /a*b]}]",
            "non-resource URL wildcards '*' must be the final character of the rule]",
        ),
        (
            HEAD + "rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            HEAD + "rules: [{level: None, resources: [{resourceNames: [a]}]}]",
            "using resourceNames requires at least one resource",
        ),
        (
            HEAD + "rules: [{level: None, omitStages: [Late]}]",
            'rules[0].omitStages[0]: Invalid value: "Late": allowed stages are RequestReceived,ResponseStarted,',
        ),
        ("apiVersion: audit.k8s.io/v2\nkind: Policy", 'no kind "Policy" is registered for version "audit.k8s.io/v2"'),
        ("kind: Policy", "Object 'apiVersion' is missing"),
        ("a: [", "error converting YAML to JSON"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_the_original_words(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_policy(path)

    assert why.format(path) in str(caught.value)
    assert str(caught.value).startswith("loading audit policy file: ")


def test_a_missing_policy_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file or directory"):
        load_policy(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (AuditOptions(), []),
        (
            AuditOptions(log=LogOptions(path="-", format="xml", max_age=-1)),
            ['invalid audit log format xml, allowed formats are "legacy,json"',
             "--audit-log-maxage -1 can't be a negative number"],
        ),
        (
            AuditOptions(log=LogOptions(path="-", delivery=Delivery(mode="late"))),
            ['invalid audit log mode late, allowed modes are "batch,blocking,blocking-strict"'],
        ),
        (
            AuditOptions(webhook=WebhookOptions(config_file=Path("x"), delivery=Delivery(mode="batch", qps=0))),
            ["invalid audit batch webhook throttle QPS 0, must be a positive number"],
        ),
        (
            AuditOptions(log=LogOptions(path="-", delivery=Delivery(mode="blocking", most_batch_bytes=1))),
            ["invalid audit truncate log max batch size 1, must be greater than max event size (102400)"],
        ),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_are_refused_in_the_original_words(options: AuditOptions, why: list[str]) -> None:
    assert problems(options) == why


@pytest.mark.parametrize(
    ("headers", "peer", "found"),
    [
        ({}, "10.0.0.1", ["10.0.0.1"]),
        ({"x-forwarded-for": "1.1.1.1, 2.2.2.2"}, "10.0.0.1", ["1.1.1.1", "2.2.2.2", "10.0.0.1"]),
        ({"x-forwarded-for": "1.1.1.1, nobody"}, "1.1.1.1", ["1.1.1.1"]),
        ({"x-real-ip": "3.3.3.3", "x-forwarded-for": "3.3.3.3"}, "::1", ["3.3.3.3", "::1"]),
        ({"x-real-ip": "3.3.3.3"}, "", ["3.3.3.3"]),
    ],
)
def test_source_addresses_begin_with_the_client(headers: dict[str, str], peer: str, found: list[str]) -> None:
    assert source_ips(headers, peer) == found


def test_managed_fields_are_left_out_of_objects_lists_and_tables() -> None:
    one = {"metadata": {"name": "a", "managedFields": [{}]}}
    bare = {"metadata": {"name": "a"}}

    assert without_managed_fields(one) == bare
    assert without_managed_fields({"items": [one]}) == {"items": [bare]}
    table = {"kind": "Table", "rows": [{"cells": [], "object": one}]}
    assert without_managed_fields(table)["rows"] == [{"cells": [], "object": bare}]


# Events of a running server.


class Audited:
    """A cluster and the file its events are in."""

    def __init__(self, cluster: Cluster, log: Path) -> None:
        self.cluster = cluster
        self.log = log

    def events(self, path: str = "", stage: str = "ResponseComplete") -> list[Obj]:
        """Events of one stage (of all when empty) of requests whose URI begins with `path`, by others than us."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [
            event
            for event in found
            if event["requestURI"].startswith(path)
            and stage in ("", event["stage"])
            and event["user"].get("username") != "system:apiserver"
        ]


@asynccontextmanager
async def audited(pki: Path, where: Path, policy: Obj, audit: AuditOptions | None = None, **more: Any) -> Any:
    file = where / "policy.yaml"
    file.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **policy}))
    log = where / "audit.log"
    audit = audit or AuditOptions(log=LogOptions(path=str(log)))
    audit.policy_file = file
    async with serving(pki, where, audit=audit, **more) as cluster:
        yield Audited(cluster, log)


@pytest.fixture
async def everything(pki: Path, tmp_path: Path) -> AsyncIterator[Audited]:
    policy = {"rules": [{"level": "RequestResponse"}], "omitManagedFields": True}
    async with audited(pki, tmp_path, policy, authorization_modes=("RBAC",)) as made:
        yield made


async def test_an_event_tells_who_asked_for_what_and_what_came_of_it(everything: Audited) -> None:
    cluster = everything.cluster
    headers = {"User-Agent": "tester/1", "X-Forwarded-For": "9.9.9.9", "Audit-ID": "mine"}

    answer = await cluster.call("POST", MAPS + "?dryRun=", config_map("a", k="v"), headers=headers)

    assert (answer.status, answer.headers["audit-id"]) == (201, "mine")
    received, complete = everything.events(MAPS, "")
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["stageTimestamp"] == received["requestReceivedTimestamp"] == complete["requestReceivedTimestamp"]
    assert "responseStatus" not in received
    stored = complete.pop("responseObject")
    assert stored["data"] == {"k": "v"}
    assert "managedFields" not in stored["metadata"]
    assert complete.pop("stageTimestamp") > complete.pop("requestReceivedTimestamp")
    assert complete == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": "mine",
        "stage": "ResponseComplete",
        "requestURI": MAPS + "?dryRun=",
        "verb": "create",
        "user": {"username": "tester", "uid": "1", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["9.9.9.9", "127.0.0.1"],
        "userAgent": "tester/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "requestObject": config_map("a", k="v"),
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    }


async def test_updates_name_the_object_they_replace(everything: Audited) -> None:
    cluster = everything.cluster
    made = (await cluster.call("POST", MAPS, config_map("a"))).json

    await cluster.call("PUT", f"{MAPS}/a", {**made, "data": {"k": "v"}})
    await cluster.call("PATCH", f"{MAPS}/a", {"data": None}, content_type="application/merge-patch+json")
    await cluster.call("DELETE", f"{MAPS}/a")

    _, update, patch, delete = everything.events(MAPS)
    assert update["objectRef"]["uid"] == made["metadata"]["uid"]
    assert update["objectRef"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (patch["verb"], patch["requestObject"]) == ("patch", {"data": None})
    assert delete["responseStatus"]["status"] == "Success"


async def test_a_body_of_many_lines_is_one_line_of_the_log(everything: Audited) -> None:
    await everything.cluster.call("POST", MAPS, json.dumps(config_map("a", k="v\n"), indent=2).encode())
    body = b"kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: b\n"
    await everything.cluster.call("POST", MAPS, body, content_type="application/yaml")

    first, second = everything.events(MAPS)
    assert first["requestObject"]["data"] == {"k": "v\n"}
    assert second["requestObject"]["metadata"] == {"name": "b"}


async def test_refusals_are_recorded_with_their_reason(everything: Audited) -> None:
    cluster = everything.cluster

    await cluster.call("GET", f"{MAPS}/a", headers={"Authorization": "Bearer plain"})
    await cluster.call("GET", f"{MAPS}/a")
    await cluster.call("GET", f"{MAPS}/b", headers={"Authorization": "Bearer wrong"})

    forbidden, missing = everything.events(MAPS)
    assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert forbidden["responseStatus"]["reason"] == "Forbidden"
    assert missing["responseStatus"]["message"] == 'configmaps "a" not found'
    (unknown,) = everything.events(f"{MAPS}/b", "")
    assert (unknown["stage"], unknown["user"]) == ("ResponseStarted", {})
    message = "Authentication failed, attempted: bearer"
    assert unknown["responseStatus"] == {"metadata": {}, "message": message, "code": 401}


async def test_the_binding_that_allows_a_request_is_named(everything: Audited) -> None:
    cluster = everything.cluster
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    role = {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": rules}
    await cluster.request("POST", f"{rbac}/clusterroles", role)
    await cluster.request("POST", f"{rbac}/namespaces/default/rolebindings", {
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "plain-user"},
                     {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
    })  # fmt: skip

    await cluster.call("GET", MAPS, headers={"Authorization": "Bearer plain"})
    await cluster.call("GET", MAPS, headers={"Impersonate-User": "system:serviceaccount:default:robot"})

    by_user, by_account = everything.events(MAPS)
    reason = 'RBAC: allowed by RoleBinding "readers/default" of ClusterRole "reader" to '
    assert by_user["annotations"]["authorization.k8s.io/reason"] == reason + 'User "plain-user"'
    assert by_account["annotations"]["authorization.k8s.io/reason"] == reason + 'ServiceAccount "robot/default"'
    assert by_account["user"]["username"] == "tester"
    assert by_account["impersonatedUser"]["username"] == "system:serviceaccount:default:robot"


async def test_a_watch_is_recorded_when_it_begins_and_when_it_ends(everything: Audited) -> None:
    watch = await everything.cluster.watch(f"{MAPS}?watch=true&timeoutSeconds=1")

    assert watch.headers["audit-id"]
    assert [event["stage"] for event in everything.events(MAPS, "")] == ["RequestReceived", "ResponseStarted"]
    while await watch.next() is not None:
        pass
    watch.close()
    *_, complete = everything.events(MAPS, "")
    assert (complete["stage"], complete["responseStatus"]["code"]) == ("ResponseComplete", 200)


async def test_requests_of_this_process_are_recorded_too(everything: Audited) -> None:
    cluster = everything.cluster
    await cluster.request("POST", MAPS, config_map("own"), user="system:admin")
    await cluster.refused("GET", MAPS, user="system:kube-scheduler")

    allowed, forbidden = everything.events(MAPS)
    assert (allowed["user"]["username"], allowed["objectRef"]["name"]) == ("system:admin", "own")
    assert allowed["responseObject"]["metadata"]["uid"]
    assert forbidden["responseStatus"]["code"] == 403


async def test_admission_leaves_its_annotations(everything: Audited) -> None:
    cluster = everything.cluster
    labels = {"pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/enforce": "baseline"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "safe", "labels": labels}}
    await cluster.request("POST", "/api/v1/namespaces", space)

    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await cluster.request("POST", "/api/v1/namespaces/safe/serviceaccounts", account)

    await cluster.call("POST", "/api/v1/namespaces/safe/pods", pod("a"))

    (event,) = everything.events("/api/v1/namespaces/safe/pods")
    assert event["annotations"]["pod-security.kubernetes.io/enforce-policy"] == "baseline:latest"
    assert "would violate PodSecurity" in event["annotations"]["pod-security.kubernetes.io/audit-violations"]


async def test_a_policy_keeps_what_it_does_not_want_out(pki: Path, tmp_path: Path) -> None:
    rules: list[Obj] = [{"level": "None", "verbs": ["get"]}, {"level": "Metadata", "omitStages": ["RequestReceived"]}]
    async with audited(pki, tmp_path, {"rules": rules}) as made:
        await made.cluster.call("POST", MAPS, config_map("a"))
        await made.cluster.call("GET", f"{MAPS}/a")

        (event,) = made.events(MAPS, "")
    assert event["level"] == "Metadata"
    assert event["objectRef"]["name"] == "a"
    assert "requestObject" not in event
    assert "responseObject" not in event


# Files.


def test_a_full_file_is_renamed_and_the_oldest_go(tmp_path: Path) -> None:
    options = LogOptions(path=str(tmp_path / "audit.log"), max_size=1, max_backups=2)
    file = LogFile(options)
    half = b"x" * (600 << 10) + b"\n"

    for second in range(5):
        file.write(half, NOW + timedelta(seconds=second))
    file.close()

    names = [part.name for _, part in older_parts(tmp_path / "audit.log")]
    assert names == ["audit-2026-01-31T12-00-04.000.log", "audit-2026-01-31T12-00-03.000.log"]
    assert (tmp_path / "audit.log").read_bytes() == half
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_a_part_ends_while_an_older_one_is_still_looked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[datetime] = []
    first, second_has_ended = threading.Event(), threading.Event()

    def slowly(options: LogOptions, now: datetime) -> None:
        tidied.append(now)
        first.set()
        assert second_has_ended.wait(60)

    monkeypatch.setattr("pinnace.apiserver.audit.log_file.tidy", slowly)
    file = LogFile(LogOptions(path=str(tmp_path / "audit.log"), max_size=1))
    half = b"x" * (1 << 19) + b"\n"
    moments = [NOW + timedelta(seconds=second) for second in range(5)]
    for moment in moments[:3]:
        file.write(half, moment)
        file.write(half, moment)
        if moment == moments[1]:
            assert first.wait(60)  # the rest ends parts, and does not wait
    second_has_ended.set()
    file.close()

    assert tidied[-1] == NOW + timedelta(seconds=2)
    assert len(older_parts(tmp_path / "audit.log")) > 2


def test_older_parts_are_compressed_and_removed_by_age(tmp_path: Path) -> None:
    options = LogOptions(path=str(tmp_path / "audit.log"), max_age=7, compress=True)
    for day in (1, 20, 30):
        (tmp_path / f"audit-2026-01-{day:02d}T00-00-00.000.log").write_text("x")

    tidy(options, NOW)

    assert [part.name for _, part in older_parts(tmp_path / "audit.log")] == ["audit-2026-01-30T00-00-00.000.log.gz"]


def test_a_disk_that_is_full_loses_events_and_nothing_else() -> None:
    backend = LogBackend(LogOptions(path="/dev/full", delivery=Delivery(mode="blocking-strict")))

    assert backend.accept(Event({}, b"{}")) is False
    assert backend.lost == 1


async def test_a_strict_log_that_cannot_be_written_refuses_requests(pki: Path, tmp_path: Path) -> None:
    log = LogOptions(path=str(tmp_path / "log" / "audit.log"), delivery=Delivery(mode="blocking-strict"))
    rules = {"rules": [{"level": "None", "users": ["system:apiserver"]}, {"level": "Metadata"}]}
    (tmp_path / "log").write_text("a file where the directory should be")
    async with audited(pki, tmp_path, rules, AuditOptions(log=log)) as made:
        refused = await made.cluster.call("POST", MAPS, config_map("a"))
        (tmp_path / "log").unlink()
        taken = await made.cluster.call("POST", MAPS, config_map("a"))

    assert (refused.status, taken.status) == (500, 201)
    assert "failed to store audit event" in refused.json["message"]


async def test_the_legacy_format_is_one_line_of_words(pki: Path, tmp_path: Path) -> None:
    log = LogOptions(path=str(tmp_path / "audit.log"), format="legacy")
    async with audited(pki, tmp_path, {"rules": [{"level": "Metadata"}]}, AuditOptions(log=log)) as made:
        await made.cluster.call("GET", f"{MAPS}/a", headers={"Audit-ID": "mine"})

    lines = [line for line in (tmp_path / "audit.log").read_text().splitlines() if 'id="mine"' in line]
    assert lines[1].partition(" AUDIT: ")[2] == (
        'id="mine" stage="ResponseComplete" ip="127.0.0.1" method="get" user="tester" '
        'groups="\\"system:masters\\",\\"system:authenticated\\"" as="<self>" asgroups="<lookup>" namespace="default" '
        f'uri="{MAPS}/a" response="404"'
    )


def test_events_that_are_too_large_lose_their_bodies_first() -> None:
    delivery = Delivery(mode="batch", truncated=True, most_event_bytes=200)
    document = {"auditID": "x", "requestObject": {"a": "b" * 300}}

    small = fitted(Event(document, orjson.dumps(document)), delivery)

    assert small is not None
    assert small.document == {"auditID": "x", "annotations": {"audit.k8s.io/truncated": "true"}}
    huge = {"requestURI": "x" * 300}
    assert fitted(Event(huge, orjson.dumps(huge)), delivery) is None


# Batches, and the webhook.


def delivered(batches: list[list[str]]) -> Callable[[Any], Any]:
    async def write(events: Any) -> None:
        batches.append([event.document["id"] for event in events])

    return write


async def test_batches_go_when_they_are_full_and_the_rest_at_the_end() -> None:
    batches: list[list[str]] = []
    buffer = Buffer(Delivery(mode="batch", batch_size=2, buffer_size=5), delivered(batches))

    taken = [buffer.add(Event({"id": str(number)}, b"{}")) for number in range(7)]
    await buffer.close()

    assert taken == [True] * 5 + [False] * 2
    assert batches == [["0", "1"], ["2", "3"], ["4"]]


async def test_a_webhook_gets_lists_of_events_and_all_of_them_at_a_stop(pki: Path, tmp_path: Path) -> None:
    failures = [503]

    def answer(path: str, document: Any) -> Any:
        return (failures.pop(), {}) if failures else {}

    async with Remote(pki, answer) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf", "/audit", token="secret")
        webhook = WebhookOptions(config_file=file, initial_backoff=0.01)
        policy = {"rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["configmaps"]}]}]}
        async with audited(pki, tmp_path, policy, AuditOptions(webhook=webhook)) as made:
            for number in range(3):
                await made.cluster.call("POST", MAPS, config_map(f"m{number}"))

        lists = [asked for asked in remote.asked if asked["kind"] == "EventList"]
        assert {asked["apiVersion"] for asked in lists} == {"audit.k8s.io/v1"}
        last = lists[-1]["items"]
        names = [event["objectRef"]["name"] for event in last if event["stage"] == "ResponseComplete" and
                 event["user"]["username"] == "tester"]  # fmt: skip
        assert names == ["m0", "m1", "m2"]
        assert remote.headers[0]["Authorization"] == "Bearer secret"
        assert len(lists) == 2  # the first was refused


async def test_a_blocking_webhook_has_the_event_before_the_client_its_answer(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: {}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        webhook = WebhookOptions(config_file=file, delivery=Delivery(mode="blocking"))
        policy = {"rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["configmaps"]}]}]}
        async with audited(pki, tmp_path, policy, AuditOptions(webhook=webhook)) as made:
            await made.cluster.call("GET", f"{MAPS}/a")
            stages = {event["stage"] for asked in remote.asked for event in asked["items"]}

    assert stages == {"RequestReceived", "ResponseComplete"}


BY_TESTER: Obj = {"rules": [{"level": "Metadata", "users": ["tester", "system:admin"]}]}


def webhook_options(file: Path, mode: str) -> AuditOptions:
    delivery = Delivery(mode=mode)
    return AuditOptions(webhook=WebhookOptions(config_file=file, initial_backoff=0.01, delivery=delivery))


async def test_a_blocking_webhook_has_the_events_of_this_process_before_it_goes_on(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: {}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        async with audited(pki, tmp_path, BY_TESTER, webhook_options(file, "blocking")) as made:
            await made.cluster.request("POST", MAPS, config_map("a"), user="system:admin")
            stages = [asked["items"][0]["stage"] for asked in remote.asked]
            await made.cluster.refused("POST", MAPS, config_map("a"), user="system:admin")
            codes = [asked["items"][0].get("responseStatus", {}).get("code") for asked in remote.asked]

    assert stages == ["RequestReceived", "ResponseComplete"]
    assert codes == [None, 201, None, 409]


@pytest.mark.parametrize("status", [400, 503])
async def test_a_strict_webhook_that_refuses_an_event_has_its_request_refused(
    status: int, pki: Path, tmp_path: Path
) -> None:
    answers: list[Any] = [(status, {})] * 10  # five attempts for each request
    async with Remote(pki, lambda *_: answers.pop() if answers else {}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        async with audited(pki, tmp_path, BY_TESTER, webhook_options(file, "blocking-strict")) as made:
            refused = await made.cluster.call("POST", MAPS, config_map("a"))
            own = await made.cluster.refused("POST", MAPS, config_map("a"), user="system:admin")
            taken = await made.cluster.call("POST", MAPS, config_map("a"))
            text = (await made.cluster.call("GET", "/metrics")).body.decode()

    assert (refused.status, own.code, taken.status) == (500, 500, 201)
    assert refused.json["message"] == own.message == "Internal error occurred: failed to store audit event"
    assert "\napiserver_audit_requests_rejected_total 2\n" in text


async def test_a_blocking_webhook_that_loses_events_loses_nothing_else(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: (500, {})) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        async with audited(pki, tmp_path, BY_TESTER, webhook_options(file, "blocking")) as made:
            taken = await made.cluster.call("POST", MAPS, config_map("a"))

    assert taken.status == 201


async def test_a_request_does_not_wait_for_a_blocking_webhook_beyond_its_time(pki: Path, tmp_path: Path) -> None:
    answering = asyncio.Event()

    async def answer(path: str, document: Any) -> Obj:
        await answering.wait()
        return {}

    async with Remote(pki, answer) as remote:
        audit = webhook_options(remote.kubeconfig(tmp_path / "webhook.conf"), "blocking")
        async with audited(pki, tmp_path, BY_TESTER, audit, request_timeout=0.2) as made:
            late = await made.cluster.call("POST", MAPS, config_map("a"))
            own = await made.cluster.refused("POST", MAPS, config_map("a"), user="system:admin")
            answering.set()

    assert (late.status, late.json["reason"]) == (504, "Timeout")
    assert (own.code, own.reason) == (504, "Timeout")


async def test_a_stream_that_is_not_sent_is_complete_all_the_same(everything: Audited) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = everything.cluster.server.handle(Request("GET", MAPS, "watch=true", headers, b"", Peer("10.0.0.1")))
    assert isinstance(answer, StreamingResponse)

    discard(answer)

    stages = [event["stage"] for event in everything.events(MAPS, "")]
    assert stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


async def test_a_request_whose_client_leaves_while_others_are_asked_is_complete(pki: Path, tmp_path: Path) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def answer(path: str, document: Any) -> Obj:
        asked.set()
        await left.wait()
        return {}

    async with Remote(pki, answer) as remote:
        more: dict[str, Any] = {
            "authorization_modes": ("Webhook",),
            "authorization_webhook_config_file": remote.kubeconfig(tmp_path / "authorizer.conf"),
        }
        async with audited(pki, tmp_path, {"rules": [{"level": "Metadata", "users": ["plain-user"]}]}, **more) as made:
            request = Request("GET", MAPS, "", {"authorization": "Bearer plain"}, b"", Peer(""))
            answered = made.cluster.server.handle(request)
            assert not isinstance(answered, Response | StreamingResponse | UpgradeResponse)
            task = asyncio.ensure_future(answered)
            await asyncio.wait_for(asked.wait(), 60)
            assert request.abandoned is not None
            request.abandoned()
            await asyncio.wait_for(task, 60)
            left.set()
            (complete,) = made.events(MAPS)

    assert complete["responseStatus"]["code"] == 504


async def test_a_webhook_that_is_away_does_not_hold_up_the_server(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: {}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
    webhook = WebhookOptions(config_file=file, initial_backoff=0.01)
    async with audited(pki, tmp_path, {"rules": [{"level": "Metadata"}]}, AuditOptions(webhook=webhook)) as made:
        answer = await asyncio.wait_for(made.cluster.call("GET", "/version"), 60)

    assert answer.status == 200


async def test_every_answer_has_an_id_also_where_nothing_is_recorded(cluster: Cluster) -> None:
    answers = [await cluster.call("GET", path) for path in (MAPS, f"{MAPS}/none", "/version")]
    mine = await cluster.call("GET", MAPS, headers={"Audit-ID": "mine"})
    watch = await cluster.watch(f"{MAPS}?watch=true&timeoutSeconds=1")
    watch.close()

    ids = [answer.headers["audit-id"] for answer in answers] + [watch.headers["audit-id"]]
    assert len(set(ids)) == 4
    assert all(len(one) == 36 for one in ids)
    assert mine.headers["audit-id"] == "mine"


async def test_what_is_recorded_and_lost_is_counted(pki: Path, tmp_path: Path) -> None:
    log = LogOptions(path="/dev/full")
    async with audited(pki, tmp_path, {"rules": [{"level": "Metadata"}]}, AuditOptions(log=log)) as made:
        text = (await made.cluster.call("GET", "/metrics")).body.decode()

    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("apiserver_audit_"))
    assert float(found["apiserver_audit_event_total"]) > 0
    assert float(found['apiserver_audit_error_total{plugin="log"}']) > 0
    assert float(found['apiserver_audit_level_total{level="Metadata"}']) > 0
    assert float(found["apiserver_audit_requests_rejected_total"]) == 0


async def test_webhooks_leave_what_they_did_and_what_they_say(everything: Audited, hooks: Hooks) -> None:
    hooks.answers["/label"] = add("label", "1")
    said = {"allowed": True, "auditAnnotations": {"risk": "low"}}
    hooks.answers["/check"] = lambda _: said
    await register(everything.cluster, "Mutating", "labels", hooks.webhook("label", "/label"))
    await register(everything.cluster, "Validating", "checks", hooks.webhook("check", "/check"))

    await everything.cluster.call("POST", MAPS, config_map("a", zero="0"))

    (event,) = everything.events(MAPS)
    assert event["annotations"]["check.example.com/risk"] == "low"
    changed = json.loads(event["annotations"]["mutation.webhook.admission.k8s.io/round_0_index_0"])
    assert changed == {"configuration": "labels", "webhook": "label.example.com", "mutated": True}
