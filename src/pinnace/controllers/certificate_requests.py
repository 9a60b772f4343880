"""What is to be done about a CertificateSigningRequest: whether a signer may sign it, and when it is to be forgotten.

Pure functions. Specified by
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pinnace.controllers.conditions import condition, is_true
from pinnace.machinery.meta import Obj, get_in, parse_time

if TYPE_CHECKING:
    from cryptography.x509 import CertificateSigningRequest

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"

_NODE = "system:node:"
_DECIDED_SECONDS = 3600.0  # after which a request that was answered is forgotten
_PENDING_SECONDS = 24 * 3600.0


class BadRequest(ValueError):
    """What is in `spec.request` cannot be signed; the message says why."""


def parse(request: Obj) -> CertificateSigningRequest:
    """The PKCS#10 request. Raises BadRequest."""
    from cryptography.x509 import load_pem_x509_csr

    pem = base64.b64decode(get_in(request, "spec", "request", default=""))
    if not pem.lstrip().startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
        raise BadRequest("PEM block type must be CERTIFICATE REQUEST")
    try:
        return load_pem_x509_csr(pem)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def common_name(csr: CertificateSigningRequest) -> str:
    from cryptography.x509.oid import NameOID

    found = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def problem(signer: str, csr: CertificateSigningRequest, usages: Iterable[str]) -> str:
    """Why one of Kubernetes' own signers does not sign a request; empty if it does."""
    usages = list(usages)
    if signer == KUBELET_CLIENT:
        return _node_problem(csr, usages, "client auth", allowed=(), needed=())
    if signer == KUBELET_SERVING:
        names = ("DNS", "IP")
        return _node_problem(csr, usages, "server auth", allowed=names, needed=names)
    if signer == API_CLIENT:
        for usage in usages:
            if usage not in ("client auth", "digital signature", "key encipherment"):
                return f"invalid usage for client certificate: {usage}"
        return "" if "client auth" in usages else "missing required usage for client certificate: client auth"
    return ""


def _node_problem(
    csr: CertificateSigningRequest,
    usages: list[str],
    purpose: str,
    *,
    allowed: tuple[str, ...],
    needed: tuple[str, ...],
) -> str:
    from cryptography.x509.oid import NameOID

    organizations = [one.value for one in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if organizations != ["system:nodes"]:
        return "subject organization is not system:nodes"
    kinds = _kinds_of_names(csr)
    if needed and kinds.isdisjoint(needed):
        return "DNS or IP subjectAltName is required"
    for kind in ("DNS", "Email", "IP", "URI"):
        if kind in kinds and kind not in allowed:
            return f"{kind} subjectAltNames are not allowed"
    if not common_name(csr).startswith(_NODE):
        return f"subject common name does not begin with {_NODE}"
    least = {"digital signature", purpose}
    most = least | {"key encipherment"}
    return "" if set(usages) in (least, most) else f"usages did not match [{' '.join(sorted(most))}]"


def _kinds_of_names(csr: CertificateSigningRequest) -> set[str]:
    from cryptography import x509

    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    kinds: dict[type[x509.GeneralName], str] = {x509.DNSName: "DNS", x509.RFC822Name: "Email", x509.IPAddress: "IP"}
    return {kinds.get(type(name), "URI") for name in names}


# States.


def is_decided(request: Obj) -> bool:
    return condition(request, "Approved") is not None or condition(request, "Denied") is not None


def is_to_be_signed(request: Obj) -> bool:
    approved = condition(request, "Approved") is not None and condition(request, "Denied") is None
    return approved and not is_true(request, "Failed") and not get_in(request, "status", "certificate")


def forgotten_in(request: Obj, now: datetime) -> float:
    """Seconds until the request is to be deleted, 0 or less when it is time."""
    ends = certificate_end(request)
    if ends is not None and is_decided(request) and ends <= now:
        return 0.0
    if not get_in(request, "status", "conditions"):
        return _left(request["metadata"]["creationTimestamp"], _PENDING_SECONDS, now)
    lefts = []
    for found in get_in(request, "status", "conditions") or ():
        issued = found["type"] != "Approved" or get_in(request, "status", "certificate")
        if issued:
            moment = found.get("lastUpdateTime") or request["metadata"]["creationTimestamp"]
            lefts.append(_left(moment, _DECIDED_SECONDS, now))
    if ends is not None:
        lefts.append((ends - now).total_seconds())
    # Approved and not signed yet: nobody knows when it will be.
    return min(lefts, default=_DECIDED_SECONDS)


def _left(moment: str, seconds: float, now: datetime) -> float:
    return (parse_time(moment) + timedelta(seconds=seconds) - now).total_seconds()


def certificate_end(request: Obj) -> datetime | None:
    """When the certificate that was issued expires."""
    encoded = get_in(request, "status", "certificate")
    if not encoded:
        return None
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(base64.b64decode(encoded)).not_valid_after_utc
    except ValueError:
        return None
