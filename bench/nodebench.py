#!/usr/bin/env python3
"""What a node does and costs: pods, memory, idle CPU, exec, logs and images; then pods on containerd, if it is there.

    PYTHONPATH=. nodebench.py [--archive busybox.tar --image busybox:1.36] [--only images,cluster,alone,containerd]

Run as root in the project's environment, with kubectl on PATH; for pulls `docker-registry`, for zstd layers `zstd`.
One JSON line a figure. Everything it starts is its own, listens on loopback and is deleted.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pinnace.cli.container_runtime import make_engine
from tests.support.containerd import Containerd, missing
from tests.support.images import busybox_archive
from tests.support.ports import free_port
from tests.support.site import Site

PINNACE = str(Path(sys.executable).with_name("pinnace"))
PODLAT = Path(__file__).with_name("podlat.py")
PODS = "/api/v1/namespaces/default/pods"
Pod = dict[str, Any]
DROP_IN = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 250
containerLogMaxSize: 8Gi
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
"""


def say(scenario: str, **figures: object) -> None:
    print(json.dumps({"scenario": scenario, **figures}), flush=True)


def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, check=True, capture_output=True, **options)


def timed(*command: Any, **options: Any) -> float:
    before = time.perf_counter()
    run(*command, **options)
    return time.perf_counter() - before


