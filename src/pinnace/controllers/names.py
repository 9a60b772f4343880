"""Short hashes for the names of what controllers make, so that the same content gets the same name.

The characters are those of `k8s.io/apimachinery/pkg/util/rand`: no vowels, so names spell no words.
"""

from __future__ import annotations

import json
from typing import Any

_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def short_hash(content: Any, collisions: int | None = None) -> str:
    """FNV-1a of the content's JSON; `collisions` counts the names that were taken before."""
    data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    if collisions is not None:
        data += collisions.to_bytes(8, "little")
    digest = 2166136261
    for byte in data:
        digest = (digest ^ byte) * 16777619 & 0xFFFFFFFF
    return "".join(_SAFE[ord(digit) % len(_SAFE)] for digit in str(digest))
