"""Paths that change one part of an object: a namespace's finalizers, the approval of a certificate request."""

from __future__ import annotations

from pinnace.apiserver.call import Call, One
from pinnace.apiserver.decode import own
from pinnace.apiserver.handlers.pods import update_part
from pinnace.machinery.meta import Obj


async def finalize(call: Call) -> One:
    """PUT to namespaces/finalize: a controller that is done takes its finalizer away."""
    return await update_part(call, _only_finalizers)


def _only_finalizers(new: Obj, old: Obj) -> Obj:
    kept: Obj = own(old)
    kept["metadata"]["resourceVersion"] = new["metadata"].get("resourceVersion", "")
    kept["spec"] = {**(old.get("spec") or {}), "finalizers": (new.get("spec") or {}).get("finalizers") or []}
    if not kept["spec"]["finalizers"]:
        del kept["spec"]["finalizers"]
    return kept


def only_approval(new: Obj, old: Obj) -> Obj:
    """certificatesigningrequests/approval changes the conditions, and not the certificate."""
    kept: Obj = own(old)
    kept["metadata"] = new["metadata"]
    conditions = (new.get("status") or {}).get("conditions")
    status = {name: value for name, value in (old.get("status") or {}).items() if name != "conditions"}
    if conditions:
        status["conditions"] = conditions
    kept["status"] = own(status)
    return kept
