"""What a command says while it works: steps with timings on a terminal, one JSON event a line for machines.

The events have the shape of minikube's `-o json`: CloudEvents (https://cloudevents.io/) with the step in `data`.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from pinnace.cluster.reasons import ClusterError


class Progress(Protocol):
    """Where a flow reports what it does."""

    def step(self, name: str, message: str) -> None:
        """A step begins, and the one before it is done."""

    def done(self, message: str) -> None:
        """All is done."""

    def warn(self, message: str) -> None: ...

    def fail(self, error: ClusterError) -> None: ...


class TerminalProgress:
    """One line a step, its duration at the end; colours where the terminal has them."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._errors = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._began = self._step_began = time.monotonic()
        self._open = ""

    def step(self, name: str, message: str) -> None:  # noqa: ARG002 - names are for machines
        self._finish()
        self._open, self._step_began = message, time.monotonic()
        if self._console.is_terminal:
            self._console.print(f"  [dim]•[/] {message} …", end="\r")

    def done(self, message: str) -> None:
        self._finish()
        self._console.print(f"[bold green]✓[/] {message} [dim]({time.monotonic() - self._began:.1f} s)[/]")

    def warn(self, message: str) -> None:
        self._finish()
        self._console.print(f"[yellow]! {message}[/]")

    def fail(self, error: ClusterError) -> None:
        self._open = ""
        self._errors.print(f"[bold red]✗[/] {error.message} [dim]({error.reason.id})[/]")
        if error.advice:
            self._errors.print(f"  {error.advice}")

    def _finish(self) -> None:
        if self._open:
            took = time.monotonic() - self._step_began
            self._console.print(f"  [green]✓[/] {self._open:<58} [dim]{took:5.2f} s[/]")
            self._open = ""


class JsonProgress:
    """One CloudEvent a line on standard output."""

    def __init__(self, total_steps: int, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._total = total_steps
        self._current = 0

    def step(self, name: str, message: str) -> None:
        self._emit(
            "step",
            {"currentstep": str(self._current), "totalsteps": str(self._total), "name": name, "message": message},
        )
        self._current += 1

    def done(self, message: str) -> None:
        self.step("Done", message)

    def warn(self, message: str) -> None:
        self._emit("warning", {"message": message})

    def fail(self, error: ClusterError) -> None:
        data = {
            "name": error.reason.id,
            "exitcode": str(error.reason.exit_code),
            "message": error.message,
            "advice": error.advice,
            "issues": "",
            "url": "",
        }
        self._emit("error", data)

    def _emit(self, kind: str, data: dict[str, str]) -> None:
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "pinnace",
            "type": f"io.pinnace.{kind}",
            "datacontenttype": "application/json",
            "data": data,
        }
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


@contextmanager
def reported(progress: Progress) -> Iterator[None]:
    """Report a ClusterError and end the program with its exit code."""
    try:
        yield
    except ClusterError as error:
        progress.fail(error)
        raise SystemExit(error.reason.exit_code) from None
