"""ValidatingAdmissionPolicies as functions: a policy compiled once, and what it decides of one request.

Nothing here knows of bindings, parameters or clients: the caller gives what expressions name, and gets decisions and
audit annotations. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pinnace.machinery.cel.admission import compile_conditions, compiled, environment, with_variables
from pinnace.machinery.cel.environment import TOTAL_BUDGET, CelError, Environment, Program
from pinnace.machinery.cel.evaluate import Budget
from pinnace.machinery.cel.types import BOOL, DYN, NULL, STRING, Type
from pinnace.machinery.cel.values import BudgetExceeded
from pinnace.machinery.errors import Cause, duplicate, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_c_identifier, is_qualified_name

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_LONGEST_MESSAGE = 5 * 1024


@dataclass(slots=True)
class Validation:
    program: Program
    message: Program | None
    raw: Obj


@dataclass(slots=True)
class Common:
    """What policies of both kinds have: conditions and variables."""

    conditions: list[tuple[str, Program]]
    variables: dict[str, Program]
    names: frozenset[str] = frozenset()  # everything any expression names


@dataclass(slots=True)
class Policy(Common):
    """A ValidatingAdmissionPolicy, compiled."""

    validations: list[Validation] = field(default_factory=list)
    annotations: list[tuple[str, Program]] = field(default_factory=list)
    fails: bool = True  # whether an expression that fails refuses the request


@dataclass(frozen=True, slots=True)
class Denial:
    """One refusal; an empty reason means Invalid."""

    message: str
    reason: str = ""
    index: int = 0  # of the validation


@dataclass(slots=True)
class Outcome:
    denials: list[Denial] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)


def compile_common(spec: Obj, causes: list[Cause], object_type: Type = DYN) -> tuple[Environment, Common]:
    """The environment of a policy's expressions, and what it has of conditions and variables."""
    base = environment(params=bool(spec.get("paramKind")), namespace=True, object_type=object_type)
    conditions = compile_conditions(base, spec.get("matchConditions") or (), "spec.matchConditions", causes)
    programs: dict[str, Program] = {}
    types: dict[str, Type] = {}
    inner = with_variables(base, types)
    for index, variable in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{index}]", variable.get("name") or ""
        if not name:
            causes.append(required(f"{path}.name", "name is not specified"))
        elif is_c_identifier(name):
            causes.append(invalid_value(f"{path}.name", name, "name is not a valid CEL identifier"))
        elif name in types:
            causes.append(duplicate(f"{path}.name", name))
        program = compiled(inner, variable.get("expression") or "", f"{path}.expression", (), causes)
        types[name] = program.result if program is not None else DYN
        if program is not None:
            programs[name] = program
        inner = with_variables(base, dict(types))
    names = [program.names for _, program in conditions] + [program.names for program in programs.values()]
    return inner, Common(conditions, programs, frozenset().union(*names))


def compile_policy(spec: Obj, object_type: Type = DYN) -> tuple[Policy, list[Cause]]:
    """The policy, without what does not compile, and what is wrong with its expressions."""
    causes: list[Cause] = []
    inner, common = compile_common(spec, causes, object_type)
    made = Policy(common.conditions, common.variables, fails=spec.get("failurePolicy") != "Ignore")
    for index, raw in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        program = compiled(inner, raw.get("expression") or "", f"{path}.expression", (BOOL,), causes)
        message = None
        if raw.get("messageExpression"):
            text = raw["messageExpression"]
            message = compiled(inner, text, f"{path}.messageExpression", (STRING,), causes)
        causes += _text_problems(raw, path)
        if program is not None:
            made.validations.append(Validation(program, message, raw))
    for index, raw in enumerate(spec.get("auditAnnotations") or ()):
        path, key = f"spec.auditAnnotations[{index}]", raw.get("key") or ""
        if not key:
            causes.append(required(f"{path}.key"))
        causes += [invalid_value(f"{path}.key", key, why) for why in (is_qualified_name(key) if key else ())]
        if key in (known for known, _ in made.annotations):
            causes.append(duplicate(f"{path}.key", key))
        text = raw.get("valueExpression") or ""
        program = compiled(inner, text, f"{path}.valueExpression", (STRING, NULL), causes)
        if program is not None:
            made.annotations.append((key, program))
    programs = [one.program for one in made.validations] + [program for _, program in made.annotations]
    programs += [one.message for one in made.validations if one.message is not None]
    made.names = common.names.union(*(program.names for program in programs))
    return made, causes


