"""FileState: what is kept of a file's stat while a million files are on their way.

Python's own stat result takes some 600 bytes, most of them for numbers that nobody asks for.
"""

import struct
from typing import Protocol

# Device, inode, size, mtime and ctime, which tell one state of a file from any other, and then
# mode, owner and group.
_FIELDS = struct.Struct("<QQQqqIII")
_IDENTITY_BYTES = 40
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")
_U32 = struct.Struct("<I")


class Status(Protocol):
    """What is asked of a stat: os.stat_result, or a FileState."""

    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...
    @property
    def st_mode(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...


class FileState(bytes):
    """A stat in 52 bytes, with the names of its fields as in os.stat_result."""

    __slots__ = ()

    @classmethod
    def of(cls, status: Status) -> "FileState":
        """The state that a stat shows."""
        if isinstance(status, cls):
            return status
        mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
        if not -(2**63) <= mtime < 2**63 or not -(2**63) <= ctime < 2**63:
            # After the year 2262: cut like any other counter, alike for whoever compares.
            mtime, ctime = _wrapped(mtime), _wrapped(ctime)
        return cls(
            _FIELDS.pack(
                status.st_dev,
                status.st_ino,
                status.st_size,
                mtime,
                ctime,
                status.st_mode,
                status.st_uid,
                status.st_gid,
            )
        )

    @property
    def identity(self) -> bytes:
        """What is the same exactly while the file and its content are: 40 bytes, u64 each for
        device, inode and size, i64 for mtime and ctime in nanoseconds."""
        return self[:_IDENTITY_BYTES]

    @property
    def st_dev(self) -> int:
        """See os.stat_result."""
        return int(_U64.unpack_from(self, 0)[0])

    @property
    def st_ino(self) -> int:
        """See os.stat_result."""
        return int(_U64.unpack_from(self, 8)[0])

    @property
    def st_size(self) -> int:
        """See os.stat_result."""
        return int(_U64.unpack_from(self, 16)[0])

    @property
    def st_mtime_ns(self) -> int:
        """See os.stat_result."""
        return int(_I64.unpack_from(self, 24)[0])

    @property
    def st_ctime_ns(self) -> int:
        """See os.stat_result."""
        return int(_I64.unpack_from(self, 32)[0])

    @property
    def st_mode(self) -> int:
        """See os.stat_result."""
        return int(_U32.unpack_from(self, 40)[0])

    @property
    def st_uid(self) -> int:
        """See os.stat_result."""
        return int(_U32.unpack_from(self, 44)[0])

    @property
    def st_gid(self) -> int:
        """See os.stat_result."""
        return int(_U32.unpack_from(self, 48)[0])


def _wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63
