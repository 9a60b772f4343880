"""Which address families a Service has: one or both, in which order, and what may become of them.

`settle` works out what an author left open from the families that the cluster has; the rest judges. Specified in
https://kubernetes.io/docs/concepts/services-networking/dual-stack/ and KEP-563.
"""

from __future__ import annotations

from collections.abc import Sequence

from pinnace.apis.checks import every, optional_one_of, unique
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj

HEADLESS = "None"
FAMILIES = ("IPv4", "IPv6")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")

_POLICY = "spec.ipFamilyPolicy"
_SET_FOR_GOOD = "may not change once set"


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`; of a range, too."""
    return "IPv6" if ":" in address else "IPv4"


def is_headless(spec: Obj) -> bool:
    return spec.get("clusterIPs") == [HEADLESS]


def _is_by_hand(spec: Obj) -> bool:
    """Whether nothing here can know of which families the endpoints are: their author lists them."""
    return spec.get("clusterIP") == HEADLESS and not spec.get("selector")


def mirror_cluster_ip(spec: Obj, before: Obj | None) -> None:
    """`clusterIP` is the first of `clusterIPs`; who knows only the one changes both."""
    ip, ips = spec.get("clusterIP"), spec.get("clusterIPs")
    if before is None:
        if ip and not ips:
            spec["clusterIPs"] = [ip]
        return
    old_ip, same = before.get("clusterIP"), (ips or None) == (before.get("clusterIPs") or None)
    if ip and ip != old_ip and same:
        spec["clusterIPs"] = [ip]
    elif old_ip and not ip and same:
        spec.pop("clusterIPs", None)


# What an author left open.


def settle(spec: Obj, before: Obj | None, served: Sequence[str]) -> list[Cause]:
    """Fill in `ipFamilyPolicy` and `ipFamilies`, in place, and cut what an author gave up.

    `before` is the spec of the Service as it was. `served` are the cluster's families, first the one that Services have
    by default. Returns what cannot be.
    """
    if spec.get("type") == "ExternalName" or (before is not None and _prefers_as_before(spec, before)):
        return []
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = _default_policy(spec, before)
    if errors := validate_families(spec):
        return errors
    if before is not None:
        errors += _release(spec, before)
    errors += _too_many_for_one(spec)
    errors += _families_of_addresses(spec, served)
    if errors:
        return errors
    single = spec["ipFamilyPolicy"] == "SingleStack"
    if _is_by_hand(spec):
        families = spec.get("ipFamilies") or [served[0]]
        spec["ipFamilies"] = families if single else _both(families)
        return []
    if errors := _unserved(spec, served):
        return errors
    families = spec.get("ipFamilies") or [served[0]]
    spec["ipFamilies"] = families if single or len(served) < 2 else _both(families)
    return []


def _prefers_as_before(spec: Obj, before: Obj) -> bool:
    """Whether nothing was asked of a Service that takes what it gets: it must not follow a change of the cluster."""
    return (
        spec.get("type") == before.get("type")
        and spec.get("ipFamilyPolicy") == before.get("ipFamilyPolicy") == "PreferDualStack"
        and (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (before.get("ipFamilies") or [])
    )


def _default_policy(spec: Obj, before: Obj | None) -> str:
    kept: str | None = (before or {}).get("ipFamilyPolicy")
    return kept or ("RequireDualStack" if _is_by_hand(spec) else "SingleStack")


def _release(spec: Obj, before: Obj) -> list[Cause]:
    """To say `SingleStack` and no more gives up the second of both; who leaves it out must say so, too."""
    policy = spec["ipFamilyPolicy"]
    errors = []
    for field, what in (("clusterIPs", "secondary cluster IP"), ("ipFamilies", "secondary IP family")):
        new, old = spec.get(field) or [], before.get(field) or []
        if policy == "SingleStack":
            if new == old and len(new) > 1:
                spec[field] = new[:1]
        elif 0 < len(new) < len(old):
            errors.append(invalid_value(_POLICY, policy, f"must be 'SingleStack' to release the {what}"))
    return errors


def _too_many_for_one(spec: Obj) -> list[Cause]:
    if spec["ipFamilyPolicy"] != "SingleStack":
        return []
    why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    return [
        invalid_value(_POLICY, "SingleStack", why.format(what))
        for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(field) or ()) == 2
    ]


def _families_of_addresses(spec: Obj, served: Sequence[str]) -> list[Cause]:
    """Addresses that are asked for say their families, too."""
    if is_headless(spec):
        return []
    errors, families = [], list(spec.get("ipFamilies") or ())
    ips = spec.get("clusterIPs") or []
    for index, ip in enumerate(ips[len(families) :], len(families)):
        if family_of(ip) in served:
            families.append(family_of(ip))
        else:
            why = f"{family_of(ip)} is not configured on this cluster"
            errors.append(invalid_value(f"spec.clusterIPs[{index}]", ips, why))
    if families:
        spec["ipFamilies"] = families
    return errors


def _unserved(spec: Obj, served: Sequence[str]) -> list[Cause]:
    errors = []
    if spec["ipFamilyPolicy"] == "RequireDualStack" and len(served) < 2:
        why = "this cluster is not configured for dual-stack services"
        errors.append(invalid_value(_POLICY, "RequireDualStack", why))
    return errors + [
        invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(spec.get("ipFamilies") or ())
        if family not in served
    ]


def _both(families: list[str]) -> list[str]:
    return [*families, *(family for family in FAMILIES if family not in families)]


# What is wrong.


def validate_families(spec: Obj) -> list[Cause]:
    """`clusterIPs`, `ipFamilies` and `ipFamilyPolicy`, each alone and beside the others."""
    if spec.get("type") == "ExternalName":
        return []
    ip, ips, families = spec.get("clusterIP"), spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    errors: list[Cause] = []
    if ip and not ips:
        errors.append(required("spec.clusterIPs"))
    elif ip and ips[0] != ip:
        errors.append(invalid_value("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    elif ips and not ip:
        errors.append(invalid_value("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        errors += optional_one_of(f"spec.ipFamilies[{index}]", family, FAMILIES)
    errors += unique("spec.ipFamilies", families)
    errors += optional_one_of(_POLICY, spec.get("ipFamilyPolicy"), POLICIES)
    return errors + _addresses(ips, families)


def _addresses(ips: list[str], families: list[str]) -> list[Cause]:
    wrong: list[Cause] = []
    for index, ip in enumerate(ips):
        if index or ip != HEADLESS:
            wrong += every(f"spec.clusterIPs[{index}]", ip, names.is_ip(ip))
        elif len(ips) > 1:
            wrong.append(invalid_value("spec.clusterIPs", ips, "'None' must be the first and only value"))
    errors = list(wrong)
    if len(ips) > 2:
        errors.append(invalid_value("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if wrong or ips == [HEADLESS]:
        return errors
    if len(ips) > 1 and len({family_of(ip) for ip in ips}) < 2:
        errors.append(invalid_value("spec.clusterIPs", ips, "may specify no more than one IP for each IP family"))
    for index, (ip, family) in enumerate(zip(ips, families, strict=False)):
        if family in FAMILIES and family_of(ip) != family:
            why = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            errors.append(invalid_value(f"spec.clusterIPs[{index}]", ip, why))
    return errors


def validate_family_change(spec: Obj, before: Obj) -> list[Cause]:
    """A second address and family may come and go; the first stay for as long as the Service has any."""
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return []
    errors = [] if is_headless(spec) and is_headless(before) else _kept(spec, before, "clusterIPs", "clusterIP")
    if not is_headless(spec) and not is_headless(before):
        errors += _kept(spec, before, "ipFamilies", "ipFamily")
    return errors


def _kept(spec: Obj, before: Obj, field: str, single: str) -> list[Cause]:
    new, old = spec.get(field) or [], before.get(field) or []
    errors = [
        invalid_value(f"spec.{field}[{index}]", new, _SET_FOR_GOOD)
        for index, (now, then) in enumerate(zip(new, old, strict=False))
        if now != then
    ]
    if len(new) >= len(old):
        return errors
    if not new:
        errors.append(invalid_value(f"spec.{field}[0]", new, f"primary {single} can not be unset"))
    elif spec.get("ipFamilyPolicy") != "SingleStack":
        why = f"must be set to 'SingleStack' when releasing the secondary {single}"
        errors.append(invalid_value(_POLICY, spec.get("ipFamilyPolicy"), why))
    return errors
