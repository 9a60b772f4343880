"""Requests of pods for certificates are forgotten soon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pinnace.apis.resources import POD_CERTIFICATE_REQUESTS
from pinnace.controllers.podcertificaterequest_cleaner import PodCertificateRequestCleaner, forgotten_in
from pinnace.machinery.meta import Obj, format_time
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(ago: float) -> Obj:
    metadata = {"name": "r", "namespace": "default", "creationTimestamp": format_time(NOW - timedelta(seconds=ago))}
    return {"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "metadata": metadata}


@pytest.mark.parametrize(("ago", "left"), [(0, 900), (600, 300), (900, 0)])
def test_requests_for_pods_are_short_lived(ago: float, left: float) -> None:
    assert forgotten_in(request(ago), NOW) == left


async def test_an_old_request_goes() -> None:
    api = FakeApi()
    await api.client.create(POD_CERTIFICATE_REQUESTS, request(10**8))
    async with running(api, PodCertificateRequestCleaner):
        await api.until(lambda: not api.all(POD_CERTIFICATE_REQUESTS))
