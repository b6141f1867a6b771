"""Things that move under a mount: its folder, its repository, its remote."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.mounted.conftest import InBucket
from tests.mounted.repositories import Clone, detach_quietly, is_in_tree, wait_until


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A mountpoint, and where it will be when the folder that it is in is renamed."""
    (tmp_path / "before/place").mkdir(parents=True)
    return tmp_path / "before/place", tmp_path / "after/place"


def rename(places: tuple[Path, Path]) -> None:
    before, after = places
    before.parent.rename(after.parent)


def state_of(clone: Clone) -> str:
    (listed,) = clone.mounts()
    return str(listed["state"])


def can_be_read(path: Path) -> bool:
    """Whether a read works; one that failed is not tried anew for half a second."""
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize("named", ["before", "after"])
@pytest.mark.parametrize("noticed", [False, True], ids=["at-once", "later"])
def test_a_mount_is_listed_where_its_folder_went_and_ended_by_either_name(
    clone: Clone, places: tuple[Path, Path], named: str, noticed: bool
) -> None:
    before, after = places
    try:
        with clone.mounted("v1", before) as mount:
            rename(places)
            if noticed:
                wait_until(lambda: clone.records.load(after) is not None)
                assert clone.records.load(before) is None
            (listed,) = clone.mounts()
            assert (listed["mountpoint"], listed["state"]) == (str(after), "alive")
            assert (after / "README.md").read_text() == "kept by git itself\n"
            said = clone.revfs("unmount", before if named == "before" else after)
            assert said == f"unmounted {after}\n"
            assert mount.has_ended()
            assert not is_in_tree(after)
            assert list(after.iterdir()) == []
            assert clone.mounts() == []
            assert list((clone.cache / "mounts").glob("*.json")) == []
    finally:
        detach_quietly(after)


def test_a_mount_that_took_the_old_place_is_another(
    clone: Clone, places: tuple[Path, Path]
) -> None:
    before, after = places
    try:
        with clone.mounted("v1", before) as moved:
            rename(places)
            before.mkdir(parents=True)
            with clone.mounted("v2", before) as second:
                wait_until(lambda: len(clone.mounts()) == 2)
                assert clone.revfs("unmount", before) == f"unmounted {before}\n"
                assert second.has_ended()
                assert not moved.has_ended()
                assert (after / "data/empty").read_bytes() == b""
            # Also where the first is in use, and the kernel's part of it lives on for a while.
            with clone.mounted("v2", before), (after / "data/table.csv").open("rb"):
                clone.revfs("unmount", after)
                assert moved.has_ended()
                assert not is_in_tree(after)
                # The end of the first must not take down what is at its old place.
                assert (before / "data/empty").read_bytes() == b"no longer"
    finally:
        detach_quietly(after)


def test_a_mount_that_moved_ends_on_a_signal_too(clone: Clone, places: tuple[Path, Path]) -> None:
    before, after = places
    with clone.serving("v1", before) as process:
        rename(places)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not is_in_tree(after)
        assert clone.mounts() == []


def test_a_killed_mount_that_moved_is_listed_and_cleared(
    clone: Clone, places: tuple[Path, Path]
) -> None:
    before, after = places
    try:
        with clone.mounted("v1", before) as mount:
            os.kill(mount.record.pid, signal.SIGKILL)
            wait_until(mount.has_ended)
            rename(places)
            (listed,) = clone.mounts()
            assert (listed["mountpoint"], listed["state"]) == (str(after), "dead")
            clone.revfs("unmount", after)
            assert not is_in_tree(after)
            assert clone.mounts() == []
    finally:
        detach_quietly(after)


def test_a_mount_detached_in_use_is_called_so_and_can_be_ended(clone: Clone) -> None:
    with clone.mounted("v1") as mount, (mount.path / "data/table.csv").open("rb"):
        subprocess.run(["umount", "--lazy", mount.path], check=True)
        assert state_of(clone) == "detached"
        clone.revfs("unmount", mount.path)
        assert mount.is_gone()


def test_a_mount_detached_and_not_in_use_leaves_neither_process_nor_record(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        subprocess.run(["umount", "--lazy", mount.path], check=True)
        mount.path.rmdir()
        wait_until(mount.is_gone)
        assert clone.mounts() == []
        assert "was unmounted from outside" in mount.log


def test_what_is_no_mount_of_ours_is_told_apart(clone: Clone) -> None:
    with clone.mounted("v1") as mount:
        inside = mount.path / "data/deep"
        assert f"{inside} is a folder of the mount on {mount.path}" in clone.fails(
            "unmount", inside
        )
        assert "but another file system; umount takes it down" in clone.fails("unmount", "/proc")
        assert not mount.has_ended()


def test_without_its_repository_a_mount_goes_on_with_what_is_cached_and_says_so_once(
    in_bucket: InBucket,
) -> None:
    clone = in_bucket.clone
    with clone.mounted("v1") as mount:
        (mount.path / "data/many/010.bin").read_bytes()
        os.listdir(mount.path / "data/deep")
        elsewhere = clone.top.rename(clone.top.with_name("elsewhere"))
        try:
            wait_until(lambda: "ERROR" in mount.log)
            (listed,) = Clone(elsewhere, clone.home).mounts()
            assert listed["state"] == "repository gone"
            # What git need not give goes on: what is cached, and what the remote has.
            for number in ("010", "020"):
                assert (mount.path / f"data/many/{number}.bin").read_bytes()
            for look in (
                lambda: (mount.path / "README.md").read_bytes(),
                lambda: os.listdir(mount.path / "data/odd"),
            ):
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    look()
            errors = [line for line in mount.log.splitlines() if "ERROR" in line]
            assert len(errors) == 1
            assert f"the repository that was at {clone.top / '.git'} is not there" in errors[0]
            assert "unmount, and mount again from where it is now" in errors[0]
        finally:
            elsewhere.rename(clone.top)
        wait_until(lambda: "INFO vfs.keeping: the repository is at" in mount.log)
        wait_until(lambda: can_be_read(mount.path / "README.md"))
        assert state_of(clone) == "alive"


@pytest.mark.parametrize("options", [("--all",), ("main", "--follow")], ids=str)
def test_names_stay_as_they_were_while_the_repository_is_gone(
    clone: Clone, options: tuple[str, ...]
) -> None:
    name, *flags = options
    with clone.mounted(name, None, *flags) as mount:
        before = sorted(os.listdir(mount.path))
        branches = mount.path / "branches"
        names = sorted(os.listdir(branches)) if branches.exists() else []
        elsewhere = clone.top.rename(clone.top.with_name("elsewhere"))
        try:
            wait_until(lambda: "ERROR" in mount.log)
            assert sorted(os.listdir(mount.path)) == before
            assert (sorted(os.listdir(branches)) if names else []) == names
            assert "WARNING" not in mount.log
        finally:
            elsewhere.rename(clone.top)


def test_a_remote_renamed_after_mounting_is_used_as_it_was_and_before_it_is_named(
    in_bucket: InBucket,
) -> None:
    clone = in_bucket.clone
    config = clone.top / ".git/revfs/config"
    with clone.mounted("v1") as mount:
        config.write_text(config.read_text().replace('[remote "bucket"]', '[remote "renamed"]'))
        assert (mount.path / "data/many/010.bin").read_bytes()
        said = clone.fails("mount", "v1", clone.fresh_mountpoint())
        assert "no remote is called 'bucket' (core.remote in " in said
        assert "the remotes are origin, renamed" in said
        assert [listed["state"] for listed in clone.mounts()] == ["alive"]
