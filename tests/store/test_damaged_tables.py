"""Tables that were damaged or removed, between two openings and while they are open: made anew by
whoever finds out, and nobody goes on with what is no more."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store import tables as tables_module
from store.ids import ChunkId
from store.tables import Tables
from tests.fakes.buckets import Bucket, to
from tests.fakes.processes import ROOT, python_command
from tests.fakes.repositories import (
    Repository,
    add,
    bucket_remote,
    open_local,
    read_file,
    staged_pointer,
)
from tests.fakes.small_store import (
    build_remote,
    content,
    open_store,
    random_files,
)

NAMES = ("one", "two")
ROWS = [(b"%06d" % number, b"value" * 100) for number in range(2000)]
# Opens and looks at all there is, writes, and says how many rows there were.
WORK = """
import sys; from pathlib import Path; from store.tables import Tables
tables = Tables(Path(sys.argv[1]), ("one", "two"))
print(len(tables.scan("one")))
tables.put_many("two", [(b"key", b"new")])
assert tables.get("two", b"key") == b"new"
tables.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    path.mkdir()
    return path


def fill(folder: Path) -> None:
    tables = Tables(folder, NAMES)
    tables.put_many("one", ROWS)
    tables.close()


def run(code: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: a page that is not there would end it, and to open the file of
    tables that are open drops their locks."""
    command = python_command(code, *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def pages_of(path: Path) -> int:
    return path.stat().st_size // 4096


def put_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(64 * 1024))


def put_text(path: Path) -> None:
    path.write_text("this is not a table\n" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 4)


def cut_a_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def zero_pages(path: Path) -> None:
    # All but the two pages that say where the others are.
    size = path.stat().st_size
    os.truncate(path, 2 * 4096)
    os.truncate(path, size)


def ask_for_a_huge_map(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(2):
            # In a meta page, the number of its last page: of its eight bytes the sixth.
            file.seek(page * 4096 + 16 + 24 + 96 + 5)
            file.write(b"\x01")


def put_another_version(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(2):
            file.seek(page * 4096 + 16 + 4)
            file.write(b"\x63")


@pytest.mark.parametrize(
    "damage",
    [
        put_garbage,
        put_text,
        cut,
        cut_a_byte,
        zero_pages,
        ask_for_a_huge_map,
        put_another_version,
    ],
)
def test_damaged_tables_are_made_anew_with_one_line_and_kill_nobody(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    fill(folder)
    damage(folder / "data.mdb")
    done = run(WORK, folder)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert done.stderr.startswith(f"the damaged tables in {folder} are made anew (")
    assert done.stderr.count("\n") == 1
    assert os.listdir(folder.parent) == ["index"]
    assert run(WORK, folder).stderr == ""


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
@pytest.mark.parametrize("change", [Path.unlink, empty])
def test_a_file_of_the_tables_that_is_gone_or_empty_is_made_by_lmdb(
    folder: Path, name: str, change: Callable[[Path], None]
) -> None:
    fill(folder)
    change(folder / name)
    done = run(WORK, folder)
    rows = 0 if name == "data.mdb" else len(ROWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{rows}\n", "")


def test_scrambled_locks_between_two_runs_harm_nobody(folder: Path) -> None:
    fill(folder)
    (folder / "lock.mdb").write_bytes(os.urandom(8192))
    done = run(WORK, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{len(ROWS)}\n", "")


@contextmanager
def another_that_looks(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has the tables open and says when it sees a row."""
    code = (
        "import sys, time; from pathlib import Path; from store.tables import Tables\n"
        "tables = Tables(Path(sys.argv[1]), ('one', 'two')); print(len(tables.scan('one')))\n"
        "sys.stdout.flush()\n"
        "while tables.get('two', b'sign') is None: time.sleep(0.02)\n"
        "print('seen', tables.generation)"
    )
    process = subprocess.Popen(
        python_command(code, folder), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{len(ROWS)}\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.expects_warnings
def test_damage_that_shows_in_the_middle_is_mended_there_and_others_follow(folder: Path) -> None:
    fill(folder)
    tables = Tables(folder, NAMES)
    renewed: list[int] = []
    tables.when_renewed(lambda: renewed.append(tables.generation))
    with another_that_looks(folder) as other:
        zero = (
            "import os, sys; file = open(sys.argv[1], 'r+b'); size = os.stat(sys.argv[1]).st_size\n"
            "file.seek(8192); file.write(bytes(size - 8192))"
        )
        assert run(zero, folder / "data.mdb").returncode == 0
        assert tables.scan("one") == []
        assert renewed == [tables.generation] == [1]
        tables.put_many("two", [(b"sign", b"")])
        out, _ = other.communicate(timeout=60)
    assert out == "seen 1\n"
    assert tables.scan("two") == [(b"sign", b"")]
    tables.close()
    assert os.listdir(folder.parent) == ["index"]


def test_a_folder_that_is_removed_under_open_tables_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "_LOOK_SECONDS", 0.0)
    fill(folder)
    tables = Tables(folder, NAMES)
    shutil.rmtree(folder)
    assert tables.get("one", ROWS[0][0]) is None
    tables.put_many("one", ROWS[:2])
    assert tables.scan("one") == ROWS[:2]
    assert tables.generation == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    tables.close()
    again = Tables(folder, NAMES)
    assert again.scan("one") == ROWS[:2]
    again.close()


CRASH = """
import os, sys; from pathlib import Path
from store.cache_index import CacheIndex
index = CacheIndex(Path(sys.argv[1]))
os.truncate(index.folder / "data.mdb", 2 * 4096)
index.load_uses()
"""


def test_a_crash_in_the_tables_of_the_cache_leaves_a_mark_by_which_they_are_made_anew(
    folder: Path,
) -> None:
    crashed = run(CRASH, folder)
    assert crashed.returncode == -signal.SIGBUS
    # As if the damage were of a kind that the next one would not see either.
    mark = (folder / "crashed").read_text()
    shutil.rmtree(folder)
    folder.mkdir()
    look = "import sys; from pathlib import Path; from store.cache_index import CacheIndex\n"
    look += "CacheIndex(Path(sys.argv[1])).close()"
    assert run(look, folder).stderr == ""
    (folder / "crashed").write_text(mark)
    assert "are made anew (a process crashed while it read them)" in run(look, folder).stderr
    assert run(look, folder).stderr == ""


def test_a_crash_elsewhere_is_not_taken_for_one_of_the_tables(folder: Path) -> None:
    code = CRASH.partition("os.truncate")[0] + "os.abort()"
    assert run(code, folder).returncode == -signal.SIGABRT
    assert (folder / "crashed").read_text()
    look = "import sys; from pathlib import Path; from store.cache_index import CacheIndex\n"
    look += "CacheIndex(Path(sys.argv[1])).close()"
    assert run(look, folder).stderr == ""
    assert not (folder / "crashed").read_text()


def test_after_a_crash_in_the_tables_of_a_repository_staged_packs_are_still_known(
    repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    repository.write("data/file", b"content")
    with open_local(repository, cache) as local:
        add(repository, local, "data")
        local.index.keep_format("url", b"kept")
    state = repository.top / ".git/revfs"
    crash = """
import os, sys; from pathlib import Path
from store.cache_index import CacheIndex
from store.ids import ChunkId
from store.staging import Staging, open_repository_tables
CacheIndex(Path(sys.argv[1]))
staging = Staging(Path(sys.argv[2]), open_repository_tables(Path(sys.argv[2])))
os.truncate(Path(sys.argv[2]) / "index/data.mdb", 2 * 4096)
staging.load_place(ChunkId(bytes(32)))
"""
    assert run(crash, cache / "index", state).returncode == -signal.SIGBUS
    with open_local(repository, cache) as local:
        assert local.index.load_format("url") == b"kept"
        assert local.staging is not None
        assert local.staging.load_place(staged_pointer(repository, b"data/file").content)
    (line,) = caplog.messages
    assert line.startswith(f"the damaged tables in {state / 'index'} are made anew")
    assert not (cache / "index/crashed").read_text()


@pytest.mark.expects_warnings
@pytest.mark.parametrize("damage", [put_garbage, cut, zero_pages, Path.unlink])
def test_scrambled_tables_of_a_repository_lose_no_staged_pack(
    repository: Repository, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    repository.write("data/file", b"content")
    with open_local(repository, tmp_path / "cache") as local:
        add(repository, local, "data")
    damage(repository.top / ".git/revfs/index/data.mdb")
    with open_local(repository, tmp_path / "cache", to_write=False) as local:
        assert local.staging is not None
        assert local.staging.load_place(staged_pointer(repository, b"data/file").content)
        assert len(local.staging.packs()) == 1


@pytest.mark.parametrize("row", [None, bytes(29), b"short"])
async def test_a_staged_chunk_whose_row_is_lost_or_wrong_is_read_all_the_same(
    repository: Repository, tmp_path: Path, row: bytes | None
) -> None:
    repository.write("data/file", b"content")
    with open_local(repository, tmp_path / "cache", bucket_remote()) as local:
        add(repository, local, "data")
        repository.commit()
        assert local._tables is not None
        ((key, _),) = local._tables.scan("chunks")
        local._tables.update("chunks", lambda _: row, key)
        assert await read_file(local, to(Bucket()), b"data/file") == b"content"
        assert local.staging is not None
        assert local.staging.load_place(ChunkId(key)) is not None


async def test_tables_that_are_lost_in_the_middle_cost_no_read(tmp_path: Path) -> None:
    built = build_remote(random_files(4, 1000))
    async with open_store(built, tmp_path, know_index=False) as store:
        assert await store.read("whole-00000") == content(built, 0)
        # More than once within the pauses between two questions to the remote.
        for loss in (1, 2, 3):
            shutil.rmtree(tmp_path / "cache")
            # It is seen within a second; until then nothing is missed.
            store.index._tables._main._look_at = 0.0
            assert await store.read(f"whole-0000{loss}") == content(built, loss)
            assert store.index.generation == loss
        assert store.cache.path_of(built.packs[0].name).exists()
