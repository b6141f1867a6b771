"""Names of things: chunk ids, git ids, pack names, and the hash behind them.

Each is a type of its own over plain bytes or text, so that the type checker tells them apart and
a table of millions costs nothing extra.
"""

import re
import secrets
from typing import NewType, Protocol

from blake3 import blake3

ChunkId = NewType("ChunkId", bytes)
"""BLAKE3 of a chunk's bytes: 32 bytes."""

GitId = NewType("GitId", str)
"""A git object id: 40 lower-case hex digits."""

PackName = NewType("PackName", str)
"""16 random bytes as 32 lower-case hex digits; never used twice."""

CHUNK_ID_BYTES = 32
PACK_NAME_BYTES = 16

_UUID4 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Hasher(Protocol):
    """BLAKE3 of bytes that come in pieces."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take the next bytes in."""
        ...

    def digest(self) -> bytes:
        """BLAKE3 of all that came in so far, 32 bytes."""
        ...


def new_hasher() -> Hasher:
    """A hasher that has seen nothing yet."""
    return blake3()


def hash_bytes(content: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3 of `content`, 32 bytes. Releases the interpreter lock for large inputs."""
    return blake3(content).digest()


def chunk_id(content: bytes | bytearray | memoryview) -> ChunkId:
    """The id of the chunk that holds exactly these bytes."""
    return ChunkId(hash_bytes(content))


def is_lower_hex(text: str, digits: int) -> bool:
    """Whether `text` is exactly `digits` lower-case hex digits."""
    return len(text) == digits and all(c in "0123456789abcdef" for c in text)


def new_pack_name() -> PackName:
    """A pack name that nobody has used or will use: 128 random bits."""
    return PackName(secrets.token_hex(PACK_NAME_BYTES))


def pack_name_from_bytes(raw: bytes) -> PackName:
    """The pack name that 16 raw bytes spell, as they stand in index objects and cache rows."""
    assert len(raw) == PACK_NAME_BYTES
    return PackName(raw.hex())


def is_pack_name(text: str) -> bool:
    """Whether `text` could be the name of a pack."""
    return is_lower_hex(text, 2 * PACK_NAME_BYTES)


def is_git_id(text: str) -> bool:
    """Whether `text` could be a git object id, spelled in full."""
    return is_lower_hex(text, 40)


def is_uuid(text: str) -> bool:
    """Whether `text` is a random uuid (version 4) in its lower-case spelling with dashes."""
    return _UUID4.fullmatch(text) is not None


def is_repository_id(text: str) -> bool:
    """Whether `text` could be the id of a repository: a random uuid."""
    return is_uuid(text)
