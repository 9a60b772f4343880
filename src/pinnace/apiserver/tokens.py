"""Service account tokens: signed for TokenRequest, verified on requests.

A token names its account, and the pod or secret it is bound to, with their UIDs; it is good as long as they are there.
https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pinnace.apis.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS
from pinnace.apiserver.authn import AUTHENTICATED, CREDENTIAL_ID, Known, User
from pinnace.apiserver.legacy_tokens import is_invalid
from pinnace.apiserver.storage import Storage
from pinnace.machinery import errors
from pinnace.machinery.meta import GVR, Obj

ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
_BOUND_TO = {"pod": PODS, "secret": SECRETS, "node": NODES}
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_NODE_UID = "authentication.kubernetes.io/node-uid"
_LEGACY = "kubernetes/serviceaccount"  # the issuer of tokens in secrets
_LEGACY_NOTE = "authentication.k8s.io/legacy-token"
_STALE = "authentication.k8s.io/stale-token"


def _nobody(_: Obj) -> None:
    """Before anybody notes uses."""


class ServiceAccountTokens:
    """Signs and verifies. Without a signing key it only verifies."""

    def __init__(
        self,
        storage: Storage,
        issuers: tuple[str, ...],
        audiences: tuple[str, ...],
        signing_key: Path | None,
        more_keys: tuple[Path, ...] = (),
        *,
        lookup: bool = True,
    ) -> None:
        """Tokens are issued by the first of `issuers`; those of the others hold too. Without `lookup` a token holds
        also when its account is gone."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._storage = storage
        self.issuer = issuers[0]
        self.issuers = issuers
        self.audiences = audiences
        self._lookup = lookup
        self.used: Callable[[Obj], None] = _nobody  # told of Secrets whose tokens are shown
        self._private: Any = None
        self._algorithm = ""
        self._key_id = ""
        self._public: dict[str, tuple[Any, str]] = {}  # key id -> key, algorithm
        if signing_key is not None:
            self._private = load_pem_private_key(signing_key.read_bytes(), None)
            self._key_id, self._algorithm = self._trust(self._private.public_key())
        for path in more_keys:
            self._trust(_load_public(path))

    def _trust(self, key: Any) -> tuple[str, str]:
        key_id = _key_id(key)
        algorithm = _algorithm_of(key)
        self._public[key_id] = (key, algorithm)
        return key_id, algorithm

    def sign(
        self,
        account: Obj,
        audiences: list[str],
        seconds: int,
        bound: tuple[str, str, str] | None,
        warn_after: int = 0,
    ) -> tuple[str, str, int]:
        """A token for `account`, its id, and when it was made (seconds since 1970). `bound` is kind, name and UID;
        whoever still uses the token `warn_after` seconds from now is noted in the audit log."""
        import jwt

        if self._private is None:
            raise errors.unavailable("service account tokens cannot be issued without a signing key")
        meta = account["metadata"]
        now = int(time.time())
        private: Obj = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if bound is not None:
            kind, name, uid = bound
            private[kind] = {"name": name, "uid": uid}
            if kind == "pod":
                self._add_node(private, meta["namespace"], name)
        if warn_after:
            private["warnafter"] = now + warn_after
        claims = {
            "aud": audiences or list(self.audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        token = jwt.encode(claims, self._private, self._algorithm, headers={"kid": self._key_id})
        return token, str(claims["jti"]), now

    def _add_node(self, private: Obj, namespace: str, pod: str) -> None:
        found = self._storage.cache(PODS).get(f"{namespace}/{pod}")
        name = (found.obj().get("spec") or {}).get("nodeName") if found is not None else None
        if name:
            node = self._storage.cache(NODES).get(name)
            private["node"] = {"name": name, **({"uid": node.obj()["metadata"]["uid"]} if node is not None else {})}

    def verify(self, token: str, audiences: tuple[str, ...] = ()) -> User | None:
        """Whose token it is; None for one that is not ours. Raises 401 for one that is but no longer holds."""
        if token.count(".") != 2:
            return None
        import jwt

        try:
            head = jwt.get_unverified_header(token)
            key, algorithm = self._public[head.get("kid") or self._key_id]
            wanted = list(audiences or self.audiences)
            if jwt.decode(token, options={"verify_signature": False}).get("iss") == _LEGACY:
                claims = jwt.decode(token, key, algorithms=[algorithm], options={"verify_aud": False})
                return self._legacy_user(token, claims) if set(wanted) & set(self.audiences) else None
            claims = jwt.decode(token, key, algorithms=[algorithm], audience=wanted)
            if claims.get("iss") not in self.issuers:
                return None
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return None
        return self._user_of(claims)

    def verify_for(self, token: str, audiences: tuple[str, ...]) -> Known | None:
        """`verify`, and for which of `audiences` the token is."""
        user = self.verify(token, audiences)
        if user is None:
            return None
        import jwt

        claims = jwt.decode(token, options={"verify_signature": False})
        given = self.audiences if claims.get("iss") == _LEGACY else claims.get("aud") or ()
        return user, tuple(each for each in audiences if each in ([given] if isinstance(given, str) else given))

    def _user_of(self, claims: Obj) -> User:
        private = claims.get("kubernetes.io") or {}
        namespace = private.get("namespace", "")
        account = private.get("serviceaccount") or {}
        if self._lookup:
            self._need(SERVICE_ACCOUNTS, namespace, account)
        extra: dict[str, tuple[str, ...]] = {}
        if claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        for kind, resource in _BOUND_TO.items():
            bound = private.get(kind)
            if not bound:
                continue
            if kind == "node":
                if not private.get("pod"):  # of a pod's token the node is only told
                    self._need(resource, "", bound)
                extra[_NODE_NAME] = (bound["name"],)
                if bound.get("uid"):
                    extra[_NODE_UID] = (bound["uid"],)
                continue
            if self._lookup:
                self._need(resource, namespace, bound)
            if kind == "pod":
                extra[_POD_NAME], extra[_POD_UID] = (bound["name"],), (bound["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        name = f"system:serviceaccount:{namespace}:{account['name']}"
        late = int(time.time()) - int(private.get("warnafter") or 1 << 62)
        notes = {_STALE: f"subject: {name}, seconds after warning threshold: {late}"} if late > 0 else {}
        return User(name, account["uid"], groups, extra, notes)

    def _legacy_user(self, token: str, claims: Obj) -> User:
        """Whose token of a secret it is, as long as the secret holds it."""
        namespace, secret, account, uid = (
            str(claims.get(f"kubernetes.io/serviceaccount/{name}", ""))
            for name in ("namespace", "secret.name", "service-account.name", "service-account.uid")
        )
        if self._lookup:
            found = self._storage.cache(SECRETS).get(f"{namespace}/{secret}")
            held = (found.obj().get("data") or {}).get("token", "") if found is not None else ""
            if not hmac.compare_digest(base64.b64encode(token.encode()), held.encode()):
                raise errors.unauthorized()
            self._need(SERVICE_ACCOUNTS, namespace, {"name": account, "uid": uid})
            if found is not None:
                self.used(found.obj())
                if is_invalid(found.obj()):
                    raise errors.unauthorized()
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        name = f"system:serviceaccount:{namespace}:{account}"
        return User(name, uid, groups, notes={_LEGACY_NOTE: name})

    def _need(self, resource: GVR, namespace: str, named: Obj) -> None:
        name = named.get("name", "")
        found = self._storage.cache(resource).get(f"{namespace}/{name}" if namespace else name)
        if found is None or found.obj()["metadata"]["uid"] != named.get("uid"):
            raise errors.unauthorized()

    # For those who verify tokens themselves (OpenID Connect discovery).

    def configuration(self) -> Obj:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({algorithm for _, algorithm in self._public.values()}),
        }

    def key_set(self) -> Obj:
        import jwt

        keys = []
        for key_id, (key, algorithm) in self._public.items():
            maker: Any = jwt.algorithms.RSAAlgorithm if algorithm.startswith("RS") else jwt.algorithms.ECAlgorithm
            keys.append({"use": "sig", "kid": key_id, "alg": algorithm, **maker.to_jwk(key, as_dict=True)})
        return {"keys": keys}


def _load_public(path: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    text = path.read_bytes()
    return load_pem_private_key(text, None).public_key() if b"PRIVATE KEY" in text else load_pem_public_key(text)


def _algorithm_of(key: Any) -> str:
    """Raises ValueError for a kind of key that tokens are not signed with."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    raise ValueError("service account keys must be RSA or ECDSA keys")


def _key_id(key: Any) -> str:
    """SHA-256 of the public key's DER, as kube-apiserver names its keys."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
