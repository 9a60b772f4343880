"""Controllers running against the fake API, and somebody who plays kubelet and deployment's other partners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from pinnace.apis.resources import EVENTS, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.machinery.meta import Obj, format_time, key_of, utc_now
from tests.client.fake_api import FakeApi

Make = Callable[[Client, InformerFactory], Controller]


@asynccontextmanager
async def running(api: FakeApi, *makers: Make) -> AsyncIterator[list[Controller]]:
    """The controllers at work until the block is left."""
    informers = InformerFactory(api.client)
    controllers = [make(api.client, informers) for make in makers]
    informers.start()
    tasks = [asyncio.create_task(controller.run()) for controller in controllers]
    try:
        yield controllers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await informers.stop()


def pod_status(phase: str, *, ready: bool = False, ip: str = "") -> Obj:
    status: Obj = {
        "phase": phase,
        "conditions": [
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": format_time(utc_now())}
        ],
    }
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    return status


async def report(api: FakeApi, pod: Obj, phase: str = "Running", *, ready: bool = True) -> None:
    """What the pod's kubelet would say of it."""
    await api.set_status(PODS, key_of(pod), pod_status(phase, ready=ready and phase == "Running"))


@asynccontextmanager
async def kubelet(api: FakeApi, breaks: Callable[[Obj], bool] = lambda _: False) -> AsyncIterator[None]:
    """Runs every pod and makes it ready, but for those that `breaks` picks, which stay unready."""

    async def work() -> None:
        def fresh() -> list[Obj]:
            return [pod for pod in api.all(PODS) if not (pod.get("status") or {}).get("phase")]

        while True:
            for pod in await api.until(fresh, seconds=60):
                await report(api, pod, ready=not breaks(pod))

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def messages(api: FakeApi, reason: str = "") -> list[str]:
    """What events said."""
    return [event["message"] for event in api.all(EVENTS) if reason in ("", event["reason"])]


def conditions(obj: Obj | None) -> dict[str, tuple[str, str, str]]:
    """type -> (status, reason, message)"""
    found: Iterable[dict[str, Any]] = ((obj or {}).get("status") or {}).get("conditions") or ()
    return {one["type"]: (one["status"], one.get("reason", ""), one.get("message", "")) for one in found}
