import signal
import subprocess
from pathlib import Path

import lmdb
import pytest

from store import row_batches
from store import tables as tables_module
from store.errors import CacheUnusable, LocalDiskFull
from store.tables import Tables
from tests.fakes.processes import ROOT, python_command

NAMES = ("one", "two")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    path.mkdir()
    return path


def rows_of(count: int) -> list[tuple[bytes, bytes]]:
    return [(f"{number:06}".encode(), f"value {number}".encode()) for number in range(count)]


def run_python(text: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        python_command(text, *arguments),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_rows_are_there_after_reopening_each_in_its_table(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    tables.put_many("one", rows_of(10))
    tables.put_many("two", [(b"000001", b"other")])
    tables.close()
    again = Tables(folder, NAMES)
    assert again.scan("one") == rows_of(10)
    assert again.get("two", b"000001") == b"other"
    assert again.get("two", b"000002") is None
    again.close()


def test_many_keys_are_answered_in_the_order_asked(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    tables.put_many("one", rows_of(5))
    keys = [b"000004", b"none", b"000000"]
    assert tables.get_many("one", keys) == [b"value 4", None, b"value 0"]
    tables.close()


def test_a_scan_gives_the_keys_with_the_prefix_and_no_neighbours(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    keys = [b"a", b"ab", b"ab\xff", b"ac", b"b"]
    tables.put_many("one", [(key, key) for key in keys])
    assert tables.scan_keys("one", b"ab") == [b"ab", b"ab\xff"]
    assert tables.scan("one", b"ac") == [(b"ac", b"ac")]
    assert tables.scan_keys("one") == keys
    assert tables.scan("one", b"c") == []
    tables.close()


def test_many_scans_are_answered_in_the_order_asked(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    rows = [(key, key + b"!") for key in (b"a", b"ab", b"ab\xff", b"ac", b"b")]
    tables.put_many("one", rows)
    assert tables.scan_many("one", [b"b", b"none", b"ab"]) == [[rows[4]], [], rows[1:3]]
    assert tables.scan_many("two", [b"a"]) == [[]]
    tables.close()


def test_an_update_sees_the_row_and_none_removes_it(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    seen = []

    def change(value: bytes | None) -> bytes | None:
        seen.append(value)
        return b"new" if value is None else None

    tables.update("one", change, b"key")
    assert tables.get("one", b"key") == b"new"
    tables.update("one", change, b"key")
    assert tables.get("one", b"key") is None
    assert seen == [None, b"new"]
    tables.delete_many("one", [b"key", b"never there"])
    tables.close()


def test_long_writes_are_split_into_short_transactions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(row_batches, "ROWS_AT_ONCE", 100)
    real = tables_module._put_batch

    def counted(batch: list[tuple[bytes, bytes]], txn: lmdb.Transaction, handle: object) -> None:
        sizes.append(len(batch))
        real(batch, txn, handle)

    monkeypatch.setattr(tables_module, "_put_batch", counted)
    tables = Tables(folder, NAMES)
    tables.put_many("one", iter(rows_of(250)))
    assert sizes == [100, 100, 50]
    assert tables.scan("one") == rows_of(250)
    tables.delete_many("one", [key for key, _ in rows_of(249)])
    assert tables.scan_keys("one") == [b"000249"]
    tables.close()


def test_a_transaction_holds_few_large_rows_and_many_small_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(row_batches, "_BYTES_AT_ONCE", 1000)
    real = tables_module._put_batch

    def counted(batch: list[tuple[bytes, bytes]], txn: lmdb.Transaction, handle: object) -> None:
        sizes.append(len(batch))
        real(batch, txn, handle)

    monkeypatch.setattr(tables_module, "_put_batch", counted)
    tables = Tables(folder, NAMES)
    rows = [(b"%03d" % number, bytes(length)) for number, length in enumerate([2000, 1, 998, 1, 9])]
    tables.put_many("one", iter(rows))
    assert sizes == [1, 3, 1]
    assert tables.scan("one") == rows
    tables.close()


def test_two_processes_see_each_other_s_rows_at_once(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    tables.put_many("one", [(b"ours", b"1")])
    child = run_python(
        "import sys; from pathlib import Path; from store.tables import Tables\n"
        "tables = Tables(Path(sys.argv[1]), ('one', 'two'))\n"
        "tables.put_many('one', [(b'theirs', tables.get('one', b'ours') + b'2')])\n"
        "tables.close()",
        str(folder),
    )
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors.decode()
    assert tables.get("one", b"theirs") == b"12"
    tables.close()


def test_a_killed_reader_s_slot_is_freed_when_the_tables_are_opened(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    tables.put_many("one", rows_of(3))
    child = run_python(
        "import sys, time; from pathlib import Path; from store.tables import Tables\n"
        "tables = Tables(Path(sys.argv[1]), ('one', 'two'))\n"
        "with tables._opened.environment.begin() as transaction:\n"
        "    transaction.get(b'one')\n"
        "    print('holding', flush=True); time.sleep(60)",
        str(folder),
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"holding\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert str(child.pid) in tables._opened.environment.readers()
    tables.close()
    tables = Tables(folder, NAMES)
    assert str(child.pid) not in tables._opened.environment.readers()
    tables.close()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnusable, match="cannot be used"):
        Tables(tmp_path / "file", NAMES)


def test_opening_twice_in_one_process_is_refused_and_harms_nobody(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    with pytest.raises(CacheUnusable):
        Tables(folder, NAMES)
    tables.put_many("one", rows_of(1))
    assert tables.scan("one") == rows_of(1)
    tables.close()


def test_a_key_that_no_table_can_hold_is_our_error(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    with pytest.raises(CacheUnusable):
        tables.put_many("one", [(b"k" * 600, b"")])
    tables.close()


def test_a_map_that_is_full_is_a_full_disk_and_reads_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_MAP_BYTES", 256 * 1024)
    tables = Tables(folder, NAMES)
    tables.put_many("one", rows_of(10))
    with pytest.raises(LocalDiskFull, match="no room"):
        tables.put_many("one", [(key, value * 100) for key, value in rows_of(2000)])
    assert tables.get("one", b"000003") == b"value 3"
    tables.close()


def test_a_file_size_limit_is_a_full_disk_and_reads_go_on(folder: Path) -> None:
    child = run_python(
        "import resource, signal, sys; from pathlib import Path\n"
        "from store.tables import Tables; from store.errors import LocalDiskFull, StoreError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "tables = Tables(Path(sys.argv[1]), ('one', 'two'))\n"
        "tables.put_many('one', [(b'key', b'value')])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    tables.put_many('one', [(b'%d' % n, bytes(4000)) for n in range(2000)])\n"
        "except StoreError as error:\n"
        "    print(type(error).__name__, tables.get('one', b'key'))",
        str(folder),
    )
    output, errors = child.communicate(timeout=30)
    assert output.split(b" ", 1)[1:] == [b"b'value'\n"], (output, errors)
