"""Running git, and finding a repository, on real repositories."""

import subprocess
from pathlib import Path

import pytest

from store.errors import GitError
from store.git_command import RepositoryPaths, find_repository, run_git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository with one commit."""
    top = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", top], check=True)
    run_git(["commit", "--quiet", "--allow-empty", "--message", "first"], cwd=top)
    return top


def test_output_and_input_are_bytes(repository: Path) -> None:
    content = b"any\0bytes\xff"
    name = run_git(["hash-object", "-w", "--stdin"], cwd=repository, stdin=content).strip()
    assert run_git([b"cat-file", b"blob", name], cwd=repository) == content


def test_without_an_input_git_reads_nothing(repository: Path) -> None:
    (repository / "empty").touch()
    name_of_nothing = run_git(["hash-object", "empty"], cwd=repository)
    assert run_git(["hash-object", "--stdin"], cwd=repository) == name_of_nothing


def test_git_speaks_english_whatever_the_person_does(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run_git(["-c", "alias.say=!echo $LC_ALL", "say"], cwd=repository) == b"C\n"


def test_a_failure_speaks_in_gits_own_words_on_one_line(repository: Path) -> None:
    with pytest.raises(GitError, match="no-such-name") as caught:
        run_git(["cat-file", "blob", "no-such-name"], cwd=repository)
    assert "fatal:" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_code_that_is_expected_is_no_failure(repository: Path) -> None:
    arguments = ["rev-parse", "--verify", "--quiet", "HEAD:none"]
    assert run_git(arguments, cwd=repository, ok_codes=(0, 1)) == b""
    with pytest.raises(GitError, match="code 1"):
        run_git(arguments, cwd=repository)


def test_a_missing_git_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(GitError, match="git is not installed"):
        run_git(["version"], cwd=repository)


def test_a_missing_folder_is_not_taken_for_a_missing_git(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="is not a folder"):
        run_git(["version"], cwd=tmp_path / "none")


def test_a_repository_is_found_from_a_folder_in_it(repository: Path) -> None:
    below = repository / "a" / "b"
    below.mkdir(parents=True)
    git_dir = repository / ".git"
    assert find_repository(below) == RepositoryPaths(git_dir, git_dir, repository)
    assert find_repository(below).state_dir == git_dir / "revfs"


def test_a_worktree_shares_the_state_of_its_repository(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_git(["worktree", "add", "--quiet", str(other)], cwd=repository)
    paths = find_repository(other)
    assert paths.work_tree == paths.top == other
    assert paths.git_dir != paths.common_dir == repository / ".git"
    assert paths.state_dir == find_repository(repository).state_dir


def test_a_bare_repository_has_no_work_tree(tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", bare], check=True)
    paths = find_repository(bare)
    assert paths == RepositoryPaths(bare, bare, None)
    assert paths.top == bare


def test_inside_a_git_directory_there_is_no_work_tree(repository: Path) -> None:
    assert find_repository(repository / ".git" / "objects").work_tree is None


def test_git_dir_of_the_environment_is_honoured(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert find_repository(tmp_path).git_dir == repository / ".git"


def test_outside_of_a_repository_the_way_in_is_said(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not inside a git repository; go into one"):
        find_repository(tmp_path)


def test_a_path_with_a_line_break_is_refused_not_misread(tmp_path: Path) -> None:
    odd = tmp_path / "two\nlines"
    subprocess.run(["git", "init", "--quiet", odd], check=True)
    with pytest.raises(GitError, match="line break"):
        find_repository(odd)
