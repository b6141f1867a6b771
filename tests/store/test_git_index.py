"""Git's index as we write it, against what git itself says of it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from store import git_index as git_module
from store.errors import GitError
from store.git import GitRepository
from store.git_command import find_repository
from store.git_index import IndexChange, mode_of
from tests.fakes.processes import environment_with, python_command
from tests.fakes.repositories import Repository, make_repository

ODD_NAMES = [b"with space", b"two\nlines", b"caf\xe9", b'quo"te', b"tab\there", "ünï".encode()]


def open_git(repository: Repository) -> GitRepository:
    return GitRepository(find_repository(repository.top))


def change(repository: Repository, path: bytes, content: bytes | None = None) -> IndexChange:
    """The change that stages a path as git would: its own content, or a text in its place."""
    place = repository.top / os.fsdecode(path)
    status = place.lstat()
    own = os.fsencode(os.readlink(place)) if place.is_symlink() else place.read_bytes()
    raw_id = bytes.fromhex(repository.write_blob(own if content is None else content))
    return IndexChange(path, mode_of(status), raw_id, status)


def settle() -> None:
    """Let the second end in which files were just written."""
    time.sleep(1.02 - time.time() % 1)


def debug_entries(repository: Repository) -> bytes:
    """Every field of every entry of git's index but the flags of a cache-tree."""
    return repository.git("ls-files", "--stage", "--debug", "-z")


@pytest.mark.parametrize("insert_up_to", [0, 1000])
def test_entries_are_those_that_git_writes_to_the_last_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, insert_up_to: int
) -> None:
    monkeypatch.setattr(git_module, "_REBUILD_FROM_ENTRIES", insert_up_to)
    repository = make_repository(tmp_path / "new", initialised=False)
    for name in ODD_NAMES:
        repository.write(name, name)
    repository.write("bin/run").chmod(0o755)
    (repository.top / "link").symlink_to("nowhere")
    os.utime(repository.top / "with space", ns=(10**9 * -5 + 7, 10**9 * -5 + 7))
    os.utime(repository.top / "bin/run", ns=(2**33 * 10**9, 2**31 * 10**9 - 1))
    paths = [*ODD_NAMES, b"bin/run", b"link"]
    settle()
    opened = open_git(repository)
    opened.index.write([change(repository, path) for path in paths])
    opened.close()
    ours = debug_entries(repository)
    (repository.top / ".git" / "index").unlink()
    repository.git("add", ".")
    assert ours == debug_entries(repository)
    assert repository.staged().keys() == set(paths)


def test_git_takes_a_file_for_clean_without_a_look_at_its_content(
    repository: Repository, opened: GitRepository
) -> None:
    repository.write("data", b"twelve bytes")
    settle()
    # Not what the file holds: had git looked, it would call it modified.
    opened.index.write([change(repository, b"data", b"a pointer")])
    repository.commit()
    assert repository.status() == []
    repository.write("data", b"other length")
    assert repository.status() == [b" M data"]


def test_a_change_without_a_stat_has_git_look_for_itself(
    repository: Repository, opened: GitRepository
) -> None:
    repository.write("data", b"as it is")
    settle()
    stated = change(repository, b"data", b"another")
    opened.index.write([IndexChange(stated.path, stated.mode, stated.blob, None)])
    assert repository.status() == [b"AM data"]


def test_a_foreign_file_changed_in_the_second_of_its_adding_is_not_made_clean(
    repository: Repository, opened: GitRepository
) -> None:
    settle()
    repository.write("foreign", b"before")
    repository.git("add", "foreign")
    repository.write("foreign", b"after!")
    repository.write("ours", b"data")
    ours = change(repository, b"ours")
    time.sleep(1.1)
    opened.index.write([ours])
    assert repository.status() == [b"AM foreign", b"A  ours"]


