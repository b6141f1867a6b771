"""FileReader: chunks in order, each file as it was at one moment, or a refusal that names it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from store import read_files as read_files_module
from store.chunking import DEFAULT_CHUNKING, read_chunks
from store.codec import decompress_chunk
from store.errors import PathNotFound, PathRefused
from store.ids import ChunkId, chunk_id
from store.pieces import Piece
from store.pointer import Pointer
from store.read_files import FileEnd, FileReader
from store.walk import FoundFile
from tests.fakes.repositories import random_bytes

LEAST = DEFAULT_CHUNKING.least_bytes


def write(folder: Path, **contents: bytes) -> list[FoundFile]:
    """Files of these names, as a walk would find them."""
    found = []
    for name, content in sorted(contents.items()):
        (folder / name).write_bytes(content)
        place = folder / name
        found.append(FoundFile(name.encode(), os.fsencode(place), place.lstat()))
    return found


def read(
    folder: Path, files: Sequence[FoundFile], known: frozenset[ChunkId] = frozenset(), jobs: int = 2
) -> Iterator[Piece | FileEnd]:
    reader = FileReader(DEFAULT_CHUNKING, lambda chunks: [chunk in known for chunk in chunks])
    return reader.read(files, jobs)


def joined(events: Iterator[Piece | FileEnd]) -> dict[bytes, list[bytes]]:
    """path → its chunks, decoded and proven, in the order in which they came."""
    found: dict[bytes, list[bytes]] = {}
    chunks: list[bytes] = []
    for event in events:
        if isinstance(event, FileEnd):
            found[event.file.path] = chunks
            chunks = []
        else:
            assert event.stored is not None
            raw = decompress_chunk(event.stored, event.codec, event.raw_length)
            assert chunk_id(raw) == event.chunk
            chunks.append(raw)
    assert chunks == []
    return found


def test_files_of_every_size_come_whole_and_in_order(tmp_path: Path) -> None:
    contents = {
        "a": b"x",
        "b": b"compressible " * 1000,
        "c": random_bytes(LEAST, 1),
        "d": random_bytes(LEAST + 1, 2),
        "e": random_bytes(3 << 20, 3),
        "f": random_bytes((4 << 20) + 1, 4),
        "g": random_bytes(11 << 20, 5),
        "h": b"y",
    }
    found = joined(read(tmp_path, write(tmp_path, **contents), jobs=3))
    assert list(found) == [name.encode() for name in contents]
    for name, content in contents.items():
        assert b"".join(found[name.encode()]) == content
    assert [len(found[name]) for name in (b"a", b"b", b"c", b"h")] == [1, 1, 1, 1]
    assert len(found[b"g"]) > 2


def test_a_file_is_cut_alike_whether_read_at_once_or_by_and_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path, a=random_bytes(4 << 20))
    at_once = joined(read(tmp_path, files))
    monkeypatch.setattr(read_files_module, "_BATCH_BYTES", 1 << 20)
    assert joined(read(tmp_path, files)) == at_once
    with (tmp_path / "a").open("rb") as file:
        assert at_once[b"a"] == list(read_chunks(file, DEFAULT_CHUNKING))


def test_many_small_files_keep_their_order(tmp_path: Path) -> None:
    contents = {f"f{number:04}": b"%d" % number for number in range(300)}
    found = joined(read(tmp_path, write(tmp_path, **contents), jobs=4))
    assert list(found.values()) == [[content] for content in contents.values()]


def test_known_chunks_are_named_without_their_bytes(tmp_path: Path) -> None:
    files = write(tmp_path, a=b"known", b=b"unknown")
    events = list(read(tmp_path, files, frozenset((chunk_id(b"known"),))))
    pieces = [event for event in events if isinstance(event, Piece)]
    assert [piece.chunk for piece in pieces] == [chunk_id(b"known"), chunk_id(b"unknown")]
    assert [piece.stored is None for piece in pieces] == [True, False]


def test_what_git_keeps_itself_comes_with_its_content(tmp_path: Path) -> None:
    pointer = Pointer(chunk_id(b"x"), 1).to_bytes()
    files = write(tmp_path, empty=b"", pointer=pointer, almost=b"\n" + pointer)
    events = list(read(tmp_path, files))
    ends = {event.file.path: event.content for event in events if isinstance(event, FileEnd)}
    assert ends == {b"empty": b"", b"pointer": pointer, b"almost": b""}
    assert len(events) == 4


@pytest.mark.parametrize("size", [5, 6 << 20])
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    files = write(tmp_path, a=b"fine", b=random_bytes(size))

    def change_then_wait(status: os.stat_result) -> bool:
        if status.st_size == size:
            with (tmp_path / "b").open("ab") as file:
                file.write(b"more")
        return False

    monkeypatch.setattr(read_files_module, "wait_until_settled", change_then_wait)
    with pytest.raises(PathRefused, match=r"^b changed while it was read"):
        list(read(tmp_path, files))


def test_a_change_before_the_reading_is_read_as_it_is(tmp_path: Path) -> None:
    files = write(tmp_path, a=b"walked")
    (tmp_path / "a").write_bytes(b"read instead")
    *_, end = read(tmp_path, files)
    assert isinstance(end, FileEnd)
    assert end.file.status.st_size == len(b"read instead")


@pytest.mark.parametrize("size", [5, 6 << 20])
def test_a_file_that_vanishes_is_named(tmp_path: Path, size: int) -> None:
    files = write(tmp_path, a=b"fine", b=random_bytes(size), c=b"fine")
    (tmp_path / "b").unlink()
    with pytest.raises(PathNotFound, match=r"^b cannot be read: No such file"):
        list(read(tmp_path, files))


@pytest.mark.parametrize("size", [5, 6 << 20])
def test_what_takes_the_place_of_a_file_is_not_read(tmp_path: Path, size: int) -> None:
    files = write(tmp_path, a=random_bytes(size), target=b"elsewhere")[:1]
    place = tmp_path / "a"
    place.unlink()
    place.symlink_to("target")
    with pytest.raises(PathNotFound, match=r"^a cannot be read"):
        list(read(tmp_path, files))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(PathRefused, match=r"^a is not a plain file"):
        list(read(tmp_path, files))
    place.unlink()
    place.mkdir()
    with pytest.raises((PathRefused, PathNotFound), match=r"^a "):
        list(read(tmp_path, files))


@pytest.mark.parametrize("size", [5, 6 << 20])
def test_a_disk_that_fails_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    files = write(tmp_path, a=random_bytes(size))

    def fail(status: os.stat_result) -> bool:
        (fd,) = (
            int(name)
            for name in os.listdir("/proc/self/fd")
            if _target(name) == str(tmp_path / "a")
        )
        # A directory in the place of the open file answers every read with an error.
        folder = os.open(tmp_path, os.O_RDONLY)
        os.dup2(folder, fd)
        os.close(folder)
        return False

    monkeypatch.setattr(read_files_module, "wait_until_settled", fail)
    with pytest.raises(PathNotFound, match=r"^a cannot be read: Is a directory"):
        list(read(tmp_path, files))


@pytest.mark.parametrize("size", [5, 3 << 20])
def test_a_file_system_that_gives_less_than_was_asked_is_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = random_bytes(size)
    files = write(tmp_path, a=content)
    read_some = os.read
    monkeypatch.setattr(os, "read", lambda file, most: read_some(file, min(most, 3 + size // 2)))
    found = joined(read(tmp_path, files))
    assert b"".join(found[b"a"]) == content


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


def test_an_early_end_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    files = write(tmp_path, **{f"f{number}": random_bytes(5 << 20, number) for number in range(3)})
    before = len(os.listdir("/proc/self/fd"))
    events = read(tmp_path, files)
    next(events)
    events.close()
    assert len(os.listdir("/proc/self/fd")) == before
