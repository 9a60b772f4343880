"""Choosing SPDY or WebSocket, and the `X-Stream-Protocol-Version` of a SPDY upgrade."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pinnace.wire.http import RawConnection, Request, Response, UpgradeResponse

SPDY31 = "SPDY/3.1"


def plain(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """An error in plain text, as the streaming servers of Kubernetes give it before the upgrade."""
    fields = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"), *headers)
    return Response(status, fields, (message + "\n").encode())


def upgrade_to_spdy(
    request: Request, versions: Sequence[str], run: Callable[[RawConnection, str], Awaitable[None]]
) -> UpgradeResponse | Response:
    """Answer a SPDY upgrade; `run` gets the connection and the stream protocol both sides know."""
    headers = request.headers
    wants_upgrade = "upgrade" in headers.get("connection", "").lower()
    if not wants_upgrade or SPDY31.lower() not in headers.get("upgrade", "").lower():
        shown = request.headers.get("connection", ""), request.headers.get("upgrade", "")
        return plain(400, f"unable to upgrade: missing upgrade headers in request: Connection {shown[0]}, {shown[1]}")
    offered = [name.strip() for name in headers.get("x-stream-protocol-version", "").split(",") if name.strip()]
    if not offered:
        return plain(400, "unable to upgrade: X-Stream-Protocol-Version is required")
    chosen = next((name for name in offered if name in versions), None)
    if chosen is None:
        accepted = [("X-Accepted-Stream-Protocol-Versions", name) for name in versions]
        theirs, ours = " ".join(offered), " ".join(versions)
        message = "unable to upgrade: unable to negotiate protocol: "
        return plain(403, f"{message}client supports [{theirs}], server accepts [{ours}]", *accepted)

    async def serve(connection: RawConnection) -> None:
        await run(connection, chosen)

    fields = (("Connection", "Upgrade"), ("Upgrade", SPDY31), ("X-Stream-Protocol-Version", chosen))
    return UpgradeResponse(serve, fields)
