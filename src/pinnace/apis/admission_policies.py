"""Admission policies and their bindings: expressions in CEL that refuse or change objects.

Specified in https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ and
https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/. Expressions are compiled when a
policy is written, by `machinery.cel`, which is imported then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.admission import default_rules, rule_errors
from pinnace.apis.checks import one_of, optional_one_of
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of
from pinnace.apis.kind import METADATA, Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery.errors import Cause, field_forbidden, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors


def _default_match(match: Obj | None) -> None:
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for key in ("resourceRules", "excludeResourceRules"):
        default_rules(match.get(key))


def default_policy(policy: Obj) -> None:
    spec = policy.setdefault("spec", {})
    if not spec.get("failurePolicy"):
        spec["failurePolicy"] = "Fail"
    if policy.get("kind") == "MutatingAdmissionPolicy":
        spec.setdefault("reinvocationPolicy", "Never")
    _default_match(spec.get("matchConstraints"))


def validate_policy(policy: Obj) -> list[Cause]:
    spec = spec_of(policy)
    errors = one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    errors += _param_kind(spec.get("paramKind"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        if not constraints.get("resourceRules"):
            errors.append(required("spec.matchConstraints.resourceRules"))
        errors += _match_errors(constraints, "spec.matchConstraints")
    if policy.get("kind") == "ValidatingAdmissionPolicy":
        return errors + _validating(spec)
    return errors + _mutating(spec)


def _param_kind(kind: Obj | None) -> list[Cause]:
    if kind is None:
        return []
    return [required(f"spec.paramKind.{key}") for key in ("apiVersion", "kind") if not kind.get(key)]


def _match_errors(match: Obj, path: str) -> list[Cause]:
    errors = optional_one_of(f"{path}.matchPolicy", match.get("matchPolicy"), ("Equivalent", "Exact"))
    for key in ("namespaceSelector", "objectSelector"):
        errors += label_selector_errors(match.get(key), f"{path}.{key}")
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(key) or ()):
            errors += rule_errors(rule, f"{path}.{key}[{index}]")
    return errors


def _validating(spec: Obj) -> list[Cause]:
    from pinnace.machinery.cel.policy import compile_policy

    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must contain at least one item"
        return [required("spec.validations", why), required("spec.auditAnnotations", why)]
    return compile_policy(spec)[1]


def _mutating(spec: Obj) -> list[Cause]:
    from pinnace.machinery.cel.mutation import compile_mutating

    errors = one_of("spec.reinvocationPolicy", spec.get("reinvocationPolicy"), ("IfNeeded", "Never"))
    if not spec.get("mutations"):
        return [*errors, required("spec.mutations", "mutations must contain at least one item")]
    return errors + compile_mutating(spec)[1]


def row_policy(policy: Obj, now: datetime) -> list[Any]:
    spec = spec_of(policy)
    checks = spec.get("validations") if policy.get("kind") == "ValidatingAdmissionPolicy" else spec.get("mutations")
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else UNSET
    return [name(policy), len(checks or ()), shown, age(policy, now)]


VALIDATING_ADMISSION_POLICY = Rules(
    status_leaves=METADATA,
    columns=(NAME, column("Validations", "integer"), column("ParamKind"), AGE),
    row=row_policy,
    default=default_policy,
    validate=validate_policy,
    prepare=forget_status,
)
MUTATING_ADMISSION_POLICY = Rules(
    columns=(NAME, column("Mutations", "integer"), column("ParamKind"), AGE),
    row=row_policy,
    default=default_policy,
    validate=validate_policy,
)


def default_binding(binding: Obj) -> None:
    _default_match(spec_of(binding).get("matchResources"))


def _param_reference(reference: Obj | None) -> list[Cause]:
    if reference is None:
        return []
    path = "spec.paramRef"
    action = reference.get("parameterNotFoundAction")
    errors = one_of(f"{path}.parameterNotFoundAction", action, ("Allow", "Deny"))
    if reference.get("name") and reference.get("selector") is not None:
        why = "name and selector are mutually exclusive"
        errors.append(field_forbidden(f"{path}.name", why))
    if not reference.get("name") and reference.get("selector") is None:
        errors.append(required(path, "one of name or selector must be specified"))
    return errors + label_selector_errors(reference.get("selector"), f"{path}.selector")


def validate_binding(binding: Obj) -> list[Cause]:
    spec = spec_of(binding)
    errors: list[Cause] = [] if spec.get("policyName") else [required("spec.policyName")]
    errors += _param_reference(spec.get("paramRef"))
    errors += _match_errors(spec.get("matchResources") or {}, "spec.matchResources")
    if binding.get("kind") != "ValidatingAdmissionPolicyBinding":
        return errors
    actions = spec.get("validationActions") or []
    if not actions:
        errors.append(required("spec.validationActions", "at least one validation action is required"))
    for index, action in enumerate(actions):
        errors += optional_one_of(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn"))
    if "Deny" in actions and "Warn" in actions:
        why = (
            "must not contain both Deny and Warn (repeating the same validation failure information "
            "in the API response and headers serves no purpose)"
        )
        errors.append(field_forbidden("spec.validationActions", why))
    return errors


def row_binding(binding: Obj, now: datetime) -> list[Any]:
    spec = spec_of(binding)
    reference = spec.get("paramRef")
    shown = UNSET
    if reference:
        namespace = reference.get("namespace")
        shown = f"{namespace}/{reference.get('name')}" if namespace else str(reference.get("name") or "*")
    return [name(binding), spec.get("policyName") or "", shown, age(binding, now)]


ADMISSION_POLICY_BINDING = Rules(
    columns=(NAME, column("PolicyName"), column("ParamRef"), AGE),
    row=row_binding,
    default=default_binding,
    validate=validate_binding,
)
