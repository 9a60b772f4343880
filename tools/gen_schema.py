"""Write what Kubernetes' OpenAPI definitions say, one compact file for each minor, as data of `pinnace.machinery`.

The source is the installed PyPI package `kubernetes-validate`, which carries every minor's definitions in a form bent
for JSON Schema validators: optional types allow null, `kind` and `apiVersion` carry enums, `IntOrString` and
`Quantity` became `oneOf`. This script undoes that and keeps facts alone (fields, types, formats, required fields,
merge and list keys, group-version-kinds); descriptions stay in the package and are read from there at run time.

A file is deflated text: its first line is the JSON index `[[group, version, kind, definition], ...]`, every other
line is `definition<TAB>JSON`, sorted, so that a reader can find a definition without parsing the rest.

    tools/gen_schema.py            write the files
    tools/gen_schema.py --check    exit 1 where a file is not what this script would write
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent.parent / "src/pinnace/machinery/schemas"
OLDEST = 30
SCALARS = {  # definitions that are one value on the wire, whatever shape the validators' form gives them
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"format": "quantity", "type": "string"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"format": "int-or-string", "type": "string"},
}
KEPT = (
    "$ref",
    "format",
    "required",
    "type",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-unions",
)
DROPPED = {"additionalProperties", "description", "enum", "items", "oneOf", "properties"}  # or treated one by one


def source_folder() -> Path:
    """Where the installed package keeps its definitions."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        sys.exit("gen_schema: the package kubernetes-validate is not installed")
    return Path(spec.origin).parent / "kubernetes-json-schema"


def minors(source: Path) -> list[int]:
    """The minors that the package carries, oldest first."""
    found = (re.fullmatch(r"v1\.(\d+)\.0-local", folder.name) for folder in source.iterdir())
    return sorted(int(match[1]) for match in found if match and int(match[1]) >= OLDEST)


def restore(node: dict[str, Any]) -> dict[str, Any]:
    """A schema node as Kubernetes publishes it, without prose."""
    unknown = node.keys() - DROPPED - set(KEPT)
    if unknown:
        sys.exit(f"gen_schema: the package has keywords this script does not know: {sorted(unknown)}")
    plain = {key: node[key] for key in KEPT if key in node}
    if isinstance(plain.get("type"), list):
        (plain["type"],) = (name for name in plain["type"] if name != "null")
    if "$ref" in plain:
        plain["$ref"] = plain["$ref"].removeprefix("#/$defs/")
    if "properties" in node:
        plain["properties"] = {name: restore(child) for name, child in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            plain[key] = restore(node[key])
    return plain


def facts(definitions: dict[str, Any]) -> bytes:
    """The text of one minor's file, before compression."""
    restored = {name: SCALARS.get(name) or restore(node) for name, node in sorted(definitions.items())}
    index = [
        [gvk["group"], gvk["version"], gvk["kind"], name]
        for name, node in restored.items()
        for gvk in node.pop("x-kubernetes-group-version-kind", ())
    ]
    lines = [compact(sorted(index)), *(f"{name}\t{compact(node)}" for name, node in restored.items())]
    return ("\n".join(lines) + "\n").encode()


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare, and exit 1 on a difference")
    check = parser.parse_args().check
    source = source_folder()
    OUTPUT.mkdir(exist_ok=True)
    wanted: dict[Path, bytes] = {}
    for minor in minors(source):
        document = json.loads((source / f"v1.{minor}.0-local" / "_definitions.json").read_bytes())
        wanted[OUTPUT / f"v1.{minor}.z"] = facts(document["$defs"])
    stale = [path for path in OUTPUT.glob("*.z") if path not in wanted]
    for path, text in wanted.items():
        # The text is compared, not the file: another zlib may deflate the same text to other bytes.
        if path.exists() and zlib.decompress(path.read_bytes()) == text:
            continue
        stale.append(path)
        if not check:
            path.write_bytes(zlib.compress(text, 9))
    if not check:
        for path in OUTPUT.glob("*.z"):
            if path not in wanted:
                path.unlink()
    for path in stale:
        sys.stderr.write(f"gen_schema: {path.name} {'differs' if check else 'written'}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
