"""Dataclasses of the CRI survive the wire, and the fields that are nested otherwise are where runtime.v1 has them."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cri import api
from pinnace.cri.v1.convert import from_message, to_message
from pinnace.cri.v1.messages import IMAGE_METHODS, RUNTIME_METHODS, message_class

_NAMES = {api.ContainerEvent: "ContainerEventResponse", api.Version: "VersionResponse"}
_CHOICES = {
    "protocol": ("TCP", "UDP", "SCTP"),
    "supplemental_groups_policy": ("Merge", "Strict"),
    "profile_type": ("RuntimeDefault", "Unconfined", "Localhost"),
    "stop_signal": ("", "SIGTERM", "SIGRTMIN+3", "SIGRTMAX-14", "SIGRTMAX"),
}
_NOT_ON_THE_WIRE = {"pids_limit", "process_count", "interfaces", "containers"}
_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_ports = st.integers(0, 2**31 - 1)


def _value(hint: Any, name: str) -> st.SearchStrategy[Any]:
    if name in _CHOICES:
        return st.sampled_from(_CHOICES[name])
    if isinstance(hint, types.UnionType):
        (present,) = [one for one in typing.get_args(hint) if one is not type(None)]
        return st.none() | _value(present, name)
    if typing.get_origin(hint) is list:
        return st.lists(_value(typing.get_args(hint)[0], name), max_size=2)
    if typing.get_origin(hint) is dict:
        return st.dictionaries(_words, _words, max_size=2)
    if dataclasses.is_dataclass(hint):
        return _of(hint)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return {str: _words, bool: st.booleans(), bytes: st.binary(max_size=8), int: _ports, float: st.none()}[hint]


def _of(made: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(made)
    return st.builds(made, **{name: _value(hint, name) for name, hint in hints.items() if name not in _NOT_ON_THE_WIRE})


MESSAGES = [
    api.AttachRequest,
    api.AuthConfig,
    api.Container,
    api.ContainerConfig,
    api.ContainerEvent,
    api.ContainerStats,
    api.ExecRequest,
    api.ExecSyncResponse,
    api.FilesystemUsage,
    api.Image,
    api.PodSandbox,
    api.PodSandboxConfig,
    api.PodSandboxStats,
    api.RuntimeCondition,
    api.Version,
]


@pytest.mark.parametrize("made", MESSAGES, ids=lambda made: made.__name__)
@given(data=st.data())
def test_what_is_sent_arrives(made: type[Any], data: st.DataObject) -> None:
    value = data.draw(_of(made))
    if isinstance(value, api.ContainerStats | api.PodSandboxStats):
        value.memory_usage_bytes = max(value.memory_usage_bytes, 1)  # none: the runtime does not tell
    sent = to_message(value, _NAMES.get(made, "")).SerializeToString()

    received = message_class(_NAMES.get(made, made.__name__)).FromString(sent)

    assert from_message(made, received) == value


def test_addresses_and_namespaces_of_a_sandbox_are_in_messages_of_their_own() -> None:
    status = api.PodSandboxStatus(
        id="a",
        metadata=api.PodSandboxMetadata(name="p", uid="u", namespace="n"),
        state=api.PodSandboxState.NOTREADY,
        created_at=1,
        ips=["10.0.0.1", "fd00::1"],
        namespaces=api.NamespaceOption(pid=api.NamespaceMode.POD, network=api.NamespaceMode.NODE),
    )
    message = to_message(status)

    assert (message.network.ip, message.network.additional_ips[0].ip) == ("10.0.0.1", "fd00::1")
    assert message.linux.namespaces.options.network == 2
    assert from_message(api.PodSandboxStatus, message) == status


def test_a_status_tells_resources_only_where_the_runtime_does() -> None:
    message = message_class("ContainerStatus")(id="c", state=2, exit_code=3)

    status = from_message(api.ContainerStatus, message)

    assert (status.state, status.exit_code, status.resources) == (api.ContainerState.EXITED, 3, None)
    message.resources.linux.cpu_shares = 7
    found = from_message(api.ContainerStatus, message).resources
    assert found is not None
    assert found.cpu_shares == 7


def test_users_are_wrapped_so_that_root_is_not_nobody_asked_for() -> None:
    asked = api.LinuxContainerSecurityContext(run_as_user=0)
    message = to_message(asked)

    assert message.HasField("run_as_user")
    assert not message.HasField("run_as_group")
    assert from_message(api.LinuxContainerSecurityContext, message) == asked


def test_a_value_of_a_later_release_is_read_as_the_first() -> None:
    message = message_class("ContainerStatus").FromString(b"\x18\x63")  # state = 99

    assert from_message(api.ContainerStatus, message).state is api.ContainerState.CREATED


def test_every_method_has_its_messages() -> None:
    for method in (*RUNTIME_METHODS, *IMAGE_METHODS):
        assert message_class(f"{method}Request")
        assert message_class(f"{method}Response")


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        ("ContainerConfig", "stop_signal", 18),
        ("ContainerStatus", "image_id", 17),
        ("ImageSpec", "user_specified_image", 18),
        ("LinuxContainerSecurityContext", "apparmor", 16),
        ("LinuxSandboxSecurityContext", "run_as_group", 8),
        ("Mount", "recursive_read_only", 8),
        ("Namespace", "options", 2),
    ],
)
def test_numbers_are_those_of_the_interface(message: str, field: str, number: int) -> None:
    assert message_class(message).DESCRIPTOR.fields_by_name[field].number == number


def test_signals_are_numbered_by_name() -> None:
    values = message_class("ContainerConfig").DESCRIPTOR.fields_by_name["stop_signal"].enum_type.values_by_name

    assert [values[name].number for name in ("SIGABRT", "SIGKILL", "SIGTERM", "SIGRTMINPLUS1", "SIGRTMAX")] == [
        1,
        13,
        23,
        36,
        65,
    ]
