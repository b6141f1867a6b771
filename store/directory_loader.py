"""DirectoryLoader: directories of any revision, read from git once and kept by tree id."""

import logging
from collections.abc import Iterator
from functools import partial

from store.cache_index import CacheIndex
from store.directories import EMPTY_DIRECTORY, MAX_DEPTH, Directory, Entry, Kind, read_tree
from store.directory_ahead import DirectoriesAhead, start_reading
from store.errors import GitError, LocalDiskFull, MalformedObject
from store.git import GitRepository
from store.memory_cache import MemoryCache

log = logging.getLogger(__name__)

_RECENT_BYTES = 48 << 20
# What a name and its share of the columns take in memory, measured with long and short names.
_ENTRY_BYTES = 130
# Kept in one transaction, and soon enough for other processes that serve the same mount.
_UNSAVED_BYTES = 4 << 20


class DirectoryLoader:
    """Directories by raw tree id: from memory, from the cache index, from git. Plain functions
    that may wait for a disk; one thread at a time."""

    def __init__(self, repository: GitRepository, index: CacheIndex) -> None:
        self._repository = repository
        self._index = index
        self._recent: MemoryCache[bytes, Directory] = MemoryCache(_RECENT_BYTES)
        # What is not in the index yet, and how many bytes that is.
        self._unsaved: dict[bytes, bytes] = {}
        self._unsaved_bytes = 0
        self._ahead = DirectoriesAhead(partial(start_reading, repository.paths, index.folder))

    def get(self, tree: bytes) -> Directory | None:
        """The directory if it is in memory."""
        return self._recent.get(tree)

    def load(self, tree: bytes) -> Directory:
        """The directory. Raises GitError for a tree that is missing, malformed, or holds a file
        that git cannot give."""
        found = self._recent.get(tree)
        if found is not None:
            return found
        found = self._load_packed(tree) or self._read(tree)
        self._recent.put(tree, found, _ENTRY_BYTES * (len(found) + 1))
        return found

    def save(self) -> None:
        """Keep what was read from git for the next time; a full disk is no error."""
        unsaved, self._unsaved, self._unsaved_bytes = self._unsaved, {}, 0
        if unsaved:
            try:
                self._index.keep_directories(unsaved.items())
            except LocalDiskFull:
                # A hint that is not kept is read from git again.
                return

    def load_entry(self, entry: Entry) -> Directory:
        """The directory behind an entry; that of a submodule is empty."""
        return self.load(entry.tree) if entry.kind == Kind.FOLDER else EMPTY_DIRECTORY

    def walk_new(
        self, tree: bytes, seen: set[bytes], path: bytes = b"", depth: int = 0
    ) -> Iterator[tuple[bytes, Entry]]:
        """(path, entry) of all but folders below a tree, passing over trees in `seen`, to which
        those walked are added."""
        if tree in seen:
            return
        if depth > MAX_DEPTH:
            raise GitError(f"the folders of {path!r} are nested too deeply")
        seen.add(tree)
        for entry in self.load(tree):
            below = path + b"/" + entry.name if path else entry.name
            if entry.kind == Kind.FOLDER:
                yield from self.walk_new(entry.tree, seen, below, depth + 1)
            else:
                yield below, entry

    def _load_packed(self, tree: bytes) -> Directory | None:
        """What was read before, if anything was. A row that nothing can be made of is as good as
        none."""
        packed = self._unsaved.get(tree) or self._index.load_directory(tree)
        try:
            return None if packed is None else Directory.unpack(packed)
        except MalformedObject as error:
            log.debug("what is kept of the git tree %s is not used: %s", tree.hex(), error)
            return None

    def _read(self, tree: bytes) -> Directory:
        try:
            found = read_tree(self._repository.load_tree(tree), self._repository)
        except MalformedObject as error:
            raise GitError(f"the git tree {tree.hex()} cannot be read: {error}") from error
        packed = self._unsaved[tree] = found.pack()
        self._unsaved_bytes += len(packed)
        if self._unsaved_bytes >= _UNSAVED_BYTES:
            self.save()
        self._ahead.note(tree, found)
        return found
