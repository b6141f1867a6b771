"""Hostile buckets: what somebody who can write a bucket may put there, or leave of it, as folders
that are remotes by themselves or are served by an S3 server.

`HOSTILE` names the makers; each is called with a new folder, and makes in it `repository`, with the
pointers of one commit, and `remote`.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from store.chunk_list import MAX_CHUNKS_PER_FILE
from store.ids import GitId, chunk_id, new_pack_name
from store.manifests import MAX_MANIFEST_BYTES
from store.pointer import Pointer
from store.remote import FORMAT_KEY, index_key, pack_key
from store.remote_index import MAX_INDEX_BYTES, encode_index
from store.sealed_text import seal
from tests.fakes.repositories import Repository
from tests.fakes.small_store import BuiltPack, build_pack
from tests.hostile.bucket_parts import (
    FIRST,
    OTHER,
    SMALL,
    Parts,
    chunk_list,
    commit_pointers,
    forged_pack,
    honest_parts,
    rle_blocks,
    told_otherwise,
    zstd_frame,
)

ALL = ("first", "other", "second", "small", "text")


@dataclass(frozen=True, slots=True)
class HostileBucket:
    """`contents` is path → bytes of the tracked files that can be read; `hurt` are those that
    cannot; `either` are those of which that rests on what is looked at first."""

    repository: Repository
    remote: Path
    contents: dict[str, bytes]
    hurt: frozenset[str]
    either: frozenset[str] = frozenset()


Change = Callable[[Parts, GitId], None]
"""Makes the parts of an honest push hostile."""


def _make(
    change: Change,
    hurt: Iterable[str],
    folder: Path,
    *,
    either: Iterable[str] = (),
    prepare: Callable[[Parts], None] = lambda _: None,
) -> HostileBucket:
    """The bucket of an honest push, after the change. `prepare` comes before the commit."""
    parts = honest_parts()
    prepare(parts)
    repository, commit = commit_pointers(folder / "repository", parts.pointers)
    parts.put_all(commit)
    change(parts, commit)
    remote = folder / "remote"
    remote.mkdir()
    parts.write(remote)
    doubtful = frozenset(hurt) | frozenset(either)
    contents = {name: raw for name, raw in parts.contents.items() if name not in doubtful}
    return HostileBucket(repository, remote, contents, frozenset(hurt), frozenset(either))


def _flip_a_byte(parts: Parts, _: GitId) -> None:
    pack = parts.packs[0]
    raw = bytearray(pack.raw)
    raw[pack.table.entry(0).offset + 5] ^= 1
    parts.objects[pack_key(pack.name)] = bytes(raw)


def _swap(one: int, other: int, parts: Parts, _: GitId) -> None:
    keys = [pack_key(parts.packs[number].name) for number in (one, other)]
    first, second = (parts.objects[key] for key in keys)
    parts.objects |= {keys[0]: second, keys[1]: first}


def _cut(parts: Parts, _: GitId) -> None:
    pack = parts.packs[0]
    parts.objects[pack_key(pack.name)] = pack.raw[: pack.table.entry(1).offset + 3]


def _empty(parts: Parts, _: GitId) -> None:
    parts.objects[pack_key(parts.packs[1].name)] = b""


def _lengthen(parts: Parts, _: GitId) -> None:
    for pack in parts.packs:
        parts.objects[pack_key(pack.name)] += b"more" * 1000


def _remove_pack(parts: Parts, _: GitId) -> None:
    del parts.objects[pack_key(parts.packs[1].name)]


def _tell(change: dict[int, dict[str, object]], parts: Parts, commit: GitId) -> None:
    told = [told_otherwise(parts.packs[0], change), *parts.packs[1:]]
    parts.replace_index(commit, encode_index([pack.indexed for pack in told]))


def _tell_raw(change: Callable[[bytes], bytes], parts: Parts, commit: GitId) -> None:
    parts.replace_index(commit, change(encode_index([pack.indexed for pack in parts.packs])))


def _claim_entries(raw: bytes) -> bytes:
    return raw[:12] + struct.pack("<I", 10**7) + raw[16:]


def _index_too_large(parts: Parts, _: GitId) -> None:
    (key,) = (key for key in parts.objects if key.startswith("index/"))
    parts.sizes[key] = MAX_INDEX_BYTES + 1


def _index_under_another_name(parts: Parts, commit: GitId) -> None:
    (key,) = (key for key in parts.objects if key.startswith("index/"))
    parts.objects[index_key("ab" * 32)] = parts.objects.pop(key)
    parts.put_manifest(commit, "ab" * 32)


def _ids_swapped(one: int, other: int, pack: BuiltPack) -> BuiltPack:
    ids = [pack.table.entry(number).chunk for number in (one, other)]
    return told_otherwise(pack, {one: {"chunk": ids[1]}, other: {"chunk": ids[0]}})


def _wrong_place_first(parts: Parts, commit: GitId) -> None:
    """A second index object says that two chunks lie in another pack, in one another's places."""
    liar = _ids_swapped(0, 2, build_pack([SMALL, OTHER + b"x", OTHER]))
    parts.objects[pack_key(liar.name)] = liar.raw
    honest = encode_index([pack.indexed for pack in parts.packs])
    parts.replace_index(commit, encode_index([liar.indexed]), honest)


