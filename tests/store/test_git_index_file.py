"""Git's index in one pass: what git wrote is read, what we write git reads, all else is refused."""

import hashlib
import struct
from pathlib import Path

import pytest

from store.git_index_file import (
    NotPlain,
    encode_entry,
    encode_index_file,
    read_entries,
    rebuild_index_file,
)
from tests.fakes.repositories import Repository

BLOB = bytes(range(20))
MODE = 0o100644


def entry(path: bytes, *, skipped: bool = False) -> bytes:
    return encode_entry(path, MODE, BLOB, None, skipped)


def index_of(*paths: bytes) -> bytes:
    return b"".join(encode_index_file([entry(path) for path in paths]))


def paths(raw: bytes) -> list[bytes]:
    return [found.path for found in read_entries(raw)]


def rebuilt(raw: bytes, *new: bytes, removed: tuple[bytes, ...] = ()) -> list[bytes]:
    return paths(
        b"".join(rebuild_index_file(raw, {path: entry(path) for path in new}, removed, 2**31))
    )


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha1(body).digest()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 100, 4094, 4095, 4096, 5000])
@pytest.mark.parametrize("skipped", [False, True])
def test_names_of_every_length_come_back(length: int, skipped: bool) -> None:
    stored = [entry(b"a" * length, skipped=skipped), entry(b"b")]
    assert all(len(one) % 8 == 0 for one in stored)
    first, second = read_entries(b"".join(encode_index_file(stored)))
    assert (first.path, first.skipped, first.stored) == (b"a" * length, skipped, stored[0])
    assert (first.blob, first.mode, first.stage) == (BLOB, MODE, 0)
    assert (second.path, second.skipped) == (b"b", False)


def test_git_reads_what_was_rebuilt(repository: Repository) -> None:
    index = repository.top / ".git" / "index"
    blob = bytes.fromhex(repository.write_blob(b"content"))
    names = [b"%03d/%03d" % (number % 10, number) for number in range(200)]
    new = {name: encode_entry(name, MODE, blob, None, False) for name in names}
    index.write_bytes(b"".join(rebuild_index_file(index.read_bytes(), new, (), 2**31)))
    assert repository.staged().keys() == {*names, b".revfsconfig"}
    repository.commit()
    assert repository.git("ls-tree", "-r", "--name-only", "HEAD").split()[1:] == sorted(names)


def test_entries_are_put_in_taken_out_and_kept_in_order() -> None:
    raw = index_of(b"a", b"a.b", b"c/d", b"e")
    assert rebuilt(raw, b"b", b"c/a", removed=(b"e",)) == [b"a", b"a.b", b"b", b"c/a", b"c/d"]


def test_what_the_new_leave_no_room_for_goes() -> None:
    raw = index_of(b"a", b"b/c/d", b"b/e", b"b.c", b"f")
    assert rebuilt(raw, b"a/x/y") == [b"a/x/y", b"b.c", b"b/c/d", b"b/e", b"f"]
    assert rebuilt(raw, b"b") == [b"a", b"b", b"b.c", b"f"]
    assert rebuilt(raw, b"b/c") == [b"a", b"b.c", b"b/c", b"b/e", b"f"]
    with pytest.raises(NotPlain):
        rebuilt(raw, b"x", b"x/y")


def test_entries_of_the_index_s_own_second_lose_their_size(tmp_path: Path) -> None:
    status = tmp_path.stat()
    stored = encode_entry(b"a", MODE, BLOB, status, False)
    second = status.st_mtime_ns // 10**9
    for distrusted_from, kept in ((second + 1, True), (second, False)):
        raw = b"".join(encode_index_file([stored]))
        (found,) = read_entries(b"".join(rebuild_index_file(raw, {}, (), distrusted_from)))
        assert (found.stored == stored) == kept
        assert len(found.stored) == len(stored)
        assert struct.unpack_from(">I", found.stored, 36) == (status.st_size if kept else 0,)


def test_what_is_not_plain_is_not_read() -> None:
    raw = index_of(b"a", b"b")
    body = raw[:-20]
    assert paths(sealed(body + b"TREE" + struct.pack(">I", 3) + b"abc")) == [b"a", b"b"]
    for other in (
        b"",
        raw[:-1],
        raw[:-20] + bytes(20),
        b"X" + raw[1:],
        sealed(body[:7] + b"\4" + body[8:]),
        sealed(body[:11] + b"\3" + body[12:]),
        sealed(body[:11] + b"\1" + body[12:]),
        sealed(body + b"link" + struct.pack(">I", 3) + b"abc"),
        sealed(body + b"TREE" + struct.pack(">I", 4) + b"abc"),
        sealed(body + b"abc"),
        # Lengths of names that do not end at the NUL behind the name.
        sealed(index_of(b"abc")[:-20].replace(b"\0\3abc", b"\0\2abc")),
        sealed(index_of(b"abc")[:-20].replace(b"\0\3abc", b"\0\4abc")),
    ):
        with pytest.raises(NotPlain):
            paths(other)
