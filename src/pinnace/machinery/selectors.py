"""Label and field selectors: parsed from text or JSON, matched, written back.

The grammar and its messages are those of Kubernetes' own parser, word for word where an error can reach a user
(https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors and
https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from pinnace.machinery.errors import Cause, invalid_value, not_supported
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_label_value, is_qualified_name

LabelOperator = Literal["in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!"]

_OPERATORS: tuple[LabelOperator, ...] = ("in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!")
_BINARY = ", ".join(_OPERATORS[:7])


class SelectorError(ValueError):
    """The text is not a selector; the message is Kubernetes' own."""


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One condition on one label."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()  # sorted, without repetition

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        number, bound = _integer(value or ""), _integer(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == "gt" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "!":
                return f"!{self.key}"
            case "exists":
                return self.key
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
        sign = {"gt": ">", "lt": "<"}.get(self.operator, self.operator)
        return f"{self.key}{sign}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Conditions that must all hold; without any it matches everything, unless it is `NOTHING`."""

    requirements: tuple[LabelRequirement, ...] = ()  # sorted by key
    nothing: bool = field(default=False, kw_only=True)

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))

    @classmethod
    def from_labels(cls, labels: Mapping[str, str] | None) -> LabelSelector:
        """What a plain map selects (a Service's `spec.selector`): everything where the map is empty."""
        return cls(tuple(LabelRequirement(key, "=", (value,)) for key, value in sorted((labels or {}).items())))

    @classmethod
    def from_json(cls, selector: Obj | None) -> LabelSelector:
        """What a `LabelSelector` object selects: nothing where it is absent, everything where it is empty.

        Raises SelectorError for what cannot be a selector.
        """
        if selector is None:
            return NOTHING
        found = [_requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
        for expression in selector.get("matchExpressions") or ():
            operator = _JSON_OPERATORS.get(expression.get("operator", ""))
            if operator is None:
                raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
            found.append(_requirement(expression.get("key", ""), operator, expression.get("values") or ()))
        return cls(_sorted(found))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)

