"""The objects every cluster has from its first moment: namespaces, the `kubernetes` Service, priority classes.

They are made through the ordinary request path, put right at every start, and made again when somebody deletes them.
https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from pinnace.apis.resources import ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, PRIORITY_CLASSES, SERVICES
from pinnace.apiserver.admission.scheduling import SYSTEM_PRIORITY_CLASSES
from pinnace.apiserver.identity import Addresses
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj
from pinnace.store.contract import StoreError

log = structlog.get_logger()

INTERVAL = 10.0  # seconds between looks at what must be there
SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


async def bootstrap(request: Request, service_cidr: str, addresses: Addresses | None, secure_port: int) -> None:
    """Make what is missing; raises ApiError or StoreError when the store refuses. Without `addresses` nothing is said
    of where the servers are."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(request, NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for priority_class in SYSTEM_PRIORITY_CLASSES:
        await _ensure(request, PRIORITY_CLASSES, "", priority_class)
    await _ensure(request, SERVICES, "default", _service(service_cidr, secure_port))
    if addresses is not None:
        await lead_to(request, await addresses.renew(), secure_port)


async def lead_to(request: Request, addresses: Sequence[str], secure_port: int) -> None:
    """Let the Service `kubernetes` lead to the servers at these addresses; to no fewer than one."""
    if not addresses:
        return
    await _ensure(request, ENDPOINTS, "default", _endpoints(addresses, secure_port), ("subsets",))
    await _ensure(request, ENDPOINT_SLICES, "default", _endpoint_slice(addresses, secure_port), ("endpoints", "ports"))


async def leave(request: Request, addresses: Addresses, secure_port: int) -> None:
    """Let the Service lead to the others, for this server ends."""
    try:
        await lead_to(request, await addresses.leave(), secure_port)
    except (ApiError, StoreError) as error:
        log.warning("cannot take this server out of the endpoints of kubernetes", error=str(error))


async def keep(request: Request, service_cidr: str, addresses: Addresses | None, secure_port: int) -> None:
    """Make again what is missing, every few seconds, until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            await bootstrap(request, service_cidr, addresses, secure_port)
        except (ApiError, StoreError) as error:
            log.warning("cannot put initial objects right", error=str(error))


async def _ensure(request: Request, resource: GVR, namespace: str, wanted: Obj, fields: tuple[str, ...] = ()) -> None:
    """Create the object, or bring `fields` of the one there is to what is wanted."""
    # Look first: a create would fail on the Service's address, which the existing one holds, before its name.
    path = resource.path(namespace, wanted["metadata"]["name"])
    try:
        found = await request("GET", path, None)
    except ApiError as error:
        if not error.is_not_found:
            raise
        try:
            await request("POST", resource.path(namespace), wanted)
        except ApiError as refused:  # another server over the same store may have been first: to name or address
            try:
                await request("GET", path, None)
            except ApiError:
                raise refused from None
        return
    if any(found.get(field) != wanted[field] for field in fields):
        try:
            await request("PUT", path, {**found, **{field: wanted[field] for field in fields}})
        except ApiError as error:
            if error.code != 409:  # else another server was first, and says the same or will be told so
                raise


def _meta(**more: Any) -> Obj:
    return {"name": "kubernetes", "namespace": "default", **more}


def _service(service_cidr: str, secure_port: int) -> Obj:
    """Of the first family alone: that is where the servers can be found."""
    ip = str(ipaddress.ip_network(service_cidr.split(",")[0])[1])
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(labels=labels),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": [_family(ip)],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": secure_port}],
        },
    }


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


def _endpoints(addresses: Sequence[str], secure_port: int) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": _meta(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
        "subsets": [
            {
                "addresses": [{"ip": address} for address in addresses],
                "ports": [{"name": "https", "port": secure_port, "protocol": "TCP"}],
            }
        ],
    }


def _endpoint_slice(addresses: Sequence[str], secure_port: int) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _meta(labels={"kubernetes.io/service-name": "kubernetes"}),
        "addressType": _family(addresses[0]),
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "port": secure_port, "protocol": "TCP"}],
    }
