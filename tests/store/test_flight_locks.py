"""Locks of ranges of packs, between fetchers of one process and of several."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.flight_locks import FlightLocks
from store.ids import PackName, new_pack_name

ROOT = Path(__file__).parents[2]
PACK = PackName("0123456789abcdef" * 2)
HOLD = """
import sys
from pathlib import Path
from store.flight_locks import FlightLocks
assert FlightLocks(Path(sys.argv[1])).try_lock(sys.argv[2], 8, 100)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[FlightLocks, FlightLocks]]:
    """The locks of two fetchers over one cache."""
    one, other = FlightLocks(tmp_path / "lock"), FlightLocks(tmp_path / "lock")
    yield one, other
    one.close()
    other.close()


def test_a_range_that_one_has_no_other_gets_until_it_is_free(
    two: tuple[FlightLocks, FlightLocks],
) -> None:
    one, other = two
    assert one.try_lock(PACK, 8, 100)
    for start, end in ((8, 100), (8, 9), (99, 200), (50, 60)):
        assert not other.try_lock(PACK, start, end)
    one.unlock(PACK, 8, 100)
    assert other.try_lock(PACK, 8, 100)


def test_ranges_beside_it_and_other_packs_are_free(two: tuple[FlightLocks, FlightLocks]) -> None:
    one, other = two
    assert one.try_lock(PACK, 100, 200)
    assert other.try_lock(PACK, 8, 100)
    assert other.try_lock(PACK, 200, 64 << 20)
    for _ in range(20):
        assert other.try_lock(new_pack_name(), 0, 64 << 20)


def test_packs_of_neighbouring_names_do_not_overlap(two: tuple[FlightLocks, FlightLocks]) -> None:
    one, other = two
    assert one.try_lock(PackName("000000000" + "0" * 23), 0, 64 << 20)
    assert other.try_lock(PackName("000000001" + "0" * 23), 0, 64 << 20)


def test_the_highest_of_all_packs_can_be_locked_to_its_end(
    two: tuple[FlightLocks, FlightLocks],
) -> None:
    one, other = two
    last = PackName("f" * 32)
    assert one.try_lock(last, (64 << 20) - 1, 64 << 20)
    assert not other.try_lock(last, 0, 64 << 20)


def test_closing_gives_all_free(two: tuple[FlightLocks, FlightLocks]) -> None:
    one, other = two
    assert one.try_lock(PACK, 8, 100)
    one.close()
    assert other.try_lock(PACK, 8, 100)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    locks = FlightLocks(tmp_path / "lock")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), PACK]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            assert not locks.try_lock(PACK, 50, 60)
        finally:
            process.kill()
    assert locks.try_lock(PACK, 50, 60)
    locks.close()


def test_a_lock_file_that_cannot_be_opened_locks_nothing_out(tmp_path: Path) -> None:
    locks = FlightLocks(tmp_path / "missing" / "lock")
    assert locks.try_lock(PACK, 8, 100)
    locks.unlock(PACK, 8, 100)
    locks.close()
