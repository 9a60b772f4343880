"""PATCH with `application/apply-patch+yaml`: server-side apply, of objects, their status and their scale.

The configuration is merged into what there is, which is created where there is nothing; fields that other managers own
and it would change are a conflict. Other types of patch are passed on to `update`.
https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pinnace.apiserver import negotiate
from pinnace.apiserver.asking import asking
from pinnace.apiserver.cache import CachedObject
from pinnace.apiserver.call import Call, One, shown
from pinnace.apiserver.decode import decode, field_validation, own
from pinnace.apiserver.handlers import scale, update
from pinnace.apiserver.handlers.create import create_object
from pinnace.apiserver.handlers.managers import KindVersions, author_of, check_manager, now, set_entries, with_versions
from pinnace.apiserver.storage import RETRIES
from pinnace.machinery import errors, json, last_applied, managed_fields, typed_check
from pinnace.machinery.errors import ApiError
from pinnace.machinery.managed_fields import Applied, ApplyConflict
from pinnace.machinery.meta import GVK, Obj, get_in, parse_api_version
from pinnace.machinery.typed import node_of

OPTIONS = "PatchOptions"

_NO_MAP = (
    "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
    "json: cannot unmarshal {} into Go value of type map[string]interface {{}}"
)


async def patch(call: Call) -> One:
    """PATCH of an object, or of its status."""
    return await patch_with(call, update.restriction(call))


async def patch_with(call: Call, restrict: update.Restrict) -> One:
    """PATCH, the result cut by `restrict`."""
    if not _is_apply(call):
        return await update.patch_with(call, restrict)
    return await _apply(call, _read(call, call.kind.gvk), restrict)


async def patch_scale(call: Call) -> One:
    """PATCH of a scale."""
    if not _is_apply(call):
        return await scale.patch(call)
    config = _read(call, scale.SCALE)
    done = await _apply(call, config._replace(document=_workload_of(call, config.document)), update.unrestricted)
    return scale.answer(call, done.obj)


def _is_apply(call: Call) -> bool:
    """Whether the patch is a configuration to apply. Raises 422 for options that the type of patch does not take."""
    if negotiate.media_type_of(call.content_type) == update.APPLY_PATCH:
        required = errors.required("fieldManager", "is required for apply patch")
        check_manager(
            call.params.get("fieldManager", ""), OPTIONS, *([] if call.params.get("fieldManager") else [required])
        )
        return True
    if "force" in call.params:
        why = "may not be specified for non-apply patch"
        check_manager(call.params.get("fieldManager", ""), OPTIONS, errors.field_forbidden("force", why))
    return False


# The configuration.


class _Config(NamedTuple):
    document: Obj
    complaint: str  # of a strict decoder: what is written twice

    @property
    def is_pinned(self) -> bool:
        """Whether it names the version that it is to be applied to."""
        return bool(get_in(self.document, "metadata", "resourceVersion"))


def _read(call: Call, wanted: GVK) -> _Config:
    """The configuration in the body. Raises 400 for anything else, or for one of another kind than `wanted`."""
    mode = field_validation(call, OPTIONS)
    document, complaint = (own(call.document), "") if call.request is None else _load(call.request.body, mode)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise errors.bad_request(_NO_MAP.format(json.go_kind(document)))
    api_version, kind = document.get("apiVersion"), document.get("kind")
    group, version = parse_api_version(api_version) if isinstance(api_version, str) else ("", "")
    if (group, version, kind) != wanted:
        named = kind if isinstance(kind, str) else ""
        raise errors.bad_request(f"invalid object type: {group}/{version}, Kind={named}")
    return _Config(document, complaint)


def _load(body: bytes, mode: str) -> tuple[Any, str]:
    """A YAML document, which JSON is too, and what a strict decoder would say of it unless `mode` is Ignore."""
    from pinnace.machinery import yaml

    try:
        if body.startswith(b"{"):  # nearly every client sends JSON
            document = json.loads(body)
            if not json.duplicates(body, document):
                return document, ""
        document = yaml.load(body)
    except (json.JsonError, yaml.YamlError) as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from None
    if mode == "Ignore":
        return document, ""
    try:
        yaml.load(body, strict=True)
    except yaml.YamlError as error:
        return document, str(error)
    return document, ""


def _workload_of(call: Call, config: Obj) -> Obj:
    """The configuration of a scale as one of the workload: its replicas and nothing else."""
    schema = call.api.schemas.for_gvk(scale.SCALE)
    found = typed_check.problems(node_of(schema), config)
    if found:
        raise managed_fields.untyped(config, scale.SCALE.api_version, found)
    wanted = get_in(config, "spec", "replicas")
    scale.check_replicas(call, wanted or 0)
    meta = config.get("metadata") or {}
    below: Any = wanted
    assert call.kind.scale is not None
    for name in reversed(call.kind.scale.spec_replicas.split(".")):
        below = {name: below}
    kept = {
        name: meta[name] for name in ("name", "namespace", "resourceVersion", "uid", "managedFields") if name in meta
    }
    kind = call.kind
    return {
        "apiVersion": kind.gvr.api_version,
        "kind": kind.kind,
        "metadata": kept,
        **(below if wanted is not None else {}),
    }


# Applying it.


async def _apply(call: Call, config: _Config, restrict: update.Restrict) -> One:
    for _ in range(RETRIES):
        if call.cache.get(call.key) is None and not call.info.subresource:
            try:
                return await _create(call, config)
            except ApiError as error:
                if not error.is_already_exists:
                    raise
                continue  # somebody else was first: there is something to apply to now
        try:
            return await _change(call, config, restrict)
        except ApiError as error:
            if not error.is_not_found or call.info.subresource or call.cache.get(call.key) is not None:
                raise
    raise errors.modified(call.kind.plural, call.info.name, call.kind.group)


async def _create(call: Call, config: _Config) -> One:
    await asking(lambda: call.api.authorizer.authorize(call.user, call.info._replace(verb="create")))
    if call.kind.terminating:
        raise errors.terminating_definition(call.kind.plural, "create", call.kind.group)
    obj = _decoded(call, config, await _applied(call, None, config.document))
    uid = obj["metadata"].get("uid")
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise errors.conflict(call.kind.plural, call.info.name, why, call.kind.group)
    return await create_object(call, obj, tracked=True)


async def _change(call: Call, config: _Config, restrict: update.Restrict) -> One:
    entries: list[Obj] = []

    async def make(old: CachedObject) -> Obj:
        nonlocal entries
        done = await _applied(call, shown(call.kind, old), config.document)
        entries = done.entries
        return _decoded(call, config, done)

    async def track(_: Call, new: Obj, __: Obj) -> None:
        set_entries(new["metadata"], entries)

    return await update.modify(call, make, restrict, pinned=config.is_pinned, track=track)


async def _applied(call: Call, live: Obj | None, config: Obj) -> Applied:
    """What the configuration makes of `live`. Raises ApplyConflict (409)."""
    author = author_of(call, OPTIONS)

    def run(force: bool) -> Callable[[KindVersions], Applied]:
        return lambda versions: managed_fields.apply(author, versions, live, config, force, now())

    try:
        done = await with_versions(call, run(call.flag("force")))
    except ApplyConflict as conflict:
        if live is None or author.manager != last_applied.MANAGER:
            raise
        node = node_of(call.api.schemas.for_gvk(call.kind.gvk))
        if not last_applied.settles(node, live, conflict):
            raise last_applied.remaining(node, live, conflict) from None
        done = await with_versions(call, run(True))
    if author.manager == last_applied.MANAGER and not call.info.subresource:
        return Applied(last_applied.updated(done.obj, config), done.entries)
    return done


def _decoded(call: Call, config: _Config, done: Applied) -> Obj:
    """The object as every write has it: of its schema, named as its path, ours to change."""
    if config.complaint:
        if call.params.get("fieldValidation") == "Strict":
            raise errors.bad_request(f"error strict decoding YAML: {config.complaint}")
        call.warnings.append(config.complaint)
    obj: Obj = own(done.obj)
    obj.setdefault("metadata", {})["managedFields"] = done.entries
    decoded = decode(call, obj, call.kind.gvk, "Ignore", [])
    update.check_address(call, decoded)
    return decoded