def _manifest_of_another_commit(parts: Parts, commit: GitId) -> None:
    (name,) = (key.partition("/")[2] for key in parts.objects if key.startswith("index/"))
    _drop_manifests(parts)
    parts.put_manifest(commit, name, of=GitId("ab" * 20))


def _drop_manifests(parts: Parts) -> str:
    keys = [key for key in parts.objects if key.startswith("manifests/")]
    for key in keys:
        del parts.objects[key]
    return keys[0]


def _manifest(raw: bytes, parts: Parts, _: GitId) -> None:
    parts.objects[_drop_manifests(parts)] = raw


def _format(raw: bytes, parts: Parts, _: GitId) -> None:
    parts.objects[FORMAT_KEY] = raw


def _strangers(parts: Parts, commit: GitId) -> None:
    for key in (
        "index/README",
        "index/x/y",
        "packs/zz/stray",
        f"manifests/{commit}",
        "\u202e",
        "x",
    ):
        parts.objects[key] = b"mine"


def _add_file(parts: Parts, name: str, pointer: Pointer, *packs: BuiltPack) -> None:
    parts.pointers[name] = pointer
    parts.packs += packs


def _add_bombs(parts: Parts) -> None:
    """Frames that decode to more than a chunk may be, want too large a window, or say nothing."""
    stated = 1 << 20
    frames = {
        "bomb": (zstd_frame(stated, rle_blocks(1 << 30)), stated),
        "honest-bomb": (zstd_frame(1 << 30, rle_blocks(1 << 30)), 4 << 20),
        "window": (zstd_frame(stated, rle_blocks(stated), window_log=27), stated),
        "noise": (b"no frame at all", 500),
    }
    for name, (frame, raw_length) in frames.items():
        identity = chunk_id(name.encode())
        pack = forged_pack([(identity, frame, raw_length, 1)])
        pack = BuiltPack(pack.raw, replace(pack.indexed, name=new_pack_name()))
        _add_file(parts, name, Pointer(identity, raw_length), pack)


LYING_LISTS = {
    "not-a-list": b"no list at all, whatever its pointer says",
    "too-few": chunk_list(FIRST[:2]),
    "gap": struct.pack("<4sIQ", b"RVCL", 1, 3)
    + b"".join(
        chunk_id(piece) + struct.pack("<I", length)
        for piece, length in zip(FIRST, (70_000, 60_000, 80_000), strict=True)
    ),
    "no-length": struct.pack("<4sIQ", b"RVCL", 1, 3)
    + b"".join(
        chunk_id(piece) + struct.pack("<I", length)
        for piece, length in zip(FIRST, (0, 140_000, 70_000), strict=True)
    ),
    "huge-length": struct.pack("<4sIQ", b"RVCL", 1, 3)
    + b"".join(
        chunk_id(piece) + struct.pack("<I", length)
        for piece, length in zip(FIRST, (2**32 - 1, 70_000, 70_000), strict=True)
    ),
    "billion": struct.pack("<4sIQ", b"RVCL", 1, 10**9) + chunk_id(b"x") + struct.pack("<I", 9),
    "absent-chunk": chunk_list([*FIRST[:2], b"nobody has this".ljust(70_000)]),
    "version": struct.pack("<4sIQ", b"RVCL", 2, 3) + bytes(108),
}


def _add_lists(parts: Parts) -> None:
    """Files whose lists, each under the hash that its pointer names, lie."""
    for name, raw in LYING_LISTS.items():
        pack = build_pack([raw])
        _add_file(parts, name, Pointer(chunk_id(raw), 210_000, 3), pack)
    other_size = Pointer(chunk_id(chunk_list(FIRST)), 210_001, 3)
    other_count = Pointer(chunk_id(chunk_list(FIRST)), 210_000, 4)
    many = Pointer(chunk_id(chunk_list(FIRST)), 210_000, MAX_CHUNKS_PER_FILE)
    short = Pointer(chunk_id(SMALL), len(SMALL) + 1)
    for name, pointer in (("size", other_size), ("count", other_count), ("many", many)):
        _add_file(parts, name, pointer)
    _add_file(parts, "short", short)


