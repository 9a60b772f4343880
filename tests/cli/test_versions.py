"""Which Kubernetes the servers are: `--feature-gates` and `--emulated-version`."""

from __future__ import annotations

import importlib
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pinnace.cli.versions import emulated_version_option, feature_gates_option, read_features, read_minor

SERVERS = ("kube_apiserver", "kube_controller_manager", "kube_scheduler", "kubelet", "kube_proxy")


def read(*given: str) -> tuple[int, dict[str, bool]]:
    def command(**flags: Any) -> tuple[int, dict[str, bool]]:
        minor = read_minor(flags)
        return minor, dict(read_features(flags, minor, {"WatchList": False}).chosen)

    made = click.command()(emulated_version_option(feature_gates_option(command)))
    result: tuple[int, dict[str, bool]] = made.main(list(given), standalone_mode=False)
    return result


def test_flags_given_several_times_add_up_over_what_a_file_says() -> None:
    given = ("--emulated-version=1.33", "--feature-gates=A=true,WatchList=true", "--feature-gates", "AllBeta=false")
    with pytest.raises(click.BadParameter, match="unrecognized feature gate: A"):
        read(*given)
    assert read("--emulated-version=kube=1.33", "--feature-gates=AllBeta=false") == (
        33,
        {"WatchList": False, "AllBeta": False},
    )
    assert read("--feature-gates=WatchList=true")[1] == {"WatchList": True}


@pytest.mark.root
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("gates", "why"),
    [
        ("NoSuchThing=true", "unrecognized feature gate: NoSuchThing"),
        ("NodeSwap=false", "cannot set feature gate NodeSwap to false, feature is locked to true"),
        ("NodeSwap", "missing bool value for NodeSwap"),
    ],
)
def test_every_server_refuses_gates_that_cannot_be(server: str, gates: str, why: str) -> None:
    command = importlib.import_module(f"pinnace.cli.{server}").command
    ended = CliRunner().invoke(command, ["--feature-gates", gates])
    assert ended.exit_code == 2
    assert why in ended.output


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_tells_its_version(server: str) -> None:
    ended = CliRunner().invoke(importlib.import_module(f"pinnace.cli.{server}").command, ["--version"])
    assert (ended.exit_code, ended.output) == (0, "Kubernetes v1.37.0\n")
