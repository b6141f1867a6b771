"""Files that git itself keeps, small, large and missing."""

import os
from pathlib import Path

import pytest

from store import plain_files as plain_files_module
from store.directories import MAX_SYMLINK_BYTES, Entry, Kind
from store.errors import GitError, StoreError
from store.git import GitRepository
from store.plain_files import PlainFiles
from tests.fakes.repositories import Repository, random_bytes


@pytest.fixture
def files(opened: GitRepository, tmp_path: Path) -> PlainFiles:
    (tmp_path / "spool").mkdir()
    return PlainFiles(opened, tmp_path / "spool")


def entry(
    repository: Repository, content: bytes, kind: Kind = Kind.PLAIN, size: int | None = None
) -> Entry:
    raw_id = bytes.fromhex(repository.write_blob(content)) + bytes(12)
    return Entry(b"name", kind, len(content) if size is None else size, 0, raw_id)


ABSENT = Entry(b"name", Kind.PLAIN, 10, 0, bytes(19) + b"\1" + bytes(12))


@pytest.mark.parametrize("small_bytes", [1 << 20, 100])
async def test_any_range_is_the_same_range_of_the_file(
    repository: Repository,
    files: PlainFiles,
    monkeypatch: pytest.MonkeyPatch,
    small_bytes: int,
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", small_bytes)
    content = random_bytes(1000)
    file = entry(repository, content)
    for offset, size in ((0, 1000), (0, 5000), (10, 20), (999, 1), (990, 100), (1000, 5), (0, 0)):
        assert await files.read(file, offset, size) == content[offset : offset + size]
    assert await files.read(entry(repository, b""), 0, 10) == b""


async def test_a_large_file_lies_in_no_named_file_and_is_asked_for_once(
    repository: Repository, files: PlainFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", 100)
    content = random_bytes(1000)
    file = entry(repository, content)
    assert await files.read(file, 0, 10) == content[:10]
    assert os.listdir(tmp_path / "spool") == []
    (repository.top / ".git" / "objects").rename(tmp_path / "away")
    assert await files.read(file, 500, 10) == content[500:510]


async def test_only_a_few_large_files_are_held_open(
    repository: Repository, files: PlainFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", 1)
    contents = [random_bytes(10, seed) for seed in range(12)]
    before = len(os.listdir("/proc/self/fd"))
    for content in contents * 2:
        assert await files.read(entry(repository, content), 0, 10) == content
    assert len(os.listdir("/proc/self/fd")) <= before + plain_files_module._SPOOLED_FILES


@pytest.mark.parametrize("small_bytes", [1 << 20, 1])
async def test_a_missing_object_is_an_error_that_names_it(
    files: PlainFiles, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", small_bytes)
    for _ in range(2):
        with pytest.raises(GitError, match=ABSENT.git_id):
            await files.read(ABSENT, 0, 10)
    with pytest.raises(GitError, match=ABSENT.git_id):
        await files.read_link(ABSENT)


async def test_a_large_file_of_another_size_than_was_said_is_refused(
    repository: Repository, files: PlainFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", 1)
    with pytest.raises(GitError):
        await files.read(entry(repository, b"content", size=100), 0, 10)


async def test_a_large_file_needs_a_folder_to_lie_in(
    repository: Repository,
    opened: GitRepository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(plain_files_module, "_SMALL_BYTES", 1)
    files = PlainFiles(opened, tmp_path / "none")
    with pytest.raises(StoreError, match="cannot be written"):
        await files.read(entry(repository, b"content"), 0, 10)


@pytest.mark.parametrize("target", [b"a", b"../../etc/passwd", b"/abs", b"caf\xe9", b"x" * 4095])
async def test_a_link_target_is_given_as_it_is(
    repository: Repository, files: PlainFiles, target: bytes
) -> None:
    assert await files.read_link(entry(repository, target, Kind.SYMLINK)) == target


@pytest.mark.parametrize("target", [b"", b"x" * (MAX_SYMLINK_BYTES + 1), b"a\0b"])
async def test_a_link_target_that_no_kernel_takes_is_an_error(
    repository: Repository, files: PlainFiles, target: bytes
) -> None:
    with pytest.raises(GitError, match="symbolic link"):
        await files.read_link(entry(repository, target, Kind.SYMLINK))
