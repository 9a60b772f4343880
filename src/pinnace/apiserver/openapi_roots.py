"""The operations that OpenAPI lists outside the resources: version, discovery, and the issuer of tokens.

In version 3 each of these paths has a document of its own, but those of discovery within a group and version, which
stand in the document of the resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pinnace.apiserver.openapi_paths import JSON, Operation, group_word, tag_of
from pinnace.machinery.meta import GVK

VERSION = GVK("", "", "Info")  # `pkg.version.Info`, which has no group-version-kind of its own


def root_operations(groups: Iterable[tuple[str, Iterable[str]]]) -> Iterator[Operation]:
    """What is served besides `groups`' resources: `(group, versions)`, the core group's name empty."""
    yield _get("/version/", "getCodeVersion", "get the version information for this server", "version", VERSION)
    yield Operation(
        path="/.well-known/openid-configuration/",
        method="get",
        operation_id="getServiceAccountIssuerOpenIDConfiguration",
        description="get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        tag="WellKnown",
        consumes=(),
        produces=(JSON,),
    )
    yield Operation(
        path="/openid/v1/jwks/",
        method="get",
        operation_id="getServiceAccountIssuerOpenIDKeyset",
        description="get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        tag="openid",
        consumes=(),
        produces=("application/jwk-set+json",),
    )
    versions = "get available API versions"
    yield _get("/api/", "getCoreAPIVersions", versions, "core", GVK("", "v1", "APIVersions"))
    yield _get("/apis/", "getAPIVersions", versions, "apis", GVK("", "v1", "APIGroupList"))
    for group, of_group in groups:
        word = group_word(group)
        if group:
            about = "get information of a group"
            yield _get(f"/apis/{group}/", f"get{word}APIGroup", about, tag_of(group), GVK("", "v1", "APIGroup"))
        for version in of_group:
            yield resources_operation(group, version)


def resources_operation(group: str, version: str) -> Operation:
    """The list of a group and version's resources."""
    return _get(
        f"/apis/{group}/{version}/" if group else f"/api/{version}/",
        f"get{group_word(group)}{version.capitalize()}APIResources",
        "get available resources",
        tag_of(group, version),
        GVK("", "v1", "APIResourceList"),
    )


def _get(path: str, name: str, description: str, tag: str, answer: GVK) -> Operation:
    return Operation(
        path=path,
        method="get",
        operation_id=name,
        description=description,
        tag=tag,
        answer=answer,
        consumes=(JSON,),
        produces=(JSON,),
    )
