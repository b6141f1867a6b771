import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import byte_ranges, pack_cache
from store.cache_index import CacheIndex
from store.cache_rows import PackUse
from store.errors import LocalDiskFull
from store.ids import PackName, new_pack_name, pack_name_from_bytes
from store.local_folders import make_private_folder
from store.pack_cache import DiskState, PackCache, plan_eviction
from tests.fakes.processes import ROOT, python_command
from tests.store.damage import unhurried

NO_DISK = DiskState(0, 0)
MIB = 1 << 20

MakeCache = Callable[[int | None], PackCache]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[CacheIndex]:
    opened = CacheIndex(make_private_folder(tmp_path / "index"))
    yield opened
    opened.close()


@pytest.fixture
def make_cache(tmp_path: Path, index: CacheIndex) -> MakeCache:
    return lambda budget: PackCache(tmp_path / "packs", index, budget)


def name_of(number: int) -> PackName:
    return pack_name_from_bytes(number.to_bytes(16, "big"))


USES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), max_size=30).map(
    lambda rows: [PackUse(name_of(number), *row) for number, row in enumerate(rows)]
)


@unhurried
@given(USES, st.integers(0, 8000))
def test_eviction_drops_the_oldest_until_the_budget_holds_and_no_more(
    uses: list[PackUse], budget: int
) -> None:
    dropped = plan_eviction(uses, budget, NO_DISK)
    kept = [use for use in uses if use not in dropped]
    kept_bytes = sum(use.cached_bytes for use in kept)
    if sum(use.cached_bytes for use in uses) <= budget:
        assert dropped == []
        return
    assert kept_bytes <= budget
    assert all(old.last_use_seconds <= new.last_use_seconds for old in dropped for new in kept), (
        "a pack was dropped that was used later than one that stays"
    )
    # Without the last one dropped it would not have been enough.
    assert kept_bytes + dropped[-1].cached_bytes > budget - budget * 0.02 - 1


@unhurried
@given(USES, st.integers(1, 20_000), st.data())
def test_without_a_budget_a_tenth_of_the_disk_is_kept_free(
    uses: list[PackUse], total: int, data: st.DataObject
) -> None:
    free = data.draw(st.integers(0, total))
    dropped = plan_eviction(uses, None, DiskState(total, free))
    if free >= int(total * 0.1):
        assert dropped == []
    elif len(dropped) < len(uses):
        assert free + sum(use.cached_bytes for use in dropped) >= int(total * 0.1)


def test_what_is_kept_is_there_before_and_after_a_flush(make_cache: MakeCache) -> None:
    cache, pack = make_cache(None), new_pack_name()
    assert cache.keep(pack, 100, b"middle")
    for _ in range(2):
        assert cache.covers(pack, 100, 106)
        assert not cache.covers(pack, 99, 106)
        assert not cache.covers(pack, 100, 107)
        cache.flush()
    assert cache.path_of(pack).read_bytes() == bytes(100) + b"middle"
    assert make_cache(None).covers(pack, 100, 106)


def test_ranges_kept_before_and_after_a_flush_count_as_one(make_cache: MakeCache) -> None:
    cache, pack = make_cache(None), new_pack_name()
    cache.keep(pack, 8, b"one")
    cache.flush()
    cache.keep(pack, 11, b"two")
    assert cache.covers(pack, 8, 14)


