"""The stat cache: any change of a file shows, and a row is nothing but a hint."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.ids import ChunkId
from store.pointer import Pointer
from store.staging import open_repository_tables
from store.stat_cache import StatCache, wait_until_settled
from store.tables import Tables

POINTER = Pointer(ChunkId(bytes(range(32))), 2**52, 2**40)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    tables = open_repository_tables(tmp_path / "state")
    yield tables
    tables.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    return file


def kept(cache: StatCache, file: Path) -> os.stat_result:
    """Remember a file once it has settled; its stat."""
    wait_until_settled(file.stat())
    status = file.stat()
    cache.keep([(os.fsencode(file), status, POINTER)])
    return status


def load(cache: StatCache, file: Path) -> Pointer | None:
    (found,) = cache.load([(os.fsencode(file), file.lstat())])
    return found


def test_an_unchanged_file_is_known_by_its_stat(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    assert load(cache, file) is None
    kept(cache, file)
    assert load(cache, file) == POINTER
    assert load(StatCache(tables), file) == POINTER


def test_reading_it_changes_nothing(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    kept(cache, file)
    os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
    # The change time moved, as it does for every utime: not known, for safety.
    assert load(cache, file) is None
    kept(cache, file)
    file.read_bytes()
    assert load(cache, file) == POINTER


def test_the_same_size_and_mtime_do_not_hide_a_change(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    before = kept(cache, file)
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert load(cache, file) is None


def test_another_file_in_its_place_is_not_known(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    kept(cache, file)
    os.link(file, file.with_name("twin"))
    assert load(cache, file.with_name("twin")) is None
    other = file.with_name("other")
    other.write_bytes(b"content")
    other.replace(file)
    assert load(cache, file) is None


def test_a_file_that_may_still_change_unseen_is_not_remembered(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    file.write_bytes(b"just now")
    cache.keep([(os.fsencode(file), file.stat(), POINTER)])
    assert load(cache, file) is None
    soon = time.time() + 1000
    os.utime(file, (soon, soon))
    time.sleep(0.03)
    cache.keep([(os.fsencode(file), file.stat(), POINTER)])
    assert load(cache, file) is None


def test_times_before_1970_are_times(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    os.utime(file, ns=(-5 * 10**9 + 7, -5 * 10**9 + 7))
    kept(cache, file)
    assert load(cache, file) == POINTER


def test_a_row_of_another_shape_says_nothing(tables: Tables, file: Path) -> None:
    cache = StatCache(tables)
    kept(cache, file)
    ((key, row),) = tables.scan("files")
    for damaged in (row[:-1], row + b"\0", b""):
        tables.put_many("files", [(key, damaged)])
        assert load(cache, file) is None


def test_waiting_ends_when_a_change_would_show(file: Path) -> None:
    file.write_bytes(b"new")
    assert wait_until_settled(file.stat())
    assert not wait_until_settled(file.stat())


def test_whole_seconds_are_a_coarse_clock_and_the_future_is_not_waited_for(file: Path) -> None:
    class Status:
        def __init__(self, seconds: float) -> None:
            self.st_mtime_ns = self.st_ctime_ns = int(seconds * 10**9)

    for far in (time.time() + 10**6, time.time() - 10**6, float(int(time.time()) - 3)):
        assert not wait_until_settled(Status(far))  # type: ignore[arg-type]
    assert wait_until_settled(Status(int(time.time()) - 1))  # type: ignore[arg-type]
