"""Mounts of what no remote has yet, or no remote at all; and pushes under a mount."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.mounted.repositories import Clone, commit_version, make_repository, wait_until

CONTENT = {f"data/{number}.bin": bytes([number]) * (number * 100_000 + 1) for number in range(12)}


def write_content(repository: Clone) -> None:
    (repository.top / "data").mkdir()
    for name, content in CONTENT.items():
        (repository.top / name).write_bytes(content)
    commit_version(repository, "v1")


def read_all(top: Path) -> dict[str, bytes]:
    return {name: (top / name).read_bytes() for name in CONTENT}


def test_a_revision_is_mounted_and_read_with_no_remote_at_all(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, None)
    write_content(repository)
    shutil.rmtree(repository.top / "data")
    with repository.mounted("v1") as mount:
        assert read_all(mount.path) == CONTENT
        assert mount.fetched_bytes() == 0


@pytest.fixture
def unpushed(tmp_path: Path) -> Clone:
    """A repository with a committed version that its (empty) folder remote has not."""
    (tmp_path / "remote").mkdir()
    repository = make_repository(tmp_path, str(tmp_path / "remote"))
    write_content(repository)
    return repository


def test_a_revision_is_mounted_before_its_push_and_read_on_after_it(unpushed: Clone) -> None:
    with unpushed.mounted("v1") as mount:
        names = list(CONTENT)
        for name in names[:6]:
            assert (mount.path / name).read_bytes() == CONTENT[name]
        staged = unpushed.top / ".git/revfs/staged"
        assert len(list(staged.iterdir())) > 0
        unpushed.revfs("push")
        assert not [path for path in staged.iterdir() if path.is_file() and path.stat().st_size]
        drop_page_cache(mount.path, names)
        assert read_all(mount.path) == CONTENT
        assert "ERROR" not in mount.log


def drop_page_cache(top: Path, names: list[str]) -> None:
    for name in names:
        with (top / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_readers_never_notice_a_push(unpushed: Clone) -> None:
    with unpushed.mounted("v1") as mount:
        wrong: list[object] = []
        done = threading.Event()
        passes = 0

        def read_on() -> None:
            nonlocal passes
            while not done.is_set():
                drop_page_cache(mount.path, list(CONTENT))
                try:
                    if read_all(mount.path) != CONTENT:
                        wrong.append("other bytes")
                except OSError as error:
                    wrong.append(error)
                passes += 1

        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            wait_until(lambda: passes > 0)
            unpushed.revfs("push")
            seen = passes
            wait_until(lambda: passes > seen + 1)
        finally:
            done.set()
            reader.join()
        assert wrong == []


def test_a_clone_without_the_data_says_what_is_missing_until_it_is_pushed(
    unpushed: Clone, tmp_path: Path
) -> None:
    reader = unpushed.clone(tmp_path / "reader", tmp_path / "reader-home")
    reader.git("fetch", "--quiet", "--tags")
    with reader.mounted("v1", None, "--timeout", "2") as mount:
        assert sorted(path.name for path in (mount.path / "data").iterdir()) == sorted(
            Path(name).name for name in CONTENT
        )
        with pytest.raises(OSError) as raised:
            (mount.path / "data/3.bin").read_bytes()
        assert raised.value.errno == errno.EIO
        assert "is not staged" in mount.log
        unpushed.revfs("push")

        def is_readable() -> bool:
            try:
                return (mount.path / "data/3.bin").read_bytes() == CONTENT["data/3.bin"]
            except OSError:
                return False

        # The remote is asked again some seconds later, not at every read.
        wait_until(is_readable)
        assert read_all(mount.path) == CONTENT


def test_a_version_added_while_another_is_mounted_is_mounted_beside_it(unpushed: Clone) -> None:
    with unpushed.mounted("v1") as first:
        (unpushed.top / "data/3.bin").write_bytes(b"changed")
        commit_version(unpushed, "v2")
        with unpushed.mounted("v2") as second:
            assert (second.path / "data/3.bin").read_bytes() == b"changed"
            assert (first.path / "data/3.bin").read_bytes() == CONTENT["data/3.bin"]
            assert read_all(first.path) == CONTENT
            listed = {entry["revision"]: entry for entry in unpushed.mounts()}
            assert listed.keys() == {"v1", "v2"}
            assert listed["v1"]["pid"] != listed["v2"]["pid"]
