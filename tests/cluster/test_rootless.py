"""Which users a cluster's namespaces know, why a machine does not let its users have one, and what such a one lacks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cluster.reasons import NEEDS_ROOT
from pinnace.cluster.rootless import obstacles
from pinnace.cluster.rootless.identifiers import Range, mapping, subordinate
from pinnace.cluster.rootless.limits import limits
from pinnace.cluster.rootless.ports import host_ports, node_ports

TABLE = """\
root:1:10
ada:100000:65536
# of no user
1001:300000:1000
ada:not:numbers
ada:400000
ada:500000:0
"""
FIT = obstacles.Machine(
    user="ada",
    uids=(Range(100000, 65536),),
    gids=(Range(100000, 65536),),
    has_newuidmap=True,
    switches={"user.max_user_namespaces": 96365, "kernel.unprivileged_userns_clone": 1},
    kernel="6.1.0",
)


@pytest.mark.parametrize(
    ("user", "uid", "found"),
    [
        ("ada", 1001, [Range(100000, 65536), Range(300000, 1000)]),
        ("ada", 1002, [Range(100000, 65536)]),
        ("bob", 1001, [Range(300000, 1000)]),
        ("carl", 1003, []),
    ],
)
def test_ranges_are_given_to_names_and_to_numbers(user: str, uid: int, found: list[Range]) -> None:
    assert subordinate(TABLE, user, uid) == found


def test_the_owner_is_root_within_and_ranges_follow() -> None:
    arguments = mapping(1001, [Range(100000, 65536), Range(300000, 1000)])

    assert arguments == ["0", "1001", "1", "1", "100000", "65536", "65537", "300000", "1000"]


@given(st.lists(st.builds(Range, st.integers(1, 1 << 31), st.integers(1, 1 << 20)), max_size=8))
def test_no_id_within_is_given_twice_or_left_out(ranges: list[Range]) -> None:
    numbers = [int(argument) for argument in mapping(1, ranges)]
    inside = [(numbers[index], numbers[index + 2]) for index in range(0, len(numbers), 3)]

    assert [first for first, _ in inside[1:]] == [first + count for first, count in inside[:-1]]
    assert sum(count for _, count in inside) == 1 + sum(one.count for one in ranges)


def test_nothing_is_in_the_way_on_a_usual_machine() -> None:
    assert obstacles.before(FIT) is None


@pytest.mark.parametrize(
    ("change", "says", "advises"),
    [
        (
            {"switches": {"user.max_user_namespaces": 0}},
            "this machine forbids user namespaces (user.max_user_namespaces)",
            "sudo sysctl -w user.max_user_namespaces=28633, or run the command again with sudo",
        ),
        (
            {"switches": {"kernel.unprivileged_userns_clone": 0}},
            "this machine forbids user namespaces (kernel.unprivileged_userns_clone)",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1, or",
        ),
        ({"has_newuidmap": False}, "newuidmap was not found", "sudo apt-get install uidmap"),
        ({"uids": ()}, "ada has no 65536 subordinate user ids", "sudo usermod --add-subuids 100000-165535"),
        ({"gids": (Range(1, 65535),)}, "ada has no 65536 subordinate group ids", "--add-subgids 100000-165535 ada"),
    ],
)
def test_what_is_in_the_way_is_said_in_one_line_with_what_to_do(
    change: dict[str, object], says: str, advises: str
) -> None:
    error = obstacles.before(dataclasses.replace(FIT, **change))  # type: ignore[arg-type]

    assert error is not None
    assert error.reason is NEEDS_ROOT
    assert error.message == f"Without root the cluster cannot run: {says}"
    assert advises in error.advice
    assert "\n" not in error.message + error.advice


@pytest.mark.parametrize(
    ("step", "switches", "says"),
    [
        ("users", {}, "user namespaces are forbidden here (Operation not permitted)"),
        (
            "mounts",
            {"kernel.apparmor_restrict_unprivileged_userns": 1},
            "this machine forbids user namespaces (kernel.apparmor_restrict_unprivileged_userns)",
        ),
        ("/proc", {}, "/proc cannot be had in a user namespace here (Operation not permitted)"),
        ("map", {}, "newuidmap refuses: Operation not permitted"),
        (
            "overlay",
            {"kernel.apparmor_restrict_unprivileged_userns": 1},
            "Linux 6.1.0 or the cluster's file system has no overlayfs for ordinary users (Operation not permitted)",
        ),
        ("outward", {}, "slirp4netns fails: Operation not permitted"),
    ],
)
def test_a_step_that_fails_is_said_by_its_cause(step: str, switches: dict[str, int], says: str) -> None:
    error = obstacles.after(step, "Operation not permitted", dataclasses.replace(FIT, switches=switches))

    assert error.message == f"Without root the cluster cannot run: {says}"
    assert error.advice


@pytest.mark.parametrize(
    ("has_cgroups", "has_way_out", "first_words"),
    [
        (True, True, ["node"]),
        (False, True, ["limits", "node"]),
        (True, False, ["pods", "node"]),
        (False, False, ["limits", "pods", "node"]),
    ],
)
def test_only_what_is_lacking_is_told(has_cgroups: bool, has_way_out: bool, first_words: list[str]) -> None:
    lines = limits(has_cgroups=has_cgroups, has_way_out=has_way_out)

    assert [line.split()[0] for line in lines] == first_words


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([{"port": 80}], set()),
        ([{"port": 80, "nodePort": 30080}], {30080}),
        ([{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 81, "nodePort": 30081}], {30080, 30081}),
        ([{"port": 53, "nodePort": 30053, "protocol": "UDP"}], set()),
    ],
)
def test_node_ports_of_tcp_are_passed_on(ports: list[dict[str, object]], found: set[int]) -> None:
    assert set(node_ports({"spec": {"ports": ports}})) == found
    assert not set(node_ports({"spec": {"type": "ExternalName"}}))


@pytest.mark.parametrize(
    ("port", "phase", "found"),
    [
        ({"containerPort": 80}, "Running", set()),
        ({"containerPort": 80, "hostPort": 8080}, "Running", {8080}),
        ({"containerPort": 80, "hostPort": 8080}, "Pending", {8080}),
        ({"containerPort": 80, "hostPort": 8080}, "Succeeded", set()),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"}, "Running", {8080}),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "192.168.49.1"}, "Running", set()),
        ({"containerPort": 53, "hostPort": 53, "protocol": "UDP"}, "Running", set()),
    ],
)
def test_host_ports_of_tcp_are_passed_on(port: dict[str, object], phase: str, found: set[int]) -> None:
    pod = {"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [port]}]}, "status": {"phase": phase}}

    assert set(host_ports(pod)) == found
