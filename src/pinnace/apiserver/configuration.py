"""Configuration files of the server, by their path. `machinery.configuration` reads what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pinnace.machinery.configuration import ConfigurationError, Shape, parse_configuration, refuse
from pinnace.machinery.meta import Obj

__all__ = ["ConfigurationError", "Shape", "parse_configuration", "read_configuration", "refuse"]


def read_configuration(path: Path, kinds: Mapping[tuple[str, str], Shape]) -> Obj:
    """The document in `path`, of one of `kinds` (apiVersion and kind). Raises ConfigurationError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f'failed to read file path "{path}": open {path}: {why.lower()}') from None
    return parse_configuration(text, kinds)
