"""Retires tokens in Secrets that a ServiceAccount once got by itself and nobody uses: marked first, then deleted.

The API server notes when each was last used, and since when it does so. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-cleaner.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog

from pinnace.apis.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.client.store import by_namespace
from pinnace.controllers.serviceaccount_token import TOKEN_TYPE, account_of, belongs_to
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    get_in,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
    utc_now,
)

_log = structlog.get_logger()

TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
CLEAN_UP_PERIOD = timedelta(days=365)
_DATE = "%Y-%m-%d"
_DAY = 86400.0  # seconds between looks at a Secret

# Decisions.


def day_of(text: str) -> datetime | None:
    """The day that a label or a ConfigMap names; None for what names none."""
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError:
        return None


def is_tracked_for(since: datetime | None, now: datetime, period: timedelta) -> bool:
    """Whether uses are noted long enough for "never" to mean something; the first day does not count."""
    return since is not None and now >= since + timedelta(days=1) + period


def next_step(secret: Obj, now: datetime, period: timedelta) -> str:
    """`mark` or `delete` for one that is not used, empty for one that is or may be. What cannot be read is used."""
    before = now - period
    if is_deleting(secret) or parse_time(secret["metadata"]["creationTimestamp"]) >= before:
        return ""
    labels, last_day = labels_of(secret), before.strftime(_DATE)
    if (used := labels.get(LAST_USED)) is not None and (day_of(used) is None or used >= last_day):
        return ""
    invalid = labels.get(INVALID_SINCE, "")
    if day_of(invalid) is None:
        return "mark"
    return "" if invalid >= last_day else "delete"


def is_generated(secret: Obj, account: Obj | None) -> bool:
    """Whether the account lists the Secret, as it does those that were once made for it."""
    if account is None or not belongs_to(secret, account):
        return False
    return any(one.get("name") == name_of(secret) for one in account.get("secrets") or ())


def secrets_of(pod: Obj) -> Iterable[str]:
    """Names of the Secrets that a pod mounts or takes variables from."""
    spec = pod.get("spec") or {}
    for volume in spec.get("volumes") or ():
        yield get_in(volume, "secret", "secretName", default="")
        for source in get_in(volume, "projected", "sources", default=()):
            yield get_in(source, "secret", "name", default="")
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for variable in container.get("env") or ():
            yield get_in(variable, "valueFrom", "secretKeyRef", "name", default="")
        for source in container.get("envFrom") or ():
            yield get_in(source, "secretRef", "name", default="")


# Carrying them out.


class LegacyServiceAccountTokenCleaner(Controller):
    """One key is one Secret with a token; it is looked at once a day."""

    name = "legacy-serviceaccount-token-cleaner-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, *, period: timedelta = CLEAN_UP_PERIOD) -> None:
        self._period = period
        super().__init__(client, informers)

    def setup(self) -> None:
        self.secrets = self.watch(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self.accounts = self.use(SERVICE_ACCOUNTS)
        self.pods = self.use(PODS)
        self.pods.add_index("namespace", by_namespace)

    async def reconcile(self, key: str) -> float | None:
        secret = self.secrets.store.get(key)
        if secret is None:
            return None
        now = utc_now()
        step = next_step(secret, now, self._period)
        if step and self._is_spare(secret) and is_tracked_for(await self._tracked_since(), now, self._period):
            try:
                await (self._mark(secret, now) if step == "mark" else self._delete(secret))
            except ApiError as error:
                if not error.is_not_found:
                    raise
        return _DAY

    def _is_spare(self, secret: Obj) -> bool:
        """Whether it was made for its account, and no pod has it."""
        named = next(iter(account_of(secret)), "")
        if not is_generated(secret, self.accounts.store.get(named)):
            return False
        pods = self.pods.store.by_index("namespace", namespace_of(secret))
        return not any(name_of(secret) in secrets_of(pod) for pod in pods)

    async def _tracked_since(self) -> datetime | None:
        try:
            found = await self.client.get(CONFIG_MAPS, TRACKING, "kube-system")
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return day_of(get_in(found, "data", "since", default=""))

    async def _mark(self, secret: Obj, now: datetime) -> None:
        _log.info("Mark the auto-generated service account token as invalid", secret=name_of(secret))
        metadata = {"uid": uid_of(secret), "labels": {INVALID_SINCE: now.strftime(_DATE)}}
        await self.client.patch(SECRETS, name_of(secret), {"metadata": metadata}, namespace_of(secret))

    async def _delete(self, secret: Obj) -> None:
        _log.info("Deleting auto-generated service account token", secret=name_of(secret))
        version = secret["metadata"]["resourceVersion"]
        await self.client.delete(
            SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret), resource_version=version
        )
