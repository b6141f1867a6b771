"""`revfs --repo` with folders of every kind, urls, and what cannot be one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import ExitCode, run
from store.git_command import run_git
from tests.fakes.git_servers import serve_git
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

DATA = random_bytes(50_000)


@pytest.fixture
def original(tmp_path: Path) -> Repository:
    """A repository with a pushed file, whose committed remote is a folder beside it."""
    repository = make_repository(tmp_path / "hosted" / "original")
    (tmp_path / "hosted" / "data-store").mkdir()
    assert repository.revfs("-q", "remote", "add", "-d", "disk", "../data-store") == 0
    repository.write("train/one", DATA)
    assert repository.revfs("-q", "add", "train") == 0
    repository.commit()
    assert repository.revfs("-q", "push") == 0
    return repository


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder in no repository."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def served(original: Repository) -> Iterator[str]:
    """The url of the repository, served by git's own daemon as from another machine."""
    with serve_git(original.top.parent) as (host, port):
        yield f"git://{host}:{port}/original/.git"


def revfs(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """revfs run in `folder`, in a process of its own."""
    return subprocess.run(
        revfs_command(*arguments), cwd=folder, env=environment_with(), capture_output=True
    )


def file_url(repository: Repository) -> str:
    return f"file://{repository.top}"


def ask_again(home: Path) -> None:
    """Forget that kept clones were updated a moment ago."""
    for lock in (home / ".cache/revfs/repositories").glob("*.lock"):
        os.utime(lock, (0, 0))


@pytest.mark.parametrize("place", ["original", "original/train", "original/.git", "bare.git"])
def test_a_folder_is_used_in_place(
    original: Repository, isolated_home: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    hosted = original.top.parent
    original.git("clone", "--quiet", "--bare", str(original.top), str(hosted / "bare.git"))
    assert run(["-C", str(hosted), "--repo", place, "ls", "HEAD", "train"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "one"
    assert not (isolated_home / ".cache/revfs/repositories").exists()


def test_the_repository_around_and_one_that_a_hook_names_give_way(
    original: Repository,
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository.top / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository.top))
    options = ["-C", str(repository.top), "--repo", str(original.top)]
    assert run([*options, "ls", "HEAD", "train"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "one"


def test_paths_of_the_work_tree_are_still_taken_from_where_one_stands(
    original: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    original.write("train/two", b"two")
    folder = str(original.top / "train")
    assert run(["-C", folder, "--repo", str(original.top), "add", "two"]) == ExitCode.DONE
    assert b"train/two" in original.staged()


def test_a_file_of_a_url_is_read_without_a_clone_made_by_hand(
    original: Repository, elsewhere: Path
) -> None:
    first = revfs(elsewhere, "--repo", file_url(original), "cat", "HEAD:train/one")
    assert first.stdout == DATA
    assert first.stderr.decode() == (
        f"revfs: cloning {file_url(original)}, once; its data is not fetched\n"
    )
    again = revfs(elsewhere, "--repo", file_url(original), "cat", "HEAD:train/one")
    assert (again.stdout, again.stderr) == (DATA, b"")
    assert os.listdir(elsewhere) == []


def test_what_is_pushed_to_a_url_is_there_for_the_next_verb(
    original: Repository, isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-q", "--repo", file_url(original), "ls", "v2"]) == ExitCode.FAILED
    original.write("new", b"new")
    original.git("add", "new")
    original.commit()
    original.git("tag", "v2")
    ask_again(isolated_home)
    capsys.readouterr()
    assert run(["-q", "--repo", file_url(original), "ls", "v2"]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert "new" in captured.out.splitlines()
    assert captured.err == ""


def test_a_folder_beside_an_original_elsewhere_is_asked_for_in_one_sentence(
    original: Repository, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(["-q", "--repo", served, "cat", "HEAD:train/one"]) == ExitCode.FAILED
    (warning,) = caplog.messages
    assert "config --local remote.disk.url URL" in warning
    store = str(original.top.parent / "data-store")
    setting = ["config", "--local", "remote.disk.url", store]
    assert run(["-q", "--repo", served, *setting]) == ExitCode.DONE
    caplog.clear()
    assert run(["-q", "--repo", served, "ls", "HEAD"]) == ExitCode.DONE
    assert caplog.messages == []


def test_an_endpoint_that_came_with_a_url_is_trusted_by_the_same_verb(
    original: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = '[remote "disk"]\n\turl = s3://bucket\n\tendpoint = http://127.0.0.1:9\n'
    config = original.top / ".revfsconfig"
    config.write_text(config.read_text().split("[core")[0].split("[remote")[0] + lines)
    original.git("commit", "--quiet", "--all", "--message", "moved")
    options = ["-q", "--repo", file_url(original)]
    assert run([*options, "cat", "HEAD:train/one"]) == ExitCode.FAILED
    assert "run `revfs remote trust disk`" in capsys.readouterr().err
    assert run([*options, "remote", "trust", "disk"]) == ExitCode.DONE
    assert run([*options, "remote", "list"]) == ExitCode.DONE
    assert "not trusted" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "train"], "no work tree"),
        (["mount", "HEAD"], "name a mountpoint"),
        (["remote", "add", "more", "s3://bucket"], "there is no work tree"),
    ],
)
def test_what_needs_a_work_tree_says_so(
    original: Repository, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["-q", "--repo", file_url(original), *arguments]) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing/here", "is no folder, and no url"),
        (".", "is not inside a git repository"),
        ("ext::touch% made", "does not do"),
        ("--upload-pack=touch made", "begins with a dash"),
        ("file:///nowhere/at/all", "does not appear to be a git repository"),
    ],
)
def test_what_is_no_repository_is_refused_in_one_sentence(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    assert run(["-q", "-C", str(elsewhere), f"--repo={text}", "ls"]) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert os.listdir(elsewhere) == []


def test_the_kept_clone_serves_a_second_user_of_the_same_url_in_the_same_process(
    original: Repository, isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(["-q", "--repo", file_url(original), "ls"]) == ExitCode.DONE
    (clone,) = (isolated_home / ".cache/revfs/repositories").glob("*.git")
    assert run_git(["rev-parse", "HEAD"], cwd=clone).decode().strip() == original.head()
