"""Decoding documents against the schemas of every minor."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.machinery import gotypes
from pinnace.machinery.decoding import DecodeError
from pinnace.machinery.meta import GVK
from pinnace.machinery.schema import Schema, Schemas

DEPLOYMENT = GVK("apps", "v1", "Deployment")
POD = GVK("", "v1", "Pod")


def decode(gvk: GVK, spec: Any, *, strict: bool = False, minor: int | None = None, **more: Any) -> Any:
    schema = Schemas.load(minor).for_gvk(gvk)
    assert schema is not None
    document = {"apiVersion": gvk.api_version, "kind": gvk.kind, "metadata": {"name": "x"}, "spec": spec, **more}
    return schema.decode(document, strict)


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", **fields}]}


def test_every_minor_from_1_30_on_is_carried() -> None:
    minors = Schemas.minors()

    assert minors[0] == 30
    assert minors == list(range(30, minors[-1] + 1))
    assert Schemas.load().minor == minors[-1]


def test_a_minor_that_is_not_carried_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match=r"Kubernetes 1\.9 is not one of the versions carried: 1\.30, "):
        Schemas.load(9)


@pytest.mark.parametrize("minor", Schemas.minors())
def test_every_definition_of_a_minor_can_be_walked(minor: int) -> None:
    schemas = Schemas.load(minor)

    for name in schemas.names():
        definition = schemas.definition(name)
        assert definition.short_name == name.rpartition(".")[2]
        for field in definition.fields.values():
            assert field.type


def test_the_committed_files_are_what_the_generator_writes() -> None:
    script = Path(__file__).parents[2] / "tools/gen_schema.py"

    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr


def test_a_document_in_order_is_returned_as_it_is() -> None:
    schema = Schemas.load().for_gvk(POD)
    assert schema is not None
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "creationTimestamp": "2026-02-28T23:59:59Z", "labels": {"a": "b"}},
        "spec": container(image="y", resources={"limits": {"cpu": "100m", "memory": "1Gi"}}, args=["a"]),
    }

    decoded, warnings = schema.decode(document, True)

    assert decoded is document
    assert warnings == []


def test_nulls_empty_lists_and_empty_maps_are_dropped_and_the_original_is_left_alone() -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "creationTimestamp": None, "labels": {}},
        "spec": {
            **container(args=[], env=None, resources={}),
            "nodeSelector": {},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    schema = Schemas.load().for_gvk(POD)
    assert schema is not None

    decoded, _ = schema.decode(document)

    assert decoded["metadata"] == {"name": "x"}
    assert decoded["spec"] == {
        "containers": [{"name": "c", "resources": {}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    assert document["metadata"] == {"name": "x", "creationTimestamp": None, "labels": {}}


def test_a_required_list_may_be_empty() -> None:
    decoded, _ = decode(POD, {"containers": []})

    assert decoded["spec"] == {"containers": []}


def test_required_fields_are_left_to_validation() -> None:
    decoded, _ = decode(DEPLOYMENT, {})

    assert decoded["spec"] == {}


def test_nulls_inside_maps_and_lists_become_zero_values() -> None:
    decoded, _ = decode(POD, container(args=["a", None]), metadata={"name": "x", "labels": {"a": None}})

    assert decoded["spec"]["containers"][0]["args"] == ["a", ""]
    assert decoded["metadata"]["labels"] == {"a": ""}


def test_unknown_fields_are_dropped_with_a_warning() -> None:
    decoded, warnings = decode(DEPLOYMENT, {"foo": 1, "template": {"spec": container(bar=2)}})

    assert decoded["spec"] == {"template": {"spec": {"containers": [{"name": "c"}]}}}
    assert warnings == ['unknown field "spec.foo"', 'unknown field "spec.template.spec.containers[0].bar"']


def test_unknown_fields_are_refused_when_strict() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(DEPLOYMENT, {"foo": 1, "template": {"spec": container(bar=2)}}, strict=True)

    assert caught.value.code == 400
    assert caught.value.reason == "BadRequest"
    assert caught.value.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "spec.foo", unknown field "spec.template.spec.containers[0].bar"'
    )


@pytest.mark.parametrize(
    ("gvk", "spec", "cause"),
    [
        (
            DEPLOYMENT,
            {"replicas": "3"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"replicas": 3.5},
            "json: cannot unmarshal number 3.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"replicas": 1 << 31},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"paused": "yes"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            DEPLOYMENT,
            {"template": {"spec": container(env=[{"name": "a", "value": 1}])}},
            ("json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value "
            "of type string"),
        ),
        (
            POD,
            {"restartPolicy": 5},
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            POD,
            container(securityContext={"capabilities": {"add": [5]}}),
            (
                "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext."
                "capabilities.add of type v1.Capability"
            ),
        ),
        (
            POD,
            container(resources={"limits": 5}),
            (
                "json: cannot unmarshal number into Go struct field ResourceRequirements.spec.containers.resources."
                "limits of type v1.ResourceList"
            ),
        ),
        (
            POD,
            {"containers": {}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            POD,
            {"containers": ["a"]},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            POD,
            {"nodeSelector": {"a": True}},
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            POD,
            {"nodeSelector": []},
            "json: cannot unmarshal array into Go struct field PodSpec.spec.nodeSelector of type map[string]string",
        ),
        (
            POD,
            container(resources={"limits": {"cpu": "much"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (POD, container(resources={"limits": {"cpu": "1Zi"}}), ("quantities must match the regular expression "
         "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")),
        (POD, container(resources={"limits": {"cpu": "1mm"}}), "unable to parse quantity's suffix"),
        (
            POD,
            container(livenessProbe={"httpGet": {"port": True}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ],
)  # fmt: skip
def test_wrong_types_are_refused_in_the_decoders_words(gvk: GVK, spec: Any, cause: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(gvk, spec)

    assert caught.value.cause == cause
    assert caught.value.message == f'{gvk.kind} in version "v1" cannot be handled as a {gvk.kind}: {cause}'


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        (2, "2"),
        (0.25, "250m"),
        ("1e3", "1e3"),
        (" 1 ", "1"),
    ],
)
def test_quantities_are_kept_in_canonical_form(given: Any, kept: str) -> None:
    decoded, _ = decode(POD, container(resources={"limits": {"cpu": given}}))

    assert decoded["spec"]["containers"][0]["resources"]["limits"]["cpu"] == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00.5+01:00", "2023-12-31T23:00:00Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_times_are_kept_in_utc_and_whole_seconds(given: str, kept: str) -> None:
    decoded, _ = decode(POD, {}, metadata={"name": "x", "creationTimestamp": given})

    assert decoded["metadata"]["creationTimestamp"] == kept


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("foo", 'parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006"'),
        ("", 'parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006"'),
        ("2024-01-01", 'parsing time "2024-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2024-13-01T00:00:00Z", 'parsing time "2024-13-01T00:00:00Z": month out of range'),
        ("2023-02-29T00:00:00Z", 'parsing time "2023-02-29T00:00:00Z": day out of range'),
        (5, "json: cannot unmarshal number into Go value of type string"),
    ],
)
def test_what_is_no_time_is_refused(given: Any, cause: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(POD, {}, metadata={"name": "x", "creationTimestamp": given})

    assert caught.value.cause == cause


def test_micro_times_have_six_digits() -> None:
    lease = GVK("coordination.k8s.io", "v1", "Lease")
    decoded, _ = decode(lease, {"renewTime": "2024-01-01T00:00:00.123456Z"})
    assert decoded["spec"]["renewTime"] == "2024-01-01T00:00:00.123456Z"

    with pytest.raises(DecodeError, match=r'cannot parse "Z" as ".000000"'):
        decode(lease, {"renewTime": "2024-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("given", "offset"), [("YQ=", 3), ("YQ", 0), ("Y Q=", 1), ("YQ==YQ", 4), ("Y*==", 1), ("====", 0)]
)
def test_bad_base64_is_refused_with_its_offset(given: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(GVK("", "v1", "Secret"), None, data={"a": given})

    assert caught.value.cause == f"illegal base64 data at input byte {offset}"


def test_base64_with_line_breaks_is_joined() -> None:
    decoded, _ = decode(GVK("", "v1", "Secret"), None, data={"a": "YW\nJj\r\n"})

    assert decoded["data"] == {"a": "YWJj"}


def test_definitions_that_contain_themselves_decode() -> None:
    crd = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    spec = {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}

    decoded, warnings = decode(crd, spec, strict=True)

    assert decoded["spec"] == spec
    assert warnings == []


def test_a_definition_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(2000):
        schema = {"type": "object", "properties": {"a": schema}}
    crd = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")

    with pytest.raises(DecodeError, match="exceeded max depth"):
        decode(crd, {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]})


def test_nulls_among_any_values_are_kept() -> None:
    crd = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    schema = {"type": "string", "nullable": True, "enum": ["a", None]}
    spec = {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}

    decoded, _ = decode(crd, spec)

    assert decoded["spec"] == spec


def test_patch_metadata_can_be_reached_by_walking() -> None:
    schema = Schemas.load().for_gvk(DEPLOYMENT)
    assert schema is not None

    containers = schema.fields["spec"].fields["template"].fields["spec"].fields["containers"]
    assert (containers.patch_merge_key, containers.patch_strategy) == ("name", ("merge",))
    assert (containers.list_type, containers.list_map_keys) == ("map", ("name",))
    assert schema.fields["spec"].fields["strategy"].patch_strategy == ("retainKeys",)
    assert schema.child("nothing") is None


def test_options_kinds_are_found_under_the_core_version() -> None:
    schema = Schemas.load().for_gvk(GVK("", "v1", "DeleteOptions"))
    assert schema is not None

    decoded, _ = schema.decode({"propagationPolicy": "Foreground", "gracePeriodSeconds": 0}, True)

    assert decoded == {"propagationPolicy": "Foreground", "gracePeriodSeconds": 0}


def test_every_named_go_type_belongs_to_a_field() -> None:
    schemas = Schemas.load()
    known = {
        f"{definition.short_name}.{field}"
        for definition in map(schemas.definition, schemas.names())
        for field in definition.fields
    }

    assert gotypes.NAMED.keys() <= known


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1 << 40,
        1.5,
        "",
        "a",
        "1",
        "1000m",
        "2024-01-01T00:00:00+01:00",
        "YQ==",
        [],
        [None],
        {},
        {"a": 1},
    ]
)


@st.composite
def documents(draw: st.DrawFn, schema: Schema, depth: int = 4) -> Any:
    """A value that fits the schema more or less: a few fields of each object, some of them wrong or unknown."""
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(ODD)
    if schema.type == "object":
        names = draw(st.lists(st.sampled_from([*schema.fields, "unknown"]), unique=True, max_size=3))
        return {name: draw(documents(schema.fields[name], depth - 1)) if name != "unknown" else 1 for name in names}
    if schema.items is not None:
        items = draw(st.lists(documents(schema.items, depth - 1), max_size=2))
        return items if schema.type == "list" else {str(index): item for index, item in enumerate(items)}
    return draw(ODD)


@pytest.mark.parametrize("kind", [POD, DEPLOYMENT, GVK("", "v1", "Secret"), GVK("coordination.k8s.io", "v1", "Lease")])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_document_is_decoded_for_good_or_refused(kind: GVK, data: st.DataObject) -> None:
    schema = Schemas.load().for_gvk(kind)
    assert schema is not None
    document = data.draw(documents(schema))
    before = copy.deepcopy(document)
    try:
        decoded, _ = schema.decode(document)
    except DecodeError:
        decoded = {}

    assert document == before
    again, warnings = schema.decode(decoded, True)
    assert again is decoded
    assert warnings == []
