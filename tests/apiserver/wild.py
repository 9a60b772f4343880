"""Requests as nobody means them: made from the served OpenAPI, right enough to get far and wrong in every way.

All of it follows from one seed, so that what failed can be sent again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

WORDS = """
a web default kube-system Always Never OnFailure TCP UDP ClusterIP NodePort LoadBalancer ExternalName
RollingUpdate Recreate OnDelete IfNotPresent ReadWriteOnce Prefix Exact IPv4 IPv6 NoSchedule NoExecute Exists
Equal In NotIn Gt DoesNotExist Block Filesystem Delete Retain Immediate Allow Forbid Replace Namespaced Cluster
CREATE UPDATE Ignore Fail None Local Any Service User Group ServiceAccount Limited Exempt Reject Queue v1
apps/v1 batch pods Pod/status example.com kubernetes.io/hostname 10.96.0.1 10.0.0.0/8 ::1 fd00::/8 100m 1Gi 1e3
-5 0.5 50% 200% 1h30m 2024-01-01 2024-01-01T00:00:00Z 2024-13-01T00:00:00.000000Z self.x==1
object.spec.replicas>1 .spec.replicas {{ * @daily
""".split()  # noqa: SIM905 # a list of quoted words would fill a page
TEXTS = (
    *(
        "",
        " ",
        "\x00",
        "é",
        "\U0001f388",
        "\ud7ff",
        "a" * 64,
        "a" * 254,
        "..",
        "../..",
        "%",
        "%2F",
        "a/b/c",
        "A_B",
        "-a",
    ),
    *("a\nb", '"', "\\", "[", "(?P<", "9" * 40, "null", "true", "$patch", "~1", "a,b=c", "=", "!", "a in (", "0x10"),
    *("* * * * *", "0 0 31 2 *", "a=b", "1\u0660"),
)
NUMBERS = (0, 1, -1, 2, 3, 80, 65535, 65536, 2**31 - 1, 2**31, -(2**63), 2**63 - 1, 2**64, 10**30, 1.5, -0.0, 1e300)
MEDIA = (
    *("application/json", "application/yaml", "application/cbor", "application/vnd.kubernetes.protobuf", "text/plain"),
    *("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/json;stream=watch", "*/*", ";;,="),
    *("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/json; charset=latin-1", ""),
)
PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
           "application/apply-patch+yaml", "application/apply-patch+cbor")  # fmt: skip
DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers",
              "$setElementOrder/ports", "$deleteFromPrimitiveList/args")  # fmt: skip
POINTERS = (
    *(
        "",
        "/",
        "/metadata/labels",
        "/metadata/name",
        "/spec",
        "/spec/containers/0/image",
        "/spec/containers/-",
        "/kind",
    ),
    *("/metadata/annotations/a~1b", "/data/a", "/metadata", "/a/b/c", "x", "/spec/ports/99", "/metadata/uid"),
)
MAX_DEPTH = 9


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as a document tells of it."""

    method: str
    path: str  # with {names}
    parameters: tuple[tuple[str, str], ...]  # of the query: name, type
    kind: tuple[str, str]  # apiVersion and kind
    schema: Any  # of the body, or None


@dataclass(slots=True)
class Sent:
    """What is sent."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


def operations(document: Any) -> list[Operation]:
    """Every operation of an OpenAPI v3 document."""
    found = []
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, told in item.items():
            if method == "parameters":
                continue
            named = [one for one in (*shared, *told.get("parameters", ())) if one.get("in") == "query"]
            kind = told.get("x-kubernetes-group-version-kind") or {}
            group, version = kind.get("group", ""), kind.get("version", "")
            schemas = [
                one["schema"] for one in told.get("requestBody", {}).get("content", {}).values() if "schema" in one
            ]
            found.append(
                Operation(
                    method.upper(),
                    path,
                    tuple((one["name"], one.get("schema", {}).get("type", "string")) for one in named),
                    (f"{group}/{version}" if group else version, kind.get("kind", "")),
                    schemas[0] if schemas else None,
                )
            )
    return found


@dataclass(slots=True)
class Wild:
    """Makes requests from one document's schemas."""

    random: Random
    schemas: dict[str, Any]
    samples: dict[tuple[str, str], Any] = field(default_factory=dict)  # right bodies, by apiVersion and kind
    name: str = "first"  # of this request's object

    def request(self, operation: Operation) -> Sent:
        pick = self.random
        self.name = "first" if pick.random() < 0.7 else pick.choice(("a", "web", "default", "kubernetes"))
        path = "/".join(self._segment(part) for part in operation.path.split("/"))
        headers = self._headers(operation)
        query = self._query(operation, headers["content-type"])
        body = self._body(operation, headers)
        return Sent(operation.method, path, urlencode(query, errors="replace"), headers, body)

