"""MutatingAdmissionPolicy: expressions in CEL that change objects, before mutating webhooks see them.

https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/.
An `ApplyConfiguration` is merged by the rules of server-side apply; lists, maps and structs that are owned whole are
not for it to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pinnace.apis.kind import Kind
from pinnace.apiserver.admission.chain import Attributes, Plugin, Reinvocation
from pinnace.apiserver.admission.expressions import variables_for
from pinnace.apiserver.admission.matching import Match, PerObject
from pinnace.apiserver.admission.policies import Bound, is_exempt, refusal
from pinnace.apiserver.admission.policy_params import Misconfigured, param_kind, params_for
from pinnace.apiserver.admission.review import seen_as, taken_back
from pinnace.apiserver.cache import ResourceCache
from pinnace.apiserver.decode import own
from pinnace.machinery import json_patch
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, gvk_of

if TYPE_CHECKING:
    from pinnace.machinery.cel.mutation import MutatingPolicy, Mutation
    from pinnace.machinery.typed import Node

_GROUP = "admissionregistration.k8s.io"
_VERSIONS = ("v1", "v1beta1", "v1alpha1")


@dataclass(slots=True)
class _Loaded:
    """A policy, compiled."""

    name: str
    spec: Obj
    match: Match
    policy: MutatingPolicy
    problem: str

    @classmethod
    def read(cls, obj: Obj) -> _Loaded:
        from pinnace.machinery.cel.mutation import compile_mutating

        spec = obj.get("spec") or {}
        policy, causes = compile_mutating(spec)
        problem = f"{causes[0].field}: {causes[0].message}" if causes else ""
        return cls(obj["metadata"]["name"], spec, Match(spec.get("matchConstraints") or {}), policy, problem)


class MutatingPolicies(Plugin):
    dynamic = True

    def __init__(self) -> None:
        self._policies: PerObject[_Loaded] = PerObject(_Loaded.read)
        self._bindings: PerObject[Bound] = PerObject(Bound.read)
        self._caches: tuple[ResourceCache, ResourceCache] | None = None
        self._served = True  # whether the minor has these policies at all

    async def mutate(self, attributes: Attributes) -> None:
        if not self._served:
            return
        if self._caches is None and not self._find(attributes):
            return
        assert self._caches is not None
        policies, bindings = self._caches
        if not bindings.objects or attributes.obj is None or is_exempt(attributes):
            return
        bound: dict[str, list[Bound]] = {}
        for key in bindings.keys:
            binding = self._bindings.of(bindings.objects[key])
            bound.setdefault(binding.spec.get("policyName") or "", []).append(binding)
        rounds = attributes.reinvocation = attributes.reinvocation or Reinvocation()
        rounds.look(attributes.obj)
        for key in policies.keys:
            if key in bound and rounds.is_asked(("policy", key)):
                loaded = self._policies.of(policies.objects[key])
                changed = _apply_policy(attributes, loaded, bound[key])
                rounds.note(("policy", key), changed, loaded.policy.again)
        rounds.leave(attributes.obj)

    def _find(self, attributes: Attributes) -> bool:
        """Look up the caches, once: which version is stored depends on the minor."""
        caches = attributes.call.api.storage.caches
        for version in _VERSIONS:
            found = caches.get(GVR(_GROUP, version, "mutatingadmissionpolicies"))
            if found is not None:
                self._caches = found, caches[GVR(_GROUP, version, "mutatingadmissionpolicybindings")]
                return True
        self._served = False
        return False


def _apply_policy(attributes: Attributes, loaded: _Loaded, bindings: list[Bound]) -> bool:
    """Whether a policy, with all its bindings, changed the object. Raises ApiError for one that must not fail."""
    kind = loaded.match.kind(attributes)
    if kind is None:
        return False
    changed = False
    for binding in bindings:
        if binding.match is not None and binding.match.kind(attributes) is None:
            continue
        try:
            if loaded.problem:
                raise Misconfigured(loaded.problem)
            params = params_for(attributes, param_kind(attributes, loaded.spec), binding.spec)
        except Misconfigured as error:
            _fail(attributes, loaded, binding, f"failed to configure binding: {error}")
            continue
        for one in params:
            changed = _mutate(attributes, kind, loaded, binding, one) or changed
    return changed


def _fail(attributes: Attributes, loaded: _Loaded, binding: Bound, why: str) -> None:
    if loaded.policy.fails:
        named = f"policy '{loaded.name}' with binding '{binding.name}'"
        raise refusal(attributes, f"{named} denied request: {why}")


def _mutate(attributes: Attributes, kind: Kind, loaded: _Loaded, binding: Bound, params: Obj | None) -> bool:
    """One policy with one set of parameters: its mutations in order, each on what the one before it left."""
    from pinnace.machinery.cel.environment import CelError
    from pinnace.machinery.cel.mutation import MutationFailed, evaluate
    from pinnace.machinery.cel.policy import evaluation, matches

    policy = loaded.policy
    known = {**variables_for(attributes, kind, policy.names), "params": params}
    variables, budget = evaluation(policy, known)
    holds, problem = matches(policy.conditions, variables, budget)
    if not holds:
        if problem:
            _fail(attributes, loaded, binding, problem)
        return False
    changed = False
    for mutation in policy.mutations:
        try:
            known = {**variables_for(attributes, kind, policy.names), "params": params}
            variables, _ = evaluation(policy, known)
            changed = _change(attributes, kind, mutation, evaluate(mutation, variables, budget)) or changed
        except (MutationFailed, CelError, ValueError, ApiError) as error:
            why = error.message if isinstance(error, ApiError) else str(error)
            _fail(attributes, loaded, binding, why)
            return changed
    return changed


def _change(attributes: Attributes, kind: Kind, mutation: Mutation, value: Any) -> bool:
    """Make one mutation; whether it changed anything. Raises ValueError or ApiError for one that cannot be made."""
    assert attributes.obj is not None
    before = own(seen_as(attributes, kind, attributes.obj))
    if mutation.kind == "JSONPatch":
        json_patch.check(value)
        after = json_patch.apply(before, value)
    else:
        after = _merged(attributes, kind, before, value)
    if not isinstance(after, dict):
        raise ValueError("the mutated document is not an object")
    return _take(attributes, taken_back(attributes, kind, after))


def _take(attributes: Attributes, made: Obj) -> bool:
    """Put the object in the place of the request's; whether that changes anything."""
    assert attributes.obj is not None
    if made == attributes.obj:
        return False
    attributes.obj.clear()
    attributes.obj.update(made)
    return True


