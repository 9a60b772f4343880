"""Which AppArmor profile confines a container; the kernel's side is tried where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cri.api import CriError, LinuxContainerSecurityContext, SecurityProfile
from pinnace.cri.engine import _syscalls, apparmor
from pinnace.cri.engine.apparmor import AppArmor, loaded_profiles, profile_text

NAME = "pinnace-test-default"

PARSER = """#!/bin/sh
cat >{directory}/read
echo "$@" >>{directory}/asked
case $1 in
--remove) sed -i /^{name}/d {directory}/profiles ;;
*) echo '{name} (enforce)' >>{directory}/profiles ;;
esac
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with AppArmor and a profile that somebody loaded, as a directory."""
    (tmp_path / "enabled").write_text("Y\n")
    (tmp_path / "profiles").write_text("allow-all (complain)\n/usr/sbin/an odd name (enforce)\n")
    parser = tmp_path / "apparmor_parser"
    parser.write_text(PARSER.format(directory=tmp_path, name=NAME))
    parser.chmod(0o755)
    monkeypatch.setattr(apparmor, "_ENABLED", tmp_path / "enabled")
    monkeypatch.setattr(apparmor, "_LOADED", tmp_path / "profiles")
    monkeypatch.setattr(apparmor, "_ABI", tmp_path / "no-abi")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def security(kind: str = "", reference: str = "", *, privileged: bool = False) -> LinuxContainerSecurityContext:
    profile = SecurityProfile(profile_type=kind, localhost_ref=reference) if kind else None
    return LinuxContainerSecurityContext(apparmor=profile, privileged=privileged)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (security(), NAME),
        (security("RuntimeDefault"), NAME),
        (security("Unconfined"), ""),
        (security("Localhost", "allow-all"), "allow-all"),
        (security("Localhost", "localhost//usr/sbin/an odd name"), "/usr/sbin/an odd name"),
        (security(privileged=True), ""),
        (security("RuntimeDefault", privileged=True), ""),
        (security("Localhost", "allow-all", privileged=True), "allow-all"),
    ],
)
def test_the_profile_of_a_container(kernel: Path, asked: LinuxContainerSecurityContext, given: str) -> None:
    assert AppArmor(NAME).profile(asked) == given
    assert (kernel / "asked").exists() == (given == NAME)


def test_the_default_profile_is_loaded_once_and_removed_at_the_end(kernel: Path) -> None:
    confining = AppArmor(NAME)
    confining.remove()
    assert not (kernel / "asked").exists()

    confining.profile(security())
    confining.profile(security())
    AppArmor(NAME).profile(security())
    assert (kernel / "asked").read_text() == "--replace --skip-cache\n"
    assert (kernel / "read").read_text() == profile_text(NAME)

    AppArmor(NAME).remove()
    assert NAME not in loaded_profiles((kernel / "profiles").read_text())


def test_a_profile_that_nobody_loaded_is_refused(kernel: Path) -> None:
    assert kernel
    with pytest.raises(CriError) as caught:
        AppArmor(NAME).profile(security("Localhost", "deny-write"))
    words = "failed to get container spec opts: failed to generate apparmor spec opts"
    assert caught.value.message == f"{words}: apparmor profile not found deny-write"


@pytest.mark.parametrize("missing", ["enabled", "profiles", "apparmor_parser"])
def test_where_the_machine_has_no_apparmor_only_those_that_ask_for_it_are_refused(kernel: Path, missing: str) -> None:
    (kernel / missing).unlink()
    confining = AppArmor(NAME)
    assert confining.profile(security()) == ""
    assert confining.profile(security("Unconfined")) == ""
    confining.remove()
    for kind in ("RuntimeDefault", "Localhost"):
        with pytest.raises(CriError, match="failed to generate apparmor spec opts: apparmor is not supported"):
            confining.profile(security(kind, "allow-all"))


def test_users_who_cannot_load_profiles_have_containers_without(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_syscalls, "in_user_namespace", lambda: True)
    assert AppArmor(NAME).profile(security()) == ""
    assert not (kernel / "asked").exists()


def test_a_parser_that_fails_tells_why(kernel: Path) -> None:
    (kernel / "apparmor_parser").write_text("#!/bin/sh\necho 'no such policy' >&2\nexit 1\n")
    with pytest.raises(CriError, match="apparmor_parser --replace --skip-cache: no such policy"):
        AppArmor(NAME).profile(security())
