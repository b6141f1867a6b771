"""What hostile buckets are made of: honest packs, index object and manifest of a commit, as objects
by key, and forged ones that only an enemy would encode."""

import os
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from store.chunk_list import encode_chunk_list
from store.chunking import DEFAULT_CHUNKING
from store.ids import ChunkId, GitId, chunk_id, hash_bytes
from store.manifests import Manifest, encode_manifest, manifest_key, new_ulid
from store.packs import PackEntry, PackKind, PackTable
from store.pointer import Pointer
from store.remote import FORMAT_KEY, index_key, pack_key
from store.remote_format import RemoteFormat, encode_remote_format
from store.remote_index import encode_index, index_hash
from tests.fakes.repositories import REPOSITORY_ID, Repository, make_repository
from tests.fakes.small_store import BuiltPack, build_pack

STORE = "99999999-2222-4333-8444-555555555555"
TOOL = "revfs hostile"
_ENTRY = struct.Struct("<32sIIIB")
_seed = random.Random(5)
SMALL, OTHER = _seed.randbytes(30_000), _seed.randbytes(30_000)
TEXT = b"text that is stored compressed\n" * 2000
PIECES = [_seed.randbytes(70_000) for _ in range(6)]
FIRST, SECOND = PIECES[:3], PIECES[3:]


def chunk_list(pieces: Sequence[bytes]) -> bytes:
    """The list of a file of these chunks."""
    return encode_chunk_list([(chunk_id(piece), len(piece)) for piece in pieces])


@dataclass(slots=True)
class Parts:
    """The objects of a bucket under way, and the files of the commit that it is for. `pointers` are
    by name, and so are `contents`, of those files that have any."""

    pointers: dict[str, Pointer]
    contents: dict[str, bytes]
    packs: list[BuiltPack]
    objects: dict[str, bytes] = field(default_factory=dict)
    # Objects that are made so long with zeros.
    sizes: dict[str, int] = field(default_factory=dict)

    def put_packs(self) -> None:
        """Put every pack as it is."""
        self.objects |= {pack_key(pack.name): pack.raw for pack in self.packs}

    def put_index(self) -> str:
        """Put the index object of all packs; its name."""
        return self.put_raw_index(encode_index([pack.indexed for pack in self.packs]))

    def put_raw_index(self, raw: bytes) -> str:
        """Put any bytes as an index object under their own hash; its name."""
        self.objects[index_key(index_hash(raw))] = raw
        return index_hash(raw)

    def put_manifest(self, commit: GitId, *indexes: str, of: GitId | None = None) -> None:
        """Put a manifest of `commit`, or what lies there as one is `of` another."""
        names = tuple(sorted(pack.name for pack in self.packs))
        record = Manifest(REPOSITORY_ID, of or commit, names, tuple(sorted(indexes)), (), TOOL)
        key = manifest_key(REPOSITORY_ID, commit, new_ulid(len(self.objects)))
        self.objects[key] = encode_manifest(record)

    def put_all(self, commit: GitId) -> None:
        """All of an honest push."""
        self.objects[FORMAT_KEY] = encode_remote_format(RemoteFormat(STORE, DEFAULT_CHUNKING))
        self.put_packs()
        self.put_manifest(commit, self.put_index())

    def replace_index(self, commit: GitId, *raws: bytes) -> None:
        """These index objects, and a manifest that names them, in place of the honest ones."""
        for key in [key for key in self.objects if key.startswith(("index/", "manifests/"))]:
            del self.objects[key]
        self.put_manifest(commit, *(self.put_raw_index(raw) for raw in raws))

    def write(self, folder: Path) -> None:
        """Write the objects below a folder, which is then a remote."""
        for key, content in self.objects.items():
            place = folder / key
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            if key in self.sizes:
                os.truncate(place, self.sizes[key])


def honest_parts() -> Parts:
    """Two small files in one pack, two of three chunks in another, their lists in one each."""
    lists = [chunk_list(FIRST), chunk_list(SECOND)]
    packs = [
        build_pack([SMALL, TEXT, OTHER], compress=True),
        build_pack(PIECES),
        *(build_pack([raw], PackKind.LISTS) for raw in lists),
    ]
    first, second = b"".join(FIRST), b"".join(SECOND)
    return Parts(
        {
            "small": Pointer(chunk_id(SMALL), len(SMALL)),
            "text": Pointer(chunk_id(TEXT), len(TEXT)),
            "other": Pointer(chunk_id(OTHER), len(OTHER)),
            "first": Pointer(chunk_id(lists[0]), len(first), 3),
            "second": Pointer(chunk_id(lists[1]), len(second), 3),
        },
        {"small": SMALL, "text": TEXT, "other": OTHER, "first": first, "second": second},
        packs,
    )


def commit_pointers(folder: Path, pointers: dict[str, Pointer]) -> tuple[Repository, GitId]:
    """A repository whose HEAD has these pointers, and one plain file."""
    repository = make_repository(folder)
    for name, pointer in pointers.items():
        repository.write(name, pointer.to_bytes())
    repository.write("plain", b"kept by git itself\n")
    repository.git("add", ".")
    return repository, GitId(repository.commit())


def forged_pack(rows: Sequence[tuple[ChunkId, bytes, int, int]]) -> BuiltPack:
    """A pack with a right table of (id, stored bytes, raw length, codec), whatever those say."""
    body, table = bytearray(struct.pack("<4sBBH", b"RVPK", 1, 0, 0)), bytearray()
    for chunk, stored, raw_length, codec in rows:
        table += _ENTRY.pack(chunk, len(body), len(stored), raw_length, codec)
        body += stored
    footer = struct.pack("<I32s4s", len(table), hash_bytes(table), b"KPVR")
    raw = bytes(body + table + footer)
    blank = build_pack([b"blank"])
    entry = PackTable.trusted(bytes(table))
    return BuiltPack(raw, replace(blank.indexed, size=len(raw), hash=hash_bytes(raw), table=entry))


def told_otherwise(pack: BuiltPack, change: dict[int, dict[str, object]]) -> BuiltPack:
    """A pack of which an index object says other things: fields of entries, by number."""
    rows: list[PackEntry] = [
        entry._replace(**change.get(number, {}))  # type: ignore[arg-type]
        for number, entry in enumerate(pack.table)
    ]
    table = PackTable.trusted(b"".join(_ENTRY.pack(*row) for row in rows))
    return BuiltPack(pack.raw, replace(pack.indexed, table=table))


def zstd_frame(content_size: int, blocks: bytes, window_log: int = 10) -> bytes:
    """A zstd frame (RFC 8878) that states a content size and a window, with these blocks."""
    # Not a single segment, a content size of 8 bytes, no checksum, no dictionary.
    head = struct.pack("<IBBQ", 0xFD2FB528, 0xC0, (window_log - 10) << 3, content_size)
    return head + blocks


def rle_blocks(total: int) -> bytes:
    """Blocks of four bytes each that stand for 128 KiB of one byte."""
    most = 128 << 10
    count = total // most
    block = struct.pack("<I", most << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", most << 3 | 1 << 1 | 1)[:3] + b"\0"
    return block * (count - 1) + last
