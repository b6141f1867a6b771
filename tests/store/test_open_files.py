import contextlib
import gc
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.codec import Codec
from store.errors import ObjectMissing
from store.ids import ChunkId
from store.open_files import NotInMemory, OpenFiles, plan_around
from store.packs import PackEntry

LARGE = 300 << 10


def entry_of(offset: int, length: int, mark: int = 0) -> PackEntry:
    return PackEntry(ChunkId(bytes([mark]) * 32), offset, length, length, Codec.RAW)


def as_it_is(stored: bytes | None) -> bytes:
    if stored is None:
        raise ObjectMissing("not there")
    return stored


def refuse(stored: bytes | None) -> bytes:
    raise ValueError(stored)


def open_descriptors() -> set[str]:
    gc.collect()
    found = {f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    return {os.readlink(path) for path in found if os.path.lexists(path)}


@pytest.fixture
def files() -> OpenFiles:
    return OpenFiles(most=3)


def test_it_loads_the_bytes_that_lie_there(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(bytes(range(100)))
    assert files.load(path, entry_of(10, 5), as_it_is) == bytes(range(10, 15))


def test_where_others_took_all_descriptors_those_that_are_kept_are_given_up(
    tmp_path: Path,
) -> None:
    files = OpenFiles(most=100)
    paths = [tmp_path / f"pack-{number}" for number in range(5)]
    for path in paths:
        path.write_bytes(bytes(range(100)))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        for path in paths[:4]:
            files.load(path, entry_of(10, 5), as_it_is)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), limits[1])
        )
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(tmp_path, os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            os.open(tmp_path, os.O_RDONLY)
        assert files.load(paths[4], entry_of(10, 5), as_it_is) == bytes(range(10, 15))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_it_keeps_no_more_files_open_than_its_part_of_what_a_process_may(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        files = OpenFiles(most=1000)
        for number in range(40):
            (tmp_path / f"pack-{number}").write_bytes(bytes(range(100)))
            files.load(tmp_path / f"pack-{number}", entry_of(10, 5), as_it_is)
        kept = [path for path in open_descriptors() if path.startswith(str(tmp_path))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(kept) == 32


def test_missing_and_short_files_are_told_by_none(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"short")
    for name, entry in [("none", entry_of(0, 1)), ("pack", entry_of(3, 3))]:
        with pytest.raises(ObjectMissing):
            files.load(tmp_path / name, entry, as_it_is)


def test_an_impossible_length_takes_no_memory(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"short")
    with pytest.raises(ObjectMissing):
        files.load(path, entry_of(0, 1 << 60), as_it_is)


def test_a_symbolic_link_is_not_followed(files: OpenFiles, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="link"):
        files.load(tmp_path / "link", entry_of(0, 6), as_it_is)


def test_a_load_that_need_not_wait_gives_the_same_bytes(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"just written")
    try:
        assert files.load_now(path, entry_of(5, 7), as_it_is) == b"written"
    except NotInMemory:
        pytest.skip("this file system cannot tell what is in memory")


def test_parts_are_read_only_of_what_was_proven(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    content = os.urandom(2 * LARGE)
    path.write_bytes(content)
    entry = entry_of(100, LARGE)
    assert files.load_part(path, entry, 5, 10) is None
    with pytest.raises(ValueError):
        files.load(path, entry, refuse)
    assert files.load_part(path, entry, 5, 10) is None
    files.load(path, entry, as_it_is)
    assert files.load_part(path, entry, 5, 10) == content[105:115]
    # Another claim on the same place is not proven by it.
    assert files.load_part(path, entry_of(100, LARGE, mark=1), 5, 10) is None


def test_a_file_that_was_replaced_has_nothing_proven(files: OpenFiles, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(os.urandom(LARGE))
    entry = entry_of(0, LARGE)
    files.load(path, entry, as_it_is)
    path.unlink()
    path.write_bytes(bytes(LARGE))
    assert files.load_part(path, entry, 0, 10) is None
    assert files.load(path, entry, as_it_is) == bytes(LARGE)


def test_no_more_files_stay_open_than_allowed(files: OpenFiles, tmp_path: Path) -> None:
    paths = [tmp_path / f"pack-{number}" for number in range(10)]
    for path in paths:
        path.write_bytes(b"x")
        files.load(path, entry_of(0, 1), as_it_is)
    assert open_descriptors() & {str(path) for path in paths} == {str(path) for path in paths[-3:]}
    files.close()
    assert not open_descriptors() & {str(path) for path in paths}


def test_removed_files_are_let_go_when_another_is_opened(files: OpenFiles, tmp_path: Path) -> None:
    removed, other = tmp_path / "removed", tmp_path / "other"
    for path in (removed, other):
        path.write_bytes(b"x")
    files.load(removed, entry_of(0, 1), as_it_is)
    removed.unlink()
    assert f"{removed} (deleted)" in open_descriptors()
    files.load(other, entry_of(0, 1), as_it_is)
    assert f"{removed} (deleted)" not in open_descriptors()


def test_a_reader_goes_on_while_its_file_is_dropped(tmp_path: Path) -> None:
    files = OpenFiles(most=1)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first")
    second.write_bytes(b"second")

    def prove_late(stored: bytes | None) -> bytes:
        files.load(second, entry_of(0, 6), as_it_is)
        first.unlink()
        return as_it_is(stored)

    assert files.load(first, entry_of(0, 5), prove_late) == b"first"


def test_a_few_reads_from_the_disk_bring_nothing_else() -> None:
    assert plan_around(5_000_000, 100_000, 100_000) is None
    # Nor does a chunk that is large itself.
    assert plan_around(0, 4 << 20, 1 << 30) is None


@given(
    start=st.integers(0, 1 << 26),
    lengths=st.lists(st.integers(1, 4 << 20), min_size=1, max_size=40),
)
def test_what_is_read_around_is_bounded_by_what_was_waited_for(
    start: int, lengths: list[int]
) -> None:
    waited_bytes = 0
    for length in lengths:
        planned = plan_around(start, length, waited_bytes + length)
        if planned is not None:
            low, around = planned
            assert low <= start < low + around
            assert around <= min(8 * waited_bytes, 4 << 20)
            assert low % around == 0
        waited_bytes += length


def test_the_kernel_is_asked_for_what_lies_around_small_reads_from_the_disk(
    files: OpenFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *words: asked.append(words))
    path, length = tmp_path / "pack", 100_000
    path.write_bytes(bytes(8 << 20))
    for offset in (3_000_000, 5_000_000, 7_000_000):
        files.load(path, entry_of(offset, length), as_it_is)
    half, whole = 1 << 19, 1 << 20
    assert asked == [
        (5_000_000 // half * half, half, os.POSIX_FADV_WILLNEED),
        (7_000_000 // whole * whole, whole, os.POSIX_FADV_WILLNEED),
    ]
    files.load_now(path, entry_of(1_000_000, length), as_it_is)
    assert len(asked) == 2
