"""DirectoryRemote: a remote in a folder, on a local disk or a mounted share.

An object is a plain file at its key. Files whose names begin with a dot are no objects: they are
never listed, and a key cannot name one. An object that is being written has such a name; what a
killed writer left of one is removed a day later by the next put of somebody who lists that folder.
"""

import contextlib
import errno
import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import trio

from store.errors import (
    MalformedObject,
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.local_folders import sync_folder
from store.remote import ObjectInfo, Refusals

Result = TypeVar("Result")

THREADS = 16
COPY_BYTES = 8 * 1024 * 1024

_TOKEN_BYTES = 8
_TEMPORARY_NAME = re.compile(rf"\.revfs-[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.part")
# A writer that has not written for a day is dead: a PUT ends, or fails, in an hour.
_DEAD_SECONDS = 86400.0

_TEMPORARY_ERRNOS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN}
# What copy_file_range answers where the file systems at hand cannot do it.
_NO_COPY_ERRNOS = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


class DirectoryRemote:
    """The folder `folder` as a remote; it is made by the first put, if its parent is there.

    `timeout_seconds` of a read is kept even where a share does not answer: the thread is left to
    end on its own. A put or delete is never left behind; it looks up between blocks of its copy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._limiter = trio.CapacityLimiter(THREADS)
        # Temporary files of writers that were met in a listing; those that are dead go with a put.
        self._temporaries: set[Path] = set()
        # How the last call ended, where that was a refusal.
        self._refusal: RemoteError | None = None

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._folder)

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """See Remote.fetch."""

        def load() -> bytes:
            content = self._load(key, 0, max_bytes + 1)
            if len(content) > max_bytes:
                raise MalformedObject(f"{self.url}: {key} is larger than {max_bytes} bytes")
            return content

        return await self._run(load, key, timeout_seconds, abandon=True)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        """See Remote.fetch_range."""

        def load() -> bytes:
            content = self._load(key, start, length)
            if len(content) < length:
                raise RemoteUnavailable(
                    f"{self.url}: {key} ends before byte {start + length}, which was asked for"
                )
            return content

        return await self._run(load, key, timeout_seconds, abandon=True)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        """See Remote.put. When it returns, object and folder entry are on disk."""
        await self._run(lambda: self._write(key, body), key, timeout_seconds, abandon=False)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        """See Remote.list_objects."""

        def scan() -> list[ObjectInfo]:
            # Only the folder part of a prefix narrows the walk.
            folder, slash, _ = prefix.rpartition("/")
            found = self._scan(self._path(folder) if slash else self._folder, folder + slash)
            return sorted(
                (info for info in found if info.key.startswith(prefix)), key=lambda info: info.key
            )

        return await self._run(scan, prefix, timeout_seconds, abandon=True)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """See Remote.delete."""

        def unlink() -> None:
            try:
                os.unlink(self._path(key))
            except FileNotFoundError:
                self._require_folder()

        await self._run(unlink, key, timeout_seconds, abandon=False)

    def local_path(self, key: str) -> Path:
        """Where the object lies, whether it is there or not."""
        return self._path(key)

    def get_refusals(self) -> Refusals:
        """See RefusingRemote. A folder is asked each time."""
        return Refusals({} if self._refusal is None else {"folder": str(self._refusal)})

    async def close(self) -> None:
        """Nothing is held open between calls."""

    def _path(self, key: str) -> Path:
        """The file of a key that stays inside the folder and has no dot names."""
        if any(part == "" or part.startswith(".") or "\0" in part for part in key.split("/")):
            raise RemoteError(f"{self.url}: {key!r} is not a key that a folder can hold")
        return self._folder / key

    async def _run(
        self, work: Callable[[], Result], key: str, timeout_seconds: float, *, abandon: bool
    ) -> Result:
        """What `work` returns in a thread; its OSErrors, and lateness, as RemoteErrors."""
        with trio.move_on_after(timeout_seconds):
            try:
                result = await trio.to_thread.run_sync(
                    work, abandon_on_cancel=abandon, limiter=self._limiter
                )
            except OSError as error:
                failure = self._translate(error, key)
                self._note(failure)
                raise failure from error
            except RemoteError as error:
                self._note(error)
                raise
            self._refusal = None
            return result
        raise RemoteUnavailable(f"{self.url}: {key}: not done within {timeout_seconds:g} s")

    def _note(self, error: RemoteError) -> None:
        if isinstance(error, RemoteDenied | RemoteMisconfigured):
            self._refusal = error

    def _load(self, key: str, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`; fewer only where the file ends."""
        try:
            # The last part is not followed if it is a symlink, nor waited for if it is a pipe:
            # objects are plain files.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path(key), flags)
        except (FileNotFoundError, NotADirectoryError):
            self._require_folder()
            raise
        with open(descriptor, "rb", buffering=0) as file:
            blocks = []
            while length > 0 and (block := os.pread(file.fileno(), length, start)):
                blocks.append(block)
                start += len(block)
                length -= len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _write(self, key: str, body: bytes | Path) -> None:
        """Temporary file, fsync, rename, fsync of the folder: a reader sees all or nothing."""
        path = self._path(key)
        self._make_folders(path.parent)
        temporary = path.parent / f".revfs-{secrets.token_hex(_TOKEN_BYTES)}.part"
        try:
            with open(temporary, "xb", buffering=0) as file:
                if isinstance(body, Path):
                    _copy(body, file.fileno())
                else:
                    _write_all(file.fileno(), body)
                os.fsync(file.fileno())
                # By the clock that stamps the others, which may be another machine's.
                now_seconds = os.fstat(file.fileno()).st_mtime
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)
        self._sweep(now_seconds)

    def _sweep(self, now_seconds: float) -> None:
        """Remove what killed writers have left, as far as it was met. One that lives writes on, and
        if it is as slow as that, its rename fails and it says so."""
        # Several puts may be at it at once.
        met, self._temporaries = self._temporaries, set()
        for leftover in list(met):
            # That it cannot be removed is no reason for a put to fail.
            with contextlib.suppress(OSError):
                if os.lstat(leftover).st_mtime < now_seconds - _DEAD_SECONDS:
                    os.unlink(leftover)

    def _make_folders(self, folder: Path) -> None:
        """Make `folder` and what is missing above it, each one lasting, the root included."""
        if folder.is_dir():
            return
        if folder == self._folder:
            if not folder.parent.is_dir():
                self._require_folder()
        else:
            self._make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)

    def _scan(self, folder: Path, prefix: str) -> Iterator[ObjectInfo]:
        """The objects in `folder` and below, whose keys begin with `prefix`; no symlinks."""
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
        except (FileNotFoundError, NotADirectoryError):
            self._require_folder()
            return
        for entry in entries:
            if entry.name.startswith("."):
                if _TEMPORARY_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    self._temporaries.add(folder / entry.name)
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._scan(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                # An object that is deleted during the walk is no part of the list.
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(prefix + entry.name, status.st_size, status.st_mtime)

    def _require_folder(self) -> None:
        if not self._folder.is_dir():
            raise RemoteMisconfigured(
                f"the folder {self.url} is not there; is it mounted? A new one is made by: "
                f"mkdir -p {shlex.quote(str(self.url))}"
            )

    def _translate(self, error: OSError, key: str) -> RemoteError:
        """The error of this project for one of the operating system about `key`."""
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return ObjectMissing(f"{self.url}: there is no object {key}")
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return RemoteDenied(f"{self.url}: {key}: {reason}; check the rights on the folder")
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return RemoteError(f"{self.url}: the folder's disk is full; {key} was not written")
        if error.errno == errno.ELOOP:
            return RemoteError(f"{self.url}: {key} is a symlink, which is never followed")
        if error.errno in _TEMPORARY_ERRNOS:
            return RemoteUnavailable(f"{self.url}: {key}: {reason}")
        return RemoteError(f"{self.url}: {key}: {reason}")


def _copy(source: Path, target: int) -> None:
    """Append the file `source` to the descriptor `target`; the kernel may share its blocks."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RemoteError(f"cannot read {source}, which is to be copied: {error}") from error
    with open(descriptor, "rb", buffering=0) as file:
        try:
            while os.copy_file_range(file.fileno(), target, COPY_BYTES):
                trio.from_thread.check_cancelled()
        except OSError as error:
            if error.errno not in _NO_COPY_ERRNOS:
                raise
        # Both offsets stand where the copy ended, so this reads what it could not, or nothing.
        while block := file.read(COPY_BYTES):
            _write_all(target, block)


def _write_all(target: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        trio.from_thread.check_cancelled()
        left = left[os.write(target, left[:COPY_BYTES]) :]
