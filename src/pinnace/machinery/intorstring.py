"""Values that are a number or a percentage (`maxSurge: 25%`), and what they come to of a total."""

from __future__ import annotations

import re

_PERCENT = re.compile(r"([+-]?\d+)%", re.ASCII)


def is_percentage(value: int | str) -> bool:
    return isinstance(value, str) and bool(_PERCENT.fullmatch(value))


def scale(value: int | str, total: int, *, round_up: bool) -> int:
    """The number itself, or the percentage of `total`; raises ValueError in Kubernetes' words for other text."""
    if isinstance(value, int):
        return value
    match = _PERCENT.fullmatch(value)
    if not match:
        detail = "string is not a percentage" if not value.endswith("%") else f'strconv.Atoi: parsing "{value[:-1]}"'
        raise ValueError(f"invalid value for IntOrString: invalid type: {detail}")
    share = int(match[1]) * total
    return -(-share // 100) if round_up else share // 100
