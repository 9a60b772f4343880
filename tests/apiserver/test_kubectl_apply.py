"""kubectl and field managers: server-side apply, its conflicts, the move from client-side apply and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.machinery import fieldset
from tests.apiserver.test_kubectl import DEPLOYMENT, KUBECTL, kubeconfig, kubectl

__all__ = ["kubeconfig"]  # a fixture

pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")

SERVER_SIDE = ("apply", "--server-side", "-f", "-")
CLIENT_SIDE = ("apply", "-f", "-")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def deployment(config: Path) -> Any:
    return json.loads(await kubectl(config, "get", "deploy", "web", "-o", "json", "--show-managed-fields"))


def managers(obj: Any) -> set[tuple[str, str, str]]:
    entries = obj["metadata"].get("managedFields", [])
    return {(entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries}


def owned(obj: Any, manager: str, operation: str) -> set[str]:
    return {
        fieldset.path_text(path)
        for entry in obj["metadata"]["managedFields"]
        if (entry["manager"], entry["operation"]) == (manager, operation)
        for path in fieldset.paths(entry["fieldsV1"])
    }


async def test_conflicts_are_shown_and_forced(kubeconfig: Path) -> None:
    assert "deployment.apps/web serverside-applied" in await kubectl(kubeconfig, *SERVER_SIDE, stdin=DEPLOYMENT)
    mine = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    refused = await kubectl(kubeconfig, *SERVER_SIDE, "--field-manager=other", stdin=mine, fails=True)
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas' in refused
    assert "Please review the fields above--they currently have other managers." in refused
    assert "--force-conflicts" in refused
    two = mine.replace("nginx:1.27", "nginx:2")
    refused = await kubectl(kubeconfig, *SERVER_SIDE, "--field-manager=other", stdin=two, fails=True)
    assert 'error: Apply failed with 2 conflicts: conflicts with "kubectl":\n- .spec.replicas\n' in refused
    assert '- .spec.template.spec.containers[name="web"].image' in refused
    forced = await kubectl(kubeconfig, *SERVER_SIDE, "--field-manager=other", "--force-conflicts", stdin=mine)
    assert "serverside-applied" in forced
    obj = await deployment(kubeconfig)
    assert obj["spec"]["replicas"] == 3
    assert managers(obj) == {("kubectl", "Apply", ""), ("other", "Apply", "")}
    assert ".spec.replicas" in owned(obj, "other", "Apply") - owned(obj, "kubectl", "Apply")


async def test_managed_fields_are_shown_on_demand(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *SERVER_SIDE, stdin=DEPLOYMENT)
    assert "managedFields" not in await kubectl(kubeconfig, "get", "deploy", "web", "-o", "yaml")
    assert "managedFields" in await kubectl(kubeconfig, "get", "deploy", "web", "-o", "yaml", "--show-managed-fields")


async def test_every_command_has_its_manager(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    await kubectl(kubeconfig, "scale", "deploy/web", "--replicas=5")
    await kubectl(kubeconfig, "label", "deploy", "web", "tier=front")
    await kubectl(kubeconfig, "annotate", "deploy", "web", "note=hi")
    await kubectl(kubeconfig, "set", "image", "deploy/web", "web=nginx:9")
    await kubectl(kubeconfig, "patch", "deploy", "web", "-p", '{"spec":{"paused":true}}')
    obj = await deployment(kubeconfig)
    assert managers(obj) == {
        ("kubectl-client-side-apply", "Update", ""),
        ("kubectl", "Update", "scale"),
        ("kubectl-label", "Update", ""),
        ("kubectl-annotate", "Update", ""),
        ("kubectl-set", "Update", ""),
        ("kubectl-patch", "Update", ""),
    }
    assert owned(obj, "kubectl", "Update") == {".spec.replicas"}
    assert owned(obj, "kubectl-label", "Update") == {".metadata.labels", ".metadata.labels.tier"}
    assert owned(obj, "kubectl-set", "Update") == {'.spec.template.spec.containers[name="web"].image'}


async def test_editing_is_tracked(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    editor = kubeconfig.parent / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/replicas: 2/replicas: 7/" "$1"\n')
    editor.chmod(0o755)
    text = await kubectl(kubeconfig, "edit", "deploy", "web", editor=str(editor))
    assert "deployment.apps/web edited" in text
    obj = await deployment(kubeconfig)
    assert (obj["spec"]["replicas"], owned(obj, "kubectl-edit", "Update")) == (7, {".spec.replicas"})


async def test_client_side_apply_is_taken_over_without_conflict(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 4")
    assert "serverside-applied" in await kubectl(kubeconfig, *SERVER_SIDE, stdin=changed)
    obj = await deployment(kubeconfig)
    assert obj["spec"]["replicas"] == 4
    assert ("kubectl-client-side-apply", "Update", "") not in managers(obj)
    assert ".spec.replicas" in owned(obj, "kubectl", "Apply")
    written = json.loads(obj["metadata"]["annotations"][LAST_APPLIED])
    assert written["spec"]["replicas"] == 4


async def test_and_back_to_client_side_apply(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    with_label = DEPLOYMENT.replace("  name: web\nspec", "  name: web\n  labels: {tier: front}\nspec")
    await kubectl(kubeconfig, *SERVER_SIDE, stdin=with_label)
    assert "tier" in (await deployment(kubeconfig))["metadata"]["labels"]
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    assert "tier" not in ((await deployment(kubeconfig))["metadata"].get("labels") or {})


async def test_others_values_are_conflicts_in_spite_of_the_annotation(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *CLIENT_SIDE, stdin=DEPLOYMENT)
    await kubectl(kubeconfig, "scale", "deploy/web", "--replicas=5")
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 4")
    refused = await kubectl(kubeconfig, *SERVER_SIDE, stdin=changed, fails=True)
    assert (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
        in refused
    )


async def test_dry_runs_and_diffs_go_through_the_server(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *SERVER_SIDE, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 4")
    dry = await kubectl(kubeconfig, *SERVER_SIDE, "--dry-run=server", stdin=changed)
    assert "serverside-applied (server dry run)" in dry
    assert (await deployment(kubeconfig))["spec"]["replicas"] == 2
    diff = await kubectl(kubeconfig, "diff", "--server-side", "-f", "-", stdin=changed, fails=True)
    assert "-  replicas: 2" in diff
    assert "+  replicas: 4" in diff


async def test_wrong_fields_are_told(kubeconfig: Path) -> None:
    wrong = DEPLOYMENT.replace("replicas: 2", "replica: 2")
    told = await kubectl(kubeconfig, *SERVER_SIDE, "--validate=false", stdin=wrong, fails=True)
    assert (
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        ".spec.replica: field not declared in schema"
    ) in told


async def test_status_may_be_applied(kubeconfig: Path) -> None:
    await kubectl(kubeconfig, *SERVER_SIDE, stdin=DEPLOYMENT)
    status = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nstatus: {readyReplicas: 1}\n"
    told = await kubectl(kubeconfig, *SERVER_SIDE, "--subresource=status", "--field-manager=ctl", stdin=status)
    assert "serverside-applied" in told
    obj = await deployment(kubeconfig)
    assert ("ctl", "Apply", "status") in managers(obj)
    assert obj["status"]["readyReplicas"] == 1
