"""The reading half of `add`: files become staged packs and the texts of their pointers."""

from collections.abc import Mapping, Sequence

from store.chunking import ChunkingParameters
from store.errors import PathRefused
from store.git import blob_id
from store.git_index import IndexedBlob
from store.ids import ChunkId
from store.pack_sink import PackSink
from store.packs import PackKind
from store.pieces import IsKnown, Piece, prepare_piece, stage_pointer
from store.pointer import Pointer
from store.progress import ByteProgress
from store.read_files import FileEnd, FileReader
from store.shown_names import escape_name
from store.staging import Staging
from store.walk import FoundFile


class FileStager:
    """One reading: events of the reader into packs and pointer texts."""

    def __init__(
        self,
        staging: Staging,
        is_known: IsKnown,
        indexed: Mapping[bytes, IndexedBlob],
        progress: ByteProgress,
    ) -> None:
        """`indexed` is what git's index has: see `require_known_pointer`."""
        self._staging = staging
        self._is_known = is_known
        self._indexed = indexed
        self._progress = progress
        # (file as it was when it was read, what git keeps for it), in order of path.
        self.contents: list[tuple[FoundFile, bytes]] = []
        # Those of them that are tracked, for the stat cache.
        self.pointers: list[tuple[FoundFile, Pointer]] = []
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
            for event in FileReader(chunking, self._is_known).read(files, jobs):
                if isinstance(event, FileEnd):
                    self._end_file(event, lists)
                else:
                    self._take_piece(event, data)
            data.finish()
            lists.finish()
            self.staged_bytes = data.stored_bytes + lists.stored_bytes

    def _take_piece(self, piece: Piece, data: PackSink) -> None:
        self._chunks.append((piece.chunk, piece.raw_length))
        if piece.stored is not None:
            data.append(piece.chunk, piece.codec, piece.stored, piece.raw_length)
        self._progress.advance(piece.raw_length)

    def _end_file(self, end: FileEnd, lists: PackSink) -> None:
        chunks, self._chunks = self._chunks, []
        self._progress.advance(0, items=1)
        if not chunks:
            require_known_pointer(end.file, end.content, self._indexed)
            self.contents.append((end.file, end.content))
            return
        pointer = stage_pointer(chunks, lists, self._prepare)
        self.contents.append((end.file, pointer.to_bytes()))
        self.pointers.append((end.file, pointer))

    def _prepare(self, raw: bytes) -> Piece:
        return prepare_piece(raw, self._is_known)


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
