"""One request and what becomes of it: what every step of the request path learns, for those that come after.

Counting, limits and the audit log work on it; handlers of resources work on the `Call` that is made of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pinnace.apiserver.authn import ANONYMOUS, User
from pinnace.apiserver.request_info import RequestInfo
from pinnace.wire.http import Request

if TYPE_CHECKING:
    import asyncio

    from pinnace.apiserver.audit.event import Record
    from pinnace.apiserver.call import Call
    from pinnace.apiserver.flowcontrol.level import Flow

UNKNOWN = RequestInfo("", "")


@dataclass(slots=True)
class Exchange:
    """`info` and `user` say nothing before the caller is authenticated."""

    request: Request
    info: RequestInfo = UNKNOWN
    user: User = ANONYMOUS
    began: float = field(default_factory=time.perf_counter)  # seconds
    call: Call | None = None  # of a request to a resource
    audit: Record | None = None  # of a request that is recorded, until it is answered
    recording: tuple[asyncio.Future[bool], ...] = ()  # its events that a blocking backend has yet to deliver
    flow: Flow | None = None  # of a request that is classified
    terminated: bool = False  # refused or given up for want of room or time
    panic: str = ""  # what went wrong inside the server
