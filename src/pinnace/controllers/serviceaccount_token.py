"""Fills Secrets of type `kubernetes.io/service-account-token` with tokens that do not expire, and deletes them with
their ServiceAccounts.

Such a token is good as long as its Secret holds it. Specified by
https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

from pinnace.apis.resources import SECRETS, SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, key_of, name_of, namespace_of, uid_of

TOKEN_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"


class Signer:
    """Signs tokens with the private key that the API server knows the other half of."""

    def __init__(self, private_key: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        self._key: Any = load_pem_private_key(private_key, None)
        public: Any = self._key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        curves = {256: "ES256", 384: "ES384", 521: "ES512"}
        self._algorithm = "RS256" if isinstance(public, rsa.RSAPublicKey) else curves[public.curve.key_size]

    def sign(self, claims: Obj) -> str:
        import jwt

        return jwt.encode(claims, self._key, self._algorithm, headers={"kid": self._id})


def claims_of(account: Obj, secret: Obj) -> Obj:
    """What the token says; it names the Secret, and has no end."""
    prefix = "kubernetes.io/serviceaccount"
    return {
        "iss": ISSUER,
        f"{prefix}/namespace": namespace_of(account),
        f"{prefix}/secret.name": name_of(secret),
        f"{prefix}/service-account.name": name_of(account),
        f"{prefix}/service-account.uid": uid_of(account),
        "sub": f"system:serviceaccount:{namespace_of(account)}:{name_of(account)}",
    }


def filled(secret: Obj, account: Obj, root_ca: str, signer: Signer) -> Obj | None:
    """The Secret with what it lacks; None if that is nothing. A token that is there is never replaced."""
    data = dict(secret.get("data") or {})
    if root_ca:
        data["ca.crt"] = base64.b64encode(root_ca.encode()).decode()
    data.setdefault("namespace", base64.b64encode(namespace_of(secret).encode()).decode())
    if not data.get("token"):
        data["token"] = base64.b64encode(signer.sign(claims_of(account, secret)).encode()).decode()
    if data == (secret.get("data") or {}):
        return None
    marks = {**annotations_of(secret), ACCOUNT_NAME: name_of(account), ACCOUNT_UID: uid_of(account)}
    return {**secret, "metadata": {**secret["metadata"], "annotations": marks}, "data": data}


def belongs_to(secret: Obj, account: Obj | None) -> bool:
    """Whether the account is there that the Secret names, and still the same."""
    return account is not None and annotations_of(secret).get(ACCOUNT_UID, "") in ("", uid_of(account))


def account_of(secret: Obj) -> Iterable[str]:
    """The key of the account that a Secret names."""
    name = annotations_of(secret).get(ACCOUNT_NAME)
    return (f"{namespace_of(secret)}/{name}",) if name else ()


class ServiceAccountTokenController(Controller):
    """One key is one Secret. `private_key` signs, `root_ca` is handed on with each token; both are PEM."""

    name = "serviceaccount-token-controller"

    def __init__(self, client: Client, informers: InformerFactory, *, private_key: bytes, root_ca: str = "") -> None:
        self._private_key = private_key
        self._root_ca = root_ca
        self._signer: Signer | None = None
        super().__init__(client, informers)

    def setup(self) -> None:
        self.secrets = self.watch(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self.secrets.add_index("account", account_of)
        self.accounts = self.watch(SERVICE_ACCOUNTS, self._secrets_of)

    def _secrets_of(self, account: Obj) -> Iterable[str]:
        return [key_of(secret) for secret in self.secrets.store.by_index("account", key_of(account))]

    async def reconcile(self, key: str) -> None:
        secret = self.secrets.store.get(key)
        if secret is None or not any(account_of(secret)):
            return
        (named,) = account_of(secret)
        account = self.accounts.store.get(named)
        if account is None or not belongs_to(secret, account):
            account = await self._fresh(secret)  # before a credential is deleted, look twice
        if account is None or not belongs_to(secret, account):
            await self._delete(secret)
            return
        if self._signer is None:
            self._signer = Signer(self._private_key)
        wanted = filled(secret, account, self._root_ca, self._signer)
        if wanted is not None:
            await self.client.update(SECRETS, wanted)

    async def _fresh(self, secret: Obj) -> Obj | None:
        try:
            name = annotations_of(secret)[ACCOUNT_NAME]
            return await self.client.get(SERVICE_ACCOUNTS, name, namespace_of(secret))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def _delete(self, secret: Obj) -> None:
        version = secret["metadata"]["resourceVersion"]
        try:
            await self.client.delete(
                SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret), resource_version=version
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
