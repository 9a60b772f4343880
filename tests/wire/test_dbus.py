"""Messages of D-Bus, as its specification has them."""

from __future__ import annotations

import struct

import pytest

from pinnace.wire import dbus
from pinnace.wire.dbus import Answer, ProtocolError, marshal, variant
from tests.support.dbus import answer


@pytest.mark.parametrize(
    ("signature", "values", "hexed"),
    [
        ("s", ["foo"], "03000000 666f6f00"),  # the specification's own example
        ("u", [1], "01000000"),
        ("b", [True], "01000000"),
        ("su", ["ab", 7], "02000000 616200 00 07000000"),
        ("st", ["ab", 7], "02000000 616200 00 0700000000000000"),
        ("as", [["a", "b"]], "0e000000 01000000 6100 0000 01000000 6200"),
        ("as", [[]], "00000000"),
        ("at", [[5]], "08000000 00000000 0500000000000000"),
        ("at", [[]], "00000000 00000000"),  # aligned for what is not there
        ("v", [variant("u", 5)], "01 7500 00 05000000"),
        ("(sv)", [("a", variant("t", 5))], "01000000 6100 01 7400 00000000000000 0500000000000000"),
        ("a(sv)", [[("a", variant("b", True))]], "10000000 00000000 01000000 6100 01 6200 000000 01000000"),
    ],
)
def test_values_are_written_where_they_belong(signature: str, values: list[object], hexed: str) -> None:
    assert marshal(signature, *values).hex(" ") == bytes.fromhex(hexed).hex(" ")


def test_a_call_is_what_the_specification_says() -> None:
    """Byte order, type, flags, version; length of the body, serial, length of the fields; the fields, and the body."""
    fields = "01016f00 02000000 2f6f00 0000000000 02017300 03000000 612e6200 00000000"
    fields += "03017300 02000000 446f00 0000000000 08016700 017300"

    message = dbus.call(3, "/o", "a.b", "Do", "s", "x")

    head = "6c010001 06000000 03000000 37000000"
    assert message.hex(" ") == bytes.fromhex(f"{head} {fields} 00 01000000 7800").hex(" ")


def test_answers_tell_which_call_they_are_for_and_what_is_wrong() -> None:
    done = answer(dbus.METHOD_RETURN, [(5, variant("u", 3)), (8, variant("g", "o"))], marshal("o", "/job/1"))
    wrong = answer(
        dbus.ERROR,
        [(4, variant("s", "org.x.NoSuchUnit")), (5, variant("u", 4)), (8, variant("g", "s"))],
        marshal("s", "Unit x not loaded."),
    )
    signal = answer(4, [(1, variant("o", "/a")), (2, variant("s", "a.b")), (3, variant("s", "C"))])

    assert dbus.parse(done + wrong) == (Answer(3), len(done))
    assert dbus.parse(wrong) == (Answer(4, "org.x.NoSuchUnit", "Unit x not loaded."), len(wrong))
    assert dbus.parse(signal) == (Answer(0), len(signal))


def test_a_message_is_waited_for_until_it_is_all_there() -> None:
    whole = answer(dbus.METHOD_RETURN, [(5, variant("u", 3)), (8, variant("g", "o"))], marshal("o", "/job/1"))

    assert [dbus.parse(whole[:length]) for length in range(len(whole))] == [None] * len(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        struct.pack("<4BIII", ord("l"), 2, 1, 1, 0xFFFFFFFF, 9, 0),
        struct.pack("<4BIII", ord("l"), 2, 1, 1, 0, 9, 8) + b"\x05\x01a\x00" + bytes(4),
        struct.pack("<4BIII", ord("l"), 2, 1, 1, 0, 9, 16) + b"\x05\x01s\x00" + b"\1\0\0\0\xff\0" + bytes(6),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        dbus.parse(data)
