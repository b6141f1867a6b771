"""Staged packs: nothing finished is lost, nothing unfinished stays, whatever ends the writer."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from store import pack_sink as pack_sink_module
from store import staging as staging_module
from store.codec import compress_chunk
from store.errors import Busy, LocalDiskFull, StoreError
from store.ids import ChunkId, PackName, chunk_id
from store.pack_sink import PackSink
from store.packs import MAX_PACK_BYTES, PackKind, PackWriter, verify_pack
from store.staging import Staging, has_staged_packs, open_repository_tables
from store.tables import Tables
from tests.fakes.processes import environment_with, python_command
from tests.fakes.repositories import random_bytes


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def tables(state: Path) -> Iterator[Tables]:
    tables = open_repository_tables(state)
    yield tables
    tables.close()


@pytest.fixture
def staging(state: Path, tables: Tables) -> Staging:
    return Staging(state, tables)


def stage(staging: Staging, *contents: bytes) -> tuple[PackName, list[ChunkId]]:
    """A staged pack of these chunks."""
    with staging.new_pack(PackKind.DATA) as writer:
        for content in contents:
            writer.append(chunk_id(content), *compress_chunk(content), len(content))
        writer.finish()
    return writer.name, [chunk_id(content) for content in contents]


def files(state: Path) -> list[str]:
    """The names in the folder of staged packs."""
    return sorted(path.name for path in (state / "staged").iterdir())


def test_a_finished_pack_is_found_by_its_chunks(staging: Staging, state: Path) -> None:
    assert not has_staged_packs(state)
    name, chunks = stage(staging, b"one", b"two")
    assert has_staged_packs(state)
    assert [pack.name for pack in staging.packs()] == files(state) == [name]
    assert staging.packs()[0].size == staging.path_of(name).stat().st_size
    absent = ChunkId(bytes(32))
    places = staging.load_places([chunks[1], absent, chunks[0]])
    assert [place and (place.pack, place.entry.chunk) for place in places] == [
        (name, chunks[1]),
        None,
        (name, chunks[0]),
    ]
    assert staging.load_place(chunks[0]) == places[2]
    kind, table = staging.load_table(name)
    assert (kind, [entry.chunk for entry in table]) == (PackKind.DATA, chunks)
    assert verify_pack(staging.path_of(name)).table == table


def test_of_an_unfinished_pack_nothing_stays(staging: Staging, state: Path) -> None:
    with staging.new_pack(PackKind.DATA) as writer:
        writer.append(chunk_id(b"one"), 0, b"one", 3)
        assert files(state) == [f"{writer.name}.part"]
    assert files(state) == []
    assert staging.packs() == []
    assert staging.load_place(chunk_id(b"one")) is None


def test_a_pack_that_lost_its_rows_is_taken_in(
    staging: Staging, state: Path, tables: Tables
) -> None:
    name, chunks = stage(staging, b"one", b"two")
    tables.delete_many("packs", [bytes.fromhex(name)])
    tables.delete_many("chunks", list(chunks))
    assert staging.load_place(chunks[0]) is None
    again = Staging(state, tables)
    assert again.load_place(chunks[0]) is not None
    assert [pack.name for pack in again.packs()] == [name]


def test_rows_that_lost_their_pack_are_dropped(
    staging: Staging, state: Path, tables: Tables
) -> None:
    gone, (shared, only) = stage(staging, b"shared", b"only")
    name, _ = stage(staging, b"shared")
    staging.path_of(gone).unlink()
    again = Staging(state, tables)
    assert [pack.name for pack in again.packs()] == [name]
    place = again.load_place(shared)
    assert place is not None
    assert place.pack == name
    assert again.load_place(only) is None


def test_a_pack_that_another_process_finishes_meanwhile_is_not_taken_for_gone(
    staging: Staging, state: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    scan, iterdir = tables.scan, Path.iterdir

    def stage_once() -> None:
        if not names:
            names.append("")
            names[0], _ = stage(staging, b"just finished")

    def scan_then_stage(table: str) -> object:
        rows = scan(table)
        stage_once()
        return rows

    def list_then_stage(folder: Path) -> object:
        listed = list(iterdir(folder))
        stage_once()
        return listed

    for patched in ("scan", "iterdir"):
        names.clear()
        with monkeypatch.context() as patch:
            if patched == "scan":
                patch.setattr(tables, "scan", scan_then_stage)
            else:
                patch.setattr(Path, "iterdir", list_then_stage)
            Staging(state, tables)
        assert names[0] in files(state)
        assert staging.load_place(chunk_id(b"just finished")) is not None
        staging.remove(PackName(names[0]))


def test_a_pack_that_another_process_pushes_meanwhile_is_no_error(
    staging: Staging, state: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = stage(staging, b"one")
    tables.delete_many("packs", [bytes.fromhex(name)])
    load = staging_module.load_pack_table

    def load_too_late(path: Path) -> object:
        path.unlink()
        return load(path)

    monkeypatch.setattr(staging_module, "load_pack_table", load_too_late)
    assert Staging(state, tables).packs() == []


def test_a_damaged_pack_without_rows_is_told_of_and_blocks_nothing(
    staging: Staging, state: Path, caplog: pytest.LogCaptureFixture, tables: Tables
) -> None:
    name, chunks = stage(staging, b"sound")
    (state / "staged" / ("ab" * 16)).write_bytes(b"no pack at all" * 20)
    again = Staging(state, tables)
    assert [pack.name for pack in again.packs()] == [name]
    assert again.load_place(chunks[0]) is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ab" * 16 in caplog.text
    assert "ab" * 16 in files(state)


@pytest.mark.parametrize("with_table", [True, False])
def test_removing_a_pack_leaves_chunks_that_another_holds(
    staging: Staging, state: Path, with_table: bool
) -> None:
    first, (shared, only) = stage(staging, b"shared", b"only")
    second, _ = stage(staging, b"shared", b"more")
    table = staging.load_table(first)[1] if with_table else None
    staging.remove(first, table)
    assert files(state) == [second]
    place = staging.load_place(shared)
    assert place is not None
    assert place.pack == second
    assert staging.load_place(only) is None
    staging.remove(first, table)


def test_only_one_at_a_time_does_one_verb(staging: Staging) -> None:
    with staging.locked("add"):
        with staging.locked("push"):
            pass
        with pytest.raises(Busy, match="another revfs add"), staging.locked("add"):
            pass
    with staging.locked("add"):
        pass


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(
    staging: Staging, state: Path
) -> None:
    (state / "staged" / f"{'0' * 32}.part").write_bytes(b"half")
    with staging.new_pack(PackKind.DATA) as writer:
        writer.append(chunk_id(b"one"), 0, b"one", 3)
        with staging.locked("add"):
            assert files(state) == [f"{writer.name}.part"]
        writer.finish()
    assert files(state) == [writer.name]


def test_a_killed_process_holds_no_lock(state: Path, staging: Staging) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from store.staging import *;"
        "state = Path(sys.argv[1]); s = Staging.__new__(Staging);"
        "s._state_dir, s._folder = state, state / 'staged';"
        "lock = s.locked('add'); lock.__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = python_command(code, state)
    ended = subprocess.run(command, env=environment_with(), check=False)
    assert ended.returncode == -9
    with staging.locked("add"):
        pass


def test_a_full_disk_is_said_and_nothing_half_stays(
    staging: Staging, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    for fault, kind in ((full, LocalDiskFull), (broken, StoreError)):
        with monkeypatch.context() as patch:
            patch.setattr("store.staged_writer.os.fsync", fault)
            with pytest.raises(kind, match="staged"):
                stage(staging, b"one")
        assert files(state) == []
    assert staging.packs() == []


def test_a_sink_writes_each_chunk_once_and_packs_of_bounded_size(
    staging: Staging, state: Path
) -> None:
    blocks = [random_bytes(4 << 20, seed) for seed in range(3)]
    chunks = [chunk_id(block) for block in blocks]
    with PackSink(staging, PackKind.DATA) as sink:
        for number in range(34):
            # The id is taken on trust here, so distinct ones are cheap to come by.
            block = blocks[number % 3]
            chunk = chunks[number] if number < 3 else ChunkId(bytes([number]) * 32)
            for _ in range(2):
                sink.append(chunk, 0, block, len(block))
            assert chunk in sink
        written = sink.finish()
    assert sink.stored_bytes == 34 * (4 << 20)
    assert sorted(written) == files(state)
    assert len(written) == 3
    assert all(summary.size <= MAX_PACK_BYTES for summary in written.values())
    assert sum(len(summary.table) for summary in written.values()) == 34


def test_a_sink_that_is_not_finished_keeps_full_packs_and_nothing_half(
    staging: Staging, state: Path
) -> None:
    block = random_bytes(4 << 20)
    with PackSink(staging, PackKind.DATA) as sink:
        for number in range(17):
            sink.append(ChunkId(bytes([number]) * 32), 0, block, len(block))
    (name,) = files(state)
    assert [pack.name for pack in staging.packs()] == [name]


def test_a_sink_of_nothing_writes_nothing(staging: Staging, state: Path) -> None:
    with PackSink(staging, PackKind.LISTS) as sink:
        assert sink.finish() == {}
    assert files(state) == []


def test_a_full_disk_under_a_sink_is_raised_at_the_latest_by_its_end(
    staging: Staging, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.staged_writer.os.fsync", full)
    with PackSink(staging, PackKind.DATA) as sink:
        sink.append(chunk_id(b"one"), 0, b"one", 3)
        with pytest.raises(LocalDiskFull):
            sink.finish()
    assert files(state) == []


def test_a_disk_that_fills_up_behind_a_sink_s_back_ends_the_work_and_leaves_nothing_half(
    staging: Staging, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: PackWriter, added: Sequence[bytes]) -> None:
        raise OSError(28, "No space left on device")

    blocks = [random_bytes(1 << 20, seed) for seed in range(3)]
    monkeypatch.setattr(PackWriter, "write", full)

    def stage_all() -> None:
        with PackSink(staging, PackKind.DATA) as sink:
            for block in blocks:
                sink.append(chunk_id(block), 0, block, len(block))
            sink.finish()

    with pytest.raises(LocalDiskFull):
        stage_all()
    assert files(state) == []
    assert staging.packs() == []


def test_what_a_sink_holds_back_for_its_thread_is_bounded(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_sink_module, "_MOST_WAITING_BYTES", 3 << 20)
    write = PackWriter.write
    go_on = threading.Event()

    def slowly(writer: PackWriter, added: Sequence[bytes]) -> None:
        # The first goes on once the caller has to wait for it.
        go_on.wait(10)
        write(writer, added)

    monkeypatch.setattr(PackWriter, "write", slowly)
    appended: list[int] = []

    def append_all() -> None:
        with PackSink(staging, PackKind.DATA) as sink:
            for number in range(8):
                block = random_bytes(1 << 20, number)
                sink.append(chunk_id(block), 0, block, len(block))
                appended.append(number)
            sink.finish()

    thread = threading.Thread(target=append_all)
    thread.start()
    while len(appended) < 3 and thread.is_alive():
        time.sleep(0.01)
    thread.join(0.2)
    assert len(appended) == 3
    go_on.set()
    thread.join(10)
    assert len(appended) == 8
