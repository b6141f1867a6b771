"""Mountpoints without a mount: what can be one, and the default one."""

import os
import subprocess
from pathlib import Path

import pytest

from store.errors import PathRefused, StoreError
from store.git_command import RepositoryPaths, find_repository
from vfs.mountpoints import (
    default_mountpoint,
    detach,
    is_dead,
    is_mounted,
    prepare,
    real_place,
    remove_default_mountpoint,
)


@pytest.fixture
def paths(tmp_path: Path) -> RepositoryPaths:
    subprocess.run(["git", "init", "--quiet", tmp_path / "repository"], check=True)
    return find_repository(tmp_path / "repository")


def top_of(paths: RepositoryPaths) -> Path:
    assert paths.work_tree is not None
    return paths.work_tree


def test_an_empty_folder_is_taken_by_its_real_path(paths: RepositoryPaths, tmp_path: Path) -> None:
    place = tmp_path / "real/place"
    place.mkdir(parents=True)
    (tmp_path / "to-parent").symlink_to("real")
    (tmp_path / "to-place").symlink_to("to-parent/place")
    for way in (place, tmp_path / "to-parent/place", tmp_path / "to-place", place / "../place"):
        assert prepare(way, paths, tmp_path / "cache") == place
        assert real_place(way) == place


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "does not exist"),
        ("file", "is not a folder"),
        ("full", "is not empty"),
        ("dangling", "does not exist"),
        ("loop", "does not exist"),
        ("cache", "is inside"),
        ("cache/packs", "is inside"),
        ("repository/.git/refs/tags", "is inside"),
        ("to-cache", "is inside"),
    ],
)
def test_what_cannot_be_a_mountpoint_is_refused_and_left_alone(
    paths: RepositoryPaths, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full/x").mkdir(parents=True)
    (tmp_path / "cache/packs").mkdir(parents=True)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-cache").symlink_to("cache/packs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PathRefused, match=said):
        prepare(tmp_path / name, paths, tmp_path / "cache")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("revision", "name"),
    [
        ("v1.2", "v1.2"),
        ("feature/of/mine", "feature-of-mine"),
        ("v1:train/small/", "v1-train-small"),
        ("main~3", "main~3"),
        ("../../etc", "etc"),
        ("..", "revision"),
        ("/", "revision"),
        ("-rf", "rf"),
        (".git", "git"),
        ("@{yesterday}", "@{yesterday}"),
    ],
)
def test_the_default_mountpoint_is_one_folder_named_after_the_revision(
    paths: RepositoryPaths, revision: str, name: str
) -> None:
    place = default_mountpoint(paths, revision)
    assert place == top_of(paths) / "mnt" / name
    assert place.is_dir()
    assert default_mountpoint(paths, revision) == place


def test_the_default_mountpoint_is_kept_out_of_git_whatever_was_excluded_before(
    paths: RepositoryPaths,
) -> None:
    exclude = paths.common_dir / "info/exclude"
    exclude.write_bytes(b"*.tmp\n\xff no text, no line end")
    default_mountpoint(paths, "v1")
    default_mountpoint(paths, "v2")
    assert exclude.read_bytes() == b"*.tmp\n\xff no text, no line end\n/mnt/v1/\n/mnt/v2/\n"
    exclude.unlink()
    exclude.parent.rmdir()
    default_mountpoint(paths, "v1")
    assert exclude.read_bytes() == b"/mnt/v1/\n"


@pytest.mark.parametrize("revision", ["HEAD^{v[12]}", "main@{1 day ago}", "v?*", "back\\slash"])
def test_the_default_mountpoint_of_an_odd_name_is_kept_out_of_git_too(
    paths: RepositoryPaths, revision: str
) -> None:
    (default_mountpoint(paths, revision) / "shown").touch()
    command = ["git", "status", "--porcelain"]
    assert subprocess.check_output(command, cwd=top_of(paths)) == b""


def test_removing_a_default_mountpoint_removes_what_is_empty_and_ours(
    paths: RepositoryPaths, tmp_path: Path
) -> None:
    one, two = default_mountpoint(paths, "v1"), default_mountpoint(paths, "v2")
    remove_default_mountpoint(paths, one)
    assert not one.exists()
    assert two.exists()
    (two / "kept").touch()
    remove_default_mountpoint(paths, two)
    assert (two / "kept").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    remove_default_mountpoint(paths, elsewhere)
    assert elsewhere.exists()
    (two / "kept").unlink()
    remove_default_mountpoint(paths, two)
    assert not (top_of(paths) / "mnt").exists()


def test_a_bare_repository_has_no_default_mountpoint(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "bare"], check=True)
    paths = find_repository(tmp_path / "bare")
    with pytest.raises(PathRefused, match="name a mountpoint"):
        default_mountpoint(paths, "v1")
    remove_default_mountpoint(paths, tmp_path / "mnt")


@pytest.mark.parametrize("link", ["mnt", "mnt/v1"])
def test_a_link_in_the_way_of_the_default_mountpoint_is_refused(
    paths: RepositoryPaths, tmp_path: Path, link: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = top_of(paths) / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PathRefused, match="is a symbolic link"):
        default_mountpoint(paths, "v1")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_folder_without_a_mount_is_neither_mounted_nor_dead_and_cannot_be_detached(
    tmp_path: Path,
) -> None:
    assert not is_mounted(tmp_path)
    assert not is_dead(tmp_path)
    assert not is_dead(tmp_path / "missing")
    with pytest.raises(StoreError, match="cannot be unmounted"):
        detach(tmp_path)


def test_a_machine_without_fusermount3_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="install the package fuse3"):
        detach(tmp_path)
