"""`revfs mount`, `unmount` and `mounts` as far as no kernel is needed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.console import App, Console
from cli.main import ExitCode, run
from cli.stores import open_mount_records
from tests.fakes.repositories import Repository
from vfs.mount_records import MountRecord, process_start

Refused = Callable[..., str]


@pytest.fixture
def refused(top: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a verb in the repository, which must fail, and gives its one line."""

    def call(*arguments: str | Path, code: ExitCode = ExitCode.FAILED) -> str:
        assert run(["-C", str(top), *map(str, arguments)]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert code != ExitCode.FAILED or captured.err.count("\n") == 1
        return captured.err

    return call


def test_outside_of_a_repository_there_is_nothing_to_mount(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(tmp_path), "mount", "v1", str(tmp_path)]) == ExitCode.FAILED
    assert "is not inside a git repository" in capsys.readouterr().err


def test_an_unknown_revision_is_named_and_its_default_mountpoint_not_left(
    top: Path, refused: Refused
) -> None:
    for options in ([], ["--foreground"]):
        assert "no commit" in refused("mount", "nonsense", *options)
        assert os.listdir(top) == [".git"]


def test_an_unknown_remote_is_named(top: Path, tmp_path: Path, refused: Refused) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert "nowhere" in refused("mount", "HEAD", place, "--remote", "nowhere")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--timeout", value) for value in ("0", "-1", "nan", "inf", "-inf", "soon")],
        *[("--cache-size", value) for value in ("-1", "much", "1XB")],
    ],
)
def test_a_number_that_cannot_be_meant_is_a_usage_error(
    top: Path, refused: Refused, option: str, value: str
) -> None:
    assert option in refused("mount", "v1", option, value, code=ExitCode.USAGE)
    assert os.listdir(top) == [".git"]


def test_a_log_that_cannot_be_written_is_refused_before_anything_is_mounted(
    tmp_path: Path, refused: Refused
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for log in (tmp_path, tmp_path / "no/such/folder/log"):
        assert "cannot be written" in refused("mount", "v1", place, "--log", log)


def test_a_cache_that_others_can_write_is_refused(
    tmp_path: Path, refused: Refused, isolated_home: Path
) -> None:
    cache = isolated_home / ".cache/revfs"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    (tmp_path / "place").mkdir()
    assert "can be written by others" in refused("mount", "v1", tmp_path / "place")


def test_unmounting_what_is_not_mounted_says_so(tmp_path: Path, refused: Refused) -> None:
    for place in (tmp_path, tmp_path / "missing", Path("/"), Path("relative")):
        assert "no revision is mounted on" in refused("unmount", place)


def test_a_relative_mountpoint_is_one_of_the_folder_that_revfs_runs_in(
    top: Path, refused: Refused
) -> None:
    assert f"no revision is mounted on {top / 'below'};" in refused("unmount", "x/../below")


def test_no_mounts_are_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mounts"]) == ExitCode.DONE
    assert "nothing is mounted" in "".join(capsys.readouterr())
    assert run(["mounts", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == []


def record_of(folder: Path, **changes: object) -> MountRecord:
    values = {
        "mountpoint": str(folder / "place"),
        "revision": "v1",
        "commit": "ab" * 20,
        "git_dir": str(folder / ".git"),
        "repository": "5e2b7d6c-33f1-4d57-93a0-1f0a8a6f9f10",
        "store": "5e2b7d6c-33f1-4d57-93a0-1f0a8a6f9f11",
        "cache_directory": str(folder / "cache"),
        "pid": os.getpid(),
        "pid_started": process_start(os.getpid()),
        "log": str(folder / "log"),
        "fetched_bytes": 4096,
    }
    return MountRecord(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("cache", ["cache", "file/cache"], ids=["empty", "unusable"])
def test_a_mount_is_listed_for_people_and_programs_whatever_became_of_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    (tmp_path / "file").touch()
    app = App(Console(), tmp_path, False, dict(os.environ))
    records = open_mount_records(app)
    records.write(record_of(tmp_path, cache_directory=str(tmp_path / cache)))
    assert run(["mounts", "--json"]) == ExitCode.DONE
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["mountpoint"] == str(tmp_path / "place")
    assert (listed["state"], listed["cached_bytes"], listed["fetched_bytes"]) == ("alive", 0, 4096)
    assert (listed["pid"], listed["commit"]) == (os.getpid(), "ab" * 20)
    assert run(["mounts"]) == ExitCode.DONE
    line = capsys.readouterr().out.splitlines()[-1]
    assert "abababababab" in line
    assert "alive" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name a revision, as in"),
        (("v1", "place", "more"), "a word too many: 'more'; name REV and MOUNTPOINT"),
        (("--all", "place", "more"), "a word too many: 'more'; name only MOUNTPOINT with --all"),
        (("--all", "--follow", "place"), "leave --follow out"),
    ],
)
def test_words_that_cannot_be_meant_are_a_usage_error(
    top: Path, refused: Refused, words: tuple[str, ...], said: str
) -> None:
    assert said in refused("mount", *words, code=ExitCode.USAGE)
    assert os.listdir(top) == [".git"]


def test_what_is_no_folder_of_a_revision_is_not_mounted(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("folder/file")
    repository.git("add", ".")
    repository.git("commit", "--quiet", "-m", "x")
    for path, said in (
        ("HEAD:folder/file", "folder/file is not a folder in HEAD; revfs cat HEAD:folder/file"),
        ("HEAD:folder/none", "folder/none is not in that revision"),
        ("none:folder", "no commit goes by the name 'none'"),
    ):
        assert repository.revfs("mount", "--foreground", path) == ExitCode.FAILED
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
    assert not (repository.top / "mnt").exists()


def test_without_a_work_tree_a_mountpoint_must_be_named(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare"))
    for words in (("HEAD",), ("--all",), ("HEAD", "--follow")):
        assert run(["-C", str(tmp_path / "bare"), "mount", *words]) == ExitCode.FAILED
        assert "no work tree to mount in: name a mountpoint, an empty folder" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("kind", "revision", "commit", "shown"),
    [
        ("all", "", "", ["--all", "-"]),
        ("follow", "main", "ab" * 20, ["--follow main", "abababababab"]),
    ],
)
def test_mounts_of_several_commits_are_listed_as_what_was_asked_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    revision: str,
    commit: str,
    shown: list[str],
) -> None:
    records = open_mount_records(App(Console(), tmp_path, False, dict(os.environ)))
    records.write(record_of(tmp_path, kind=kind, revision=revision, commit=commit))
    assert run(["mounts", "--json"]) == ExitCode.DONE
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["kind"], listed["revision"]) == (kind, revision or None)
    assert listed["commit"] == (commit or None)
    assert run(["mounts"]) == ExitCode.DONE
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.split(" {2,}", line)[1:3] == shown
