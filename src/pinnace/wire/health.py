"""/healthz, /livez and /readyz of every server, check by check, and /metrics/slis: how the checks went.

Words are k8s.io/apiserver's; the figures are those of component-base's ComponentSLIs.
https://kubernetes.io/docs/reference/using-api/health-checks/, https://kubernetes.io/docs/reference/instrumentation/slis/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pinnace.machinery.metrics import Counter, Gauge, text
from pinnace.wire.http import Response

Check = Callable[[], str]
"""Empty when all is well, else why not."""

SLIS = "/metrics/slis"

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))


class Results:
    """How the checks of one server went whenever somebody asked."""

    def __init__(self) -> None:
        about = "This metric records the result of a single healthcheck."
        self._last = Gauge("kubernetes_healthcheck", about, ("name", "type"))
        about = "This metric records the results of all healthcheck."
        self._all = Counter("kubernetes_healthchecks_total", about, ("name", "status", "type"))

    def note(self, endpoint: str, name: str, *, well: bool) -> None:
        self._last.set(float(well), name, endpoint)
        self._all.inc(name, "success" if well else "error", endpoint)

    def text(self) -> bytes:
        """The answer of /metrics/slis."""
        return text((self._last, self._all)).encode()


def answer(
    endpoint: str,
    name: str,
    checks: Mapping[str, Check],
    verbose: bool = False,
    excluded: Sequence[str] = (),
    results: Results | None = None,
) -> Response:
    """The answer of `/<endpoint>`, or of `/<endpoint>/<name>` for one check; `results` keeps how the checks went."""
    if name:
        return _one(endpoint, name, checks, results)
    lines: list[str] = []
    failed = False
    for each, check in checks.items():
        if each in excluded:
            lines.append(f"[+]{each} excluded: ok")
        elif _why(endpoint, each, check, results):
            lines.append(f"[-]{each} failed: reason withheld")
            failed = True
        else:
            lines.append(f"[+]{each} ok")
    unknown = sorted({each for each in excluded if each not in checks})
    if unknown:
        lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(map(_quoted, unknown))}")
    if failed:
        return Response(500, _TEXT, ("\n".join(lines) + f"\n{endpoint} check failed\n").encode())
    if not verbose:
        return Response(200, _TEXT, b"ok")
    return Response(200, _TEXT, ("\n".join(lines) + f"\n{endpoint} check passed\n").encode())


def _one(endpoint: str, name: str, checks: Mapping[str, Check], results: Results | None) -> Response:
    check = checks.get(name)
    if check is None:
        return Response(404, _TEXT, b"404 page not found\n")
    why = _why(endpoint, name, check, results)
    return Response(500, _TEXT, f"internal server error: {why}\n".encode()) if why else Response(200, _TEXT, b"ok")


def _why(endpoint: str, name: str, check: Check, results: Results | None) -> str:
    why = check()
    if results is not None:
        results.note(endpoint, name, well=not why)
    return why


def _quoted(text: str) -> str:
    return f'"{text}"'