def _nothing(parts: Parts, commit: GitId) -> None:
    """An honest bucket, but for what was prepared."""


def make_honest(folder: Path) -> HostileBucket:
    """A bucket with nothing wrong, for those who serve it wrongly."""
    return _make(_nothing, [], folder)


BOMBS = ("bomb", "honest-bomb", "window", "noise")
LISTS = (*LYING_LISTS, "size", "count", "many", "short")
_SMALL_PACK = ("small", "text", "other")
_FAR = {0: {"offset": 2**32 - 10}}
_FEATURES = seal("manifest", 1, {"features": ["future"]})

HOSTILE: dict[str, tuple[str, Callable[[Path], HostileBucket]]] = {
    "flipped": ("one bit of one chunk", partial(_make, _flip_a_byte, ["small"])),
    "swapped-packs": (
        "two packs in one another's place",
        partial(_make, partial(_swap, 0, 1), ALL),
    ),
    "swapped-lists": (
        "two packs of chunk lists in one another's place",
        partial(_make, partial(_swap, 2, 3), ["first", "second"]),
    ),
    "cut": ("a pack that ends in a chunk", partial(_make, _cut, ["text", "other"])),
    "empty": ("a pack of no bytes", partial(_make, _empty, ["first", "second"])),
    "too-long": ("packs with more behind them", partial(_make, _lengthen, [])),
    "gone": ("a pack that is not there", partial(_make, _remove_pack, ["first", "second"])),
    "index-outside": (
        "an index object with a place far behind the pack",
        partial(_make, partial(_tell, _FAR), ALL),
    ),
    "index-overflow": (
        "an index object with lengths that do not fit in 32 bits together",
        partial(_make, partial(_tell, {1: {"stored_length": 2**32 - 1}}), ALL),
    ),
    "index-codec": (
        "an index object with a codec that nobody knows",
        partial(_make, partial(_tell, {0: {"codec": 9}}), ALL),
    ),
    "index-longer": (
        "an index object with a chunk longer than any may be",
        partial(_make, partial(_tell, {0: {"raw_length": 2**31}}), ALL),
    ),
    "index-magic": (
        "an index object of another kind",
        partial(_make, partial(_tell_raw, lambda raw: b"XXXX" + raw[4:]), ALL),
    ),
    "index-count": (
        "an index object that says that it has ten million entries",
        partial(_make, partial(_tell_raw, _claim_entries), ALL),
    ),
    "index-size": (
        "an index object larger than any may be",
        partial(_make, _index_too_large, ALL),
    ),
    "index-name": (
        "an index object under another hash",
        partial(_make, _index_under_another_name, ALL),
    ),
    "wrong-place": (
        "an index object that has chunks in places where they are not, beside an honest one",
        partial(_make, _wrong_place_first, [], either=["small", "other"]),
    ),
    "manifest-commit": (
        "a manifest of another commit",
        partial(_make, _manifest_of_another_commit, []),
    ),
    "manifest-noise": (
        "a manifest that is none, with escapes in it",
        partial(_make, partial(_manifest, b"revfs-manifest 1\n\x1b[2J\n"), []),
    ),
    "manifest-size": (
        "a manifest larger than any may be",
        partial(_make, partial(_manifest, b"x" * (MAX_MANIFEST_BYTES + 1)), []),
    ),
    "manifest-future": (
        "a manifest that needs a feature which is not known",
        partial(_make, partial(_manifest, _FEATURES), ALL),
    ),
    "format-noise": (
        "a format object that is none",
        partial(_make, partial(_format, b"\x1b]0;owned\x07" * 9), ALL),
    ),
    "format-size": (
        "a format object larger than any may be",
        partial(_make, partial(_format, b"x" * 100_000), ALL),
    ),
    "strangers": ("objects that have no place there", partial(_make, _strangers, [])),
    "bombs": (
        "chunks that decode to a gigabyte, want a large window, or are no zstd frame",
        partial(_make, _nothing, BOMBS, prepare=_add_bombs),
    ),
    "lists": (
        "pointers, and chunk lists under their right hashes, that lie",
        partial(_make, _nothing, LISTS, prepare=_add_lists),
    ),
}
