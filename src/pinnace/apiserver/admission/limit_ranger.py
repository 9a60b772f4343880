"""LimitRanger: pods and claims keep to the LimitRanges of their namespace, which fill in what containers leave out.

https://kubernetes.io/docs/concepts/policy/limit-range/.
"""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.apis.core.limits import broken_by_claim, broken_by_pod, fill_in
from pinnace.apis.resources import LIMIT_RANGES
from pinnace.apiserver.admission.chain import Attributes, Plugin, aggregated
from pinnace.apiserver.cache import Filter
from pinnace.machinery.meta import Obj, is_deleting

_PODS = ("", "pods")
_CLAIMS = ("", "persistentvolumeclaims")


class LimitRanger(Plugin):
    concerns = frozenset((_PODS, _CLAIMS))

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.operation == "CREATE" and attributes.resource == _PODS and not attributes.subresource:
            assert attributes.obj is not None
            for limit_range in _ranges(attributes):
                fill_in(attributes.obj, limit_range)

    async def validate(self, attributes: Attributes) -> None:
        obj, old = attributes.obj, attributes.old
        if obj is None or not _concerns(attributes) or (old is not None and is_deleting(old)):
            return
        broken = broken_by_pod if attributes.resource == _PODS else broken_by_claim
        for limit_range in _ranges(attributes):
            messages = broken(obj, limit_range)
            if messages:
                raise attributes.forbidden(aggregated(messages))


def _concerns(attributes: Attributes) -> bool:
    if attributes.resource == _PODS:  # what a pod's containers ask for changes by a resize alone
        where = (attributes.operation, attributes.subresource)
        return where in (("CREATE", ""), ("UPDATE", "resize"))
    return attributes.resource == _CLAIMS and not attributes.subresource


def _ranges(attributes: Attributes) -> Iterator[Obj]:
    cache = attributes.call.api.storage.cache(LIMIT_RANGES)
    if cache.objects:
        for found in cache.select(Filter(attributes.namespace)):
            yield found.obj()
