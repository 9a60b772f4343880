"""What makes a token's claims a user: mappings and rules, by claim or as CEL expressions. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_dns_subdomain

if TYPE_CHECKING:
    from pinnace.machinery.cel.environment import Environment, Program

ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_RESERVED = ("kubernetes.io", "k8s.io")


class ClaimsError(ValueError):
    """The claims are not those of a user."""


@dataclass(slots=True)
class Mapping:
    """Where one thing comes from: a claim, perhaps prefixed, or an expression."""

    claim: str = ""
    prefix: str = ""
    program: Program | None = None

    def value(self, claims: Obj) -> Any:
        """None for a claim that is not there. Raises ClaimsError."""
        return claims.get(self.claim) if self.program is None else _evaluated(self.program, {"claims": claims})


@dataclass(slots=True)
class Rule:
    """A claim that must have a value, or an expression that must be true."""

    message: str = ""
    claim: str = ""
    value: str = ""
    program: Program | None = None


@dataclass(slots=True)
class Rules:
    """All that is made and demanded of an issuer's claims."""

    username: Mapping = field(default_factory=Mapping)
    groups: Mapping | None = None
    uid: Mapping | None = None
    extra: Sequence[tuple[str, Program]] = ()
    claim_rules: Sequence[Rule] = ()
    user_rules: Sequence[Rule] = ()

    def user_of(self, claims: Obj) -> User:
        """Raises ClaimsError, worded as kube-apiserver logs it."""
        for rule in self.claim_rules:
            _check_claim(rule, claims)
        name = self._name(claims)
        groups = self._groups(claims)
        uid = "" if self.uid is None else _text(self.uid, claims, "uid")
        extra = {key: _texts(_evaluated(program, {"claims": claims})) for key, program in self.extra}
        found = User(name, uid, groups, {key: values for key, values in extra.items() if values})
        if self.user_rules:
            shown = {"username": name, "uid": uid, "groups": list(groups),
                     "extra": {key: list(values) for key, values in found.extra.items()}}  # fmt: skip
            for rule in self.user_rules:
                assert rule.program is not None
                if _evaluated(rule.program, {"user": shown}) is not True:
                    raise ClaimsError(rule.message or f"validation expression '{rule.program.text}' failed")
        if AUTHENTICATED in groups:
            return found
        return User(found.name, found.uid, (*groups, AUTHENTICATED), found.extra)

    def _name(self, claims: Obj) -> str:
        mapping = self.username
        is_email = mapping.program is None and mapping.claim == "email"
        if is_email and claims.get("email_verified", True) is not True:
            raise ClaimsError("oidc: email not verified")
        name = _text(mapping, claims, "username")
        if not name:
            raise ClaimsError("oidc: the username claim is empty" if mapping.program is None else "username is empty")
        return mapping.prefix + name

    def _groups(self, claims: Obj) -> tuple[str, ...]:
        if self.groups is None:
            return ()
        prefix = self.groups.prefix
        return tuple(prefix + group for group in _texts(self.groups.value(claims)))


def _check_claim(rule: Rule, claims: Obj) -> None:
    if rule.program is not None:
        if _evaluated(rule.program, {"claims": claims}) is not True:
            raise ClaimsError(rule.message or f"validation expression '{rule.program.text}' failed")
    elif rule.claim not in claims:
        raise ClaimsError(f"oidc: required claim {rule.claim} not present in ID token")
    elif claims[rule.claim] != rule.value:
        got = f"Got = {claims[rule.claim]}, want = {rule.value}"
        raise ClaimsError(f"oidc: required claim {rule.claim} value does not match. {got}")


