"""Who is calling: OpenID Connect issuers, token webhooks, bootstrap tokens, and what service account tokens tell."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pinnace.apiserver.asking import Answers, MustAsk, asking, going_again
from pinnace.apiserver.authentication.bootstrap_tokens import user_of
from pinnace.apiserver.authentication.claims import ClaimsError, compile_rules
from pinnace.apiserver.authentication.configuration import authentication_of, issuer_of
from pinnace.apiserver.authentication.flags import OidcFlags
from pinnace.apiserver.authn import AUTHENTICATED, Anonymous
from pinnace.apiserver.configuration import ConfigurationError
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import TOKEN, Cluster, pod, serving
from tests.apiserver.remote import Remote

WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SELF = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
OWN = "https://kubernetes.default.svc.cluster.local"
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


async def whoami(cluster: Cluster, token: str) -> Obj | int:
    """Whom the server takes the bearer of a token for, or the code it refuses with."""
    answer = await cluster.call("POST", WHOAMI, SELF, headers={"Authorization": f"Bearer {token}"})
    return dict(answer.json["status"]["userInfo"]) if answer.status == 201 else answer.status


# Questions that others must answer.


async def reviewed(cluster: Cluster, token: str, *audiences: str) -> Obj:
    """The status of a TokenReview."""
    spec = {"token": token, "audiences": list(audiences)}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    found = await cluster.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert found.status == 201, found.body
    status: Obj = found.json["status"]
    return status


async def test_a_step_is_taken_again_until_everything_is_asked_even_where_nothing_is_remembered() -> None:
    answers: Answers[str, str] = Answers()
    asked: list[str] = []

    def answer_to(question: str) -> str:
        async def ask() -> tuple[str, float]:
            asked.append(question)
            await asyncio.sleep(0)
            return question.upper(), 0

        return answers.get(question, ask)

    def step() -> list[str]:
        return [answer_to(each) for each in "abc"]

    for told in await asyncio.gather(asking(step), asking(step)):
        assert told == ["A", "B", "C"]
    assert asked == ["a", "b", "c"]  # who asks the same at once waits for one answer
    with pytest.raises(MustAsk) as caught:
        step()

    async def later() -> list[str]:
        return step()

    assert await going_again(later, caught.value) == ["A", "B", "C"]


# OpenID Connect.


class Keys:
    """An issuer's keys, and tokens it signs."""

    def __init__(self) -> None:
        self.url = ""
        self.published: dict[str, Any] = {}

    def add(self, key_id: str) -> None:
        self.published[key_id] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def answer(self, path: str, _: Any) -> Any:
        if path.endswith("/.well-known/openid-configuration"):
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        keys = []
        for key_id, key in self.published.items():
            public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({**public, "kid": key_id, "use": "sig", "alg": "RS256"})
        return {"keys": keys}

    def token(self, key_id: str = "one", **claims: Any) -> str:
        now = int(time.time())
        found = {"iss": self.url, "aud": "pinnace", "sub": "jane", "iat": now, "exp": now + 600, **claims}
        return jwt.encode(found, self.published[key_id], "RS256", headers={"kid": key_id})


@pytest.fixture(scope="module")
def keys() -> Keys:
    made = Keys()
    made.add("one")
    return made


