"""A mount that follows a branch: new opens see where it is, open files keep what they were."""

import errno
import mmap
import os
import re
import time
from pathlib import Path

import pytest

from tests.mounted.conftest import Published
from tests.mounted.repositories import Clone, Mounted, wait_until
from tests.mounted.trees import summaries
from vfs.attributes import MOVING_SECONDS


@pytest.fixture
def moving(clone: Clone) -> Clone:
    """A clone whose branch `moving` is at v1."""
    clone.git("branch", "moving", "v1")
    return clone


def move(clone: Clone, commit: str) -> None:
    clone.git("branch", "--force", "moving", commit)


def wait_until_at(clone: Clone, mount: Mounted, name: str) -> None:
    """Return when the record says that the mount is at that commit."""
    commit = clone.git("rev-parse", name).strip()

    def is_there() -> bool:
        record = mount.load_record()
        return record is not None and record.commit == commit

    wait_until(is_there)


def test_the_mount_is_the_branch_s_commit_and_moves_with_it(
    moving: Clone, published: Published
) -> None:
    with moving.mounted("moving", None, "--follow") as mount:
        assert summaries(mount.path) == summaries(published.checkouts / "v1")
        move(moving, "v2")
        wait_until(lambda: not (mount.path / "data/many/001.bin").exists())
        wait_until_at(moving, mount, "v2")
        assert summaries(mount.path) == summaries(published.checkouts / "v2")
        assert mount.path.stat().st_mtime == int(moving.git("log", "-1", "--format=%ct", "v2"))
        (listed,) = moving.mounts()
        assert (listed["kind"], listed["revision"]) == ("follow", "moving")
        assert listed["commit"] == moving.git("rev-parse", "v2").strip()
        assert re.search(r"INFO vfs.shown: moving moved from \w{40} to \w{40}", mount.log)


def test_open_files_keep_their_bytes_when_the_branch_moves(moving: Clone) -> None:
    with moving.mounted("moving", None, "--follow") as mount:
        large = mount.path / "data/large.bin"
        old = large.read_bytes()
        with large.open("rb") as file, (mount.path / "README.md").open() as plain:
            head = file.read(1_000_000)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                move(moving, "v2")
                wait_until(lambda: large.stat().st_size != len(old))
                assert large.read_bytes() == old[:4_000_000] + b"inserted" + old[4_000_000:]
                assert head + file.read() == old
                assert mapped[:] == old
            assert plain.read() == "kept by git itself\n"


def test_who_stands_in_the_root_sees_the_move_and_who_stands_below_does_not(moving: Clone) -> None:
    def read(folder: int, name: str) -> bytes:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
        try:
            return os.read(descriptor, 100)
        finally:
            os.close(descriptor)

    with moving.mounted("moving", None, "--follow") as mount:
        root, data = (os.open(mount.path / name, os.O_RDONLY) for name in ("", "data"))
        try:
            move(moving, "v2")
            wait_until(lambda: read(root, "data/empty") == b"no longer")
            assert read(data, "empty") == b""
            assert "001.bin" in os.listdir(f"/proc/self/fd/{data}/many")
            # There and back: the folder that was left is the one that is found again.
            move(moving, "v1")
            wait_until(lambda: read(root, "data/empty") == b"")
            assert (mount.path / "data").stat().st_ino == os.fstat(data).st_ino
            assert os.readlink(f"/proc/self/fd/{data}") == str(mount.path / "data")
        finally:
            os.close(root)
            os.close(data)


def test_a_branch_that_is_gone_is_said_once_and_followed_again_when_it_is_back(
    moving: Clone,
) -> None:
    with moving.mounted("moving", None, "--follow") as mount:
        moving.git("branch", "--delete", "--force", "moving")
        wait_until(lambda: "WARNING" in mount.log)
        assert (mount.path / "data/empty").read_bytes() == b""
        moving.git("branch", "moving", "v2")
        wait_until(lambda: (mount.path / "data/empty").read_bytes() == b"no longer")
        warnings = [line for line in mount.log.splitlines() if "WARNING" in line]
        assert len(warnings) == 1
        assert "moving is gone, or leads to no commit; the mount stays at" in warnings[0]


def test_a_folder_of_a_branch_is_followed_and_stays_where_it_is_lacking(moving: Clone) -> None:
    with moving.mounted("moving:data/deep/a/b", None, "--follow") as mount:
        number = (mount.path / "c").stat().st_ino
        empty = moving.git("commit-tree", "-m", "x", moving.git("mktree").strip()).strip()
        move(moving, empty)
        wait_until(lambda: "WARNING" in mount.log)
        assert "data is not in that revision; the mount stays at" in mount.log
        # Long enough for another look, of which nothing is to be said.
        time.sleep(2 * MOVING_SECONDS)
        assert mount.log.count("WARNING") == 1
        assert (mount.path / "c/file").read_text() == "deep down"
        move(moving, "v2")
        wait_until(lambda: (mount.path / "c").stat().st_ino != number)
        assert (mount.path / "c/file").read_text() == "deep down"


def test_the_mount_goes_where_head_goes_and_where_a_tag_goes(clone: Clone) -> None:
    clone.git("branch", "other", "v1")
    clone.git("tag", "latest", "v1")
    with (
        clone.mounted("HEAD", None, "--follow") as head,
        clone.mounted("latest", None, "--follow") as tag,
    ):
        assert (head.path / "data/empty").read_text() == "no longer"
        assert (tag.path / "data/empty").read_text() == ""
        clone.git("symbolic-ref", "HEAD", "refs/heads/other")
        clone.git("tag", "--force", "--annotate", "-m", "x", "latest", "v2")
        wait_until(lambda: (head.path / "data/empty").read_text() == "")
        wait_until(lambda: (tag.path / "data/empty").read_text() == "no longer")
        clone.git("update-ref", "refs/heads/other", "v2")
        wait_until(lambda: (head.path / "data/empty").read_text() == "no longer")
        clone.git("update-ref", "refs/heads/other", "v1")
        clone.git("pack-refs", "--all")
        wait_until(lambda: (head.path / "data/empty").read_text() == "")


def test_data_that_nobody_has_pushed_yet_fails_alone_after_the_move(moving: Clone) -> None:
    pointer = f"revfs 1\nblake3 {'ab' * 32}\nsize 1000\n"
    with moving.mounted("moving", None, "--follow") as mount:
        moving.git("checkout", "--quiet", "moving")
        Path(moving.top / "data/unpushed").write_text(pointer)
        moving.git("add", "data/unpushed")
        moving.git("commit", "--quiet", "-m", "somebody's")
        file = mount.path / "data/unpushed"
        wait_until(file.exists)
        assert file.stat().st_size == 1000
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.read_bytes()
        assert (mount.path / "data/run.sh").read_bytes() == b"#!/bin/sh\necho ran\n"


def test_what_never_moves_is_not_followed(clone: Clone) -> None:
    place = clone.fresh_mountpoint()
    for name in (clone.git("rev-parse", "HEAD").strip(), "main~1", "nonsense", "v1^{commit}"):
        said = clone.fails("mount", "--follow", name, place)
        assert f"no branch or tag is called '{name}'" in said
        assert "leave --follow out" in said
    assert clone.mounts() == []
