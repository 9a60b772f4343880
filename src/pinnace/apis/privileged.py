"""Privileged containers, where a cluster takes none: kube-apiserver's `--allow-privileged=false`."""

from __future__ import annotations

from collections.abc import Mapping

from pinnace.apis.kind import Validate
from pinnace.machinery.errors import Cause, field_forbidden
from pinnace.machinery.meta import Obj, get_in

_WHERE: Mapping[tuple[str, str], tuple[str, ...]] = {  # of the spec of pods
    ("", "Pod"): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(
        (
            ("", "ReplicationController"),
            ("apps", "DaemonSet"),
            ("apps", "Deployment"),
            ("apps", "ReplicaSet"),
            ("apps", "StatefulSet"),
            ("batch", "Job"),
        ),
        ("spec", "template", "spec"),
    ),
}


def refusing_privileged(group: str, kind: str, validate: Validate | None) -> Validate | None:
    """`validate`, which then refuses privileged containers as well; the same for kinds that have none."""
    where = _WHERE.get((group, kind))
    if where is None:
        return validate

    def whole(obj: Obj) -> list[Cause]:
        found = validate(obj) if validate is not None else []
        spec: Obj = get_in(obj, *where, default={})
        return found + [
            field_forbidden(
                f"{'.'.join(where)}.{containers}[{place}].securityContext.privileged", "disallowed by cluster policy"
            )
            for containers in ("initContainers", "containers", "ephemeralContainers")
            for place, container in enumerate(spec.get(containers) or ())
            if get_in(container, "securityContext", "privileged", default=False)
        ]

    return whole
