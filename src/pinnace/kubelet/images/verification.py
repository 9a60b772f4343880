"""Whether a pod may use an image that is on the node already: with which credentials it came, and what the pod shows.

Pure (KEP-2535, https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification). A record
is an ImagePulledRecord of kubelet.config.k8s.io.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pinnace.kubelet.images.keyring import Credential
from pinnace.kubelet.images.references import problem, repository
from pinnace.machinery.meta import Obj

GATE = "KubeletEnsureSecretPulledImages"
NEVER, PRELOADED = "NeverVerify", "NeverVerifyPreloadedImages"
ALLOWLISTED, ALWAYS = "NeverVerifyAllowlistedImages", "AlwaysVerify"
POLICIES = (NEVER, PRELOADED, ALLOWLISTED, ALWAYS)
MOST_SECRETS = 100  # that a record is lengthened by without a pull


@dataclass(frozen=True, slots=True)
class Policy:
    """Which images need no proof."""

    name: str = PRELOADED
    allowlist: Sequence[str] = ()

    def exempts(self, image: str, *, pulled_here: bool) -> bool:
        """Whether every pod may use an image; `pulled_here` says that this kubelet has fetched it, or begun to."""
        if self.name == ALLOWLISTED:
            wanted = repository(image)
            return any(_allows(pattern, wanted) for pattern in self.allowlist)
        return self.name == NEVER or (self.name == PRELOADED and not pulled_here)


def _allows(pattern: str, wanted: str) -> bool:
    if pattern.endswith("/*"):
        return wanted.startswith(pattern[:-1])
    return repository(pattern) == wanted


def pattern_problem(pattern: str) -> str:
    """What is wrong with an entry of the allowlist; empty where nothing is."""
    if pattern != pattern.strip():
        return f"leading/trailing spaces are not allowed: {pattern}"
    bare = pattern[:-1] if pattern.endswith("/*") else pattern
    if not bare:
        return f"the supplied pattern is too short: {pattern}"
    if "*" in bare:
        return f"not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
    if bare != pattern:
        return "at least registry hostname is required" if len(bare) == 1 else ""
    if why := problem(pattern):
        return f"failed to parse as an image name: {why}"
    if "@" in pattern or ":" in pattern.rpartition("/")[2]:
        return f"neither tag nor digest is accepted in an image reference: {pattern}"
    return ""


def proven(record: Obj | None, image: str, shown: Iterable[Credential]) -> tuple[bool, Credential | None]:
    """Whether a pod that shows these credentials may use the image, and what the record should learn from them."""
    mapping = (record or {}).get("credentialMapping") or {}
    known = mapping.get(repository(image))
    if known is None:
        return False, None
    if known.get("nodePodsAccessible"):
        return True, None
    credentials = list(shown)
    secrets: Sequence[Obj] = known.get("kubernetesSecrets") or ()
    for credential in _owned(credentials, "Secret"):
        for secret in secrets:
            same_hash, same_secret = secret.get("credentialHash") == credential.hash, _is_of(secret, credential)
            if same_hash or same_secret:
                is_new = same_hash != same_secret and len(secrets) < MOST_SECRETS
                return True, credential if is_new else None
    accounts: Sequence[Obj] = known.get("kubernetesServiceAccounts") or ()
    return any(_is_of(one, each) for one in accounts for each in _owned(credentials, "ServiceAccount")), None


def _owned(credentials: Iterable[Credential], kind: str) -> list[Credential]:
    return [one for one in credentials if one.owner is not None and one.owner.kind == kind]


def _is_of(one: Obj, credential: Credential) -> bool:
    owner, named = credential.owner, (one.get("namespace"), one.get("name"), one.get("uid"))
    return owner is not None and named == (owner.namespace, owner.name, owner.uid)


def with_credential(record: Obj, image: str, credential: Credential | None) -> Obj:
    """The record of an image that was pulled with a credential, or without any; the same one where it tells that."""
    mapping = record.get("credentialMapping") or {}
    before: Obj = mapping.get(repository(image)) or {}
    if before.get("nodePodsAccessible"):
        return record
    after = _added(before, credential)
    if after == before:
        return record
    return {**record, "credentialMapping": {**mapping, repository(image): after}}


def _added(before: Obj, credential: Credential | None) -> Obj:
    owner = credential.owner if credential is not None else None
    if credential is None or owner is None:
        return {"nodePodsAccessible": True}
    one: dict[str, Any] = {"uid": owner.uid, "namespace": owner.namespace, "name": owner.name}
    field = "kubernetesServiceAccounts"
    if owner.kind == "Secret":
        one["credentialHash"] = credential.hash
        field = "kubernetesSecrets"
    kept = [each for each in before.get(field) or () if not _is_of(each, credential)]
    return {**before, field: sorted([*kept, one], key=lambda each: (each["namespace"], each["name"], each["uid"]))}
