"""Which files a path stands for, and what is refused."""

import os
import socket
import stat
from pathlib import Path

import pytest

from store import walk as walk_module
from store.directories import MAX_DEPTH
from store.errors import PathNotFound, PathRefused
from store.walk import resolve_arguments, walk
from tests.fakes.repositories import Repository, make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repository", initialised=False)
    for path in ("a/b/deep", "a/file", "top", "z/last"):
        made.write(path)
    return made


def found(repository: Repository, *paths: str | Path, cwd: Path | None = None) -> list[bytes]:
    """The paths of all files that the user's paths stand for."""
    arguments = resolve_arguments(
        repository.top, cwd or repository.top, [Path(path) for path in paths]
    )
    files = [file for argument in arguments for file in walk(argument)]
    assert all(file.place == os.path.join(os.fsencode(repository.top), file.path) for file in files)
    return [file.path for file in files]


EVERYTHING = [b"a/b/deep", b"a/file", b"top", b"z/last"]


def test_every_way_to_name_a_path_means_the_same(repository: Repository, tmp_path: Path) -> None:
    top = repository.top
    for name in (".", "./", "a/..", "../repository", top, f"{top}/"):
        assert found(repository, name) == EVERYTHING
    assert found(repository, ".", cwd=top / "a") == [b"a/b/deep", b"a/file"]
    assert found(repository, "../top", "b", cwd=top / "a") == [b"top", b"a/b/deep"]
    assert found(repository, top / "a" / "file", cwd=tmp_path) == [b"a/file"]


def test_the_work_tree_may_be_named_by_way_of_a_link(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "way").symlink_to(repository.top)
    assert found(repository, tmp_path / "way") == EVERYTHING
    assert found(repository, tmp_path / "way" / "a" / "file") == [b"a/file"]
    assert found(repository, "file", cwd=tmp_path / "way" / "a") == [b"a/file"]


@pytest.mark.parametrize("name", ["..", "/", "../other", "/etc/passwd", "a/../../other"])
def test_a_path_outside_is_refused(repository: Repository, tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "repository2").mkdir()
    with pytest.raises(PathRefused, match="outside the work tree"):
        found(repository, name)
    with pytest.raises(PathRefused, match="outside the work tree"):
        found(repository, "../repository2")


@pytest.mark.parametrize("name", [".git", ".git/config", ".git/none", "a/.git", "a/.git/x"])
def test_a_git_directory_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(PathRefused, match="inside a git directory"):
        found(repository, name)


@pytest.mark.parametrize("name", ["a/git~1", "a/.GIT/x", "a/.Git"])
def test_a_name_that_git_cannot_keep_is_refused(repository: Repository, name: str) -> None:
    repository.write(name)
    for named in (name, ".", "a"):
        with pytest.raises(PathRefused, match=r"stands for \.git"):
            found(repository, named)


def test_links_are_found_themselves_and_never_followed(repository: Repository) -> None:
    targets = {"folder": "../a", "dangling": "nowhere", "outside": "/etc", "loop": "loop"}
    (repository.top / "links").mkdir()
    for name, target in targets.items():
        (repository.top / "links" / name).symlink_to(target)
    wanted = [b"links/" + name.encode() for name in sorted(targets)]
    assert found(repository, "links") == wanted
    for name in targets:
        assert found(repository, f"links/{name}") == [b"links/" + name.encode()]
    for beyond in ("links/folder/file", "links/outside/passwd", "links/folder/none"):
        with pytest.raises(PathRefused, match="beyond a symbolic link"):
            found(repository, beyond)


def test_gits_own_files_are_passed_over_and_refused_by_name(repository: Repository) -> None:
    own = [".gitattributes", ".gitignore", ".gitmodules", ".mailmap", ".revfsconfig"]
    for name in [*own, ".revfsignore", "a/.gitignore"]:
        repository.write(name)
    assert found(repository, ".") == EVERYTHING
    for name in [*own, "a/.gitignore"]:
        with pytest.raises(PathRefused, match="use git add"):
            found(repository, name)


def test_a_repository_inside_is_refused_from_above_and_from_within(
    repository: Repository,
) -> None:
    make_repository(repository.top / "a" / "inner").write("sub/file")
    for name in (".", "a", "a/inner", "a/inner/sub", "a/inner/sub/file"):
        with pytest.raises(PathRefused, match=r"a/inner.* git repository of its own"):
            found(repository, name)
    assert found(repository, "z") == [b"z/last"]


def test_a_link_to_a_repository_is_a_link(repository: Repository, tmp_path: Path) -> None:
    make_repository(tmp_path / "inner")
    (repository.top / "link").symlink_to(tmp_path / "inner")
    assert found(repository, "link") == [b"link"]


def test_what_is_no_file_is_refused_by_its_kind(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pipe", "socket", "device"):
        (repository.top / "odd" / name).mkdir(parents=True)
    os.mkfifo(repository.top / "odd/pipe/it")
    # By a short name: a socket's path is bounded, and the test's folder is not.
    monkeypatch.chdir(repository.top / "odd" / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("it")
    kinds = {"pipe": "a pipe", "socket": "a socket"}
    if os.geteuid() == 0:
        os.mknod(repository.top / "odd/device/it", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        kinds["device"] = "a device"
    for name, kind in kinds.items():
        for named in (f"odd/{name}/it", f"odd/{name}"):
            with pytest.raises(PathRefused, match=f"odd/{name}/it is {kind}"):
                found(repository, named)


def test_a_mounted_revision_is_passed_over_and_refused_by_name(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [(str(repository.top / "z"), "fuse.revfs"), (str(repository.top / "a"), "ext4")]
    monkeypatch.setattr(walk_module, "mounted_file_systems", lambda: mounts)
    assert found(repository, ".") == [path for path in EVERYTHING if path != b"z/last"]
    for name in ("z", "z/last"):
        with pytest.raises(PathRefused, match="mounted revision"):
            found(repository, name)


def test_names_are_bytes_and_shown_escaped(repository: Repository) -> None:
    top = os.fsencode(repository.top)
    os.mkdir(top + b"/n\xff")
    os.mkfifo(top + b"/n\xff/pipe")
    with pytest.raises(PathRefused, match=r"n\\xff/pipe is a pipe"):
        found(repository, "n\udcff")
    os.unlink(top + b"/n\xff/pipe")
    repository.write(b"n\xff/a\nb")
    assert found(repository, "n\udcff") == [b"n\xff/a\nb"]


def test_what_is_gone_is_an_argument_without_a_stat(repository: Repository) -> None:
    (argument,) = resolve_arguments(repository.top, repository.top, [Path("a/none")])
    assert argument == (b"a/none", os.fsencode(repository.top) + b"/a/none", None)
    assert found(repository, "a/none") == []


def test_a_path_through_a_file_is_not_found(repository: Repository) -> None:
    with pytest.raises(PathNotFound, match="top/below"):
        found(repository, "top/below")


def test_what_lies_too_deep_to_be_shown_is_refused(repository: Repository) -> None:
    folders = "/".join(["d"] * (MAX_DEPTH - 1))
    repository.write(f"{folders}/file")
    assert found(repository, "d") == [f"{folders}/file".encode()]
    repository.write(f"{folders}/d/file")
    for named in ("d", f"{folders}/d/file"):
        with pytest.raises(PathRefused, match="too deep"):
            found(repository, named)