def test_kept_bytes_are_there_all_the_while_a_flush_is_writing(
    make_cache: MakeCache, index: CacheIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, pack = make_cache(None), new_pack_name()
    cache.keep(pack, 8, b"bytes")
    seen = []
    real = CacheIndex.keep_ranges

    def watched(self: CacheIndex, added: dict[PackName, bytes], now_seconds: int) -> None:
        seen.append(cache.covers(pack, 8, 13))
        cache.keep(pack, 13, b"meanwhile")
        real(self, added, now_seconds)
        seen.append(cache.covers(pack, 8, 22))

    monkeypatch.setattr(CacheIndex, "keep_ranges", watched)
    cache.flush()
    assert seen == [True, True]
    assert cache.covers(pack, 8, 22)
    monkeypatch.undo()
    cache.flush()
    assert byte_ranges.pairs(index.load_ranges(pack)) == [(8, 22)]


def test_dropped_bytes_are_gone_from_memory_and_tables(make_cache: MakeCache) -> None:
    cache, pack = make_cache(None), new_pack_name()
    for _ in range(2):
        cache.keep(pack, 0, bytes(100))
        cache.drop(pack, 40, 20)
        assert not cache.covers(pack, 50, 51)
        assert cache.covers(pack, 0, 40)
        assert cache.covers(pack, 60, 100)
        cache.flush()
        assert not cache.covers(pack, 50, 51)


def fill(cache: PackCache, count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs 0 … count of `size` bytes, each used a second later than the one before."""
    for number in range(count):
        monkeypatch.setattr(pack_cache.time, "time", lambda now=number: 1000.0 + now)
        cache.keep(name_of(number), 0, bytes(size))
        cache._bytes_until_check = 1
        cache.flush()


def present(cache: PackCache, count: int) -> list[int]:
    return [number for number in range(count) if cache.path_of(name_of(number)).exists()]


def test_the_least_recently_used_packs_go_first(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(5 * MIB)
    fill(cache, 8, MIB, monkeypatch)
    monkeypatch.setattr(pack_cache.time, "time", lambda: 2000.0)
    cache.covers(name_of(0), 0, 1)
    cache.flush()
    cache.evict()
    # Of 8 MiB 3 are too many, and a little more makes room for what comes next.
    assert present(cache, 8) == [0, 5, 6, 7]
    assert not cache.covers(name_of(1), 0, 1)
    assert cache.covers(name_of(7), 0, MIB)


def test_a_flush_evicts_only_after_enough_was_kept(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(MIB)
    monkeypatch.setattr(cache, "_bytes_between_checks", 3 * MIB)
    cache.flush()
    counts = []
    for number in range(4):
        cache.keep(name_of(number), 0, bytes(MIB))
        cache.flush()
        counts.append(len(present(cache, 4)))
    assert counts[:2] == [1, 2]
    assert counts[2] < 2


def test_a_cache_opened_with_a_smaller_budget_fits_it_from_the_first_flush_on(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make_cache(None), 4, MIB, monkeypatch)
    smaller = make_cache(2 * MIB + MIB // 2)
    assert present(smaller, 4) == [0, 1, 2, 3]
    smaller.flush()
    assert present(smaller, 4) == [2, 3]


def test_files_that_a_crash_left_without_rows_are_evicted_too(make_cache: MakeCache) -> None:
    lost = make_cache(None)
    for number in range(3):
        lost.keep(name_of(number), 0, os.urandom(MIB))
        os.utime(lost.path_of(name_of(number)), (number, number))
    (lost.path_of(name_of(0)).parent / "not-a-pack").touch()
    # It never came to a flush.
    cache = make_cache(2 * MIB + MIB // 2)
    assert [use.pack for use in cache.evict()] == [name_of(0)]
    assert present(cache, 3) == [1, 2]
    assert (cache.path_of(name_of(0)).parent / "not-a-pack").exists()


def test_bytes_written_to_a_file_that_is_being_evicted_are_not_counted(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, pack = make_cache(0), name_of(0)
    cache.keep(pack, 0, b"older")
    cache.flush()
    real = pack_cache._write_all

    def evicted_meanwhile(descriptor: int, start: int, content: bytes) -> None:
        real(descriptor, start, content)
        cache.path_of(pack).unlink()

    monkeypatch.setattr(pack_cache, "_write_all", evicted_meanwhile)
    assert not cache.keep(pack, 5, b"newer")
    assert not cache.covers(pack, 5, 10)


def test_evicting_forgets_what_was_not_flushed(make_cache: MakeCache) -> None:
    cache, pack = make_cache(0), name_of(0)
    cache.keep(pack, 0, b"some")
    cache.flush()
    cache.keep(pack, 4, b"more")
    cache.evict()
    assert not cache.covers(pack, 4, 8)


def test_two_evictions_at_once_are_one(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(0)
    cache.keep(name_of(0), 0, bytes(MIB))
    child = subprocess.Popen(
        python_command(
            "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
            "print('locked', flush=True); sys.stdin.read()",
            tmp_path / "packs" / ".evicting",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        assert cache.evict() == []
    finally:
        child.communicate()
    assert [use.pack for use in cache.evict()] == [name_of(0)]


def fail_with(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_full_disk_is_said_once_and_keeps_nothing(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, pack = make_cache(MIB), name_of(0)
    with monkeypatch.context() as patch:
        patch.setattr(pack_cache, "_write_all", fail_with(errno.ENOSPC))
        assert not cache.keep(pack, 0, b"bytes")
        assert not cache.keep(pack, 0, b"bytes")
    assert not cache.covers(pack, 0, 5)
    assert caplog.text.count("reads go on from the remote") == 1
    assert cache.keep(pack, 0, b"bytes")


def test_tables_that_cannot_be_written_lose_nothing_in_this_process(
    make_cache: MakeCache,
    index: CacheIndex,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, pack = make_cache(MIB), name_of(0)
    cache.keep(pack, 0, b"bytes")

    def full(*_: object) -> None:
        raise LocalDiskFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(CacheIndex, "keep_ranges", full)
        patch.setattr(CacheIndex, "forget_cached", full)
        cache.flush()
        cache.flush()
    assert cache.covers(pack, 0, 5)
    assert caplog.text.count("no room") == 1
    cache.flush()
    assert byte_ranges.pairs(index.load_ranges(pack)) == [(0, 5)]


def test_a_cache_folder_that_was_removed_is_made_anew(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(MIB)
    (tmp_path / "packs").rename(tmp_path / "elsewhere")
    assert cache.keep(name_of(0), 0, b"bytes")
    assert cache.path_of(name_of(0)).read_bytes() == b"bytes"
    cache.flush()
    assert cache.covers(name_of(0), 0, 5)


def test_a_pack_that_was_pushed_is_moved_in_whole(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, pack = make_cache(None), name_of(0)
    staged = tmp_path / "staged"
    staged.write_bytes(bytes(range(100)))
    cache.adopt(pack, staged)
    assert cache.covers(pack, 0, 100)
    assert not cache.covers(pack, 0, 101)
    assert not staged.exists()
    assert cache.path_of(pack).read_bytes() == bytes(range(100))


WRITER = """
import random, sys
from pathlib import Path
from store.cache_index import CacheIndex
from store.ids import pack_name_from_bytes
from store.pack_cache import PackCache

index = CacheIndex(Path(sys.argv[1], "index"))
cache = PackCache(Path(sys.argv[1], "packs"), index, int(sys.argv[2]))
chosen = random.Random(int(sys.argv[3]))
for step in range(150):
    number, place = chosen.randrange(12), chosen.randrange(64)
    pack = pack_name_from_bytes(number.to_bytes(16, "big"))
    cache.keep(pack, place * 4096, bytes([number]) * 4096)
    if step % 10 == 0:
        cache._bytes_until_check = 0
        cache.flush()
cache.flush()
index.close()
"""


def test_two_processes_share_a_cache_and_its_budget(
    make_cache: MakeCache, index: CacheIndex, tmp_path: Path
) -> None:
    budget = 400 * 1024
    cache = make_cache(budget)
    children = [
        subprocess.Popen(
            python_command(WRITER, tmp_path, str(budget), str(seed)),
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        for seed in (1, 2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors.decode()
    cache.evict()
    files = [path for path in (tmp_path / "packs").glob("??/*") if path.is_file()]
    assert sum(path.stat().st_blocks * 512 for path in files) <= 2 * budget
    assert index.load_uses()
    for number in range(12):
        check_ranges(cache, index, name_of(number), number)


def check_ranges(cache: PackCache, index: CacheIndex, pack: PackName, number: int) -> None:
    """What the tables say of a pack is in its file, or the hole that an eviction left."""
    path = cache.path_of(pack)
    content = path.read_bytes() if path.exists() else b""
    for start, end in byte_ranges.pairs(index.load_ranges(pack)):
        assert set(content[start:end]) <= {number, 0}


def test_a_real_disk_that_fills_up_is_survived(tmp_path: Path) -> None:
    text = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from store.cache_index import CacheIndex; from store.pack_cache import PackCache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "index = CacheIndex(Path(sys.argv[1]) / 'index')\n"
        "cache = PackCache(Path(sys.argv[1]) / 'packs', index, 1 << 40)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "pack = 'ab' * 16\n"
        "print(cache.keep(pack, 0, bytes(1 << 19)), cache.keep(pack, 1 << 19, bytes(1 << 21)))\n"
        "print(cache.covers(pack, 0, 1 << 19), cache.covers(pack, 1 << 19, 1 << 20))\n"
        "cache.flush()"
    )
    make_private_folder(tmp_path / "index")
    done = subprocess.run(python_command(text, tmp_path), cwd=ROOT, capture_output=True, timeout=30)
    assert done.stdout == b"True False\nTrue False\n", done.stderr.decode()
    assert done.returncode == 0, done.stderr.decode()


def test_the_order_of_the_names_settles_ties() -> None:
    uses = [PackUse(name_of(number), 5, 10) for number in range(10)]
    random.Random(1).shuffle(uses)
    assert [use.pack for use in plan_eviction(uses, 60, NO_DISK)] == [
        name_of(number) for number in range(5)
    ]
