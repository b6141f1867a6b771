"""Targets: the sealed records of a remote, the keys in it, `revfs.lock`, rows of the cache index,
and messages between processes."""

import json
from collections.abc import Iterator
from contextlib import suppress

from store import byte_ranges, messages
from store.cache_rows import PackPlace, is_place, pack_place, parse_place, parse_span
from store.chunking import DEFAULT_CHUNKING
from store.errors import MalformedObject, RemoteDenied, StoreError
from store.ids import ChunkId, GitId, PackName, hash_bytes
from store.leases import Lease, LeaseKind, encode_lease, parse_lease
from store.manifests import (
    Manifest,
    encode_manifest,
    manifest_key,
    parse_manifest,
    parse_manifest_key,
)
from store.packs import PackEntry
from store.remote import (
    index_key,
    lease_key,
    pack_key,
    parse_index_key,
    parse_lease_key,
    parse_pack_key,
    parse_tomb_key,
    restored_key,
    tomb_key,
    trash_key,
)
from store.remote_format import RemoteFormat, encode_remote_format, parse_remote_format
from store.stage_lock import encode_lock, parse_lock
from store.stages import Stage, StageRecord
from tests.fuzz.target import Refused, Target, only

REPOSITORY = "66666666-7777-4888-9999-aaaaaaaaaaaa"
COMMIT = GitId("c0" * 20)
PACK = PackName("ab" * 16)
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
PLACE = PackPlace(PACK, PackEntry(ChunkId(bytes(32)), 8, 5, 5, 0))


def _as_it_is_and_sealed(kind: str, raw: bytes) -> Iterator[bytes]:
    """The bytes; and the first line of them as the payload of a record with a right seal."""
    yield raw
    body = b"revfs-%s 1\n%s\n" % (kind.encode(), raw.split(b"\n")[0])
    yield body + b"blake3 %s\n" % hash_bytes(body).hex().encode()


def check_manifest(raw: bytes) -> None:
    """One spelling."""
    for text in _as_it_is_and_sealed("manifest", raw):
        with suppress(Refused):
            with only(MalformedObject):
                found = parse_manifest(text)
            assert encode_manifest(found) == text


def manifest_seeds() -> Iterator[bytes]:
    """Records, and their payloads alone."""
    for packs in ((), (PACK,), (PackName("00" * 16), PACK)):
        raw = encode_manifest(Manifest(REPOSITORY, COMMIT, packs, ("cd" * 32,), (), "revfs"))
        yield from (raw, raw.split(b"\n")[1])


def check_remote_format(raw: bytes) -> None:
    """One spelling."""
    for text in _as_it_is_and_sealed("format", raw):
        with suppress(Refused):
            with only(MalformedObject):
                found = parse_remote_format(text)
            assert encode_remote_format(found) == text


def remote_format_seeds() -> Iterator[bytes]:
    """A record, and its payload alone."""
    raw = encode_remote_format(RemoteFormat(REPOSITORY, DEFAULT_CHUNKING))
    yield from (raw, raw.split(b"\n")[1])


def check_lease(raw: bytes) -> None:
    """One spelling."""
    for text in _as_it_is_and_sealed("lease", raw):
        with suppress(Refused):
            with only(MalformedObject):
                found = parse_lease(text)
            assert encode_lease(found) == text


def lease_seeds() -> Iterator[bytes]:
    """A record of each kind, and its payload alone."""
    for kind in LeaseKind:
        raw = encode_lease(Lease(kind, "boot/1/2 3", "host", (f"{REPOSITORY}/{COMMIT}",), "revfs"))
        yield from (raw, raw.split(b"\n")[1])


def check_keys(raw: bytes) -> None:
    """Only the very key of an object is one."""
    key = raw.decode("utf-8", "replace")
    pack, index, manifest = parse_pack_key(key), parse_index_key(key), parse_manifest_key(key)
    tomb, lease = parse_tomb_key(key), parse_lease_key(key)
    assert pack is None or pack_key(pack) == key
    assert index is None or index_key(index) == key
    assert manifest is None or manifest_key(*manifest) == key
    assert manifest is None or restored_key(trash_key(key)) == key
    assert tomb is None or tomb_key(tomb) == key
    assert lease is None or lease_key(lease) == key
    assert sum(found is not None for found in (pack, index, manifest, tomb, lease)) <= 1


def key_seeds() -> Iterator[bytes]:
    """One of each kind."""
    keys = [pack_key(PACK), index_key("cd" * 32), manifest_key(REPOSITORY, COMMIT, ULID)]
    for key in (*keys, tomb_key(PACK), lease_key(REPOSITORY)):
        yield key.encode()


def check_stage_lock(raw: bytes) -> None:
    """What is taken is written, and read back as the same, but for the order of paths."""
    with only(StoreError):
        found = parse_lock(raw)
    text = encode_lock(found)
    assert encode_lock(parse_lock(text)) == text
    for name in found:
        assert name.isprintable(), name


def stage_lock_seeds() -> Iterator[bytes]:
    """One with everything in it, and none."""
    ids = {b"in": COMMIT, b"caf\xe9/x": COMMIT}
    outputs = {b"out": COMMIT, b"plain": COMMIT}
    stage = Stage("train", ("sh", "-c", "true"), COMMIT, tuple(ids), (b"out",), (b"plain",))
    yield encode_lock({"train": StageRecord(stage, ids, outputs)})
    yield encode_lock({})


