"""`verify` of what is on this machine: git's objects, pointers, staged packs, and whether all else
is here or, as far as this machine knows, in the remote. Asks no remote.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from store.chunk_list import ChunkList
from store.directories import TRACKED_KINDS, Entry
from store.errors import GitError, IntegrityError, MalformedObject
from store.git import Commit
from store.ids import ChunkId, PackName
from store.local_chunks import LocalChunks
from store.local_store import LocalStore
from store.packs import PackTable, load_pack_table, unpack_chunk
from store.pointer import Pointer
from store.progress import ByteProgress
from store.shown_names import escape_name
from store.staging import Staging
from store.verify_findings import Finding, Findings
from store.verify_places import Places
from store.verify_walk import CommitWalk, Hurt

_FILES_AT_ONCE = 4096

NOWHERE = "the data"
_WHY_NOWHERE = (
    "of these files is neither staged nor cached, nor in the remote as far as this machine knows: "
    "revfs verify --remote asks it"
)

_WHAT_TO_DO = "revfs push says which files to add again"


@dataclass(slots=True)
class LocalVerification:
    """What was found here: files of all commits, each content once; those that can be read without
    a network; staged packs."""

    findings: Findings = field(default_factory=Findings)
    commits: int = 0
    files: int = 0
    here: int = 0
    staged_packs: int = 0


async def verify_local(
    local: LocalStore, commits: Sequence[Commit], progress: ByteProgress, *, read: bool
) -> LocalVerification:
    """Look at every file of the commits. With `read`, every chunk of every staged pack is decoded
    and hashed; else their tables are looked at."""
    found = LocalVerification(commits=len(commits))
    damage = StagedDamage()
    if local.staging is not None:
        for staged in local.staging.packs():
            found.staged_packs += 1
            damage.look_at(local.staging, staged.name, found.findings, progress, read=read)
    walk = CommitWalk(local.directories, _LocalLists(local), _LocalPlaces(local, damage), progress)
    for commit in commits:
        await _look_at(commit, walk, found)
    _count(local, commits, found)
    return found


async def _look_at(commit: Commit, walk: CommitWalk, found: LocalVerification) -> None:
    try:
        await walk.look_at(commit.tree)
    except GitError as error:
        finding = found.findings.add(f"git commit {commit.commit}", f"cannot be read: {error}")
        finding.commits.add(commit.commit)
        return
    for path, hurt in walk.hurt_files(commit.tree):
        # A list that is only in the remote says nothing of the chunks.
        if not hurt.is_list:
            _blame(hurt, path, found.findings).hurts(commit.commit, path, hurt.content)


def _blame(hurt: Hurt, path: bytes, findings: Findings) -> Finding:
    if hurt.cause:
        return findings.add(f"git folder {escape_name(path)}", f"cannot be read: {hurt.cause}")
    staged = None if hurt.pack is None else findings.get(place_of(hurt.pack))
    return staged or findings.add(NOWHERE, _WHY_NOWHERE)


def place_of(pack: PackName) -> str:
    """What a person knows a staged pack by."""
    return f"staged pack {pack}"


class StagedDamage:
    """Which chunks of staged packs are damaged: all of a pack that cannot be read by its table."""

    def __init__(self) -> None:
        self._chunks: dict[PackName, set[ChunkId] | None] = {}

    def look_at(
        self,
        staging: Staging,
        pack: PackName,
        findings: Findings,
        progress: ByteProgress,
        *,
        read: bool,
    ) -> None:
        """Check one pack."""
        path = staging.path_of(pack)
        try:
            _, table = load_pack_table(path)
        except (MalformedObject, OSError) as error:
            self._chunks[pack] = None
            findings.add(place_of(pack), f"is damaged ({error}); {_WHAT_TO_DO}")
            return
        bad = _read(path, table, progress) if read else set()
        if bad:
            self._chunks[pack] = bad
            damage = f"has {len(bad):,} of {len(table):,} chunks damaged"
            findings.add(place_of(pack), f"{damage}; {_WHAT_TO_DO}")

    def has(self, pack: PackName, chunk: ChunkId) -> bool:
        """Whether a chunk of a staged pack is damaged."""
        if pack not in self._chunks:
            return False
        damaged = self._chunks[pack]
        return damaged is None or chunk in damaged


def _read(path: Path, table: PackTable, progress: ByteProgress) -> set[ChunkId]:
    bad = set()
    with path.open("rb") as file:
        for entry in table:
            file.seek(entry.offset)
            try:
                unpack_chunk(entry, file.read(entry.stored_length))
            except IntegrityError:
                bad.add(entry.chunk)
            progress.advance(entry.stored_length)
    return bad


class _LocalPlaces:
    """Where chunks are as far as this machine knows: sound, but for those in damaged staged
    packs."""

    def __init__(self, local: LocalStore, damage: StagedDamage) -> None:
        self._local = local
        self._store = local.load_store_id()
        self._damage = damage

    def load(self, chunks: Sequence[ChunkId]) -> list[Places]:
        """See LoadsPlaces."""
        staging, index = self._local.staging, self._local.index
        nothing = [None] * len(chunks)
        staged = nothing if staging is None else staging.load_places(chunks)
        known = nothing if self._store is None else index.load_places(self._store, chunks)
        found = []
        for chunk, here, there in zip(chunks, staged, known, strict=True):
            is_damaged = here is not None and self._damage.has(here.pack, chunk)
            sound = [] if here is None or is_damaged else [here]
            sound += [] if there is None else [there]
            found.append(Places(sound, [here] if here is not None and is_damaged else []))
        return found


class _LocalLists:
    def __init__(self, local: LocalStore) -> None:
        self._chunks = LocalChunks(local)

    async def read(
        self, pointers: Iterable[Pointer], places: Sequence[Places]
    ) -> dict[ChunkId, ChunkList]:
        """See ReadsManyLists."""
        return self._chunks.load_chunk_lists(pointers)


def _count(local: LocalStore, commits: Sequence[Commit], found: LocalVerification) -> None:
    chunks = LocalChunks(local)
    seen: set[bytes] = set()
    for commit in commits:
        for entries in _batches(_walk(local, commit, seen)):
            found.files += len(entries)
            found.here += sum(chunks.load_files_here([entry.pointer for entry in entries]))


def _walk(local: LocalStore, commit: Commit, seen: set[bytes]) -> Iterator[Entry]:
    try:
        for _, entry in local.directories.walk_new(commit.tree, seen):
            if entry.kind in TRACKED_KINDS:
                yield entry
    except GitError:
        # A finding by now.
        return


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, _FILES_AT_ONCE)):
        yield batch