_JSON_OPERATORS: dict[str, LabelOperator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


@lru_cache(maxsize=256)
def parse_labels(text: str) -> LabelSelector:
    """Read `app=web,tier in (a,b),!canary`; raises SelectorError."""
    return LabelSelector(_sorted(_Parser(text).parse()))


def go_text(selector: Obj | None) -> str:
    """A selector of the API as Go programs print it, which is how it stands in messages."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{one['key']},Operator:{one['operator']},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    within = f"MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},"
    return f"&LabelSelector{{{within}}}"


def label_selector_errors(selector: Obj | None, path: str) -> list[Cause]:
    """What is wrong with a `LabelSelector` object at `path` (`spec.selector`), as its validation words it."""
    causes: list[Cause] = []
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        where = f"{path}.matchLabels"
        causes += [invalid_value(where, key, problem) for problem in is_qualified_name(key)]
        causes += [invalid_value(where, value, problem) for problem in is_label_value(value)]
    for index, expression in enumerate((selector or {}).get("matchExpressions") or ()):
        causes += _expression_errors(expression, f"{path}.matchExpressions[{index}]")
    return causes


def _expression_errors(expression: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    operator, values = expression.get("operator", ""), expression.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            causes.append(
                Cause(
                    "FieldValueRequired",
                    "Required value: must be specified when `operator` is 'In' or 'NotIn'",
                    f"{path}.values",
                )
            )
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            causes.append(
                Cause(
                    "FieldValueForbidden",
                    "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    f"{path}.values",
                )
            )
    else:
        causes.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    key = expression.get("key", "")
    causes += [invalid_value(f"{path}.key", key, problem) for problem in is_qualified_name(key)]
    for index, value in enumerate(values):
        causes += [invalid_value(f"{path}.values[{index}]", value, problem) for problem in is_label_value(value)]
    return causes


def _sorted(requirements: Iterable[LabelRequirement]) -> tuple[LabelRequirement, ...]:
    return tuple(sorted(requirements, key=lambda requirement: requirement.key))


def _requirement(key: str, operator: LabelOperator, given: Iterable[str]) -> LabelRequirement:
    """A checked requirement; the messages name the parts as Kubernetes' constructor does."""
    values = tuple(sorted(set(given)))
    causes = [invalid_value("key", key, "; ".join(problems)) for problems in [is_qualified_name(key)] if problems]
    causes += _arity_errors(operator, values)
    for index, value in enumerate(values):
        problems = is_label_value(value)
        if problems:
            causes.append(invalid_value(f"values[{index}][{key}]", value, "; ".join(problems)))
    if causes:
        messages = [f"{cause.field}: {cause.message}" for cause in causes]
        raise SelectorError(messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]")
    return LabelRequirement(key, operator, values)


def _arity_errors(operator: LabelOperator, values: tuple[str, ...]) -> list[Cause]:
    shown = list(values)
    if operator in ("in", "notin"):
        detail = "for 'in', 'notin' operators, values set can't be empty"
        return [] if values else [invalid_value("values", shown, detail)]
    if operator in ("=", "==", "!="):
        detail = "exact-match compatibility requires one single value"
        return [] if len(values) == 1 else [invalid_value("values", shown, detail)]
    if operator in ("exists", "!"):
        detail = "values set must be empty for exists and does not exist"
        return [invalid_value("values", shown, detail)] if values else []
    if operator not in ("gt", "lt"):
        return [not_supported("operator", operator, _OPERATORS)]
    if len(values) != 1:
        return [invalid_value("values", shown, "for 'Gt', 'Lt' operators, exactly one value is required")]
    if _integer(values[0]) is None:
        return [invalid_value("values[0]", values[0], "for 'Gt', 'Lt' operators, the value must be an integer")]
    return []


def _integer(text: str) -> int | None:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


# The parser of label selectors. A token is (kind, literal); an identifier's kind is "identifier", the end's is "end".

_SPECIAL = "=!(),><"
_TOKENS = {")", ",", "!", "==", "=", ">", "<", "!=", "("}
_SIGNS: dict[str, LabelOperator] = {
    "in": "in",
    "notin": "notin",
    "=": "=",
    "==": "==",
    "!=": "!=",
    ">": "gt",
    "<": "lt",
}


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char in " \t\r\n":
            position += 1
        elif char in _SPECIAL:
            length = 2 if text[position : position + 2] in _TOKENS else 1
            literal = text[position : position + length]
            found.append((literal, literal))
            position += length
        else:
            end = position
            while end < len(text) and text[end] not in _SPECIAL and text[end] not in " \t\r\n":
                end += 1
            literal = text[position:end]
            found.append((literal if literal in ("in", "notin") else "identifier", literal))
            position = end
    return [*found, ("end", "")]


class _Parser:
    """One reading of one text, by recursive descent."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def parse(self) -> list[LabelRequirement]:
        requirements: list[LabelRequirement] = []
        while True:
            kind, literal = self._peek()
            if kind == "end":
                return requirements
            if kind not in ("identifier", "!"):
                raise SelectorError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._parse_requirement())
            except SelectorError as problem:
                raise SelectorError(f"unable to parse requirement: {problem}") from None
            kind, literal = self._take()
            if kind == "end":
                return requirements
            if kind != ",":
                raise SelectorError(f"found '{literal}', expected: ',' or 'end of string'")
            kind, literal = self._peek()
            if kind not in ("identifier", "!"):
                raise SelectorError(f"found '{literal}', expected: identifier after ','")

    def _peek(self) -> tuple[str, str]:
        """The next token where a value may stand: there `in` and `notin` are words like any other."""
        kind, literal = self._tokens[min(self._next, len(self._tokens) - 1)]
        return ("identifier" if kind in ("in", "notin") else kind), literal

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._next += 1
        return token

    def _parse_requirement(self) -> LabelRequirement:
        kind, key = self._take()
        absent = kind == "!"
        if absent:
            kind, key = self._take()
        if kind != "identifier":
            raise SelectorError(f"found '{key}', expected: identifier")
        problems = is_qualified_name(key)
        if problems:
            cause = invalid_value("<nil>", key, "; ".join(problems))
            raise SelectorError(f"{cause.field}: {cause.message}")
        if absent:
            return _requirement(key, "!", ())
        if self._peek()[0] in ("end", ","):
            return _requirement(key, "exists", ())
        operator = self._parse_operator()
        values = self._parse_set() if operator in ("in", "notin") else [self._parse_exact()]
        return _requirement(key, operator, values)

    def _parse_operator(self) -> LabelOperator:
        kind, literal = self._tokens[min(self._next, len(self._tokens) - 1)]
        self._next += 1
        operator = _SIGNS.get(kind)
        if operator is None:
            raise SelectorError(f"found '{literal}', expected: {_BINARY}")
        return operator

    def _parse_exact(self) -> str:
        if self._peek()[0] in ("end", ","):
            return ""
        kind, literal = self._take()
        if kind != "identifier":
            raise SelectorError(f"found '{literal}', expected: identifier")
        return literal

    def _parse_set(self) -> list[str]:
        kind, literal = self._take()
        if kind != "(":
            raise SelectorError(f"found '{literal}' expected: '('")
        kind, literal = self._peek()
        if kind == ")":
            self._take()
            return []
        if kind not in ("identifier", ","):
            raise SelectorError(f"found '{literal}', expected: ',', ')' or identifier")
        values = self._parse_values()
        self._take()  # the closing parenthesis, which ended the values
        return values

    def _parse_values(self) -> list[str]:
        """Values between commas; nothing between two commas is the empty value."""
        values: list[str] = []
        while True:
            kind, literal = self._take()
            if kind == "identifier":
                values.append(literal)
                following, word = self._peek()
                if following == ")":
                    return values
                if following != ",":
                    raise SelectorError(f"found '{word}', expected: ',' or ')'")
            elif kind == ",":
                if not values:
                    values.append("")
                following, _ = self._peek()
                if following == ")":
                    return [*values, ""]
                if following == ",":
                    self._take()
                    values.append("")
            else:
                raise SelectorError(f"found '{literal}', expected: ',', or identifier")


# Field selectors.


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on one field: `metadata.name=web`."""

    field: str
    operator: Literal["=", "!="]
    value: str

    def __str__(self) -> str:
        escaped = re.sub(r"([\\,=])", r"\\\1", self.value)
        return f"{self.field}{self.operator}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions that must all hold; without any it matches everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """`fields` maps every field that may be selected to its text; an absent one counts as empty."""
        for requirement in self.requirements:
            if (fields.get(requirement.field, "") == requirement.value) != (requirement.operator == "="):
                return False
        return True

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements

    def exact(self, field: str) -> str | None:
        """The value that `field` must have, if the selector demands a single one."""
        for requirement in self.requirements:
            if requirement.field == field and requirement.operator == "=":
                return requirement.value
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


@lru_cache(maxsize=256)
def parse_fields(text: str) -> FieldSelector:
    """Read `metadata.name=web,status.phase!=Failed`; raises SelectorError."""
    requirements = []
    for term in sorted(_split_terms(text)):
        if not term:
            continue
        match = re.match(r"((?:\\.|[^\\=!]|!(?!=))*)(!=|==|=)(.*)", term, re.DOTALL)
        if not match:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        operator: Literal["=", "!="] = "!=" if match[2] == "!=" else "="
        requirements.append(FieldRequirement(match[1], operator, _unescape(match[3])))
    return FieldSelector(tuple(requirements))


def _split_terms(text: str) -> list[str]:
    terms = re.findall(r"((?:\\.|\\$|[^\\,])*)(?:,|$)", text, re.DOTALL)
    return [str(term) for term in terms]


def _unescape(value: str) -> str:
    plain: list[str] = []
    chars = iter(value)
    for char in chars:
        if char == "\\":
            following = next(chars, "")
            if following not in ("\\", ",", "="):
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{following}")
            plain.append(following)
        elif char in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            plain.append(char)
    return "".join(plain)
