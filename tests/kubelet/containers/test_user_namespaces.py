"""The users of pods that are not the node's: which they are, and that nobody has them twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.cri.api import IDMapping, NamespaceMode, UserNamespace
from pinnace.kubelet.containers.user_namespaces import UserRanges, choose
from tests.kubelet.conftest import Start
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.node_api import NodeApi


def pod(uid: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns", "uid": uid}, "spec": spec}


def of(first: int) -> UserNamespace:
    users = IDMapping(host_id=first, container_id=0, length=65536)
    return UserNamespace(mode=NamespaceMode.POD, uids=[users], gids=[users])


def test_every_pod_has_users_of_its_own(tmp_path: Path) -> None:
    ranges = UserRanges(tmp_path, 2)
    first, second = pod("a", hostUsers=False), pod("b", hostUsers=False)
    assert (ranges.namespace(first), ranges.namespace(second)) == (of(65536), of(131072))
    assert ranges.namespace(first) == of(65536)
    assert ranges.namespace(pod("c")) is None
    with pytest.raises(ValueError, match="could not find an empty slot to allocate a user namespace"):
        ranges.namespace(pod("d", hostUsers=False))
    again = UserRanges(tmp_path, 2)
    assert again.namespace(second) == of(131072)
    again.forget("a")
    assert again.namespace(pod("d", hostUsers=False)) == of(65536)


def test_ranges_end_with_the_users_there_are() -> None:
    assert choose((), 1 << 20) == 65536
    with pytest.raises(ValueError, match="empty slot"):
        choose(range(65536, 1 << 32, 65536), 1 << 20)


async def test_the_runtime_is_told_whose_files_are_whose(
    api: NodeApi, runtime: FakeRuntime, start: Start, tmp_path: Path
) -> None:
    start()
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    container = {"name": "web", "image": "web:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await api.add_pod("p", containers=[container], volumes=[volume], hostUsers=False)
    await api.phase("p", "Running")
    [box] = runtime.sandbox_configs.values()
    assert box.linux.security_context.namespace_options.userns_options == of(65536)
    [status] = runtime.by_name("web")
    config = runtime.configs[status.id]
    assert config.linux.security_context.namespace_options.userns_options == of(65536)
    mapped = {mount.container_path: mount.uidMappings for mount in config.mounts}
    assert mapped["/v"] == of(65536).uids
    assert mapped["/etc/hosts"] == []
