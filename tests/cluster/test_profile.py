"""Profiles of several homes on one machine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from pinnace.cluster.profile import Profile, ProfileConfig, announced_profiles
from pinnace.cluster.start import _networks_of_profiles

CONFIG = ProfileConfig(
    name="one",
    kubernetes_version="v1.37.0",
    node_name="one",
    node_ip="192.168.49.1",
    machine_cidr="192.168.49.0/24",
    pod_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    dns_domain="cluster.local",
    api_server_port=8443,
)


def profile(directory: Path, home: str) -> Profile:
    made = Profile("one", directory / home)
    made.run_dir = directory / "run" / made.id
    return made


def test_networks_of_stopped_profiles_of_other_homes_stay_theirs(tmp_path: Path) -> None:
    first, second = profile(tmp_path, "first"), profile(tmp_path, "second")
    first.save(CONFIG)
    assert list(_networks_of_profiles(second)) == []

    first.announce()
    first.announce()  # by a second start

    assert set(_networks_of_profiles(second)) == {
        IPv4Network("192.168.49.0/24"),
        IPv4Network("10.244.0.0/16"),
        IPv4Network("10.96.0.0/16"),
    }


def test_profiles_that_are_gone_are_not_announced(tmp_path: Path) -> None:
    first, second = profile(tmp_path, "first"), profile(tmp_path, "second")
    for one in (first, second):
        one.save(CONFIG)
        one.announce()
    assert [one.directory for one in announced_profiles(second)].count(first.directory) == 1

    first.config_file.unlink()  # with its whole home, say
    assert [one.directory for one in announced_profiles(second)] == [second.directory]

    second.remove()
    assert announced_profiles(second) == []


def test_a_profile_remembers_the_flags_of_its_servers(tmp_path: Path) -> None:
    one = profile(tmp_path, "first")
    one.save(replace(CONFIG, extra_config=("kubelet.max-pods=250", "scheduler.v=4")))

    assert one.load().extra_config == ("kubelet.max-pods=250", "scheduler.v=4")
