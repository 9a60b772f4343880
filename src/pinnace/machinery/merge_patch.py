"""JSON Merge Patch: null removes, objects merge, everything else replaces (RFC 7386)."""

from __future__ import annotations

from typing import Any


def apply(original: Any, patch: Any) -> Any:
    """`original` changed by `patch`; neither is modified, and the result may share parts with both."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = apply(merged.get(key), value)
        else:
            merged[key] = value
    return merged


def create(original: Any, modified: Any) -> Any:
    """The smallest patch that turns `original` into `modified` (which must hold no nulls)."""
    if not isinstance(original, dict) or not isinstance(modified, dict):
        return modified
    patch: dict[str, Any] = {key: None for key in original if key not in modified}
    for key, value in modified.items():
        if key not in original:
            patch[key] = value
        elif original[key] != value or type(original[key]) is not type(value):
            both = isinstance(original[key], dict) and isinstance(value, dict)
            patch[key] = create(original[key], value) if both else value
    return patch
