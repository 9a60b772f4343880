"""Which pods of a StatefulSet come and go next: the rules, as tables. A pod is written `ordinal` and its state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.controllers.stateful_pods import claim_owners, make_claims, make_pod, ordinal_of, plan, status_of
from pinnace.machinery.meta import Obj, name_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stateful_set(replicas: int = 3, *, parallel: bool = False, rolling: Obj | None = None, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "dbs",
            "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, **(rolling or {})}},
            **spec,
        },
    }


def pod(text: str) -> Obj:
    """`0`: ready; `0-`: not ready; `0x`: going; `0F`, `0S`: failed, succeeded; `0o`: of the old revision."""
    ordinal = text.rstrip("-xFSo")
    metadata: Obj = {"name": f"db-{ordinal}", "uid": ordinal, "namespace": "default"}
    metadata["labels"] = {"controller-revision-hash": "old" if "o" in text else "new"}
    if "x" in text:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    phase = "Failed" if "F" in text else "Succeeded" if "S" in text else "Running"
    ready = str(not set(text) & set("-FS"))
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2025-12-31T23:59:55Z"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {},
        "status": {"phase": phase, "conditions": [condition]},
    }


@pytest.mark.parametrize(
    ("owner", "pods", "come", "go"),
    [
        # In order.
        (stateful_set(), "", [0], ""),
        (stateful_set(), "0-", [], ""),
        (stateful_set(), "0", [1], ""),
        (stateful_set(), "0 2", [1], ""),
        (stateful_set(), "0 1-", [], ""),
        (stateful_set(minReadySeconds=10), "0", [], ""),
        (stateful_set(), "0 1x 2", [], ""),
        (stateful_set(), "0 1F 2", [], "1"),
        (stateful_set(), "0S", [], "0"),
        (stateful_set(1), "0 1 2", [], "2"),
        (stateful_set(1), "0 1 2x", [], ""),
        (stateful_set(1), "0 1 2-", [], "2"),
        (stateful_set(1), "0 1- 2", [], "2"),
        (stateful_set(1), "0 1- 2-", [], ""),
        (stateful_set(1), "0- 1 2", [], ""),
        (stateful_set(0), "0", [], "0"),
        (stateful_set(2, ordinals={"start": 5}), "5", [6], ""),
        (stateful_set(2, ordinals={"start": 1}), "0 1 2", [], "0"),
        # In parallel.
        (stateful_set(parallel=True), "", [0, 1, 2], ""),
        (stateful_set(parallel=True), "0- 2x", [1], ""),
        (stateful_set(1, parallel=True), "0- 1- 2", [], "2 1"),
        # Rolling update.
        (stateful_set(), "0o 1o 2o", [], "2"),
        (stateful_set(), "0o 1o 2", [], "1"),
        (stateful_set(), "0o 1o 2-", [], ""),
        (stateful_set(), "0o 1o 2o-", [], ""),  # a broken pod stays until somebody repairs it
        (stateful_set(parallel=True), "0o 1o 2o-", [], "2"),
        (stateful_set(rolling={"partition": 2}), "0o 1o 2o", [], "2"),
        (stateful_set(rolling={"partition": 2}), "0o 1o 2", [], ""),
        (stateful_set(rolling={"maxUnavailable": 2}), "0o 1o 2o", [], "2 1"),
        (stateful_set(rolling={"maxUnavailable": "70%"}), "0o 1o 2o", [], "2 1"),
        (stateful_set(rolling={"maxUnavailable": "10%"}), "0o 1o 2o", [], "2"),
        (stateful_set(updateStrategy={"type": "OnDelete"}), "0o 1o 2o", [], ""),
    ],
)
def test_pods_come_and_go_in_order(owner: Obj, pods: str, come: list[int], go: str) -> None:
    """Conformance: "StatefulSet, Scaling", "StatefulSet, Rolling Update with Partition", "StatefulSet, Recreate Failed
    Pod"
    """
    step = plan(owner, [pod(one) for one in pods.split()], "new", NOW)
    assert (step.ordinals, [name_of(one) for one in step.doomed]) == (come, [f"db-{one}" for one in go.split()])


@pytest.mark.parametrize(
    ("name", "expected"), [("db-0", 0), ("db-12", 12), ("db-01", None), ("db", None), ("db-x-1", None), ("dbx-1", None)]
)
def test_names_tell_ordinals(name: str, expected: int | None) -> None:
    assert ordinal_of(stateful_set(), name) == expected


CLAIMS = [{"metadata": {"name": "data", "labels": {"tier": "x"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}]


def test_a_pod_has_its_name_and_storage() -> None:
    owner = stateful_set(volumeClaimTemplates=CLAIMS)
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
        "$patch": "replace",
    }
    revision = {"metadata": {"name": "db-abc"}, "data": {"spec": {"template": template}}}
    made = make_pod(owner, revision, 1)
    assert made["metadata"]["name"] == "db-1"
    assert made["metadata"]["labels"] == {
        "app": "db",
        "controller-revision-hash": "db-abc",
        "statefulset.kubernetes.io/pod-name": "db-1",
        "apps.kubernetes.io/pod-index": "1",
    }
    assert (made["spec"]["hostname"], made["spec"]["subdomain"]) == ("db-1", "dbs")
    assert made["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    (claim,) = make_claims(owner, 1)
    assert claim["metadata"] == {
        "name": "data-db-1",
        "namespace": "default",
        "labels": {"tier": "x", "app": "db"},
    }


@pytest.mark.parametrize(
    ("deleted", "scaled", "condemned", "expected"),
    [
        ("Retain", "Retain", True, []),
        ("Delete", "Retain", True, ["StatefulSet"]),
        ("Delete", "Retain", False, ["StatefulSet"]),
        ("Retain", "Delete", True, ["Pod"]),
        ("Retain", "Delete", False, []),
        ("Delete", "Delete", True, ["Pod"]),
        ("Delete", "Delete", False, ["StatefulSet"]),
    ],
)
def test_claims_go_as_the_policy_says(deleted: str, scaled: str, condemned: bool, expected: list[str]) -> None:
    owner = stateful_set(persistentVolumeClaimRetentionPolicy={"whenDeleted": deleted, "whenScaled": scaled})
    stranger = {"kind": "Thing", "name": "t"}
    for before in ([stranger], [stranger, {"kind": "StatefulSet", "name": "db"}, {"kind": "Pod", "name": "db-1"}]):
        claim = {"metadata": {"ownerReferences": before}}
        owners = claim_owners(owner, claim, pod("1"), condemned=condemned)
        assert [one["kind"] for one in owners] == ["Thing", *expected]


@pytest.mark.parametrize(
    ("pods", "current", "counts"),
    [
        ("0o 1o 2", "old", {"replicas": 3, "ready": 3, "current": 2, "updated": 1}),
        ("0o 1- 2x", "old", {"replicas": 3, "ready": 2, "current": 1, "updated": 1}),
        ("0 1 2", "new", {"replicas": 3, "ready": 3, "current": 3, "updated": 3}),
        ("", "old", {"replicas": 0}),
    ],
)
def test_the_status_counts_and_a_rollout_ends(pods: str, current: str, counts: dict[str, int]) -> None:
    status = status_of(stateful_set(), [pod(one) for one in pods.split()], "old", "new", NOW)
    assert (status["currentRevision"], status["updateRevision"]) == (current, "new")
    assert {name: status.get(f"{name}Replicas" if name != "replicas" else name) for name in counts} == counts
