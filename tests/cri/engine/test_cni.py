"""Pods' networks by CNI plugins: what plugins are given and in which order, and real ones with real containers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import CriError, PodSandboxMetadata, PortMapping
from pinnace.cri.engine.cni import CniNetwork, CniOptions, addresses, capabilities, load, stdin_of
from pinnace.cri.engine.engine import Engine, EngineOptions
from pinnace.cri.engine.network import NetworkError
from tests.cri.engine.conftest import Node, traces
from tests.support.containerd import CNI_PLUGINS

BRIDGE = {"type": "bridge"}
PORTS = [
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=5353, protocol="UDP", host_ip="127.0.0.1"),
    PortMapping(container_port=9),
]


@pytest.mark.parametrize(
    ("files", "name", "plugins"),
    [
        ({}, None, []),
        ({"10.conflist": {"name": "a", "cniVersion": "1.0.0", "plugins": [BRIDGE]}}, "a", ["bridge"]),
        ({"10.conf": {"name": "a", "type": "bridge"}}, "a", ["bridge"]),
        ({"20.conf": {"name": "b", "type": "x"}, "10.conf": {"name": "a", "type": "bridge"}}, "a", ["bridge"]),
        ({"10.conflist": {"name": "a", "plugins": []}, "20.json": {"name": "b", "type": "x"}}, "b", ["x"]),
        ({"readme.txt": {"name": "a", "type": "x"}}, None, []),
    ],
)
def test_the_first_network_of_the_directory_counts(
    files: dict[str, Any], name: str | None, plugins: list[str], tmp_path: Path
) -> None:
    for file, document in files.items():
        (tmp_path / file).write_text(json.dumps(document))

    found = load(tmp_path)

    assert (found or {}).get("name") == name
    assert [one["type"] for one in (found or {}).get("plugins", [])] == plugins


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "x"}'])
def test_a_broken_configuration_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "10.conf").write_text(text)

    with pytest.raises(NetworkError, match=r"failed to load CNI config list file .*10\.conf"):
        load(tmp_path)
    assert not CniNetwork(tmp_path, CniOptions(conf_dir=tmp_path)).configured


def test_plugins_are_told_what_they_say_they_understand() -> None:
    network = {"name": "n", "cniVersion": "1.0.0"}
    plugin = {"type": "portmap", "capabilities": {"portMappings": True, "bandwidth": True}, "snat": True}

    given = stdin_of(network, plugin, capabilities(PORTS, ["10.0.0.0/24", "fd00::/64"]), {"ips": []})

    assert given == {
        "type": "portmap",
        "snat": True,
        "name": "n",
        "cniVersion": "1.0.0",
        "prevResult": {"ips": []},
        "runtimeConfig": {
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
            ]
        },
    }
    ranges = stdin_of(
        network, {"type": "x", "capabilities": {"ipRanges": True}}, capabilities([], ["10.0.0.0/24"]), None
    )
    assert ranges["runtimeConfig"] == {"ipRanges": [[{"subnet": "10.0.0.0/24"}]]}


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"ips": [{"address": "10.0.0.5/24"}, {"address": "fd00::5/64"}]}, ["10.0.0.5", "fd00::5"]),
        (
            {
                "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/x"}],
                "ips": [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.5/24", "interface": 1}],
            },
            ["10.0.0.5"],
        ),
        ({"ip4": {"ip": "10.0.0.5/24"}, "ip6": {"ip": "fd00::5/64"}}, ["10.0.0.5", "fd00::5"]),
        ({}, []),
    ],
)
def test_addresses_are_read_from_results_of_any_version(result: dict[str, Any], found: list[str]) -> None:
    assert addresses(result) == found


RECORDER = """#!/bin/sh
input=$(cat)
echo "$CNI_COMMAND ${0##*/} $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $input" >> "{log}"
if [ "$CNI_COMMAND" = ADD ] && [ "${0##*/}" = fails ]; then
    echo '{"code": 11, "msg": "not today", "details": "really"}'
    exit 1
