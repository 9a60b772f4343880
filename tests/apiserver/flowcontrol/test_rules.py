"""Which schema a request falls under, what levels may do at a time, and how the objects of the cluster are kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apis.flow_control import (
    default_flow_schema,
    default_priority_level,
    validate_flow_schema,
    validate_priority_level,
)
from pinnace.apiserver.authn import User
from pinnace.apiserver.flowcontrol.bootstrap import AUTOUPDATE, LEVELS, SCHEMAS, mended
from pinnace.apiserver.flowcontrol.concurrency import Demand, Limits, Wanted, divide, limits, most_seats
from pinnace.apiserver.flowcontrol.matching import distinguisher, in_order, matches
from pinnace.apiserver.request_info import parse_request
from pinnace.machinery.meta import Obj

AUTHENTICATED = "system:authenticated"
ADMIN = User("kubernetes-admin", groups=("system:masters", AUTHENTICATED))
NODE = User("system:node:one", groups=("system:nodes", AUTHENTICATED))
MANAGER = User("system:kube-controller-manager", groups=(AUTHENTICATED,))
SCHEDULER = User("system:kube-scheduler", groups=(AUTHENTICATED,))
SYSTEM_ACCOUNT = User("system:serviceaccount:kube-system:x", groups=("system:serviceaccounts", AUTHENTICATED))
ENDPOINTS = User(
    "system:serviceaccount:kube-system:endpoint-controller", groups=("system:serviceaccounts", AUTHENTICATED)
)
ACCOUNT = User("system:serviceaccount:default:x", groups=("system:serviceaccounts", AUTHENTICATED))
JANE = User("jane", groups=(AUTHENTICATED,))
NOBODY = User("system:anonymous", groups=("system:unauthenticated",))

PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


@pytest.mark.parametrize(
    ("user", "method", "path", "schema", "flow"),
    [
        (ADMIN, "POST", PODS, "exempt", ""),
        (NODE, "PATCH", "/api/v1/nodes/one/status", "system-node-high", NODE.name),
        (NODE, "PUT", LEASES + "/one", "system-node-high", NODE.name),
        (NODE, "GET", PODS, "system-nodes", NODE.name),
        (MANAGER, "PUT", LEASES + "/kcm", "system-leader-election", MANAGER.name),
        (MANAGER, "GET", LEASES, "kube-controller-manager", "kube-system"),
        (MANAGER, "PUT", "/api/v1/namespaces/x/endpoints/a", "endpoint-controller", MANAGER.name),
        (MANAGER, "DELETE", PODS + "/a", "kube-controller-manager", "default"),
        (SCHEDULER, "POST", PODS + "/a/binding", "kube-scheduler", "default"),
        (ENDPOINTS, "POST", "/api/v1/namespaces/x/endpoints", "endpoint-controller", ENDPOINTS.name),
        (SYSTEM_ACCOUNT, "GET", "/api/v1/namespaces/x", "kube-system-service-accounts", "x"),
        (SYSTEM_ACCOUNT, "POST", LEASES, "system-leader-election", SYSTEM_ACCOUNT.name),
        (ACCOUNT, "GET", "/api/v1/nodes", "service-accounts", ACCOUNT.name),
        (JANE, "GET", PODS, "global-default", "jane"),
        (JANE, "GET", "/healthz", "probes", ""),
        (NOBODY, "GET", "/livez/ping", "probes", ""),
        (NOBODY, "GET", "/healthzz", "global-default", NOBODY.name),
        (NOBODY, "GET", "/version", "global-default", NOBODY.name),
    ],
)
def test_requests_fall_under_the_first_schema_that_speaks_of_them(
    user: User, method: str, path: str, schema: str, flow: str
) -> None:
    info = parse_request(method, path)

    found = next(each for each in in_order(SCHEMAS) if matches(each, user, info))

    assert (found["metadata"]["name"], distinguisher(found, user, info)) == (schema, flow)


def _rule(**more: Any) -> Obj:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    rule = {"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [{**everything, **more}]}
    return {"metadata": {"name": "x"}, "spec": {"matchingPrecedence": 1, "rules": [rule]}}


@pytest.mark.parametrize(
    ("rule", "method", "path", "expected"),
    [
        ({}, "GET", PODS, True),
        ({}, "GET", "/api/v1/nodes", False),
        ({"clusterScope": True}, "GET", "/api/v1/nodes", True),
        ({"clusterScope": True, "namespaces": []}, "GET", PODS, False),
        ({"namespaces": ["default"]}, "GET", PODS, True),
        ({"namespaces": ["other"]}, "GET", PODS, False),
        ({"resources": ["pods"]}, "GET", PODS + "/a/status", False),
        ({"resources": ["pods/status"]}, "PUT", PODS + "/a/status", True),
        ({"verbs": ["list"]}, "GET", PODS, True),
        ({"verbs": ["list"]}, "GET", PODS + "/a", False),
        ({"apiGroups": ["apps"]}, "GET", PODS, False),
        ({"apiGroups": [""]}, "GET", PODS, True),
        ({}, "GET", "/version", False),
    ],
)
def test_a_resource_rule_covers_verbs_groups_resources_and_namespaces(
    rule: Obj, method: str, path: str, expected: bool
) -> None:
    assert matches(_rule(**rule), JANE, parse_request(method, path)) is expected


def test_what_the_cluster_begins_with_is_valid_and_complete() -> None:
    for schema in SCHEMAS:
        default_flow_schema(same := {**schema, "spec": {**schema["spec"]}})
        assert same == schema
        assert validate_flow_schema(schema) == []
    for level in LEVELS:
        before = repr(level)
        default_priority_level(level)
        assert repr(level) == before
        assert validate_priority_level(level) == []
    names = {level["metadata"]["name"] for level in LEVELS}
    assert {schema["spec"]["priorityLevelConfiguration"]["name"] for schema in SCHEMAS} == names


def _found(wanted: Obj, annotation: str | None, generation: int = 1, **spec: Any) -> Obj:
    annotations = {} if annotation is None else {AUTOUPDATE: annotation}
    meta = {"name": wanted["metadata"]["name"], "generation": generation, "annotations": annotations}
    return {**wanted, "metadata": meta, "spec": {**wanted["spec"], **spec}}


@pytest.mark.parametrize(
    ("name", "annotation", "generation", "spec_is_kept", "annotation_after"),
    [
        ("global-default", "true", 2, True, "true"),
        ("global-default", "false", 2, False, "false"),
        ("global-default", None, 1, True, "true"),
        ("global-default", None, 2, False, "false"),
        ("global-default", "perhaps", 3, False, "false"),
        ("catch-all", "false", 2, True, "true"),
    ],
)
def test_the_annotation_says_whether_a_suggested_object_is_ours_to_keep(
    name: str, annotation: str | None, generation: int, spec_is_kept: bool, annotation_after: str
) -> None:
    wanted = next(each for each in SCHEMAS if each["metadata"]["name"] == name)
    found = _found(wanted, annotation, generation, matchingPrecedence=77)

    after = mended(found, wanted) or found

    assert (after["spec"] == wanted["spec"]) is spec_is_kept
    assert after["metadata"]["annotations"][AUTOUPDATE] == annotation_after
    assert mended(after, wanted) is None


def test_the_exempt_level_may_be_given_shares() -> None:
    wanted = LEVELS[0]
    found = _found(wanted, "true", 2, exempt={"nominalConcurrencyShares": 10, "lendablePercent": 50})

    assert mended(found, wanted) is None


def test_levels_share_the_servers_seats_as_kubernetes_does() -> None:
    found = limits({level["metadata"]["name"]: level["spec"] for level in LEVELS}, 600)

    assert {name: (each.nominal, each.least) for name, each in found.items()} == {
        "exempt": (0, 0),
        "catch-all": (13, 13),
        "system": (74, 50),
        "node-high": (98, 73),
        "leader-election": (25, 25),
        "workload-high": (98, 49),
        "workload-low": (245, 24),
        "global-default": (49, 24),
    }
    assert all(each.most == 600 for each in found.values())


@pytest.mark.parametrize(("percent", "most"), [(0, 100), (50, 150), (None, 100)])
def test_a_level_borrows_as_much_as_it_may(percent: int | None, most: int) -> None:
    limited: Obj = {"nominalConcurrencyShares": 1}
    if percent is not None:
        limited["borrowingLimitPercent"] = percent

    assert limits({"a": {"limited": limited}}, 100)["a"].most == most


@pytest.mark.parametrize(
    ("nominal", "hand", "most"),
    [(5, 6, 1), (10, 6, 1), (15, 6, 2), (20, 6, 3), (35, 6, 5), (100, 6, 15), (200, 6, 30), (10, 1, 2), (100, 20, 5)],
)
def test_no_request_may_take_a_level_for_itself(nominal: int, hand: int, most: int) -> None:
    assert most_seats(nominal, hand) == most


bounds = st.builds(
    lambda nominal, lent, borrowed: Limits(nominal, nominal - min(lent, nominal), nominal + borrowed),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 400),
)


@given(st.lists(st.tuples(bounds, st.builds(Wanted, st.floats(0, 500), st.integers(0, 500))), min_size=1, max_size=8))
def test_what_is_divided_stays_within_bounds_and_adds_up(levels: list[tuple[Limits, Wanted]]) -> None:
    by_name = {str(index): each for index, (each, _) in enumerate(levels)}

    found = divide(by_name, {str(index): wanted for index, (_, wanted) in enumerate(levels)})

    assert all(by_name[name].least <= given <= by_name[name].most for name, given in found.items())
    assert abs(sum(found.values()) - sum(each.nominal for each in by_name.values())) <= len(levels)


def test_a_busy_level_borrows_from_an_idle_one() -> None:
    both = {"busy": Limits(50, 25, 600), "idle": Limits(100, 10, 600)}

    assert divide(both, {"busy": Wanted(140, 140), "idle": Wanted(0, 0)}) == {"busy": 140, "idle": 10}
    assert divide(both, {"busy": Wanted(140, 140), "idle": Wanted(90, 90)}) == {"busy": 60, "idle": 90}
    assert divide(both, {"busy": Wanted(140, 140), "idle": Wanted(140, 140)}) == {"busy": 50, "idle": 100}


def test_demand_grows_at_once_and_is_forgotten_slowly() -> None:
    demand = Demand(0.0)
    demand.note(0.0, 40)
    busy = demand.settle(10.0)
    demand.note(10.0, 0)

    later = [demand.settle(10.0 * (2 + number)) for number in range(100)]

    assert busy == Wanted(40, 40)
    assert 38 < later[0].smoothed < 40
    assert later[-1].smoothed < 10
