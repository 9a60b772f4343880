"""Which rules belong to which kind, and which resources are second views of another.

A version of a group shares its rules with the others, as their fields agree.
"""

from __future__ import annotations

from pinnace.apis.kind import Convert, Rules
from pinnace.machinery.meta import GVR

RULES: dict[tuple[str, str], Rules] = {}
"""By group and kind."""

VIEWS: dict[tuple[str, str, str], tuple[GVR, Convert | None, Convert | None]] = {}
"""By group, version and kind: where the objects are kept, and the way there and back."""
