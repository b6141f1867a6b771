"""A mount of all revisions: each name is the commit that it means now, as git checks it out."""

import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tcp_proxy import TcpProxy
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone, Mounted, commit_version, make_repository, wait_until
from tests.mounted.trees import summaries

FOLDERS = ["branches", "commits", "remotes", "tags"]


@pytest.fixture(scope="module")
def everything(
    published: Published, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Clone, Mounted]]:
    """A clone with some branches, and all of it mounted. To be looked at only."""
    folder = tmp_path_factory.mktemp("everything")
    clone = published.repository.clone(folder / "clone", folder / "home")
    clone.git("branch", "feature/x", "v1")
    clone.git("branch", "feature/y/z", "v2")
    with clone.mounted("--all") as mount:
        yield clone, mount


def commit_of(clone: Clone, name: str) -> str:
    return clone.git("rev-parse", f"{name}^{{commit}}").strip()


def test_what_stands_behind_every_name_equals_its_checkout(
    everything: tuple[Clone, Mounted], published: Published
) -> None:
    clone, mount = everything
    first, second = commit_of(clone, "v1"), commit_of(clone, "v2")
    expected = {version: summaries(published.checkouts / version) for version in ("v1", "v2")}
    for name, version in [
        ("branches/feature/x", "v1"),
        ("branches/feature/y/z", "v2"),
        ("branches/main", "v2"),
        ("remotes/origin/main", "v2"),
        ("tags/v1", "v1"),
        (f"commits/{first}", "v1"),
        (f"commits/{first[:10]}", "v1"),
        (f"commits/{second[:12]}", "v2"),
    ]:
        assert summaries(mount.path / name) == expected[version], name


def test_the_folders_list_what_git_lists(everything: tuple[Clone, Mounted]) -> None:
    clone, mount = everything
    assert sorted(os.listdir(mount.path)) == FOLDERS
    assert sorted(os.listdir(mount.path / "branches")) == ["feature", "main"]
    assert sorted(os.listdir(mount.path / "branches/feature")) == ["x", "y"]
    assert sorted(os.listdir(mount.path / "tags")) == ["v1", "v2"]
    listed = set(os.listdir(mount.path / "commits"))
    assert listed == set(clone.git("rev-list", "--all").split())


def test_every_node_of_a_commit_has_its_time(everything: tuple[Clone, Mounted]) -> None:
    clone, mount = everything
    for name in ("v1", "v2"):
        time = int(clone.git("log", "-1", "--format=%ct", name))
        for path in (f"tags/{name}", f"tags/{name}/data/deep/a", f"tags/{name}/data/run.sh"):
            status = (mount.path / path).stat()
            assert (status.st_mtime, status.st_ctime) == (time, time)


def test_names_that_mean_nothing_are_not_there(everything: tuple[Clone, Mounted]) -> None:
    clone, mount = everything
    first = commit_of(clone, "v1")
    tree = clone.git("rev-parse", "v1^{tree}").strip()
    for name in ("0" * 40, "0" * 7, first[:3], first + "0", first[:8].upper(), tree, "HEAD", "v1"):
        assert not (mount.path / "commits" / name).exists(), name
    for name in ("branches/v1", "branches/feature/none", "tags/main", "branch", "HEAD"):
        assert not (mount.path / name).exists(), name


def test_one_commit_under_several_names_is_several_folders(
    everything: tuple[Clone, Mounted],
) -> None:
    clone, mount = everything
    commit = commit_of(clone, "v1")
    names = ["tags/v1", "branches/feature/x", f"commits/{commit}", f"commits/{commit[:9]}"]
    held = [os.open(mount.path / name / "data/deep", os.O_RDONLY) for name in names]
    try:
        assert len({os.fstat(descriptor).st_ino for descriptor in held}) == len(names)
        # The kernel would have moved the first to the place of the last.
        for name, descriptor in zip(names, held, strict=True):
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            assert place == str(mount.path / name / "data/deep")
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_find_and_ls_go_through_all_of_it_without_a_complaint(
    everything: tuple[Clone, Mounted], published: Published
) -> None:
    _, mount = everything
    branches = mount.path / "branches"
    for command in (["find", branches, "-ls"], ["ls", "-lR", branches], ["du", "-s", branches]):
        completed = subprocess.run(command, capture_output=True, check=True)
        assert completed.stderr == b""
    found = subprocess.run(["find", branches, "-print0"], capture_output=True, check=True).stdout
    expected = [len(summaries(published.checkouts / version)) for version in ("v1", "v2", "v2")]
    # Three branches with their roots, feature, feature/y, and the folder itself.
    assert found.count(b"\0") == sum(expected) + 6


