"""The errors an API answers with: one exception, `ApiError`, that is a `Status` object on the wire.

Codes, reasons and the wording of messages follow Kubernetes, because people and programs match on them
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pinnace.machinery.meta import Obj


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason among several why a request was refused: `details.causes[]` of a `Status`."""

    reason: str  # FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueDuplicate, …
    message: str  # as `field_error` words it, without the field
    field: str  # spec.containers[0].name

    def to_json(self) -> Obj:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """A request failed; `code` is the HTTP status, `reason` the machine-readable word, `message` for people."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Obj | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers  # extra response headers, e.g. Retry-After

    def to_status(self) -> Obj:
        """The `Status` object that a client sees."""
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: Obj) -> ApiError:
        """Read a `Status` received from a server back into the exception it was."""
        return cls(
            int(status.get("code") or 500),
            status.get("reason", ""),
            status.get("message", "unknown"),
            details=status.get("details"),
        )

    @property
    def is_not_found(self) -> bool:
        return self.reason == "NotFound"

    @property
    def is_already_exists(self) -> bool:
        return self.reason == "AlreadyExists"

    @property
    def is_conflict(self) -> bool:
        return self.reason == "Conflict"

    @property
    def is_expired(self) -> bool:
        """A watch or a continue token asked for a revision that is no longer kept (410)."""
        return self.reason in ("Expired", "Gone")


def qualified(resource: str, group: str) -> str:
    """`deployments.apps`, or `pods`: how messages name a resource."""
    return f"{resource}.{group}" if group else resource


def _details(group: str, kind: str, name: str, **more: Any) -> Obj:
    details: Obj = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details.update(more)
    return details


def not_found(resource: str, name: str, group: str = "") -> ApiError:
    message = f'{qualified(resource, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, details=_details(group, resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(resource: str, name: str, group: str = "") -> ApiError:
    message = f'{qualified(resource, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, details=_details(group, resource, name))


def conflict(resource: str, name: str, why: str, group: str = "") -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(group, resource, name))


def modified(resource: str, name: str, group: str = "") -> ApiError:
    """The caller's `resourceVersion` is not the stored one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why, group)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str, group: str = "") -> ApiError:
    what = f"{qualified(resource, group)}" + (f' "{name}"' if name else "")
    return ApiError(403, "Forbidden", f"{what} is forbidden: {why}", details=_details(group, resource, name))


def method_not_supported(resource: str, verb: str, group: str = "") -> ApiError:
    message = f'{verb} is not supported on resources of kind "{qualified(resource, group)}"'
    return ApiError(405, "MethodNotAllowed", message, details=_details(group, resource, ""))


def terminating_definition(resource: str, verb: str, group: str) -> ApiError:
    """Nothing new comes to a custom resource whose definition is being deleted."""
    message = f"{verb} not allowed while custom resource definition is terminating"
    return ApiError(405, "MethodNotAllowed", message, details=_details(group, resource, ""))


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, details={})


def unsupported_media_type(content_type: str, supported: Iterable[str]) -> ApiError:
    message = (
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(supported)
        if content_type
        else "the body of the request was empty of a media type - accepted media types include: " + ", ".join(supported)
    )
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(supported: Iterable[str]) -> ApiError:
    message = "only the following media types are accepted: " + ", ".join(supported)
    return ApiError(406, "NotAcceptable", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_old_resource_version(asked: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large() -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", "limit is 3145728", details={})


def too_many_requests(message: str, retry_after: int) -> ApiError:
    return ApiError(
        429,
        "TooManyRequests",
        message,
        details={"retryAfterSeconds": retry_after},
        headers=(("Retry-After", str(retry_after)),),
    )


def internal(message: str) -> ApiError:
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        details={"causes": [{"message": message}]},
    )


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


_GENERIC = {
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", ""),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: (
        "Timeout",
        "the server was unable to return a response in the time allotted, but may still be processing the request",
    ),
}


def from_backend(code: int, resource: str, name: str, text: str) -> ApiError:
    """What a server behind this one answered in plain text, as a Status that carries the text."""
    if code == 500:
        return internal(text)
    if code == 400:
        return bad_request(text)
    reason, message = _GENERIC.get(
        code, ("", f"the server responded with the status code {code} but did not return more information")
    )
    cause = Cause("UnexpectedServerResponse", text, "")
    details = _details("", resource, name, causes=[cause.to_json()])
    return ApiError(code, reason, f"{message or text} ( {resource} {name})", details=details)


def timeout(message: str) -> ApiError:
    return ApiError(504, "Timeout", f"Timeout: {message}", details={})


def invalid(kind: str, name: str, errors: list[Cause], group: str = "") -> ApiError:
    """The object breaks rules of its kind: 422, every broken rule a cause."""
    worded = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in errors]
    unique = list(dict.fromkeys(worded))
    text = unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]"
    details = _details(group, kind, name, causes=[cause.to_json() for cause in errors])
    message = f'{qualified(kind, group)} "{name}" is invalid: {text}'
    return ApiError(422, "Invalid", message, details=details)


# What a rule says of a field, in the words of Kubernetes' field errors.


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", _with("Required value", detail), field)


def invalid_value(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", _with(f"Invalid value: {show_value(value)}", detail), field)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    quoted = ", ".join(f'"{option}"' for option in sorted(supported))
    return Cause("FieldValueNotSupported", f"Unsupported value: {show_value(value)}: supported values: {quoted}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {show_value(value)}", field)


def field_forbidden(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueForbidden", _with("Forbidden", detail), field)


def field_not_found(field: str, value: Any) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {show_value(value)}", field)


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def too_many(field: str, actual: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {limit} items", field)


def wrong_type(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueTypeInvalid", _with(f"Invalid value: {show_value(value)}", detail), field)


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def show_value(value: Any) -> str:
    """A value as Kubernetes quotes it in a field error: strings in double quotes, compound values as JSON."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        import json

        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)
