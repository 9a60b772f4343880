"""Admission webhooks: who else is asked before an object is stored.

Specified in https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pinnace.apis.checks import every, optional_one_of
from pinnace.apis.fields import AGE, NAME, age, column, name
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, invalid_value, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_WORDS = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}
_FORM = "; desired format: https://host[/path]"
_SCOPES = ("*", "Cluster", "Namespaced")


def default_rules(rules: list[Obj] | None) -> None:
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
        default_rules(webhook.get("rules"))


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
        errors += rule_errors(rule, f"{path}.rules[{index}]")
    errors += optional_one_of(f"{path}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore"))
    errors += optional_one_of(f"{path}.matchPolicy", webhook.get("matchPolicy"), ("Equivalent", "Exact"))
    again = webhook.get("reinvocationPolicy")
    errors += optional_one_of(f"{path}.reinvocationPolicy", again, ("IfNeeded", "Never"))
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
    else:
        errors += optional_one_of(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun"))
    if webhook.get("matchConditions"):
        from pinnace.machinery.cel.admission import compile_conditions, environment

        compile_conditions(environment(), webhook["matchConditions"], f"{path}.matchConditions", errors)
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
    return _url(url, f"{path}.url") if url is not None else _service(service or {}, f"{path}.service")


def _url(url: str, path: str) -> list[Cause]:
    parts = urlsplit(url)
    errors: list[Cause] = []
    if parts.scheme != "https":
        errors.append(invalid_value(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    host = parts.netloc.rpartition("@")[2]
    if not host:
        errors.append(invalid_value(path, host, f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        user = parts.netloc.rpartition("@")[0]
        errors.append(invalid_value(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid_value(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid_value(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _service(service: Obj, path: str) -> list[Cause]:
    errors = [
        required(f"{path}.{key}", f"service {key} is required") for key in ("name", "namespace") if not service.get(key)
    ]
    where, port = service.get("path"), service.get("port")
    if where is not None and not where.startswith("/"):
        errors.append(invalid_value(f"{path}.path", where, "must start with a '/'"))
    bad = names.is_port_number(port if port is not None else 443)
    return errors + [invalid_value(f"{path}.port", port, f"port is not valid: {why}") for why in bad]


def _versions(versions: list[str], path: str) -> list[Cause]:
    if not versions:
        return [required(path, "must specify one of v1, v1beta1")]
    if not {"v1", "v1beta1"} & set(versions):
        why = "must include at least one of v1, v1beta1"
        return [invalid_value(path, versions, why)]
    return []


def rule_errors(rule: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    for key in ("operations", "apiGroups", "apiVersions", "resources"):
        values = rule.get(key) or []
        if not values:
            errors.append(required(f"{path}.{key}"))
        elif len(values) > 1 and "*" in values and key != "resources":
            why = f"if '*' is present, must not specify other {_WORDS[key]}"
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