def check_cache_rows(raw: bytes) -> None:
    """A row of a wrong length says nothing; any other says what it was made of."""
    place = parse_place(ChunkId(bytes(32)), raw)
    assert (place is not None) == is_place(raw)
    if place is not None:
        assert pack_place(place.pack, place.entry) == raw
        span = parse_span(raw)
        assert (span.pack.hex(), span.start) == (place.pack, place.entry.offset)


def cache_row_seeds() -> Iterator[bytes]:
    """A place."""
    yield pack_place(PLACE.pack, PLACE.entry)


def check_byte_ranges(raw: bytes) -> None:
    """As sets of bytes, for places below 64."""
    packed = byte_ranges.pack(
        sorted((min(pair), max(pair)) for pair in zip(raw[2::2], raw[3::2], strict=False))
    )
    for torn in (raw, packed):
        assert byte_ranges.total(torn) == sum(b - a for a, b in byte_ranges.pairs(torn))
    whole = byte_ranges.union(packed, byte_ranges.EMPTY)
    assert byte_ranges.union(whole, packed) == whole
    assert _bytes_of(whole) == _bytes_of(packed)
    start, end = sorted(raw[:2]) if len(raw) > 1 else (0, 0)
    assert _bytes_of(byte_ranges.remove(whole, start, end)) == _bytes_of(whole) - {
        *range(start, end)
    }
    if start < end:
        assert _bytes_of(byte_ranges.add(whole, start, end)) == _bytes_of(whole) | {
            *range(start, end)
        }
        assert byte_ranges.covers(whole, start, end) == (set(range(start, end)) <= _bytes_of(whole))
    byte_ranges.union(raw, raw)
    byte_ranges.covers(raw, start, end)


def _bytes_of(packed: bytes) -> set[int]:
    return {byte for start, end in byte_ranges.pairs(packed) for byte in range(start, end)}


def byte_range_seeds() -> Iterator[bytes]:
    """A range to add or take, and a set."""
    yield bytes((3, 9, 0, 4, 10, 20, 20, 30))
    yield bytes((0, 8)) + byte_ranges.pack([(1, 2), (5, 9)])


def check_messages(raw: bytes) -> None:
    """The same messages in whatever pieces they come; each body is what its packer makes of it."""
    with only(MalformedObject):
        found = list(messages.MessageBuffer().feed(raw))
    step = raw[0] % 7 + 1 if raw else 1
    buffer = messages.MessageBuffer()
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)]
    assert [message for piece in pieces for message in buffer.feed(piece)] == found
    sent = b"".join(message.to_bytes() for message in found)
    assert raw.startswith(sent)
    for body in [raw, *(message.body for message in found)]:
        _check_bodies(body)


def _check_bodies(body: bytes) -> None:
    for parse, pack in (
        (messages.parse_places, messages.pack_places),
        (messages.parse_reads, messages.pack_reads),
        (messages.parse_paths, messages.pack_paths),
    ):
        with suppress(Refused):
            with only(MalformedObject):
                parsed = parse(body)
            # The truth of a bool and the payload of a NaN have more spellings than one.
            assert len(pack(parsed)) == len(body)  # type: ignore[operator]
    for parse_pair, pack_pair in (
        (messages.parse_numbered, messages.pack_numbered),
        (messages.parse_fetched, messages.pack_fetched),
    ):
        with suppress(Refused):
            with only(MalformedObject):
                pair = parse_pair(body)
            assert pack_pair(*pair) == body  # type: ignore[operator]
    with suppress(Refused), only(MalformedObject):
        messages.parse_told(body)
    assert isinstance(messages.parse_error(body), StoreError)


def message_seeds() -> Iterator[bytes]:
    """One of each kind of body, and two messages in a row."""
    bodies = [
        messages.pack_places([PLACE, PLACE]),
        messages.pack_reads([messages.FileRead(1.5, 7, True, b"a/b")]),
        messages.pack_paths([b"a", b"b/c"]),
        messages.pack_numbered(5, b"rest"),
        messages.pack_fetched(byte_ranges.pack([(1, 2)]), b"chunk"),
        messages.pack_told({"number": 1, "list": [json.dumps("x")]}),
        messages.pack_error(RemoteDenied("not allowed")),
    ]
    yield from bodies
    whole = [messages.Message(kind, 3, body).to_bytes() for kind, body in enumerate(bodies)]
    yield from whole
    yield b"".join(whole)


TARGETS = {
    "manifest": Target(check_manifest, manifest_seeds),
    "lease": Target(check_lease, lease_seeds),
    "remote-format": Target(check_remote_format, remote_format_seeds, 1000),
    "keys": Target(check_keys, key_seeds, 300),
    "stage-lock": Target(check_stage_lock, stage_lock_seeds),
    "cache-rows": Target(check_cache_rows, cache_row_seeds, 64),
    "byte-ranges": Target(check_byte_ranges, byte_range_seeds, 200),
    "messages": Target(check_messages, message_seeds, 2000),
}
