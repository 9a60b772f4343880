"""Which standard a namespace holds its pods to, as its labels say.

Specified in https://kubernetes.io/docs/concepts/security/pod-security-admission/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pinnace.machinery.errors import Cause, invalid_value

PRIVILEGED = "privileged"
LEVELS = (PRIVILEGED, "baseline", "restricted")  # each allows less than the one before it
LATEST = 1 << 16

_PREFIX = "pod-security.kubernetes.io/"
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)").fullmatch


@dataclass(frozen=True, slots=True)
class Standard:
    """A level as one minor version defined it."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"

    @property
    def strictness(self) -> int:
        return LEVELS.index(self.level)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is refused, what is noted for auditors, and what users are warned of."""

    enforce: Standard = Standard()
    audit: Standard = Standard()
    warn: Standard = Standard()

    @property
    def is_open(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED


OPEN = Policy()
"""What holds where neither a namespace nor the server's configuration says otherwise."""


def policy_of(labels: Mapping[str, str], defaults: Policy = OPEN) -> tuple[Policy, list[Cause]]:
    """The policy of a namespace, `defaults` where its labels are silent, and what is wrong with its labels.

    A level that is none enforces the strictest and asks for no audit and no warning.
    """
    errors: list[Cause] = []
    enforce = _standard(labels, "enforce", "restricted", defaults.enforce, errors)
    audit = _standard(labels, "audit", PRIVILEGED, defaults.audit, errors)
    warn = _standard(labels, "warn", PRIVILEGED, defaults.warn, errors)
    if f"{_PREFIX}enforce" in labels and f"{_PREFIX}warn" not in labels and enforce.strictness > warn.strictness:
        warn = Standard(enforce.level, warn.minor if f"{_PREFIX}warn-version" in labels else enforce.minor)
    return Policy(enforce, audit, warn), errors


def defaults_of(given: Mapping[str, str]) -> tuple[Policy, list[Cause]]:
    """The policy in the `defaults` of a PodSecurityConfiguration, and what is wrong with it."""
    errors: list[Cause] = []
    found = {}
    for mode in ("enforce", "audit", "warn"):
        level, version = given.get(mode) or PRIVILEGED, given.get(f"{mode}-version") or "latest"
        if level not in LEVELS:
            errors.append(invalid_value(f"defaults.{mode}", level, f"must be one of {', '.join(LEVELS)}"))
            level = PRIVILEGED
        minor = _minor(version)
        if minor is None:
            errors.append(invalid_value(f"defaults.{mode}-version", version, _BAD_VERSION))
        found[mode] = Standard(level, LATEST if minor is None else minor)
    return Policy(**found), errors


_BAD_VERSION = 'must be "latest" or "v1.x"'


def _minor(version: str) -> int | None:
    if version == "latest":
        return LATEST
    match = _VERSION(version)
    return int(match[1]) if match else None


def _standard(labels: Mapping[str, str], mode: str, otherwise: str, default: Standard, errors: list[Cause]) -> Standard:
    level_label, version_label = f"{_PREFIX}{mode}", f"{_PREFIX}{mode}-version"
    level = labels.get(level_label, default.level)
    if level not in LEVELS:
        errors.append(invalid_value(f"metadata.labels[{level_label}]", level, f"must be one of {', '.join(LEVELS)}"))
        level = otherwise
    if version_label not in labels:
        return Standard(level, default.minor)
    minor = _minor(labels[version_label])
    if minor is None:
        errors.append(invalid_value(f"metadata.labels[{version_label}]", labels[version_label], _BAD_VERSION))
    return Standard(level, LATEST if minor is None else minor)
