"""Deletes PodCertificateRequests a quarter of an hour after they were made: by then the kubelet has its certificate.

Specified by https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#pod-certificate-requests.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pinnace.apis.resources import POD_CERTIFICATE_REQUESTS
from pinnace.client.controller import Controller
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, namespace_of, parse_time, uid_of, utc_now

_KEPT = timedelta(minutes=15)


def forgotten_in(request: Obj, now: datetime) -> float:
    """Seconds until the request is to be deleted, 0 or less when it is time."""
    return (parse_time(request["metadata"]["creationTimestamp"]) + _KEPT - now).total_seconds()


class PodCertificateRequestCleaner(Controller):
    """One key is one request."""

    name = "podcertificaterequest-cleaner-controller"
    workers = 1

    def setup(self) -> None:
        self.requests = self.watch(POD_CERTIFICATE_REQUESTS)

    async def reconcile(self, key: str) -> float | None:
        request = self.requests.store.get(key)
        if request is None:
            return None
        left = forgotten_in(request, utc_now())
        if left > 0:
            return left
        try:
            name, namespace = name_of(request), namespace_of(request)
            await self.client.delete(POD_CERTIFICATE_REQUESTS, name, namespace, uid=uid_of(request))
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None
