"""Catalog: what a remote holds, as far as this machine needs to know.

Index objects are fetched once and kept in the cache index; which of them a commit needs is said by
its manifest. Nothing is fetched before the first chunk is wanted that is not here.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import trio

from store.cache_index import CacheIndex
from store.concurrency import TABLE_WRITES, SharedCalls, run_all
from store.errors import (
    IntegrityError,
    MalformedObject,
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    UnsupportedVersion,
)
from store.ids import GitId
from store.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest, parse_manifest_key
from store.remote import (
    FORMAT_KEY,
    INDEX_PREFIX,
    ObjectInfo,
    Remote,
    get_refusals,
    index_key,
    manifests_prefix,
    parse_index_key,
)
from store.remote_format import MAX_FORMAT_BYTES, RemoteFormat, parse_remote_format
from store.remote_index import MAX_INDEX_BYTES, index_hash, parse_index

log = logging.getLogger(__name__)

# Index objects are fetched side by side; each may be some megabytes.
_INDEXES_AT_ONCE = 8


class ListedIndexes(NamedTuple):
    """The store id of a remote, and the hashes (hex) of the index objects that it lists."""

    store: str
    names: frozenset[str]


class Catalog:
    """The tables of contents of one remote, for one repository."""

    def __init__(
        self,
        remote: Remote,
        identity: str,
        repository: str | None,
        index: CacheIndex,
        timeout_seconds: float,
    ) -> None:
        """`identity` tells this remote from all others on this machine (its url and endpoint);
        `repository` is None where the repository has no id yet, and so no manifests."""
        self.remote = remote
        self._identity = identity
        self._repository = repository
        self.index = index
        self._timeout_seconds = timeout_seconds
        self._format: RemoteFormat | None = None
        # One refresh at a time: whoever comes while one is under way finds what it has learnt.
        self._lock = trio.Lock()
        self._asking: SharedCalls[GitId, bool] = SharedCalls()
        # What the remote said the last time, where that was a refusal.
        self._refusal: RemoteError | None = None

    def get_store(self) -> str | None:
        """The remote's store id, if it was ever seen from here."""
        if self._format is None:
            self._format = self.index.load_remote_format(self._identity)
        return None if self._format is None else self._format.store

    def knows_commit(self, commit: GitId) -> bool:
        """Whether a manifest of the commit was ever seen from here."""
        return self.index.knows_commit(self.get_store(), self._repository, commit)

    async def fetch_format(self) -> RemoteFormat | None:
        """The remote's `format` object as it is now, or None where the remote is still empty."""
        try:
            raw = await self._fetch(FORMAT_KEY, MAX_FORMAT_BYTES)
        except ObjectMissing:
            return None
        found = parse_remote_format(raw)
        if self.index.load_format(self._identity) != raw:
            # In a thread, as all writes: another process may be writing for a while.
            keep = partial(self.index.keep_format, self._identity, raw)
            await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
        self._format = found
        return found

    async def fetch_commit_indexes(self, commit: GitId) -> bool:
        """Make the index objects that a commit needs known here. Where the commit has no manifest,
        those of the whole remote are, since its chunks may have come with others. True if
        anything new was learnt. Whoever asks while that is under way shares the outcome."""
        return await self._asking.run(commit, partial(self._fetch_commit_indexes, commit))

    async def _fetch_commit_indexes(self, commit: GitId) -> bool:
        async with self._asking_remote() as at_once:
            found, listed = await self._ask_for(commit, at_once)
            if found is None:
                return False
            manifest = await self._fetch_manifest(found.store, commit, listed)
            if manifest is not None:
                try:
                    return await self._fetch_indexes(found.store, manifest.indexes)
                except ObjectMissing as error:
                    log.warning("an index object that %s needs is gone: %s", commit, error)
            return await self._fetch_indexes(found.store, await self._list_indexes())

    async def fetch_all_indexes(self) -> str | None:
        """Make every index object of the remote known here; the store id, or None if empty."""
        found = await self.fetch_listed_indexes()
        return None if found is None else found.store

    async def fetch_listed_indexes(self, *, anew: bool = False) -> ListedIndexes | None:
        """As `fetch_all_indexes`, with the names of those that the remote lists; `anew`, also
        those that are known here are fetched again."""
        async with self._asking_remote():
            found = await self.fetch_format()
            if found is None:
                return None
            if anew:
                forget = partial(self.index.forget_indexes, found.store)
                await trio.to_thread.run_sync(forget, limiter=TABLE_WRITES)
            names = await self._list_indexes()
            await self._fetch_indexes(found.store, names)
            return ListedIndexes(found.store, frozenset(names))

    @asynccontextmanager
    async def _asking_remote(self) -> AsyncIterator[int]:
        """Be the one who asks the remote; gives how many calls may be made side by side.

        What was refused the last time is not asked for again before the remote lets a call through
        to try: other calls, which it may well allow, would be made in vain.
        """
        async with self._lock:
            refusals = get_refusals(self.remote)
            if self._refusal is not None and refusals.said and not refusals.may_try:
                raise type(self._refusal)(str(self._refusal)) from self._refusal
            try:
                yield 1 if refusals.said else 2
            except (RemoteDenied, RemoteMisconfigured) as error:
                self._refusal = error
                raise
            self._refusal = None

    async def fetch_pushed_commits(self) -> dict[GitId, str]:
        """The commits of this repository that have a manifest, each with the key of one."""
        if self._repository is None:
            return {}
        prefix = manifests_prefix(self._repository)
        listed = await self.remote.list_objects(prefix, timeout_seconds=self._timeout_seconds)
        parsed = [(parse_manifest_key(info.key), info.key) for info in listed]
        return {found[1]: key for found, key in parsed if found is not None}

    async def _ask_for(
        self, commit: GitId, at_once: int
    ) -> tuple[RemoteFormat | None, Sequence[ObjectInfo]]:
        """The format, and what there is where the commit's manifests are: side by side where they
        may be, since the first reader of a fresh clone waits for both."""
        formats: list[RemoteFormat | None] = []
        listed: list[ObjectInfo] = []

        async def ask_format() -> None:
            formats.append(await self.fetch_format())

        async def list_manifests() -> None:
            if self._repository is not None:
                prefix = manifests_prefix(self._repository, commit)
                listed.extend(
                    await self.remote.list_objects(prefix, timeout_seconds=self._timeout_seconds)
                )

        # In this order: of the two rights, that to list is the one that may well be lacking.
        await run_all((list_manifests, ask_format), at_once=at_once)
        return formats[0], listed

    async def _fetch_manifest(
        self, store: str, commit: GitId, listed: Iterable[ObjectInfo]
    ) -> Manifest | None:
        if self._repository is None:
            return None
        # The newest first: an older one may name packs that were condemned since.
        for info in sorted(listed, key=lambda info: info.key, reverse=True):
            if parse_manifest_key(info.key) is None:
                continue
            try:
                raw = await self._fetch(info.key, MAX_MANIFEST_BYTES)
                manifest = parse_manifest(raw)
            except UnsupportedVersion:
                raise
            except MalformedObject as error:
                log.warning("the manifest %s is not used: %s", info.key, error)
                continue
            if (manifest.repository, manifest.commit) == (self._repository, commit):
                keep = partial(self.index.keep_manifest, store, self._repository, commit, raw)
                await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
                return manifest
            log.warning("the manifest %s is of another commit; it is not used", info.key)
        return None

    async def _list_indexes(self) -> list[str]:
        listed = await self.remote.list_objects(INDEX_PREFIX, timeout_seconds=self._timeout_seconds)
        # Whatever else somebody put there is not fetched, nor warned of again and again.
        return [name for info in listed if (name := parse_index_key(info.key)) is not None]

    async def _fetch_indexes(self, store: str, hashes: Iterable[str]) -> bool:
        missing = sorted(set(hashes) - self.index.loaded_indexes(store))
        calls = [partial(self._fetch_index, store, name) for name in missing]
        await run_all(calls, at_once=_INDEXES_AT_ONCE)
        return bool(missing)

    async def _fetch_index(self, store: str, name: str) -> None:
        try:
            raw = await self._fetch(index_key(name), MAX_INDEX_BYTES)
            keep = partial(self._keep_index, store, name, raw)
            await trio.to_thread.run_sync(keep, limiter=TABLE_WRITES)
        except (IntegrityError, MalformedObject) as error:
            # What it lists may be listed elsewhere; a chunk that is not will be named as missing.
            log.warning("an index object of %s is not used: %s", self.remote.url, error)

    def _keep_index(self, store: str, name: str, raw: bytes) -> None:
        if index_hash(raw) != name:
            raise IntegrityError(f"the index object {name} does not hash to its name")
        self.index.keep_index(store, name, parse_index(raw), raw)

    async def _fetch(self, key: str, max_bytes: int) -> bytes:
        return await self.remote.fetch(
            key, max_bytes=max_bytes, timeout_seconds=self._timeout_seconds
        )
