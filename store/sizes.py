"""The sizes of a revision's files: true, stored after deduplication and compression, and here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from store.chunk_list import ChunkList
from store.directories import MAX_DEPTH, TRACKED_KINDS, Entry, Kind
from store.directory_loader import DirectoryLoader
from store.errors import GitError
from store.ids import ChunkId
from store.local_chunks import LocalChunks
from store.local_store import LocalStore
from store.many_lists import visit_chunk_lists
from store.opening import Reading
from store.paths import PathEntry
from store.pointer import Pointer
from store.shown_names import escape_name


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of some files. `size_bytes` is their true size, of which git itself keeps `git_bytes`.

    `stored_bytes`: what their chunks take in packs, chunk lists included, each counted once;
    `here_bytes`: those of them that can be read without a network. `unknown_bytes`: the true size
    of what this machine knows no place of, which is in neither.
    """

    files: int
    size_bytes: int
    git_bytes: int
    stored_bytes: int
    here_bytes: int
    unknown_bytes: int


@dataclass(frozen=True, slots=True)
class PartSize:
    """The size of one file or folder."""

    path: bytes
    is_folder: bool
    size: Size


@dataclass(slots=True)
class _Part:
    """What a walk over one file or folder finds; each content once."""

    path: bytes
    is_folder: bool
    files: int = 0
    size_bytes: int = 0
    git_bytes: int = 0
    contents: dict[ChunkId, Pointer] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take a file in."""
        self.files += 1
        self.size_bytes += entry.size
        if entry.kind in TRACKED_KINDS:
            self.contents[ChunkId(entry.raw_id)] = entry.pointer
        else:
            self.git_bytes += entry.size


class SizeSurvey:
    """Measures files and folders of a revision. Looks at directories once, at chunks each time."""

    def __init__(self, local: LocalStore, found: Iterable[PathEntry]) -> None:
        """Walks all that is below. Raises GitError for a directory that cannot be read."""
        self._local = local
        self._parts = [_gather(local.directories, path, entry) for path, entry in found]
        self._lists: dict[ChunkId, ChunkList] = {}

    def measure(self) -> tuple[list[PartSize], Size]:
        """The size of each part, in the order given, and of all together; asks no remote."""
        self._local.cache.flush()
        chunks = LocalChunks(self._local)
        contents: dict[ChunkId, Pointer] = {}
        for part in self._parts:
            contents |= part.contents
        unread = [pointer for content, pointer in contents.items() if content not in self._lists]
        self._lists |= chunks.load_chunk_lists(unread)
        stored = self._load_stored(chunks, contents.values())
        whole = _Part(
            b"",
            True,
            sum(part.files for part in self._parts),
            sum(part.size_bytes for part in self._parts),
            sum(part.git_bytes for part in self._parts),
            contents,
        )
        sizes = [PartSize(p.path, p.is_folder, self._size(p, stored)) for p in self._parts]
        return sizes, self._size(whole, stored)

    async def fetch(self, reading: Reading) -> None:
        """Learn from the remote what `measure` did not know. Raises StoreError where it fails; what
        was learnt before counts."""
        await reading.source.learn_commit()
        pointers = [
            pointer
            for part in self._parts
            for pointer in part.contents.values()
            if pointer.content not in self._lists
        ]

        def take(pointer: Pointer, chunk_list: ChunkList) -> None:
            self._lists[pointer.content] = chunk_list

        await visit_chunk_lists(LocalChunks(self._local), reading, pointers, take)

    def _load_stored(
        self, chunks: LocalChunks, pointers: Iterable[Pointer]
    ) -> dict[ChunkId, tuple[int, bool]]:
        """For each chunk whose place is known: its stored length, and whether it is here."""
        wanted = list(self._chunks_of(pointers)[0])
        found = zip(wanted, chunks.load(wanted), strict=True)
        return {
            chunk: (held.place.entry.stored_length, held.here)
            for chunk, held in found
            if held is not None
        }

    def _size(self, part: _Part, stored: dict[ChunkId, tuple[int, bool]]) -> Size:
        stored_bytes = here_bytes = 0
        lengths, unknown_bytes = self._chunks_of(part.contents.values())
        for chunk, length in lengths.items():
            place = stored.get(chunk)
            if place is None:
                unknown_bytes += length
            else:
                stored_bytes += place[0]
                here_bytes += place[0] if place[1] else 0
        return Size(
            part.files, part.size_bytes, part.git_bytes, stored_bytes, here_bytes, unknown_bytes
        )

    def _chunks_of(self, pointers: Iterable[Pointer]) -> tuple[dict[ChunkId, int], int]:
        """The chunks of these files, each once, with their true lengths (a chunk list is no part of
        a file, and has none); and the bytes of files whose chunk list is not known."""
        lengths: dict[ChunkId, int] = {}
        unlisted_bytes = 0
        for pointer in pointers:
            chunk_list = self._lists.get(pointer.content)
            if pointer.chunks == 1:
                lengths[pointer.content] = pointer.size
            elif chunk_list is None:
                unlisted_bytes += pointer.size
            else:
                lengths[pointer.content] = 0
                lengths |= _lengths(chunk_list)
        return lengths, unlisted_bytes


def _lengths(chunk_list: ChunkList) -> Iterator[tuple[ChunkId, int]]:
    for number in range(len(chunk_list)):
        span = chunk_list.span(number)
        yield span.chunk, span.length


def _gather(directories: DirectoryLoader, path: bytes, entry: Entry) -> _Part:
    part = _Part(path, entry.kind == Kind.FOLDER)
    waiting: list[tuple[Entry, int]] = [(entry, path.count(b"/"))]
    while waiting:
        found, depth = waiting.pop()
        if found.kind != Kind.FOLDER:
            part.add(found)
            continue
        if depth > MAX_DEPTH:
            raise GitError(f"the folders of {escape_name(path)} are nested too deeply")
        waiting += [(below, depth + 1) for below in directories.load_entry(found)]
    return part


def outermost(paths: Sequence[bytes]) -> list[bytes]:
    """Those of the paths that lie below no other, each once: so that nothing counts twice."""
    kept: list[bytes] = []
    for path in dict.fromkeys(paths):
        if not any(_is_below(path, other) for other in paths):
            kept.append(path)
    return kept


def _is_below(path: bytes, other: bytes) -> bool:
    return path != other and (not other or path.startswith(other + b"/"))
