"""Variables from files of a volume, and restart policies of single containers."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.env import ConfigError
from pinnace.kubelet.env_files import parse, variable
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# a comment\n\n  A='1'\nB='two words' # why\n", {"A": "1", "B": "two words"}),
        ("A='$X \"y\" #z'\nA='2'", {"A": "2"}),
        ("A='one\n\nthree'\nB=''", {"A": "one\n\nthree", "B": ""}),
    ],
)
def test_a_file_of_variables(text: str, found: dict[str, str]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["A", "A=1", 'A="1"', "A = '1'", "A= '1'", "='1'", "A='1", "A='1'2", "export A='1'x"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        parse(text)


_NAMES = st.text(string.ascii_letters, min_size=1, max_size=8)
_VALUES = st.text([*(set(string.printable[:95]) - {"'"}), "\n"], max_size=30)


@given(st.dictionaries(_NAMES, _VALUES, max_size=5))
def test_every_value_without_a_quote_can_be_written(variables: dict[str, str]) -> None:
    assert parse("\n".join(f"{name}='{value}'" for name, value in variables.items())) == variables


def reference(**more: Any) -> dict[str, Any]:
    return {"volumeName": "v", "path": "a/env", "key": "A", **more}


def test_a_reference_means_a_key_of_a_file_of_a_volume(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/env").write_text("A='1'\n")
    volumes = {"v": tmp_path}
    assert variable(reference(), volumes) == "1"
    assert variable(reference(key="B", optional=True), volumes) is None
    assert variable(reference(path="none", optional=True), volumes) is None
    for wrong, why in (
        (reference(key="B"), 'environment variable key "B" not found in file'),
        (reference(path="none"), "couldn't parse env file"),
        (reference(volumeName="w"), 'cannot find the volume "w" referenced by FileKeyRef'),
    ):
        with pytest.raises(ConfigError, match=why):
            variable(wrong, volumes)


def test_links_out_of_the_volume_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("A='1'\n")
    (tmp_path / "v").mkdir()
    (tmp_path / "v/env").symlink_to("../secret")
    with pytest.raises(ConfigError, match="leads out of the volume"):
        variable(reference(path="env"), {"v": tmp_path / "v"})


async def test_a_container_gets_a_variable_of_a_file(
    api: NodeApi, runtime: FakeRuntime, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("A='from a file'\n")
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    env = [{"name": "X", "valueFrom": {"fileKeyRef": reference(path="env")}}]
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1", "env": env}], volumes=[volume])
    await api.phase("p", "Running")
    [status] = runtime.by_name("web")
    assert runtime.configs[status.id].envs["X"] == "from a file"


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}


async def test_a_container_has_a_restart_policy_of_its_own(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    start()
    again = {"name": "web", "image": "web:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}
    await api.add_pod("p", containers=[again], restartPolicy="Never")
    await api.phase("p", "Running")
    runtime.end(runtime.by_name("web")[0].id, 42)
    await runtime.until(lambda: len(runtime.by_name("web")) == 2 and runtime.running() == ["web"])
    await api.container("p", lambda one: one.get("restartCount") == 1 and "running" in one["state"])
    runtime.end(runtime.by_name("web")[-1].id, 1)
    await api.phase("p", "Failed")


async def test_an_init_container_is_tried_again_where_its_rules_say_so(
    api: NodeApi, runtime: FakeRuntime, start: Start
) -> None:
    runtime.exits["job"] = 42
    start()
    init = {"name": "job", "image": "job:1", "restartPolicy": "Never", "restartPolicyRules": [RULE]}
    await api.add_pod("p", initContainers=[init], containers=[{"name": "web", "image": "web:1"}], restartPolicy="Never")
    await runtime.until(lambda: len(runtime.by_name("job")) == 2)
    runtime.exits["job"] = 1
    for status in runtime.by_name("job"):
        runtime.end(status.id, 1)
    assert api.status_of("default/p")["phase"] == "Pending"


async def test_a_rule_starts_all_of_the_pod_anew(api: NodeApi, runtime: FakeRuntime, start: Start) -> None:
    runtime.exits["job"] = 0
    start()
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    trigger = {"name": "web", "image": "web:1", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    init, other = {"name": "job", "image": "job:1"}, {"name": "other", "image": "web:1"}
    await api.add_pod("p", initContainers=[init], containers=[trigger, other], restartPolicy="Never")
    await api.phase("p", "Running")
    [sandbox] = runtime.sandboxes
    first = {one.id for one in runtime.containers.values()}
    runtime.end(runtime.by_name("web")[0].id, 42)
    await runtime.until(lambda: set(runtime.running()) == {"web", "other"} and not first & set(runtime.containers))
    assert [one.metadata.attempt for one in runtime.containers.values()] == [1, 1, 1]
    assert list(runtime.sandboxes) == [sandbox]
    await api.until(
        lambda: (
            [one["restartCount"] for one in api.status_of("default/p")["containerStatuses"]] == [1, 1]
            and api.status_of("default/p")["phase"] == "Running"
        )
    )


async def test_one_container_that_runs_on_keeps_the_pod_running(
    api: NodeApi, runtime: FakeRuntime, start: Start
) -> None:
    start()
    job = {"name": "job", "image": "job:1", "restartPolicy": "Never"}
    await api.add_pod("p", containers=[{"name": "web", "image": "web:1"}, job])
    await api.phase("p", "Running")
    runtime.end(runtime.by_name("job")[0].id, 3)
    await api.until(
        lambda: any("terminated" in one["state"] for one in api.status_of("default/p")["containerStatuses"])
    )
    assert api.status_of("default/p")["phase"] == "Running"
    assert len(runtime.by_name("job")) == 1
