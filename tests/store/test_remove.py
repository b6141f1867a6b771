"""`remove`: what leaves git's index and `.gitattributes`, and what is refused."""

from pathlib import Path

import pytest

from store.errors import GitError, PathRefused, StoreError
from store.git import GitRepository
from store.git_command import find_repository
from store.local_store import LocalStore
from store.remove import RemovePlan, plan_remove
from store.walk import resolve_arguments
from tests.fakes.data_elsewhere import add_elsewhere, make_source
from tests.fakes.repositories import Repository, add

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def plan(repository: Repository, *paths: str) -> RemovePlan:
    """What is to be done for paths from the top."""
    arguments = resolve_arguments(repository.top, repository.top, [Path(path) for path in paths])
    opened = GitRepository(find_repository(repository.top))
    return plan_remove(opened, repository.top, arguments)


def attributes(repository: Repository) -> list[bytes]:
    """The paths that are marked, as git's index has it."""
    text = repository.git("cat-file", "blob", ":.gitattributes")
    assert (repository.top / ".gitattributes").read_bytes() == text
    return [line.split()[0] for line in text.splitlines()]


@pytest.fixture
def filled(repository: Repository, local: LocalStore) -> Repository:
    """A repository with a commit of tracked files and files of git's own."""
    for name in ("a/one", "a/two", "a/deep/three", "b/four", "five", "a/empty"):
        repository.write(name, b"" if name == "a/empty" else name.encode())
    (repository.top / "a/link").symlink_to("one")
    add(repository, local, "a", "b", "five")
    repository.write("a/.gitignore", b"*.tmp\n")
    repository.write("code", b"print()")
    repository.git("add", "a/.gitignore", "code")
    repository.commit()
    return repository


def test_a_folder_leaves_the_index_with_its_line_and_its_files_stay(filled: Repository) -> None:
    plan(filled, "a").execute()
    staged = filled.staged().keys()
    assert staged == {
        b".gitattributes", b".revfsconfig", b"a/.gitignore", b"b/four", b"code", b"five",
    }  # fmt: skip
    assert attributes(filled) == [b"/b/**", b"/five"]
    assert (filled.top / "a/one").read_bytes() == b"a/one"
    assert (filled.top / "a/link").is_symlink()
    filled.commit()
    untracked = {line for line in filled.status() if line.startswith(b"?? ")}
    assert untracked == {b"?? a/" + name for name in (b"deep/", b"empty", b"link", b"one", b"two")}


def test_a_line_stays_as_long_as_anything_below_it_is_tracked(filled: Repository) -> None:
    plan(filled, "a/one", "five").execute()
    assert attributes(filled) == [b"/a/**", b"/b/**"]
    assert b"a/two" in filled.staged()
    plan(filled, "a/two", "a/deep", "a/empty", "a/link").execute()
    assert attributes(filled) == [b"/b/**"]


def test_what_is_gone_from_the_work_tree_or_never_was_there_can_be_removed(
    filled: Repository, local: LocalStore, tmp_path: Path
) -> None:
    (filled.top / "five").unlink()
    add_elsewhere(filled, local, make_source(tmp_path / "source"), "elsewhere")
    assert b"/elsewhere/**" in attributes(filled)
    plan(filled, "five", "elsewhere").execute()
    assert attributes(filled) == [b"/a/**", b"/b/**"]
    assert not [path for path in filled.staged() if path.startswith(b"elsewhere")]


def test_all_of_it_can_go(filled: Repository) -> None:
    plan(filled, ".").execute()
    assert filled.staged().keys() == {b".gitattributes", b".revfsconfig", b"a/.gitignore", b"code"}
    assert attributes(filled) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none", "none is not tracked"),
        ("code", "code is kept by git itself"),
        ("a/.gitignore", "a/.gitignore is kept by git itself"),
        ("..", "outside the work tree"),
    ],
)
def test_what_is_not_tracked_is_refused_and_nothing_changes(
    filled: Repository, path: str, words: str
) -> None:
    before = filled.staged()
    with pytest.raises(StoreError, match=words):
        plan(filled, "a", path)
    assert filled.staged() == before


def test_a_locked_index_leaves_gitattributes_as_it_was(filled: Repository) -> None:
    (filled.top / ".git/index.lock").touch()
    before = (filled.top / ".gitattributes").read_bytes()
    planned = plan(filled, "a")
    with pytest.raises(GitError, match="another git command"):
        planned.execute()
    assert (filled.top / ".gitattributes").read_bytes() == before


def test_a_file_in_conflict_is_refused(filled: Repository) -> None:
    ours, theirs = (filled.write_blob(content) for content in (b"ours", b"theirs"))
    lines = f"0 {'0' * 40}\tfive\n100644 {ours} 2\tfive\n100644 {theirs} 3\tfive\n"
    filled.git("update-index", "--index-info", stdin=lines.encode())
    for path in (".", "five"):
        with pytest.raises(PathRefused, match=r"^five is in conflict"):
            plan(filled, path)
    assert plan(filled, "a").paths
