"""What admission asks of certificates: that whoever approves, signs or attests for a signer may do so.

https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization.
"""

from __future__ import annotations

import base64

from pinnace.apis.fields import spec_of, status_of
from pinnace.apiserver.admission.chain import Attributes, Plugin
from pinnace.apiserver.authn import User
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.meta import Obj, format_time, utc_now

_GROUP = "certificates.k8s.io"
_REQUESTS = (_GROUP, "certificatesigningrequests")
_BUNDLES = (_GROUP, "clustertrustbundles")
_API_CLIENT = "kubernetes.io/kube-apiserver-client"
_MASTERS = "system:masters"


class CertificateRequester(Plugin):
    """Not a plugin that can be turned off: a request says who made it, and since when it is judged."""

    concerns = frozenset({_REQUESTS})

    async def mutate(self, attributes: Attributes) -> None:
        request = attributes.obj
        if request is None:
            return
        if attributes.operation == "CREATE" and not attributes.subresource:
            spec, user = request.setdefault("spec", {}), attributes.call.user
            for field in ("username", "uid", "groups", "extra"):
                spec.pop(field, None)
            spec |= _requester(user)
        elif attributes.subresource and attributes.old is not None:
            _date(request, attributes.old)


def _date(request: Obj, old: Obj) -> None:
    """Say of conditions since when they hold."""
    known = {(one.get("type"), one.get("status")): one for one in status_of(old).get("conditions") or ()}
    now = format_time(utc_now())
    for condition in status_of(request).get("conditions") or ():
        before = known.get((condition.get("type"), condition.get("status")), {})
        if not condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = before.get("lastTransitionTime") or now
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now


def _requester(user: User) -> Obj:
    extra = {key: list(values) for key, values in user.extra.items()}
    found = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra}
    return {field: value for field, value in found.items() if value}


class CertificateApproval(Plugin):
    concerns = frozenset({_REQUESTS})

    async def validate(self, attributes: Attributes) -> None:
        old = attributes.old
        if attributes.resource == _REQUESTS and attributes.subresource == "approval" and old is not None:
            signer = spec_of(old).get("signerName") or ""
            if not _may(attributes, "approve", signer):
                raise attributes.forbidden(f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Plugin):
    concerns = frozenset({_REQUESTS})

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        if attributes.resource != _REQUESTS or attributes.subresource != "status" or new is None or old is None:
            return
        parts = ("certificate", "conditions")
        if all(status_of(new).get(part) == status_of(old).get(part) for part in parts):
            return
        signer = spec_of(old).get("signerName") or ""
        if not _may(attributes, "sign", signer):
            raise attributes.forbidden(f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    """No certificate for clients of the API makes its bearer a master."""

    concerns = frozenset({_REQUESTS})

    async def validate(self, attributes: Attributes) -> None:
        if attributes.resource != _REQUESTS or attributes.operation != "CREATE" or attributes.obj is None:
            return
        if attributes.subresource or spec_of(attributes.obj).get("signerName") != _API_CLIENT:
            return
        if _MASTERS in _organizations(attributes, attributes.obj):
            raise attributes.forbidden(f"use of {_API_CLIENT} signer with {_MASTERS} group is not allowed")


def _organizations(attributes: Attributes, request: Obj) -> list[str]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    pem = base64.b64decode(spec_of(request).get("request") or "")
    try:
        subject = x509.load_pem_x509_csr(pem).subject
    except ValueError as error:
        raise attributes.forbidden(f"unable to parse csr: {error}") from None
    return [str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


class ClusterTrustBundleAttest(Plugin):
    concerns = frozenset({_BUNDLES})

    async def validate(self, attributes: Attributes) -> None:
        bundle = attributes.obj
        if attributes.resource != _BUNDLES or bundle is None or attributes.subresource:
            return
        signer = spec_of(bundle).get("signerName") or ""
        if signer and bundle != attributes.old and not _may(attributes, "attest", signer):
            raise attributes.forbidden(f'user not permitted to attest for signerName "{signer}"')


def _may(attributes: Attributes, verb: str, signer: str) -> bool:
    """Whether the user holds the verb on the signer, by its own name or by that of its whole domain."""
    call = attributes.call
    domain = signer.partition("/")[0]
    return any(
        call.api.authorizer.decide(call.user, RequestInfo(verb, "", True, _GROUP, "*", "signers", "", name))[0]
        for name in (signer, f"{domain}/*")
    )