    def _segment(self, part: str) -> str:
        if not part.startswith("{"):
            return part
        if part == "{namespace}":
            return self.random.choice(("default", "default", "default", "kube-system", "none", "-"))
        if self.random.random() < 0.03:
            return quote(self.random.choice(TEXTS), safe="", errors="replace")
        return self.name

    def _query(self, operation: Operation, content_type: str) -> dict[str, str]:
        pick = self.random
        often = 0.2 if operation.method in ("GET", "DELETE") else 0.04
        query = {name: self._parameter(name, kind) for name, kind in operation.parameters if pick.random() < often}
        if "apply" in content_type:
            query |= {"fieldManager": pick.choice(("a", "b")), "force": pick.choice(("true", "false"))}
        if pick.random() < 0.03:
            query[pick.choice(WORDS)] = pick.choice(TEXTS)
        return query

    def _parameter(self, name: str, kind: str) -> str:
        pick = self.random
        if kind == "boolean" or pick.random() < 0.1:
            return pick.choice(("true", "false", "1", "t", "", "maybe"))
        if kind == "integer":
            return str(pick.choice(NUMBERS))
        known = {
            "labelSelector": ("a=b", "a in (b,c),!d", "a notin (", "a>1", "=,", "x=" + "y" * 70),
            "fieldSelector": (
                "metadata.name=a",
                "spec.nodeName!=",
                "status.phase=Running,a",
                "metadata.namespace=x",
                "==",
            ),
            "continue": ("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0", "e30", "!", "bnVsbA", "AAAA" * 50),
            "resourceVersion": ("0", "1", "-1", "99999999999999999999", "a", ""),
            "resourceVersionMatch": ("Exact", "NotOlderThan", "Other"),
            "dryRun": ("All", "Some", "All,All"),
            "propagationPolicy": ("Foreground", "Background", "Orphan", "x"),
            "fieldValidation": ("Strict", "Warn", "Ignore", "x"),
        }.get(name, ())
        return pick.choice((*known, pick.choice(TEXTS), pick.choice(WORDS)))

    def _headers(self, operation: Operation) -> dict[str, str]:
        pick = self.random
        headers = {"accept": "application/json", "content-type": "application/json"}
        if operation.method == "PATCH":
            headers["content-type"] = pick.choice(PATCHES)
        for name, values in (
            ("accept", MEDIA),
            ("content-type", (*MEDIA, *PATCHES)),
            ("user-agent", ("kubectl/v1.30", "", "\x7f" * 9)),
            ("if-none-match", ('"x"', "*")),
            ("accept-encoding", ("gzip", "br;q=x", "*;q=0")),
            ("content-encoding", ("gzip", "identity")),
        ):
            if pick.random() < 0.02:
                headers[name] = pick.choice(values)
        if pick.random() < 0.02:
            headers["impersonate-user"] = pick.choice(("system:admin", "", "system:serviceaccount:a", "x" * 300))
            headers[pick.choice(("impersonate-group", "impersonate-uid", "impersonate-extra-a%2fb"))] = pick.choice(
                WORDS
            )
        return headers

    def _body(self, operation: Operation, headers: dict[str, str]) -> bytes:
        pick = self.random
        if operation.method == "GET" or (operation.schema is None and pick.random() < 0.7):
            return b""
        if pick.random() < 0.03:
            return pick.choice(
                (b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b"k8s\x00", b"[" * 2000, b'{"a":' * 999, b"a: &x [*x]")
            )
        document = self._document(operation, headers["content-type"])
        return json.dumps(document).encode("utf-8", "surrogatepass")

    def _document(self, operation: Operation, content_type: str) -> Any:
        pick = self.random
        if "json-patch" in content_type:
            return [self._operation() for _ in range(pick.randrange(4))]
        sample = self.samples.get(operation.kind)
        whole = "{name}/" not in operation.path
        if sample is not None and whole and pick.random() < 0.8:
            document = self.changed(sample, operation.schema or {})
        else:
            document = self.value(operation.schema or {})
        if not isinstance(document, dict):
            return document
        if pick.random() < 0.97:
            document["apiVersion"], document["kind"] = operation.kind
            metadata = document.get("metadata")
            kept = metadata if isinstance(metadata, dict) and pick.random() < 0.3 else {}
            document["metadata"] = {**kept, "name": self.name}
        if "strategic" in content_type:
            self._direct(document)
        return document

