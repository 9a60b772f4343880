"""What admission does for traffic: the default IngressClass, and no external addresses where they are not wanted.

https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class and
https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#denyserviceexternalips.
"""

from __future__ import annotations

from pinnace.apis.fields import spec_of
from pinnace.apis.resources import INGRESS_CLASSES
from pinnace.apiserver.admission.chain import Attributes, Plugin, newest_default
from pinnace.machinery.meta import annotations_of

_CLASS = "kubernetes.io/ingress.class"
_DEFAULT_MARKS = ("ingressclass.kubernetes.io/is-default-class",)


class DefaultIngressClass(Plugin):
    """An Ingress that names no class gets the default one, the newest where several say they are."""

    concerns = frozenset({("networking.k8s.io", "ingresses")})

    async def mutate(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if ingress is None or attributes.operation != "CREATE" or attributes.subresource:
            return
        if attributes.resource != ("networking.k8s.io", "ingresses"):
            return
        spec = ingress.setdefault("spec", {})
        if spec.get("ingressClassName") is None and _CLASS not in annotations_of(ingress):
            name = newest_default(attributes.call.api.storage.cache(INGRESS_CLASSES), _DEFAULT_MARKS)
            if name:
                spec["ingressClassName"] = name


class DenyServiceExternalIPs(Plugin):
    """Off unless asked for: no Service takes traffic for addresses that its author names."""

    concerns = frozenset({("", "services")})

    async def validate(self, attributes: Attributes) -> None:
        service = attributes.obj
        if attributes.resource != ("", "services") or attributes.subresource or service is None:
            return
        before = spec_of(attributes.old).get("externalIPs") or () if attributes.old is not None else ()
        if set(spec_of(service).get("externalIPs") or ()) - set(before):
            raise attributes.forbidden("Use of external IPs is denied by admission control.")
