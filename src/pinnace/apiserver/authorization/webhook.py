"""Decisions of other servers: they are asked with a SubjectAccessReview, their answers are remembered.

https://kubernetes.io/docs/reference/access-authn-authz/webhook/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson
import structlog

from pinnace.apiserver.asking import Answers
from pinnace.apiserver.authn import User
from pinnace.apiserver.authz import Opinion
from pinnace.apiserver.rbac import namespace_of
from pinnace.apiserver.request_info import RequestInfo
from pinnace.apiserver.webhook_client import CallFailed, KubeconfigWebhook
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import SelectorError, parse_fields, parse_labels

if TYPE_CHECKING:
    from pinnace.machinery.cel.environment import Program

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class WebhookOptions:
    """One webhook; times are seconds, 0 where answers are not remembered."""

    name: str
    kubeconfig: Path
    version: str = "v1beta1"
    authorized_seconds: float = 300.0
    unauthorized_seconds: float = 30.0
    timeout: float = 30.0
    denies_on_failure: bool = False
    conditions: Sequence[Program] = ()


class _Key(NamedTuple):
    user: str
    uid: str
    groups: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...]
    info: RequestInfo


class Webhook:
    """One authorizer elsewhere."""

    def __init__(self, options: WebhookOptions) -> None:
        """Raises ValueError for a kubeconfig that cannot be used."""
        self.name = options.name
        self._options = options
        self._webhook = KubeconfigWebhook(options.kubeconfig, options.timeout)
        self._answers: Answers[_Key, Opinion] = Answers()

    def decide(self, user: User, info: RequestInfo) -> Opinion:
        """Raises MustAsk where the webhook must be asked first."""
        spec: Obj | None = None
        if self._options.conditions:
            spec = review_spec(user, info)
            wanted = self._wants(spec)
            if wanted is not None:
                return wanted
        key = _Key(user.name, user.uid, user.groups, tuple(sorted(user.extra.items())), info)
        return self._answers.get(key, lambda: self._ask(spec or review_spec(user, info)))

    def rules(self, _user: User, _namespace: str) -> list[Obj] | None:
        return None

    def _wants(self, spec: Obj) -> Opinion | None:
        """None where all conditions hold: then the webhook decides."""
        from pinnace.machinery.cel.environment import CelError
        from pinnace.machinery.cel.values import BudgetExceeded

        problem = ""
        for program in self._options.conditions:
            try:
                if program.evaluate({"request": spec}) is not True:
                    return Opinion(None, "")
            except (CelError, BudgetExceeded) as error:
                problem = f"expression '{program.text}' resulted in error: {error}"
        return self._failed(problem) if problem else None

    def _failed(self, why: str) -> Opinion:
        log.error("authorization webhook failed", webhook=self.name, error=why)
        return Opinion(False if self._options.denies_on_failure else None, "", why)

    async def _ask(self, spec: Obj) -> tuple[Opinion, float]:
        version = f"authorization.k8s.io/{self._options.version}"
        if self._options.version == "v1beta1" and "groups" in spec:
            spec = {("group" if name == "groups" else name): value for name, value in spec.items()}
        review: Obj = {"kind": "SubjectAccessReview", "apiVersion": version, "metadata": {}, "spec": spec}
        body = orjson.dumps({**review, "status": {"allowed": False}})
        try:
            opinion = opinion_of(orjson.loads(await self._webhook.ask(body)))
        except (CallFailed, ValueError) as error:
            return self._failed(str(error)), 0
        options = self._options
        return opinion, options.authorized_seconds if opinion.allowed else options.unauthorized_seconds

    async def close(self) -> None:
        await self._webhook.close()


def opinion_of(review: object) -> Opinion:
    """What a SubjectAccessReview says. Raises ValueError for what is none."""
    status = review.get("status") if isinstance(review, dict) else None
    if not isinstance(status, dict):
        raise ValueError("the answer is no SubjectAccessReview")
    reason = str(status.get("reason") or "")
    if status.get("allowed") and status.get("denied"):
        return Opinion(False, reason, "webhook subject access review returned both allow and deny response")
    if status.get("denied"):
        return Opinion(False, reason)
    return Opinion(True if status.get("allowed") else None, reason)


def review_spec(user: User, info: RequestInfo) -> Obj:
    """The request as a SubjectAccessReview tells of it."""
    spec: Obj = {}
    if info.is_resource:
        words = {
            "namespace": namespace_of(info),
            "verb": info.verb,
            "group": info.group,
            "version": info.version,
            "resource": info.resource,
            "subresource": info.subresource,
            "name": info.name,
        }
        attributes: Obj = {name: word for name, word in words.items() if word}
        for name, found in (("fieldSelector", _fields(info)), ("labelSelector", _labels(info))):
            if found:
                attributes[name] = {"requirements": found}
        spec["resourceAttributes"] = attributes
    else:
        spec["nonResourceAttributes"] = {"path": info.path, "verb": info.verb}
    spec |= {"user": user.name, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {name: list(values) for name, values in user.extra.items()}
    return spec


def _fields(info: RequestInfo) -> list[Obj]:
    """The requirements of a field selector; none of one that cannot be read, which the request will be refused for."""
    try:
        requirements = parse_fields(info.field_selector).requirements if info.field_selector else ()
    except SelectorError:
        return []
    return [
        {"key": each.field, "operator": "In" if each.operator == "=" else "NotIn", "values": [each.value]}
        for each in requirements
    ]


_OPERATORS = {
    "in": "In", "=": "In", "==": "In", "notin": "NotIn", "!=": "NotIn", "exists": "Exists", "!": "DoesNotExist",
}  # fmt: skip


def _labels(info: RequestInfo) -> list[Obj]:
    """The requirements of a label selector, as far as SubjectAccessReviews can say them."""
    try:
        requirements = parse_labels(info.label_selector).requirements if info.label_selector else ()
    except SelectorError:
        return []
    found: list[Obj] = []
    for each in requirements:
        operator = _OPERATORS.get(each.operator)
        if operator is not None:
            values = {"values": list(each.values)} if each.values else {}
            found.append({"key": each.key, "operator": operator, **values})
    return found