async def test_the_oidc_flags_make_users_of_an_issuers_tokens(pki: Path, tmp_path: Path, keys: Keys) -> None:
    async with Remote(pki, keys.answer) as remote:
        keys.url = remote.url
        flags = OidcFlags(
            issuer_url=remote.url,
            client_id="pinnace",
            ca_file=pki / "ca.crt",
            groups_claim="teams",
            groups_prefix="oidc:",
            required_claims=(("hd", "example.com"),),
        )
        async with serving(pki, tmp_path, oidc=flags) as cluster:
            good: Obj = {"hd": "example.com", "teams": ["blue"]}
            assert await whoami(cluster, keys.token(**good)) == {
                "username": f"{remote.url}#jane",
                "groups": ["oidc:blue", AUTHENTICATED],
            }
            assert await whoami(cluster, keys.token(**good, aud="other")) == 401
            assert (await reviewed(cluster, keys.token(**good)))["audiences"] == [OWN]
            assert "authenticated" not in await reviewed(
                cluster, keys.token(**good), "pinnace"
            )  # which is the issuer's
            assert await whoami(cluster, keys.token(**good, exp=int(time.time()) - 60)) == 401
            assert await whoami(cluster, keys.token(teams=["blue"])) == 401
            forged = Keys()
            forged.url = remote.url
            forged.add("one")
            assert await whoami(cluster, forged.token(**good)) == 401
            assert len(remote.asked) == 2  # discovery, and the keys: once


async def test_a_key_that_is_new_is_looked_for(pki: Path, tmp_path: Path, keys: Keys) -> None:
    async with Remote(pki, keys.answer) as remote:
        keys.url = remote.url
        flags = OidcFlags(issuer_url=remote.url, client_id="pinnace", ca_file=pki / "ca.crt", username_prefix="-")
        async with serving(pki, tmp_path, oidc=flags) as cluster:
            assert await whoami(cluster, keys.token()) == {"username": "jane", "groups": [AUTHENTICATED]}
            keys.add("two")
            assert await whoami(cluster, keys.token("two", sub="joe")) == {"username": "joe", "groups": [AUTHENTICATED]}


async def test_an_issuer_that_is_away_costs_its_users_a_refusal(pki: Path, tmp_path: Path, keys: Keys) -> None:
    async with Remote(pki, keys.answer) as remote:
        keys.url = remote.url
    flags = OidcFlags(issuer_url=remote.url, client_id="pinnace", ca_file=pki / "ca.crt")
    async with serving(pki, tmp_path, oidc=flags) as cluster:
        assert await whoami(cluster, keys.token()) == 401


