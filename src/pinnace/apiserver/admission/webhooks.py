"""Admission webhooks: servers of the cluster's own that change or refuse objects.

Mutating ones are called in turn, by the names of their configurations; validating ones all at once. Where nothing is
configured this costs a look at an empty dict.
https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from pinnace.apis.kind import Kind
from pinnace.apis.resources import MUTATING_WEBHOOK_CONFIGURATIONS, VALIDATING_WEBHOOK_CONFIGURATIONS
from pinnace.apiserver.admission.chain import Attributes, Plugin, Reinvocation
from pinnace.apiserver.admission.expressions import variables_for
from pinnace.apiserver.admission.matching import Match, PerObject
from pinnace.apiserver.admission.measures import (
    ADMIT,
    ALLOWED,
    CALL_FAILED,
    INTERNAL,
    NO_ERROR,
    VALIDATING,
    WebhookMeasures,
)
from pinnace.apiserver.admission.review import review_of, seen_as, taken_back
from pinnace.apiserver.decode import own
from pinnace.apiserver.registered_webhooks import RegisteredWebhooks
from pinnace.apiserver.webhook_client import CallFailed
from pinnace.machinery import errors, json_patch
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj
from pinnace.machinery.metrics import Family

_MUTATION = "mutation.webhook.admission.k8s.io"
_UNAVAILABLE = 503  # what a webhook that could not be called counts as
_EXEMPT_GROUP = "admissionregistration.k8s.io"  # or a webhook could keep itself from being removed


class _Hook:
    """One webhook, with what it matches and its conditions compiled."""

    def __init__(self, webhook: Obj, configuration: str) -> None:
        self.webhook = webhook
        self.who = (configuration, webhook.get("name"))
        self.match = Match(webhook, webhook.get("rules") or ())
        self.fails = webhook.get("failurePolicy") != "Ignore"
        self._conditions: list[Any] | None = None if webhook.get("matchConditions") else []
        self._names: frozenset[str] = frozenset()

    @property
    def conditions(self) -> list[Any]:
        """The match conditions, compiled when a request first needs them."""
        if self._conditions is None:
            from pinnace.machinery.cel.admission import compile_conditions, environment

            given = self.webhook["matchConditions"]
            self._conditions = compile_conditions(environment(), given, "matchConditions", [])
            self._names = frozenset().union(*(program.names for _, program in self._conditions))
        return self._conditions

    def wants(self, attributes: Attributes, kind: Kind) -> bool:
        """Whether the match conditions hold. Raises 403 where one fails and the webhook must not be missed."""
        if not self.conditions:
            return True
        from pinnace.machinery.cel.policy import matches

        holds, problem = matches(self.conditions, variables_for(attributes, kind, self._names))
        if problem and self.fails:
            raise attributes.forbidden(problem)
        return holds


def _hooks(configuration: Obj) -> list[_Hook]:
    name = configuration["metadata"]["name"]
    return [_Hook(webhook, name) for webhook in configuration.get("webhooks") or ()]


class _Unasked(Exception):  # not the webhook's doing
    """It cannot be asked about such a request at all."""

    def __init__(self, reason: ApiError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _Webhooks(Plugin):
    """What webhooks of both kinds have in common."""

    configurations: GVR
    kind: str  # as metrics name it
    dynamic = True

    def __init__(self, client: RegisteredWebhooks, measures: WebhookMeasures) -> None:
        self.client = client
        self._measures = measures
        self._hooks: PerObject[list[_Hook]] = PerObject(_hooks)

    def families(self) -> Sequence[Family]:
        return self._measures.families

    async def close(self) -> None:
        await self.client.close()

    def _chosen(self, attributes: Attributes) -> Iterator[tuple[int, _Hook, Kind]]:
        """The webhooks that a request concerns, in order, each with its place among all of them and the kind in which
        it wants to see the object."""
        if attributes.resource[0] == _EXEMPT_GROUP:
            return
        cache = attributes.call.api.storage.cache(self.configurations)
        place = -1
        for key in list(cache.keys):
            found = cache.get(key)
            for hook in self._hooks.of(found) if found is not None else ():
                place += 1
                kind = hook.match.kind(attributes)
                if kind is not None and hook.wants(attributes, kind):
                    yield place, hook, kind

    async def _ask(self, attributes: Attributes, hook: _Hook, kind: Kind) -> Obj | None:
        """The response of a webhook that allows; None of one that failed and may. Raises ApiError."""
        name, began = hook.webhook["name"], time.perf_counter()
        code, error = ALLOWED, ""
        try:
            return await self._heard(attributes, hook, kind)
        except CallFailed as failure:
            code = _UNAVAILABLE
            if not hook.fails:
                self._measures.failed_open(name, self.kind)
                return None
            error = CALL_FAILED
            raise errors.internal(f'failed calling webhook "{name}": {failure}') from None
        except _Unasked as failure:
            code, error = 0, INTERNAL
            raise failure.reason from None
        except ApiError as refusal:
            code, error = refusal.code, NO_ERROR
            raise
        finally:
            seconds = time.perf_counter() - began
            attributes.call.waited += seconds
            self._measures.answered(name, self.kind, attributes.operation, seconds, code, error)

    async def _heard(self, attributes: Attributes, hook: _Hook, kind: Kind) -> Obj:
        """The response of a webhook that allows. Raises CallFailed, _Unasked, and ApiError where it does not."""
        webhook, name = hook.webhook, hook.webhook["name"]
        if attributes.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise _Unasked(errors.bad_request(f'admission webhook "{name}" does not support dry run'))
        review = review_of(attributes, webhook, kind)
        response = _response(await self.client.post(webhook, review, attributes.call.api.storage), review)
        attributes.call.warnings += [str(each) for each in response.get("warnings") or ()]
        for key, value in (response.get("auditAnnotations") or {}).items():
            attributes.annotate(f"{name}/{key}", str(value))
        if not response.get("allowed"):
            raise denial(name, response.get("status") or {})
        return response


class MutatingWebhooks(_Webhooks):
    """One after the other, by the names of their configurations; each sees what those before it made."""

    configurations = MUTATING_WEBHOOK_CONFIGURATIONS
    kind = ADMIT

    async def mutate(self, attributes: Attributes) -> None:
        if not attributes.call.api.storage.cache(self.configurations).objects:
            return
        if attributes.reinvocation is None:
            attributes.reinvocation = Reinvocation()
        rounds = attributes.reinvocation
        rounds.look(attributes.obj)
        for place, hook, kind in self._chosen(attributes):
            if rounds.is_asked(hook.who):
                changed = await self._change(attributes, hook, kind)
                if attributes.call.api.options.audit.policy_file is not None:
                    who = {"configuration": hook.who[0], "webhook": hook.who[1], "mutated": changed}
                    attributes.annotate(
                        f"{_MUTATION}/round_{int(rounds.second)}_index_{place}", orjson.dumps(who).decode()
                    )
                rounds.note(hook.who, changed, hook.webhook.get("reinvocationPolicy") == "IfNeeded")
        rounds.leave(attributes.obj)

    async def _change(self, attributes: Attributes, hook: _Hook, kind: Kind) -> bool:
        """Whether the webhook changed the object."""
        response = await self._ask(attributes, hook, kind)
        if attributes.obj is None or not response or not response.get("patch"):
            return False
        try:
            changed = _patched(attributes, kind, response)
        except (ApiError, ValueError, TypeError, KeyError) as error:
            what = error.message if isinstance(error, ApiError) else str(error)
            raise errors.internal(what) from None
        if changed == attributes.obj:
            return False
        attributes.obj.clear()
        attributes.obj.update(changed)
        return True


class ValidatingWebhooks(_Webhooks):
    """All at once; the first in order that refuses is heard."""

    configurations = VALIDATING_WEBHOOK_CONFIGURATIONS
    kind = VALIDATING

    async def validate(self, attributes: Attributes) -> None:
        if not attributes.call.api.storage.cache(self.configurations).objects:
            return
        chosen = list(self._chosen(attributes))
        answers = await asyncio.gather(
            *(self._ask(attributes, hook, kind) for _, hook, kind in chosen), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


def denial(name: str, status: Obj) -> ApiError:
    """What the author of a refused request is told."""
    text = f'admission webhook "{name}" denied the request'
    why = status.get("message") or status.get("reason")
    text += f": {why}" if why else " without explanation"
    code = status.get("code") or 0
    return ApiError(code if code >= 400 else 400, status.get("reason") or "", text, details=status.get("details"))


# What comes back.


def _response(answer: Any, review: Obj) -> Obj:
    """The `response` of an AdmissionReview that answers ours. Raises CallFailed for anything else."""
    wanted = (review["apiVersion"], review["kind"])
    if not isinstance(answer, dict) or not isinstance(answer.get("response"), dict):
        raise CallFailed("received invalid webhook response: webhook response was absent")
    if (answer.get("apiVersion"), answer.get("kind")) != wanted and review["apiVersion"].endswith("/v1"):
        said = f"{answer.get('apiVersion')}, Kind={answer.get('kind')}"
        raise CallFailed(
            f"received invalid webhook response: expected webhook response of {wanted[0]}, Kind={wanted[1]}, got {said}"
        )
    response: Obj = answer["response"]
    uid = review["request"]["uid"]
    if review["apiVersion"].endswith("/v1"):
        if response.get("uid") != uid:
            raise CallFailed(
                f'received invalid webhook response: expected response.uid="{uid}", got "{response.get("uid") or ""}"'
            )
        if response.get("patch") and response.get("patchType") != "JSONPatch":
            what = response.get("patchType") or ""
            raise CallFailed(
                "received invalid webhook response: webhook returned response.patch but not response.patchType"
                if not what
                else f'received invalid webhook response: webhook returned invalid response.patchType of "{what}"'
            )
    return response


def _patched(attributes: Attributes, kind: Kind, response: Obj) -> Obj:
    """The object after a webhook's patch, of the request's own version again."""
    try:
        patch = orjson.loads(base64.b64decode(response["patch"], validate=True))
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError(f"unable to decode the patch: {error}") from None
    json_patch.check(patch)
    changed = json_patch.apply(own(seen_as(attributes, kind, attributes.obj)), patch)
    if not isinstance(changed, dict):
        raise ValueError("the patched document is not an object")
    return taken_back(attributes, kind, changed)
