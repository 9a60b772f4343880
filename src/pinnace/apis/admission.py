"""Admission webhooks and policies: who else is asked before an object is stored.

Specified in https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/ and
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of, optional_one_of
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name, spec_of
from pinnace.apis.kind import METADATA, Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def _default_rules(rules: list[Obj] | None) -> None:
    for rule in rules or ():
        if not rule.get("scope"):
            rule["scope"] = "*"


def default_webhooks(configuration: Obj) -> None:
    mutating = configuration.get("kind") == "MutatingWebhookConfiguration"
    for webhook in configuration.get("webhooks") or ():
        for key, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
            if webhook.get(key) is None:
                webhook[key] = value
        for key in ("namespaceSelector", "objectSelector"):
            if webhook.get(key) is None:
                webhook[key] = {}
        if mutating and webhook.get("reinvocationPolicy") is None:
            webhook["reinvocationPolicy"] = "Never"
        service = (webhook.get("clientConfig") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = 443
        _default_rules(webhook.get("rules"))


def validate_webhooks(configuration: Obj) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, webhook in enumerate(configuration.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        hook_name = webhook.get("name") or ""
        errors += _fully_qualified(hook_name, f"{path}.name")
        if hook_name in seen:
            errors.append(duplicate(f"{path}.name", hook_name))
        seen.add(hook_name)
        errors += _webhook(webhook, path)
    return errors


def _fully_qualified(hook_name: str, path: str) -> list[Cause]:
    if not hook_name:
        return [required(path)]
    if bad := every(path, hook_name, names.is_dns_subdomain(hook_name)):
        return bad
    if hook_name.count(".") < 2:
        why = "should be a domain with at least three segments separated by dots"
        return [invalid_value(path, hook_name, why)]
    return []


def _webhook(webhook: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for index, rule in enumerate(webhook.get("rules") or ()):
        errors += _rule(rule, f"{path}.rules[{index}]")
    errors += optional_one_of(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
    errors += optional_one_of(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    else:
        errors += optional_one_of(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun"))
    if webhook.get("matchConditions"):
        why = "match conditions (CEL expressions) are not evaluated by this server"
        errors.append(field_forbidden(f"{path}.matchConditions", why))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid_value(f"{path}.timeoutSeconds", seconds, why))
    for key in ("namespaceSelector", "objectSelector"):
        errors += label_selector_errors(webhook.get(key), f"{path}.{key}")
    errors += _client(webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    return errors + _versions(webhook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")


def _client(client: Obj, path: str) -> list[Cause]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None and not url.startswith("https://"):
        scheme = url.partition("://")[0] if "://" in url else ""
        why = f"'https' is the only allowed URL scheme; desired format: https://host[/path]; got {scheme}"
        return (
            [invalid_value(f"{path}.url", url, why)]
            if scheme
            else [invalid_value(f"{path}.url", url, "host must be specified; desired format: https://host[/path]")]
        )
    if service is not None:
        return [
            required(f"{path}.service.{key}", f"service {key} is required")
            for key in ("name", "namespace")
            if not service.get(key)
        ]
    return []


def _versions(versions: list[str], path: str) -> list[Cause]:
    if not versions:
        return [required(path, "must specify one of v1, v1beta1")]
    if not {"v1", "v1beta1"} & set(versions):
        why = "must include at least one of v1, v1beta1"
        return [invalid_value(path, versions, why)]
    return []


def _rule(rule: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for key in ("operations", "apiGroups", "apiVersions", "resources"):
        values = rule.get(key) or []
        if not values:
            errors.append(required(f"{path}.{key}"))
        elif len(values) > 1 and "*" in values and key != "resources":
            why = "if '*' is present, must not specify other " + ("operations" if key == "operations" else "values")
            errors.append(invalid_value(f"{path}.{key}", values, why))
    for index, operation in enumerate(rule.get("operations") or ()):
        errors += optional_one_of(f"{path}.operations[{index}]", operation, _OPERATIONS)
    return errors + optional_one_of(f"{path}.scope", rule.get("scope"), _SCOPES)


def row_webhooks(configuration: Obj, now: datetime) -> list[Any]:
    return [name(configuration), len(configuration.get("webhooks") or ()), age(configuration, now)]


WEBHOOK_CONFIGURATION = Rules(
    columns=(NAME, column("Webhooks", "integer"), AGE),
    row=row_webhooks,
    default=default_webhooks,
    validate=validate_webhooks,
)


def _default_match(match: Obj | None) -> None:
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for key in ("resourceRules", "excludeResourceRules"):
        _default_rules(match.get(key))


def default_policy(policy: Obj) -> None:
    spec = policy.setdefault("spec", {})
    if not spec.get("failurePolicy"):
        spec["failurePolicy"] = "Fail"
    _default_match(spec.get("matchConstraints"))


def validate_policy(policy: Obj) -> list[Cause]:
    spec = spec_of(policy)
    errors = one_of("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        rules = constraints.get("resourceRules") or []
        if not rules:
            errors.append(required("spec.matchConstraints.resourceRules"))
        for index, rule in enumerate(rules):
            errors += _rule(rule, f"spec.matchConstraints.resourceRules[{index}]")
    if policy.get("kind") == "ValidatingAdmissionPolicy":
        if not spec.get("validations") and not spec.get("auditAnnotations"):
            why = "validations or auditAnnotations must be present"
            errors.append(required("spec.validations", why))
        for index, validation in enumerate(spec.get("validations") or ()):
            if not (validation.get("expression") or "").strip():
                errors.append(required(f"spec.validations[{index}].expression", "expression is not specified"))
    return errors


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


def validate_binding(binding: Obj) -> list[Cause]:
    spec = spec_of(binding)
    errors: list[Cause] = [] if spec.get("policyName") else [required("spec.policyName")]
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
