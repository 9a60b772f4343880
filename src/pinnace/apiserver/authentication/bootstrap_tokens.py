"""Bootstrap tokens: secrets by which new nodes make themselves known, `abcdef.0123456789abcdef`.

https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import datetime

from pinnace.apis.resources import SECRETS
from pinnace.apiserver.authn import AUTHENTICATED, User
from pinnace.apiserver.storage import Storage
from pinnace.machinery.meta import Obj, is_deleting, parse_time, utc_now

SECRET_TYPE = "bootstrap.kubernetes.io/token"
DEFAULT_GROUP = "system:bootstrappers"

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Looks tokens up among the secrets of kube-system."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def verify(self, token: str) -> User | None:
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        found = self._storage.cache(SECRETS).get(f"kube-system/bootstrap-token-{parts[1]}")
        return user_of(found.obj(), parts[1], parts[2], utc_now()) if found is not None else None


def user_of(secret: Obj, token_id: str, token_secret: str, now: datetime) -> User | None:
    """Whom the secret makes of somebody with this token; None where it is not for that, or no longer."""
    data = _decoded(secret.get("data") or {})
    if is_deleting(secret) or secret.get("type") != SECRET_TYPE:
        return None
    if data.get("token-id") != token_id or data.get("usage-bootstrap-authentication") != "true":
        return None
    if not hmac.compare_digest(data.get("token-secret", ""), token_secret) or _is_over(data.get("expiration", ""), now):
        return None
    groups = [DEFAULT_GROUP]
    for group in filter(None, (each.strip() for each in data.get("auth-extra-groups", "").split(","))):
        if not _GROUP.fullmatch(group):
            return None
        groups.append(group)
    return User(f"system:bootstrap:{token_id}", groups=(*dict.fromkeys(groups), AUTHENTICATED))


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key, value in data.items():
        try:
            found[key] = base64.b64decode(value).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def _is_over(expiration: str, now: datetime) -> bool:
    """A moment that cannot be read is past."""
    if not expiration:
        return False
    try:
        moment = parse_time(expiration)
        return moment.tzinfo is None or moment < now
    except ValueError:
        return True
