"""Tables in memory, for what the disk of the cache has no room for."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import spared_tables
from store.errors import LocalDiskFull
from store.spared_tables import SparedTables, spare_place
from store.tables import Row, Tables
from tests.fakes.processes import environment_with, python_command

NAMES = ("needed", "other")
ROWS: list[Row] = [(b"%03d" % number, b"value") for number in range(20)]
WRITING = """
import sys; from pathlib import Path
from store.local_folders import make_private_folder
from store.tables import Tables
folder = make_private_folder(make_private_folder(Path(sys.argv[1])) / "index")
Tables(folder, ("needed",), most_bytes=1 << 20).put_many("needed", [(b"005", b"value")])
"""
pytestmark = pytest.mark.expects_warnings


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "index"
    path.mkdir()
    yield path
    shutil.rmtree(spare_place(path), ignore_errors=True)


class FullDisk:
    """Has the tables on the disk refuse rows, while it is `full`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        put_many = Tables.put_many

        def refuse(tables: Tables, table: str, rows: list[Row]) -> None:
            if self.full and tables._folder == folder:
                raise LocalDiskFull("no room")
            put_many(tables, table, rows)

        monkeypatch.setattr(Tables, "put_many", refuse)


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(folder, monkeypatch)


def test_rows_that_have_no_room_are_kept_in_memory_for_all_until_there_is_room(
    folder: Path, disk: FullDisk
) -> None:
    disk.full = False
    tables = SparedTables(folder, NAMES, NAMES[:1])
    tables.put_many("needed", [(b"000", b"old"), (b"first", b"")])
    disk.full = True
    tables.put_many("needed", ROWS)
    assert tables.get("needed", b"000") == b"value"
    assert tables.get_many("needed", [b"first", b"005", b"none"]) == [b"", b"value", None]
    assert tables.scan("needed") == [*ROWS, (b"first", b"")]
    assert tables.scan_keys("needed", b"00") == [b"%03d" % number for number in range(10)]
    tables.delete_many("needed", [b"000"])
    assert tables.get("needed", b"000") is None
    tables.close()
    again = SparedTables(folder, NAMES, NAMES[:1])
    assert again.get("needed", b"005") == b"value"
    again.close()
    disk.full = False
    healed = SparedTables(folder, NAMES, NAMES[:1])
    assert not spare_place(folder).exists()
    assert healed.scan("needed") == [(b"first", b"")]
    healed.put_many("needed", ROWS)
    assert not spare_place(folder).exists()
    healed.close()


@pytest.mark.usefixtures("disk")
def test_rows_that_can_be_done_without_are_not(folder: Path) -> None:
    tables = SparedTables(folder, NAMES, NAMES[:1])
    with pytest.raises(LocalDiskFull, match="no room"):
        tables.put_many("other", ROWS)
    assert not spare_place(folder).exists()
    tables.close()


@pytest.mark.usefixtures("disk")
def test_one_that_was_open_before_sees_what_another_had_to_keep_in_memory(folder: Path) -> None:
    tables = SparedTables(folder, NAMES, NAMES[:1])
    assert tables.get("needed", b"005") is None
    subprocess.run(python_command(WRITING, spare_place(folder)), env=environment_with(), check=True)
    assert tables.get("needed", b"005") == b"value"
    tables.close()


@pytest.mark.usefixtures("disk")
def test_without_such_memory_it_is_a_full_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(spared_tables, "_MEMORY", tmp_path / "file")
    tables = SparedTables(folder, NAMES, NAMES[:1])
    with pytest.raises(LocalDiskFull, match="no room"):
        tables.put_many("needed", ROWS)
    tables.close()