def _merged(attributes: Attributes, kind: Kind, before: Obj, configuration: Obj) -> Obj:
    from pinnace.machinery.typed import node_of
    from pinnace.machinery.typed_check import problems, worded
    from pinnace.machinery.typed_merge import merge

    for name in ("apiVersion", "kind"):
        configuration.setdefault(name, before.get(name))
    if "name" in (configuration.get("metadata") or {}) and configuration["metadata"]["name"] != attributes.name:
        raise ValueError("the name of the object may not be changed")
    node = node_of(
        attributes.call.api.schemas.for_gvk(gvk_of(before) if attributes.is_part or attributes.is_scale else kind.gvk)
    )
    if found := problems(node, configuration):
        raise ValueError(f"invalid ApplyConfiguration: {worded(found)}")
    if whole := _owned_whole(node, configuration, ""):
        raise ValueError(f"invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {whole}")
    merged: Obj = merge(node, before, configuration)
    return merged


def _owned_whole(node: Node, value: Any, path: str) -> str:
    """The first place where a configuration writes something that is owned whole; empty where it does not."""
    if node.shape == "atomic":
        return path
    if isinstance(value, dict):
        below = ((node.field(name), item, f"{path}.{name}") for name, item in value.items())
    elif isinstance(value, list) and node.shape == "keyed":
        below = ((node.element, item, f"{path}[{index}]") for index, item in enumerate(value))
    else:
        return ""
    found = (_owned_whole(child, item, where) for child, item, where in below if child is not None)
    return next(filter(None, found), "")
