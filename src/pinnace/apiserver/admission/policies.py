"""ValidatingAdmissionPolicy: expressions in CEL that refuse requests, warn about them or note them for the audit.

A policy is compiled once, when a request first meets it. Where there is no policy this costs a look at an empty dict.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from pinnace.apis.resources import VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.admission.expressions import variables_for
from pinnace.apiserver.admission.matching import Match, PerObject
from pinnace.apiserver.admission.policy_params import Misconfigured, param_kind, params_for
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    from pinnace.machinery.cel.policy import Denial, Outcome, Policy

_EXEMPT = frozenset(  # or a policy could keep itself from being removed
    ("admissionregistration.k8s.io", plural)
    for plural in (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    )
)
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
_LONGEST_ANNOTATION = 10 * 1024


@dataclass(slots=True)
class Bound:
    """A binding, with its criteria compiled; no criteria match everything that the policy does."""

    name: str
    spec: Obj
    match: Match | None

    @classmethod
    def read(cls, binding: Obj) -> Bound:
        spec = binding.get("spec") or {}
        criteria = spec.get("matchResources")
        return cls(binding["metadata"]["name"], spec, Match(criteria) if criteria else None)


@dataclass(slots=True)
class _Loaded:
    """A policy, compiled."""

    name: str
    spec: Obj
    match: Match
    policy: Policy
    problem: str  # what does not compile, of a policy that got past validation all the same

    @classmethod
    def read(cls, obj: Obj) -> _Loaded:
        from pinnace.machinery.cel.policy import compile_policy

        spec = obj.get("spec") or {}
        policy, causes = compile_policy(spec)
        problem = f"{causes[0].field}: {causes[0].message}" if causes else ""
        return cls(obj["metadata"]["name"], spec, Match(spec.get("matchConstraints") or {}), policy, problem)


@dataclass(slots=True)
class _Verdict:
    """What all policies together say of one request."""

    refusals: list[tuple[str, Denial]] = field(default_factory=list)  # `'policy' with binding 'x'`, and why
    failures: list[Obj] = field(default_factory=list)  # for the audit
    annotations: dict[str, list[str]] = field(default_factory=dict)


def is_exempt(attributes: Attributes) -> bool:
    """Whether the request is about policies themselves."""
    return attributes.resource in _EXEMPT


class ValidatingPolicies(Plugin):
    dynamic = True

    def __init__(self) -> None:
        self._policies: PerObject[_Loaded] = PerObject(_Loaded.read)
        self._bindings: PerObject[Bound] = PerObject(Bound.read)

    async def validate(self, attributes: Attributes) -> None:
        storage = attributes.call.api.storage
        bindings = storage.cache(VALIDATING_ADMISSION_POLICY_BINDINGS)
        if not bindings.objects or is_exempt(attributes):
            return
        bound: dict[str, list[Bound]] = {}
        for key in bindings.keys:
            binding = self._bindings.of(bindings.objects[key])
            bound.setdefault(binding.spec.get("policyName") or "", []).append(binding)
        policies = storage.cache(VALIDATING_ADMISSION_POLICIES)
        verdict = _Verdict()
        for key in policies.keys:
            if key in bound:
                _ask(attributes, self._policies.of(policies.objects[key]), bound[key], verdict)
        _conclude(attributes, verdict)


def _ask(attributes: Attributes, loaded: _Loaded, bindings: list[Bound], verdict: _Verdict) -> None:
    """One policy with all its bindings."""
    kind = loaded.match.kind(attributes)
    if kind is None:
        return
    try:
        if loaded.problem:
            raise Misconfigured(loaded.problem)
        of_params = param_kind(attributes, loaded.spec)
    except Misconfigured as error:
        _misconfigured(loaded, None, error, verdict)
        return
    known = variables_for(attributes, kind, loaded.policy.names)
    for binding in bindings:
        if binding.match is not None and binding.match.kind(attributes) is None:
            continue
        try:
            params = params_for(attributes, of_params, binding.spec)
        except Misconfigured as error:
            _misconfigured(loaded, binding, error, verdict)
            continue
        for one in params:
            _note(attributes, loaded, binding, _decide(loaded, {**known, "params": one}), verdict)


def _decide(loaded: _Loaded, known: Obj) -> Outcome:
    from pinnace.machinery.cel.policy import decide

    return decide(loaded.policy, known)


def _misconfigured(loaded: _Loaded, binding: Bound | None, error: Misconfigured, verdict: _Verdict) -> None:
    from pinnace.machinery.cel.policy import Denial

    if loaded.policy.fails:
        what = "policy" if binding is None else "binding"
        verdict.refusals.append((_named(loaded, binding), Denial(f"failed to configure {what}: {error}")))


def _named(loaded: _Loaded, binding: Bound | None) -> str:
    return f"'{loaded.name}'" if binding is None else f"'{loaded.name}' with binding '{binding.name}'"


def _note(attributes: Attributes, loaded: _Loaded, binding: Bound, outcome: Outcome, verdict: _Verdict) -> None:
    """Sort what was decided by what the binding wants done."""
    named = _named(loaded, binding)
    actions = binding.spec.get("validationActions") or ()
    for denial in outcome.denials:
        if "Deny" in actions:
            verdict.refusals.append((named, denial))
        if "Audit" in actions:
            failure = {"message": denial.message, "policy": loaded.name, "binding": binding.name}
            verdict.failures.append({**failure, "expressionIndex": denial.index, "validationActions": list(actions)})
        if "Warn" in actions:
            warning = f"Validation failed for ValidatingAdmissionPolicy {named}: {denial.message}"
            attributes.call.warnings.append(warning)
    for key, value in outcome.annotations:
        values = verdict.annotations.setdefault(f"{loaded.name}/{key}", [])
        if value not in values:
            values.append(value[:_LONGEST_ANNOTATION])


def _conclude(attributes: Attributes, verdict: _Verdict) -> None:
    """Annotate the audit event; raise ApiError for the first refusal."""
    for key, values in verdict.annotations.items():
        attributes.annotate(key, ", ".join(values))
    if verdict.failures:
        attributes.annotate(_FAILURES, orjson.dumps(verdict.failures).decode())
    if verdict.refusals:
        named, denial = verdict.refusals[0]
        raise refusal(attributes, f"ValidatingAdmissionPolicy {named} denied request: {denial.message}", denial.reason)


def refusal(attributes: Attributes, message: str, reason: str = "") -> ApiError:
    """The answer to a refused request: worded as a 403, 422 unless the validation names another reason."""
    error = attributes.forbidden(message)
    details = {**(error.details or {}), "causes": [{"message": message}]}
    reason = reason or "Invalid"
    return ApiError(_CODES.get(reason, 422), reason, error.message, details=details)