# Processes.


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def processes(*words: str) -> list[int]:
    """Pids of processes whose command lines contain all of the words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def idle(scenario: str, pids: Mapping[str, int], seconds: float, **more: object) -> None:
    """Memory and CPU of named processes while nothing happens."""
    before = {name: cpu(pid) for name, pid in pids.items()}
    time.sleep(seconds)  # the length of the measurement
    used = {name: round(100 * (cpu(pid) - before[name]) / seconds, 2) for name, pid in pids.items()}
    rss = {name: round(mib(pid), 1) for name, pid in pids.items()}
    say(scenario, **more, mib=rss, sum_mib=round(sum(rss.values()), 1), cpu_percent=used)


# Images.


def big_image(directory: Path, size: int) -> tuple[list[Path], bytes]:
    """Layers of files as distributions have them, a third of their bytes past compressing; tar files and a config."""
    chance = random.Random(1)
    words = [chance.randbytes(4).hex().encode() for _ in range(200)]

    def content(length: int) -> bytes:
        noise = chance.randbytes(length // 3)
        return noise + b" ".join(chance.choices(words, k=(length - len(noise)) // 9 + 1))

    pool = [content(chance.choice((2_000, 8_000, 20_000, 60_000, 300_000, 8_000_000))) for _ in range(150)]
    layers = []
    for number in range(4):
        path = directory / f"layer{number}.tar"
        with tarfile.open(path, "w") as tar:
            while tar.offset < size // 4:
                entry = tarfile.TarInfo(f"usr/share/{number}/{tar.offset >> 24}/{tar.offset}")
                data = chance.choice(pool)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        layers.append(path)
    ids = ["sha256:" + digest_of(path) for path in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
    return layers, json.dumps(config).encode()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archive_of(path: Path, name: str, layers: Iterable[Path], config: bytes) -> Path:
    listed = [{"Config": "config.json", "RepoTags": [name], "Layers": [layer.name for layer in layers]}]
    with tarfile.open(path, "w") as tar:
        for layer in layers:
            tar.add(layer, layer.name)
        for member, data in (("config.json", config), ("manifest.json", json.dumps(listed).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[int]:
    """Debian's docker-registry on loopback; its port."""
    port = free_port()
    (directory / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n"
    )
    log = (directory / "registry.log").open("wb")
    process = subprocess.Popen(["docker-registry", "serve", directory / "registry.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def push(port: int, name: str, layers: Iterable[Path], media_type: str, config: bytes) -> None:
    """An image of layer files and a config, by the distribution specification."""
    http_ = http.client.HTTPConnection("127.0.0.1", port)

    def upload(data: IO[bytes] | bytes, digest: str) -> None:
        http_.request("POST", f"/v2/{name}/blobs/uploads/")
        response = http_.getresponse()
        response.read()
        place = response.headers["Location"].split(f":{port}", 1)[-1]
        http_.request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data,
                      {"Content-Type": "application/octet-stream"})  # fmt: skip
        response = http_.getresponse()
        assert response.status == 201, response.read()
        response.read()

    described = []
    for path in layers:
        digest = "sha256:" + digest_of(path)
        upload(path.open("rb"), digest)
        described.append({"mediaType": media_type, "digest": digest, "size": path.stat().st_size})
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    upload(config, digest)
    kind = "application/vnd.oci.image.manifest.v1+json"
    about = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": about, "layers": described}
    http_.request("PUT", f"/v2/{name}/manifests/1", json.dumps(manifest), {"Content-Type": kind})
    assert http_.getresponse().status == 201


def image_figures(pinnace: Callable[..., list[str]], work: Path, size: int) -> None:
    """Load archives into and pull from a registry for a cluster; megabytes of layers' content a second."""
    layers, config = big_image(work, size)
    content = sum(path.stat().st_size for path in layers)
    kinds = {"tar": (layers, "application/vnd.oci.image.layer.v1.tar")}
    for kind, command, end in (("gzip", ["gzip", "-1k"], ".gz"), ("zstd", ["zstd", "-qk"], ".zst")):
        if shutil.which(command[0]):
            run(*command, *layers)
            compressed = [path.with_name(path.name + end) for path in layers]
            kinds[kind] = compressed, f"application/vnd.oci.image.layer.v1.tar+{kind}"
    for kind, (files, _) in kinds.items():
        archive = archive_of(work / "big.tar", f"big:{kind}", files, config)
        seconds = timed(*pinnace("image", "load"), archive)
        say("image load", layers=kind, archive_mb_s=round(archive.stat().st_size / 1e6 / seconds),
            content_mb_s=round(content / 1e6 / seconds))  # fmt: skip
        run(*pinnace("image", "rm"), f"big:{kind}")
        archive.unlink()
    if shutil.which("docker-registry") is None:
        return
    with registry(work) as port:
        for kind, (files, media_type) in kinds.items():
            push(port, kind, files, media_type, config)
            sent = sum(path.stat().st_size for path in files)
            seconds = timed(*pinnace("image", "pull"), f"127.0.0.1:{port}/{kind}:1")
            say("image pull", layers=kind, sent_mb_s=round(sent / 1e6 / seconds),
                content_mb_s=round(content / 1e6 / seconds))  # fmt: skip
            run(*pinnace("image", "rm"), f"127.0.0.1:{port}/{kind}:1")


# A whole cluster.


def cluster_figures(arguments: argparse.Namespace, work: Path, only: set[str]) -> None:
    home = work / "home"
    os.environ.update(PINNACE_HOME=str(home), KUBECONFIG=str(work / "kubeconfig"))

    def pinnace(*words: str) -> list[str]:
        return [PINNACE, *words, "-p", "nodebench"]

    try:
        run(*pinnace("start"))
        run(*pinnace("image", "load"), arguments.archive)
        if "images" in only:
            image_figures(pinnace, work, arguments.image_mb * 1_000_000)
        if "cluster" in only:
            for one, burst in ((7, 20), (0, 100)):
                done = run(sys.executable, PODLAT, "--kubeconfig", os.environ["KUBECONFIG"], "--image", arguments.image,
                           "--one", str(one), "--burst", str(burst))  # fmt: skip
                say("pods of a cluster", **json.loads(done.stdout))
            items = [sleeper(f"p{number}", arguments.image) for number in range(100)]
            pods = {"apiVersion": "v1", "kind": "List", "items": items}
            run("kubectl", "create", "-f", "-", input=json.dumps(pods).encode())
            run("kubectl", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
            (node,) = processes("pinnace.cluster.node", str(home))
            (monitor,) = processes("cri.engine.monitor", "/run/pinnace/nodebench-")
            idle("100 idle pods, a cluster's node", {"node": node, "monitor": monitor}, arguments.idle)
    finally:
        subprocess.run(pinnace("delete"), capture_output=True)


# A kubelet alone.


def sleeper(name: str, image: str, *command: str, node: str = "") -> Pod:
    command = command or ("sleep", "9999")
    container = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "command": command}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    if node:
        spec |= {"nodeName": node, "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Api:
    """The API server of a site, as its administrator."""

    def __init__(self, site: Site) -> None:
        self.port = site.port
        self.context = ssl.create_default_context(cafile=site.pki / "ca.crt")
        self.context.load_cert_chain(site.pki / "admin.crt", site.pki / "admin.key")
        self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        self.connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        assert response.status < 300, answer
        return answer

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1")

    def first_seen(self, phase: str, names: set[str]) -> tuple[dict[str, float], threading.Thread]:
        """When each of these pods was first seen in a phase, by name, and the thread that sees it."""
        seen: dict[str, float] = {}
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context)
        connection.request("GET", f"{PODS}?watch=true&timeoutSeconds=180")
        lines = connection.getresponse()

        def follow() -> None:
            while len(seen) < len(names) and (line := lines.readline()):
                pod = json.loads(line)["object"]
                if pod["metadata"]["name"] in names and pod["status"].get("phase") == phase:
                    seen.setdefault(pod["metadata"]["name"], time.perf_counter())
            connection.close()

        thread = threading.Thread(target=follow)
        thread.start()
        return seen, thread


def pods_until(api: Api, pods: Sequence[Pod], phase: str = "Running") -> float:
    """Create pods and wait for their phase: seconds to the last of them."""
    seen, thread = api.first_seen(phase, {pod["metadata"]["name"] for pod in pods})
    before = time.perf_counter()
    for pod in pods:
        api.request("POST", PODS, pod)
    thread.join(180)
    assert len(seen) == len(pods), f"{len(seen)} of {len(pods)} pods became {phase}"
    return max(seen.values()) - before


def remove_pods(api: Api) -> None:
    api.request("DELETE", f"{PODS}?gracePeriodSeconds=0")
    while api.request("GET", PODS)["items"]:
        time.sleep(0.1)


def pod_figures(api: Api, image: str, runtime: str, counts: Iterable[int] = (20, 100)) -> None:
    ones = []
    for number in range(7):
        ones.append(pods_until(api, [sleeper(f"one{number}", image, node="alone")]))
        api.request("DELETE", f"{PODS}/one{number}?gracePeriodSeconds=0")
    say("pods of a kubelet alone", runtime=runtime, one_median_s=round(statistics.median(ones), 2))
    for count in counts:
        remove_pods(api)
        last = pods_until(api, [sleeper(f"of{count}-{number}", image, node="alone") for number in range(count)])
        say("pods of a kubelet alone", runtime=runtime, burst=count, last_s=round(last, 2))


def exec_round_trip(api: Api, pod: str) -> float:
    """Seconds from a new connection to the status that ends the session."""
    before = time.perf_counter()
    with api.connect() as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {PODS}/{pod}/exec?command=echo&command=hi&stdout=1&stderr=1 HTTP/1.1\r\nHost: a\r\n"
            "Origin: http://a\r\n"  # containerd wants one
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
        )
        file = connection.makefile("rb")
        status = file.readline()
        assert b" 101 " in status, status + file.read(1000)
        while file.readline() != b"\r\n":
            pass
        channel = b""
        while channel != b"\3":
            length = file.read(2)[1]
            message = file.read(length if length < 126 else int.from_bytes(file.read(2), "big"))
            channel = message[:1]
        assert b"Success" in message
    return time.perf_counter() - before


