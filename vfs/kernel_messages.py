"""Messages between the kernel and a FUSE file system, as they pass through /dev/fuse. Pure.

Source: Linux, include/uapi/linux/fuse.h, versions 7.31 to 7.45. Numbers are in the machine's byte
order. A request is a header and what its opcode says; an answer is a header and its body. Only what
a read-only file system is asked is here.
"""

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

from store.errors import StoreError
from vfs.attributes import BLOCK_BYTES, MODE_OF_FOLDER, PREFERRED_READ_BYTES, Attributes

REQUEST_BYTES = 64 << 10
"""Room for any request: the largest is a list of inodes to forget, which is cut to fit."""

MAX_READ_PAGES = 256
"""The most that one read asks for: 1 MiB with pages of 4 KiB."""

_REQUEST = struct.Struct("=IIQQIIIHH")
REQUEST_HEAD_BYTES = _REQUEST.size
_ANSWER = struct.Struct("=IiQ")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("=QQQQII")
_VALIDITY = struct.Struct("=QII")
_OPENED = struct.Struct("=QIi")
_RANGE = struct.Struct("=QQI")
_NAME_HEAD = struct.Struct("=QQII")
_STATFS = struct.Struct("=QQQQQIIII24x")

_MAJOR = 7
_OLDEST_MINOR = 31
_NEWEST_MINOR = 38
_RESEND = 7
"""FUSE_NOTIFY_RESEND, Linux 6.9."""
_NANOSECONDS = 1_000_000_000
# An entry, its attributes, and its name's head: see linux/fuse.h, struct fuse_direntplus.
_NAME_WITH_ENTRY = struct.Struct("=QQQQIIQQQQQQIIIIIIIIIIQQII")
_PADDING = [bytes(-length % 8) for length in range(8)]
NAME_BYTES = _NAME_HEAD.size
"""What each name of a listing takes at the least."""


class Opcode(IntEnum):
    """What the kernel asks for; any other number is answered ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    READDIRPLUS = 44


UNANSWERED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET))
"""Requests that want no answer."""


class InitFlag(IntFlag):
    """What both sides can do; only what is used here."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


_WANTED = (
    InitFlag.ASYNC_READ
    | InitFlag.EXPORT_SUPPORT
    | InitFlag.DO_READDIRPLUS
    | InitFlag.ASYNC_DIO
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.NO_OPENDIR_SUPPORT
)
# Reads that nobody waits for at once (read-ahead); the kernel's own limit of 12 is less than the
# readers that one training job has.
_MOST_BACKGROUND_READS = 512
# Nothing is ever written; a request must fit in what is read of the device at once.
_MAX_WRITE_BYTES = 4096


class Request(NamedTuple):
    """A request without its body. `unique` names it in the answer."""

    length: int
    opcode: int
    unique: int
    inode: int


class ReadRange(NamedTuple):
    """What of a file or a folder is asked for: bytes, or positions of names that fit in `size`
    bytes. `handle` is what its opening was answered with; 0 where that was ENOSYS."""

    handle: int
    offset: int
    size: int


def parse_request(buffer: bytearray) -> Request:
    """The header at the start of a buffer."""
    length, opcode, unique, inode, *_ = _REQUEST.unpack_from(buffer)
    return Request(length, opcode, unique, inode)


def parse_name(buffer: bytearray, request: Request) -> bytes:
    """The name in the body of a lookup."""
    return bytes(buffer[_REQUEST.size : request.length - 1])


def parse_range(buffer: bytearray) -> ReadRange:
    """The body of a read of a file or a folder."""
    return ReadRange(*_RANGE.unpack_from(buffer, _REQUEST.size))


