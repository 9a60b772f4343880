"""What a kubelet needs of an API server beyond the controllers' fake: nodeName selectors, graceful deletion, tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pinnace.apis.core.pod_defaults import default_pod
from pinnace.apis.resources import CONFIG_MAPS, EVENTS, PODS, SECRETS
from pinnace.client.transport import JSON, STRATEGIC_MERGE_PATCH, Params
from pinnace.machinery import strategic_merge
from pinnace.machinery.errors import conflict
from pinnace.machinery.meta import GVK, Obj, format_time, utc_now
from pinnace.machinery.schema import Schemas
from tests.client.fake_api import FakeApi

_SCHEMAS = Schemas.load(37)


class NodeApi(FakeApi):
    """One node's view; every pod in it belongs to that node."""

    async def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, content_type: str = JSON
    ) -> Obj:
        if content_type == STRATEGIC_MERGE_PATCH and path.endswith("/status"):
            return await self._patch_status(path, body)
        if method == "DELETE" and "/pods/" in path:
            found = self._graceful(path, body or {})
            if found is not None:
                return found
        if path.endswith("/token"):
            return {"status": {"token": "a.b.c", "expirationTimestamp": "2099-01-01T00:00:00Z"}}
        return await super().request(
            method, path, params=_every_node(path, params), body=body, content_type=content_type
        )

    def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        return super().watch(path, _every_node(path, params))

    async def _patch_status(self, path: str, patch: Obj) -> Obj:
        whole = path.removesuffix("/status")
        old = await super().request("GET", whole)
        kind = GVK("", "v1", old["kind"])
        wanted = (patch.get("metadata") or {}).get("uid")
        if wanted not in (None, old["metadata"]["uid"]):
            raise conflict("pods", old["metadata"]["name"], "uid")
        patch = {"status": patch["status"]}
        new = strategic_merge.apply(old, patch, _SCHEMAS.for_gvk(kind))
        return await super().request(
            "PUT",
            path,
            body={
                **new,
                "metadata": {
                    "name": old["metadata"]["name"],
                    **{name: value for name, value in old["metadata"].items() if name != "resourceVersion"},
                },
            },
        )

    def _graceful(self, path: str, options: Obj) -> Obj | None:
        """Mark a pod for deletion; None where it goes at once."""
        parts = path.split("/")
        key = f"{parts[-3]}/{parts[-1]}"
        pod = self.find(PODS, key)
        if pod is None:
            return None
        if options.get("gracePeriodSeconds") == 0:
            pod["metadata"].pop("finalizers", None)
            return None
        grace = options.get("gracePeriodSeconds", pod["spec"].get("terminationGracePeriodSeconds", 30))
        metadata = {**pod["metadata"], "deletionGracePeriodSeconds": grace}
        metadata.setdefault("deletionTimestamp", format_time(utc_now()))
        metadata["finalizers"] = ["test/held"]  # until the kubelet deletes with no grace at all
        return self._store(PODS, {**pod, "metadata": metadata}, "MODIFIED")

    # For tests.

    async def add_pod(self, name: str, **spec: Any) -> Obj:
        """A pod bound to the node, defaulted as the API server does."""
        pod: Obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        default_pod(pod)
        pod["spec"]["nodeName"] = "n1"
        pod["status"] = {"phase": "Pending"}
        return await self.client.create(PODS, pod)

    def change_spec(self, name: str, **fields: Any) -> None:
        """Give a pod another spec and the generation after its present one."""
        pod = self.find(PODS, f"default/{name}") or {}
        metadata = {**pod["metadata"], "generation": (pod["metadata"].get("generation") or 1) + 1}
        self._store(PODS, {**pod, "metadata": metadata, "spec": {**pod["spec"], **fields}}, "MODIFIED")

    def status_of(self, key: str) -> Obj:
        return (self.find(PODS, key) or {}).get("status") or {}

    async def phase(self, name: str, phase: str) -> Obj:
        """Wait until a pod has a phase; its status."""
        await self.until(lambda: self.status_of(f"default/{name}").get("phase") == phase)
        return self.status_of(f"default/{name}")

    async def container(self, name: str, check: Any) -> Obj:
        """Wait until a pod's first container status satisfies `check`; that status."""

        def found() -> Any:
            listed = self.status_of(f"default/{name}").get("containerStatuses") or [{}]
            return check(listed[0]) and listed[0]

        return await self.until(found)

    async def gone(self, name: str) -> None:
        await self.until(lambda: self.find(PODS, f"default/{name}") is None)

    def told(self) -> list[str]:
        """Every event, `reason: message`."""
        return [f"{event['reason']}: {event['message']}" for event in self.all(EVENTS)]

    async def hears(self, text: str) -> None:
        await self.until(lambda: any(text in one for one in self.told()))

    async def add_config_map(self, name: str, **data: str) -> Obj:
        metadata = {"name": name, "namespace": "default"}
        return await self.client.create(
            CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        )

    async def add_secret(self, name: str, **data: str) -> Obj:
        metadata = {"name": name, "namespace": "default"}
        return await self.client.create(
            SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        )


def _every_node(path: str, params: Params | None) -> dict[str, str]:
    """The parameters without a selector by node, which every pod here fits."""
    kept = dict(params or {})
    if "/pods" in path and kept.get("fieldSelector", "").startswith("spec.nodeName="):
        del kept["fieldSelector"]
    return kept
