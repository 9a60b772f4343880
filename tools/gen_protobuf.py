"""Write which number each field has in Kubernetes' protobuf messages, as data of `pinnace.apiserver`.

Clients written in Go send typed objects as protobuf (`kubectl create configmap` does), and OpenAPI does not know the
field numbers. They are part of the API's wire format, and every kubectl up to 1.33 carries them: its generated code
registers compressed `FileDescriptorProto` messages (https://protobuf.dev/reference/protobuf/google.protobuf/). This
script finds those in the program file and keeps number, name and type of each field of the stable versions.

The result is deflated JSON: `{message: {number: [name, type, message or ""]}}`, type as in FieldDescriptorProto,
negative for a repeated field, 0 for a map (whose third item is then `[key type, value type, value message]`).

    tools/gen_protobuf.py /path/to/kubectl
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from pinnace.apiserver.protobuf import wire_fields

OUTPUT = Path(__file__).parent.parent / "src/pinnace/apiserver/protobuf.z"
MESSAGE, REPEATED = 11, 3
STABLE = re.compile(r"k8s\.io\.(api\.[a-z]+\.v\d+|apimachinery\.pkg\..*)")


def descriptors(program: bytes) -> list[bytes]:
    """Every FileDescriptorProto in the program file."""
    found = []
    for match in re.finditer(rb"\x1f\x8b\x08", program):
        inflater = zlib.decompressobj(31)
        try:
            text = inflater.decompress(program[match.start() : match.start() + 200_000])
        except zlib.error:
            continue
        if inflater.eof and text[:1] == b"\n" and text[2 : 2 + text[1]].endswith(b".proto"):
            found.append(text)
    return found


def gather(message: bytes) -> dict[int, list[Any]]:
    fields: dict[int, list[Any]] = {}
    for number, _, value in wire_fields(message):
        fields.setdefault(number, []).append(value)
    return fields


def read_message(body: bytes, prefix: str, out: dict[str, Any]) -> None:
    parsed = gather(body)
    name = f"{prefix}.{parsed[1][0].decode()}"
    entries: dict[str, Any] = {}
    for nested in parsed.get(3, []):
        inner = gather(nested)
        fields = {field[3][0]: field for field in map(gather, inner[2])}
        value = fields[2]
        entries[f".{name}.{inner[1][0].decode()}"] = [fields[1][5][0], value[5][0], _target(value)]
    fields_out: dict[str, Any] = {}
    for field in map(gather, parsed.get(2, [])):
        target, kind = _target(field), field[5][0]
        entry = entries.get(f".{target}")
        if entry is not None:
            shape: list[Any] = [field[1][0].decode(), 0, entry]
        else:
            shape = [field[1][0].decode(), -kind if field[4][0] == REPEATED else kind, target]
        fields_out[str(field[3][0])] = shape
    out[name] = fields_out


def _target(field: dict[int, list[Any]]) -> str:
    return field[6][0].decode().lstrip(".") if 6 in field else ""


def main() -> None:
    messages: dict[str, Any] = {}
    for descriptor in descriptors(Path(sys.argv[1]).read_bytes()):
        parsed = gather(descriptor)
        package = parsed[2][0].decode()
        if STABLE.fullmatch(package):
            for message in parsed.get(4, []):
                read_message(message, package, messages)
    text = json.dumps(messages, separators=(",", ":"), sort_keys=True).encode()
    OUTPUT.write_bytes(zlib.compress(text, 9))
    sys.stdout.write(f"{len(messages)} messages, {OUTPUT.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
