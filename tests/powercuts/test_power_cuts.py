"""Power cuts under the staged packs and under the cache, at random moments, with whatever may have
reached the disk by then: a staged pack is whole or not there, and whole before git names it; the
cache never gives a wrong byte."""

import os
import pickle
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from store.chunking import DEFAULT_CHUNKING, read_chunks
from store.ids import ChunkId, chunk_id, is_pack_name
from store.packs import unpack_chunk, verify_pack
from store.staging import Staging, open_repository_tables
from tests.fakes.processes import environment_with, python_command
from tests.fakes.small_store import BuiltRemote, build_remote, open_store, random_files
from tests.mounted.repositories import REVFS, Clone, make_repository
from tests.powercuts.disk import Call, Disk, build_tracer, cuts, parse_calls, traced

CUTS = 60
pytestmark = pytest.mark.expects_warnings


@pytest.fixture(scope="session")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that writes down what a process asks of files."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return build_tracer(tmp_path_factory.mktemp("tracer"))


def write_files(top: Path, seed: int) -> list[ChunkId]:
    """New files, many small ones and one of some chunks; the chunks of their contents."""
    chance = random.Random(seed)
    chunks = []
    (top / "data").mkdir(exist_ok=True)
    for number, size in enumerate([10, 5_000, 300_000, 3_000_000, *[2_000] * 20]):
        path = top / f"data/{seed}-{number}"
        path.write_bytes(chance.randbytes(size))
        with path.open("rb") as file:
            chunks += [chunk_id(raw) for raw in read_chunks(file, DEFAULT_CHUNKING)]
    return chunks


def run_traced(repository: Clone, tracer: Path, *command: str) -> tuple[Disk, list[Call]]:
    """The disk of the git directory before a command, and what the command asked of it."""
    root, log = repository.top / ".git", repository.home / "calls"
    disk = Disk(root)
    done = subprocess.run(
        command,
        cwd=repository.top,
        env={**repository.environment, **traced(root, log, tracer)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls = parse_calls(log)
    log.unlink()
    return disk, calls


def names_it(call: Call) -> bool:
    """Whether git has a new index, or a pack of pointers, from that call on."""
    name = os.path.basename(call.second)
    return call.kind in "rl" and (name == b"index" or name.endswith((b".idx", b".pack")))


def staged_after(state: Path, wanted: list[ChunkId]) -> list[ChunkId]:
    """Those of the chunks that the real code finds staged, each proven, after all packs were."""
    if not state.is_dir():
        return []
    folder = state / "staged"
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_pack_name(path.name):
            verify_pack(path)
    tables = open_repository_tables(state)
    try:
        staging = Staging(state, tables)
        found = []
        for chunk in wanted:
            place = staging.load_place(chunk)
            if place is not None:
                with staging.path_of(place.pack).open("rb") as file:
                    file.seek(place.entry.offset)
                    unpack_chunk(place.entry, file.read(place.entry.stored_length))
                found.append(chunk)
        return found
    finally:
        tables.close()


@pytest.mark.parametrize("first", [True, False], ids=["the first of all", "one more"])
def test_staged_packs_last_before_git_names_what_is_in_them(
    first: bool, tmp_path: Path, tracer: Path
) -> None:
    repository = make_repository(tmp_path / "made", None)
    before: list[ChunkId] = []
    if not first:
        before = write_files(repository.top, 1)
        repository.revfs("add", "data")
    new = write_files(repository.top, 2)
    disk, calls = run_traced(repository, tracer, REVFS, "add", "data")
    named_at = next(number for number, call in enumerate(calls, 1) if names_it(call))
    half = 0
    for moment, after in cuts(disk, calls, random.Random(first), CUTS, tmp_path):
        found = staged_after(after / "revfs", before + new)
        assert found[: len(before)] == before
        if moment >= named_at:
            assert found == before + new
        half += 0 < len(found) - len(before) < len(new)
    # It was cut in the middle too, where some packs were whole and others were not there.
    assert named_at < len(calls)


def test_all_that_git_add_took_lasts_once_it_has_returned(tmp_path: Path, tracer: Path) -> None:
    repository = make_repository(tmp_path / "made", None)
    before = write_files(repository.top, 1)
    repository.revfs("add", "data")
    new = write_files(repository.top, 2)
    disk, calls = run_traced(repository, tracer, "git", "add", "data")
    for moment, after in cuts(disk, calls, random.Random(3), CUTS, tmp_path):
        found = staged_after(after / "revfs", before + new)
        assert found[: len(before)] == before
        if moment == len(calls):
            assert found == before + new


READING = """
import pickle, sys, trio
from pathlib import Path
from tests.fakes.small_store import open_store

async def read(built, folder):
    for part in range(3):
        async with open_store(built, folder, budget_bytes=40_000, know_index=False) as store:
            for number, name in enumerate(built.contents):
                if number % 3 == part:
                    assert await store.read(name) == built.contents[name]
                if number % 10 == 0:
                    store.cache.flush()
            await store.until_quiet()
            store.cache.flush()

trio.run(read, pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
"""


async def read_right(built: BuiltRemote, folder: Path) -> None:
    async with open_store(built, folder, know_index=False) as store:
        for name, content in built.contents.items():
            assert await store.read(name) == content


async def test_a_cache_after_a_power_cut_never_gives_a_wrong_byte(
    tmp_path: Path, tracer: Path
) -> None:
    built = build_remote(random_files(40, 2_000), chunks_per_pack=10)
    (tmp_path / "built").write_bytes(pickle.dumps(built))
    root, log = tmp_path / "store", tmp_path / "calls"
    root.mkdir()
    disk = Disk(root)
    done = subprocess.run(
        python_command(READING, tmp_path / "built", root),
        env=environment_with(**traced(root, log, tracer)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls = parse_calls(log)
    assert len(calls) > 100
    for _, after in cuts(disk, calls, random.Random(4), CUTS, tmp_path):
        await read_right(built, after)