def _text_problems(raw: Obj, path: str) -> list[Cause]:
    message, reason = raw.get("message") or "", raw.get("reason")
    causes: list[Cause] = []
    if message and not message.strip():
        causes.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        causes.append(invalid_value(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in (raw.get("expression") or "").strip() and not message:
        causes.append(required(f"{path}.message", "message must be specified if expression contains line breaks"))
    if reason and reason not in REASONS:
        causes.append(not_supported(f"{path}.reason", reason, REASONS))
    return causes


class Composed(dict[str, Any]):
    """`variables`: each is worked out when an expression first asks for it."""

    def __init__(self, programs: Mapping[str, Program], known: Mapping[str, Any], budget: Budget) -> None:
        super().__init__()
        self._programs, self._budget = programs, budget
        self._known = {**known, "variables": self}

    def __missing__(self, name: str) -> Any:
        try:
            value = self._programs[name].evaluate(self._known, self._budget)
        except CelError as error:
            raise CelError(f'composited variable "{name}" fails to evaluate: {error}') from None
        self[name] = value
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._programs else default

    def __contains__(self, name: object) -> bool:
        return name in self._programs


def evaluation(common: Common, known: Mapping[str, Any]) -> tuple[dict[str, Any], Budget]:
    """What expressions are evaluated with, and the budget that they share."""
    budget = Budget(TOTAL_BUDGET)
    variables = Composed(common.variables, known, budget) if common.variables else {}
    return {**known, "variables": variables}, budget


def matches(
    conditions: Sequence[tuple[str, Program]], known: Mapping[str, Any], budget: Budget | None = None
) -> tuple[bool, str]:
    """Whether all conditions hold, and what went wrong: an error counts only where no condition is false."""
    problems = []
    for _, program in conditions:
        try:
            if program.evaluate(known, budget) is not True:
                return False, ""
        except (CelError, BudgetExceeded) as error:
            problems.append(failure(program, error))
    return not problems, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]" if problems else ""


def failure(program: Program, error: Exception) -> str:
    if isinstance(error, BudgetExceeded):
        return "validation failed due to running out of cost budget, no further validation rules will be run"
    return f"expression '{program.text}' resulted in error: {error}"


def decide(policy: Policy, known: Mapping[str, Any]) -> Outcome:
    """What a policy says of a request, with one set of parameters."""
    variables, budget = evaluation(policy, known)
    outcome = Outcome()
    holds, problem = matches(policy.conditions, variables, budget)
    if not holds:
        if problem and policy.fails:
            outcome.denials.append(Denial(problem))
        return outcome
    for index, validation in enumerate(policy.validations):
        denial = _denial(policy, validation, index, variables, budget)
        if denial is not None:
            outcome.denials.append(denial)
    for key, program in policy.annotations:
        _annotate(policy, key, program, variables, budget, outcome)
    return outcome


def _denial(
    policy: Policy, validation: Validation, index: int, variables: Mapping[str, Any], budget: Budget
) -> Denial | None:
    try:
        if validation.program.evaluate(variables, budget) is True:
            return None
    except (CelError, BudgetExceeded) as error:
        return Denial(failure(validation.program, error), index=index) if policy.fails else None
    raw = validation.raw
    said = _message(validation, variables, budget) or (raw.get("message") or "").strip()
    return Denial(said or f"failed expression: {raw['expression'].strip()}", raw.get("reason") or "", index)


def _message(validation: Validation, variables: Mapping[str, Any], budget: Budget) -> str:
    """What messageExpression says; empty where it cannot be used."""
    if validation.message is None:
        return ""
    try:
        said = str(validation.message.evaluate(variables, budget)).strip()
    except (CelError, BudgetExceeded):
        return ""
    return said if len(said.encode()) <= _LONGEST_MESSAGE and "\n" not in said else ""


def _annotate(
    policy: Policy, key: str, program: Program, variables: Mapping[str, Any], budget: Budget, outcome: Outcome
) -> None:
    try:
        value = program.evaluate(variables, budget)
    except (CelError, BudgetExceeded) as error:
        if policy.fails:
            outcome.denials.append(Denial(failure(program, error)))
        return
    if isinstance(value, str) and value.strip():
        outcome.annotations.append((key, value.strip()))
