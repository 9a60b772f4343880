"""Rules in CEL in schemas of custom resources (`x-kubernetes-validations`): compiled once, asked on every write.

`compile_rules` is asked for every schema of a definition that passed all other checks, `Rules.validate` for every
object that is valid by its schema. Neither raises for anything a user wrote. Specified in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pinnace.machinery.cel import cost
from pinnace.machinery.cel.conversion import Convert, converter
from pinnace.machinery.cel.crd_checks import field_path, rule_problems, show_rule
from pinnace.machinery.cel.environment import TOTAL_BUDGET, CelError, CompileError, Environment, Program
from pinnace.machinery.cel.evaluate import Budget
from pinnace.machinery.cel.schema_types import MAX_REQUEST_BYTES, least_size, schema_type
from pinnace.machinery.cel.types import BOOL, STRING, Type, optional_of
from pinnace.machinery.cel.values import NONE, BudgetExceeded, Maybe
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj

KEY = "x-kubernetes-validations"
NEWEST = 99  # every function there is


def compile_rules(raw: Obj, path: str, old: Obj | None = None) -> tuple[Rules | None, list[Cause]]:
    """The rules of a schema (None where it has none), and what is wrong with them or with their estimated cost.

    `raw` is the `openAPIV3Schema`, `old` the one before an update, whose expressions are not priced again; causes begin
    with `path`: `spec.validation.openAPIV3Schema`.
    """
    compiler = _Compiler(path, set(_texts(old)) if old else set())
    root = compiler.node(raw, path, _Place(resource=True))
    causes = compiler.causes + compiler.total(path)
    return (Rules(root) if root is not None else None), causes


def _texts(raw: Any) -> Iterable[str]:
    """Every expression in a schema."""
    if isinstance(raw, dict):
        for rule in raw.get(KEY) or () if isinstance(raw.get(KEY), list) else ():
            yield rule.get("rule") or ""
            yield rule.get("messageExpression") or ""
        for child in raw.values():
            yield from _texts(child)
    elif isinstance(raw, list):
        for child in raw:
            yield from _texts(child)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the schema a node stands."""

    resource: bool = False
    count: int | None = 1  # how many values the node has at most
    uncorrelatable: str = ""  # the list within which old and new values are not told apart


@dataclass(slots=True)
class _Rule:
    """One rule, ready to ask."""

    program: Program
    raw: Obj
    message: Program | None
    field: str  # what its fieldPath adds to the path
    uses_old: bool
    optional_old: bool


@dataclass(slots=True)
class _Node:
    """A node with rules, or above one."""

    type_name: str
    rules: list[_Rule]
    convert: Convert | None  # of values that are not objects, where data are not values already
    fields: dict[str, _Node] = field(default_factory=dict)
    values: _Node | None = None  # of a map
    items: _Node | None = None  # of a list
    keys: tuple[str, ...] | None = None  # by which elements correlate


