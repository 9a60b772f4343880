"""`Cluster`: a control plane for tests with everything a test asks of one, from any thread, with or without a loop.

Servers, fake nodes and the client run in one thread of this process; `in_process=False` puts the servers into a process
beside it. State, keys and kubeconfigs lie in a temporary directory, in memory where the machine has one.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.testing.controlplane import ControlPlane, Options, command
from pinnace.testing.manifests import DEFINITION, manifests

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.testing.api import Api
    from pinnace.testing.loop_thread import LoopThread
    from pinnace.testing.nodes import FakeNodes
    from pinnace.testing.webhooks import Review, Webhook

_MEMORY = Path("/dev/shm")
ADMINISTRATOR = "kubernetes-admin"
MASTERS = "system:masters"


class Cluster:
    """A running control plane between `start` and `stop`, or within `with`.

    `controllers` may also name some of them, as kube-controller-manager's `--controllers` does. `nodes` are fake
    (`add_node`), named `node-1` and so on. `version` is like `1.34`, the newest by default; `runtime_config` like
    `api/all=true`, for alpha and beta versions, `feature_gates` like `AllAlpha=true`.
    """

    def __init__(
        self,
        *,
        controllers: bool | Sequence[str] = True,
        scheduler: bool = True,
        nodes: int = 0,
        version: str = "",
        runtime_config: str = "",
        feature_gates: str = "",
        in_process: bool = True,
    ) -> None:
        minor = int(version.removeprefix("v").split(".")[1]) if version else None
        chosen = controllers if isinstance(controllers, bool) else tuple(controllers)
        self._options = Options(
            controllers=chosen,
            scheduler=scheduler,
            minor=minor,
            runtime_config=runtime_config,
            feature_gates=feature_gates,
        )
        self._node_count = nodes
        self._in_process = in_process
        self._plane: ControlPlane | None = None
        self._process: subprocess.Popen[str] | None = None
        self._fake_nodes: FakeNodes | None = None
        self._clients: list[Client] = []
        self._thread: LoopThread | None = None
        self.kubeconfig = Path()  # the file by which any client is cluster administrator, after `start`
        self.url = ""  # https://127.0.0.1:PORT, after `start`
        self.directory = Path()  # what it keeps on disk until it is stopped
        self.api: Api  # to create, read and wait for objects, as administrator

    # Starting and stopping.

    def start(self) -> Self:
        """Start; everything is ready when this returns."""
        from pinnace.testing.api import Api
        from pinnace.testing.credentials import Credentials
        from pinnace.testing.logs import log_to_logging
        from pinnace.testing.loop_thread import LoopThread

        log_to_logging()
        atexit.register(self._clear)  # for who forgets to stop it
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="pinnace-test-", dir=memory))
        try:
            self._credentials = Credentials(self.directory)
            self._thread = LoopThread("pinnace")
            port = self._start_here() if self._in_process else self._start_beside()
            self.url = f"https://127.0.0.1:{port}"
            self.kubeconfig = self._write_kubeconfig("admin.conf", self.kubeconfig_dict())
            self.api = Api(self._thread, self._https_client())
            for number in range(1, self._node_count + 1):
                self.add_node(f"node-{number}")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the servers and remove every file."""
        if self._thread is not None:
            if self._fake_nodes is not None:
                self._thread.call(self._fake_nodes.stop())
            for client in self._clients:
                self._thread.call(client.transport.close())
            if self._plane is not None:
                self._thread.call(self._plane.stop())
            self._thread.stop()
        self._thread, self._plane, self._fake_nodes = None, None, None
        self._clients.clear()
        self._clear()

    def _clear(self) -> None:
        """End the process beside, remove the files."""
        atexit.unregister(self._clear)
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self.directory.is_absolute():
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Kubeconfigs.

    def kubeconfig_dict(self, namespace: str = "default") -> Obj:
        """The same as a dict, with another namespace for clients that are told none."""
        from pinnace.testing.credentials import certificate_user

        certificate = self._credentials.client("admin", ADMINISTRATOR, (MASTERS,))
        return self._kubeconfig(ADMINISTRATOR, certificate_user(certificate), namespace)

    def kubeconfig_in(self, namespace: str) -> Path:
        """The administrator's kubeconfig file with another namespace for clients that are told none."""
        return self._write_kubeconfig(f"admin-{namespace}.conf", self.kubeconfig_dict(namespace))

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), *, namespace: str = "default") -> Path:
        """A kubeconfig file for a user, who may do what RBAC allows; groups besides system:authenticated."""
        from pinnace.testing.credentials import certificate_user

        file = f"user-{uuid.uuid4().hex}"
        certificate = self._credentials.client(file, user, groups)
        return self._write_kubeconfig(f"{file}.conf", self._kubeconfig(user, certificate_user(certificate), namespace))

    def kubeconfig_for_service_account(self, name: str, namespace: str = "default") -> Path:
        """A kubeconfig file for a service account, by a token of one hour; the account must exist."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        token = self.api.request("POST", path, request)["status"]["token"]
        user = f"system:serviceaccount:{namespace}:{name}"
        document = self._kubeconfig(user, {"token": token}, namespace)
        return self._write_kubeconfig(f"service-account-{uuid.uuid4().hex}.conf", document)

    def _kubeconfig(self, name: str, user: Obj, namespace: str) -> Obj:
        from pinnace.testing.credentials import kubeconfig

        return kubeconfig(self.url, self._credentials.ca, name, user, namespace)

    def _write_kubeconfig(self, file: str, document: Obj) -> Path:
        """As JSON, which is YAML."""
        path = self.directory / file
        path.touch(0o600)
        path.write_text(json.dumps(document, indent=2))
        return path

    # Manifests.

    def install(self, *paths: Path | str, namespace: str = "") -> list[Obj]:
        """Apply YAML manifests, of files or of all `.yaml` files in directories; the objects as they are then.

        Definitions of custom resources go first, and are established when this returns.
        """
        made = []
        for one in manifests(paths):
            applied = self.api.apply(one, namespace, manager="pinnace.testing")
            if applied["kind"] == DEFINITION:
                self.api.wait_for("customresourcedefinitions", applied["metadata"]["name"], "Established")
            made.append(applied)
        return made

    # Namespaces.

    def create_namespace(self, prefix: str = "test") -> str:
        """Make a namespace of an unused name, ready for pods; its name."""
        metadata = {"generateName": f"{prefix}-"}
        made = self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        name: str = made["metadata"]["name"]
        if self._options.makes_service_accounts:
            self.api.wait_for("serviceaccounts", "default", namespace=name)
        return name

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace with all that is in it; one that is gone already is well."""
        try:
            self.api.delete("namespaces", name)
        except ApiError as error:
            if not error.is_not_found:
                raise

    # Nodes.

    def add_node(
        self,
        name: str,
        *,
        capacity: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Obj] = (),
    ) -> Obj:
        """Register a node without a machine: it stays Ready, and pods bound to it are Running at once; the Node."""
        return self._running_thread().call(self._nodes().add(name, capacity or {}, labels or {}, taints))

    def finish_pod(self, name: str, namespace: str = "default", *, exit_code: int = 0) -> Obj:
        """End a pod of a fake node: Succeeded, or Failed with an exit code other than 0; the Pod."""
        return self._running_thread().call(self._nodes().finish(name, namespace, exit_code))

    def set_log(self, pod: str, text: str, namespace: str = "default", *, container: str) -> None:
        """What `kubectl logs` shall say of a container on a fake node."""
        self._nodes().set_log(pod, namespace, container, text)

    def _nodes(self) -> FakeNodes:
        if self._fake_nodes is None:
            from pinnace.testing.nodes import FakeNodes

            client = self._plane.client(ADMINISTRATOR) if self._plane is not None else self._https_client()
            self._fake_nodes = FakeNodes(client, self._credentials, self._options.minor)
        return self._fake_nodes

    # Webhooks.

    def webhook(self, review: Review) -> Webhook:
        """Serve a webhook that answers by `review`, until it is closed or its `with` ends."""
        from pinnace.testing.webhooks import Webhook

        return Webhook(review, self.serving_certificate("127.0.0.1", "localhost"), self._credentials.ca)

    def serving_certificate(self, *names: str) -> Path:
        """A certificate for a server of the program under test (its key beside it as `.key`), signed by `ca`."""
        return self._credentials.serving(f"serving-{uuid.uuid4().hex}", names[0], names)

    @property
    def ca(self) -> str:
        """The certificate authority of everything here, PEM."""
        return self._credentials.ca

    # Within.

    def _start_here(self) -> int:
        self._plane = ControlPlane(self.directory, self._options)
        return self._running_thread().call(self._plane.start())

    def _start_beside(self) -> int:
        log = self.directory / "server.log"
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command(self.directory, self._options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the control plane did not start:\n{log.read_text()[-4000:]}")
        port: int = json.loads(line)["port"]
        return port

    def _https_client(self) -> Client:
        from pinnace.client.client import Client
        from pinnace.client.https import HttpsTransport
        from pinnace.client.kubeconfig import Kubeconfig

        connection = Kubeconfig(self.kubeconfig_dict()).connection()
        client = Client(HttpsTransport(connection, user_agent="pinnace.testing"))
        self._clients.append(client)
        return client

    def _running_thread(self) -> LoopThread:
        if self._thread is None:
            raise RuntimeError("the cluster is not running")
        return self._thread


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