def read_log(api: Api, pod: str, query: str = "") -> tuple[int, float]:
    """Bytes and seconds of one GET; what it says is thrown away."""
    before, size, buffer = time.perf_counter(), 0, bytearray(1 << 20)
    with api.connect() as connection:
        connection.sendall(f"GET {PODS}/{pod}/log?{query} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        while taken := connection.recv_into(buffer):
            size += taken
    return size, time.perf_counter() - before


def stream_figures(api: Api, arguments: argparse.Namespace, servers: Mapping[str, int], kubeconfig: Path) -> None:
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}"]
    pods_until(api, [sleeper("exec", arguments.image, node="alone")])
    raw = [1000 * exec_round_trip(api, "exec") for _ in range(40)]
    through = [1000 * timed(*kubectl, "exec", "exec", "--", "echo", "hi") for _ in range(9)]
    start = [1000 * timed(*kubectl, "version", "--client") for _ in range(5)]
    say("exec", round_trip_ms=round(statistics.median(raw), 1), p90_ms=round(statistics.quantiles(raw, n=10)[-1], 1),
        kubectl_ms=round(statistics.median(through)), kubectl_start_ms=round(statistics.median(start)))  # fmt: skip
    size = arguments.log_mb * 1_000_000
    writer = sleeper("logs", arguments.image, "sh", "-c", f"yes {'x' * 99} | head -c {size}", node="alone")
    began = cpu(servers["monitor"])
    seconds = pods_until(api, [writer], "Succeeded")
    spent = cpu(servers["monitor"]) - began
    say("logs written", mb_s=round(size / 1e6 / seconds), monitor_ms_a_mb=round(1e9 * spent / size, 2))
    for query in ("", "", "", "timestamps=true", f"tailLines={size // 200}"):
        before = {name: cpu(pid) for name, pid in servers.items()}
        got, seconds = read_log(api, "logs", query)
        used = {name: round(1e9 * (cpu(pid) - before[name]) / got, 2) for name, pid in servers.items()}
        say("logs through the API server", query=query, mb_s=round(got / 1e6 / seconds), cpu_ms_a_mb=used)
    seconds = timed("sh", "-c", f"{' '.join(kubectl)} logs logs >/dev/null")
    say("logs through the API server", query="by kubectl", mb_s=round(size / 1e6 / seconds))