async def test_a_configuration_has_several_issuers_and_rules_in_cel(pki: Path, tmp_path: Path, keys: Keys) -> None:
    ca = (pki / "ca.crt").read_text()
    async with Remote(pki, keys.answer) as remote:
        keys.url = remote.url
        first = {
            "issuer": {"url": remote.url, "certificateAuthority": ca, "audiences": ["pinnace", "x"],
                       "audienceMatchPolicy": "MatchAny"},
            "claimValidationRules": [{"expression": "claims.exp - claims.iat <= 3600", "message": "too long"}],
            "claimMappings": {
                "username": {"expression": "claims.sub + '@' + claims.tenant"},
                "groups": {"expression": "claims.teams.map(t, 'team:' + t)"},
                "uid": {"claim": "sub"},
                "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
            },
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
        }  # fmt: skip
        second = {
            "issuer": {"url": "https://other.example.com", "audiences": ["a"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        }
        file = tmp_path / "authentication.yaml"
        document = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration"}
        anonymous = {"enabled": True, "conditions": [{"path": "/livez"}]}
        file.write_text(json.dumps({**document, "jwt": [first, second], "anonymous": anonymous}))
        async with serving(pki, tmp_path, authentication_config=file) as cluster:
            assert await whoami(cluster, keys.token(tenant="acme", teams=["a", "b"])) == {
                "username": "jane@acme",
                "uid": "jane",
                "groups": ["team:a", "team:b", AUTHENTICATED],
                "extra": {"example.com/tenant": ["acme"]},
            }
            assert await whoami(cluster, keys.token(tenant="acme", teams=[], sub="system:x")) == 401
            assert await whoami(cluster, keys.token(tenant="acme", teams=[], exp=int(time.time()) + 7200)) == 401
            nobody = {"Authorization": ""}
            assert (await cluster.call("GET", "/livez", headers=nobody)).status == 200
            assert (await cluster.call("GET", "/readyz", headers=nobody)).status == 401


NAMED = {"username": {"claim": "sub", "prefix": ""}}
ISSUER = {"url": "https://example.com", "audiences": ["a"]}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"issuer": {"audiences": ["a"]}, "claimMappings": NAMED}, "issuer.url: Required value: URL is required"),
        ({"issuer": {**ISSUER, "url": "http://a"}, "claimMappings": NAMED}, "URL scheme must be https"),
        ({"issuer": {**ISSUER, "url": "https://a?b"}, "claimMappings": NAMED}, "URL must not contain a query"),
        ({"issuer": {**ISSUER, "url": "https://us"}, "claimMappings": NAMED},
         "URL must not overlap with disallowed issuers: [https://us]"),
        ({"issuer": {"url": "https://a"}, "claimMappings": NAMED}, "at least one jwt[0].issuer.audiences is required"),
        ({"issuer": {**ISSUER, "audiences": ["a", "b"]}, "claimMappings": NAMED},
         "audienceMatchPolicy must be MatchAny for multiple audiences"),
        ({"issuer": ISSUER}, "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        ({"issuer": ISSUER, "claimMappings": {"username": {"claim": "sub"}}}, "prefix is required when claim is set"),
        ({"issuer": ISSUER, "claimMappings": {"username": {"claim": "a", "prefix": "", "expression": "claims.b"}}},
         "claim and expression can't both be set"),
        ({"issuer": ISSUER, "claimMappings": {"username": {"expression": "claims.email"}}},
         "claims.email_verified must be used"),
        ({"issuer": ISSUER, "claimMappings": {"username": {"expression": "1"}}}, "must evaluate to string"),
        ({"issuer": ISSUER, "claimMappings": {"username": {"expression": "user.x"}}}, "undeclared reference to 'user'"),
        ({"issuer": ISSUER, "claimMappings": {**NAMED, "extra": [{"key": "Foo.com/x", "valueExpression": "'a'"}]}},
         "key must be lowercase"),
        ({"issuer": ISSUER, "claimMappings": {**NAMED, "extra": [{"key": "k8s.io/x", "valueExpression": "'a'"}]}},
         "reserved for Kubernetes use"),
        ({"issuer": ISSUER, "claimMappings": NAMED, "userValidationRules": [{"message": "x"}]},
         "expression is required"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_says_why(entry: Obj, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        authentication_of({"jwt": [entry]}, ["https://us"])

    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (OidcFlags(issuer_url="https://a"), "must be specified together"),
        (OidcFlags(groups_claim="x"), "must be specified together"),
        (OidcFlags(issuer_url="https://a", client_id="b", signing_algs=("HS256",)), "unsupported signing alg"),
    ],
)
def test_oidc_flags_that_cannot_be_say_why(flags: OidcFlags, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        issuer_of(flags)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"email": "a@b", "email_verified": True}, "a@b"),
        ({"email": "a@b"}, "a@b"),
        ({"email": "a@b", "email_verified": False}, None),
        ({"email": ""}, None),
        ({"email": ["a"]}, None),
        ({}, None),
    ],
)
def test_an_address_names_its_owner_once_it_is_verified(claims: Obj, found: str | None) -> None:
    rules, causes = compile_rules({"claimMappings": {"username": {"claim": "email", "prefix": ""}}}, "jwt[0]")

    assert not causes
    if found is None:
        with pytest.raises(ClaimsError):
            rules.user_of(claims)
    else:
        assert rules.user_of(claims).name == found


@pytest.mark.parametrize(
    ("said", "path", "allowed"),
    [
        (Anonymous(), "/api", True),
        (Anonymous(False), "/livez", False),
        (Anonymous(True, frozenset({"/livez"})), "/livez", True),
        (Anonymous(True, frozenset({"/livez"})), "/livez/etcd", False),
    ],
)
def test_one_may_be_anonymous_where_it_is_said(said: Anonymous, path: str, allowed: bool) -> None:
    assert said.allows(path) is allowed


# The token webhook.


