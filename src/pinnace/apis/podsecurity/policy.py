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


def policy_of(labels: Mapping[str, str]) -> tuple[Policy, list[Cause]]:
    """The policy of a namespace, and what is wrong with its labels.

    A level that is none enforces the strictest and asks for no audit and no warning.
    """
    errors: list[Cause] = []
    enforce = _standard(labels, "enforce", "restricted", errors)
    audit = _standard(labels, "audit", PRIVILEGED, errors)
    warn = _standard(labels, "warn", PRIVILEGED, errors)
    if f"{_PREFIX}warn" not in labels and enforce.level != PRIVILEGED:
        warn = Standard(enforce.level, warn.minor if f"{_PREFIX}warn-version" in labels else enforce.minor)
    return Policy(enforce, audit, warn), errors


def _standard(labels: Mapping[str, str], mode: str, otherwise: str, errors: list[Cause]) -> Standard:
    level_label, version_label = f"{_PREFIX}{mode}", f"{_PREFIX}{mode}-version"
    level, version = labels.get(level_label, PRIVILEGED), labels.get(version_label, "latest")
    if level not in LEVELS:
        errors.append(invalid_value(f"metadata.labels[{level_label}]", level, f"must be one of {', '.join(LEVELS)}"))
        level = otherwise
    minor = LATEST
    if version != "latest":
        match = _VERSION(version)
        if match:
            minor = int(match[1])
        else:
            why = 'must be "latest" or "v1.x"'
            errors.append(invalid_value(f"metadata.labels[{version_label}]", version, why))
    return Standard(level, minor)
