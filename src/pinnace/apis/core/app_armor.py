"""AppArmor profiles in a pod's annotations, as they were before 1.30: what they say of containers, fields say then.

Pure. Specified by KEP-24 ("Version Skew Strategy") and https://kubernetes.io/docs/tutorials/security/apparmor/.
"""

from __future__ import annotations

from pinnace.machinery.meta import Obj, get_in

PREFIX = "container.apparmor.security.beta.kubernetes.io/"
_LOCALHOST = "localhost/"


def take_up_app_armor(pod: Obj) -> None:
    """Write what annotations say into the fields of containers that say nothing, unless the pod's field says it too."""
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    if (spec.get("os") or {}).get("name") == "windows" or not any(key.startswith(PREFIX) for key in annotations):
        return
    of_pod = get_in(spec, "securityContext", "appArmorProfile")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            profile = _profile(annotations.get(f"{PREFIX}{container.get('name')}"))
            context = container.get("securityContext") or {}
            if profile and profile != of_pod and not context.get("appArmorProfile"):
                container["securityContext"] = {**context, "appArmorProfile": profile}


def _profile(text: str | None) -> Obj | None:
    if text == "runtime/default":
        return {"type": "RuntimeDefault"}
    if text == "unconfined":
        return {"type": "Unconfined"}
    name = text.removeprefix(_LOCALHOST) if text and text.startswith(_LOCALHOST) else ""
    return {"type": "Localhost", "localhostProfile": name} if name and name == name.strip() else None