@contextlib.contextmanager
def site_with_kubelet(endpoint: str = "") -> Iterator[tuple[Site, Api, subprocess.Popen[bytes]]]:
    """An API server and a kubelet, each its own process: the site, its API and the kubelet's process."""
    site = Site(Path(tempfile.mkdtemp(prefix="pn-", dir="/var/tmp")))
    api = None
    try:
        site.start_api_server()
        drop_ins = site.directory / "kubelet.d"
        drop_ins.mkdir()
        (drop_ins / "bench.conf").write_text(DROP_IN)
        kubelet = site.start_kubelet(endpoint, f"--config-dir={drop_ins}")
        api = Api(site)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        api.request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        yield site, api, kubelet
    finally:
        if api is not None:
            with contextlib.suppress(Exception):
                remove_pods(api)
        site.close()


def alone_figures(arguments: argparse.Namespace) -> None:
    with site_with_kubelet() as (site, api, kubelet):
        store = "import sys; from pathlib import Path; from pinnace.cri.engine.images.store import ImageStore; "
        store += "ImageStore(Path(sys.argv[1])).load_archive(Path(sys.argv[2]))"
        run(sys.executable, "-c", store, site.engine_dir / "images", arguments.archive)
        apiserver = site.processes[0].pid
        pods_until(api, [sleeper("first", arguments.image, node="alone")])
        (monitor,) = processes("cri.engine.monitor", str(make_engine(site.engine_dir).state))
        servers = {"apiserver": apiserver, "kubelet": kubelet.pid, "monitor": monitor}
        node = {name: servers[name] for name in ("kubelet", "monitor")}
        remove_pods(api)
        idle("no pods, a kubelet alone", node, 5)
        pod_figures(api, arguments.image, "embedded")
        time.sleep(3)  # the last of what follows a start
        idle("100 idle pods, a kubelet alone", node, arguments.idle)
        remove_pods(api)
        stream_figures(api, arguments, servers, site.kubeconfig("admin"))


def containerd_figures(arguments: argparse.Namespace, work: Path) -> None:
    why = missing()
    if why:
        say("pods of a kubelet alone", runtime="containerd", skipped=why)
        return
    containerd = Containerd(work / "containerd", 0)
    try:
        containerd.start()
        containerd.load(busybox_archive(work / "pause.tar", "pause:test", command=("sleep", "2147483647")))
        containerd.load(Path(arguments.archive))
        with site_with_kubelet(containerd.endpoint) as (_, api, kubelet):
            pod_figures(api, arguments.image, "containerd")
            idle("100 idle pods, a kubelet on containerd", {"kubelet": kubelet.pid}, arguments.idle)
            pods_until(api, [sleeper("exec", arguments.image, node="alone")])
            raw = [1000 * exec_round_trip(api, "exec") for _ in range(20)]
            say("exec on containerd", round_trip_ms=round(statistics.median(raw), 1))
    finally:
        containerd.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", help="of an image with sh, sleep, yes and head; else one is made of /bin/busybox")
    parser.add_argument("--image", default="busybox:1.36")
    parser.add_argument("--only", default="images,cluster,alone,containerd")
    parser.add_argument("--idle", type=float, default=20, help="seconds of each idle measurement")
    parser.add_argument("--image-mb", type=int, default=1000)
    parser.add_argument("--log-mb", type=int, default=1000)
    arguments = parser.parse_args()
    only = set(arguments.only.split(","))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    work = Path(tempfile.mkdtemp(prefix="nodebench-", dir="/var/tmp"))
    try:
        arguments.archive = arguments.archive or str(busybox_archive(work / "busybox.tar", arguments.image))
        if only & {"images", "cluster"}:
            cluster_figures(arguments, work, only)
        if "alone" in only:
            alone_figures(arguments)
        if "containerd" in only:
            containerd_figures(arguments, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
