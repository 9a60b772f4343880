"""Objects are written again in the version in which they are to be stored."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.registry import Registry
from pinnace.apis.resources import CONFIG_MAPS, STORAGE_VERSION_MIGRATIONS
from pinnace.controllers.served import ServedResources
from pinnace.controllers.storage_version_migrator import StorageVersionMigrator, is_over, with_outcome
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of
from pinnace.testing import Cluster
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running

MOMENT = "2026-01-01T00:00:00Z"


def migration(resource: str = "configmaps", group: str = "") -> Obj:
    spec = {"resource": {"resource": resource, "group": group}}
    kind = {"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration"}
    return {**kind, "metadata": {"name": "m"}, "spec": spec}


def make(client: Any, informers: Any) -> StorageVersionMigrator:
    return StorageVersionMigrator(client, informers, ServedResources(Registry(), informers))


@pytest.mark.parametrize(("kind", "over"), [("Running", False), ("Succeeded", True), ("Failed", True)])
def test_an_outcome_ends_the_running(kind: str, over: bool) -> None:
    status = with_outcome({}, "Running", "", MOMENT)
    found = {"status": with_outcome(status, kind, "why", MOMENT)}
    assert is_over(found) is over
    assert conditions(found)["Running"][0] == ("False" if over else "True")


async def furnish(api: FakeApi) -> None:
    for number in range(30):
        metadata = {"name": f"c{number}", "namespace": "default"}
        await api.client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


async def test_every_object_is_written() -> None:
    api = FakeApi()
    await furnish(api)
    async with running(api, make):
        await api.client.create(STORAGE_VERSION_MIGRATIONS, migration())
        await api.until(lambda: is_over(api.all(STORAGE_VERSION_MIGRATIONS)[0]))
    found = api.all(STORAGE_VERSION_MIGRATIONS)[0]
    assert conditions(found)["Succeeded"] == ("True", "StorageVersionMigrationSucceeded", "")
    assert conditions(found)["Running"][:2] == ("False", "StorageVersionMigrationInProgress")
    assert found["status"]["resourceVersion"]
    assert sum(method == "PATCH" and "/configmaps/" in path for method, path in api.requests) == 30


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (migration("things", "x.io"), None, "resource things.x.io is not served"),
        (migration(), ApiError(422, "Invalid", "no"), "migration encountered unhandled error: no"),
    ],
)
async def test_what_cannot_be_written_fails(wanted: Obj, error: ApiError | None, message: str) -> None:
    api = FakeApi()
    await furnish(api)
    api.fail = lambda method, path, _: error if method == "PATCH" and "/configmaps/c7" in path else None
    async with running(api, make):
        await api.client.create(STORAGE_VERSION_MIGRATIONS, wanted)
        await api.until(lambda: is_over(api.all(STORAGE_VERSION_MIGRATIONS)[0]))
    assert conditions(api.all(STORAGE_VERSION_MIGRATIONS)[0])["Failed"] == (
        "True",
        "StorageVersionMigrationFailed",
        message,
    )


def definition(storage: str) -> Obj:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    versions = [{"name": name, "served": True, "storage": name == storage, "schema": schema} for name in ("v1", "v2")]
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    spec = {"group": "x.io", "scope": "Namespaced", "names": names, "versions": versions}
    return {**kind, "metadata": {"name": "things.x.io"}, "spec": spec}


@pytest.mark.pinnace(scheduler=False)
def test_custom_objects_move_to_the_new_version(pinnace: Cluster) -> None:
    """Only what is kept in another version is written: its resourceVersion tells."""
    api = pinnace.api
    api.create(definition("v1"))
    api.wait_for("crd", "things.x.io", "Established")
    old = api.create({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "old"}})
    api.update({**api.get("crd", "things.x.io"), "spec": definition("v2")["spec"]})
    new = api.create({"apiVersion": "x.io/v2", "kind": "Thing", "metadata": {"name": "new"}})
    api.create(migration("things", "x.io"))
    api.wait_for("storageversionmigrations", "m", "Succeeded")
    versions = {name_of(one): one["metadata"]["resourceVersion"] for one in api.list("things")}
    assert versions["old"] != old["metadata"]["resourceVersion"]
    assert versions["new"] == new["metadata"]["resourceVersion"]
