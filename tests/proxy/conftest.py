"""Services and EndpointSlices in few words, and an API server's side of list and watch for them."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from pinnace.client.client import Client
from pinnace.machinery.meta import Obj, key_of


def make_service(name: str = "web", ip: str = "10.96.0.10", *, ports=((80, "TCP", 0),), status=None, **spec) -> Obj:
    """A Service in `default`; ports are (port, protocol, node port), named p<port> where there are several."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort" if any(node_port for _, _, node_port in ports) else "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": [
                {
                    "port": port,
                    "protocol": protocol,
                    **({"nodePort": node_port} if node_port else {}),
                    **({"name": f"p{port}"} if len(ports) > 1 else {}),
                }
                for port, protocol, node_port in ports
            ],
            **spec,
        },
        "status": status or {},
    }


def make_slice(name: str = "web", *endpoints, port: int = 8080, protocol: str = "TCP", port_name: str = "") -> Obj:
    """An EndpointSlice of the Service `name`; endpoints are addresses, or (address, node name, conditions)."""
    listed = []
    for endpoint in endpoints:
        address, node, conditions = endpoint if isinstance(endpoint, tuple) else (endpoint, "n1", {})
        listed.append({"addresses": [address], "nodeName": node, "conditions": conditions})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-abcde{port_name}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": protocol}],
        "endpoints": listed,
    }


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


@pytest.fixture
def make() -> Making:
    return Making()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()
