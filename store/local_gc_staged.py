"""Staged packs that nothing needs any more: which they are, and taking them away.

They are the only copy of what they hold, so one goes only where git can come back to none of its
chunks and nobody relied on it for a while; where that cannot be told for certain, all of them stay.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from store.chunk_list import ChunkList
from store.errors import Busy, ChunkMissing, GitError, MalformedObject, StoreError, find_store_error
from store.git_reachable import stream_small_blobs
from store.git_roots import Stamp, load_full_stamp, require_all_in_sight
from store.ids import ChunkId, GitId, PackName
from store.local_chunks import LocalChunks, chunks_of
from store.local_gc_needs import PackNeeds
from store.local_store import LocalStore
from store.many_lists import TakeList
from store.packs import PackTable
from store.pointer import MAX_POINTER_BYTES, Pointer, PointerParts, parse_pointers
from store.staging import StagedPack, Staging
from store.staging_hold import alone_with_staging

log = logging.getLogger(__name__)

DEFAULT_GRACE_SECONDS = 14 * 86400.0
"""As long as git itself keeps what nothing names any more (gc.pruneExpire)."""

# Files are stamped from a clock that lags by up to a tick of 10 ms.
_CLOCK_GRAIN_SECONDS = 0.02
_LATER_POINTER = re.compile(rb"revfs (?:[2-9]|[1-9][0-9]+)\n")

FetchLists = Callable[[Sequence[Pointer], TakeList], Awaitable[list[Pointer]]]
"""Hands the chunk lists of these files to the function, from wherever they are; those that are not
to be had. Raises StoreError."""


@dataclass(frozen=True, slots=True)
class StagedPlan:
    """Staged packs by what becomes of them: `dropped` are needed by nothing, `young` were used too
    lately to tell, `damaged` have no table that can be read. Where `refusal` says why it cannot be
    told what is needed, those of which it is not known are `undecided`, and stay."""

    dropped: tuple[StagedPack, ...] = ()
    needed: tuple[StagedPack, ...] = ()
    young: tuple[StagedPack, ...] = ()
    damaged: tuple[StagedPack, ...] = ()
    undecided: tuple[StagedPack, ...] = ()
    refusal: StoreError | None = None
    # What `execute` looks at once more: how git's places stood, and from when on a pack is young.
    stamp: Stamp = ()
    young_from_seconds: float = 0.0

    def execute(self, local: LocalStore) -> list[StagedPack]:
        """Drop what is to be dropped; those that went. One that somebody relied on meanwhile stays.

        Raises Busy where somebody works with staged packs just now, GitError where git's places
        have changed since they were looked at.
        """
        if not self.dropped:
            return []
        assert local.staging is not None
        paths = local.settings.paths
        with alone_with_staging(paths.state_dir):
            require_all_in_sight(paths)
            if load_full_stamp(paths) != self.stamp:
                raise Busy("git was at work in this repository meanwhile: run it again")
            return [
                pack
                for pack in self.dropped
                if _drop_idle(local.staging, pack, self.young_from_seconds)
            ]


async def plan_staged(
    local: LocalStore,
    fetch_lists: FetchLists,
    *,
    now_seconds: float,
    grace_seconds: float,
    mounted: Collection[GitId] = (),
) -> StagedPlan:
    """Decide which staged packs nothing needs: no ref, index, stash or reflog of any worktree, none
    of the commits in `mounted`; changes nothing. One that was written, or relied on, within the
    grace stays. Raises no StoreError about git: then all stay, and the plan says why."""
    if local.staging is None:
        return StagedPlan()
    survey = _Survey(local, local.staging, now_seconds - grace_seconds)
    try:
        if survey.needs.unneeded:
            survey.look_at_git(mounted)
        if survey.needs.unneeded and survey.absent:
            await survey.look_at_lists(fetch_lists)
    except* StoreError as errors:
        survey.refusal = find_store_error(errors)
    return survey.plan()


class _Survey:
    """What is found out of the staged packs, step by step."""

    def __init__(self, local: LocalStore, staging: Staging, young_from_seconds: float) -> None:
        """Sorts them by what needs no look at git."""
        self._local = local
        self._young_from_seconds = young_from_seconds
        self._young: list[StagedPack] = []
        self._damaged: list[StagedPack] = []
        self._old: list[StagedPack] = []
        tables: dict[PackName, PackTable] = {}
        for pack in staging.packs():
            try:
                if _is_young(staging, pack, young_from_seconds):
                    self._young.append(pack)
                    continue
                _, tables[pack.name] = staging.load_table(pack.name)
                self._old.append(pack)
            except FileNotFoundError:
                # Pushed meanwhile.
                continue
            except MalformedObject as error:
                log.warning("a staged pack is damaged, and stays: %s", error)
                self._damaged.append(pack)
        rows = {name: (chunk for chunk, _ in table.rows()) for name, table in tables.items()}
        self.needs = PackNeeds(rows)
        self._stamp: Stamp = ()
        # Files of several chunks whose list is not here, by content.
        self.absent: dict[ChunkId, Pointer] = {}
        self.refusal: StoreError | None = None

    def look_at_git(self, mounted: Collection[GitId]) -> None:
        """Take every pointer in that git can come back to. Raises GitError."""
        repository = self._local.repository
        paths = repository.paths
        require_all_in_sight(paths)
        self._stamp = load_full_stamp(paths)
        chunks = LocalChunks(self._local)
        for raw_ids in stream_small_blobs(paths, MAX_POINTER_BYTES, mounted):
            blobs = repository.load_small_blobs(raw_ids, MAX_POINTER_BYTES)
            self._take(chunks, [blob for blob in blobs if isinstance(blob, bytes)])
            if not self.needs.unneeded:
                # Nothing can go; it is not worth it to look on.
                return

    def _take(self, chunks: LocalChunks, blobs: Sequence[bytes]) -> None:
        pointers = parse_pointers(blobs)
        if any(map(_LATER_POINTER.match, blobs)):
            raise GitError("a later revfs was at work in this repository: use that one")
        self.needs.take(ChunkId(parts[0]) for parts in pointers if parts is not None)
        several = [_pointer(parts) for parts in pointers if parts is not None and parts[2] > 1]
        found = chunks.load_chunk_lists(several)
        for chunk_list in found.values():
            self.needs.take(chunks_of(chunk_list))
        self.absent.update((p.content, p) for p in several if p.content not in found)

    async def look_at_lists(self, fetch_lists: FetchLists) -> None:
        """Take in what files need whose list of chunks is not here. Raises StoreError where one is
        not to be had."""

        def take(_: Pointer, chunk_list: ChunkList) -> None:
            self.needs.take(chunks_of(chunk_list))

        lost = await fetch_lists(list(self.absent.values()), take)
        if lost:
            raise ChunkMissing(
                f"{len(lost)} chunk lists of files are neither here nor in a remote, the first of "
                f"them {lost[0].content.hex()}, and without them nobody knows what the files need"
            )

    def plan(self) -> StagedPlan:
        """What was found."""
        unneeded = self.needs.unneeded
        idle = tuple(pack for pack in self._old if pack.name in unneeded)
        decided = self.refusal is None
        return StagedPlan(
            dropped=idle if decided else (),
            needed=tuple(pack for pack in self._old if pack.name not in unneeded),
            young=tuple(self._young),
            damaged=tuple(self._damaged),
            undecided=() if decided else idle,
            refusal=self.refusal if idle else None,
            stamp=self._stamp,
            young_from_seconds=self._young_from_seconds,
        )


def _pointer(parts: PointerParts) -> Pointer:
    return Pointer(ChunkId(parts[0]), *parts[1:])


def _is_young(staging: Staging, pack: StagedPack, young_from_seconds: float) -> bool:
    """Whether a pack was written or relied on too lately. Raises FileNotFoundError."""
    used = staging.path_of(pack.name).stat().st_mtime
    return used > young_from_seconds - _CLOCK_GRAIN_SECONDS


def _drop_idle(staging: Staging, pack: StagedPack, young_from_seconds: float) -> bool:
    """Drop a pack, unless it was relied on meanwhile or is gone; whether it was dropped."""
    try:
        if _is_young(staging, pack, young_from_seconds):
            return False
        _, table = staging.load_table(pack.name)
    except (FileNotFoundError, MalformedObject):
        return False
    staging.remove(pack.name, table)
    return True