def test_files_and_folders_take_each_others_places(
    repository: Repository, opened: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in (1000, 0):
        monkeypatch.setattr(git_module, "_REBUILD_FROM_ENTRIES", limit)
        (repository.top / ".git" / "index").unlink()
        repository.write(f"{limit}/was-file")
        repository.write(f"{limit}/was-folder/deep/file")
        repository.write(f"{limit}/was-folder.txt")
        repository.git("add", ".")
        (repository.top / f"{limit}/was-file").unlink()
        repository.write(f"{limit}/was-file/now")
        subprocess.run(["rm", "-r", repository.top / f"{limit}/was-folder"], check=True)
        repository.write(f"{limit}/was-folder")
        names = [b"%d/was-file/now" % limit, b"%d/was-folder" % limit]
        opened.index.write([change(repository, name) for name in names])
        mine = [path for path in repository.staged() if path.startswith(b"%d/" % limit)]
        assert mine == sorted([*names, b"%d/was-folder.txt" % limit])


@pytest.mark.parametrize("insert_up_to", [0, 1000])
def test_unmerged_entries_of_a_path_are_resolved_and_others_stay(
    repository: Repository,
    opened: GitRepository,
    monkeypatch: pytest.MonkeyPatch,
    insert_up_to: int,
) -> None:
    monkeypatch.setattr(git_module, "_REBUILD_FROM_ENTRIES", insert_up_to)
    blobs = [repository.write_blob(text) for text in (b"base", b"ours", b"theirs")]
    lines = [
        b"100644 %s %d\t%s\0" % (blob.encode(), stage, name)
        for name in (b"caf\xe9", b"other")
        for stage, blob in enumerate(blobs, 1)
    ]
    repository.git("update-index", "-z", "--index-info", stdin=b"".join(lines))
    assert opened.index.load_entries().keys() == {b".revfsconfig"}
    repository.write(b"caf\xe9", b"resolved")
    repository.write("new")
    opened.index.write([change(repository, b"caf\xe9"), change(repository, b"new")])
    unmerged = repository.git("ls-files", "--unmerged", "-z").split(b"\0")[:-1]
    assert [line.split(b" ")[2] for line in unmerged] == [b"1\tother", b"2\tother", b"3\tother"]
    assert repository.staged()[b"caf\xe9"].endswith(b" 0")


@pytest.mark.parametrize("insert_up_to", [0, 1000])
@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_versions_and_flags_of_other_entries_are_kept(
    repository: Repository,
    opened: GitRepository,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    insert_up_to: int,
) -> None:
    monkeypatch.setattr(git_module, "_REBUILD_FROM_ENTRIES", insert_up_to)
    flags = ["assumed"] if version == "2" else ["assumed", "intended", "skipped"]
    for name in [*flags, "a/shared/prefix", "a/shared/prefix2", "changed", "gone"]:
        repository.write(name)
    repository.git("add", "a", "changed", "gone", "assumed")
    repository.git("update-index", "--index-version", version, "--assume-unchanged", "assumed")
    if version != "2":
        repository.git("add", "--intent-to-add", "intended")
        repository.git("add", "skipped")
        repository.git("update-index", "--skip-worktree", "skipped")
    index = repository.top / ".git" / "index"
    assert index.read_bytes()[7:8] == version.encode().translate(bytes.maketrans(b"234", b"\2\3\4"))
    before = repository.git("ls-files", "-t", "-v", "-z")
    settle()
    opened.index.write([change(repository, b"changed")], [b"gone"])
    assert repository.git("ls-files", "-t", "-v", "-z") == before.replace(b"H gone\0", b"")
    assert index.read_bytes()[7:8] == version.encode().translate(bytes.maketrans(b"234", b"\2\3\4"))
    skipped = {path for path, entry in opened.index.load_entries().items() if entry.skipped}
    assert skipped == ({b"skipped"} if version != "2" else set())


def test_a_worktree_has_an_index_of_its_own(repository: Repository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "--quiet", str(tmp_path / "other"))
    other = Repository(tmp_path / "other")
    before = (repository.top / ".git" / "index").read_bytes()
    other.write("data")
    opened = open_git(other)
    opened.index.write([change(other, b"data")])
    opened.close()
    assert other.status() == [b"A  data"]
    assert (repository.top / ".git" / "index").read_bytes() == before


def test_a_first_index_is_made(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "new", initialised=False)
    opened = open_git(repository)
    assert not opened.head_exists()
    assert opened.index.load_entries() == {}
    repository.write("data")
    opened.index.write([change(repository, b"data")])
    opened.close()
    assert repository.status() == [b"A  data"]


def test_a_lock_of_another_is_respected(repository: Repository, opened: GitRepository) -> None:
    repository.write("data")
    new = change(repository, b"data")
    lock = repository.top / ".git" / "index.lock"
    before = (repository.top / ".git" / "index").read_bytes()
    for content in (b"", b"DIRC of another"):
        lock.write_bytes(content)
        with pytest.raises(GitError, match=r"another git command is at work.*index\.lock"):
            opened.index.write([new])
        assert lock.read_bytes() == content
    assert (repository.top / ".git" / "index").read_bytes() == before
    lock.unlink()
    opened.index.write([new])
    assert not lock.exists()


def test_a_failure_in_the_middle_leaves_the_index_and_no_lock(
    repository: Repository, opened: GitRepository
) -> None:
    repository.write("good")
    good = change(repository, b"good")
    before = (repository.top / ".git" / "index").read_bytes()
    listed = sorted(path.name for path in (repository.top / ".git").iterdir())
    for mode in (0o100, 0o777, 0o010000):
        bad = IndexChange(b"bad", mode, good.blob, good.status)
        with pytest.raises(GitError, match="refuses an entry"):
            opened.index.write([good, bad])
        assert (repository.top / ".git" / "index").read_bytes() == before
        assert sorted(path.name for path in (repository.top / ".git").iterdir()) == listed


def test_what_a_killed_run_left_is_cleared_away(
    repository: Repository, opened: GitRepository
) -> None:
    repository.write("data")
    new = change(repository, b"data")
    code = (
        "import os, signal, sys; from pathlib import Path; from store import git_index as git;"
        "lock = git._locked(Path(sys.argv[1]));"
        "fresh = lock.__enter__(); fresh.with_name('index.revfs.lock').touch();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    index = repository.top / ".git" / "index"
    subprocess.run(python_command(code, index), env=environment_with(), check=False)
    assert index.with_name("index.lock").exists()
    opened.index.write([new])
    assert [path.name for path in index.parent.glob("index*")] == ["index"]
    assert repository.status() == [b"A  data"]


def test_a_lock_of_a_living_run_of_ours_is_respected(
    repository: Repository, opened: GitRepository
) -> None:
    repository.write("data")
    new = change(repository, b"data")
    with (
        git_module._locked(repository.top / ".git" / "index"),
        pytest.raises(GitError, match="at work"),
    ):
        opened.index.write([new])
    opened.index.write([new])


def test_a_damaged_index_is_an_error_of_ours(repository: Repository, opened: GitRepository) -> None:
    (repository.top / ".git" / "index").write_bytes(b"DIRC no index at all")
    with pytest.raises(GitError, match="index cannot be read"):
        opened.index.load_entries()
    with pytest.raises(GitError, match="index cannot be read"):
        opened.index.write([])
    assert not (repository.top / ".git" / "index.lock").exists()
