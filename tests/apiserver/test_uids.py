"""Uids of objects."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from pinnace.apiserver.uids import AT_ONCE, fresh_uid


def test_uids_are_random_uuids_of_version_4_and_all_different() -> None:
    made = [fresh_uid() for _ in range(3 * AT_ONCE)]
    parsed = [UUID(uid) for uid in made]
    assert len(set(made)) == len(made)
    assert {(uid.version, uid.variant) for uid in parsed} == {(4, RFC_4122)}
    assert [str(uid) for uid in parsed] == made
    assert {uid[19] for uid in made} == set("89ab")
