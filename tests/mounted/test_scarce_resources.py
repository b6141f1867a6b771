"""A mount with few descriptors or little memory: right bytes or an errno, and it lives."""

import contextlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.repositories import Repository, add, open_local
from tests.mounted.repositories import REVFS, Clone, make_repository

DESCRIPTORS = 256
PACKS = 300
HANDLES = 4
READERS = 32


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