def _text(mapping: Mapping, claims: Obj, what: str) -> str:
    value = mapping.value(claims)
    if not isinstance(value, str):
        raise ClaimsError(f"oidc: could not get a text as {what}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """A text, or a list of texts; nothing for null. Raises ClaimsError."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise ClaimsError("oidc: neither a text nor a list of texts")
    return tuple(each for each in values if each)


def _evaluated(program: Program, known: Obj) -> Any:
    from pinnace.machinery.cel.environment import CelError
    from pinnace.machinery.cel.values import BudgetExceeded

    try:
        return program.evaluate(known)
    except (CelError, BudgetExceeded) as error:
        raise ClaimsError(f"expression '{program.text}' resulted in error: {error}") from None


# Reading the configuration.


class _Compiler:
    """Compiles expressions and notes what is wrong with them."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.programs: list[Program] = []
        self._claims: Environment | None = None
        self._user: Environment | None = None

    def compile(self, text: str, path: str, results: str, *, user: bool = False) -> Program | None:
        """`results`: bool, string, or `list` for a text or a list of texts."""
        from pinnace.machinery.cel import types
        from pinnace.machinery.cel.environment import CompileError

        wanted: tuple[Any, ...] = {"bool": (types.BOOL,), "string": (types.STRING, types.DYN), "list": ()}[results]
        try:
            program = self._environment(user=user).compile(text, wanted, f"must evaluate to {results}")
        except CompileError as error:
            self.causes.append(invalid_value(path, text, str(error)))
            return None
        self.programs.append(program)
        return program

    def _environment(self, *, user: bool) -> Environment:
        from pinnace.machinery.cel.admission import NEWEST
        from pinnace.machinery.cel.environment import Environment
        from pinnace.machinery.cel.schema_types import schema_type
        from pinnace.machinery.cel.types import DYN

        if user:
            if self._user is None:
                made = schema_type(_USER, "kubernetes.UserInfo")
                assert made is not None
                self._user = Environment(NEWEST, {"user": made})
            return self._user
        if self._claims is None:
            self._claims = Environment(NEWEST, {"claims": DYN})
        return self._claims


_TEXTS: Obj = {"type": "array", "items": {"type": "string"}}
_USER: Obj = {
    "type": "object",
    "properties": {
        "username": {"type": "string"},
        "uid": {"type": "string"},
        "groups": _TEXTS,
        "extra": {"type": "object", "additionalProperties": _TEXTS},
    },
}


def compile_rules(entry: Obj, path: str) -> tuple[Rules, list[Cause]]:
    """The rules of one JWT authenticator at `path`, and what is wrong with them."""
    compiler = _Compiler()
    mappings = entry.get("claimMappings") or {}
    where = f"{path}.claimMappings"
    rules = Rules(
        _mapping(mappings.get("username") or {}, f"{where}.username", compiler, "string"),
        _mapping(mappings["groups"], f"{where}.groups", compiler, "list") if mappings.get("groups") else None,
        _mapping(mappings["uid"], f"{where}.uid", compiler, "string") if mappings.get("uid") else None,
        _extra(mappings.get("extra") or (), f"{where}.extra", compiler),
        _claim_rules(entry.get("claimValidationRules") or (), f"{path}.claimValidationRules", compiler),
        _user_rules(entry.get("userValidationRules") or (), f"{path}.userValidationRules", compiler),
    )
    name = rules.username.program
    if (
        name is not None
        and "claims.email" in name.text
        and not any(
            "claims.email_verified" in program.text or '"email_verified"' in program.text
            for program in compiler.programs
        )
    ):
        why = (
            "claims.email_verified must be used in claimMappings.username.expression or "
            "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in "
            "claimMappings.username.expression"
        )
        compiler.causes.append(invalid_value(f"{where}.username.expression", name.text, why))
    return rules, compiler.causes


def _mapping(said: Obj, path: str, compiler: _Compiler, results: str) -> Mapping:
    claim, expression, prefix = said.get("claim") or "", said.get("expression") or "", said.get("prefix")
    is_required = not path.endswith("groups")  # groups that are not mapped at all are no mistake
    takes_prefix = not path.endswith("uid")
    if claim and expression:
        compiler.causes.append(invalid_value(path, "", "claim and expression can't both be set"))
    elif not claim and not expression and is_required:
        compiler.causes.append(required(path, "claim or expression is required"))
    if expression and prefix is not None:
        compiler.causes.append(invalid_value(f"{path}.prefix", prefix, "prefix can't be set when expression is set"))
    if claim and prefix is None and takes_prefix:
        why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        compiler.causes.append(required(f"{path}.prefix", why))
    program = compiler.compile(expression, f"{path}.expression", results) if expression else None
    return Mapping(claim, prefix or "", program)


def _extra(said: Sequence[Obj], path: str, compiler: _Compiler) -> list[tuple[str, Program]]:
    found: list[tuple[str, Program]] = []
    for index, each in enumerate(said):
        key, where = each.get("key") or "", f"{path}[{index}]"
        domain, slash, rest = key.partition("/")
        if not key:
            compiler.causes.append(required(f"{where}.key"))
        elif key != key.lower():
            compiler.causes.append(invalid_value(f"{where}.key", key, "key must be lowercase"))
        elif not slash or not rest or is_dns_subdomain(domain):
            why = 'must be a domain-prefixed path (such as "acme.io/foo")'
            compiler.causes.append(invalid_value(f"{where}.key", key, why))
        elif any(domain == one or domain.endswith("." + one) for one in _RESERVED):
            why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            compiler.causes.append(invalid_value(f"{where}.key", key, why))
        if key in (known for known, _ in found):
            compiler.causes.append(duplicate(f"{where}.key", key))
        expression = each.get("valueExpression") or ""
        if not expression:
            compiler.causes.append(required(f"{where}.valueExpression", "valueExpression is required"))
            continue
        program = compiler.compile(expression, f"{where}.valueExpression", "list")
        if program is not None:
            found.append((key, program))
    return found


def _claim_rules(said: Sequence[Obj], path: str, compiler: _Compiler) -> list[Rule]:
    found: list[Rule] = []
    for index, each in enumerate(said):
        claim, expression, message = (each.get(name) or "" for name in ("claim", "expression", "message"))
        where = f"{path}[{index}]"
        if claim and expression:
            compiler.causes.append(invalid_value(where, "", "claim and expression can't both be set"))
        elif not claim and not expression:
            compiler.causes.append(required(where, "claim or expression is required"))
        elif claim and message:
            compiler.causes.append(invalid_value(f"{where}.message", message, "message can't be set when claim is set"))
        elif expression and each.get("requiredValue"):
            why = "requiredValue can't be set when expression is set"
            compiler.causes.append(invalid_value(f"{where}.requiredValue", each["requiredValue"], why))
        if any(claim and rule.claim == claim for rule in found):
            compiler.causes.append(duplicate(f"{where}.claim", claim))
        program = compiler.compile(expression, f"{where}.expression", "bool") if expression else None
        if claim or program is not None:
            found.append(Rule(message, claim, each.get("requiredValue") or "", program))
    return found


def _user_rules(said: Sequence[Obj], path: str, compiler: _Compiler) -> list[Rule]:
    found: list[Rule] = []
    for index, each in enumerate(said):
        expression, where = each.get("expression") or "", f"{path}[{index}]"
        if not expression:
            compiler.causes.append(required(f"{where}.expression", "expression is required"))
            continue
        program = compiler.compile(expression, f"{where}.expression", "bool", user=True)
        if program is not None:
            found.append(Rule(each.get("message") or "", program=program))
    return found
