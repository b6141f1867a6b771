"""Messages between the process that fetches for a mount and those that ask it. Pure.

They go through a socket of one user on one machine, between processes of one version, so the format
is nobody's promise:

    u32 length of the body, u64 number of the call (0: no answer is wanted), u8 kind, body
"""

import json
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from store import errors
from store.cache_rows import PackPlace, pack_place, parse_place
from store.errors import MalformedObject, StoreError
from store.ids import CHUNK_ID_BYTES, ChunkId

_HEAD = struct.Struct("=IQB")
_LENGTH = struct.Struct("=I")
_PLACE_BYTES = 29
_MAX_BODY_BYTES = 64 << 20
# Seconds, inode, whether it is the first, length of the path.
_READ = struct.Struct("=dQ?H")
_NUMBER = struct.Struct("=Q")

Facts = dict[str, Any]


class Kind(IntEnum):
    """What a message is: a call, or an answer to one."""

    FETCH = 1
    """Body: a place. Answered HERE where the pack cache has it, else FETCHED."""
    FETCH_ANEW = 2
    """As FETCH, where what the pack cache has is no good."""
    PREFETCH = 3
    """Body: places. No answer."""
    LEARN = 4
    """Body: a commit in hex, or nothing for all. Answered DONE when its index objects are known."""
    SHOWN = 5
    """Body: the commit in hex that the mount shows now. No answer."""
    READS = 6
    """Body: files that began to be read (see FileRead). Answered DONE."""
    WARM = 7
    """Body: paths. Answered TOLD, with the `number` of the warming."""
    ORDER = 8
    """Body: how many bytes it may be ahead, as a decimal. Answered as WARM."""
    ORDER_PATHS = 9
    """Body: the number of an order, and more paths of it. Answered TOLD: how many are known."""
    FOLLOW = 10
    """Body: the number of an order, which is whole now. Answered TOLD."""
    WARMINGS = 11
    """Body: nothing. Answered TOLD, with all warmings."""
    STOP = 12
    """Body: nothing. Ends all warmings. Answered TOLD, with those that it ended."""
    DONE = 16
    HERE = 17
    """Body: the ranges of the pack that are in its file, packed as in byte_ranges."""
    FETCHED = 18
    """Body: u32 length of the ranges, the ranges, the chunk."""
    FAILED = 19
    """Body: the kind of a StoreError, a blank, its words."""
    TOLD = 20
    """Body: a JSON object."""
    WATCH = 32
    """To whoever asks, without a call: a byte that says whether READS are wanted from now on."""
    KEPT = 33
    """To whoever asks, without a call: a pack's name in 16 bytes, and ranges that came into its
    file."""


class Message(NamedTuple):
    """A message; see Kind for what is in its body."""

    kind: int
    call: int
    body: bytes

    def to_bytes(self) -> bytes:
        """The message as it is sent."""
        return _HEAD.pack(len(self.body), self.call, self.kind) + self.body


class MessageBuffer:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, received: bytes) -> Iterator[Message]:
        """The messages that are whole now. Raises MalformedObject for one that nobody sends."""
        self._received += received
        start = 0
        while len(self._received) - start >= _HEAD.size:
            length, call, kind = _HEAD.unpack_from(self._received, start)
            if length > _MAX_BODY_BYTES:
                raise MalformedObject("a message is too long")
            end = start + _HEAD.size + length
            if end > len(self._received):
                break
            yield Message(kind, call, bytes(self._received[start + _HEAD.size : end]))
            start = end
        del self._received[:start]


def pack_places(places: Iterable[PackPlace]) -> bytes:
    """Places as a body."""
    return b"".join(place.entry.chunk + pack_place(place.pack, place.entry) for place in places)


def parse_places(body: bytes) -> list[PackPlace]:
    """The places of a body. Raises MalformedObject."""
    row = CHUNK_ID_BYTES + _PLACE_BYTES
    found = []
    for start in range(0, len(body), row):
        chunk = ChunkId(body[start : start + CHUNK_ID_BYTES])
        place = parse_place(chunk, body[start + CHUNK_ID_BYTES : start + row])
        if place is None:
            raise MalformedObject("a message is cut short")
        found.append(place)
    return found


def pack_fetched(ranges: bytes, chunk: bytes) -> bytes:
    """A chunk, and what of its pack is here, as a body."""
    return _LENGTH.pack(len(ranges)) + ranges + chunk


def parse_fetched(body: bytes) -> tuple[bytes, bytes]:
    """(ranges, chunk) of such a body. Raises MalformedObject."""
    if len(body) < _LENGTH.size:
        raise MalformedObject("a message is cut short")
    (length,) = _LENGTH.unpack_from(body)
    if _LENGTH.size + length > len(body):
        raise MalformedObject("a message is cut short")
    return body[_LENGTH.size : _LENGTH.size + length], body[_LENGTH.size + length :]


class FileRead(NamedTuple):
    """A file that began to be read at a time of the machine's steady clock. `is_first` says that
    the process which tells of it had not served it before."""

    seconds: float
    inode: int
    is_first: bool
    path: bytes


def pack_reads(reads: Iterable[FileRead]) -> bytes:
    """Reads as a body."""
    return b"".join(
        _READ.pack(read.seconds, read.inode, read.is_first, len(read.path)) + read.path
        for read in reads
    )


def parse_reads(body: bytes) -> list[FileRead]:
    """The reads of such a body. Raises MalformedObject."""
    found, start = [], 0
    while start < len(body):
        path_start = start + _READ.size
        if path_start > len(body):
            raise MalformedObject("a message is cut short")
        seconds, inode, is_first, length = _READ.unpack_from(body, start)
        start = path_start + length
        if start > len(body):
            raise MalformedObject("a message is cut short")
        found.append(FileRead(seconds, inode, is_first, body[path_start:start]))
    return found


def pack_paths(paths: Iterable[bytes]) -> bytes:
    """Paths as a body: a NUL behind each."""
    return b"".join(path + b"\0" for path in paths)


def parse_paths(body: bytes) -> list[bytes]:
    """The paths of such a body. Raises MalformedObject."""
    *paths, rest = body.split(b"\0")
    if rest:
        raise MalformedObject("a message is cut short")
    return paths


def pack_numbered(number: int, body: bytes) -> bytes:
    """A body that belongs to something with a number."""
    return _NUMBER.pack(number) + body


def parse_numbered(body: bytes) -> tuple[int, bytes]:
    """(number, body) of such a body. Raises MalformedObject."""
    if len(body) < _NUMBER.size:
        raise MalformedObject("a message is cut short")
    return _NUMBER.unpack_from(body)[0], body[_NUMBER.size :]


def pack_told(facts: Facts) -> bytes:
    """Facts as a body."""
    return json.dumps(facts).encode()


def parse_told(body: bytes) -> Facts:
    """The facts of such a body. Raises MalformedObject."""
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedObject("an answer cannot be read") from error
    if not isinstance(facts, dict):
        raise MalformedObject("an answer cannot be read")
    return facts


def pack_error(error: StoreError) -> bytes:
    """An error as a body."""
    return f"{type(error).__name__} {error}".encode(errors="surrogateescape")


def parse_error(body: bytes) -> StoreError:
    """The error of such a body; a StoreError where its kind is not known."""
    name, _, words = body.decode(errors="surrogateescape").partition(" ")
    kind = getattr(errors, name, StoreError)
    if not (isinstance(kind, type) and issubclass(kind, StoreError)):
        kind = StoreError
    return kind(words)