fi
[ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}'
"""


class Recorded:
    """Plugins that write down how they were called."""

    def __init__(self, directory: Path, *plugins: str) -> None:
        self._log = directory / "log"
        self._log.touch()
        programs, configured = directory / "bin", directory / "net.d"
        programs.mkdir()
        configured.mkdir()
        for name in ("first", "second", "fails"):
            (programs / name).write_text(RECORDER.replace("{log}", str(self._log)))
            (programs / name).chmod(0o755)
        document = {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": name} for name in plugins]}
        self.conf = configured / "10-n.conflist"
        self.conf.write_text(json.dumps(document))
        self.network = CniNetwork(directory, CniOptions(conf_dir=configured, bin_dirs=(programs,)))

    def calls(self) -> list[tuple[str, str]]:
        return [(line.split()[0], line.split()[1]) for line in self._log.read_text().splitlines()]

    def last(self) -> tuple[list[str], dict[str, Any]]:
        words = self._log.read_text().splitlines()[-1].split(" ", 5)
        return words[2:5], json.loads(words[5])


def test_plugins_are_called_in_turn_and_undone_the_other_way_round(tmp_path: Path) -> None:
    plugins = Recorded(tmp_path, "first", "second")
    pod = PodSandboxMetadata(name="web", uid="u", namespace="default")

    made = plugins.network.add("box", "/proc/self/ns/net", "eth0", [], pod)
    words, given = plugins.last()
    plugins.conf.unlink()
    plugins.network.remove("box")
    plugins.network.remove("box")

    assert made.ips == ["10.9.8.7"]
    arguments = (
        "IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=box;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u"
    )
    assert words == ["box", "eth0", arguments]
    assert given["prevResult"]["ips"] == [{"address": "10.9.8.7/24"}]
    assert plugins.calls() == [("ADD", "first"), ("ADD", "second"), ("DEL", "second"), ("DEL", "first")]
    assert plugins.last()[1]["prevResult"] == given["prevResult"]


def test_a_plugin_that_fails_undoes_all_and_is_named(tmp_path: Path) -> None:
    plugins = Recorded(tmp_path, "first", "fails")

    with pytest.raises(NetworkError, match=r'plugin type="fails" failed \(add\): not today; really'):
        plugins.network.add("box", "/proc/self/ns/net")

    assert plugins.calls() == [("ADD", "first"), ("ADD", "fails"), ("DEL", "fails"), ("DEL", "first")]


def test_a_plugin_that_is_not_there_is_named(tmp_path: Path) -> None:
    plugins = Recorded(tmp_path, "nowhere")

    with pytest.raises(NetworkError, match=r'failed to find plugin "nowhere" in path \[.*/bin\]'):
        plugins.network.add("box", "/proc/self/ns/net")


def remove_link(name: str) -> None:
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.mark.root
@pytest.mark.skipif(not (CNI_PLUGINS / "bridge").exists(), reason="needs containernetworking-plugins")
async def test_pods_reach_each_other_over_the_bridge_of_real_plugins(node: Node) -> None:
    network = node.base / "net.d"
    cni = CniOptions(conf_dir=network, bin_dirs=(CNI_PLUGINS,))
    options = EngineOptions(cgroup_prefix=f"/{node.name}", cni=cni)
    await node.engine.stop()
    node.engine = Engine(node.base / "root", node.base / "state", options, images=node.store)
    await node.engine.start()
    with pytest.raises(CriError, match=r'failed to setup network for sandbox "[0-9a-f]+": cni plugin not initialized'):
        await node.sandbox()
    assert not next(one for one in await node.engine.status() if one.type == "NetworkReady").status
    network.mkdir()
    ranges = [[{"subnet": node.subnet}]]
    ipam = {"type": "host-local", "dataDir": str(node.base / "ipam"), "ranges": ranges}
    bridge = {"type": "bridge", "bridge": node.name[:15], "isGateway": True, "ipam": ipam}
    (network / "10.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": [bridge]}))

    one = await node.sandbox()
    address = (await node.engine.pod_sandbox_status(one)).ips[0]
    await node.start(one, "/bin/sh", "-c", "mkdir /w; echo hi > /w/index.html; exec httpd -f -p 80 -h /w")
    said = await node.sh(f"until wget -q -O- http://{address}/ 2>/dev/null; do :; done")

    assert said == "hi\n"
    assert (node.base / "ipam" / "n" / address).exists()
    await node.engine.remove_pod_sandbox(one)
    assert not (node.base / "ipam" / "n" / address).exists()
    await node.engine.destroy()
    remove_link(node.name[:15])  # the plugin's own, and kept by it
    assert traces(node.name, node.base) == []
    node.engine = node.make()
    await node.engine.start()
