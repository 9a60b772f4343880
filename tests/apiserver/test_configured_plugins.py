"""Admission plugins that `--admission-control-config-file` tells more than their names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pinnace.apiserver.admission.configuration import read_admission_configuration
from pinnace.apiserver.admission.event_rate_limit import Limit, limit_errors
from pinnace.apiserver.admission.image_policy import ImagePolicyWebhook, duration
from pinnace.apiserver.admission.owner_references import newly_blocking
from pinnace.apiserver.admission.plugins import NAMES, build
from pinnace.apiserver.admission.tolerations import covers, merged
from pinnace.apiserver.admission.webhook_credentials import WebhookCredentials
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map, pod
from tests.apiserver.hooks import Hooks, allow, register
from tests.apiserver.test_admission_plugins import cluster_with

NAMESPACE = "/api/v1/namespaces/default"
PODS = f"{NAMESPACE}/pods"


def configuration(directory: Path, **plugins: Any) -> Path:
    """An AdmissionConfiguration with a document in place for each plugin."""
    file = directory / "admission.yaml"
    listed = [{"name": name, "configuration": document} for name, document in plugins.items()]
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration"}
    file.write_text(json.dumps({**head, "plugins": listed}))
    return file


# The file.


def test_a_configuration_stands_in_place_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("a: 1")
    file = tmp_path / "admission.yaml"
    file.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"
        "- {name: EventRateLimit, path: limits.yaml}\n- {name: PodSecurity, configuration: {b: 2}}\n"
        "- {name: Priority}\n"
    )
    found = read_admission_configuration(file, NAMES)
    assert [found.of(name) for name in ("EventRateLimit", "PodSecurity", "Priority", "ServiceAccount")] == [
        "a: 1",
        '{"b":2}',
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("plugins: [{name: Nonesuch}]", 'admission plugin "Nonesuch" is unknown'),
        ("plugins: [{name: PodSecurity, path: missing.yaml}]", "no such file"),
        ("plugin: []", 'unknown field "plugin"'),
    ],
)
def test_a_file_that_says_what_nobody_understands_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "admission.yaml"
    file.write_text(f"apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n{text}\n")
    with pytest.raises(ConfigurationError, match=why):
        read_admission_configuration(file, NAMES)


# EventRateLimit.


def test_a_limit_gives_a_burst_and_then_its_rate() -> None:
    now = 0.0
    limit = Limit({"type": "User", "qps": 2, "burst": 3, "cacheSize": 2}, lambda: now)
    assert [limit.accepts("a") for _ in range(4)] == [True, True, True, False]
    assert limit.accepts("b")
    now = 0.5
    assert [limit.accepts("a") for _ in range(2)] == [True, False]
    limit.accepts("c")  # and `b` is forgotten, which had two left
    assert [limit.accepts("b") for _ in range(4)] == [True, True, True, False]


def test_limits_are_checked() -> None:
    wrong = [{"type": "Pod", "qps": 0, "burst": 1}, {"type": "User", "qps": 1, "burst": -1, "cacheSize": -2}]
    assert [error.field for error in limit_errors(wrong)] == [
        "limits[0].type",
        "limits[0].qps",
        "limits[1].burst",
        "limits[1].cacheSize",
    ]
    with pytest.raises(ConfigurationError, match=r"limits: Invalid value: .*: must not be empty"):
        build(["EventRateLimit"], [])


async def test_events_beyond_their_rate_are_refused(pki: Path, tmp_path: Path) -> None:
    limits = [{"type": "Namespace", "qps": 1, "burst": 3}, {"type": "SourceAndObject", "qps": 1, "burst": 2}]
    head = {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration"}
    file = configuration(tmp_path, EventRateLimit={**head, "limits": limits})
    async with cluster_with(pki, tmp_path, "EventRateLimit", admission_control_config_file=file) as cluster:

        async def event(name: str, about: str, **params: str) -> tuple[int, str]:
            body = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": about},
                "source": {"component": "kubelet"},
                "reason": "Testing",
            }
            query = "&".join(f"{key}={value}" for key, value in params.items())
            answer = await cluster.call("POST", f"{NAMESPACE}/events?{query}", body)
            return answer.status, answer.json.get("message", "")

        assert (await event("dry", "web", dryRun="All"))[0] == 201
        assert [(await event(f"e-{n}", "web"))[0] for n in range(2)] == [201, 201]
        refused = "limit reached on type SourceAndObject for key kubeletPoddefaultweb"
        assert await event("e-2", "web") == (429, f"Too many requests: {refused}")
        status, message = await event("e-3", "other")
        assert (status, message) == (429, "Too many requests: limit reached on type Namespace for key default")
        assert (await cluster.call("POST", f"{NAMESPACE}/configmaps", config_map("free"))).status == 201


# PodTolerationRestriction.


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ({"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"}, True),
        ({"key": "a", "operator": "Exists"}, {"key": "a", "value": "1"}, True),
        ({"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}, False),
        ({"key": "a", "value": "1"}, {"key": "a", "operator": "Equal", "value": "1", "effect": "NoExecute"}, True),
        ({"key": "a", "value": "1"}, {"key": "a", "value": "2"}, False),
        ({"key": "a", "value": "1"}, {"key": "a", "operator": "Exists"}, False),
        ({"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}, False),
        (
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
            True,
        ),
        (
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
            {"key": "a", "operator": "Exists", "effect": "NoExecute"},
            False,
        ),
    ],
)
def test_one_toleration_covers_another(wide: Obj, narrow: Obj, expected: bool) -> None:
    assert covers(wide, narrow) is expected


def test_needless_tolerations_are_left_out() -> None:
    one = {"key": "a", "operator": "Equal", "value": "1"}
    every = {"key": "a", "operator": "Exists"}
    assert merged([one, every, one]) == [every]
    assert merged([every, one]) == [every]
    assert merged([one, {"key": "b", "operator": "Exists"}, one]) == [one, {"key": "b", "operator": "Exists"}]


async def test_a_namespace_gives_tolerations_and_says_which_it_allows(pki: Path, tmp_path: Path) -> None:
    blue = {"key": "blue", "operator": "Exists"}
    green = {"key": "green", "operator": "Exists"}
    head = {"apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration"}
    file = configuration(tmp_path, PodTolerationRestriction={**head, "default": [green]})
    async with cluster_with(
        pki,
        tmp_path,
        "PodTolerationRestriction",
        disable_admission_plugins=("DefaultTolerationSeconds",),
        admission_control_config_file=file,
    ) as cluster:
        assert (await cluster.request("POST", PODS, pod("first")))["spec"]["tolerations"] == [green]

        async def annotate(**annotations: str) -> None:
            prefix = "scheduler.alpha.kubernetes.io/"
            patch = {"metadata": {"annotations": {prefix + key: value for key, value in annotations.items()}}}
            await cluster.request("PATCH", NAMESPACE, patch, content_type="application/merge-patch+json")

        await annotate(defaultTolerations=json.dumps([blue]), tolerationsWhitelist=json.dumps([blue]))
        made = pod("second")
        assert (await cluster.request("POST", PODS, made))["spec"]["tolerations"] == [blue]
        refused = await cluster.refused("POST", PODS, pod("third", tolerations=[green]))
        assert refused.code == 403
        assert refused.message.endswith(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
        )
        await annotate(defaultTolerations="[]", tolerationsWhitelist="")
        made = pod("asking")
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        assert (await cluster.request("POST", PODS, made))["spec"]["tolerations"] == [
            {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
        ]
        await annotate(defaultTolerations="{")
        assert (await cluster.refused("POST", PODS, pod("fourth"))).code == 403


# OwnerReferencesPermissionEnforcement.


def test_references_block_anew() -> None:
    old: list[Obj] = [{"uid": "1", "blockOwnerDeletion": True}, {"uid": "2"}]
    new: list[Obj] = [{"uid": "1", "blockOwnerDeletion": True}, {"uid": "2", "blockOwnerDeletion": True}, {"uid": "3"}]
    assert newly_blocking(new, old) == [new[1]]


async def test_owners_are_set_by_those_who_may_delete(pki: Path, tmp_path: Path) -> None:
    async with cluster_with(
        pki, tmp_path, "OwnerReferencesPermissionEnforcement", authorization_modes=("RBAC",)
    ) as cluster:
        roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"

        async def allow(name: str, verbs: list[str], resource: str) -> None:
            rules = [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]
            await cluster.request("POST", f"{roles}/roles", {"metadata": {"name": name}, "rules": rules})
            await cluster.request(
                "POST",
                f"{roles}/rolebindings",
                {
                    "metadata": {"name": name},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                    "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "someone"}],
                },
            )

        owner = await cluster.request("POST", PODS, pod("owner"))

        def owned(name: str, *, blocking: bool = False, kind: str = "Pod") -> Obj:
            made = config_map(name)
            reference = {"apiVersion": "v1", "kind": kind, "name": "owner", "uid": owner["metadata"]["uid"]}
            made["metadata"]["ownerReferences"] = [{**reference, "blockOwnerDeletion": blocking}]
            return made

        maps = f"{NAMESPACE}/configmaps"
        as_someone = {"Impersonate-User": "someone"}
        await allow("make", ["create"], "configmaps")
        assert (await cluster.call("POST", maps, config_map("free"), headers=as_someone)).status == 201
        refused = await cluster.call("POST", maps, owned("one"), headers=as_someone)
        assert refused.status == 403
        assert "cannot set an ownerRef on a resource you can't delete: " in refused.json["message"]
        await allow("delete", ["delete"], "configmaps")
        assert (await cluster.call("POST", maps, owned("one"), headers=as_someone)).status == 201
        refused = await cluster.call("POST", maps, owned("two", blocking=True), headers=as_someone)
        why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: "
        assert (refused.status, why in refused.json["message"]) == (403, True)
        await allow("finalize", ["update"], "pods/finalizers")
        assert (await cluster.call("POST", maps, owned("two", blocking=True), headers=as_someone)).status == 201
        refused = await cluster.call("POST", maps, owned("three", blocking=True, kind="Boat"), headers=as_someone)
        assert (
            'cannot find RESTMapping for APIVersion v1 Kind Boat: no matches for kind "Boat" in version "v1"'
            in (refused.json["message"])
        )


# ImagePolicyWebhook.


class Reviews:
    """A server that allows images without `bad` in their name, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Obj] = []
        self.broken = False
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append(review["spec"])
        if self.broken:
            return web.Response(status=400)
        bad = [one["image"] for one in review["spec"]["containers"] if "bad" in one["image"]]
        status: Obj = {"allowed": not bad, "auditAnnotations": {"seen": "yes"}}
        if bad:
            status["reason"] = f"{bad[0]} is not for us" if "mute" not in bad[0] else ""
        return web.json_response({**{key: review[key] for key in ("apiVersion", "kind")}, "status": status})


