"""Durations and errors as programs in Go write them."""

from __future__ import annotations

import pytest

from pinnace.cri.api import CriError
from pinnace.kubelet.go_words import duration, os_error, rpc_error


@pytest.mark.parametrize(
    ("seconds", "digits", "text"),
    [
        (0, 9, "0s"),
        (1.5, 9, "1.5s"),
        (0.25, 9, "250ms"),
        (120, 9, "2m0s"),
        (3605, 9, "1h0m5s"),
        (1.23456, 3, "1.234s"),
        (0.0000015, 9, "1.5µs"),
        (10, 9, "10s"),
    ],
)
def test_durations(seconds, digits, text):
    assert duration(seconds, digits) == text


def test_rpc_error():
    assert rpc_error(CriError("DEADLINE_EXCEEDED", "late")) == "rpc error: code = DeadlineExceeded desc = late"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: no such file or directory"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError("mount: wrong type"), "mount: wrong type"),
        (ValueError("Else"), "Else"),
    ],
)
def test_what_the_system_refuses(error, text):
    assert os_error(error) == text
