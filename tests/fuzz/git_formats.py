"""Targets: git's trees, directories as the cache keeps them, git's index file, and the protocol of
git's filters."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pygit2

from store.directories import (
    Directory,
    parse_tree,
    read_tree,
    refusal_of_name,
)
from store.errors import GitError, MalformedObject, StoreError
from store.filter_protocol import ContentStream, Delayed, serve_filter
from store.git_index_file import (
    NotPlain,
    encode_entry,
    encode_index_file,
    read_entries,
    rebuild_index_file,
)
from store.ids import ChunkId
from store.pointer import Pointer
from tests.fuzz.target import Refused, Target, only

BLOB = bytes(range(20))
POINTERS = [
    Pointer(ChunkId(bytes(32)), 9).to_bytes(),
    Pointer(ChunkId(b"x" * 32), 5 << 20, 2).to_bytes(),
    Pointer(ChunkId(b"y" * 32), 1 << 40, 1 << 30).to_bytes(),
]


class Blobs:
    """Git's blobs, as many as there are first bytes of an id: pointers, plain files, large files,
    and one that is missing."""

    def load_blob_size(self, raw_id: bytes) -> int:
        """As git would."""
        if raw_id[:1] == b"\xff":
            raise GitError("there is no such object")
        return raw_id[0] << raw_id[1] % 50

    def load_small_blobs(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int]:
        """As git would."""
        return [self._load(raw_id, most_bytes) for raw_id in raw_ids]

    def _load(self, raw_id: bytes, most_bytes: int) -> bytes | int:
        if raw_id[0] % 4 < len(POINTERS):
            return POINTERS[raw_id[0] % 4]
        size = self.load_blob_size(raw_id)
        return size if size > most_bytes else b"x" * size


def check_tree(raw: bytes) -> None:
    """All bytes are told in order; what is shown are names that a directory can have, each once."""
    with only(MalformedObject):
        rows = parse_tree(raw)
    assert b"".join(b"%s %s\0%s" % row for row in rows) == raw
    warnings: list[str] = []
    with only(GitError):
        found = read_tree(raw, Blobs(), warnings.append)
    names = [entry.name for entry in found]
    assert names == sorted(set(names))
    assert not any(refusal_of_name(name) for name in names)
    assert set(names) <= {name for _, name, _ in rows}
    assert len(warnings) == (len(names) < len(rows))
    assert all(warning.isprintable() for warning in warnings)
    packed = found.pack()
    again = Directory.unpack(packed)
    assert (list(again), again.pack()) == (list(found), packed)
    assert [found.number_of(name) for name in names] == list(range(len(names)))


def tree_seeds() -> Iterator[bytes]:
    """Every kind of entry; names in disguise; one missing file."""
    modes = (b"100644", b"100755", b"120000", b"40000", b"160000", b"100664", b"0100644", b"777")
    names = (b"a", b"..", b".git", b"GIT~1", ".g\u200cit".encode(), b"a/b", b"n" * 256, b"\xff\n")
    yield b"".join(
        b"%s %s\0%s" % (mode, name, bytes([number]) * 20)
        for number, (mode, name) in enumerate(zip(modes, names, strict=True))
    )
    yield b"100644 a\0" + b"\xff" * 20
    yield b"40000 b\0" + BLOB + b"100644 a\0" + BLOB + b"100644 a\0" + BLOB


def check_packed_directory(raw: bytes) -> None:
    """One spelling, or refused; nothing else comes of a row that somebody made."""
    with only(MalformedObject):
        found = Directory.unpack(raw)
    assert found.pack() == raw
    entries = list(found)
    assert len(entries) == len(found)
    assert [found.entry(number) for number in range(len(found))] == entries
    assert found.folder_rank(len(found)) == len(found.folder_numbers())


def packed_directory_seeds() -> Iterator[bytes]:
    """What real trees become."""
    for raw in tree_seeds():
        with suppress(GitError):
            yield read_tree(raw, Blobs(), lambda _: None).pack()
    yield Directory.from_entries([]).pack()


_places: list[Path] = []


def _index_path() -> Path:
    if not _places:
        # It lasts as long as the process, and so does its folder.
        _places.append(Path(tempfile.mkdtemp(prefix="revfs-fuzz-")) / "index")
    return _places[0]


def check_git_index(raw: bytes) -> None:
    """What is read here is what libgit2 reads; what is rebuilt holds the same and what is new."""
    for whole in (raw, raw[:-20] + hashlib.sha1(raw[:-20]).digest()):
        with suppress(Refused):
            _check_index(whole)


def _check_index(raw: bytes) -> None:
    with only(NotPlain):
        entries = list(read_entries(raw))
    assert (
        b"".join(entry.stored for entry in entries)
        == raw[12 : 12 + sum(len(e.stored) for e in entries)]
    )
    theirs = _read_by_libgit2(raw)
    ours = [(entry.path, entry.mode, entry.blob) for entry in entries]
    assert theirs is None or sorted(theirs) == sorted(ours)
    new = {b"new": encode_entry(b"new", 0o100644, BLOB, None, False)}
    with only(NotPlain):
        rebuilt = b"".join(rebuild_index_file(raw, new, (), 2**31))
    found = {entry.path for entry in read_entries(rebuilt)}
    below = {path for path, *_ in ours if path.startswith(b"new/")}
    assert found == ({path for path, *_ in ours} - below) | {b"new"}


def _read_by_libgit2(raw: bytes) -> list[tuple[bytes, int, bytes]] | None:
    path = _index_path()
    path.write_bytes(raw)
    try:
        index = pygit2.Index(str(path))
        return [(os.fsencode(entry.path), int(entry.mode), entry.id.raw) for entry in index]
    except (pygit2.GitError, UnicodeDecodeError, ValueError, OSError):
        return None


def git_index_seeds() -> Iterator[bytes]:
    """None, several, some left out of the work tree; and one with an extension."""
    entries = [
        encode_entry(path, 0o100644, BLOB, None, skipped)
        for path, skipped in ((b"a", False), (b"b/c", True), (b"new/x", False), (b"z" * 5, False))
    ]
    for some in ([], entries[:1], entries):
        raw = b"".join(encode_index_file(some))
        yield raw
        body = raw[:-20] + b"TREE" + (3).to_bytes(4, "big") + b"abc"
        yield body + hashlib.sha1(body).digest()


class Work:
    """A filter that reads what it is given."""

    def clean(self, path: bytes, content: ContentStream) -> bytes:
        """The content; a StoreError for a path that ends in a question mark."""
        if path.endswith(b"?"):
            raise StoreError("it cannot be cleaned")
        return content.read_all()

    def smudge(self, path: bytes, content: bytes, *, can_delay: bool) -> Iterator[bytes]:
        """The content twice; later where that is allowed."""
        if can_delay:
            raise Delayed
        yield from (content, content)

    def wait_available(self) -> Sequence[bytes]:
        """Nothing."""
        return []

    def rest(self) -> None:
        """Nothing."""


def check_filter_protocol(raw: bytes) -> None:
    """Whatever git says, the answer is made of whole packets."""
    with _memory_file(raw) as source, _memory_file(b"") as sink:
        try:
            with suppress(Refused), only(MalformedObject):
                serve_filter(source, sink, Work())
        finally:
            sink.seek(0)
            _check_packets(sink.read())


def _check_packets(answer: bytes) -> None:
    start = 0
    while start < len(answer):
        length = int(answer[start : start + 4], 16)
        assert length == 0 or 4 < length <= 65520
        start += length or 4
    assert start == len(answer)


def _memory_file(content: bytes) -> "tempfile._TemporaryFileWrapper[bytes]":
    file = os.fdopen(os.memfd_create("pipe"), "w+b", buffering=0 if not content else -1)
    file.write(content)
    file.seek(0)
    return file  # type: ignore[return-value]


def _packets(*lines: bytes) -> bytes:
    return b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + b"0000"


def filter_protocol_seeds() -> Iterator[bytes]:
    """A whole talk."""
    hello = _packets(b"git-filter-client\n", b"version=2\n")
    offer = _packets(b"capability=clean\n", b"capability=smudge\n", b"capability=delay\n")
    clean = _packets(b"command=clean\n", b"pathname=a\n") + _packets(b"content")
    refused = _packets(b"command=clean\n", b"pathname=?\n") + _packets(b"content")
    smudge = _packets(b"command=smudge\n", b"pathname=a\n") + _packets(b"text")
    later = _packets(b"command=smudge\n", b"pathname=a\n", b"can-delay=1\n") + _packets(b"text")
    yield hello + offer + clean
    yield hello + offer + smudge + refused + later + _packets(b"command=list_available_blobs\n")


TARGETS = {
    "git-tree": Target(check_tree, tree_seeds),
    "packed-directory": Target(check_packed_directory, packed_directory_seeds, 2000),
    "git-index": Target(check_git_index, git_index_seeds, 2000),
    "filter-protocol": Target(check_filter_protocol, filter_protocol_seeds),
}
