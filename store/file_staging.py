"""The reading half of `add`: files become staged packs and pointers."""

from collections.abc import Mapping, Sequence

from store.chunking import ChunkingParameters
from store.errors import PathRefused
from store.git_blobs import blob_id
from store.git_index import IndexedBlob
from store.ids import ChunkId
from store.pack_sink import PackSink
from store.packs import PackKind
from store.pieces import LoadKnown, Piece, prepare_pieces, stage_pointer
from store.pointer import Pointer
from store.progress import ByteProgress
from store.read_files import Event, FileEnd, FileReader
from store.shown_names import escape_name
from store.staging import Staging
from store.walk import FoundFile


class FileStager:
    """One reading: events of the reader into packs, and what git keeps for each file."""

    def __init__(
        self,
        staging: Staging,
        load_known: LoadKnown,
        indexed: Mapping[bytes, IndexedBlob],
        progress: ByteProgress,
    ) -> None:
        """`indexed` is what git's index has: see `require_known_pointer`."""
        self._staging = staging
        self._load_known = load_known
        self._indexed = indexed
        self._progress = progress
        # (file as it was when it was read, its pointer, or the content that git keeps itself), in
        # order of path.
        self.contents: list[tuple[FoundFile, Pointer | bytes]] = []
        self.staged_bytes = 0
        self._chunks: list[tuple[ChunkId, int]] = []

    def read(self, files: Sequence[FoundFile], chunking: ChunkingParameters, jobs: int) -> None:
        """Read the files and stage what is new of them, with so many threads."""
        if not files:
            return
        with (
            PackSink(self._staging, PackKind.DATA) as data,
            PackSink(self._staging, PackKind.LISTS) as lists,
        ):
            for events in FileReader(chunking, self._load_known).read_batches(files, jobs):
                self._take(events, data, lists)
            data.finish()
            lists.finish()
            self.staged_bytes = data.stored_bytes + lists.stored_bytes

    def _take(self, events: Sequence[Event], data: PackSink, lists: PackSink) -> None:
        done_bytes = done_files = 0
        for event in events:
            if isinstance(event, FileEnd):
                done_files += 1
                self._end_file(event, lists)
            else:
                chunk, raw_length, codec, stored = event
                self._chunks.append((chunk, raw_length))
                done_bytes += raw_length
                if stored is not None:
                    data.append(chunk, codec, stored, raw_length)
        # Once for all of them: of tiny files, to say so of each would cost more than to stage it.
        self._progress.advance(done_bytes, items=done_files)

    def _end_file(self, end: FileEnd, lists: PackSink) -> None:
        chunks, self._chunks = self._chunks, []
        if chunks:
            self.contents.append((end.file, stage_pointer(chunks, lists, self._prepare)))
        else:
            require_known_pointer(end.file, end.content, self._indexed)
            self.contents.append((end.file, end.content))

    def _prepare(self, raw: bytes) -> Piece:
        (piece,) = prepare_pieces([raw], self._load_known)
        return piece


def require_known_pointer(
    file: FoundFile, content: bytes, indexed: Mapping[bytes, IndexedBlob]
) -> None:
    """A pointer text in place of a file stands for data that is not here; it is taken only where
    git's index has that very pointer. Raises PathRefused; an empty file is none."""
    entry = indexed.get(file.path)
    if content and (entry is None or entry.blob != blob_id(content)):
        raise PathRefused(
            f"{escape_name(file.path)} holds the text of a pointer, not data; "
            "git checkout it, or put the data there"
        )
