"""The object in a request's body: read, checked to be of the right kind, unknown fields dropped or refused.

`fieldValidation` decides what happens to unknown and duplicate fields: Ignore, Warn (the default) or Strict.
https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation.
"""

from __future__ import annotations

from typing import Any

import orjson

from pinnace.apiserver import negotiate, protobuf
from pinnace.apiserver.call import Call
from pinnace.machinery import errors
from pinnace.machinery.decoding import strict_error
from pinnace.machinery.meta import GVK, Obj, get_in, gvk_of

FIELD_VALIDATION = ("Ignore", "Strict", "Warn")


def field_validation(call: Call, options: str) -> str:
    """The `fieldValidation` parameter; `options` is the kind that the 422 for another value names."""
    mode = call.params.get("fieldValidation") or "Warn"
    if mode not in FIELD_VALIDATION:
        cause = errors.not_supported("fieldValidation", mode, FIELD_VALIDATION)
        raise errors.invalid(options, "", [cause], "meta.k8s.io")
    return mode


def read_object(call: Call, wanted: GVK, options: str = "CreateOptions") -> Obj:
    """The body as an object of kind `wanted`, the caller's own to change; `apiVersion` and `kind` are set.

    Raises 400 for anything that is not such an object, 415 for a media type that is not served.
    """
    mode = field_validation(call, options)
    duplicates: list[str] = []
    if call.request is None:
        if not isinstance(call.document, dict):
            raise errors.bad_request(f"the object provided is unrecognized (must be of type {wanted.kind})")
        obj: Obj = own(call.document)
    else:
        if call.kind.custom and negotiate.media_type_of(call.content_type) == protobuf.MEDIA_TYPE:
            raise errors.unsupported_media_type(call.content_type, negotiate.SUPPORTED)
        obj, duplicates = negotiate.load(call.request.body, call.content_type, wanted.kind, call.api.schemas)
    check_kind(obj, wanted, custom=call.kind.custom)
    return decode(call, obj, wanted, mode, duplicates)


def decode(call: Call, obj: Obj, wanted: GVK, mode: str, duplicates: list[str]) -> Obj:
    """`obj` without fields that its kind does not have; what is said of them becomes warnings, or 400 if Strict."""
    schema = call.api.schemas.for_gvk(wanted)
    unknown: list[str] = []
    if schema is not None:
        decoded, unknown = schema.decode(obj, False, wanted)
        # `decode` may hand back the very dict it was given, or share parts of it; either is ours alone.
        obj = decoded
    if duplicates or unknown:
        if mode == "Strict":
            raise strict_error(wanted, duplicates + unknown)
        if mode == "Warn":
            call.warnings += duplicates + unknown
    obj["apiVersion"] = wanted.api_version
    obj["kind"] = wanted.kind
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    return obj


def check_kind(obj: Obj, wanted: GVK, *, custom: bool = False) -> None:
    """Raise 400 unless the object says it is of the wanted kind, or leaves both out; 422 for a `custom` kind's name."""
    for name in ("apiVersion", "kind"):
        if obj.get(name) is not None and not isinstance(obj[name], str):
            raise errors.bad_request(f"the object provided is unrecognized (must be of type {wanted.kind})")
    said = gvk_of({"apiVersion": obj.get("apiVersion") or wanted.api_version, "kind": obj.get("kind") or wanted.kind})
    if said == wanted:
        return
    if (said.group, said.version) != (wanted.group, wanted.version):
        raise errors.bad_request(
            f"the API version in the data ({said.api_version}) does not match "
            f"the expected API version ({wanted.api_version})"
        )
    if custom:
        cause = errors.invalid_value("kind", said.kind, f"must be {wanted.kind}")
        raise errors.invalid(wanted.kind, str(get_in(obj, "metadata", "name", default="")), [cause], wanted.group)
    package = wanted.group.partition(".")[0] or "core"
    raise errors.bad_request(
        f'{said.kind} in version "{said.version}" cannot be handled as a {wanted.kind}: '
        f"converting ({said.version}.{said.kind}) to ({package}.{wanted.kind}): unknown conversion"
    )


def own(obj: Any) -> Any:
    """A copy that shares nothing: cheaper through bytes than by walking. Raises 400 for what JSON cannot hold."""
    try:
        return orjson.loads(orjson.dumps(obj))
    except (TypeError, ValueError) as error:
        raise errors.bad_request(str(error)) from None
