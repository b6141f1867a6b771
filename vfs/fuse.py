"""The adapter to pyfuse3: translates requests and answers, decides nothing.

Nothing but FUSEError leaves a handler: anything else would end the mount for everybody.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3

from store.errors import RepositoryGone, StoreError
from store.local_folders import MOUNT_TYPE
from vfs.attributes import PREFERRED_READ_BYTES, Attributes
from vfs.errnos import errno_of
from vfs.errors import RequestError
from vfs.filesystem import RevisionFilesystem

log = logging.getLogger(__name__)

# A read that waits for its bytes holds its task, so there must be more tasks than readers that can
# wait at once; an idle task costs nothing, since all but a few end.
_MOST_TASKS = 2048
_IDLE_TASKS = 16

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["RevisionOperations", P], Coroutine[Any, Any, R]]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whom all nodes of a mount belong to."""

    uid: int
    gid: int


def _answering(handler: Handler[P, R]) -> Handler[P, R]:
    """Let FUSEError and cancellation pass, and make an errno of everything else."""

    @functools.wraps(handler)
    async def answer(self: "RevisionOperations", *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except RequestError as error:
            log.debug("%s%r: %r", handler.__name__, args, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except RepositoryGone as error:
            # Whoever keeps the mount has said so, once: here it would be a line for each request.
            log.debug("%s: %s", handler.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except StoreError as error:
            log.error("%s: %s", handler.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:
            log.exception("%s failed in a way that it should not", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return cast("Handler[P, R]", answer)


class RevisionOperations(pyfuse3.Operations):
    """The requests of the kernel to one mount."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(self, filesystem: RevisionFilesystem, ownership: Ownership) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._ownership = ownership

    @_answering
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(await self._filesystem.lookup(parent_inode, name))

    @_answering
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(await self._filesystem.get_attributes(inode))

    @_answering
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._filesystem.read_link(inode)

    @_answering
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._filesystem.open_directory(inode)

    @_answering
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for item in await self._filesystem.list_directory(fh, start_id):
            entry = self._entry(item.attributes)
            if not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(item.name), entry, item.next_position
            ):
                return

    @_answering
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        await self._filesystem.check_file(inode)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    @_answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._filesystem.read(fh, off, size)

    @_answering
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = PREFERRED_READ_BYTES
        answer.f_namemax = 255
        for field in ("blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(answer, f"f_{field}", 0)
        return answer

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Nothing is held per inode."""

    async def release(self, fh: int) -> None:
        """Nothing is held per open file."""

    async def releasedir(self, fh: int) -> None:
        """Nor per open directory."""

    # Answered ENOSYS once, these are never asked again: a round trip saved for each open, and for
    # each line of `ls -l`.

    async def flush(self, fh: int) -> None:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[Any]:
        raise pyfuse3.FUSEError(errno.ENOSYS)

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(attributes.inode)
        entry.st_mode = pyfuse3.ModeT(attributes.mode)
        # One link also for folders: their number of folders is not counted, and 1 says so.
        entry.st_nlink = 1
        entry.st_uid = self._ownership.uid
        entry.st_gid = self._ownership.gid
        entry.st_size = attributes.size
        entry.st_blksize = PREFERRED_READ_BYTES
        entry.st_blocks = attributes.blocks
        time_ns = attributes.time_seconds * 1_000_000_000
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = time_ns
        entry.entry_timeout = entry.attr_timeout = attributes.valid_seconds
        return entry


class Mount:
    """A mountpoint that the kernel sends requests of to this process."""

    def __init__(
        self, operations: RevisionOperations, mountpoint: Path, label: str, *, allow_other: bool
    ) -> None:
        """Mount. Raises StoreError where the kernel or its helper refuses."""
        options = {
            "ro",
            "nosuid",
            "nodev",
            "default_permissions",
            f"fsname=revfs:{_plain_label(label)}",
            f"subtype={MOUNT_TYPE.removeprefix('fuse.')}",
        }
        if allow_other:
            options.add("allow_other")
        try:
            pyfuse3.init(operations, str(mountpoint), options)
        except RuntimeError as error:
            raise StoreError(
                f"{mountpoint} cannot be mounted ({error}); is fuse3 installed, may you use "
                "/dev/fuse, and does /etc/fuse.conf allow what was asked for?"
            ) from error

    async def serve(self) -> None:
        """Answer requests until the mount is taken away or this is cancelled."""
        await pyfuse3.main(min_tasks=_IDLE_TASKS, max_tasks=_MOST_TASKS)

    def close(self, *, unmount: bool) -> None:
        """Let go of the mount; with `unmount`, take away what is at its mountpoint."""
        pyfuse3.close(unmount=unmount)


def _plain_label(label: str) -> str:
    # Commas separate options, and a blank would shift the columns of /proc/mounts.
    return "".join(c if c.isalnum() or c in "-_./~^@:" else "_" for c in label)
