"""Logs of a server: one line a fact on standard error, and how much of it (`-v`), which may change as it runs.

Warnings and news are always told; from `-v 2` on also what helps to debug. What is not told costs a call, no more.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_DEBUG_FROM = 2


def _logger_class() -> type:
    """A class of its own, so that its `debug` may be exchanged: every logger of the process has it then."""
    return type("ServerLogger", (structlog.make_filtering_bound_logger(logging.DEBUG),), {})


_Logger: Any = _logger_class()
_tell = _Logger.debug


def _keep_quiet(self: Any, event: str, *arguments: Any, **facts: Any) -> None:
    """`debug`, where nobody wants to know."""


def configure_logging(verbosity: int) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=_Logger,
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    set_verbosity(verbosity)


def set_verbosity(verbosity: int) -> None:
    """From now on, for loggers in use too."""
    _Logger.debug = _tell if verbosity >= _DEBUG_FROM else _keep_quiet