def test_names_come_move_and_go_while_open_files_stay(clone: Clone) -> None:
    with clone.mounted("--all") as mount:
        branch = mount.path / "branches/work/today"
        assert not branch.exists()
        clone.git("branch", "work/today", "v1")
        wait_until(branch.exists)
        large = branch / "data/large.bin"
        old = large.read_bytes()
        with large.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            head = file.read(1_000_000)
            clone.git("branch", "--force", "work/today", "v2")
            wait_until(lambda: (branch / "data/empty").read_text() == "no longer")
            assert large.read_bytes() != old
            assert head + file.read() == old
            assert mapped[:] == old
            mapped.close()
            clone.git("branch", "--delete", "--force", "work/today")
            wait_until(lambda: not branch.exists())
            assert not (mount.path / "branches/work").exists()
            file.seek(4_000_000)
            assert file.read(100) == old[4_000_000:4_000_100]
        clone.git("branch", "work", "v1")
        wait_until((mount.path / "branches/work/data").exists)
        assert (mount.path / "branches/work/data/empty").read_bytes() == b""


def test_a_name_that_moves_there_and_back_finds_its_folder_as_it_was(clone: Clone) -> None:
    clone.git("branch", "moving", "v1")
    with clone.mounted("--all") as mount:
        deep = mount.path / "branches/moving/data/deep"
        number = deep.stat().st_ino
        held = os.open(deep, os.O_RDONLY)
        try:
            clone.git("branch", "--force", "moving", "v2")
            wait_until(lambda: deep.stat().st_ino != number)
            assert os.listdir(held) == ["a"]
            clone.git("branch", "--force", "moving", "v1")
            wait_until(lambda: deep.stat().st_ino == number)
            assert os.readlink(f"/proc/self/fd/{held}") == str(deep)
        finally:
            os.close(held)


def test_new_commits_are_there_with_their_data_before_they_are_pushed(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, None)
    with repository.mounted("--all") as mount:
        assert sorted(os.listdir(mount.path)) == FOLDERS
        assert os.listdir(mount.path / "commits") == os.listdir(mount.path / "branches") == []
        (repository.top / "data").mkdir()
        (repository.top / "data/file").write_text("staged after the mount")
        commit_version(repository, "v1")
        file = mount.path / "branches/main/data/file"
        wait_until(file.exists)
        assert file.read_text() == "staged after the mount"
        assert os.listdir(mount.path / "commits") == [commit_of(repository, "HEAD")]
        (listed,) = repository.mounts()
        assert (listed["kind"], listed["commit"], listed["revision"]) == ("all", None, None)


def test_looking_around_asks_no_remote_and_reads_of_any_commit_do(
    in_bucket: InBucket, published: Published
) -> None:
    def traffic(proxy: TcpProxy) -> int:
        return proxy.up_bytes + proxy.down_bytes

    with in_bucket.clone.mounted("--all") as mount:
        subprocess.run(["find", mount.path, "-ls"], check=True, stdout=subprocess.DEVNULL)
        assert traffic(in_bucket.proxy) == 0
        for version in ("v1", "v2"):
            read = (mount.path / "tags" / version / "data/many/010.bin").read_bytes()
            assert read == (published.checkouts / version / "data/many/010.bin").read_bytes()
        assert traffic(in_bucket.proxy) > 0
