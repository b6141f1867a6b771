"""LocalStore: what of a store is on this machine, without the loop that reads from remotes.

What only stages (git's filter, above all, which is started by every git add) pays for no more.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from store.cache_index import CacheIndex
from store.cache_rows import PackPlace
from store.chunking import DEFAULT_CHUNKING, ChunkingParameters
from store.config import RemoteSettings
from store.crash_marks import clear_crash, crashed_in_repository_tables
from store.ids import ChunkId, GitId
from store.local_folders import make_private_folder
from store.pack_cache import PackCache
from store.remote_format import RemoteFormat
from store.staging import Staging, has_staged_packs, open_repository_tables
from store.staging_hold import hold_staging
from store.stat_cache import StatCache
from store.store_settings import StoreSettings
from store.tables import Tables

if TYPE_CHECKING:
    from store.directory_loader import DirectoryLoader
    from store.git import GitRepository


@dataclass(frozen=True, slots=True)
class LocalSources:
    """What of the local disk a chunk may come from; `staging` is None where nothing is staged."""

    staging: Staging | None
    index: CacheIndex
    cache: PackCache


class LocalStore:
    """The local parts of a store: git, the cache, staged packs. Open it after any fork.

    Git's objects are opened at their first use: what only stages has no need of libgit2.
    """

    def __init__(self, settings: StoreSettings, *, to_write: bool, holds: bool = True) -> None:
        """With `to_write` the folder for staged packs is made if there is none, and none of them is
        dropped before this is closed, unless whoever drops some `holds` none."""
        self.settings = settings
        make_private_folder(settings.cache_directory)
        index_folder = make_private_folder(settings.cache_directory / "index")
        self.index = CacheIndex(index_folder)
        self.cache = PackCache(
            settings.cache_directory / "packs", self.index, settings.cache_size_bytes
        )
        # The remote's, once it is known; asked for with every chunk.
        self._store_id: str | None = None
        self._tables: Tables | None = None
        self._hold: BinaryIO | None = None
        self.staging: Staging | None = None
        state_dir = settings.paths.state_dir
        if to_write or has_staged_packs(state_dir):
            crashed = crashed_in_repository_tables(index_folder)
            doubt = "a process crashed while it read such tables" if crashed else ""
            self._tables = open_repository_tables(state_dir, doubt)
            if crashed:
                clear_crash(index_folder)
            self.staging = Staging(state_dir, self._tables)
        if to_write and holds:
            self._hold = hold_staging(state_dir)

    @cached_property
    def repository(self) -> "GitRepository":
        """Git's objects and index. Raises GitError."""
        from store.git import GitRepository

        return GitRepository(self.settings.paths)

    @cached_property
    def directories(self) -> "DirectoryLoader":
        """The directories of any revision."""
        from store.directory_loader import DirectoryLoader

        return DirectoryLoader(self.repository, self.index)

    def close(self) -> None:
        """Bring the tables up to date and let go of everything."""
        if "directories" in self.__dict__:
            self.directories.save()
        self.cache.flush()
        if self._tables is not None:
            self._tables.close()
        self.index.close()
        if "repository" in self.__dict__:
            self.repository.close()
        if self._hold is not None:
            self._hold.close()

    def __enter__(self) -> "LocalStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sources(self) -> LocalSources:
        """What of the local disk a chunk may come from."""
        return LocalSources(self.staging, self.index, self.cache)

    def open_stat_cache(self) -> StatCache:
        """The stat cache; the store must be open to write."""
        assert self._tables is not None
        return StatCache(self._tables)

    def load_chunking(self) -> ChunkingParameters:
        """How the remote wants files to be cut, as far as known here; else the usual way."""
        found = self._load_format()
        return DEFAULT_CHUNKING if found is None else found.chunking

    def is_known(self, chunk: ChunkId) -> bool:
        """Whether a chunk is staged, or in the remote as far as this machine knows; for whoever
        stages nothing where it is."""
        if self.staging is not None and self.staging.rely_on([chunk])[0]:
            return True
        if self._store_id is None:
            self._store_id = self.load_store_id()
        store = self._store_id
        return store is not None and self.index.load_place(store, chunk) is not None

    def load_absent_place(self, chunk: ChunkId) -> PackPlace | None:
        """Where the remote has a chunk that cannot be read here without it; None for one that is
        here, or of which nothing is known."""
        remote = self.settings.remote
        if remote is None or remote.folder is not None:
            return None
        if self.staging is not None and self.staging.load_place(chunk) is not None:
            return None
        store = self._store_id or self.load_store_id()
        place = None if store is None else self.index.load_place(store, chunk)
        if place is None or self.cache.covers(place.pack, place.entry.offset, place.entry.end):
            return None
        return place

    def load_store_id(self) -> str | None:
        """The store id of the remote, if it was ever seen from here."""
        found = self._load_format()
        return None if found is None else found.store

    def knows_commit(self, commit: GitId) -> bool:
        """Whether a manifest of the commit was ever seen from here, in the remote in use."""
        return self.index.knows_commit(self.load_store_id(), self.settings.repository_id, commit)

    def _load_format(self) -> RemoteFormat | None:
        remote = self.settings.remote
        return None if remote is None else self.index.load_remote_format(identity_of(remote))


def identity_of(remote: RemoteSettings) -> str:
    """What tells a remote from all others on this machine."""
    if remote.folder is not None:
        return f"folder {remote.folder}"
    return f"s3 {remote.endpoint or ''} {remote.bucket}/{remote.prefix}"
