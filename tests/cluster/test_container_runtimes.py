"""Which container runtime a profile has, and what a containerd of its own is made of."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest

from pinnace.cluster import containerd, control, pause, preflight
from pinnace.cluster.profile import Profile, ProfileConfig
from pinnace.cluster.reasons import ClusterError
from pinnace.cluster.socket_images import references_of
from pinnace.cri import pause_program, programs
from pinnace.cri.api import Image

CONFIG = ProfileConfig("n", "v1.37.0", "n", "10.0.0.1", "10.0.0.0/24", "10.1.0.0/16", "10.2.0.0/16", "c.local", 8443)


@pytest.mark.parametrize(
    ("wanted", "existing", "chosen"),
    [
        ("", "", "engine"),
        ("", "containerd", "containerd"),
        ("engine", "engine", "engine"),
        ("containerd", "", "containerd"),
        ("crio", "", "crio"),
        ("cri-o", "crio", "crio"),
        ("unix:///run/x.sock", "", "unix:///run/x.sock"),
        ("/run/x.sock", "unix:///run/x.sock", "unix:///run/x.sock"),
    ],
)
def test_runtimes_have_minikubes_names_and_are_remembered(wanted: str, existing: str, chosen: str) -> None:
    assert preflight.choose_runtime(wanted, existing) == chosen


@pytest.mark.parametrize("wanted", ["docker", "unix://", "unix:///", "tcp://1.2.3.4:5", "/"])
def test_who_asks_for_another_is_told_which_there_are(wanted: str) -> None:
    with pytest.raises(ClusterError) as refused:
        preflight.choose_runtime(wanted)

    assert refused.value.message == f'There is no container runtime "{wanted}"'
    assert "engine (the built-in one), containerd, crio, or unix:///PATH" in refused.value.advice
    assert refused.value.reason.exit_code == 14


def test_a_profile_keeps_its_runtime() -> None:
    with pytest.raises(ClusterError) as refused:
        preflight.choose_runtime("containerd", "engine")

    assert refused.value.message == 'The cluster\'s pods run on the container runtime "engine", which cannot be changed'


def test_profiles_of_before_there_was_a_choice_have_the_engine(tmp_path: Path) -> None:
    profile = Profile("old", tmp_path)
    profile.save(CONFIG)
    stored = json.loads(profile.config_file.read_text())
    del stored["container_runtime"]
    profile.config_file.write_text(json.dumps(stored))

    assert profile.load().container_runtime == "engine"


def test_what_a_containerd_needs_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "SYSTEM_DIRECTORIES", ())
    monkeypatch.setattr(preflight, "_CNI_DIRECTORIES", (tmp_path,))
    (tmp_path / "runc").touch(mode=0o755)

    with pytest.raises(ClusterError) as refused:
        preflight.require_runtime("containerd")

    assert refused.value.message == "The container runtime containerd lacks containerd, ctr, CNI plugins"
    assert "apt-get install containerd runc containernetworking-plugins" in refused.value.advice


def test_a_socket_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="There is no container runtime at"):
        preflight.require_runtime(f"unix://{tmp_path}/none.sock")


def test_all_of_a_containerd_is_in_its_profile(tmp_path: Path) -> None:
    profile = Profile("its", tmp_path)
    places = containerd.Places(profile)

    document = tomllib.loads(containerd.configuration(places, Path("/plugins"), restrict_oom_score=True))

    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert document["version"] == 2
    assert document["root"].startswith(f"{profile.directory}/")
    assert document["state"].startswith(f"{profile.run_dir}/")
    assert cri["containerd"]["runtimes"]["runc"]["options"]["Root"].startswith(f"{profile.run_dir}/")
    assert (cri["sandbox_image"], cri["restrict_oom_score_adj"]) == (pause.NAME, True)


@pytest.mark.skipif(not shutil.which("containerd"), reason="needs containerd")
def test_the_containerd_that_is_there_understands_its_configuration(tmp_path: Path) -> None:
    """Whether of 1.6, 1.7 or 2: the settings are of its CRI plugins, as each release names and nests them."""
    profile = Profile("its", tmp_path)
    places = containerd.Places(profile)
    file = tmp_path / "config.toml"
    file.write_text(containerd.configuration(places, Path("/plugins"), restrict_oom_score=True))

    said = subprocess.run(["containerd", "--config", str(file), "config", "dump"], capture_output=True, check=True)

    document = tomllib.loads(said.stdout.decode())
    plugins = document["plugins"]
    old = plugins["io.containerd.grpc.v1.cri"]
    runtime = plugins.get("io.containerd.cri.v1.runtime", old)
    images = plugins.get("io.containerd.cri.v1.images", old)
    assert (document["root"], document["grpc"]["address"]) == (f"{places.root}/root", str(places.socket))
    assert images.get("pinned_images", {}).get("sandbox", images.get("sandbox_image")) == pause.NAME
    assert images["registry"]["config_path"] == "/etc/containerd/certs.d"
    assert (runtime["restrict_oom_score_adj"], runtime["netns_mounts_under_state_dir"]) == (True, True)
    assert runtime["cni"].get("bin_dirs", [runtime["cni"]["bin_dir"]]) == ["/plugins"]
    assert runtime["cni"]["conf_template"] == str(places.network_template)
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["Root"] == f"{places.state}/runc"
    assert not {"io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"} & plugins.keys()


def test_pods_are_on_the_profiles_bridge(tmp_path: Path) -> None:
    profile = Profile("its", tmp_path)
    template = containerd.network_template(profile, containerd.Places(profile))
    assert "{{range" in template

    head, *parts = template.split("[{{range")
    filled = head + "[]" + "[]".join(part.split("{{end}}]")[-1] for part in parts)
    [bridge] = json.loads(filled)["plugins"]

    assert (bridge["type"], bridge["bridge"]) == ("bridge", profile.pod_bridge)


def test_shims_are_ended_with_what_they_hold_though_some_end_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "containerd-shim-runc-v2"
    program.symlink_to("/bin/sh")
    held = "sh -c 'echo $$; exec sleep 1000'"  # who tells its number has a command line of its own by then
    command = [str(program), "-c", f"{held} & wait; exec sleep 1000", "-address", str(tmp_path / "s")]
    with ExitStack() as stack:
        shim = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(shim.kill)
        ended = stack.enter_context(subprocess.Popen("true"))
        assert shim.stdout is not None
        child = int(shim.stdout.readline())
        ended.wait()
        assert containerd.shims(tmp_path / "s") == [shim.pid]
        monkeypatch.setattr(containerd, "shims", lambda *_: [ended.pid, shim.pid])

        containerd.end_shims(tmp_path / "s")

        assert shim.poll() == -signal.SIGKILL
        assert shim.stdout.read() == ""  # nobody holds it open any more
    assert control.wait_for_exit(child, 10)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("a", ["docker.io/library/a:latest", "docker.io/library/a@sha256:1"]),
        ("host:5000/b:1", ["host:5000/b:1"]),
        ("a:2", []),
        ("sha256:" + "0" * 64, []),
    ],
)
def test_one_name_of_an_image_goes_without_the_others(name: str, gone: list[str]) -> None:
    tags, digests = (
        ["docker.io/library/a:latest", "host:5000/b:1", "host:5000/b:2"],
        ["docker.io/library/a@sha256:1", "host:5000/b@sha256:1"],
    )
    image = Image(id="sha256:" + "0" * 64, repo_tags=tags, repo_digests=digests)

    assert references_of(image, name) == gone


@pytest.mark.skipif(not pause.supported(), reason="there is no pause program for this kind of machine")
def test_the_pause_program_waits_and_leaves_the_dead_to_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "pause"
    file.write_bytes(pause_program.program(platform.machine()))
    file.chmod(0o755)
    with subprocess.Popen([file]) as process:
        status = Path(f"/proc/{process.pid}/status")
        ignored = 0
        while not ignored and process.poll() is None:
            [line] = [line for line in status.read_text().splitlines() if line.startswith("SigIgn:")]
            ignored = int(line.split()[1], 16) & 1 << (signal.SIGCHLD - 1)
        os.kill(process.pid, signal.SIGTERM)

    assert ignored
    assert process.returncode == -signal.SIGTERM
