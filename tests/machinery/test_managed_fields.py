"""Who manages which fields, after updates and applies: pure, over real kinds."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import fieldset, last_applied, managed_fields
from pinnace.machinery.errors import ApiError
from pinnace.machinery.managed_fields import Applied, ApplyConflict, Author
from pinnace.machinery.meta import GVK, Obj
from pinnace.machinery.schema import Schemas
from pinnace.machinery.typed import Node, node_of

T0, T1, T2, T3 = (f"2026-01-01T00:00:0{second}Z" for second in range(4))


class OneVersion:
    """A kind that is served in `v1` and, the same but for a renamed field, in `v2`."""

    def __init__(self, gvk: GVK) -> None:
        self.gvk = gvk
        self._node = node_of(Schemas.load().for_gvk(gvk))

    def node(self, api_version: str) -> Node | None:
        return self._node if api_version == self.gvk.api_version else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return {**obj, "apiVersion": api_version}

    revert = convert


DEPLOYMENT = OneVersion(GVK("apps", "v1", "Deployment"))
CONFIG_MAP = OneVersion(GVK("", "v1", "ConfigMap"))
STATUS = {"f:status": fieldset.LEAF}


def deployment(**spec: Any) -> Obj:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            **({"spec": spec} if spec else {})}  # fmt: skip


def containers(*items: Obj) -> Obj:
    return {"spec": {"containers": list(items)}}


class History:
    """One object and what is done to it."""

    def __init__(self, versions: OneVersion = DEPLOYMENT, subresource: str = "") -> None:
        self.versions = versions
        self.subresource = subresource
        self.obj: Obj | None = None

    def author(self, manager: str) -> Author:
        ignored = {"f:spec": fieldset.LEAF} if self.subresource == "status" else STATUS
        return Author(manager, self.versions.gvk.api_version, self.subresource, ignored)

    def create(self, manager: str, obj: Obj, now: str = T0) -> History:
        node = self.versions.node(self.versions.gvk.api_version)
        assert node is not None
        self._keep(obj, managed_fields.create(self.author(manager), node, obj, None, now))
        return self

    def update(self, manager: str, obj: Obj, now: str = T1) -> History:
        assert self.obj is not None
        new = copy.deepcopy(obj)
        entries = managed_fields.update(self.author(manager), self.versions, self.obj, new, now)
        self._keep(new, entries)
        return self

    def apply(self, manager: str, config: Obj, *, force: bool = False, now: str = T2) -> History:
        before = orjson.dumps([self.obj, config])
        done = managed_fields.apply(self.author(manager), self.versions, self.obj, config, force, now)
        assert orjson.dumps([self.obj, config]) == before
        self._keep(done.obj, done.entries)
        return self

    def conflict(self, manager: str, config: Obj) -> ApplyConflict:
        with pytest.raises(ApplyConflict) as caught:
            self.apply(manager, config)
        return caught.value

    def _keep(self, obj: Obj, entries: list[Obj]) -> None:
        meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
        self.obj = orjson.loads(orjson.dumps({**obj, "metadata": {**meta, "managedFields": entries}}))

    @property
    def entries(self) -> list[Obj]:
        assert self.obj is not None
        found: list[Obj] = self.obj["metadata"]["managedFields"]
        return found

    def owned(self, manager: str, operation: str = "") -> list[str]:
        found = [
            each for each in self.entries if each["manager"] == manager and each["operation"].startswith(operation)
        ]
        return sorted(fieldset.path_text(path) for each in found for path in fieldset.paths(each["fieldsV1"]))

    @property
    def spec(self) -> Obj:
        assert self.obj is not None
        found: Obj = self.obj["spec"]
        return found


# Writes of whole states.


def test_a_new_object_belongs_to_its_author_as_kubernetes_shows_it() -> None:
    made = deployment(
        replicas=1,
        selector={"matchLabels": {"app": "web"}},
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        template={
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "nginx", "image": "nginx", "resources": {}}],
                "restartPolicy": "Always",
                "securityContext": {},
            },
        },
    )
    made["metadata"] |= {"labels": {"app": "web"}, "uid": "u", "creationTimestamp": T0, "generation": 1}
    made["status"] = {"replicas": 1}
    history = History().create("kubectl-create", made)
    assert history.entries == [
        {
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": T0,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {
                        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
                        "f:type": {},
                    },
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"nginx"}': {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}},
                            },
                            "f:restartPolicy": {},
                            "f:securityContext": {},
                        },
                    },
                },
            },
        }
    ]


def test_what_an_update_changes_becomes_its_authors() -> None:
    history = History().create("a", deployment(replicas=1, paused=True))
    history.update("b", deployment(replicas=2, paused=True, minReadySeconds=3))
    assert history.owned("a") == [".spec.paused"]
    assert history.owned("b") == [".spec.minReadySeconds", ".spec.replicas"]
    assert [entry["time"] for entry in history.entries] == [T0, T1]


def test_what_is_gone_is_nobodys() -> None:
    history = History().create("a", deployment(replicas=1, paused=True))
    history.update("b", deployment(replicas=1))
    assert history.owned("a") == [".spec.replicas"]
    assert history.owned("b") == []


def test_who_loses_everything_is_forgotten() -> None:
    history = History().create("a", deployment(replicas=1)).update("b", deployment(replicas=2))
    assert [entry["manager"] for entry in history.entries] == ["b"]


def test_an_update_without_change_leaves_the_entries_alone() -> None:
    history = History().create("a", deployment(replicas=1))
    before = history.entries
    history.update("b", deployment(replicas=1))
    assert history.entries == before


def test_a_manager_has_an_entry_for_each_subresource() -> None:
    history = History().create("a", deployment(replicas=1))
    history.subresource = "status"
    history.update("a", {**deployment(replicas=5), "status": {"replicas": 1}})
    assert [(entry.get("subresource", ""), entry["manager"]) for entry in history.entries] == [
        ("", "a"),
        ("status", "a"),
    ]
    assert history.entries[1]["fieldsV1"] == {"f:status": {".": {}, "f:replicas": {}}}
    assert history.owned("a") == [".spec.replicas", ".status", ".status.replicas"]


def test_an_unnamed_manager_is_unknown() -> None:
    assert History().create("", deployment(replicas=1)).entries[0]["manager"] == "unknown"


@pytest.mark.parametrize(
    ("sent", "managers"),
    [
        ([{}], []),
        ([], ["a"]),
        (None, ["a"]),
        ([{"manager": "x"}], ["a"]),
        ([{"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV2"}], ["a"]),
        (
            [
                {
                    "manager": "x",
                    "operation": "Apply",
                    "apiVersion": "apps/v1",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                }
            ],
            ["x"],
        ),
    ],
)
def test_clients_may_rewrite_the_entries(sent: Any, managers: list[str]) -> None:
    """A list with one empty entry resets them; what cannot be read or is empty changes nothing."""
    history = History().create("a", deployment(replicas=1))
    obj = deployment(replicas=1)
    if sent is not None:
        obj["metadata"]["managedFields"] = sent
    history.update("b", obj)
    assert [entry["manager"] for entry in history.entries] == managers


def test_entries_sent_to_a_subresource_are_ignored() -> None:
    history = History().create("a", deployment(replicas=1))
    history.subresource = "status"
    obj = deployment(replicas=1)
    obj["metadata"]["managedFields"] = [{}]
    history.update("b", obj)
    assert [entry["manager"] for entry in history.entries] == ["a"]


def test_an_object_that_is_not_tracked_stays_so_until_the_first_apply() -> None:
    history = History().create("a", deployment(replicas=1))
    obj = deployment(replicas=1)
    obj["metadata"]["managedFields"] = [{}]
    history.update("a", obj).update("b", deployment(replicas=2))
    assert history.entries == []
    history.apply("c", deployment(paused=True))
    assert history.owned("before-first-apply", "Update") == [".spec.replicas"]
    assert history.owned("c", "Apply") == [".spec.paused"]


def test_the_oldest_updaters_become_ancient() -> None:
    history = History(CONFIG_MAP)
    obj: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k0": "x"}}
    history.create("m0", obj, "2026-01-01T00:00:00Z")
    for number in range(1, 13):
        obj = {**obj, "data": {**obj["data"], f"k{number}": "x"}}
        history.update(f"m{number}", obj, f"2026-01-01T00:00:{number:02}Z")
    assert len(history.entries) == 10
    assert history.owned("ancient-changes") == [".data", ".data.k0", ".data.k1", ".data.k2", ".data.k3"]
    assert {entry["manager"] for entry in history.entries} == {"ancient-changes", *(f"m{n}" for n in range(4, 13))}


# Applying.


def test_applying_creates() -> None:
    history = History().apply("a", deployment(replicas=1))
    assert history.spec == {"replicas": 1}
    assert history.owned("a", "Apply") == [".spec.replicas"]
    assert history.entries[0]["time"] == T2


def test_appliers_share_what_they_agree_on() -> None:
    history = History().apply("a", deployment(replicas=1, paused=True)).apply("b", deployment(replicas=1))
    assert history.owned("a") == [".spec.paused", ".spec.replicas"]
    assert history.owned("b") == [".spec.replicas"]


def test_a_conflict_names_the_field_and_its_manager() -> None:
    history = History().apply("a", deployment(replicas=1))
    error = history.conflict("b", deployment(replicas=2))
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    assert error.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".spec.replicas"}]
    }


def test_conflicts_are_listed_by_manager() -> None:
    live = deployment(replicas=1, template=containers({"name": "c", "image": "one"}))
    history = History().create("kubectl-client-side-apply", live)
    history.subresource = "scale"
    history.update("hpa", {**live, "spec": {**live["spec"], "replicas": 3}})
    history.subresource = ""
    wanted = deployment(replicas=2, template=containers({"name": "c", "image": "two"}))
    assert history.conflict("b", wanted).message == (
        'Apply failed with 2 conflicts: conflicts with "hpa" with subresource "scale" using apps/v1:\n'
        "- .spec.replicas\n"
        'conflicts with "kubectl-client-side-apply" using apps/v1:\n'
        '- .spec.template.spec.containers[name="c"].image'
    )


def test_force_takes_the_field() -> None:
    history = History().apply("a", deployment(replicas=1, paused=True))
    history.apply("b", deployment(replicas=2), force=True)
    assert history.spec == {"replicas": 2, "paused": True}
    assert history.owned("a") == [".spec.paused"]
    assert history.owned("b") == [".spec.replicas"]


def test_what_is_no_longer_applied_goes_if_nobody_else_owns_it() -> None:
    history = History().apply("a", deployment(replicas=1, paused=True, minReadySeconds=1))
    history.apply("b", deployment(paused=True))
    history.apply("a", deployment(minReadySeconds=1))
    assert history.spec == {"paused": True, "minReadySeconds": 1}
    assert history.owned("a") == [".spec.minReadySeconds"]


def test_what_an_updater_owns_stays_when_an_applier_drops_it() -> None:
    history = History().apply("a", deployment(replicas=1, paused=True))
    history.update("b", {**history.obj, "spec": {"replicas": 2, "paused": True}})  # type: ignore[dict-item]
    history.apply("a", deployment(paused=True))
    assert history.spec == {"replicas": 2, "paused": True}
    assert history.owned("b", "Update") == [".spec.replicas"]


def test_an_item_goes_with_its_only_applier() -> None:
    one, two = {"name": "one", "image": "1"}, {"name": "two", "image": "2"}
    history = History().apply("a", deployment(template=containers(one, two)))
    history.apply("b", deployment(template=containers({"name": "three", "image": "3"})))
    history.apply("a", deployment(template=containers(two)))
    names = [container["name"] for container in history.spec["template"]["spec"]["containers"]]
    assert names == ["two", "three"]


def test_an_item_that_others_added_to_stays_with_what_they_added() -> None:
    history = History().apply("a", deployment(template=containers({"name": "one", "image": "1"})))
    history.apply("b", deployment(template=containers({"name": "one", "tty": True})))
    history.apply("a", deployment(replicas=1))
    assert history.spec == {"replicas": 1, "template": containers({"name": "one", "tty": True})}


def test_a_struct_goes_when_nothing_in_it_is_applied_any_more() -> None:
    history = History().apply("a", deployment(strategy={"type": "Recreate"}, replicas=1))
    history.apply("a", deployment(replicas=1))
    assert history.spec == {"replicas": 1}


def test_labels_of_others_survive() -> None:
    mine, theirs = deployment(replicas=1), deployment()
    mine["metadata"]["labels"] = {"a": "1"}
    theirs["metadata"]["labels"] = {"b": "2"}
    history = History().apply("a", mine).apply("b", theirs)
    del mine["metadata"]["labels"]
    history.apply("a", mine)
    assert history.obj is not None
    assert history.obj["metadata"]["labels"] == {"b": "2"}


def test_applying_nothing_gives_everything_up() -> None:
    history = History().apply("a", deployment(replicas=1)).apply("b", deployment(paused=True))
    history.apply("a", deployment())
    assert history.spec == {"paused": True}
    assert [entry["manager"] for entry in history.entries] == ["b"]


def test_times_change_with_the_object_or_the_entry_only() -> None:
    history = History().apply("a", deployment(replicas=1), now=T0)
    history.apply("a", deployment(replicas=1), now=T1)
    assert history.entries[0]["time"] == T0
    history.apply("a", deployment(replicas=2), now=T2)
    assert history.entries[0]["time"] == T2
    history.apply("b", deployment(replicas=2), now=T3)
    assert [(entry["manager"], entry["time"]) for entry in history.entries] == [("a", T2), ("b", T3)]


def test_an_applier_and_an_updater_of_one_name_are_two() -> None:
    history = History().create("kubectl", deployment(replicas=1))
    error = history.conflict("kubectl", deployment(replicas=2))
    assert error.message == 'Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas'


def test_versions_that_are_gone_have_no_managers() -> None:
    history = History().apply("a", deployment(replicas=1))
    history.entries[0]["apiVersion"] = "apps/v1beta1"
    history.apply("b", deployment(replicas=2))
    assert [entry["manager"] for entry in history.entries] == ["b"]


_UNTYPED = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"metadata": {"managedFields": [{}]}},
            "metadata.managedFields must be nil",
        ),
        (
            {"spec": {"foo": 1}},
            _UNTYPED + ".spec.foo: field not declared in schema",
        ),
        (
            {"spec": {"foo": 1, "replicas": "1"}},
            (_UNTYPED + "errors:\n  .spec.foo: field not declared in schema\n"
             "  .spec.replicas: expected numeric (int or float), got string"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_refused(config: Obj, message: str) -> None:
    whole = deployment()
    whole |= {**config, "metadata": {**whole["metadata"], **config.get("metadata", {})}}
    with pytest.raises(ApiError) as caught:
        History().apply("a", whole)
    assert (caught.value.code, caught.value.message) == (400, message)


# Client-side apply and back.


def test_what_the_annotation_shows_to_be_kubectls_is_no_conflict() -> None:
    config = deployment(replicas=1)
    live = copy.deepcopy(config)
    live["metadata"]["annotations"] = {last_applied.ANNOTATION: last_applied.text_of(config)}
    history = History().create("kubectl-client-side-apply", live)
    error = history.conflict("kubectl", deployment(replicas=2))
    assert history.obj is not None
    node = DEPLOYMENT.node("apps/v1")
    assert node is not None
    assert last_applied.settles(node, history.obj, error)
    changed = {**history.obj, "spec": {"replicas": 7}}
    assert not last_applied.settles(node, changed, error)
    assert last_applied.remaining(node, changed, error).message == error.message


def test_the_annotation_follows_what_is_applied() -> None:
    live = deployment(replicas=1)
    assert last_applied.updated(live, live) is live
    live["metadata"]["annotations"] = {last_applied.ANNOTATION: "{}", "other": "x"}
    config = deployment(replicas=2)
    config["metadata"]["annotations"] = {"note": "<&>", last_applied.ANNOTATION: "old"}
    assert last_applied.updated(live, config)["metadata"]["annotations"] == {
        "other": "x",
        last_applied.ANNOTATION: (
            r'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{"note":"\u003c\u0026\u003e"},'
            '"name":"web","namespace":"default"},"spec":{"replicas":2}}\n'
        ),
    }


# Laws.

_DATA = st.dictionaries(st.sampled_from("abcde"), st.sampled_from("xy"))


def config_map(data: dict[str, str]) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def applied(manager: str, live: Applied | None, data: dict[str, str], *, force: bool = False) -> Applied:
    obj = None if live is None else {**live.obj, "metadata": {**live.obj["metadata"], "managedFields": live.entries}}
    return managed_fields.apply(Author(manager, "v1"), CONFIG_MAP, obj, config_map(data), force, T0)


@given(_DATA, _DATA)
def test_applying_twice_is_applying_once(before: dict[str, str], data: dict[str, str]) -> None:
    once = applied("b", applied("a", None, before), data, force=True)
    assert applied("b", once, data) == once


@given(_DATA, _DATA, _DATA)
def test_who_applies_other_fields_never_conflicts(mine: Any, theirs: Any, later: Any) -> None:
    theirs = {"t" + key: value for key, value in theirs.items()}
    later = {"t" + key: value for key, value in later.items()}
    done = applied("b", applied("b", applied("a", None, mine), theirs), later)
    assert done.obj["data"] == {**mine, **later}
    assert applied("a", done, mine).obj == done.obj


@given(_DATA, _DATA, _DATA)
def test_the_order_of_appliers_that_agree_does_not_matter(common: Any, mine: Any, theirs: Any) -> None:
    mine = {**{"m" + key: value for key, value in mine.items()}, **common}
    theirs = {**{"t" + key: value for key, value in theirs.items()}, **common}
    one = applied("b", applied("a", None, mine), theirs)
    other = applied("a", applied("b", None, theirs), mine)
    assert one.obj["data"] == other.obj["data"]
    assert one.entries == other.entries


@given(st.lists(st.tuples(st.sampled_from("pqr"), _DATA, st.booleans()), max_size=8))
def test_the_last_word_holds_and_every_field_has_an_owner(steps: list[tuple[str, dict[str, str], bool]]) -> None:
    live: Applied | None = None
    for manager, data, by_update in steps:
        if live is not None and by_update:
            old = {**live.obj, "metadata": {**live.obj["metadata"], "managedFields": live.entries}}
            new = config_map({**live.obj.get("data", {}), **data})
            live = Applied(new, managed_fields.update(Author(manager, "v1"), CONFIG_MAP, old, new, T0))
        else:
            live = applied(manager, live, data, force=True)
        assert data.items() <= live.obj.get("data", {}).items()
        owners = [fieldset.at(entry["fieldsV1"], "f:data") or {} for entry in live.entries]
        for key in live.obj.get("data", {}):
            assert any("f:" + key in owned for owned in owners)
