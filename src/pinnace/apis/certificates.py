"""Certificate signing requests and trust bundles.

Specified in https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, needed, one_of, unchanged
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name, selectable, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_anything
from pinnace.apis.signers import LONGEST_POD_CERTIFICATE, SHORTEST_POD_CERTIFICATE, signer_errors
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.duration import human_duration
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj

USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_BLOCK = b"-----BEGIN CERTIFICATE REQUEST-----"


def validate(request: Obj) -> list[Cause]:
    spec = spec_of(request)
    errors: list[Cause] = []
    if not _is_pem(spec.get("request") or ""):
        why = "PEM block type must be CERTIFICATE REQUEST"
        errors.append(invalid_value("spec.request", spec.get("request") or "", why))
    usages = spec.get("usages") or []
    if not usages:
        errors.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in USAGES:
            errors.append(not_supported(f"spec.usages[{index}]", usage, USAGES))
        if usage in usages[:index]:
            errors.append(duplicate(f"spec.usages[{index}]", usage))
    errors += signer_errors(spec.get("signerName") or "", "spec.signerName")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        why = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid_value("spec.expirationSeconds", seconds, why))
    return errors


def _is_pem(encoded: str) -> bool:
    try:
        return _BLOCK in base64.b64decode(encoded, validate=True)
    except ValueError:
        return False


def prepare(request: Obj, old: Obj | None) -> None:
    """What was asked for stays as it was asked, whatever an update says."""
    forget_status(request, old)
    if old is not None:
        request["spec"] = old.get("spec")


_FINAL = ("Approved", "Denied", "Failed")
_EXCLUSIVE = "Approved and Denied conditions are mutually exclusive"


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    """Whoever approved, denied or failed a request did so for good."""
    conditions, before = (status_of(one).get("conditions") or [] for one in (new, old))
    if conditions == before:
        return []
    errors = _conditions(conditions, "status.conditions")
    kept = {condition.get("type") for condition in conditions}
    return errors + [
        field_forbidden("status.conditions", f'updates may not remove a condition of type "{condition["type"]}"')
        for condition in before
        if condition.get("type") in _FINAL and condition["type"] not in kept
    ]


def _conditions(conditions: list[Obj], path: str) -> list[Cause]:
    errors: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, kind, status = f"{path}[{index}]", condition.get("type") or "", condition.get("status") or ""
        allowed = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        errors += needed(f"{at}.type", kind) + one_of(f"{at}.status", status, allowed)
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        if kind in ("Approved", "Denied") and {"Approved", "Denied"} - {kind} <= seen:
            errors.append(invalid_value(f"{at}.type", kind, _EXCLUSIVE))
        seen.add(kind)
    return errors


def row(request: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(request), status_of(request)
    seconds = spec.get("expirationSeconds")
    return [
        name(request),
        age(request, now),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if seconds is None else human_duration(seconds),
        _condition(status),
    ]


def _condition(status: Obj) -> str:
    true = {condition.get("type") for condition in status.get("conditions") or ()}
    words = ["Denied"] if "Denied" in true else ["Approved"] if "Approved" in true else ["Pending"]
    if "Failed" in true:
        words.append("Failed")
    if status.get("certificate"):
        words.append("Issued")
    return ",".join(words)


CERTIFICATE_SIGNING_REQUEST = Rules(
    name=name_is_anything,
    columns=(
        NAME,
        AGE,
        column("SignerName"),
        column("Requestor"),
        column("RequestedDuration"),
        column("Condition"),
    ),
    row=row,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields=selectable("spec.signerName"),
)


def validate_bundle(bundle: Obj) -> list[Cause]:
    """A signer's bundles carry its name; those of nobody have no colon in theirs."""
    spec, given = spec_of(bundle), name(bundle)
    signer = spec.get("signerName") or ""
    errors: list[Cause] = []
    if signer:
        prefix = signer.replace("/", ":") + ":"
        if not given.startswith(prefix):
            why = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            errors.append(invalid_value("metadata.name", given, why))
        errors += signer_errors(signer, "spec.signerName")
    else:
        errors += every("metadata.name", given, names.is_dns_subdomain(given))
    if "-----BEGIN CERTIFICATE-----" not in (spec.get("trustBundle") or ""):
        why = "at least one trust anchor must be provided"
        errors.append(invalid_value("spec.trustBundle", "<value omitted>", why))
    return errors


def validate_bundle_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.signerName", spec_of(new).get("signerName"), spec_of(old).get("signerName"))


def row_bundle(bundle: Obj, _now: datetime) -> list[Any]:
    return [name(bundle), spec_of(bundle).get("signerName") or NONE]


CLUSTER_TRUST_BUNDLE = Rules(
    name=name_is_anything,
    columns=(NAME, column("SignerName")),
    row=row_bundle,
    validate=validate_bundle,
    validate_update=validate_bundle_update,
    selectable_fields=selectable("spec.signerName"),
)

_POD_FIELDS = ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID")


def default_pod_request(request: Obj) -> None:
    spec = request.setdefault("spec", {})
    if spec.get("maxExpirationSeconds") is None:
        spec["maxExpirationSeconds"] = 24 * 3600


def validate_pod_request(request: Obj) -> list[Cause]:
    spec = spec_of(request)
    errors = signer_errors(spec.get("signerName") or "", "spec.signerName")
    errors += [error for key in _POD_FIELDS for error in needed(f"spec.{key}", spec.get(key))]
    seconds = spec.get("maxExpirationSeconds") or 0
    if not SHORTEST_POD_CERTIFICATE <= seconds <= LONGEST_POD_CERTIFICATE:
        why = f"must be in the range [{SHORTEST_POD_CERTIFICATE}, {LONGEST_POD_CERTIFICATE}]"
        errors.append(invalid_value("spec.maxExpirationSeconds", seconds, why))
    return errors


def validate_pod_request_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec", new.get("spec"), old.get("spec"))


POD_CERTIFICATE_REQUEST = Rules(
    default=default_pod_request,
    validate=validate_pod_request,
    validate_update=validate_pod_request_update,
    prepare=forget_status,
)
