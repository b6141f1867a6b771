"""Many small blobs for git's objects, as one pack (gitformat-pack(5)) that git itself takes in.

Git reads it, proves it and writes it as one pack with its index; or as loose objects where there
are few, as it does with what it fetches.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection

from store.git_blobs import blob_id
from store.git_command import RepositoryPaths, run_git

# As git's fetch.unpackLimit: packs of less are more trouble than the loose objects.
_PACK_FROM_BLOBS = 100
_HEADER = struct.Struct(">4sII")
_VERSION = 2
_KIND_BLOB = 3
# A zlib stream (RFC 1950) of one block that is stored as it is (RFC 1951): to compress the text of
# a pointer takes ten times as long, and saves a seventh of it.
_STORED_HEAD = struct.Struct("<3sHH")
_STORED_SIGNATURE = b"\x78\x01\x01"
_CHECKSUM = struct.Struct(">I")
_MOST_STORED_BYTES = 1024


class BlobPack:
    """Blobs on their way into a repository, each once; held in memory."""

    def __init__(self, known: Collection[bytes] = ()) -> None:
        """Blobs whose raw ids are `known` are in the repository already."""
        self._known = known
        self._new: set[bytes] = set()
        self._body = bytearray(_HEADER.size)

    def add(self, content: bytes) -> bytes:
        """Take a blob in; its raw id."""
        name = blob_id(content)
        if name not in self._new and name not in self._known:
            self._new.add(name)
            self._body += _encode(content)
        return name

    def write(self, paths: RepositoryPaths) -> None:
        """Have them all in the repository; nothing may follow. Raises GitError."""
        if not self._new:
            return
        body = self._body
        _HEADER.pack_into(body, 0, b"PACK", _VERSION, len(self._new))
        body += hashlib.sha1(body, usedforsecurity=False).digest()
        # By name: a hook's GIT_DIR is relative to another folder than this one.
        command = [f"--git-dir={paths.git_dir}", "index-pack", "--stdin"]
        if len(self._new) < _PACK_FROM_BLOBS:
            command[1:] = ["unpack-objects", "-q"]
        run_git(command, cwd=paths.git_dir, stdin=bytes(body))


def _encode(content: bytes) -> bytes:
    """An object of a pack: its kind and size, and a zlib stream."""
    size = len(content)
    head = bytearray()
    byte, size = _KIND_BLOB << 4 | size & 15, size >> 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    return bytes(head) + _deflate(content)


def _deflate(content: bytes) -> bytes:
    size = len(content)
    if size > _MOST_STORED_BYTES:
        return zlib.compress(content)
    stored = _STORED_HEAD.pack(_STORED_SIGNATURE, size, size ^ 0xFFFF) + content
    return stored + _CHECKSUM.pack(zlib.adler32(content))
