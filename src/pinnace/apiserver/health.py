"""/healthz, /livez and /readyz: whether the server lives and is ready, check by check.

https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pinnace.wire.http import Response

Check = Callable[[], str]
"""Empty when all is well, else why not."""

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))


def answer(endpoint: str, name: str, checks: Mapping[str, Check], verbose: bool, excluded: Sequence[str]) -> Response:
    """The answer of `/<endpoint>`, or of `/<endpoint>/<name>` for one check."""
    if name:
        if name not in checks:
            return Response(404, _TEXT, b"404 page not found\n")
        checks = {name: checks[name]}
    lines: list[str] = []
    failed: list[str] = []
    for each, check in checks.items():
        if each in excluded:
            lines.append(f"[+]{each} excluded: ok")
        elif check():
            lines.append(f"[-]{each} failed: reason withheld")
            failed.append(each)
        else:
            lines.append(f"[+]{each} ok")
    unknown = [each for each in excluded if each not in checks]
    if unknown:
        lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(map(_quoted, unknown))}")
    if failed:
        return Response(500, _TEXT, ("\n".join(lines) + f"\n{endpoint} check failed\n").encode())
    if not verbose or name:
        return Response(200, _TEXT, b"ok")
    return Response(200, _TEXT, ("\n".join(lines) + f"\n{endpoint} check passed\n").encode())


def _quoted(text: str) -> str:
    return f'"{text}"'
