"""How Go prints durations and gRPC errors: people search for these texts, so they are printed the same way here.

Pure (https://pkg.go.dev/time#Duration.String, https://pkg.go.dev/google.golang.org/grpc/status).
"""

from __future__ import annotations

from pinnace.cri.api import CriError
from pinnace.machinery.duration import go_duration as duration

__all__ = ("aggregate", "duration", "os_error", "rpc_error")


def rpc_error(error: CriError) -> str:
    """`rpc error: code = NotFound desc = …`."""
    code = "".join(word.capitalize() for word in error.code.split("_"))
    return f"rpc error: code = {code} desc = {error.message}"


def os_error(error: Exception) -> str:
    """`/path: no such file or directory` of what the system refuses; any other error as it is."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}"


def aggregate(errors: list[str]) -> str:
    """Several errors as one: `[a, b]`, each once; a single one as it is."""
    distinct = list(dict.fromkeys(errors))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"