class _Compiler:
    def __init__(self, path: str, known: set[str]) -> None:
        self.causes: list[Cause] = []
        self._root = path
        self._known = known  # expressions stored before, which cost no longer refuses
        self._costs: list[tuple[str, int]] = []

    def node(self, raw: Obj, path: str, place: _Place) -> _Node | None:
        """The rules of a schema and those below; None where there are none."""
        of = schema_type(raw, "self", resource=place.resource)
        rules = [
            rule
            for index, one in enumerate(raw.get(KEY) or ())
            if (rule := self._rule(one, raw, of, f"{path}.{KEY}[{index}]", place)) is not None
        ]
        made = _Node(str(raw.get("type") or ""), rules, None)
        made.convert = converter(of) if of is not None else None
        self._below(made, raw, path, place)
        if not (rules or made.fields or made.values or made.items):
            return None
        if "default" in raw and not self.causes:
            check = _Check()
            check.node(made, raw["default"], _ABSENT, f"{path}.default")
            self.causes += check.causes
        return made

    def _below(self, made: _Node, raw: Obj, path: str, place: _Place) -> None:
        for name, child in (raw.get("properties") or {}).items():
            inner = _Place(False, place.count, place.uncorrelatable)
            if (found := self.node(child, f"{path}.properties[{name}]", inner)) is not None:
                made.fields[name] = found
        values = raw.get("additionalProperties")
        if isinstance(values, dict):
            inner = _Place(False, _times(place.count, raw.get("maxProperties")), place.uncorrelatable)
            made.values = self.node(values, f"{path}.additionalProperties", inner)
        items = raw.get("items")
        if isinstance(items, dict):
            correlates = raw.get("x-kubernetes-list-type") == "map"
            made.keys = tuple(raw.get("x-kubernetes-list-map-keys") or ()) if correlates else None
            lost = place.uncorrelatable or ("" if correlates else path)
            made.items = self.node(
                items, f"{path}.items", _Place(False, _times(place.count, raw.get("maxItems")), lost)
            )

    def _rule(self, one: Obj, raw: Obj, of: Type | None, path: str, place: _Place) -> _Rule | None:
        problems = rule_problems(one, raw, path)
        self.causes += problems
        text = one.get("rule") or ""
        if of is None or not text.strip():
            return None
        if place.count is None:  # as many as a request holds
            place = replace(place, count=MAX_REQUEST_BYTES // (least_size(raw) + 1))
        old = optional_of(of) if one.get("optionalOldSelf") else of
        environment = Environment(NEWEST, {"self": of, "oldSelf": old})
        program = self._compile(
            environment, text, one, f"{path}.rule", (BOOL, "cel expression must evaluate to a bool"), place
        )
        if program is None:
            return None
        uses_old = self._check_old(program, one, path, place)
        message = None
        if (one.get("messageExpression") or "").strip():
            wanted = (STRING, "messageExpression must evaluate to a string")
            message = self._compile(
                environment, one["messageExpression"], one, f"{path}.messageExpression", wanted, _Place(count=1)
            )
            uses_old = uses_old or (message is not None and _names_old(message))
        added = field_path(one.get("fieldPath") or "", raw)[0]
        return _Rule(program, one, message, added, uses_old, bool(one.get("optionalOldSelf")))

    def _check_old(self, program: Program, one: Obj, path: str, place: _Place) -> bool:
        uses_old = _names_old(program)
        if uses_old and place.uncorrelatable:
            why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelatable}"
            self.causes.append(invalid_value(f"{path}.rule", one["rule"], why))
        elif not uses_old and one.get("optionalOldSelf") is not None:
            why = "may not be set if oldSelf is not used in rule"
            self.causes.append(invalid_value(f"{path}.optionalOldSelf", one["optionalOldSelf"], why))
        return uses_old

    def _compile(
        self, environment: Environment, text: str, rule: Obj, path: str, wanted: tuple[Type, str], place: _Place
    ) -> Program | None:
        try:
            program = environment.compile(text, (wanted[0],), wanted[1])
        except CompileError as error:
            shown = f"Invalid value: {show_rule(rule)}: {error}"
            self.causes.append(Cause("FieldValueInvalid", shown, path))
            return None
        if text not in self._known:
            self._price(program, path, place)
        return program

    def _price(self, program: Program, path: str, place: _Place) -> None:
        each = cost.estimate(program.tree)
        worst = min(cost.UNBOUNDED, each * (place.count or 1))
        self._costs.append((path, worst))
        if worst > cost.PER_EXPRESSION:
            what = f"estimated {'messageExpression' if path.endswith('messageExpression') else 'rule'} cost"
            self.causes.append(field_forbidden(path, cost.over(what, worst, cost.PER_EXPRESSION)))

    def total(self, path: str) -> list[Cause]:
        """What is wrong with the cost of all expressions together."""
        whole = min(cost.UNBOUNDED, sum(each for _, each in self._costs))
        if whole <= cost.PER_SCHEMA:
            return []
        dearest = sorted(self._costs, key=lambda one: -one[1])[:4]
        why = (
            "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire "
            "OpenAPIv3 schema"
        )
        causes = [field_forbidden(where, why) for where, each in dearest if each > cost.PER_SCHEMA // 100]
        what = f"{KEY} estimated rule & messageExpression cost total for entire OpenAPIv3 schema"
        return [*causes, field_forbidden(path, cost.over(what, whole, cost.PER_SCHEMA))]


def _times(count: int | None, limit: int | None) -> int | None:
    """None for as many as a request can hold."""
    return None if count is None or limit is None else count * limit


def _names_old(program: Program) -> bool:
    return "oldSelf" in program.names


_ABSENT = object()


@dataclass(slots=True)
class Rules:
    """The compiled rules of one schema."""

    root: _Node

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        """What the rules say of a write of whole objects; `old` is None on create. Paths begin at the object."""
        check = _Check()
        check.node(self.root, new, _ABSENT if old is None else old, "")
        return check.causes


class _Check:
    """One write."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self._budget = Budget(TOTAL_BUDGET)
        self._spent = False

    def node(self, node: _Node, new: Any, old: Any, path: str) -> None:
        """Ask the rules of a value and of everything in it. `old` is _ABSENT where there was none."""
        if new is None:
            return
        unchanged = old is not _ABSENT and (new is old or new == old)
        for rule in node.rules:
            if self._spent:
                return
            if not (unchanged and not rule.uses_old):  # what did not change is not refused for a newer rule
                self._ask(rule, node, new, old, path)
        if isinstance(new, dict):
            for name, below in node.fields.items():
                if name in new:
                    self.node(below, new[name], _child(old, name), f"{path}.{name}" if path else name)
            if node.values is not None:
                for name, value in new.items():
                    self.node(node.values, value, _child(old, name), f"{path}[{name}]")
        elif isinstance(new, list) and node.items is not None:
            known = _by_keys(old, node.keys)
            for index, value in enumerate(new):
                before = known.get(_keys(value, node.keys), _ABSENT) if node.keys is not None else _ABSENT
                if node.keys is None and unchanged:
                    before = value
                self.node(node.items, value, before, f"{path}[{index}]")

    def _ask(self, rule: _Rule, node: _Node, new: Any, old: Any, path: str) -> None:
        if old is None or (rule.uses_old and old is _ABSENT and not rule.optional_old):
            return
        variables = {"self": node.convert(new) if node.convert is not None else new}
        if rule.uses_old:
            before = old if old is _ABSENT or node.convert is None else node.convert(old)
            variables["oldSelf"] = (NONE if before is _ABSENT else Maybe(True, before)) if rule.optional_old else before
        try:
            if rule.program.evaluate(variables, self._budget) is True:
                return
        except CelError as error:
            self._add(path, node, _failure(str(error), rule.raw))
            return
        except BudgetExceeded as error:
            self._stop(path, node, str(error), rule.raw)
            return
        self._refuse(rule, node, path + rule.field if path else rule.field.removeprefix("."), variables)

    def _stop(self, path: str, node: _Node, error: str, raw: Obj) -> None:
        self._spent = True
        why = (
            f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {_named(raw)}"
        )
        if self._budget.left <= 0:
            why = "validation failed due to running out of cost budget, no further validation rules will be run"
        self._add(path, node, why)

    def _refuse(self, rule: _Rule, node: _Node, path: str, variables: Obj) -> None:
        message = self._message(rule, variables) or (rule.raw.get("message") or "").strip()
        message = message or f"failed rule: {_named(rule.raw)}"
        self._add(path, node, message, rule.raw.get("reason") or "FieldValueInvalid")

    def _message(self, rule: _Rule, variables: Obj) -> str:
        """What messageExpression says; empty where it cannot be used."""
        if rule.message is None:
            return ""
        try:
            said = rule.message.evaluate(variables, self._budget)
        except (CelError, BudgetExceeded):
            return ""
        return said.strip() if isinstance(said, str) and "\n" not in said.strip() else ""

    def _add(self, path: str, node: _Node, why: str, reason: str = "FieldValueInvalid") -> None:
        shown = f'"{node.type_name}"'
        head = {
            "FieldValueDuplicate": f"Duplicate value: {shown}",
            "FieldValueForbidden": f"Forbidden: {why}",
            "FieldValueRequired": f"Required value: {why}",
        }.get(reason, f"Invalid value: {shown}: {why}")
        self.causes.append(Cause(reason, head, path or "<nil>"))


def _failure(error: str, raw: Obj) -> str:
    if error.startswith("no such overload"):
        what = "call arguments did not match a supported operator, function or macro signature"
        return f"'{error}': {what} for rule: {_named(raw)}"
    return f"{error} evaluating rule: {_named(raw)}"


def _named(raw: Obj) -> str:
    return str((raw.get("message") or raw.get("rule") or "").strip())


def _child(old: Any, name: str) -> Any:
    return old.get(name, _ABSENT) if isinstance(old, dict) else _ABSENT


def _keys(value: Any, keys: tuple[str, ...] | None) -> Any:
    return tuple(str(value.get(key)) for key in keys or ()) if isinstance(value, dict) else None


def _by_keys(old: Any, keys: tuple[str, ...] | None) -> dict[Any, Any]:
    if keys is None or not isinstance(old, list):
        return {}
    return {_keys(value, keys): value for value in old}
