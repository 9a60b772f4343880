"""Why a pod cannot have what the node's managers hand out."""

from __future__ import annotations


class ManagerError(Exception):
    """A container cannot have what it asks for; the pod fails with `UnexpectedAdmissionError`."""


class RefusedError(ManagerError):
    """The pod is refused for a reason of its own."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
