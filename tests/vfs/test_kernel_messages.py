"""Messages of the kernel: against the layouts of linux/fuse.h, written down here once more."""

import struct

import pytest

from store.errors import StoreError
from vfs.attributes import FOR_EVER_SECONDS, Attributes
from vfs.kernel_messages import (
    Opcode,
    Owner,
    answer_head,
    answer_to_init,
    error_answer,
    pack_dot,
    pack_entry,
    pack_getattr,
    pack_name,
    pack_name_with_entry,
    parse_name,
    parse_request,
)

IN_HEADER = "=IIQQIIIHH"
OFFERED = 0x73FFFFFB
ATTRIBUTES = Attributes(7 << 32 | 1, 0o100444, 1025, 1_700_000_000, 0.5)


def request(opcode: int, body: bytes) -> bytearray:
    head = struct.pack(IN_HEADER, 40 + len(body), opcode, 99, 5, 1, 2, 3, 0, 0)
    return bytearray(head + body + bytes(64))


def init(major: int, minor: int) -> bytearray:
    return request(Opcode.INIT, struct.pack("=IIII", major, minor, 131072, OFFERED))


@pytest.mark.parametrize(("theirs", "ours"), [(31, 31), (38, 38), (45, 38)])
def test_the_answer_to_the_first_request_agrees_on_what_both_can(theirs: int, ours: int) -> None:
    answer = answer_to_init(init(7, theirs), 1 << 20)
    length, error, unique = struct.unpack_from("=IiQ", answer)
    assert (length, error, unique) == (len(answer), 0, 99)
    assert len(answer) == 16 + 64
    major, minor, read_ahead, flags = struct.unpack_from("=IIII", answer, 16)
    assert (major, minor, read_ahead) == (7, ours, 1 << 20)
    # Nothing that was not offered; no write-back, no locks, no splicing.
    assert flags & ~OFFERED == 0
    assert flags == 1 | 1 << 4 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 24
    background, congestion, max_write, granularity, pages = struct.unpack_from("=HHIIH", answer, 32)
    assert 0 < congestion < background
    assert (max_write, granularity, pages) == (4096, 1, 256)


def test_a_kernel_that_is_too_old_or_says_something_else_is_refused() -> None:
    for buffer in (init(7, 30), init(6, 45), request(Opcode.LOOKUP, b"name\0")):
        with pytest.raises(StoreError):
            answer_to_init(buffer, 1 << 20)


def test_a_name_is_what_stands_before_its_end() -> None:
    buffer = request(Opcode.LOOKUP, b"n\xffame\0")
    parsed = parse_request(buffer)
    assert (parsed.opcode, parsed.unique, parsed.inode) == (Opcode.LOOKUP, 99, 5)
    assert parse_name(buffer, parsed) == b"n\xffame"


def test_attributes_are_those_of_a_read_only_file() -> None:
    valid, nanoseconds, _ = struct.unpack_from(
        "=QII", packed := pack_getattr(ATTRIBUTES, Owner(8, 9))
    )
    assert (valid, nanoseconds) == (0, 500_000_000)
    fields = struct.unpack_from("=QQQQQQIIIIIIIIII", packed, 16)
    assert len(packed) == 16 + 88
    inode, size, blocks, *times = fields[:6]
    assert (inode, size, blocks, times) == (ATTRIBUTES.inode, 1025, 3, [1_700_000_000] * 3)
    assert fields[9:13] == (0o100444, 1, 8, 9)


def test_an_entry_holds_for_as_long_as_its_attributes() -> None:
    packed = pack_entry(ATTRIBUTES._replace(valid_seconds=FOR_EVER_SECONDS), Owner(8, 9))
    inode, generation, *valid = struct.unpack_from("=QQQQII", packed)
    assert (inode, generation) == (ATTRIBUTES.inode, 0)
    assert valid == [1 << 31, 1 << 31, 0, 0]
    assert len(packed) == 40 + 88


@pytest.mark.parametrize("name", [b"a", b"seven77", b"eight888", b"n" * 255])
def test_names_of_a_listing_are_padded_to_eight_bytes(name: bytes) -> None:
    packed = pack_name(name, ATTRIBUTES, 3, Owner(8, 9))
    assert len(packed) % 8 == 0
    assert struct.unpack_from("=QQII", packed) == (ATTRIBUTES.inode, 3, len(name), 8)
    assert packed[24:].rstrip(b"\0") == name
    whole = pack_name_with_entry(name, ATTRIBUTES, 3, Owner(8, 9))
    assert whole == pack_entry(ATTRIBUTES, Owner(8, 9)) + packed


@pytest.mark.parametrize("name", [b".", b".."])
def test_the_names_for_a_folder_itself_come_without_attributes(name: bytes) -> None:
    packed = pack_dot(name, 42, 3, padded=False)
    assert len(packed) == 32
    assert struct.unpack_from("=QQII", packed) == (42, 3, len(name), 4)
    assert pack_dot(name, 42, 3, padded=True) == bytes(128) + packed


def test_an_error_is_its_negative_number_and_nothing_else() -> None:
    assert struct.unpack("=IiQ", error_answer(7, 5)) == (16, -5, 7)
    assert struct.unpack("=IiQ", answer_head(7, 100)) == (116, 0, 7)
