"""What a request must wait for before the caches may answer it, where other servers write to the same store.

A read without a `resourceVersion`, and every write, sees what anybody was acknowledged before; a read of a revision
that another server has named waits for it a little. Over a store of our own there is nothing to wait for.
https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list.
"""

from __future__ import annotations

import asyncio

from pinnace.apiserver.call import Call
from pinnace.apiserver.handlers.read import parse_revision
from pinnace.apiserver.storage import storage_failure
from pinnace.store.contract import StoreError

FUTURE_SECONDS = 3.0  # a revision that has not come by then is refused
_READS = ("get", "list", "watch")


async def settle(call: Call) -> None:
    """Return when the caches may answer the call. Raises ApiError when the store cannot be asked."""
    store = call.api.storage.store
    if not store.is_shared:
        return
    asked = call.params.get("resourceVersion", "") if call.info.verb in _READS else ""
    revision = parse_revision(asked)
    if asked and revision <= store.revision:
        return  # 0 is any state, and this one has been reached
    try:
        if revision:
            async with asyncio.timeout(FUTURE_SECONDS):
                await store.reach(revision)
        else:
            await store.catch_up()
    except TimeoutError:
        pass  # the handler says that it is too large
    except StoreError as error:
        raise storage_failure(error) from error
