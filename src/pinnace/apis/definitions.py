"""CustomResourceDefinition: how users add kinds to the API. What it defaults to, what it must be, what may change.

Paths of errors are those of kube-apiserver, whose internal form keeps what all versions share at the top: a definition
with one version is told of `spec.validation`, one with several of `spec.versions[1].schema`. Specified in
https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pinnace.apis.checks import IMMUTABLE
from pinnace.apis.definition_schemas import schema_causes
from pinnace.apis.fields import NAME, column, name, spec_of, status_of
from pinnace.apis.kind import METADATA, Rules
from pinnace.apis.metadata import name_is_anything
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVED = "api-approved.kubernetes.io"

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_NAMES = ("plural", "singular", "kind", "listKind")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_PROPOSAL = "https://github.com/kubernetes/enhancements/pull/1111"


def default_definition(definition: Obj) -> None:
    spec = definition.setdefault("spec", {})
    given = spec.setdefault("names", {})
    if given.get("kind"):
        given.setdefault("singular", given["kind"].lower())
        given.setdefault("listKind", f"{given['kind']}List")
    conversion = spec.setdefault("conversion", {})
    if not conversion.get("strategy"):
        conversion["strategy"] = "None"
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def prepare_definition(definition: Obj, old: Obj | None) -> None:
    """Every version that was ever stored is remembered, until someone says it is gone."""
    stored = [one.get("name") for one in spec_of(definition).get("versions") or () if one.get("storage")]
    if old is None:
        definition["status"] = {
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored[:1],
        }
        return
    status = dict(definition.get("status") or old.get("status") or {})
    known = list(status.get("storedVersions") or [])
    status["storedVersions"] = known + [version for version in stored[:1] if version not in known]
    definition["status"] = status


def begin_deletion(definition: Obj) -> None:
    """The finalizer holds the definition until its objects are gone, and clients are told."""
    meta, status = definition["metadata"], definition.setdefault("status", {})
    finalizers = meta.get("finalizers") or []
    if CLEANUP_FINALIZER not in finalizers:
        meta["finalizers"] = [*finalizers, CLEANUP_FINALIZER]
    why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    set_condition(status, "Terminating", "True", "InstanceDeletionPending", why, "")


def set_condition(status: Obj, kind: str, value: str, reason: str, message: str, now: str) -> None:
    """Put the condition into `status` in place; `now` is its transition time where the value changes."""
    conditions = [dict(one) for one in status.get("conditions") or ()]
    status["conditions"] = conditions
    found = next((one for one in conditions if one.get("type") == kind), None)
    if found is None:
        found = {"type": kind}
        conditions.append(found)
    if found.get("status") != value and now:
        found["lastTransitionTime"] = now
    found |= {"status": value, "reason": reason, "message": message}


def condition_is(definition: Obj, kind: str, value: str = "True") -> bool:
    conditions = status_of(definition).get("conditions") or ()
    return any(one.get("type") == kind and one.get("status") == value for one in conditions)


def is_served(definition: Obj) -> bool:
    """Whether requests for its objects are answered; those of one that is being deleted still are."""
    return condition_is(definition, "Established") and not condition_is(definition, "Terminating", "False")


# Validation.


def validate_definition(definition: Obj) -> list[Cause]:
    return [*_every_rule(definition, None), *_approval(definition, None)]


def validate_definition_update(new: Obj, old: Obj) -> list[Cause]:
    errors = list(_every_rule(new, old)) if spec_of(new) != spec_of(old) else []
    spec, before = spec_of(new), spec_of(old)
    fixed = [("spec.group", spec.get("group"), before.get("group"))]
    given, given_before = spec.get("names") or {}, before.get("names") or {}
    fixed.append(("spec.names.plural", given.get("plural"), given_before.get("plural")))
    if condition_is(old, "Established"):
        fixed.append(("spec.scope", spec.get("scope"), before.get("scope")))
        fixed.append(("spec.names.kind", given.get("kind"), given_before.get("kind")))
        errors += _bundle(spec, before)
    errors += [invalid_value(path, value, IMMUTABLE) for path, value, was in fixed if value != was]
    errors += _stored_versions(new)
    return [*errors, *_approval(new, old)]


def _every_rule(definition: Obj, old: Obj | None) -> Iterator[Cause]:
    spec = spec_of(definition)
    given, group = spec.get("names") or {}, spec.get("group") or ""
    if definition["metadata"].get("name") != f"{given.get('plural')}.{group}":
        why = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", definition["metadata"].get("name"), why)
    if not group:
        yield required("spec.group")
    elif bad := names.is_dns_subdomain(group):
        yield invalid_value("spec.group", group, ",".join(bad))
    elif "." not in group:
        yield invalid_value("spec.group", group, "should be a domain with at least one dot")
    yield from _one_of("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    yield from schema_causes(spec, spec_of(old) if old else None)
    yield from _versions(spec.get("versions") or [])
    yield from (required(f"spec.names.{key}") for key in _NAMES if not given.get(key))
    yield from _names(given, "spec.names")
    yield from _shown(spec.get("versions") or [])
    yield from _conversion(spec.get("conversion") or {})
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield invalid_value("spec.preserveUnknownFields", True, why)


def _one_of(path: str, value: str | None, options: tuple[str, ...]) -> Iterator[Cause]:
    if not value:
        yield required(path)
    elif value not in options:
        yield not_supported(path, value, options)


def _versions(versions: list[Obj]) -> Iterator[Cause]:
    for index, version in enumerate(versions):
        path, version_name = f"spec.versions[{index}]", version.get("name") or ""
        if bad := names.is_dns_1035_label(version_name):
            yield invalid_value(f"{path}.name", version_name, ",".join(bad))
        yield from _deprecation(version, path)
    if len({version.get("name") for version in versions}) < len(versions):
        yield invalid_value("spec.versions", versions, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid_value("spec.versions", versions, "must have exactly one version marked as storage version")


def _deprecation(version: Obj, path: str) -> Iterator[Cause]:
    warning = version.get("deprecationWarning")
    if warning is None:
        return
    where = f"{path}.deprecationWarning"
    if not version.get("deprecated"):
        yield invalid_value(where, warning, "can only be set for deprecated versions")
        return
    if len(warning) > 256:
        yield invalid_value(where, warning, "must be <= 256 characters long")
    if not warning:
        yield invalid_value(where, warning, "must not be an empty string")
    odd = next((index for index, char in enumerate(warning) if not char.isprintable()), None)
    if odd is not None:
        why = f"must only contain printable UTF-8 characters; non-printable character found at index {odd}"
        yield invalid_value(where, warning, why)


def _names(given: Obj, path: str) -> Iterator[Cause]:
    for key in _NAMES:
        value = given.get(key)
        bad = names.is_dns_1035_label(value.lower() if key.lower().endswith("kind") else value) if value else []
        if bad:
            mixed = "may have mixed case, but should otherwise match: " if key.lower().endswith("kind") else ""
            yield invalid_value(f"{path}.{key}", value, mixed + ",".join(bad))
    for key in ("shortNames", "categories"):
        for index, value in enumerate(given.get(key) or ()):
            if bad := names.is_dns_1035_label(value):
                yield invalid_value(f"{path}.{key}[{index}]", value, ",".join(bad))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        yield invalid_value(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")


def _shown(versions: list[Obj]) -> Iterator[Cause]:
    """Subresources and columns."""
    for path, version in places(versions, "subresources"):
        yield from _scale((version.get("subresources") or {}).get("scale"), f"{path}.subresources.scale")
    for path, version in places(versions, "additionalPrinterColumns"):
        for index, given in enumerate(version.get("additionalPrinterColumns") or ()):
            yield from _column(given, f"{path}.additionalPrinterColumns[{index}]")


def places(versions: list[Obj], field: str) -> Iterator[tuple[str, Obj]]:
    """Each version with a value of `field`, under the path that errors name: one at the top where all say the same."""
    present = [(index, version) for index, version in enumerate(versions) if version.get(field)]
    if present and len(present) == len(versions) and all(one[field] == versions[0][field] for _, one in present):
        yield "spec", versions[0]
        return
    for index, version in present:
        yield f"spec.versions[{index}]", version


def _scale(scale: Obj | None, path: str) -> Iterator[Cause]:
    if scale is None:
        return
    for key, below in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(key)
        if not value:
            yield required(f"{path}.{key}")
        elif bad := list(_simple_path(value, f"{path}.{key}")):
            yield from bad
        elif not value.startswith(below):
            yield invalid_value(f"{path}.{key}", value, f"should be a json path under {below[:-1]}")
    selector = scale.get("labelSelectorPath")
    if not selector:
        return
    bad = list(_simple_path(selector, f"{path}.labelSelectorPath"))
    yield from bad
    if not bad and not selector.startswith((".spec.", ".status.")):
        why = "should be a json path under either .spec or .status"
        yield invalid_value(f"{path}.labelSelectorPath", selector, why)


def _simple_path(value: str, path: str) -> Iterator[Cause]:
    if not value.startswith("."):
        yield invalid_value(path, value, "must be a simple json path starting with .")


def _column(given: Obj, path: str) -> Iterator[Cause]:
    if not given.get("name"):
        yield required(f"{path}.name")
    why = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not given.get("type"):
        yield required(f"{path}.type", why)
    elif given["type"] not in _COLUMN_TYPES:
        yield invalid_value(f"{path}.type", given["type"], why)
    if given.get("format") and given["format"] not in _COLUMN_FORMATS:
        yield invalid_value(f"{path}.format", given["format"], f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not given.get("jsonPath"):
        yield required(f"{path}.JSONPath")
    else:
        yield from _simple_path(given["jsonPath"], f"{path}.JSONPath")


def _conversion(conversion: Obj) -> Iterator[Cause]:
    path, webhook = "spec.conversion", conversion.get("webhook")
    yield from _one_of(f"{path}.strategy", conversion.get("strategy"), ("None", "Webhook"))
    client = (webhook or {}).get("clientConfig")
    versions = (webhook or {}).get("conversionReviewVersions") or []
    if conversion.get("strategy") != "Webhook":
        why = "should not be set when strategy is not set to Webhook"
        if client is not None:
            yield field_forbidden(f"{path}.webhookClientConfig", why)
        if versions:
            yield field_forbidden(f"{path}.conversionReviewVersions", why)
        return
    if client is None:
        yield required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")
    else:
        yield from _client(client, f"{path}.webhookClientConfig")
    if not versions:
        yield required(f"{path}.conversionReviewVersions")
        return
    for index, version in enumerate(versions):
        where = f"{path}.conversionReviewVersions[{index}]"
        if version in versions[:index]:
            yield invalid_value(where, version, "duplicate version")
        else:
            yield from (invalid_value(where, version, bad) for bad in names.is_dns_1035_label(version))
    if not set(versions) & set(_REVIEW_VERSIONS):
        why = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        yield invalid_value(f"{path}.conversionReviewVersions", versions, why)


def _client(client: Obj, path: str) -> Iterator[Cause]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        yield required(path, "exactly one of url or service is required")
        return
    if service is None:
        parts = urlsplit(url)
        if str(parts.scheme) != "https":
            form = "https://host[:port]/path"
            why = f"'https' is the only allowed URL scheme; desired format: {form}"
            yield invalid_value(f"{path}.url", parts.scheme, why)
        if not parts.netloc:
            yield invalid_value(f"{path}.url", "", "host must be specified; desired format: https://host[:port]/path")
        return
    for key in ("name", "namespace"):
        if not service.get(key):
            yield required(f"{path}.service.{key}", f"service {key} is required")
    port = service.get("port") or 443
    if names.is_port_number(port):
        why = f"port is not valid: {','.join(names.is_port_number(port))}"
        yield invalid_value(f"{path}.service.port", port, why)


def _bundle(spec: Obj, before: Obj) -> list[Cause]:
    """Certificates of a webhook that is in use must be some; bad ones may stay until they are mended."""
    given, was = (
        (((one.get("conversion") or {}).get("webhook") or {}).get("clientConfig") or {}).get("caBundle") or ""
        for one in (spec, before)
    )
    if not given or _is_pem(given) or (was and not _is_pem(was)):
        return []
    why = "unable to load root certificates: unable to parse bytes as PEM block"
    return [invalid_value("spec.conversion.webhookClientConfig.caBundle", given, why)]


def _is_pem(bundle: str) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE-----" in base64.b64decode(bundle, validate=True)
    except binascii.Error:
        return False


def _stored_versions(definition: Obj) -> Iterator[Cause]:
    stored = status_of(definition).get("storedVersions") or []
    path = "status.storedVersions"
    if not stored:
        yield invalid_value(path, stored, "must have at least one stored version")
        return
    versions = spec_of(definition).get("versions") or []
    for version in versions:
        if version.get("storage") and version.get("name") not in stored:
            yield invalid_value(path, stored, f"must have the storage version {version.get('name')}")
    known = {version.get("name") for version in versions}
    for index, version in enumerate(stored):
        if version not in known:
            why = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {version} and removes "
                f"{version} from status.storedVersions"
            )
            yield invalid_value(f"{path}[{index}]", version, why)


# Groups of the Kubernetes project.


def is_protected(group: str) -> bool:
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval(definition: Obj) -> tuple[str, str]:
    """Whether the API has been reviewed, and why: `(Approved|Bypassed|Invalid|Missing, message)`."""
    given = (definition["metadata"].get("annotations") or {}).get(APPROVED) or ""
    if not given:
        return "Missing", f'protected groups must have approval annotation "{APPROVED}", see {_PROPOSAL}'
    if given.startswith("unapproved"):
        return "Bypassed", f'not approved: "{given}"'
    parts = urlsplit(given)
    if parts.scheme and parts.netloc:
        return "Approved", f"approved in {given}"
    why = f'protected groups must have approval annotation "{APPROVED}" with either a URL or a reason starting with'
    return "Invalid", f'{why} "unapproved", see {_PROPOSAL}'


def _approval(new: Obj, old: Obj | None) -> Iterator[Cause]:
    if not is_protected(spec_of(new).get("group") or ""):
        return
    state, why = approval(new)
    if old is not None and approval(old)[0] == state:
        return
    path = f"metadata.annotations[{APPROVED}]"
    if state == "Invalid":
        yield invalid_value(path, new["metadata"]["annotations"][APPROVED], why)
    elif state == "Missing":
        yield required(path, why)


def row_definition(definition: Obj, _now: datetime) -> list[Any]:
    return [name(definition), definition["metadata"].get("creationTimestamp") or ""]


CUSTOM_RESOURCE_DEFINITION = Rules(
    status_leaves=METADATA,
    name=name_is_anything,
    columns=(NAME, column("Created At", "date")),
    row=row_definition,
    default=default_definition,
    validate=validate_definition,
    validate_when_updated=lambda _: [],  # an update is judged with what was before
    validate_update=validate_definition_update,
    prepare=prepare_definition,
    begin_deletion=begin_deletion,
)
