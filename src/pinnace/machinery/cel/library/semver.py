"""Kubernetes' semantic versions. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-semver-library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type, opaque
from pinnace.machinery.cel.values import CelError, Opaque

function = Functions(since=33)
_NUMBER = r"(0|[1-9]\d*)"
_PART = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_PART}(?:\.{_PART})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_LOOSE = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Semver(Opaque):
    numbers: tuple[int, int, int]
    before: tuple[str, ...]  # what says it comes before the release: alpha.1
    cel_type: ClassVar[Type] = opaque("kubernetes.Semver")

    @property
    def order(self) -> tuple[object, ...]:
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.before)
        return (self.numbers, not parts, parts)


def _read(text: str, loosely: bool = False) -> Semver:
    """Raises ValueError. Loosely: a leading v, missing parts and leading zeros are forgiven."""
    if loosely and (match := _LOOSE.fullmatch(text)):
        text = ".".join(str(int(part or 0)) for part in match.groups()[:3]) + match[4]
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError("no such version")
    numbers = (int(found[1]), int(found[2]), int(found[3]))
    return Semver(numbers, tuple(found[4].split(".")) if found[4] else ())


@function("semver(string): kubernetes.Semver", "semver(string, bool): kubernetes.Semver")
def _semver(text: str, loosely: bool = False) -> Semver:
    try:
        return _read(text, loosely)
    except ValueError:
        raise CelError(f'invalid semantic version "{text}"') from None


@function("isSemver(string): bool", "isSemver(string, bool): bool")
def _is_semver(text: str, loosely: bool = False) -> bool:
    try:
        _read(text, loosely)
    except ValueError:
        return False
    return True


function("(kubernetes.Semver).major(): int")(lambda one: one.numbers[0])
function("(kubernetes.Semver).minor(): int")(lambda one: one.numbers[1])
function("(kubernetes.Semver).patch(): int")(lambda one: one.numbers[2])
function("(kubernetes.Semver).isLessThan(kubernetes.Semver): bool")(lambda one, two: one.order < two.order)
function("(kubernetes.Semver).isGreaterThan(kubernetes.Semver): bool")(lambda one, two: one.order > two.order)
function("(kubernetes.Semver).compareTo(kubernetes.Semver): int")(
    lambda one, two: int(one.order > two.order) - int(one.order < two.order)
)