@pytest.fixture
async def reviews() -> AsyncIterator[Reviews]:
    made = Reviews()
    app = web.Application()
    app.router.add_post("/review", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/review"
    yield made
    await runner.cleanup()


def image_policy(directory: Path, reviews: Reviews, **more: Any) -> Path:
    (directory / "kubeconfig").write_text(
        f"clusters: [{{name: a, cluster: {{server: {reviews.url}}}}}]\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\nusers: [{name: a, user: {}}]\n"
    )
    return configuration(directory, ImagePolicyWebhook={"imagePolicy": {"kubeConfigFile": "kubeconfig", **more}})


async def running(cluster: Cluster, name: str, image: str, **annotations: str) -> tuple[int, str]:
    made = pod(name)
    made["spec"]["containers"][0]["image"] = image
    made["metadata"]["annotations"] = annotations
    answer = await cluster.call("POST", PODS, made)
    return answer.status, answer.json.get("message", "")


async def test_images_are_judged_by_another_server(pki: Path, tmp_path: Path, reviews: Reviews) -> None:
    file = image_policy(tmp_path, reviews)
    async with cluster_with(pki, tmp_path, "ImagePolicyWebhook", admission_control_config_file=file) as cluster:
        marks = {"mine.image-policy.k8s.io/ticket": "1", "other": "2"}
        assert (await running(cluster, "a", "good", **marks))[0] == 201
        assert reviews.asked == [
            {
                "containers": [{"image": "good"}],
                "annotations": {"mine.image-policy.k8s.io/ticket": "1"},
                "namespace": "default",
            }
        ]
        assert (await running(cluster, "b", "good", **marks))[0] == 201
        assert len(reviews.asked) == 1, "the answer holds for a while"
        denied = "image policy webhook backend denied one or more images: bad is not for us"
        assert await running(cluster, "c", "bad") == (403, f'pods "c" is forbidden: {denied}')
        assert await running(cluster, "d", "bad-mute") == (
            403,
            'pods "d" is forbidden: one or more images rejected by webhook backend',
        )
        reviews.broken = True
        status, message = await running(cluster, "e", "new")
        assert status == 403
        assert message.startswith('pods "e" is forbidden: the server rejected our request')


async def test_pods_run_without_a_judgement_where_that_is_wanted(pki: Path, tmp_path: Path, reviews: Reviews) -> None:
    file = image_policy(tmp_path, reviews, defaultAllow=True, allowTTL=-1)
    async with cluster_with(pki, tmp_path, "ImagePolicyWebhook", admission_control_config_file=file) as cluster:
        for name in ("a", "b"):
            assert (await running(cluster, name, "good"))[0] == 201
        assert len(reviews.asked) == 2, "nothing is remembered"
        reviews.broken = True
        assert (await running(cluster, "c", "new"))[0] == 201
        made = await cluster.request("GET", f"{PODS}/c")
        assert made["metadata"]["annotations"] == {"alpha.image-policy.k8s.io/failed-open": "true"}


def test_durations_have_bounds() -> None:
    assert [duration({"allowTTL": value}, "allowTTL") for value in (0, -1, 30)] == [300.0, 0.0, 30.0]
    assert duration({"retryBackoff": 250}, "retryBackoff") == 0.25
    with pytest.raises(ConfigurationError, match="valid value is between 1s and 30m0s, got 1h0m0s"):
        duration({"allowTTL": 3600}, "allowTTL")
    with pytest.raises(ConfigurationError, match=r"imagePolicy\.kubeConfigFile"):
        ImagePolicyWebhook("")


async def test_always_deny_denies() -> None:
    [plugin] = [one for one in build(["AlwaysDeny"], []) if type(one).__name__ == "AlwaysDeny"]
    from pinnace.machinery.errors import ApiError

    class Denied:
        def forbidden(self, why: str) -> ApiError:
            return ApiError(403, "Forbidden", why)

    with pytest.raises(ApiError, match="admission control is denying all modifications"):
        await plugin.validate(Denied())  # type: ignore[arg-type]


# PodNodeSelector.


async def test_pods_go_where_the_server_or_their_namespace_says(pki: Path, tmp_path: Path) -> None:
    selectors = {"clusterDefaultNodeSelector": "zone=a", "default": "zone=a,disk=ssd"}
    file = configuration(tmp_path, PodNodeSelector={"podNodeSelectorPluginConfig": selectors})
    async with cluster_with(pki, tmp_path, "PodNodeSelector", admission_control_config_file=file) as cluster:
        assert (await cluster.request("POST", PODS, pod("plain")))["spec"]["nodeSelector"] == {"zone": "a"}
        made = await cluster.request("POST", PODS, pod("fast", nodeSelector={"disk": "ssd"}))
        assert made["spec"]["nodeSelector"] == {"zone": "a", "disk": "ssd"}
        refused = await cluster.refused("POST", PODS, pod("far", nodeSelector={"zone": "b"}))
        assert refused.message.endswith("pod node label selector conflicts with its namespace node label selector")
        refused = await cluster.refused("POST", PODS, pod("odd", nodeSelector={"gpu": "yes"}))
        assert refused.message.endswith("pod node label selector labels conflict with its namespace whitelist")


# PodSecurity.


async def test_a_server_has_a_pod_security_standard_of_its_own(pki: Path, tmp_path: Path) -> None:
    head = {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration"}
    document = {
        **head,
        "defaults": {"enforce": "baseline", "enforce-version": "latest", "warn": "restricted"},
        "exemptions": {"usernames": ["trusted"], "runtimeClasses": ["sandbox"], "namespaces": ["kube-system"]},
    }
    file = configuration(tmp_path, PodSecurity=document)
    async with cluster_with(pki, tmp_path, admission_control_config_file=file) as cluster:
        bold = pod("bold", hostNetwork=True)
        refused = await cluster.call("POST", PODS, bold)
        assert refused.status == 403
        assert refused.json["message"].startswith(
            'pods "bold" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
        )
        plain = await cluster.call("POST", PODS, pod("plain"))
        assert plain.status == 201
        assert 'would violate PodSecurity "restricted:latest"' in plain.warnings[0].replace("\\", "")

        accepted = await cluster.call("POST", PODS, bold, headers={"Impersonate-User": "trusted"})
        assert (accepted.status, accepted.warnings) == (201, [])
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await cluster.request("POST", "/api/v1/namespaces/kube-system/serviceaccounts", account)
        system = "/api/v1/namespaces/kube-system/pods"
        assert (await cluster.call("POST", system, bold)).status == 201

        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        await cluster.request(
            "PATCH", NAMESPACE, {"metadata": {"labels": labels}}, content_type="application/merge-patch+json"
        )
        assert (await cluster.call("POST", PODS, pod("bolder", hostNetwork=True))).status == 201


@pytest.mark.parametrize(
    ("defaults", "why"),
    [
        ({"enforce": "strict"}, r"defaults\.enforce: .*must be one of privileged, baseline, restricted"),
        ({"warn-version": "1.30"}, r'defaults.warn-version: .*must be "latest" or "v1.x"'),
        ({"enforced": "baseline"}, "unknown field"),
    ],
)
def test_a_standard_that_is_none_is_refused(tmp_path: Path, defaults: dict[str, str], why: str) -> None:
    head = {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration"}
    found = read_admission_configuration(configuration(tmp_path, PodSecurity={**head, "defaults": defaults}), NAMES)
    with pytest.raises(ConfigurationError, match=why):
        build([], [], configurations=found)


# ResourceQuota.


async def test_what_is_limited_needs_a_quota_that_counts_it(pki: Path, tmp_path: Path) -> None:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"}
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-cluster-critical"]}
    limited = [
        {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass.storage.k8s.io"]},
        {"resource": "pods", "matchScopes": [scope]},
    ]
    file = configuration(tmp_path, ResourceQuota={**head, "limitedResources": limited})
    async with cluster_with(pki, tmp_path, admission_control_config_file=file) as cluster:
        claims = f"{NAMESPACE}/persistentvolumeclaims"

        def claim(name: str, storage_class: str) -> Obj:
            spec: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            return {"metadata": {"name": name}, "spec": {**spec, "storageClassName": storage_class}}

        async def quota(name: str, hard: Obj, **spec: Any) -> None:
            body = {"metadata": {"name": name}, "spec": {"hard": hard, **spec}}
            made = await cluster.request("POST", f"{NAMESPACE}/resourcequotas", body)
            made["status"] = {"hard": hard, "used": dict.fromkeys(hard, "0")}
            await cluster.request("PUT", f"{NAMESPACE}/resourcequotas/{name}/status", made)

        assert (await cluster.call("POST", claims, claim("tin", "tin"))).status == 201
        refused = await cluster.refused("POST", claims, claim("gold", "gold"))
        counts = "gold.storageclass.storage.k8s.io/persistentvolumeclaims"
        size = "gold.storageclass.storage.k8s.io/requests.storage"
        assert refused.message.endswith(f"insufficient quota to consume: {counts},{size}")
        await quota("gold", {counts: "3", size: "10Gi"})
        assert (await cluster.call("POST", claims, claim("gold", "gold"))).status == 201

        critical = pod("critical", priorityClassName="system-cluster-critical")
        assert (await cluster.call("POST", PODS, pod("common"))).status == 201
        refused = await cluster.refused("POST", PODS, critical)
        assert refused.message.endswith(
            "insufficient quota to match these scopes: [{PriorityClass In [system-cluster-critical]}]"
        )
        await quota("critical", {"pods": "1"}, scopeSelector={"matchExpressions": [scope]})
        assert (await cluster.call("POST", PODS, critical)).status == 201
        refused = await cluster.refused("POST", PODS, pod("second", priorityClassName="system-cluster-critical"))
        assert "exceeded quota: critical" in refused.message


# Webhooks.


def kubeconfig_of(directory: Path, *names: str) -> Path:
    """Users whose tokens are their names."""
    file = directory / "webhook-users"
    users = [{"name": name, "user": {"token": f"as-{name}"}} for name in names]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "users": users}))
    return file


@pytest.mark.parametrize(
    ("host", "port", "token"),
    [
        ("hook.ns.svc", 443, "as-hook.ns.svc"),
        ("hook.ns.svc", 8443, "as-hook.ns.svc:8443"),
        ("hook.ns.svc", 9443, "as-*"),
        ("other.ns.svc", 443, "as-*.ns.svc"),
        ("other.far.svc", 443, "as-*.svc"),
        ("example.com", 443, "as-*"),
    ],
)
def test_a_webhook_is_shown_the_user_that_is_named_after_it(tmp_path: Path, host: str, port: int, token: str) -> None:
    names = ("*", "*.svc", "*.ns.svc", "hook.ns.svc", "hook.ns.svc:8443")
    found = WebhookCredentials(kubeconfig_of(tmp_path, *names)).of(host, port)
    assert found is not None
    assert found.bearer_token() == token
    assert WebhookCredentials().of(host, port) is None


async def test_webhooks_learn_who_calls_them(pki: Path, tmp_path: Path, hooks: Hooks) -> None:
    seen: list[str | None] = []
    kubeconfig_of(tmp_path, "127.0.0.1:*", f"127.0.0.1:{hooks.port}")
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration"}
    file = configuration(tmp_path, ValidatingAdmissionWebhook={**head, "kubeConfigFile": "webhook-users"})
    hooks.answers = {"/validating": allow, "/mutating": allow}
    hooks.headers = lambda headers: seen.append(headers.get("Authorization"))
    async with cluster_with(pki, tmp_path, admission_control_config_file=file) as cluster:
        await register(cluster, "Validating", "one", hooks.webhook("one", "/validating"))
        assert (await cluster.call("POST", f"{NAMESPACE}/configmaps", config_map("a"))).status == 201
        assert seen == [f"Bearer as-127.0.0.1:{hooks.port}"]
        await register(cluster, "Mutating", "two", hooks.webhook("two", "/mutating"))
        assert (await cluster.call("POST", f"{NAMESPACE}/configmaps", config_map("b"))).status == 201
        assert sorted(seen, key=str)[-1] is None, "each plugin has users of its own"
