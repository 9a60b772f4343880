"""The command line as a whole: names, help, flags that cannot be, and what a command must not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pinnace.cli.main import COMMANDS, SERVERS, pinnace

PINNACE = Path(sys.executable).with_name("pinnace")
HEAVY = ("asyncio", "aiohttp", "cryptography", "pyroute2", "structlog")
MAIN_FLAGS = {
    "kube-apiserver": ("--secure-port", "--etcd-servers", "--client-ca-file", "--service-cluster-ip-range"),
    "kube-controller-manager": (
        "--kubeconfig",
        "--controllers",
        "--cluster-cidr",
        "--leader-elect",
        "--root-ca-file",
        "--cluster-signing-key-file",
        "--concurrent-gc-syncs",
    ),
    "kube-scheduler": ("--kubeconfig", "--leader-elect", "--leader-elect-resource-name", "--v"),
    "kubelet": ("--kubeconfig", "--config", "--node-ip", "--pod-manifest-path", "--register-with-taints"),
    "kube-proxy": ("--kubeconfig", "--cluster-cidr", "--cleanup", "--nodeport-addresses", "--proxy-mode"),
    "metrics-server": ("--kubeconfig", "--secure-port", "--requestheader-client-ca-file", "--metric-resolution"),
}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(pinnace, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("name", [name for name in (*COMMANDS, *SERVERS) if name != "kubectl"])
def test_every_command_explains_itself(name: str) -> None:
    code, output = run(name, "--help")

    assert code == 0
    assert f"{name} [OPTIONS]" in output
    for flag in MAIN_FLAGS.get(name, ()):
        assert flag in output


def test_the_program_lists_its_commands_without_loading_them() -> None:
    _, output = run("--help")

    for name, summary in (COMMANDS | SERVERS).items():
        assert f"{name} " in output
        assert summary in " ".join(output.split())


@pytest.mark.parametrize("name", [*SERVERS])
def test_a_link_with_a_servers_name_runs_that_server(name: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(PINNACE)

    result = subprocess.run([link, "--help"], capture_output=True, text=True, check=False, timeout=30)

    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: pinnace {name}" in result.stdout


BAD_FLAGS = [
    (["kube-scheduler", "--nonsense"], "No such option '--nonsense'"),
    (["kube-scheduler", "--leader-elect=perhaps"], "'perhaps' is not a valid boolean"),
    (["kube-scheduler", "--leader-elect-lease-duration=5"], '"5" is not a duration such as 1m30s'),
    (["kube-scheduler", "--leader-elect-renew-deadline=1h"], "must be at least 1s, and longer than"),
    (["kube-controller-manager", "--controllers=*,nonsense"], '"nonsense" is not one of: bootstrap-signer-controller'),
    (["kube-controller-manager", f"--cluster-signing-cert-file={__file__}"], "needs its twin"),
    (
        ["kube-controller-manager", "--cluster-cidr=10.0.0.0/16", "--node-cidr-mask-size=8"],
        "/8 is no part of 10.0.0.0/16",
    ),
    (["kube-controller-manager", "--concurrent-job-syncs=0"], "0 is not in the range x>=1"),
    (["kube-controller-manager", "--cluster-cidr=10.0.0.1/8"], '"10.0.0.1/8" is not a range of addresses'),
    (["kube-controller-manager", "--allocate-node-cidrs"], "needs --cluster-cidr"),
    (["kube-controller-manager", "--cluster-cidr=10.0.0.0/8,11.0.0.0/8"], "must be of different IP family"),
    (
        ["kube-apiserver", "--service-cluster-ip-range=10.0.0.0/16,fd00::/108,11.0.0.0/16"],
        "must not contain more than two entries",
    ),
    (["kube-controller-manager", "--root-ca-file=/none"], "File '/none' does not exist"),
    (
        ["kube-apiserver", "--etcd-servers=127.0.0.1:2379"],
        "is neither sqlite:///path/of/a/file nor http(s)://host:port",
    ),
    (["kube-apiserver", "--etcd-servers=https://127.0.0.1:1", "--etcd-prefix=x"], 'prefix "x" does not start with a'),
    (["kube-apiserver", "--etcd-servers=https://127.0.0.1:1", "--storage-backend=sqlite"], '"sqlite" is not what'),
    (["kube-apiserver", "--storage-backend=etcd2"], '"etcd2" is not one of sqlite, etcd3'),
    (["kube-apiserver", "--cors-allowed-origins=a.b"], "does not pin to start of host"),
    (["kube-apiserver", "--goaway-chance=0.5"], "0.5 is not in the range"),
    (["kube-apiserver", "--emulated-version=1.2"], '"1.2" is not one of 1.'),
    (["kube-apiserver", "--service-node-port-range=5-1"], '"5-1" is not FIRST-LAST'),
    (["kubelet", "--node-labels=a"], '"a" is not KEY=VALUE'),
    (["kubelet", "--node-labels=a=b c"], "a valid label must be"),
    (["kubelet", "--register-with-taints=a=b"], '"a=b" is not KEY=VALUE:EFFECT'),
    (["kubelet", "--register-with-taints=a=b:Never"], "taints[0].effect: Unsupported value"),
    (["kubelet", "--node-ip=here"], '"here" is not an IP address'),
    (["kubelet", "--node-ip=10.0.0.1,10.0.0.2"], "must contain either a single IP or a dual-stack pair of IPs"),
    (
        ["start", "--service-cluster-ip-range=fd00::/112,10.0.0.0/16"],
        "must be a range of IPv4, or with --ip-family=dual",
    ),
    (["start", "--service-cluster-ip-range=10.0.0.0/16", "--ip-family=dual"], "one of IPv4 and one of IPv6"),
    (["kubelet", "--port=0"], "0 is not in the range"),
    (["kubelet", "--reserved-memory=memory=1Gi"], 'the format of "memory=1Gi" should be node:type=quantity,...'),
    (["kubelet", "--topology-manager-policy=best"], "is not one of 'none', 'best-effort'"),
    (["kube-proxy", "--healthz-bind-address=10256"], '"10256" is not ADDRESS:PORT'),
    (["metrics-server", "--requestheader-client-ca-file=/etc/passwd", "--metric-resolution=1s"], "at least 10s"),
    (["metrics-server", "--metric-resolution=10s"], "Missing option '--requestheader-client-ca-file'"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD_FLAGS, ids=lambda value: value[1] if isinstance(value, list) else ""
)
def test_a_flag_that_cannot_be_is_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, kubeconfig: Path
) -> None:
    if "--kubeconfig" not in arguments and arguments[0] not in ("kube-apiserver", "start"):
        arguments = [*arguments, f"--kubeconfig={kubeconfig}"]

    code, output = run(*arguments)

    assert code == 2
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert message in line


@pytest.mark.root
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kubelet", "--container-runtime-endpoint=npipe:////./pipe/x"], "is neither unix:///PATH nor tcp://HOST:PORT"),
        (["kubelet", "--container-runtime-endpoint=pinnace://here"], "lacks the directory: pinnace:///ITS/DIRECTORY"),
        (["kubelet", "--image-service-endpoint=unix:///run/x.sock"], "the embedded engine has its own images"),
        (
            ["kubelet", "--container-runtime-endpoint=unix:///run/x.sock", "--cni-conf-dir=/x"],
            "another container runtime has its own CNI plugins and OCI runtimes",
        ),
        (["kube-proxy", "--proxy-mode=ipvs"], '"ipvs" is not offered: only nftables is'),
        (["kube-proxy", "--nodeport-addresses=203.0.113.0/24"], "this host has no address in 203.0.113.0/24"),
    ],
)
def test_what_is_not_offered_is_said(arguments: list[str], message: str, kubeconfig: Path) -> None:
    code, output = run(*arguments, f"--kubeconfig={kubeconfig}")

    assert code == 2
    assert message in output


@pytest.mark.root
def test_a_kubelet_does_not_start_without_the_plugins_that_it_is_told_of(kubeconfig: Path, tmp_path: Path) -> None:
    flag = f"--image-credential-provider-config={tmp_path}"

    code, output = run("kubelet", flag, f"--kubeconfig={kubeconfig}")

    assert code == 1
    assert "Error: Failed to register CRI auth plugins: plugin binary directory  did not exist" in output


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    file = tmp_path / "good.conf"
    file.write_text(
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    return file


@pytest.mark.root
@pytest.mark.parametrize("server", ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ("{", "error loading config file"),
        ("[]", "not a kubeconfig"),
        ("{}", "no context is set"),
    ],
)
def test_a_kubeconfig_that_cannot_be_read_is_one_clear_line(
    server: str, content: str | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    extra = [f"--cert-dir={tmp_path}"] if server == "kubelet" else []

    code, output = run(server, f"--kubeconfig={file}", *extra)

    assert code == 1
    assert output.startswith("Error: ")
    assert str(file) in output
    assert message in output


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["status", "-p", "none"], ["profile", "list"]])
def test_what_should_be_quick_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['pinnace', *{arguments!r}]\n"
        "from pinnace.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = os.environ | {"PINNACE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=30
    )

    assert "LOADED []" in result.stdout


@pytest.mark.parametrize("name", [*COMMANDS, *SERVERS])
def test_no_command_loads_anything_heavy_before_it_is_run(name: str) -> None:
    code = (
        f"import sys, importlib; importlib.import_module('pinnace.cli.{name.replace('-', '_')}')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert result.stdout == "[]\n"
