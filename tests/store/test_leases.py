"""The records of who is at work in a remote."""

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import MalformedObject, RemoteMisconfigured, UnsupportedVersion
from store.leases import (
    Lease,
    LeaseKind,
    LeaseSeen,
    encode_lease,
    fetch_leases,
    is_of_dead_process,
    new_lease,
    parse_lease,
    take_lease,
)
from store.remote import LEASES_PREFIX, lease_key, parse_lease_key
from store.sealed_text import seal
from tests.fakes.buckets import Bucket
from tests.fakes.collected import Time, timed_bucket
from tests.fakes.processes import ended_process

HELD = "66666666-7777-4888-9999-aaaaaaaaaaaa/" + "c0" * 20
UUID = "12345678-1234-4234-8234-123456789abc"

texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


@given(st.sampled_from(list(LeaseKind)), texts, texts, st.booleans(), texts)
def test_what_was_written_is_read(
    kind: LeaseKind, owner: str, host: str, holds: bool, tool: str
) -> None:
    lease = Lease(kind, owner, host, (HELD,) if holds else (), tool)
    assert parse_lease(encode_lease(lease)) == lease


FIELDS: dict[str, object] = {"kind": "write", "owner": "", "host": "", "holds": [], "tool": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "erase"},
        {"kind": 1},
        {"holds": "no list"},
        {"holds": ["no commit"]},
        {"holds": [HELD, HELD]},
        {"host": "a\u001bb"},
        {"tool": "x" * 201},
        {"more": ""},
    ],
    ids=str,
)
def test_anything_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedObject):
        parse_lease(seal("lease", 1, FIELDS | changes))


def test_another_version_and_other_records_are_refused() -> None:
    with pytest.raises(UnsupportedVersion):
        parse_lease(seal("lease", 2, FIELDS))
    with pytest.raises(MalformedObject, match="not a revfs lease"):
        parse_lease(seal("manifest", 1, FIELDS))


def test_the_keys() -> None:
    assert parse_lease_key(lease_key(UUID)) == UUID
    assert parse_lease_key(LEASES_PREFIX + "note.txt") is None
    assert parse_lease_key(UUID) is None


def test_a_process_that_is_gone_is_told_from_others() -> None:
    own = new_lease(LeaseKind.WRITE, "test").owner
    assert not is_of_dead_process(own)
    machine = own.rpartition("/")[0]
    assert is_of_dead_process(f"{machine}/{ended_process()} 1")
    # The number is given to another process by now.
    assert is_of_dead_process(f"{machine}/{os.getpid()} 1")
    # Of other machines, boots and containers nothing is known.
    assert not is_of_dead_process(f"elsewhere/1/{ended_process()} 1")
    assert not is_of_dead_process("")
    assert not is_of_dead_process(f"{machine}/strange")


async def test_the_time_of_the_remote_is_never_said_to_be_later_than_it_is() -> None:
    here, there = Time(1000.5), Time(1100.9)

    class WholeSeconds(Bucket):
        def __init__(self) -> None:
            super().__init__(clock=lambda: float(int(there.seconds)))

    lease = new_lease(LeaseKind.WRITE, "test")
    held, listed = await take_lease(WholeSeconds(), lease, 5.0, here.clock)
    assert [info.key for info in listed] == [held.key]
    for _ in range(3):
        assert there.seconds - 1 < held.now_seconds <= there.seconds
        here.seconds += 1000
        there.seconds += 1000


async def test_a_remote_that_does_not_list_what_was_written_is_not_written_to() -> None:
    class Forgetful(Bucket):
        async def put(self, key: str, body: object, *, timeout_seconds: float) -> None:
            pass

    time = Time()
    with pytest.raises(RemoteMisconfigured, match="does not list what was just written"):
        await take_lease(Forgetful(), new_lease(LeaseKind.WRITE, "test"), 5.0, time.clock)


async def test_leases_of_others_are_read_and_the_damaged_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time = Time()
    bucket = timed_bucket(time)
    lease = replace(new_lease(LeaseKind.HOLD, "test", [HELD]), owner="")
    good, bad, gone = (lease_key(UUID[:-1] + digit) for digit in "123")
    bucket.objects[good] = encode_lease(lease), time.seconds - 10
    bucket.objects[bad] = b"damaged", time.seconds - 20
    bucket.objects[gone] = b"", time.seconds
    bucket.objects[LEASES_PREFIX + "note.txt"] = b"", time.seconds
    listed = await bucket.list_objects(LEASES_PREFIX, timeout_seconds=1)
    del bucket.objects[gone]
    found = await fetch_leases(bucket, listed, 1.0)
    assert found == [
        LeaseSeen(good, time.seconds - 10, lease),
        LeaseSeen(bad, time.seconds - 20, None),
    ]
    assert [seen.kind for seen in found] == [LeaseKind.HOLD, LeaseKind.WRITE]
    assert all(seen.is_live(time.seconds) for seen in found)
    assert not any(seen.is_live(time.seconds + 24 * 3600) for seen in found)
    assert caplog.text.count("cannot be read, and counts") == 1
