"""Services of one family and of both: what an author left open, and what may become of it.

https://kubernetes.io/docs/concepts/services-networking/dual-stack/#dual-stack-service-configuration-scenarios.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apis.core.service_families import mirror_cluster_ip, settle, validate_families, validate_family_change
from pinnace.machinery.meta import Obj

SINGLE, BOTH, BOTH_SIX_FIRST = ("IPv4",), ("IPv4", "IPv6"), ("IPv6", "IPv4")
FOUR, SIX = "10.96.0.9", "fd00::9"


def settled(served: tuple[str, ...], spec: Obj, before: Obj | None = None) -> tuple[str, list[str], list[str]]:
    """Policy, families and addresses; in place of the policy, what cannot be."""
    new: Obj = {"type": "ClusterIP", "selector": {"app": "web"}, **spec}
    mirror_cluster_ip(new, before)
    causes = settle(new, before, served)
    said = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
    return said or new["ipFamilyPolicy"], new.get("ipFamilies") or [], new.get("clusterIPs") or []


def headless(**more: Any) -> Obj:
    return {"clusterIP": "None", **more}


NEW = {
    "nothing said": ((BOTH, {}), ("SingleStack", ["IPv4"])),
    "the first range is of IPv6": ((BOTH_SIX_FIRST, {}), ("SingleStack", ["IPv6"])),
    "one that is not the first": ((BOTH, {"ipFamilies": ["IPv6"]}), ("SingleStack", ["IPv6"])),
    "both where there are": ((BOTH, {"ipFamilyPolicy": "PreferDualStack"}), ("PreferDualStack", ["IPv4", "IPv6"])),
    "both, in the author's order": (
        (BOTH, {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
        ("PreferDualStack", ["IPv6", "IPv4"]),
    ),
    "both where there is one": ((SINGLE, {"ipFamilyPolicy": "PreferDualStack"}), ("PreferDualStack", ["IPv4"])),
    "both required": ((BOTH_SIX_FIRST, {"ipFamilyPolicy": "RequireDualStack"}), ("RequireDualStack", ["IPv6", "IPv4"])),
    "the family of the address": ((BOTH, {"clusterIP": SIX}), ("SingleStack", ["IPv6"])),
    "headless": ((BOTH, headless()), ("SingleStack", ["IPv4"])),
    "headless and both": ((BOTH, headless(ipFamilyPolicy="PreferDualStack")), ("PreferDualStack", ["IPv4", "IPv6"])),
    "by hand": ((SINGLE, headless(selector={})), ("RequireDualStack", ["IPv4", "IPv6"])),
    "by hand, the other first": (
        (SINGLE, headless(selector={}, ipFamilies=["IPv6"])),
        ("RequireDualStack", ["IPv6", "IPv4"]),
    ),
    "by hand, one": ((SINGLE, headless(selector={}, ipFamilyPolicy="SingleStack")), ("SingleStack", ["IPv4"])),
}


@pytest.mark.parametrize(("given_", "wanted"), NEW.values(), ids=list(NEW))
def test_a_new_service_gets_the_families_it_may_have(
    given_: tuple[tuple[str, ...], Obj], wanted: tuple[str, list[str]]
) -> None:
    assert settled(*given_)[:2] == wanted


POLICY = "spec.ipFamilyPolicy: Invalid value:"
WANTS_BOTH = "\"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack'"
REFUSED = {
    "both required of one": (
        (SINGLE, {"ipFamilyPolicy": "RequireDualStack"}),
        f'{POLICY} "RequireDualStack": this cluster is not configured for dual-stack services',
    ),
    "a family the cluster has not": (
        (SINGLE, {"ipFamilies": ["IPv6"]}),
        'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
    ),
    "an address of that family": (
        (SINGLE, {"clusterIP": SIX}),
        f'spec.clusterIPs[0]: Invalid value: ["{SIX}"]: IPv6 is not configured on this cluster',
    ),
    "two families of a single stack": (
        (BOTH, {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"}),
        f"{POLICY} {WANTS_BOTH} when multiple IP families are specified",
    ),
    "two addresses without a policy": (
        (BOTH, {"clusterIP": FOUR, "clusterIPs": [FOUR, SIX]}),
        f"{POLICY} {WANTS_BOTH} when multiple cluster IPs are specified",
    ),
    "an address of another family than the first": (
        (BOTH, {"clusterIP": FOUR, "ipFamilies": ["IPv6"]}),
        f'spec.clusterIPs[0]: Invalid value: "{FOUR}": expected an IPv6 value as indicated by `ipFamilies[0]`',
    ),
}


@pytest.mark.parametrize(("given_", "words"), REFUSED.values(), ids=list(REFUSED))
def test_families_that_cannot_be_are_refused(given_: tuple[tuple[str, ...], Obj], words: str) -> None:
    assert settled(*given_)[0] == words


ONE: Obj = {
    "type": "ClusterIP",
    "clusterIP": FOUR,
    "clusterIPs": [FOUR],
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "selector": {"app": "web"},
}
TWO: Obj = {
    **ONE,
    "clusterIPs": [FOUR, SIX],
    "ipFamilies": ["IPv4", "IPv6"],
    "ipFamilyPolicy": "PreferDualStack",
}
CHANGES = {
    "one becomes both": (
        (ONE, {"ipFamilyPolicy": "PreferDualStack"}, BOTH),
        ("PreferDualStack", ["IPv4", "IPv6"], [FOUR]),
    ),
    "one would be both": ((ONE, {"ipFamilyPolicy": "PreferDualStack"}, SINGLE), ("PreferDualStack", ["IPv4"], [FOUR])),
    "both become one by policy alone": (
        (TWO, {"ipFamilyPolicy": "SingleStack"}, BOTH),
        ("SingleStack", ["IPv4"], [FOUR]),
    ),
    "both become one in every word": (
        (TWO, {"ipFamilyPolicy": "SingleStack", "clusterIPs": [FOUR], "ipFamilies": ["IPv4"]}, BOTH),
        ("SingleStack", ["IPv4"], [FOUR]),
    ),
    "both stay though the cluster has one now": ((TWO, {}, SINGLE), ("PreferDualStack", ["IPv4", "IPv6"], [FOUR, SIX])),
    "one stays though the cluster has both now": (
        ({**ONE, "ipFamilyPolicy": "PreferDualStack"}, {}, BOTH),
        ("PreferDualStack", ["IPv4"], [FOUR]),
    ),
    "a policy left out is kept": ((TWO, {"ipFamilyPolicy": None}, BOTH), (*settled(BOTH, TWO, TWO),)),
}


@pytest.mark.parametrize(("given_", "wanted"), CHANGES.values(), ids=list(CHANGES))
def test_a_service_goes_from_one_family_to_both_and_back(
    given_: tuple[Obj, Obj, tuple[str, ...]], wanted: tuple[str, list[str], list[str]]
) -> None:
    before, changes, served = given_
    assert settled(served, {**before, **changes}, before) == wanted


def test_the_second_of_both_is_not_lost_by_leaving_it_out() -> None:
    assert settled(BOTH, {**TWO, "clusterIPs": [FOUR], "ipFamilies": ["IPv4"]}, TWO)[0] == (
        "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary "
        "cluster IP; spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the "
        "secondary IP family"
    )


SINGULAR = {
    "a new one says the singular": ({"clusterIP": FOUR}, None, [FOUR]),
    "a new one says nothing": ({}, None, []),
    "the singular was changed": ({"clusterIP": "10.96.0.8", "clusterIPs": [FOUR]}, ONE, ["10.96.0.8"]),
    "the singular was cleared": ({"clusterIPs": [FOUR]}, ONE, []),
    "both were changed": ({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.7"]}, ONE, ["10.96.0.7"]),
}


@pytest.mark.parametrize(("spec", "before", "wanted"), SINGULAR.values(), ids=list(SINGULAR))
def test_a_client_may_know_the_singular_alone(spec: Obj, before: Obj | None, wanted: list[str]) -> None:
    spec = dict(spec)
    mirror_cluster_ip(spec, before)
    assert (spec.get("clusterIPs") or []) == wanted


WRONG = {
    "the plural alone": (
        {"clusterIPs": [FOUR]},
        [f'spec.clusterIPs: Invalid value: ["{FOUR}"]: must be empty when `clusterIP` is not specified'],
    ),
    "another first": (
        {"clusterIP": FOUR, "clusterIPs": ["10.96.0.8"]},
        ['spec.clusterIPs: Invalid value: ["10.96.0.8"]: first value must match `clusterIP`'],
    ),
    "two of one family": (
        {"clusterIP": FOUR, "clusterIPs": [FOUR, "10.96.0.8"]},
        [f'spec.clusterIPs: Invalid value: ["{FOUR}","10.96.0.8"]: may specify no more than one IP for each IP family'],
    ),
    "None and more": (
        {"clusterIP": "None", "clusterIPs": ["None", FOUR]},
        [f'spec.clusterIPs: Invalid value: ["None","{FOUR}"]: \'None\' must be the first and only value'],
    ),
    "three": (
        {"clusterIP": FOUR, "clusterIPs": [FOUR, SIX, "10.96.0.8"]},
        [f'spec.clusterIPs: Invalid value: ["{FOUR}","{SIX}","10.96.0.8"]: may only hold up to 2 values'],
    ),
}


@pytest.mark.parametrize(("spec", "words"), WRONG.values(), ids=list(WRONG))
def test_addresses_that_do_not_agree_are_refused(spec: Obj, words: list[str]) -> None:
    assert [f"{cause.field}: {cause.message}" for cause in validate_families(spec)] == words


def test_the_first_address_and_family_are_for_good() -> None:
    other = {**ONE, "clusterIP": SIX, "clusterIPs": [SIX], "ipFamilies": ["IPv6"]}
    assert [f"{cause.field}: {cause.message}" for cause in validate_family_change(other, ONE)] == [
        f'spec.clusterIPs[0]: Invalid value: ["{SIX}"]: may not change once set',
        'spec.ipFamilies[0]: Invalid value: ["IPv6"]: may not change once set',
    ]
    bare = headless(clusterIPs=["None"], ipFamilies=["IPv6"])
    assert not validate_family_change(bare, {**bare, "ipFamilies": ["IPv4"]}), "nothing was given out"


policies = st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack", None])
orders = st.sampled_from([[], ["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]])
clusters = st.sampled_from([SINGLE, ("IPv6",), BOTH, BOTH_SIX_FIRST])


@given(policies, orders, st.sampled_from([None, "None"]), clusters)
def test_what_is_settled_is_settled(
    policy: str | None, families: list[str], cluster_ip: str | None, served: tuple[str, ...]
) -> None:
    spec: Obj = {"type": "ClusterIP", "selector": {"a": "b"}, "ipFamilies": families, "ipFamilyPolicy": policy}
    if cluster_ip:
        spec |= {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]}
    if settle(spec, None, served):
        return
    assert set(spec["ipFamilies"]) <= set(served)
    assert spec["ipFamilies"][: len(families)] == families
    assert (len(spec["ipFamilies"]) == 1) == (spec["ipFamilyPolicy"] == "SingleStack" or len(served) == 1)
    again = {**spec}
    assert not settle(again, spec, served)
    assert again == spec
