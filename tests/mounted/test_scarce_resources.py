"""A mount with few descriptors or little memory: right bytes or an errno, and it lives."""

import contextlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.memory_limit import NoMemoryGroups, limited_memory
from tests.fakes.repositories import Repository, add, open_local
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import REVFS, Clone, make_repository

DESCRIPTORS = 256
PACKS = 300
HANDLES = 4
READERS = 32
MEMORY_BYTES = 512 << 20


def within_descriptors(clone: Clone) -> None:
    """Have revfs started with few descriptors, which it cannot have more of."""
    clone.command = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--", REVFS)


@pytest.fixture
def many_packs(tmp_path: Path, in_no_hurry_for_git: None, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository with more staged packs than a process may open files."""
    # Hundreds of times, for data that no power cut will ever meet.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    made = make_repository(tmp_path, None)
    repository = Repository(made.top)
    chance = random.Random(8)
    with open_local(repository, made.cache) as local:
        for number in range(PACKS):
            repository.write(f"data/{number:03}", chance.randbytes(3000))
            add(repository, local, f"data/{number:03}")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "many")
    return made


def test_a_thousand_open_files_of_more_packs_than_there_are_descriptors_are_read(
    many_packs: Clone,
) -> None:
    within_descriptors(many_packs)
    assert len(list((many_packs.top / ".git/revfs/staged").iterdir())) >= PACKS
    with many_packs.mounted("HEAD") as mount, contextlib.ExitStack() as stack:
        pid = mount.record.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        files = [
            stack.enter_context(open(mount.path / f"data/{number:03}", "rb", buffering=0))
            for number in range(PACKS)
            for _ in range(HANDLES)
        ]
        assert len(files) > 1000
        random.Random(9).shuffle(files)
        with ThreadPoolExecutor(READERS) as pool:
            got = list(pool.map(lambda file: file.read(), files))
        for file, content in zip(files, got, strict=True):
            assert content == (many_packs.top / "data" / Path(file.name).name).read_bytes()
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == children
        assert "ERROR" not in mount.log


def test_a_mount_in_little_memory_gives_right_bytes_and_none_of_its_processes_is_killed(
    in_bucket: InBucket, published: Published
) -> None:
    """What becomes of those that are killed, in less memory, shows scripts/torture-mount."""
    data = published.checkouts / "v1/data"
    paths = [path for path in sorted(data.rglob("*")) if path.is_file()]
    try:
        with limited_memory(MEMORY_BYTES) as group, ThreadPoolExecutor(READERS) as pool:
            in_bucket.clone.command = group.command(REVFS)
            with in_bucket.clone.mounted("v1", None, "--workers", "2") as mount:
                places = [mount.path / "data" / path.relative_to(data) for path in paths]
                for path, got in zip(paths, pool.map(Path.read_bytes, places), strict=True):
                    assert got == path.read_bytes(), path
                # Its processes are really in the group.
                assert group.peak_bytes() > 30 << 20
                assert not mount.has_ended()
                assert "another takes its place" not in mount.log
    except NoMemoryGroups as error:
        pytest.skip(f"LITTLE MEMORY IS NOT TESTED: {error}")