def answer_to_init(buffer: bytearray, read_ahead_bytes: int) -> bytes:
    """The answer to the first request of all, in `buffer`. Raises StoreError for a kernel that is
    too old."""
    request = parse_request(buffer)
    if request.opcode != Opcode.INIT:
        raise StoreError(
            f"the kernel began with request {request.opcode}; it should introduce itself"
        )
    major, minor, _, offered = _INIT_IN.unpack_from(buffer, _REQUEST.size)
    if major != _MAJOR or minor < _OLDEST_MINOR:
        raise StoreError(f"the kernel speaks FUSE {major}.{minor}, which is too old for a mount")
    body = _INIT_OUT.pack(
        *(_MAJOR, min(minor, _NEWEST_MINOR), read_ahead_bytes, offered & _WANTED),
        *(_MOST_BACKGROUND_READS, 3 * _MOST_BACKGROUND_READS // 4),
        *(_MAX_WRITE_BYTES, 1, MAX_READ_PAGES, 0, 0, 0),
    )
    return answer_head(request.unique, len(body)) + body


def answer_head(unique: int, body_bytes: int) -> bytes:
    """The header of an answer with a body of so many bytes."""
    return _ANSWER.pack(_ANSWER.size + body_bytes, 0, unique)


def error_answer(unique: int, number: int) -> bytes:
    """The answer that a request fails with that errno."""
    return _ANSWER.pack(_ANSWER.size, -number, unique)


def ask_to_resend() -> bytes:
    """The notice that has the kernel hand out all requests again that wait for their answer."""
    return _ANSWER.pack(_ANSWER.size, _RESEND, 0)


class Owner(NamedTuple):
    """Whom all nodes of a mount belong to."""

    uid: int
    gid: int


def pack_attributes(attributes: Attributes, owner: Owner) -> bytes:
    """The stat fields of a node."""
    time_seconds = attributes.time_seconds
    return _ATTRIBUTES.pack(
        *(attributes.inode, attributes.size, -(-attributes.size // BLOCK_BYTES)),
        *(time_seconds, time_seconds, time_seconds, 0, 0, 0),
        # One link also for folders: their number of folders is not counted, and 1 says so.
        *(attributes.mode, 1, owner.uid, owner.gid, 0, PREFERRED_READ_BYTES, 0),
    )


def pack_getattr(attributes: Attributes, owner: Owner) -> bytes:
    """The answer to a request for the attributes of a node."""
    seconds, nanoseconds = _validity(attributes.valid_seconds)
    return _VALIDITY.pack(seconds, nanoseconds, 0) + pack_attributes(attributes, owner)


def pack_entry(attributes: Attributes, owner: Owner) -> bytes:
    """The answer to a lookup of a name."""
    seconds, nanoseconds = _validity(attributes.valid_seconds)
    head = _ENTRY.pack(attributes.inode, 0, seconds, seconds, nanoseconds, nanoseconds)
    return head + pack_attributes(attributes, owner)


def pack_opened(handle: int) -> bytes:
    """The answer to an opening that is not to be kept in the kernel's cache."""
    return _OPENED.pack(handle, 0, 0)


def pack_name(name: bytes, attributes: Attributes, next_position: int, owner: Owner) -> bytes:
    """One name of a listing."""
    head = _NAME_HEAD.pack(attributes.inode, next_position, len(name), attributes.mode >> 12)
    return head + name + _PADDING[len(name) & 7]


def pack_name_with_entry(
    name: bytes, attributes: Attributes, next_position: int, owner: Owner
) -> bytes:
    """One name of a listing with attributes: as `pack_entry` and `pack_name`, in one go."""
    inode, mode, size, time, valid_seconds = attributes
    uid, gid = owner
    seconds = int(valid_seconds)
    nanoseconds = int((valid_seconds - seconds) * _NANOSECONDS)
    blocks = (size + BLOCK_BYTES - 1) // BLOCK_BYTES
    head = _NAME_WITH_ENTRY.pack(
        *(inode, 0, seconds, seconds, nanoseconds, nanoseconds),
        *(inode, size, blocks, time, time, time, 0, 0, 0),
        *(mode, 1, uid, gid, 0, PREFERRED_READ_BYTES, 0),
        *(inode, next_position, len(name), mode >> 12),
    )
    return head + name + _PADDING[len(name) & 7]


def pack_dot(name: bytes, inode: int, next_position: int, *, padded: bool) -> bytes:
    """`.` or `..` in a listing, `padded` in one with attributes: the kernel takes none of these."""
    head = bytes(_ENTRY.size + _ATTRIBUTES.size) if padded else b""
    kind = MODE_OF_FOLDER >> 12
    return (
        head + _NAME_HEAD.pack(inode, next_position, len(name), kind) + name + _PADDING[len(name)]
    )


def pack_statfs(name_bytes: int) -> bytes:
    """The answer to statfs of a file system that is full, and counts nothing."""
    return _STATFS.pack(0, 0, 0, 0, 0, PREFERRED_READ_BYTES, name_bytes, PREFERRED_READ_BYTES, 0)


def _validity(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * _NANOSECONDS)
