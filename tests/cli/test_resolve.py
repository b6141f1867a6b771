"""`revfs resolve` over conflicts that real git makes."""

import json
import os
from pathlib import Path

import pytest

from cli.main import ExitCode
from store.errors import GitError
from tests.fakes.repositories import Repository, make_repository, random_bytes

ODD = b"data/caf\xe9\n"
BASE = {
    b"data/large": random_bytes((4 << 20) + 1000, 1),
    ODD: b"base",
    b"data/a": b"a",
    b"data/b": b"b",
}
OURS = {b"data/large": random_bytes((4 << 20) + 1000, 2), ODD: b"ours"}
THEIRS = {b"data/large": random_bytes((4 << 20) + 1000, 3), ODD: b"theirs"}


def save(repository: Repository, message: str, contents: dict[bytes, bytes | None]) -> None:
    """Write and remove data files, and commit them."""
    for path, content in contents.items():
        if content is None:
            (repository.top / os.fsdecode(path)).unlink()
        else:
            # Not of this second, which git would have to be waited for.
            os.utime(repository.write(path, content), (10**9, 10**9))
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit(message)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two branches that changed the same files: `main`, which is checked out, and `other`. Each
    removed a file that the other one changed."""
    repository = make_repository(tmp_path / "repository")
    save(repository, "base", dict(BASE))
    repository.git("branch", "other")
    save(repository, "ours", {**OURS, b"data/a": b"a of ours", b"data/b": None})
    repository.git("checkout", "--quiet", "other")
    save(repository, "theirs", {**THEIRS, b"data/a": None, b"data/b": b"b of theirs"})
    repository.git("checkout", "--quiet", "main")
    assert repository.revfs("-q", "checkout") == 0
    assert repository.status() == []
    return repository


def conflict(repository: Repository, *command: str) -> None:
    with pytest.raises(GitError):
        repository.git(*command)
    assert len(repository.status()) == 4


def content(repository: Repository, path: bytes) -> bytes:
    return (repository.top / os.fsdecode(path)).read_bytes()


def test_a_merge_ends_with_our_side(repository: Repository) -> None:
    conflict(repository, "merge", "other")
    assert repository.revfs("-q", "resolve", "--ours", "data") == ExitCode.DONE
    assert {path: content(repository, path) for path in OURS} == OURS
    assert content(repository, b"data/a") == b"a of ours"
    assert not (repository.top / "data/b").exists()
    # All of it is what HEAD has, so nothing is left to be committed but the merge.
    assert repository.status() == []
    assert repository.git("diff-files", "--name-only", "data") == b""


def test_a_merge_ends_with_their_side(repository: Repository) -> None:
    conflict(repository, "merge", "other")
    assert repository.revfs("-q", "resolve", "--theirs", "data") == ExitCode.DONE
    assert {path: content(repository, path) for path in THEIRS} == THEIRS
    assert not (repository.top / "data/a").exists()
    assert content(repository, b"data/b") == b"b of theirs"
    assert sorted(line[:3] for line in repository.status()) == [b"A  ", b"D  ", b"M  ", b"M  "]
    repository.commit("merged")
    assert repository.git("diff", "--name-only", "HEAD", "other", "--", "data") == b""
    assert repository.status() == []


def test_in_a_rebase_theirs_is_the_commit_that_is_replayed(repository: Repository) -> None:
    conflict(repository, "rebase", "other")
    assert repository.revfs("-q", "resolve", "--theirs", "data/large") == ExitCode.DONE
    assert content(repository, b"data/large") == OURS[b"data/large"]
    assert repository.revfs("-q", "resolve", "--ours", "data") == ExitCode.DONE
    assert content(repository, ODD) == THEIRS[ODD]
    assert content(repository, b"data/b") == b"b of theirs"
    repository.git("-c", "core.editor=true", "rebase", "--continue")
    assert repository.git("diff", "--name-only", "HEAD", "other", "--", "data") == b"data/large\n"


def test_paths_are_those_of_the_folder_where_it_runs(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    conflict(repository, "merge", "other")
    folder = Repository(repository.top / "data")
    assert folder.revfs("resolve", "--theirs", "large", "a") == ExitCode.DONE
    assert capsys.readouterr().out == "resolved 2 files with theirs, 1 of them removed\n"
    assert [line[:3] for line in repository.status() if line[:1] in b"UAD"] != []
    assert folder.revfs("resolve", "--theirs", "large") == ExitCode.FAILED
    assert "data/large is not in conflict" in capsys.readouterr().err
    assert folder.revfs("resolve", "--theirs", "../data", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"written": 2, "pointers": 0, "removed": 0, "left_to_git": 0}


def test_a_side_whose_data_is_not_here_becomes_a_pointer(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = repository.clone(tmp_path / "clone")
    clone.git("branch", "other", "origin/other")
    conflict(clone, "merge", "other")
    assert clone.revfs("resolve", "--theirs", "data") == ExitCode.DONE
    assert "the data of 3 is not here" in capsys.readouterr().out
    for path in (*THEIRS, b"data/b"):
        assert content(clone, path) == clone.git("cat-file", "blob", b"other:" + path)
    clone.commit("merged")
    assert clone.status() == []


def test_a_file_that_was_edited_since_is_kept_unless_forced(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    conflict(repository, "merge", "other")
    edited = b"x" * len(OURS[b"data/large"])
    repository.write("data/large", edited)
    before = repository.staged()
    assert repository.revfs("resolve", "--theirs", "data") == ExitCode.FAILED
    assert "data/large was edited since" in capsys.readouterr().err
    assert content(repository, b"data/large") == edited
    assert content(repository, ODD) == OURS[ODD]
    assert repository.staged() == before
    assert repository.revfs("-q", "resolve", "--theirs", "--force", "data") == ExitCode.DONE
    assert content(repository, b"data/large") == THEIRS[b"data/large"]


def test_a_conflict_over_a_file_of_git_is_left_to_git(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_repository(tmp_path / "repository")
    save(repository, "base", {b"data/a": b"base"})
    repository.git("branch", "other")
    for branch, text in (("main", b"ours"), ("other", b"theirs")):
        repository.git("checkout", "--quiet", branch)
        repository.write("README", text)
        repository.git("add", "README")
        save(repository, branch, {b"data/a": text})
    repository.git("checkout", "--quiet", "main")
    with pytest.raises(GitError):
        repository.git("merge", "other")
    assert repository.revfs("resolve", "--ours", "README") == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "not over data: git checkout --ours README and git add README end it" in said
    assert repository.revfs("resolve", "--ours", ".") == ExitCode.DONE
    assert "1 file that git keeps itself" in capsys.readouterr().out
    assert repository.status() == [b"AA README"]


@pytest.mark.parametrize(("side", "name"), [("--ours", "data/ours"), ("--theirs", "data/theirs")])
def test_a_file_that_both_sides_renamed_ends_with_the_name_of_one(
    tmp_path: Path, side: str, name: str
) -> None:
    repository = make_repository(tmp_path / "repository")
    save(repository, "base", {b"data/large": BASE[b"data/large"]})
    repository.git("branch", "other")
    save(repository, "ours", {b"data/ours": BASE[b"data/large"], b"data/large": None})
    repository.git("checkout", "--quiet", "other")
    save(repository, "theirs", {b"data/theirs": BASE[b"data/large"], b"data/large": None})
    repository.git("checkout", "--quiet", "main")
    with pytest.raises(GitError):
        repository.git("merge", "other")
    assert len(repository.status()) == 3
    assert repository.revfs("-q", "resolve", side, "data") == ExitCode.DONE
    assert repository.git("ls-files", "--stage", "data").decode().split("\t")[1:] == [f"{name}\n"]
    assert repository.git("ls-files", "--unmerged") == b""
    assert [f"data/{found}" for found in os.listdir(repository.top / "data")] == [name]


@pytest.mark.parametrize(
    ("side", "end"), [("--ours", "git checkout --ours"), ("--theirs", "git rm README ends it")]
)
def test_a_side_that_git_has_nothing_of_is_ended_with_git_rm(
    repository: Repository, capsys: pytest.CaptureFixture[str], side: str, end: str
) -> None:
    blob = repository.write_blob(b"ours")
    stages = b"100644 %b 2\tREADME\n" % blob.encode()
    repository.git("update-index", "--index-info", stdin=stages)
    capsys.readouterr()
    assert repository.revfs("resolve", side, "README") == ExitCode.FAILED
    assert end in capsys.readouterr().err


def test_one_side_must_be_said(repository: Repository) -> None:
    assert repository.revfs("resolve", "data") == ExitCode.USAGE
    assert repository.revfs("resolve", "--ours", "--theirs", "data") == ExitCode.USAGE


def test_nothing_is_removed_through_a_link(repository: Repository, tmp_path: Path) -> None:
    conflict(repository, "merge", "other")
    (repository.top / "data").rename(tmp_path / "outside")
    (repository.top / "data").symlink_to(tmp_path / "outside")
    assert repository.revfs("resolve", "--theirs", ".") == ExitCode.FAILED
    assert (tmp_path / "outside/a").read_bytes() == b"a of ours"
