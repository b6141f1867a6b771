"""PlainFiles: files that git itself keeps, read from git's own objects.

Small ones are held in memory for a while. A large one is written out once, by git, to a file
without a name in the cache folder, so that no reader has all of it in memory.
"""

import os
import tempfile
from pathlib import Path

import trio

from store.concurrency import DISK_READS, GIT_READS
from store.directories import MAX_SYMLINK_BYTES, Entry
from store.errors import GitError, StoreError
from store.git import GitRepository
from store.git_command import run_git
from store.memory_cache import MemoryCache

_SMALL_BYTES = 8 << 20
_MEMORY_BYTES = 32 << 20
_SPOOLED_FILES = 8


class _Spooled:
    """A file without a name; its space is free again when nobody reads it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class PlainFiles:
    """Reads plain files and symbolic links of one repository. Belongs to one trio loop."""

    def __init__(self, repository: GitRepository, spool_folder: Path) -> None:
        self._repository = repository
        self._spool_folder = spool_folder
        self._small: MemoryCache[bytes, bytes] = MemoryCache(_MEMORY_BYTES)
        self._large: MemoryCache[bytes, _Spooled] = MemoryCache(_SPOOLED_FILES)
        self._spooling = trio.Lock()

    async def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them or as many as there are. Raises GitError."""
        if entry.size > _SMALL_BYTES:
            return await self._read_large(entry, offset, size)
        content = self._small.get(entry.raw_id)
        if content is None:
            content = await self._load(entry)
            self._small.put(entry.raw_id, content, len(content))
        return content[offset : offset + size]

    async def read_link(self, entry: Entry) -> bytes:
        """The target of a symbolic link. Raises GitError for one that no kernel would take."""
        if not 0 < entry.size <= MAX_SYMLINK_BYTES:
            raise GitError(f"a symbolic link's target of {entry.size} bytes cannot be")
        target = await self._load(entry)
        if b"\0" in target:
            raise GitError("a symbolic link's target holds a NUL byte")
        return target

    async def _load(self, entry: Entry) -> bytes:
        raw_id = bytes.fromhex(entry.git_id)
        return await trio.to_thread.run_sync(self._repository.load_blob, raw_id, limiter=GIT_READS)

    async def _read_large(self, entry: Entry, offset: int, size: int) -> bytes:
        async with self._spooling:
            spooled = self._large.get(entry.raw_id)
            if spooled is None:
                spooled = await trio.to_thread.run_sync(self._spool, entry, limiter=DISK_READS)
                self._large.put(entry.raw_id, spooled, 1)
        # From the page cache as a rule: it was written just now.
        return os.pread(spooled.descriptor, size, offset)

    def _spool(self, entry: Entry) -> _Spooled:
        try:
            descriptor, name = tempfile.mkstemp(prefix="plain-", dir=self._spool_folder)
        except OSError as error:
            raise StoreError(f"{self._spool_folder} cannot be written: {error.strerror}") from error
        os.unlink(name)
        spooled = _Spooled(descriptor)
        # git streams large blobs; libgit2 would hold the whole of one in memory.
        git_dir = self._repository.paths.git_dir
        blob = [f"--git-dir={git_dir}", "cat-file", "blob", entry.git_id]
        run_git(blob, cwd=git_dir, stdout=descriptor)
        if os.fstat(descriptor).st_size != entry.size:
            raise GitError(f"git gives another length of the object {entry.git_id} than it said")
        return spooled
