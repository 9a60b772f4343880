"""Which form a client wants an answer in, and bodies read from the forms clients send.

JSON always, YAML when asked, tables and bare metadata as variants of JSON. Protobuf is read but not written: a client
that accepts JSON besides gets JSON.
https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from pinnace.apiserver import protobuf
from pinnace.machinery import errors, json
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.machinery.schema import Schemas

JSON = "application/json"
YAML = "application/yaml"
SUPPORTED = (JSON, YAML)  # of answers
READ = (JSON, YAML, protobuf.MEDIA_TYPE)  # of bodies

_VARIANTS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
_PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")


class Format(NamedTuple):
    """The form of one answer."""

    yaml: bool = False
    variant: str = ""  # Table, PartialObjectMetadata, PartialObjectMetadataList
    version: str = "v1"  # of meta.k8s.io, for a variant
    pretty: bool = False


PLAIN = Format()


def format_of(accept: str, pretty: str | None, agent: str, *, variants: bool = True) -> Format:
    """The form that the headers and `?pretty=` ask for; `variants` may be had of what is stored. Raises 406."""
    found = _of_accept(accept, variants)
    wants_pretty = agent.startswith(_PRETTY_AGENTS) if pretty is None else pretty not in ("false", "0")
    return found._replace(pretty=True) if wants_pretty else found


@lru_cache(maxsize=256)
def _of_accept(accept: str, variants: bool) -> Format:
    for media_type, params in media_ranges(accept):
        if media_type not in (JSON, YAML, "*/*", "application/*"):
            continue
        variant = params.get("as", "")
        if variant and (not variants or variant not in _VARIANTS or params.get("g") != "meta.k8s.io"):
            continue
        version = params.get("v", "v1")
        if variant and version not in ("v1", "v1beta1"):
            continue
        return Format(media_type == YAML, variant, version)
    raise errors.not_acceptable(SUPPORTED)


def media_ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """`Accept` as `(media type, parameters)`, the most wanted first; everything when the header is empty."""
    ranges: list[tuple[float, str, dict[str, str]]] = []
    for clause in accept.split(","):
        media_type, *rest = (part.strip() for part in clause.split(";"))
        if not media_type:
            continue
        params = {name.strip(): value.strip().strip('"') for name, _, value in (part.partition("=") for part in rest)}
        try:
            quality = float(params.pop("q", "1"))
        except ValueError:
            quality = 1.0
        ranges.append((quality, media_type.lower(), params))
    ranges.sort(key=lambda item: -item[0])
    return [(media_type, params) for _, media_type, params in ranges] or [("*/*", {})]


def dump(value: Any, form: Format) -> tuple[bytes, str]:
    """A JSON value in the form asked for, and its Content-Type."""
    if form.yaml:
        from pinnace.machinery import yaml

        return yaml.dump(value).encode(), YAML
    if form.pretty:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), JSON
    return orjson.dumps(value), JSON


def media_type_of(content_type: str) -> str:
    """`application/json` of `application/json; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def load(body: bytes, content_type: str, wanted: str, schemas: Schemas) -> tuple[Obj, list[str]]:
    """The object in a JSON, YAML or protobuf body, and its duplicate fields; an empty `content_type` means JSON.

    Raises 415, or 400 for a body that is neither; `wanted` is the kind that the message says it must be.
    """
    media_type = media_type_of(content_type) or JSON
    if media_type == JSON:
        obj = json.load_object(body, wanted)
        return obj, json.duplicates(body, obj)
    if media_type == protobuf.MEDIA_TYPE:
        try:
            return protobuf.load(body, schemas), []
        except protobuf.ProtobufError as error:
            raise json.unrecognized(wanted, str(error), body) from None
    if media_type != YAML:
        raise errors.unsupported_media_type(media_type, READ)
    from pinnace.machinery import yaml

    try:
        as_json = json.dumps(yaml.load(body))
    except (yaml.YamlError, TypeError) as error:
        why = f"couldn't get version/kind; json parse error: {error}"
        raise json.unrecognized(wanted, why, body) from None
    return json.load_object(as_json, wanted), []


def status_body(error: ApiError, form: Format) -> tuple[bytes, str]:
    """An error as the `Status` that the client sees."""
    status: Obj = error.to_status()
    return dump(status, form._replace(variant=""))
