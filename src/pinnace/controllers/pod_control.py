"""Creating and deleting the pods of a workload, with the events that people look for.

Pods are created in batches that double, so that a template the API server refuses costs one request, not hundreds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.controllers.expectations import Expectations
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, key_of, name_of, namespace_of, uid_of

BURST = 500  # pods made or deleted in one look at a workload


class PodControl:
    """Makes and deletes pods for owners of one kind."""

    def __init__(self, client: Client, recorder: EventRecorder, expectations: Expectations) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations = expectations

    async def create(self, owner: Obj, make: Callable[[int], Obj], count: int) -> tuple[int, ApiError | None]:
        """Create `make(0)` … `make(count - 1)`; how many came to be, and the first error.

        A batch with an error is the last one.
        """
        made, batch = 0, 1
        while made < count:
            size = min(batch, count - made)
            results = await asyncio.gather(
                *(self._create_one(owner, make(number)) for number in range(made, made + size)), return_exceptions=True
            )
            errors = [result for result in results if isinstance(result, BaseException)]
            made += size - len(errors)
            for error in errors:
                if not isinstance(error, ApiError):
                    raise error
                if namespace_is_going(error):
                    return made, None  # everything in it goes; nothing is wrong with the owner
                return made, error
            batch *= 2
        return made, None

    async def delete(self, owner: Obj, pods: Sequence[Obj]) -> ApiError | None:
        """Delete all of `pods` at once; the first error."""
        results = await asyncio.gather(*(self._delete_one(owner, pod) for pod in pods))
        return next((error for error in results if error is not None), None)

    async def _create_one(self, owner: Obj, pod: Obj) -> None:
        try:
            created = await self._client.create(PODS, pod)
        except ApiError as error:
            if not namespace_is_going(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self._expectations.created(key_of(owner), created)
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name_of(created)}")

    async def _delete_one(self, owner: Obj, pod: Obj) -> ApiError | None:
        try:
            await self._client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
        except ApiError as error:
            if error.is_not_found or error.is_conflict:
                return None  # gone already, or another pod of that name
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            return error
        self._expectations.deleted(key_of(owner), pod)
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")
        return None


def namespace_is_going(error: ApiError) -> bool:
    """Whether nothing can be made because the namespace is being deleted."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