async def test_a_webhook_is_asked_for_tokens_that_nobody_knows_and_its_answers_are_remembered(
    pki: Path, tmp_path: Path
) -> None:
    def answer(_: str, review: Any) -> Any:
        if review["spec"]["token"] != "good":
            return {"status": {"authenticated": False}}
        user = {"username": "remote", "uid": "7", "groups": ["g"], "extra": {"a": ["b"]}}
        return {"status": {"authenticated": True, "user": user}}

    async with Remote(pki, answer) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf", "/authenticate")
        more = {"authentication_token_webhook_config_file": file, "authentication_token_webhook_version": "v1"}
        async with serving(pki, tmp_path, **more) as cluster:
            who = await whoami(cluster, "good")
            assert who == {"username": "remote", "uid": "7", "groups": ["g", AUTHENTICATED], "extra": {"a": ["b"]}}
            assert await whoami(cluster, "bad") == 401
            assert await whoami(cluster, "good") == who
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "good"}}
            found = await cluster.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
            assert found.json["status"]["user"]["username"] == "remote"

    assert [asked["spec"]["token"] for asked in remote.asked] == ["good", "bad"]
    assert remote.asked[0]["apiVersion"] == "authentication.k8s.io/v1"


@pytest.mark.parametrize(
    ("asked", "said", "found"),
    [
        ((), None, [OWN]),
        (("other", OWN), None, [OWN]),
        (("other",), None, None),
        (("other", "third"), ["third", "fourth"], ["third"]),
    ],
)
async def test_a_webhook_says_whom_a_token_is_for(
    asked: tuple[str, ...], said: list[str] | None, found: list[str] | None, pki: Path, tmp_path: Path
) -> None:
    status = {"authenticated": True, "user": {"username": "remote"}, **({"audiences": said} if said else {})}
    async with Remote(pki, lambda *_: {"status": status}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        async with serving(pki, tmp_path, authentication_token_webhook_config_file=file) as cluster:
            answered = await reviewed(cluster, "x", *asked)

    assert remote.asked[0]["spec"]["audiences"] == list(asked or [OWN])
    assert answered.get("audiences") == found
    assert answered.get("authenticated", False) is (found is not None)


async def test_answers_that_are_not_remembered_are_asked_for_each_time(pki: Path, tmp_path: Path) -> None:
    async with Remote(pki, lambda *_: {"status": {"authenticated": False}}) as remote:
        file = remote.kubeconfig(tmp_path / "webhook.conf")
        more = {"authentication_token_webhook_config_file": file, "authentication_token_webhook_cache_ttl": 0.0}
        async with serving(pki, tmp_path, **more) as cluster:
            assert [await whoami(cluster, "x"), await whoami(cluster, "x")] == [401, 401]

    assert len(remote.asked) == 2


# Bootstrap tokens.


def token_secret(**changes: str) -> Obj:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        **changes,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value},
    }


@pytest.mark.parametrize(
    ("secret", "holds"),
    [
        (token_secret(), True),
        (token_secret(**{"usage-bootstrap-authentication": ""}), False),
        (token_secret(**{"token-secret": "fedcba9876543210"}), False),
        (token_secret(**{"token-id": "fedcba"}), False),
        (token_secret(expiration="2026-01-31T12:00:01Z"), True),
        (token_secret(expiration="2026-01-31T11:59:59Z"), False),
        (token_secret(expiration="tomorrow"), False),
        (token_secret(**{"auth-extra-groups": "system:masters"}), False),
        ({**token_secret(), "type": "Opaque"}, False),
        ({**token_secret(), "metadata": {"deletionTimestamp": "2026-01-31T11:59:59Z"}}, False),
    ],
)
def test_a_bootstrap_token_holds_as_its_secret_says(secret: Obj, holds: bool) -> None:
    user = user_of(secret, "abcdef", "0123456789abcdef", NOW)

    assert (user is not None) is holds
    if user is not None:
        groups = ("system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", AUTHENTICATED)
        assert (user.name, user.groups) == ("system:bootstrap:abcdef", groups)


