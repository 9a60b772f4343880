"""Where the servers of a test's cluster log: to `logging`, which pytest captures; beside the tests, to a file.

structlog is configured only if the program under test has not done so itself.
"""

from __future__ import annotations

import logging
import sys


def log_to_logging() -> None:
    """One logger a module, `pinnace.…`, so that a test hears the servers when it fails and not before."""
    import structlog

    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log_to_logging()
