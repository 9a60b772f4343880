"""What is checked before a cluster starts, and the choices made for it."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pinnace.cluster import preflight, subnets
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import ClusterError

MINORS = [30, 36, 37]


@pytest.mark.parametrize(
    ("wanted", "existing", "chosen"),
    [
        ("", "", "v1.37.0"),
        ("latest", "", "v1.37.0"),
        ("stable", "", "v1.37.0"),
        ("1.36", "", "v1.36.0"),
        ("v1.36.2", "", "v1.36.2"),
        ("", "v1.30.0", "v1.30.0"),
        ("v1.37.0", "v1.36.0", "v1.37.0"),
    ],
)
def test_the_version_is_the_wanted_one_or_the_newest(wanted: str, existing: str, chosen: str) -> None:
    assert preflight.choose_version(wanted, MINORS, existing) == chosen


@pytest.mark.parametrize(
    ("wanted", "existing", "message", "code"),
    [
        ("v1.20.0", "", "Kubernetes v1.20.0 is not supported", 106),
        ("banana", "", '"banana" is not a Kubernetes version', 106),
        ("1.36", "v1.37.0", "The cluster runs Kubernetes v1.37.0 and cannot go back to v1.36.0", 106),
    ],
)
def test_a_version_that_cannot_be_is_refused(wanted: str, existing: str, message: str, code: int) -> None:
    with pytest.raises(ClusterError) as caught:
        preflight.choose_version(wanted, MINORS, existing)

    assert (caught.value.message, caught.value.reason.exit_code) == (message, code)


def test_a_port_in_use_is_refused_by_name(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ClusterError, match=f"Port {port} on 127.0.0.1 is in use"):
            preflight.choose_port(Profile("work", tmp_path), port)


def test_the_port_of_a_stopped_cluster_stays_its_own(tmp_path: Path) -> None:
    stopped, other = Profile("work", tmp_path), Profile("play", tmp_path)
    stopped.save(CONFIG)

    port = preflight.choose_port(other, None)

    assert 20_000 <= port < 30_000  # where no outgoing connection, nor a Service, is given it while `other` is stopped


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ClusterError, match="is not a directory"):
        preflight.require_writable_home(tmp_path / "file" / "home")


def test_the_first_free_networks_are_chosen() -> None:
    nothing_used = subnets.choose([])
    first_used = subnets.choose([IPv4Network("192.168.49.0/24")])
    pods_used = subnets.choose([IPv4Network("10.244.7.0/24"), IPv4Network("192.0.2.0/24")])

    assert nothing_used == subnets.Subnets("192.168.49.0/24", "10.244.0.0/16", "10.96.0.0/16")
    assert first_used.machines == "192.168.58.0/24"
    assert pods_used.pods == "10.243.0.0/16"


def test_networks_of_both_families_are_counted_alike() -> None:
    found = subnets.choose([IPv4Network("10.244.7.0/24")], dual=True)
    given = subnets.choose([], dual=True, services="10.3.0.0/24,fd00:3::/112")

    assert found == subnets.Subnets(
        "192.168.58.0/24,fd00:192:168:58::/64", "10.243.0.0/16,fd00:10:243::/56", "10.97.0.0/16,fd00:10:97::/112"
    )
    assert (given.services, given.pods) == ("10.3.0.0/24,fd00:3::/112", "10.244.0.0/16,fd00:10:244::/56")
    assert subnets.first_address(found.machines) == "192.168.58.1"


def test_a_range_of_services_that_is_in_use_is_an_error() -> None:
    with pytest.raises(ClusterError, match=r"10\.3\.0\.0/16 is in use on this machine"):
        subnets.choose([IPv4Network("10.3.1.0/24")], services="10.3.0.0/16")


def test_no_free_network_is_an_error() -> None:
    with pytest.raises(ClusterError, match="All 20 candidate subnets"):
        subnets.choose([IPv4Network("192.168.0.0/16")])


def test_networks_in_use_are_read_from_the_kernels_routes(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )

    assert subnets.networks_in_use(routes) == [IPv4Network("192.0.2.0/24")]


CONFIG = ProfileConfig(
    "work", "v1.37.0", "work", "192.168.49.1", "192.168.49.0/24", "10.244.0.0/16", "10.96.0.0/16", "cluster.local", 8443
)


def test_a_profile_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    profile = Profile("work", tmp_path)
    profile.save(CONFIG)

    assert profile.load() == CONFIG


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": "work"}', '{"kubernetes_version": 5}', "\x00"])
def test_a_corrupt_profile_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    profile = Profile("work", tmp_path)
    profile.directory.mkdir(parents=True)
    profile.config_file.write_text(content)

    with pytest.raises(ClusterError, match='Profile "work" is corrupt') as caught:
        profile.load()

    assert caught.value.advice == "Remove it: pinnace delete -p work"


@pytest.mark.parametrize("name", ["", "a", "-ab", "a b", "a/b", "..", "ä1"])
def test_names_that_cannot_be_profiles_are_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="Invalid profile name"):
        Profile(name)


@pytest.mark.parametrize("loads", [True, False])
def test_overlayfs_is_loaded_where_it_is_a_module_that_nothing_has_used_yet(
    loads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modprobe = tmp_path / "modprobe"
    modprobe.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n[ {int(loads)} = 1 ] && : >{tmp_path}/loaded\n')
    modprobe.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(preflight, "_has_overlay", (tmp_path / "loaded").exists)
    if loads:
        preflight.require_features()
    else:
        with pytest.raises(ClusterError, match="This kernel has no overlayfs"):
            preflight.require_features()
    assert (tmp_path / "asked").read_text() == "-q overlay\n"