async def test_bootstrap_tokens_count_where_they_are_wanted(pki: Path, tmp_path: Path) -> None:
    async with serving(pki, tmp_path, enable_bootstrap_token_auth=True) as cluster:
        await cluster.request("POST", "/api/v1/namespaces/kube-system/secrets", token_secret())
        who = await whoami(cluster, "abcdef.0123456789abcdef")
        assert isinstance(who, dict)
        assert who["username"] == "system:bootstrap:abcdef"


async def test_bootstrap_tokens_do_not_count_where_they_are_not_wanted(cluster: Cluster) -> None:
    await cluster.request("POST", "/api/v1/namespaces/kube-system/secrets", token_secret())

    assert await whoami(cluster, "abcdef.0123456789abcdef") == 401


# Service accounts.

ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


async def token_of(cluster: Cluster, **spec: Any) -> Obj:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    found = await cluster.call("POST", f"{ACCOUNT}/token", review)
    assert found.status == 201, found.body
    return {**found.json, "warnings": found.warnings}


async def test_a_review_tells_whom_a_token_is_for(cluster: Cluster) -> None:
    mine = (await token_of(cluster, audiences=["a", "b"]))["status"]["token"]

    assert (await reviewed(cluster, mine, "b", "c"))["audiences"] == ["b"]
    assert await reviewed(cluster, mine) == {"user": {}, "error": "invalid bearer token"}  # not for this server
    assert (await reviewed(cluster, TOKEN, "c", OWN))["audiences"] == [OWN]
    assert "authenticated" not in await reviewed(cluster, TOKEN, "c")


async def test_a_pods_token_tells_of_pod_and_node(cluster: Cluster) -> None:
    await cluster.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    made = await cluster.request("POST", "/api/v1/namespaces/default/pods", pod("a", nodeName="n"))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "a"}
    review = await token_of(cluster, boundObjectRef=reference, expirationSeconds=3607)

    who = await whoami(cluster, review["status"]["token"])

    assert isinstance(who, dict)
    extra = {name.rpartition("/")[2]: values for name, values in who["extra"].items()}
    assert extra.pop("credential-id")[0].startswith("JTI=")
    assert extra.pop("node-uid")
    assert extra == {"pod-name": ["a"], "pod-uid": [made["metadata"]["uid"]], "node-name": ["n"]}
    claims = jwt.decode(review["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600  # pods that never read it again go on
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == 3607
    assert review["spec"]["expirationSeconds"] == 3607


async def test_a_token_of_a_node_that_is_gone_is_refused(cluster: Cluster) -> None:
    await cluster.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    review = await token_of(cluster, boundObjectRef={"kind": "Node", "apiVersion": "v1", "name": "n"})
    token = review["status"]["token"]
    assert isinstance(await whoami(cluster, token), dict)

    await cluster.request("DELETE", "/api/v1/nodes/n")
    cluster.server.api.authenticator.forget()

    assert await whoami(cluster, token) == 401


async def test_long_tokens_are_shortened_with_a_warning(pki: Path, tmp_path: Path) -> None:
    issuers = {"service_account_issuer": "https://new", "more_service_account_issuers": ("https://old",)}
    async with serving(pki, tmp_path, service_account_max_token_expiration=3600, **issuers) as cluster:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await cluster.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        review = await token_of(cluster, expirationSeconds=7200)
        tokens = cluster.server.api.tokens
        tokens.issuer = "https://old"
        older = await token_of(cluster)

        assert review["spec"]["expirationSeconds"] == 3600
        assert "requested expiration of 7200 seconds shortened to 3600 seconds" in review["warnings"][0]
        assert isinstance(await whoami(cluster, older["status"]["token"]), dict)  # another issuer's, and still good


async def test_certificates_are_known_by_their_digest(cluster: Cluster, pki: Path) -> None:
    cluster.tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    who = (await cluster.call("POST", WHOAMI, SELF, headers={"Authorization": ""})).json["status"]["userInfo"]

    assert who["username"] == "kubernetes-admin"
    assert who["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
