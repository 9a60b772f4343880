"""Uids of objects: random UUIDs of version 4 (RFC 9562), made of randomness that is fetched for many at once.

A system call for each object would cost more than all the checks of its metadata.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

AT_ONCE = 256


def _fresh() -> Iterator[str]:
    while True:
        random = os.urandom(16 * AT_ONCE).hex()
        for start in range(0, len(random), 32):
            digits = random[start : start + 32]
            variant = "89ab"[int(digits[16], 16) & 3]
            yield f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


_uids = _fresh()


def fresh_uid() -> str:
    """A uid that nothing has had."""
    return next(_uids)
