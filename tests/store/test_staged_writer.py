"""Unfinished staged packs: what a killed writer saved is found whole, and nothing else."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from store.chunk_list import encode_chunk_list
from store.errors import LocalDiskFull
from store.ids import ChunkId, chunk_id
from store.pack_sink import PackSink
from store.packs import PackKind, PackWriter, verify_pack
from store.staging import Staging, has_staged_packs, open_repository_tables
from tests.fakes.processes import environment_with, python_command
from tests.fakes.repositories import random_bytes

CHUNKS = [random_bytes(size, seed) for seed, size in enumerate((1, 5_000, 70_000, 300_000))]

# Appends the chunks, saves after as many as it is told to, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from store.ids import chunk_id
from store.pack_sink import PackSink
from store.packs import PackKind
from store.staging import Staging, open_repository_tables
from tests.store.test_staged_writer import CHUNKS
state = Path(sys.argv[1])
sink = PackSink(Staging(state, open_repository_tables(state)), PackKind.DATA, saving=True)
for number, chunk in enumerate(CHUNKS, 1):
    sink.append(chunk_id(chunk), 0, chunk, len(chunk))
    if number <= int(sys.argv[2]):
        sink.save()
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_after(state: Path, saved: int) -> Path:
    """The folder of staged packs that such a writer left."""
    done = subprocess.run(python_command(KILLED, state, str(saved)), env=environment_with())
    assert done.returncode == -signal.SIGKILL
    return state / "staged"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def saved_chunks(state: Path) -> list[bool]:
    """Which of the chunks a staging that is opened now has, and that it is tidy and whole."""
    tables = open_repository_tables(state)
    try:
        staging = Staging(state, tables)
        for pack in staging.packs():
            verify_pack(staging.path_of(pack.name))
        names = {path.name for path in (state / "staged").iterdir()}
        assert names == {pack.name for pack in staging.packs()}
        return [staging.load_place(chunk_id(chunk)) is not None for chunk in CHUNKS]
    finally:
        tables.close()


@pytest.mark.parametrize("saved", range(1, len(CHUNKS) + 1))
def test_what_was_saved_outlives_the_writer(state: Path, saved: int) -> None:
    folder = killed_after(state, saved)
    assert sorted(path.suffix for path in folder.iterdir()) == [".journal", ".part"]
    assert has_staged_packs(state)
    found = saved_chunks(state)
    assert found[:saved] == [True] * saved
    assert not any(found[saved:])
    assert saved_chunks(state) == found


def test_what_was_never_saved_leaves_nothing(state: Path) -> None:
    killed_after(state, 0)
    assert not has_staged_packs(state)
    tables = open_repository_tables(state)
    with Staging(state, tables).locked("add"):
        assert list((state / "staged").iterdir()) == []
    tables.close()


@pytest.mark.parametrize("damage", ["cut", "flipped", "journal cut", "journal flipped", "no pack"])
def test_only_what_is_proven_is_saved(state: Path, damage: str) -> None:
    folder = killed_after(state, len(CHUNKS))
    (part,), (journal,) = folder.glob("*.part"), folder.glob("*.journal")
    raw = bytearray(part.read_bytes())
    rows = journal.read_bytes()
    if damage == "cut":
        part.write_bytes(raw[:-1])
    elif damage == "flipped":
        raw[-1] ^= 1
        part.write_bytes(raw)
    elif damage == "journal cut":
        journal.write_bytes(rows[:-1])
    elif damage == "journal flipped":
        journal.write_bytes(rows[:-45] + bytes([rows[-45] ^ 1]) + rows[-44:])
    else:
        part.unlink()
    found = saved_chunks(state)
    assert found == ([False] * 4 if damage == "no pack" else [True, True, True, False])


def test_a_pack_that_is_being_written_is_left_alone(state: Path) -> None:
    tables = open_repository_tables(state)
    staging = Staging(state, tables)
    raw = encode_chunk_list([(chunk_id(chunk), len(chunk)) for chunk in CHUNKS])
    with PackSink(staging, PackKind.LISTS, saving=True) as sink:
        sink.append(chunk_id(raw), 0, raw, len(raw))
        sink.save()
        with Staging(state, tables).locked("add"):
            assert len(list((state / "staged").glob("*.part"))) == 1
        sink.finish()
    assert staging.load_place(chunk_id(raw)) is not None
    assert [path.suffix for path in (state / "staged").iterdir()] == [""]
    tables.close()


@pytest.mark.expects_warnings
def test_a_full_disk_keeps_what_could_not_be_saved_yet(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = killed_after(state, len(CHUNKS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        tables = open_repository_tables(state)
        with Staging(state, tables).locked("add"):
            assert sorted(path.suffix for path in folder.iterdir()) == [".journal", ".part"]
        tables.close()
    assert saved_chunks(state) == [True] * 4


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_written(writer: PackWriter, chunk: ChunkId, codec: int, stored: bytes, size: int) -> None:
    """What a disk that fills up meanwhile leaves of a chunk: a part of it."""
    writer._file.write(stored[: len(stored) // 2])
    full_disk()


def append_to_full_disk(sink: PackSink, chunk: bytes, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as in_append:
        in_append.setattr(PackWriter, "append", half_written)
        with pytest.raises(LocalDiskFull):
            sink.append(chunk_id(chunk), 0, chunk, len(chunk))


@pytest.mark.parametrize("fails_at", ["append", "fsync"])
def test_a_disk_that_fills_up_takes_nothing_of_what_was_saved(
    state: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    tables = open_repository_tables(state)
    with PackSink(Staging(state, tables), PackKind.DATA, saving=True) as sink:
        for chunk in CHUNKS[:3]:
            sink.append(chunk_id(chunk), 0, chunk, len(chunk))
            sink.save()
        with monkeypatch.context() as patch:
            if fails_at == "append":
                append_to_full_disk(sink, CHUNKS[3], patch)
            else:
                patch.setattr(os, "fsync", full_disk)
            with pytest.raises(LocalDiskFull):
                sink.finish()
    tables.close()
    assert saved_chunks(state) == [True, True, True, False]
