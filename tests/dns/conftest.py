"""Services, EndpointSlices and Namespaces in few words, and an API server's side of list and watch for them."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from pinnace.client.client import Client
from pinnace.machinery.meta import Obj, key_of


def make_service(name: str, *addresses: str, namespace: str = "default", ports=(("http", 80),), **spec) -> Obj:
    """A Service; headless where no address is given, unless `spec` says more."""
    listed = list(addresses) or ["None"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "clusterIP": listed[0],
            "clusterIPs": listed,
            "ports": [
                {"port": number, "protocol": "TCP", **({"name": port} if port else {})} for port, number in ports
            ],
            **spec,
        },
    }


def make_slice(service: str, *endpoints, namespace: str = "default", ports=(("http", 8080),), suffix: str = "a") -> Obj:
    """An EndpointSlice; endpoints are addresses, or (address, host name, conditions)."""
    listed = []
    for endpoint in endpoints:
        address, hostname, conditions = endpoint if isinstance(endpoint, tuple) else (endpoint, "", {})
        listed.append(
            {"addresses": [address], "conditions": conditions, **({"hostname": hostname} if hostname else {})}
        )
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{suffix}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv6" if any(":" in item["addresses"][0] for item in listed) else "IPv4",
        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports],
        "endpoints": listed,
    }


def make_namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


class FakeApi:
    """A transport that answers list and watch from memory; `put` and `delete` are what other users do."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Obj]] = {}
        self._watchers: dict[str, list[asyncio.Queue[Obj]]] = {}
        self._versions = itertools.count(1)
        self.client = Client(self)

    def put(self, obj: Obj) -> None:
        path = self._path(obj)
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(next(self._versions))}}
        known = self._objects.setdefault(path, {})
        self._tell(path, "MODIFIED" if key_of(obj) in known else "ADDED", obj)
        known[key_of(obj)] = obj

    def delete(self, obj: Obj) -> None:
        path = self._path(obj)
        gone = self._objects[path].pop(key_of(obj))
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(next(self._versions))}}
        self._tell(path, "DELETED", gone)

    def _path(self, obj: Obj) -> str:
        version = obj["apiVersion"]
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        return f"{prefix}/{obj['kind'].lower()}s"

    def _tell(self, path: str, kind: str, obj: Obj) -> None:
        for queue in self._watchers.get(path, ()):
            queue.put_nowait({"type": kind, "object": obj})

    async def request(self, method: str, path: str, **_: object) -> Obj:
        assert method == "GET"
        items = list(self._objects.get(path, {}).values())
        return {"kind": "List", "metadata": {"resourceVersion": str(next(self._versions))}, "items": items}

    async def watch(self, path: str, params: object) -> AsyncIterator[Obj]:
        queue: asyncio.Queue[Obj] = asyncio.Queue()
        self._watchers.setdefault(path, []).append(queue)
        while True:
            yield await queue.get()

    async def close(self) -> None: ...


class Making:
    service = staticmethod(make_service)
    slice = staticmethod(make_slice)
    namespace = staticmethod(make_namespace)


@pytest.fixture
def make() -> Making:
    return Making()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()
