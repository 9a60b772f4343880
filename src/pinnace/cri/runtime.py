"""A container runtime in use: its two services, whichever it is, and what manages the cgroups of its pods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnace.cri.api import ImageService, RuntimeService
    from pinnace.cri.engine.cgroups import Cgroups


@dataclass(frozen=True, slots=True)
class OpenRuntime:
    """Made in the event loop that uses it; `close` ends the use, not the runtime's containers."""

    runtime: RuntimeService
    images: ImageService
    cgroups: Cgroups
    close: Callable[[], Awaitable[None]]


def open_remote(endpoint: str, image_endpoint: str = "", request_timeout: float = 120.0) -> OpenRuntime:
    """The runtime behind a socket, which need not be there yet. Needs `pinnace[cri]`; raises ValueError."""
    from pinnace.cri.engine.cgroups import Cgroups
    from pinnace.cri.remote import RemoteImageService, RemoteRuntimeService

    runtime = RemoteRuntimeService(endpoint, request_timeout)
    images = RemoteImageService(image_endpoint or endpoint, request_timeout)

    async def close() -> None:
        await runtime.close()
        await images.close()

    return OpenRuntime(runtime, images, Cgroups(""), close)
