"""Feature gates: which of Kubernetes' features are on, by the minor and what `--feature-gates` says.

Pure. Gates and their defaults are those of `feature_gates.py`; a gate that a minor no longer has is as it was left,
one that it has not yet is off.
https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pinnace.machinery.feature_gates import TABLE

Stage = Literal["ALPHA", "BETA", "", "DEPRECATED"]
"""As Kubernetes' metrics call it; stable is empty."""

_STAGES: Mapping[str, Stage] = {"a": "ALPHA", "b": "BETA", "g": "", "d": "DEPRECATED"}
_STEP = re.compile(r"(\d+)([abgd])([+-])(!?)")
_EVERY: Mapping[str, Stage] = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}
_NEVER = 1000  # the minor that a gate goes in which stays
_COMPONENT = "kube"  # whose gates these are, where a flag says so: kube:NAME=true
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class FeatureGateError(ValueError):
    """What was asked for cannot be; the text is Kubernetes', for whoever wrote the flag."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What one minor says of a gate."""

    stage: Stage
    default: bool
    locked: bool = False  # whether it can only be as it is
    known: bool = True  # whether the minor still has it


@cache
def gates_of(minor: int) -> Mapping[str, Gate]:
    """Every gate that has come by a minor, by name; those that are gone again are not `known`."""
    found = {name: Gate(stage, default=False) for name, stage in _EVERY.items()}
    for name, steps, gone in _rows():
        for since, gate in steps:
            if since <= minor:
                found[name] = gate if minor < gone else Gate(gate.stage, gate.default, gate.locked, known=False)
    return found


def _rows() -> Iterator[tuple[str, list[tuple[int, Gate]], int]]:
    for line in TABLE.strip().splitlines():
        name, *words = line.split()
        steps, gone = [], _NEVER
        for word in words:
            if word.startswith("<"):
                gone = int(word[1:])
            elif match := _STEP.fullmatch(word):
                since, stage, default, locked = match.groups()
                steps.append((int(since), Gate(_STAGES[stage], default == "+", bool(locked))))
        yield name, steps, gone


def parse_feature_gates(text: str) -> dict[str, bool]:
    """`A=true,B=false` as a flag says it. Raises FeatureGateError."""
    found: dict[str, bool] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = (each.strip() for each in part.partition("="))
        component, colon, name = key.partition(":")
        if colon and component != _COMPONENT:
            raise FeatureGateError(f"component not registered: {component}")
        name = name if colon else key
        if not equals:
            raise FeatureGateError(f"missing bool value for {name}")
        if value not in _TRUE + _FALSE:
            why = f'strconv.ParseBool: parsing "{value}": invalid syntax'
            raise FeatureGateError(f"invalid value of {name}={value}, err: {why}")
        found[name] = value in _TRUE
    return found


@dataclass(frozen=True, slots=True)
class FeatureGates:
    """The gates of one minor as they are set. What was asked for that a minor does not have is refused."""

    minor: int
    chosen: Mapping[str, bool] = field(default_factory=dict)  # what was said, AllAlpha and AllBeta included

    def __post_init__(self) -> None:
        """Raises FeatureGateError in Kubernetes' words."""
        gates = gates_of(self.minor)
        for name, on in self.chosen.items():
            gate = gates.get(name)
            if gate is None or not gate.known:
                raise FeatureGateError(f"unrecognized feature gate: {name}")
            if gate.locked and gate.default != on:
                words = f"cannot set feature gate {name} to {_word(on)}, feature is locked to {_word(gate.default)}"
                raise FeatureGateError(words)

    def enabled(self, name: str) -> bool:
        """Whether a feature is on; one that the minor does not know yet is not."""
        gate = gates_of(self.minor).get(name)
        return gate is not None and self._is_on(name, gate)

    def _is_on(self, name: str, gate: Gate) -> bool:
        if name in self.chosen:
            return self.chosen[name]
        if gate.known and not gate.locked:
            for every, stage in _EVERY.items():
                if gate.stage == stage and every in self.chosen:
                    return self.chosen[every]
        return gate.default

    def table(self) -> dict[str, tuple[Stage, bool]]:
        """Every gate of the minor, its stage and whether it is on: what `kubernetes_feature_enabled` tells."""
        return {
            name: (gate.stage, self._is_on(name, gate)) for name, gate in gates_of(self.minor).items() if gate.known
        }

    def warnings(self) -> list[str]:
        """What the log is to say of gates that were set though they will go."""
        gates = gates_of(self.minor)
        words = {"": "GA", "DEPRECATED": "deprecated"}
        return [
            f"Setting {words[gates[name].stage]} feature gate {name}={_word(on)}. "
            "It will be removed in a future release."
            for name, on in sorted(self.chosen.items())
            if gates[name].stage in words
        ]


def _word(on: bool) -> str:
    return "true" if on else "false"
