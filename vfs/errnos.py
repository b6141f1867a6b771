"""The one table from error to errno.

A missing object is EIO, not ENOENT: the name is there, its bytes are not.
"""

import errno

from store.errors import StoreError
from vfs.errors import (
    FailedJustNow,
    IsADirectory,
    NameTooLong,
    NoSuchName,
    NotADevice,
    NotADirectory,
    NotASymlink,
    StaleInode,
)

_ERRNOS: dict[type[BaseException], int] = {
    NoSuchName: errno.ENOENT,
    NameTooLong: errno.ENAMETOOLONG,
    NotADirectory: errno.ENOTDIR,
    IsADirectory: errno.EISDIR,
    NotASymlink: errno.EINVAL,
    StaleInode: errno.ESTALE,
    NotADevice: errno.ENOTTY,
    FailedJustNow: errno.EIO,
    StoreError: errno.EIO,
}


def errno_of(error: BaseException) -> int:
    """The errno for an error; EIO for any that the table does not know."""
    for kind in type(error).__mro__:
        if kind in _ERRNOS:
            return _ERRNOS[kind]
    return errno.EIO