    def _operation(self) -> Any:
        """One operation of a JSON patch."""
        pick = self.random
        made: dict[str, Any] = {
            "op": pick.choice(("add", "remove", "replace", "move", "copy", "test", "x")),
            "path": pick.choice(POINTERS),
        }
        if pick.random() < 0.8:
            made["value"] = self._junk(2)
        if pick.random() < 0.4:
            made["from"] = pick.choice(POINTERS)
        return made if pick.random() < 0.95 else self._junk(1)

    def _direct(self, node: Any) -> None:
        """Put a directive of strategic merge patches somewhere into it."""
        pick = self.random
        holders = list(_mappings(node))
        if holders and pick.random() < 0.5:
            value = pick.choice(("replace", "delete", "merge", ["a"], [{"name": "a"}], None, 1))
            pick.choice(holders)[pick.choice(DIRECTIVES)] = value

    def value(self, schema: Any, depth: int = 0) -> Any:
        """A value of the schema, or now and then of none."""
        pick = self.random
        if pick.random() < 0.01:
            return self._junk(2)
        schema = self._resolved(schema)
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            count = 0 if depth > MAX_DEPTH else pick.choice((0, 1, 1, 2))
            return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
        if kind == "boolean":
            return pick.random() < 0.5
        if kind in ("integer", "number"):
            return pick.choice(NUMBERS) if pick.random() < 0.1 else pick.choice((0, 1, 2, 30, 80, 8080, -1, 65536))
        if kind == "string":
            return self._text(schema)
        return self._junk(1)

    def changed(self, sample: Any, schema: Any, depth: int = 0) -> Any:
        """A right value with something of it made anew, and something added."""
        pick = self.random
        schema = self._resolved(schema)
        if depth and pick.random() < 0.07:
            return self.value(schema, depth)
        if isinstance(sample, list):
            return [self.changed(one, schema.get("items", {}), depth + 1) for one in sample]
        if not isinstance(sample, dict):
            return sample
        told = schema.get("properties", {})
        made = {
            name: self.changed(value, told.get(name, {}), depth + 1)
            for name, value in sample.items()
            if pick.random() > 0.03
        }
        for name, inner in told.items():
            if name not in sample and pick.random() < 0.06:
                made[name] = self.value(inner, depth + 1)
        return made

    def _resolved(self, schema: Any) -> Any:
        """The schema that references lead to; one of several that are offered."""
        while "$ref" in schema or "allOf" in schema or "oneOf" in schema:
            if "$ref" in schema:
                schema = self.schemas.get(schema["$ref"].rpartition("/")[2], {})
            else:
                schema = self.random.choice(schema.get("allOf") or schema["oneOf"])
        return schema

    def _object(self, schema: Any, depth: int) -> Any:
        pick = self.random
        if "properties" not in schema:
            extra = schema.get("additionalProperties")
            inner = extra if isinstance(extra, dict) else {"type": "string"}
            return {self._text({}): self.value(inner, depth + 1) for _ in range(pick.choice((0, 1, 2)))}
        likely = 0.5 if depth < 3 else 0.25 if depth < MAX_DEPTH else 0.0
        required = schema.get("required", ())
        return {
            name: self.value(inner, depth + 1)
            for name, inner in schema["properties"].items()
            if name == "spec" or (name in required and pick.random() < 0.95) or pick.random() < likely
        }

    def _text(self, schema: Any) -> str:
        pick = self.random
        if schema.get("enum") and pick.random() < 0.9:
            return str(pick.choice(schema["enum"]))
        if schema.get("format") == "date-time" and pick.random() < 0.8:
            return "2024-01-01T00:00:00Z"
        if schema.get("format") == "byte" and pick.random() < 0.8:
            return "YWJj"
        return pick.choice(TEXTS) if pick.random() < 0.15 else pick.choice(WORDS)

    def _junk(self, depth: int) -> Any:
        pick = self.random
        choice = pick.randrange(7 if depth else 5)
        if choice == 0:
            return None
        if choice == 1:
            return pick.choice(NUMBERS)
        if choice == 2:
            return pick.choice(TEXTS)
        if choice == 3:
            return pick.choice(WORDS)
        if choice == 4:
            return pick.random() < 0.5
        if choice == 5:
            return [self._junk(depth - 1) for _ in range(pick.randrange(3))]
        return {pick.choice((*WORDS, *TEXTS, "metadata", "spec", "name")): self._junk(depth - 1) for _ in range(2)}


def _mappings(node: Any) -> Any:
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from _mappings(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _mappings(inner)
