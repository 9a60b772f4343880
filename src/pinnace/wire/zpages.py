"""What a server tells of itself to who looks for a fault: /statusz, /flagz, /configz and /debug/flags/v.

Paths, words and shapes are k8s.io/component-base's; statusz and flagz are there where the gates ComponentStatusz and
ComponentFlagz are on, as text and, to who asks by the Accept header, as objects.
https://kubernetes.io/docs/reference/instrumentation/zpages/.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj, format_time, utc_now
from pinnace.wire.http import Request, Response
from pinnace.wire.verbosity import set_verbosity

FLAGS = "/debug/flags"
_GROUP = "config.k8s.io"
_VERSIONS = {"v1alpha1": 35, "v1beta1": 36}  # of the structured pages, and the first minor with each
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only.\n"
)
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), _NOSNIFF)
_JSON = (("Content-Type", "application/json"), _NOSNIFF)
_INDEX = (
    "<html>\n<head>\n<title>/debug/flags/</title>\n</head>\n<body>\n/debug/flags/<br>\n<br>\nflags:<br>\n<table>\n"
    "<tr>v<br>\n</table>\n<br>\nfull flags configurable<br>\n</body>\n</html>\n"
)


@dataclass(slots=True, kw_only=True)
class ZPages:
    """The pages of one server; `answer` is for who may see them."""

    component: str  # kube-apiserver
    features: FeatureGates
    flags: Mapping[str, str] = field(default_factory=dict)  # as they were given or are by default
    configuration: tuple[str, Callable[[], Obj]] | None = None  # what /configz tells, and its key
    paths: Iterable[str] = ()  # where else to look
    debug_flags: bool = True  # whether the verbosity may be set
    started: datetime = field(default_factory=utc_now)

    def answer(self, request: Request) -> Response | None:
        """The answer for one of these paths; None for any other."""
        path = request.path.rstrip("/")
        if path == "/statusz" and self.features.enabled("ComponentStatusz"):
            return self._page(request, "Statusz", self._statusz, self._statusz_object)
        if path == "/flagz" and self.features.enabled("ComponentFlagz"):
            return self._page(request, "Flagz", self._flagz, lambda: {"flags": dict(sorted(self.flags.items()))})
        if path == "/configz" and self.configuration is not None:
            key, document = self.configuration
            return Response(200, _JSON, orjson.dumps({key: document()}))
        if self.debug_flags and path == f"{FLAGS}/v":
            return _set_verbosity(request)
        if self.debug_flags and f"{path}/".startswith(f"{FLAGS}/"):
            return Response(200, (("Content-Type", "text/html; charset=utf-8"),), _INDEX.encode())
        return None

    def _page(self, request: Request, kind: str, text: Callable[[], str], found: Callable[[], Obj]) -> Response:
        wanted = _wanted(request.headers.get("accept", ""), kind, self.features.minor)
        if wanted is None:
            return Response(406, _TEXT, b"406 Not Acceptable\n")
        if wanted == "":
            title = f"\n{self.component} {'flags' if kind == 'Flagz' else 'statusz'}\n"
            return Response(200, _TEXT, f"{title}{_WARNING}\n{text()}".encode())
        head = {"kind": kind, "apiVersion": f"{_GROUP}/{wanted}", "metadata": {"name": self.component}}
        return Response(200, _JSON, orjson.dumps(head | found()))

    def _flagz(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in sorted(self.flags.items()))

    @property
    def _uptime(self) -> int:
        return int((utc_now() - self.started).total_seconds())

    def _statusz(self) -> str:
        minutes, seconds = divmod(self._uptime, 60)
        hours, minutes = divmod(minutes, 60)
        lines = (
            f"Started: {self.started.strftime('%a %b %e %H:%M:%S UTC %Y')}",
            f"Up: {hours} hr {minutes:02d} min {seconds:02d} sec",
            f"Go version: {_language()}",
            f"Binary version: 1.{self.features.minor}.0",
            f"Emulation version: 1.{self.features.minor}",
            f"Paths: {' '.join(sorted({*self.paths, '/statusz'}))}",
        )
        return "".join(f"{line}\n" for line in lines)

    def _statusz_object(self) -> Obj:
        return {
            "startTime": format_time(self.started),
            "uptimeSeconds": self._uptime,
            "goVersion": _language(),
            "binaryVersion": f"1.{self.features.minor}.0",
            "emulationVersion": f"1.{self.features.minor}",
            "paths": sorted({*self.paths, "/statusz"}),
        }


def _language() -> str:
    return f"python{platform.python_version()}"


def _wanted(accept: str, kind: str, minor: int) -> str | None:
    """The version of the object that is asked for; empty for text; None for what there is not."""
    for part in accept.split(",") if accept else ("*/*",):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media in ("*/*", "text/*", "text/plain"):
            return ""
        told = dict(pair.partition("=")[::2] for pair in parameters)
        version = told.get("v", "")
        is_meant = media == "application/json" and (told.get("g"), told.get("as")) == (_GROUP, kind)
        if is_meant and minor >= _VERSIONS.get(version, minor + 1):
            return version
    return None


def _set_verbosity(request: Request) -> Response:
    if request.method != "PUT":
        return Response(406, _TEXT, b"unsupported http method\n")
    value = request.body.decode(errors="replace")
    try:
        level = int(value)
    except ValueError:
        why = f'strconv.ParseInt: parsing "{value}": invalid syntax'
        return Response(400, _TEXT, f"failed set klog.logging.verbosity {value}: {why}\n".encode())
    set_verbosity(level)
    return Response(200, _TEXT, f"successfully set klog.logging.verbosity to {value}\n".encode())


def in_go_names(document: Any) -> Any:
    """A configuration as servers show the one that they work with: names as Go's fields have them."""
    if isinstance(document, dict):
        return {_go_name(name): in_go_names(value) for name, value in document.items()}
    if isinstance(document, list):
        return [in_go_names(item) for item in document]
    return document


_INITIALS = {"qps": "QPS", "csr": "CSR", "hpa": "HPA", "ttl": "TTL"}


def _go_name(name: str) -> str:
    return _INITIALS.get(name) or name[:1].upper() + name[1:]
