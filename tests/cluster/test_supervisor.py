"""The supervisor with two small servers in the place of the real ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinnace.cluster import control, guard, teardown, turns
from pinnace.cluster.profile import Profile, ProfileConfig
from tests.support.ports import free_port

pytestmark = pytest.mark.root

LIMIT = 60.0  # seconds

SERVER = """
import os, signal, sys
from pinnace.cluster import process
process.die_with_parent()
sockets = process.inherited_sockets()
process.notify("READY=1")
if sockets:
    while True:
        connection, _ = sockets[0].accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()
signal.pause()
"""

RUN = """
import sys
from pathlib import Path
from pinnace.cluster import supervisor
supervisor.COMPONENTS = dict.fromkeys(supervisor.COMPONENTS, "stub_server")
sys.argv = ["supervisor", sys.argv[1]]
supervisor.main()
"""


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    made = Profile("supervised", tmp_path / "home")
    port = free_port()
    made.save(
        ProfileConfig(
            "supervised", "v1.37.0", "n", "127.0.0.2", "127.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "c.local", port
        )
    )
    yield made
    teardown.stop_servers(made)
    guard.remove(made)
    made.remove()


@pytest.fixture
def supervisor(profile: Profile, tmp_path: Path) -> Iterator[control.Control]:
    (tmp_path / "stub_server.py").write_text(SERVER)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    turns.allow_supervisor(profile)
    child = subprocess.Popen([sys.executable, "-c", RUN, str(profile.directory)], env=environment)
    deadline = time.monotonic() + LIMIT
    while (connection := control.connect(profile)) is None:
        assert child.poll() is None
        assert time.monotonic() < deadline
    yield connection
    connection.close()
    teardown.stop_servers(profile)
    child.wait()


def wait_for(
    supervisor: control.Control, name: str, state: str, also: Callable[[control.ServerState], bool] = lambda _: True
) -> control.ServerState:
    for event in supervisor.events(time.monotonic() + LIMIT):
        if event.component == name and event.state == state and also(event):
            return event
    raise AssertionError


def ask(profile: Profile) -> int:
    with socket.create_connection(("127.0.0.1", profile.load().api_server_port), timeout=LIMIT) as connection:
        return int(connection.recv(64))


def test_both_servers_become_ready(supervisor: control.Control) -> None:
    ready: set[str] = set()
    for event in supervisor.events(time.monotonic() + LIMIT):
        if event.state == "ready":
            ready.add(event.component)
        if len(ready) == 2:
            break


def test_a_killed_server_comes_back_and_its_clients_wait(profile: Profile, supervisor: control.Control) -> None:
    first = wait_for(supervisor, "control-plane", "ready")
    assert first.pid is not None
    assert ask(profile) == first.pid

    os.kill(first.pid, signal.SIGKILL)
    assert control.wait_for_exit(first.pid, LIMIT)
    answered = ask(profile)  # connects while no server runs

    again = wait_for(supervisor, "control-plane", "ready", lambda event: event.restarts == 1)
    assert again.pid == answered != first.pid


def test_a_server_that_crashes_tells_its_exit_code_and_is_delayed(supervisor: control.Control) -> None:
    node = wait_for(supervisor, "node", "ready")
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)

    crashed = wait_for(supervisor, "node", "backoff")

    assert crashed.exit_code == -signal.SIGKILL
    wait_for(supervisor, "node", "ready", lambda event: event.restarts == 1)


def test_hollow_nodes_run_while_the_profile_has_some(profile: Profile, supervisor: control.Control) -> None:
    wait_for(supervisor, "node", "ready")
    profile.hollow_file.write_text("[]")
    control.look_again(profile)
    assert wait_for(supervisor, "hollow", "ready").restarts == 0
    profile.hollow_file.unlink()
    control.look_again(profile)
    assert wait_for(supervisor, "hollow", "stopped").exit_code is not None


def test_termination_ends_the_servers_first(profile: Profile, supervisor: control.Control) -> None:
    server = wait_for(supervisor, "control-plane", "ready")
    assert server.pid is not None

    os.kill(supervisor.supervisor_pid, signal.SIGTERM)

    assert control.wait_for_exit(server.pid, LIMIT)
    assert control.wait_for_exit(supervisor.supervisor_pid, LIMIT)
    assert guard.processes(profile) == []


def test_servers_end_with_a_killed_supervisor(supervisor: control.Control, profile: Profile) -> None:
    server = wait_for(supervisor, "control-plane", "ready")
    assert server.pid is not None
    guard.disarm(profile)

    os.kill(supervisor.supervisor_pid, signal.SIGKILL)

    assert control.wait_for_exit(server.pid, LIMIT)
