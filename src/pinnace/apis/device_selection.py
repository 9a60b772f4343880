"""Which devices a DeviceTaintRule is about.

Pure. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations.
"""

from __future__ import annotations

from pinnace.machinery.meta import Obj, get_in


def rule_selects(rule: Obj, driver: str, pool: str, device: str) -> bool:
    """Whether the rule is about the device: an empty selector is about all, none about nothing."""
    selector = get_in(rule, "spec", "deviceSelector")
    if selector is None:
        return False
    named = (selector.get("driver"), selector.get("pool"), selector.get("device"))
    return all(want in (None, "", has) for want, has in zip(named, (driver, pool, device), strict=True))
