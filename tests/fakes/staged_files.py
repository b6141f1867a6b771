"""Data that is staged without `add`, and its pointer as an ordinary small file of git's: so that
git can do with it whatever it does, without a filter.

text = staged.stage(b"...")      # a pack of its own, and what git is to keep
repository.write("file", text)
"""

import os
from dataclasses import dataclass, field

from store.chunk_list import encode_chunk_list
from store.codec import Codec
from store.ids import ChunkId, PackName, chunk_id
from store.local_chunks import LocalChunks, chunks_of
from store.local_store import LocalStore
from store.packs import PackKind, unpack_chunk
from store.pointer import Pointer, parse_pointer
from store.staging import Staging

# Of pieces of this size; what is longer is a file of several chunks.
PIECE_BYTES = 1000


@dataclass
class StagedFiles:
    """What was staged, by the text of its pointer: its content, and the packs that hold it."""

    local: LocalStore
    contents: dict[bytes, bytes] = field(default_factory=dict)
    packs: dict[bytes, set[PackName]] = field(default_factory=dict)

    @property
    def staging(self) -> Staging:
        assert self.local.staging is not None
        return self.local.staging

    def stage(self, content: bytes, *, with_list: bool = True) -> bytes:
        """The text of the pointer of data that is staged now, its chunk list too unless told
        otherwise."""
        pieces = [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]
        packs = {self.write_pack(pieces)}
        pointer = Pointer(chunk_id(content), len(content))
        if len(pieces) > 1:
            raw = encode_chunk_list([(chunk_id(piece), len(piece)) for piece in pieces])
            pointer = Pointer(chunk_id(raw), len(content), len(pieces))
            if with_list:
                packs.add(self.write_pack([raw], PackKind.LISTS))
        text = pointer.to_bytes()
        self.contents[text] = content
        self.packs[text] = self.packs.get(text, set()) | packs
        return text

    def write_pack(self, chunks: list[bytes], kind: PackKind = PackKind.DATA) -> PackName:
        """A staged pack of these chunks."""
        with self.staging.new_pack(kind) as writer:
            for chunk in chunks:
                writer.append(chunk_id(chunk), Codec.RAW, chunk, len(chunk))
            writer.finish()
            return writer.name

    def names(self) -> set[PackName]:
        """The packs that are staged now."""
        return {pack.name for pack in self.staging.packs()}

    def make_old(self) -> None:
        """Have nobody have relied on any pack for a year."""
        for name in self.names():
            os.utime(self.staging.path_of(name), (10**9, 10**9))

    def read(self, text: bytes) -> bytes:
        """The data behind a pointer, from the staged packs."""
        pointer = parse_pointer(text)
        assert pointer is not None
        chunks = [pointer.content]
        if pointer.chunks > 1:
            lists = LocalChunks(self.local).load_chunk_lists([pointer])
            chunks = list(chunks_of(lists[pointer.content]))
        return b"".join(map(self._read_chunk, chunks))

    def _read_chunk(self, chunk: ChunkId) -> bytes:
        place = self.staging.load_place(chunk)
        assert place is not None, "it is not staged any more"
        raw = self.staging.path_of(place.pack).read_bytes()
        return unpack_chunk(place.entry, raw[place.entry.offset : place.entry.end])
