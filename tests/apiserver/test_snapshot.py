"""An API server gives a snapshot of its store, and one over what was restored makes old watches list again."""

from __future__ import annotations

from pathlib import Path

from pinnace.apiserver.server import ApiServer
from pinnace.store import snapshot as files
from pinnace.store.location import Location
from tests.apiserver.conftest import Cluster, config_map, options_for

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_a_restored_cluster_is_the_saved_one_and_watches_list_again(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.call("POST", MAPS, config_map("kept", a="1"))
    answer = await cluster.call("GET", files.SERVED_AT)
    assert answer.status == 200
    late = (await cluster.call("POST", MAPS, config_map("late"))).json["metadata"]["resourceVersion"]

    location = Location(file=tmp_path / "restored.db")
    await files.restore(location, files.decode(answer.body))
    store = await location.open()
    server = ApiServer(options_for(cluster.pki), store)
    await server.start()
    try:
        restored = Cluster(server, store, cluster.pki)
        listed = (await restored.call("GET", MAPS)).json
        assert [item["metadata"]["name"] for item in listed["items"]] == ["kept"]
        assert int(listed["items"][0]["metadata"]["resourceVersion"]) > int(late)
        watch = await restored.watch(f"{MAPS}?watch=1&resourceVersion={late}")
        event = await watch.next()
        assert event is not None
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        watch.close()
        assert (await restored.call("POST", MAPS, config_map("late"))).status == 201
    finally:
        await server.stop(0.2)
        await store.close()


async def test_a_snapshot_cannot_be_written(cluster: Cluster) -> None:
    for method in ("POST", "DELETE"):
        assert (await cluster.call(method, files.SERVED_AT)).status == 404
