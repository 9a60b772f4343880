"""One probe of one container: HTTP, TCP, gRPC or a command, and the words for how it went.

Plain sockets from the node to the pod's address, so that a probe costs no thread and no client library. Specified by
https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/; the texts are
those of Kubernetes, Go's network errors among them.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import httptools

from pinnace.cri.api import CriError, RuntimeService
from pinnace.kubelet.go_words import duration, rpc_error
from pinnace.machinery.meta import Obj

MAX_BODY = 10 * 1024
MAX_REDIRECTS = 10
USER_AGENT = "kube-probe/1.37"


class Result(NamedTuple):
    """How a probe went: success, warning (which counts as success), failure or unknown."""

    outcome: str
    output: str

    @property
    def ok(self) -> bool:
        return self.outcome in ("success", "warning")


class ProbeError(Exception):
    """The probe itself could not be carried out."""


def resolve_port(container: Obj, port: Any) -> int:
    """A port number from a number or the name of a container port."""
    if isinstance(port, int):
        number = port
    elif isinstance(port, str) and port.isdigit():
        number = int(port)
    else:
        named = [one["containerPort"] for one in container.get("ports") or () if one.get("name") == port]
        if not named:
            raise ProbeError(f"couldn't find port: {port} in container {container['name']}")
        number = named[0]
    if not 0 < number < 65536:
        raise ProbeError(f"invalid port number: {number}")
    return int(number)


async def check(probe: Obj, container: Obj, container_id: str, address: str, runtime: RuntimeService) -> Result:
    """Carry out a probe; raises ProbeError where that is impossible."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    if probe.get("exec"):
        return await check_exec(probe["exec"].get("command") or [], container_id, timeout, runtime)
    if probe.get("httpGet"):
        action = probe["httpGet"]
        return await check_http(http_target(action, container, address), headers_of(action), timeout)
    if probe.get("tcpSocket"):
        action = probe["tcpSocket"]
        return await check_tcp(action.get("host") or address, resolve_port(container, action["port"]), timeout)
    if probe.get("grpc"):
        from pinnace.kubelet.probes.grpc_health import check_grpc

        return await check_grpc(address, int(probe["grpc"]["port"]), probe["grpc"].get("service") or "", timeout)
    raise ProbeError(f"missing probe handler for {container['name']}")


async def check_exec(command: list[str], container_id: str, timeout: float, runtime: RuntimeService) -> Result:
    try:
        response = await runtime.exec_sync(container_id, command, timeout)
    except CriError as error:
        if error.code == "DEADLINE_EXCEEDED":
            words = " ".join(command)
            return Result("failure", f'command timed out: "{words}" timed out after {duration(timeout)}')
        raise ProbeError(rpc_error(error)) from error
    output = (response.stdout + response.stderr)[:MAX_BODY].decode(errors="replace")
    return Result("success" if response.exit_code == 0 else "failure", output)


# HTTP.


def http_target(action: Obj, container: Obj, address: str) -> str:
    """The URL to ask for."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or address
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    path = action.get("path") or "/"
    return f"{scheme}://{host}:{resolve_port(container, action['port'])}{path if path.startswith('/') else '/' + path}"


def headers_of(action: Obj) -> dict[str, str]:
    """The headers to send: the probe's own, and those that every probe has."""
    given = {one["name"]: one.get("value") or "" for one in action.get("httpHeaders") or ()}
    names = {name.lower() for name in given}
    if "user-agent" not in names:
        given["User-Agent"] = USER_AGENT
    if "accept" not in names:
        given["Accept"] = "*/*"
    return given


@dataclass(slots=True)
class _Answer:
    """An HTTP answer being parsed."""

    status: int = 0
    location: str = ""
    body: bytearray = field(default_factory=bytearray)
    headers_done: bool = False
    done: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.headers_done = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


async def check_http(url: str, headers: dict[str, str], timeout: float) -> Result:
    """GET a URL, following redirects on the same host."""
    asked = url
    try:
        async with asyncio.timeout(timeout):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await _get(url, headers)
                if not (300 <= answer.status < 400 and answer.location):
                    return _judge(answer)
                try:
                    following, host = _followed(url, answer.location)
                except ValueError as error:
                    why = f'failed to parse Location header "{answer.location}": parse "{answer.location}": {error}'
                    return Result("failure", f'Get "{url}": {why}')
                if host != urlsplit(asked).hostname:
                    return Result("warning", f"Probe terminated redirects, Response body: {_text(answer)}")
                url = following
            return Result("failure", f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return Result("failure", f'Get "{url}": {why}')
    except _DialError as error:
        return Result("failure", f'Get "{url}": {error}')
    except (ConnectionError, EOFError):
        return Result("failure", f'Get "{url}": EOF')
    except OSError as error:
        return Result("failure", f'Get "{url}": read tcp: {error.strerror or error}')
    except ValueError as error:
        return Result("failure", f'parse "{url}": {error}')
    except httptools.HttpParserError:
        why = "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
        return Result("failure", f'Get "{url}": {why}')


def _followed(url: str, location: str) -> tuple[str, str | None]:
    """Where an answer leads, and to which host. Raises ValueError for what is no URL."""
    following = urljoin(url, location)
    parts = urlsplit(following)
    _ = parts.port  # is read only now
    return following, parts.hostname


def _text(answer: _Answer) -> str:
    return bytes(answer.body[:MAX_BODY]).decode(errors="replace")


def _judge(answer: _Answer) -> Result:
    if 200 <= answer.status < 400:
        return Result("success", _text(answer))
    return Result("failure", f"HTTP probe failed with statuscode: {answer.status}")


class _DialError(Exception):
    """No connection, in Go's words."""


async def _dial(
    host: str, port: int, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return await asyncio.open_connection(host, port, ssl=context, limit=2**20)
    except ssl.SSLError as error:
        raise _DialError(f"tls: {error.reason or 'handshake failure'}") from error
    except OSError as error:
        raise _DialError(f"dial tcp {shown}: {_connect_words(error)}") from error
    except UnicodeError as error:
        raise _DialError(f"dial tcp: lookup {host}: no such host") from error


def _connect_words(error: OSError) -> str:
    texts = {
        errno.ECONNREFUSED: "connect: connection refused",
        errno.EHOSTUNREACH: "connect: no route to host",
        errno.ENETUNREACH: "connect: network is unreachable",
        errno.ETIMEDOUT: "connect: connection timed out",
        errno.ECONNRESET: "connect: connection reset by peer",
    }
    if error.errno in texts:
        return texts[error.errno]
    return f"lookup: {error.strerror or error}"


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _get(url: str, headers: dict[str, str]) -> _Answer:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await _dial(parts.hostname or "", port, _unverified() if secure else None)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": parts.netloc.rpartition("@")[2], **headers, "Connection": "close"}
        for name in [name for name in headers if name.lower() == "host"]:
            sent["Host"] = sent.pop(name) if name != "Host" else sent["Host"]
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> _Answer:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # as Go reads, and as many CGI scripts write
    while not answer.done and len(answer.body) < MAX_BODY:
        data = await reader.read(65536)
        if not data:
            if not answer.headers_done:
                raise EOFError
            break
        parser.feed_data(data)
        answer.status = parser.get_status_code()
    return answer


# TCP.


async def check_tcp(host: str, port: int, timeout: float) -> Result:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            _, writer = await _dial(host, port, None)
    except TimeoutError:
        return Result("failure", f"dial tcp {shown}: i/o timeout")
    except _DialError as error:
        return Result("failure", str(error))
    writer.close()
    return Result("success", "")
