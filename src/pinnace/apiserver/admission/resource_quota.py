"""ResourceQuota: what is made in a namespace is charged to its quotas, and refused when one has no room.

The charge is written to the quota's status before the object is stored, so that writers at the same time cannot both
take the last place; the quota controller corrects what came of objects that were not stored after all.
https://kubernetes.io/docs/concepts/policy/resource-quotas/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pinnace.apis.core.pod_resources import Amounts, add, amounts
from pinnace.apis.core.quota_usage import counted, in_scope, unmet, usage
from pinnace.apis.fields import status_of
from pinnace.apis.resources import RESOURCE_QUOTAS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.configuration import Configurations
from pinnace.apiserver.cache import CachedObject, Filter
from pinnace.apiserver.configuration import parse_configuration
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, utc_now
from pinnace.machinery.quantity import ZERO, Quantity

_CHANGING = {("", "services"), ("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims")}
"""Resources whose objects may come to cost more when they are updated."""


_REQUIREMENT = {"scopeName": str, "operator": str, "values": [str]}
_LIMITED = {"apiGroup": str, "resource": str, "matchContains": [str], "matchScopes": [_REQUIREMENT]}
_KINDS = {
    (version, kind): {"limitedResources": [_LIMITED]}
    for version, kind in (
        ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
        ("resourcequota.admission.k8s.io/v1", "Configuration"),
        ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
        ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
    )
}


class ResourceQuota(Plugin):
    """`limited` are resources that are made only where a quota counts them (`limitedResources`)."""

    def __init__(self, limited: Sequence[Obj] = ()) -> None:
        self._limited = list(limited)

    @classmethod
    def configured(cls, configurations: Configurations) -> Plugin:
        document = configurations.of("ResourceQuota")
        return cls(parse_configuration(document, _KINDS).get("limitedResources") or () if document else ())

    async def validate(self, attributes: Attributes) -> None:
        cache = attributes.call.api.storage.cache(RESOURCE_QUOTAS)
        limited = [one for one in self._limited if _is_of(one, attributes)] if self._limited else []
        if (not cache.objects and not limited) or not _concerns(attributes):
            return
        from pinnace.apiserver.storage import RETRIES

        paid: set[str] = set()
        for _ in range(RETRIES):
            there = list(cache.select(Filter(attributes.namespace)))
            if limited:
                _check_covered(attributes, limited, there)
            charges = _charges(attributes, [one for one in there if one.key not in paid])
            if attributes.dry_run or await _pay(attributes, charges, paid):
                return
        raise errors.modified("resourcequotas", "")


def _concerns(attributes: Attributes) -> bool:
    if not attributes.namespace or attributes.obj is None or attributes.resource == ("", "namespaces"):
        return False
    where = (attributes.operation, attributes.subresource)
    if where == ("CREATE", ""):
        key = f"{attributes.namespace}/{attributes.obj['metadata'].get('name')}"
        return attributes.call.cache.get(key) is None  # what exists already is refused later, and costs nothing
    if attributes.resource == ("", "pods"):
        return where == ("UPDATE", "resize")
    return where == ("UPDATE", "") and attributes.resource in _CHANGING


def _is_of(limited: Obj, attributes: Attributes) -> bool:
    group, plural = attributes.resource
    return (limited.get("apiGroup") or "", limited.get("resource")) == (group, plural)


def _check_covered(attributes: Attributes, limited: Sequence[Obj], quotas: Iterable[CachedObject]) -> None:
    """Raise 403 where something would be used that is limited, and that no quota of the namespace counts."""
    resource, obj = attributes.resource, attributes.obj
    assert obj is not None
    cost = _cost(attributes)
    names = {name for one in limited for name in cost if any(part in name for part in one.get("matchContains") or ())}
    wanted = [
        scope for one in limited for scope in one.get("matchScopes") or () if in_scope(_scoped(scope), resource, obj)
    ]
    for stored in quotas:
        quota = stored.obj()
        if not in_scope(quota, resource, obj):
            continue
        names -= set(counted(resource, status_of(quota).get("hard") or ()))
        wanted = [scope for scope in wanted if not _mentions(quota, scope)]
    if names:
        raise attributes.forbidden(f"insufficient quota to consume: {','.join(sorted(names))}")
    if wanted:
        shown = " ".join(_shown_scope(scope) for scope in wanted)
        raise attributes.forbidden(f"insufficient quota to match these scopes: [{shown}]")


def _scoped(scope: Obj) -> Obj:
    """A quota of that scope alone."""
    return {"spec": {"scopeSelector": {"matchExpressions": [scope]}}}


def _mentions(quota: Obj, scope: Obj) -> bool:
    spec = quota.get("spec") or {}
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return scope["scopeName"] in (spec.get("scopes") or ()) or any(
        one.get("scopeName") == scope["scopeName"] for one in expressions
    )


def _shown_scope(scope: Obj) -> str:
    return f"{{{scope['scopeName']} {scope.get('operator', '')} [{' '.join(scope.get('values') or ())}]}}"


async def _pay(attributes: Attributes, charges: list[tuple[CachedObject, Obj]], paid: set[str]) -> bool:
    """Write the charges, and note which quotas are `paid`; False when another write came before one of them."""
    from pinnace.store.contract import RevisionConflict

    storage = attributes.call.api.storage
    for stored, new in charges:
        try:
            await storage.replace(storage.cache(RESOURCE_QUOTAS), stored, new)
        except RevisionConflict:
            return False
        paid.add(stored.key)
    return True


def _charges(attributes: Attributes, quotas: Iterable[CachedObject]) -> list[tuple[CachedObject, Obj]]:
    """The quotas that the object counts under, each with what it will be; raises 403 when one has no room."""
    resource, obj = attributes.resource, attributes.obj
    assert obj is not None
    interested = []
    for stored in quotas:
        status = status_of(stored.obj())
        names = counted(resource, status.get("hard") or ())
        if names and in_scope(stored.obj(), resource, obj):
            _check_stated(attributes, stored.name, names, status)
            interested.append(stored)
    cost = _cost(attributes) if interested else {}
    charged = ((stored, _charged(attributes, stored, cost)) for stored in interested) if cost else ()
    return [(stored, new) for stored, new in charged if new is not None]


def _check_stated(attributes: Attributes, name: str, names: Iterable[str], status: Obj) -> None:
    assert attributes.obj is not None
    why = unmet(attributes.resource, attributes.obj, names)
    if why:
        raise attributes.forbidden(f"failed quota: {name}: {why}")
    unknown = sorted(set(names) - set(status.get("used") or ()))
    if unknown:
        raise attributes.forbidden(f"status unknown for quota: {name}, resources: {','.join(unknown)}")


def _cost(attributes: Attributes) -> Amounts:
    """What the request adds to the namespace's usage, without zeros."""
    now = utc_now()
    assert attributes.obj is not None
    cost = usage(attributes.resource, attributes.obj, now)
    negative = sorted(name for name, quantity in cost.items() if quantity < ZERO)
    if negative:
        raise attributes.forbidden(f"quota usage is negative for resource(s): {','.join(negative)}")
    if attributes.old is not None:
        before = usage(attributes.resource, attributes.old, now)
        cost = {name: quantity - before.get(name, ZERO) for name, quantity in cost.items()}
    return {name: quantity for name, quantity in cost.items() if quantity > ZERO}


def _charged(attributes: Attributes, stored: CachedObject, cost: Amounts) -> Obj | None:
    """The quota with `cost` added to what is used; None where it counts nothing of that."""
    status = status_of(stored.obj())
    hard, used = amounts(status.get("hard")), amounts(status.get("used"))
    asked = {name: quantity for name, quantity in cost.items() if name in hard}
    if not asked:
        return None
    total = add(used, asked)
    exceeded = [name for name in asked if total[name] > hard[name]]
    if exceeded:
        shown = [_shown({name: one[name] for name in exceeded if name in one}) for one in (asked, used, hard)]
        raise attributes.forbidden(
            f"exceeded quota: {stored.name}, requested: {shown[0]}, used: {shown[1]}, limited: {shown[2]}"
        )
    quota = stored.fresh()
    quota["status"]["used"] = {name: str(quantity) for name, quantity in total.items()}
    return quota


def _shown(listed: Mapping[str, Quantity]) -> str:
    return ",".join(f"{name}={quantity}" for name, quantity in sorted(listed.items()))
