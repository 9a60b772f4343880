"""AppArmor profiles of containers, as annotations say them and as fields do."""

from __future__ import annotations

import pytest

from pinnace.apis.core.app_armor import PREFIX
from pinnace.apis.core.pod import prepare
from pinnace.apis.core.pod_spec import validate_pod_spec
from pinnace.machinery.meta import Obj

DEFAULT, UNCONFINED = {"type": "RuntimeDefault"}, {"type": "Unconfined"}


def pod(annotation: str | None, own: Obj | None = None, shared: Obj | None = None, **spec: Obj) -> Obj:
    container: Obj = {"name": "c", **({"securityContext": {"appArmorProfile": own}} if own else {})}
    annotations = {"other": "x"} | ({f"{PREFIX}c": annotation} if annotation is not None else {})
    around = {"securityContext": {"appArmorProfile": shared}} if shared else {}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [container], **around, **spec}}


@pytest.mark.parametrize(
    ("of", "profile"),
    [
        (pod("runtime/default"), DEFAULT),
        (pod("unconfined"), UNCONFINED),
        (pod("localhost//usr/bin/web"), {"type": "Localhost", "localhostProfile": "/usr/bin/web"}),
        (pod("localhost/"), None),
        (pod("localhost/ x"), None),
        (pod("else"), None),
        (pod(""), None),
        (pod(None), None),
        (pod("unconfined", own=DEFAULT), DEFAULT),
        (pod("unconfined", shared=DEFAULT), UNCONFINED),
        (pod("runtime/default", shared=DEFAULT), None),
        (pod("unconfined", os={"name": "windows"}), None),
    ],
)
def test_fields_say_what_annotations_do(of: Obj, profile: Obj | None) -> None:
    prepare(of, None)
    (container,) = of["spec"]["containers"]
    assert (container.get("securityContext") or {}).get("appArmorProfile") == profile


def test_annotations_of_a_pod_that_is_there_change_nothing() -> None:
    of = pod("unconfined")
    prepare(of, of)
    assert "securityContext" not in of["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("/usr/bin/web", []),
        ("a profile//of a profile", []),
        (" web", ['Invalid value: " web": must not be padded with whitespace']),
    ],
)
def test_profiles_are_names_and_no_files(name: str, errors: list[str]) -> None:
    spec = {"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": name}}}
    found = [one for one in validate_pod_spec({"containers": [], **spec}) if "localhostProfile" in one.field]
    assert [one.message for one in found] == errors
