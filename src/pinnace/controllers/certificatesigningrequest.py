"""Approves the requests of nodes for their certificates, signs what is approved, and forgets what is old.

What is asked for is judged in `certificate_requests.py` and signed by `certificate_authority.py`. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/ and
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta

import structlog

from pinnace.apis.resources import CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers import certificate_requests as requests
from pinnace.controllers.certificate_authority import CertificateAuthority, KeyPair, lifetime
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, name_of, uid_of, utc_now

_log = structlog.get_logger()

_GROUP = CERTIFICATE_SIGNING_REQUESTS.group
_AGAIN_SECONDS = 60.0  # until one that may not be approved is judged anew, for rights may change
_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}


def with_status(request: Obj, *conditions: Obj, **fields: str) -> Obj:
    """The request with more conditions, and other fields, in its status."""
    old = request.get("status") or {}
    return {**request, "status": {**old, **fields, "conditions": [*(old.get("conditions") or ()), *conditions]}}


class CsrApprovingController(Controller):
    """One key is one request."""

    name = "certificatesigningrequest-approving-controller"

    def setup(self) -> None:
        self.requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)

    async def reconcile(self, key: str) -> float | None:
        request = self.requests.store.get(key)
        if request is None or get_in(request, "status", "certificate") or requests.is_decided(request):
            return None
        if request["spec"]["signerName"] != requests.KUBELET_CLIENT:
            return None
        try:
            csr = requests.parse(request)
        except requests.BadRequest as error:
            _log.warning("unable to parse certificate request", name=key, error=str(error))
            return None
        if requests.problem(requests.KUBELET_CLIENT, csr, request["spec"].get("usages") or ()):
            return None
        is_its_own = request["spec"].get("username") == requests.common_name(csr)
        for subresource in ("selfnodeclient", "nodeclient") if is_its_own else ("nodeclient",):
            if await self._allowed(request, subresource):
                await self._approve(request, _MESSAGES[subresource])
                return None
        return _AGAIN_SECONDS

    async def _allowed(self, request: Obj, subresource: str) -> bool:
        """Whether whoever made the request may ask for such a certificate."""
        attributes = {
            "group": _GROUP,
            "resource": CERTIFICATE_SIGNING_REQUESTS.resource,
            "subresource": subresource,
            "verb": "create",
            "version": "*",
        }
        spec = request["spec"]
        who = {"user": spec.get("username", ""), "uid": spec.get("uid", ""), "groups": spec.get("groups") or []}
        review: Obj = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {**who, "extra": spec.get("extra") or {}, "resourceAttributes": attributes},
        }
        answer = await self.client.create(SUBJECT_ACCESS_REVIEWS, review)
        return bool(get_in(answer, "status", "allowed"))

    async def _approve(self, request: Obj, message: str) -> None:
        approved = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
        await self.client.update(CERTIFICATE_SIGNING_REQUESTS, with_status(request, approved), subresource="approval")


class CsrSigningController(Controller):
    """One key is one request. `authorities` are by signer, `duration` is the longest life of a certificate."""

    name = "certificatesigningrequest-signing-controller"

    def __init__(
        self, client: Client, informers: InformerFactory, *, authorities: Mapping[str, KeyPair], duration: timedelta
    ) -> None:
        self._pairs = authorities
        self._authorities: dict[str, CertificateAuthority] = {}
        self._duration = duration
        super().__init__(client, informers)

    def setup(self) -> None:
        self.requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)

    async def reconcile(self, key: str) -> None:
        request = self.requests.store.get(key)
        if request is None or not requests.is_to_be_signed(request):
            return
        spec = request["spec"]
        signer, usages = spec["signerName"], spec.get("usages") or ()
        if signer not in self._pairs:
            return
        try:
            csr = requests.parse(request)
        except requests.BadRequest as error:
            _log.warning("unable to parse certificate request", name=key, error=str(error))
            return
        if why := requests.problem(signer, csr, usages):
            await self._fail(request, why)
            return
        valid = lifetime(spec.get("expirationSeconds"), self._duration)
        certificate = self._authority(signer).sign(csr, usages, valid, utc_now())
        signed = with_status(request, certificate=base64.b64encode(certificate).decode())
        await self.client.update_status(CERTIFICATE_SIGNING_REQUESTS, signed)

    def _authority(self, signer: str) -> CertificateAuthority:
        if signer not in self._authorities:
            self._authorities[signer] = CertificateAuthority(self._pairs[signer])
        return self._authorities[signer]

    async def _fail(self, request: Obj, message: str) -> None:
        failed = {
            "type": "Failed",
            "status": "True",
            "reason": "SignerValidationFailure",
            "message": message,
            "lastUpdateTime": format_time(utc_now()),
        }
        await self.client.update_status(CERTIFICATE_SIGNING_REQUESTS, with_status(request, failed))


class CsrCleanerController(Controller):
    """One key is one request."""

    name = "certificatesigningrequest-cleaner-controller"
    workers = 1

    def setup(self) -> None:
        self.requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)

    async def reconcile(self, key: str) -> float | None:
        request = self.requests.store.get(key)
        if request is None:
            return None
        left = requests.forgotten_in(request, utc_now())
        if left > 0:
            return left
        try:
            await self.client.delete(CERTIFICATE_SIGNING_REQUESTS, name_of(request), uid=uid_of(request))
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None
