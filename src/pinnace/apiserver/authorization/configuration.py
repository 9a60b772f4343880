"""AuthorizationConfiguration: which authorizers are asked, in order, several webhooks among them; and its flags.

https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AuthorizationConfiguration.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.apiserver.authorization.webhook import Webhook, WebhookOptions
from pinnace.apiserver.configuration import ConfigurationError, Shape, read_configuration, refuse
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.errors import Cause, duplicate, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.names import is_dns_subdomain

if TYPE_CHECKING:
    from pinnace.apiserver.authz import Mode
    from pinnace.apiserver.options import Options
    from pinnace.machinery.cel.environment import Environment, Program

TYPES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_LONGEST = 30.0  # seconds of a call

_WEBHOOK: Shape = {
    "authorizedTTL": str,
    "cacheAuthorizedRequests": bool,
    "unauthorizedTTL": str,
    "cacheUnauthorizedRequests": bool,
    "timeout": str,
    "subjectAccessReviewVersion": str,
    "matchConditionSubjectAccessReviewVersion": str,
    "failurePolicy": str,
    "connectionInfo": {"type": str, "kubeConfigFile": str},
    "matchConditions": [{"expression": str}],
}
_KINDS = {
    (f"apiserver.config.k8s.io/{version}", "AuthorizationConfiguration"): {
        "authorizers": [{"type": str, "name": str, "webhook": _WEBHOOK}]
    }
    for version in ("v1", "v1beta1", "v1alpha1")
}


def load_authorization(path: Path) -> list[str | WebhookOptions]:
    """The authorizers that a file names: built-in ones by their type. Raises ConfigurationError."""
    return authorizers_of(read_configuration(path, _KINDS))


def authorizers_of(document: Obj) -> list[str | WebhookOptions]:
    """The authorizers of a document. Raises ConfigurationError."""
    causes: list[Cause] = []
    found: list[str | WebhookOptions] = []
    names: set[str] = set()
    entries = document.get("authorizers") or ()
    if not entries:
        causes.append(required("authorizers", "at least one authorization mode must be defined"))
    for index, entry in enumerate(entries):
        path, kind, name = f"authorizers[{index}]", (entry or {}).get("type") or "", (entry or {}).get("name") or ""
        webhook = (entry or {}).get("webhook")
        causes += _name_problems(name, names, path)
        names.add(name)
        if not kind:
            causes.append(required(f"{path}.type"))
        elif kind not in TYPES:
            causes.append(not_supported(f"{path}.type", kind, TYPES))
        elif kind != "Webhook":
            if kind in found:
                causes.append(duplicate(f"{path}.type", kind))
            if webhook is not None:
                causes.append(invalid_value(f"{path}.webhook", "non-null", "may only be specified when type=Webhook"))
            found.append(kind)
        elif webhook is None:
            causes.append(required(f"{path}.webhook", "required when type=Webhook"))
        else:
            found.append(_webhook(webhook, name, f"{path}.webhook", causes))
    refuse(causes)
    return found


def _name_problems(name: str, seen: set[str], path: str) -> list[Cause]:
    if not name:
        return [required(f"{path}.name")]
    if name in seen:
        return [duplicate(f"{path}.name", name)]
    why = is_dns_subdomain(name)
    return [invalid_value(f"{path}.name", name, "authorizer name is invalid: " + ", ".join(why))] if why else []


def _webhook(said: Obj, name: str, path: str, causes: list[Cause]) -> WebhookOptions:
    timeout = _seconds(said, "timeout", 0, path, causes)
    if not said.get("timeout"):
        causes.append(required(f"{path}.timeout"))
    elif timeout <= 0:
        causes.append(invalid_value(f"{path}.timeout", said["timeout"], "must be > 0s"))
    elif timeout > _LONGEST:
        causes.append(invalid_value(f"{path}.timeout", said["timeout"], "must be <= 30s"))
    _one_of(said, "subjectAccessReviewVersion", ("v1", "v1beta1"), path, causes)
    _one_of(said, "failurePolicy", ("Deny", "NoOpinion"), path, causes)
    conditions = said.get("matchConditions") or ()
    if conditions and not said.get("matchConditionSubjectAccessReviewVersion"):
        where = f"{path}.matchConditionSubjectAccessReviewVersion"
        causes.append(required(where, "required if match conditions are specified"))
    elif said.get("matchConditionSubjectAccessReviewVersion"):
        _one_of(said, "matchConditionSubjectAccessReviewVersion", ("v1",), path, causes)
    yes, no = (
        0.0 if said.get(f"cache{word}Requests") is False else _seconds(said, f"{ttl}TTL", default, path, causes)
        for word, ttl, default in (("Authorized", "authorized", 300.0), ("Unauthorized", "unauthorized", 30.0))
    )
    return WebhookOptions(
        name=name,
        kubeconfig=_kubeconfig(said.get("connectionInfo") or {}, f"{path}.connectionInfo", causes),
        version=said.get("subjectAccessReviewVersion") or "v1",
        authorized_seconds=yes,
        unauthorized_seconds=no,
        timeout=timeout,
        denies_on_failure=said.get("failurePolicy") == "Deny",
        conditions=_conditions(conditions, f"{path}.matchConditions", causes),
    )


def _one_of(said: Obj, name: str, wanted: Sequence[str], path: str, causes: list[Cause]) -> None:
    value = said.get(name)
    if not value:
        causes.append(required(f"{path}.{name}"))
    elif value not in wanted:
        causes.append(not_supported(f"{path}.{name}", value, wanted))


def _seconds(said: Obj, name: str, default: float, path: str, causes: list[Cause]) -> float:
    text = said.get(name)
    if not text:
        return default
    try:
        found = parse_duration(text)
    except ValueError as error:
        causes.append(invalid_value(f"{path}.{name}", text, str(error)))
        return default
    if found < 0:
        causes.append(invalid_value(f"{path}.{name}", text, "must be >= 0s"))
    return found or default


def _kubeconfig(said: Obj, path: str, causes: list[Cause]) -> Path:
    kind, file = said.get("type") or "", said.get("kubeConfigFile") or ""
    if not kind:
        causes.append(required(f"{path}.type"))
    elif kind != "KubeConfigFile":
        if kind != "InClusterConfig" or not file:
            causes.append(not_supported(f"{path}.type", kind, ("KubeConfigFile",)))
        else:
            why = "can only be set when type=KubeConfigFile"
            causes.append(invalid_value(f"{path}.kubeConfigFile", file, why))
    elif not file:
        causes.append(required(f"{path}.kubeConfigFile"))
    elif not Path(file).is_absolute():
        causes.append(invalid_value(f"{path}.kubeConfigFile", file, "must be an absolute path"))
    elif not Path(file).is_file():
        why = "must be a regular file" if Path(file).exists() else f"stat {file}: no such file or directory"
        causes.append(invalid_value(f"{path}.kubeConfigFile", file, why))
    return Path(file)


def _conditions(said: Sequence[Obj], path: str, causes: list[Cause]) -> list[Program]:
    if not said:
        return []
    from pinnace.machinery.cel.environment import CompileError
    from pinnace.machinery.cel.types import BOOL

    environment = _environment()
    found: list[Program] = []
    for index, condition in enumerate(said):
        expression, where = (condition or {}).get("expression") or "", f"{path}[{index}].expression"
        if not expression.strip():
            causes.append(required(where))
        elif any(program.text == expression for program in found):
            causes.append(duplicate(where, expression))
        else:
            try:
                found.append(environment.compile(expression, (BOOL,), "must evaluate to bool"))
            except CompileError as error:
                causes.append(invalid_value(where, expression, str(error)))
    return found


def _environment() -> Environment:
    """Conditions name `request`, the spec of a SubjectAccessReview."""
    from pinnace.machinery.cel.admission import NEWEST
    from pinnace.machinery.cel.environment import Environment
    from pinnace.machinery.cel.schema_types import schema_type

    made = schema_type(_REQUEST, "kubernetes.SubjectAccessReviewSpec")
    assert made is not None
    return Environment(NEWEST, {"request": made})


def _object(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


_TEXT: Obj = {"type": "string"}
_TEXTS: Obj = {"type": "array", "items": _TEXT}
_SELECTOR = _object(
    rawSelector=_TEXT,
    requirements={"type": "array", "items": _object(key=_TEXT, operator=_TEXT, values=_TEXTS)},
)
_REQUEST = _object(
    resourceAttributes=_object(
        namespace=_TEXT,
        verb=_TEXT,
        group=_TEXT,
        version=_TEXT,
        resource=_TEXT,
        subresource=_TEXT,
        name=_TEXT,
        fieldSelector=_SELECTOR,
        labelSelector=_SELECTOR,
    ),
    nonResourceAttributes=_object(path=_TEXT, verb=_TEXT),
    user=_TEXT,
    groups=_TEXTS,
    extra={"type": "object", "additionalProperties": _TEXTS},
    uid=_TEXT,
)


def chain_of(options: Options, closing: AsyncExitStack) -> list[Mode]:
    """The authorizers that the flags ask for, in order; `closing` closes their connections. Raises ValueError."""
    if options.authorization_config is not None:
        wanted = load_authorization(options.authorization_config)
    else:
        wanted = [_of_flag(options) if mode == "Webhook" else mode for mode in options.authorization_modes]
    found: list[Mode] = []
    for each in wanted:
        made: Any = each
        if isinstance(each, WebhookOptions):
            made = Webhook(each)
            closing.push_async_callback(made.close)
        elif each == "ABAC":
            from pinnace.apiserver.authorization.abac import load_policies

            if options.authorization_policy_file is None:
                raise ConfigurationError("authorization-mode ABAC's authorization policy file not passed")
            made = load_policies(options.authorization_policy_file)
        found.append(made)
    return found


def _of_flag(options: Options) -> WebhookOptions:
    file = options.authorization_webhook_config_file
    if file is None:
        raise ConfigurationError("authorization-mode Webhook's authorization config file not passed")
    return WebhookOptions(
        name="default",
        kubeconfig=file,
        version=options.authorization_webhook_version,
        authorized_seconds=options.authorization_webhook_cache_authorized_ttl,
        unauthorized_seconds=options.authorization_webhook_cache_unauthorized_ttl,
    )
