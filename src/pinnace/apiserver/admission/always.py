"""AlwaysAdmit and AlwaysDeny: no opinion, and the opposite. Both deprecated, and off unless asked for.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwaysadmit.
"""

from __future__ import annotations

from pinnace.apiserver.admission.chain import Attributes, Plugin


class AlwaysAdmit(Plugin):
    """What a chain does without it."""


class AlwaysDeny(Plugin):
    """A server with it cannot make what every cluster has, and ends at its start as kube-apiserver does."""

    async def validate(self, attributes: Attributes) -> None:
        raise attributes.forbidden("admission control is denying all modifications")
