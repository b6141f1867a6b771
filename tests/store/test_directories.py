"""Directories from git's trees, honest and hostile, and their packed form."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunk_list import MAX_CHUNKS_PER_FILE
from store.directories import (
    EMPTY_DIRECTORY,
    Directory,
    Entry,
    Kind,
    parse_tree,
    read_tree,
    refusal_of_name,
)
from store.errors import GitError, MalformedObject
from store.git import GitRepository
from store.git_command import find_repository
from store.ids import ChunkId
from store.pointer import MAX_FILE_BYTES, Pointer
from tests.fakes.repositories import make_repository, raw_entry
from tests.store.damage import unhurried

CONTENT = ChunkId(bytes(range(32)))
POINTER = Pointer(CONTENT, 5_000_000, 5)
BLOB, LARGE, TREE, TEXT = "11" * 20, "22" * 20, "33" * 20, "44" * 20

# The disguises of ".git" that git's own tests refuse (t1014, t1450, t0060 and the rules behind).
GIT_DISGUISES = [
    b".git",
    b".GIT",
    b".Git",
    b".git ",
    b".git.",
    b".git . .",
    b".git...",
    b"git~1",
    b"GIT~1",
    b"git~1.",
    b".git::$INDEX_ALLOCATION",
    b".git:stream",
    b".git. :stream",
    b".git\\foobar",
    b".git\\",
    b"git~1\\config",
    b"\\.git",
    b"foo\\.git",
    b"foo\\.GIT\\config",
    b"a\\git~1 .\\b",
    ".g\u200cit".encode(),
    "\u200c.git".encode(),
    ".gi\u200ft".encode(),
    ".git\ufeff".encode(),
    "\ufeff.Git".encode(),
    ".\u202agit".encode(),
    ".g\u206eI\u206ft".encode(),
]
HONEST_NAMES = [
    b".gitignore",
    b".gitattributes",
    b".git2",
    b".gi",
    b"git",
    b"git~2",
    b"git~10",
    b"x.git",
    b"..git",
    b"...",
    b" .git",
    b"-",
    b"a\\b",
    b"caf\xe9",
    b"\xff\xfe",
    b"new\nline",
    b"x" * 255,
    ".g\u00eft".encode(),
]


class Blobs:
    """Blobs by hex id, which notes whose contents were loaded."""

    def __init__(self, **contents: bytes | int) -> None:
        self._contents = contents
        self.loaded: list[str] = []

    def load_blob_size(self, raw_id: bytes) -> int:
        content = self._get(raw_id)
        return content if isinstance(content, int) else len(content)

    def load_small_blobs(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int]:
        return [self._load_small(raw_id, most_bytes) for raw_id in raw_ids]

    def _load_small(self, raw_id: bytes, most_bytes: int) -> bytes | int:
        content = self._get(raw_id)
        if self.load_blob_size(raw_id) > most_bytes:
            return self.load_blob_size(raw_id)
        assert isinstance(content, bytes), "a blob of which only the size is known was loaded"
        self.loaded.append(raw_id.hex())
        return content

    def _get(self, raw_id: bytes) -> bytes | int:
        try:
            return self._contents[raw_id.hex()]
        except KeyError:
            raise GitError(f"git has no object {raw_id.hex()}") from None


@pytest.fixture
def blobs() -> Blobs:
    return Blobs(**{BLOB: POINTER.to_bytes(), LARGE: 1 << 40, TEXT: b"some text"})


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def read(blobs: Blobs, warnings: list[str]) -> Callable[[bytes], Directory]:
    return lambda raw: read_tree(raw, blobs, warnings.append)


Read = Callable[[bytes], Directory]


def test_every_kind_of_entry_is_told(read: Read, warnings: list[str]) -> None:
    rows = [
        ("100644", b"tracked", BLOB),
        ("100755", b"tool", BLOB),
        ("100644", b"text", TEXT),
        ("100755", b"script", TEXT),
        ("100664", b"old-mode", TEXT),
        ("120000", b"link", TEXT),
        ("160000", b"module", "55" * 20),
        ("40000", b"folder", TREE),
        ("040000", b"padded", TREE),
    ]
    found = {entry.name: entry for entry in read(b"".join(raw_entry(*row) for row in rows))}
    assert {name: entry.kind for name, entry in found.items()} == {
        b"tracked": Kind.TRACKED,
        b"tool": Kind.TRACKED_EXECUTABLE,
        b"text": Kind.PLAIN,
        b"script": Kind.PLAIN_EXECUTABLE,
        b"old-mode": Kind.PLAIN,
        b"link": Kind.SYMLINK,
        b"module": Kind.SUBMODULE,
        b"folder": Kind.FOLDER,
        b"padded": Kind.FOLDER,
    }
    assert found[b"tracked"].pointer == found[b"tool"].pointer == POINTER
    assert found[b"folder"].tree == bytes.fromhex(TREE)
    assert found[b"text"].git_id == found[b"link"].git_id == TEXT
    assert found[b"text"].size == found[b"link"].size == len(b"some text")
    assert warnings == []


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"x" * 256, *GIT_DISGUISES])
def test_a_hostile_name_is_dropped_with_one_warning_and_its_siblings_stay(
    read: Read, warnings: list[str], name: bytes
) -> None:
    rows = [("100644", b"before", TEXT), ("100644", name, TEXT), ("40000", b"zz-after", TREE)]
    found = read(b"".join(raw_entry(*row) for row in rows))
    assert [entry.name for entry in found] == [b"before", b"zz-after"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"left out of a directory: {name!r}")


@pytest.mark.parametrize("name", HONEST_NAMES)
def test_an_honest_name_is_kept_as_its_bytes(read: Read, warnings: list[str], name: bytes) -> None:
    (entry,) = read(raw_entry("100644", name, TEXT))
    assert entry.name == name
    assert warnings == []


def test_a_name_with_a_nul_is_refused() -> None:
    assert refusal_of_name(b"a\0b") == "holds a separator"


def test_of_a_name_that_is_there_twice_the_first_stays(read: Read, warnings: list[str]) -> None:
    rows = [("100644", b"x", TEXT), ("40000", b"x", TREE), ("100644", b"x", LARGE)]
    (entry,) = read(b"".join(raw_entry(*row) for row in rows))
    assert (entry.kind, entry.git_id) == (Kind.PLAIN, TEXT)
    assert warnings == ["left out of a directory: b'x' is there twice and 1 more"]


def test_many_refusals_are_one_warning(read: Read, warnings: list[str]) -> None:
    read(b"".join(raw_entry("100644", name, TEXT) for name in GIT_DISGUISES))
    assert len(warnings) == 1
    assert warnings[0].endswith(f"and {len(GIT_DISGUISES) - 1} more")


@pytest.mark.parametrize("mode", ["0", "1", "777", "140000", "020000", "7777777", "170000"])
def test_an_entry_of_an_unknown_mode_is_dropped(read: Read, warnings: list[str], mode: str) -> None:
    assert len(read(raw_entry(mode, b"odd", TEXT))) == 0
    assert "unknown mode" in warnings[0]


def test_an_unlisted_warning_goes_to_the_log(
    blobs: Blobs, caplog: pytest.LogCaptureFixture
) -> None:
    read_tree(raw_entry("100644", b"..", TEXT), blobs)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "text",
    [
        POINTER.to_bytes().replace(b"size 5", b"size 05"),
        POINTER.to_bytes().replace(b"size 5", b"size -5"),
        POINTER.to_bytes().replace(b"chunks 5", b"chunks 1"),
        POINTER.to_bytes().replace(b"size 5000000", b"size %d" % (MAX_FILE_BYTES + 1)),
        POINTER.to_bytes().replace(b"blake3 00", b"blake3 0G"),
        POINTER.to_bytes() + b"\n",
        Pointer(CONTENT, MAX_FILE_BYTES, MAX_FILE_BYTES).to_bytes(),
        Pointer(CONTENT, MAX_FILE_BYTES, 2**32).to_bytes(),
        Pointer(CONTENT, MAX_FILE_BYTES // 4, MAX_CHUNKS_PER_FILE + 10**9).to_bytes(),
    ],
)
def test_an_odd_pointer_is_an_ordinary_file(text: bytes) -> None:
    (entry,) = read_tree(raw_entry("100644", b"odd", BLOB), Blobs(**{BLOB: text}))
    assert (entry.kind, entry.size) == (Kind.PLAIN, len(text))


def test_the_largest_pointer_is_tracked() -> None:
    largest = Pointer(CONTENT, MAX_CHUNKS_PER_FILE * (4 << 20), MAX_CHUNKS_PER_FILE)
    found = read_tree(raw_entry("100644", b"x", BLOB), Blobs(**{BLOB: largest.to_bytes()}))
    assert Directory.unpack(found.pack()).entry(0).pointer == largest


def test_of_a_large_blob_and_a_link_only_the_size_is_asked(read: Read, blobs: Blobs) -> None:
    found = read(raw_entry("100644", b"large", LARGE) + raw_entry("120000", b"link", TEXT))
    assert [entry.size for entry in found] == [1 << 40, len(b"some text")]
    assert blobs.loaded == []


def test_a_missing_blob_fails_the_directory(read: Read) -> None:
    for mode in ("100644", "120000"):
        with pytest.raises(GitError, match="99" * 20):
            read(raw_entry("100644", b"there", TEXT) + raw_entry(mode, b"gone", "99" * 20))


def test_a_tree_cut_anywhere_is_malformed_or_ends_between_entries(read: Read) -> None:
    rows = [("100644", b"one", TEXT), ("40000", b"two", TREE)]
    raw = b"".join(raw_entry(*row) for row in rows)
    first = len(raw_entry(*rows[0]))
    for end in range(1, len(raw)):
        if end == first:
            assert len(read(raw[:end])) == 1
        else:
            with pytest.raises(MalformedObject):
                read(raw[:end])


@pytest.mark.parametrize(
    "mode", ["", "8", "-1", "+40000", "0x10", "4000_0", "\uff11", "100644" * 2]
)
def test_a_malformed_mode_is_malformed(mode: str) -> None:
    with pytest.raises(MalformedObject):
        list(parse_tree(raw_entry(mode, b"name", TEXT)))


@unhurried
@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_do_anything_else(raw: bytes) -> None:
    try:
        entries = list(parse_tree(raw))
    except MalformedObject:
        return
    # What was parsed accounts for every byte.
    assert b"".join(b"%b %b\0%b" % entry for entry in entries) == raw
    assert all(len(raw_id) == 20 and b"\0" not in name for _, name, raw_id in entries)


names = st.binary(min_size=1, max_size=255).filter(lambda name: refusal_of_name(name) is None)
entries = st.builds(
    Entry,
    name=names,
    kind=st.sampled_from(Kind),
    size=st.integers(0, 2**64 - 1),
    chunks=st.integers(0, 2**32 - 1),
    raw_id=st.binary(min_size=32, max_size=32),
)


@unhurried
@given(st.lists(entries, max_size=20, unique_by=lambda entry: entry.name))
def test_a_directory_is_what_it_was_after_packing(listed: list[Entry]) -> None:
    directory = Directory.unpack(Directory.from_entries(listed).pack())
    assert list(directory) == sorted(listed, key=lambda entry: entry.name)
    assert len(directory) == len(listed)
    folders = [e.kind in (Kind.FOLDER, Kind.SUBMODULE) for e in directory]
    for number, entry in enumerate(directory):
        assert directory.number_of(entry.name) == number
        assert directory.folder_rank(number) == sum(folders[:number])
    assert directory.folder_numbers() == [n for n, is_folder in enumerate(folders) if is_folder]


@unhurried
@given(st.lists(names, max_size=10, unique=True), names)
def test_a_name_that_is_not_there_has_no_number(present: list[bytes], absent: bytes) -> None:
    listed = [Entry(name, Kind.PLAIN, 1, 0, bytes(32)) for name in present if name != absent]
    directory = Directory.from_entries(listed)
    assert directory.number_of(absent) is None
    with pytest.raises(IndexError):
        directory.entry(len(listed))


def test_a_packed_form_whose_parts_do_not_fit_together_is_refused() -> None:
    listed = [
        Entry(b"name", Kind.PLAIN, 1, 0, bytes(32)),
        Entry(b"z", Kind.FOLDER, 0, 0, bytes(32)),
    ]
    packed = Directory.from_entries(listed).pack()
    others = [packed[:end] for end in range(len(packed))]
    others += [packed + b"x", packed + b"x\0", packed[:4] + b"\7" + packed[5:]]
    others += [struct.pack("=I", count) + packed[4:] for count in (0, 1, 3, 10**9, 2**32 - 1)]
    for other in others:
        with pytest.raises(MalformedObject):
            Directory.unpack(other)


def test_the_empty_directory_is_empty() -> None:
    assert list(Directory.unpack(EMPTY_DIRECTORY.pack())) == []
    assert EMPTY_DIRECTORY.number_of(b"x") is None


def test_hostile_trees_of_real_git_are_read_the_same(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    text = repository.write_blob(b"text")
    rows = [("100644", name, text) for name in (b"", b".", b"..", b"a/b", b"good", *GIT_DISGUISES)]
    tree = repository.write_tree([*rows, ("100644", b"good", text)])
    opened = GitRepository(find_repository(repository.top))
    warnings: list[str] = []
    found = read_tree(opened.load_tree(bytes.fromhex(tree)), opened, warnings.append)
    opened.close()
    assert [entry.name for entry in found] == [b"good"]
    assert len(warnings) == 1
