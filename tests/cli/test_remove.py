"""`revfs remove` as a person meets it."""

import json
from pathlib import Path

import pytest

from cli.main import ExitCode
from store.pointer import parse_pointer
from tests.fakes.repositories import Repository

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


@pytest.fixture
def pushed(repository: Repository, tmp_path: Path) -> Repository:
    """A repository whose data is in a folder remote."""
    assert repository.revfs("remote", "add", "-d", "disk", str(tmp_path / "store")) == 0
    for name in ("data/one", "data/two", "other"):
        repository.write(name, name.encode())
    assert repository.revfs("add", "data", "other") == ExitCode.DONE
    repository.commit()
    (tmp_path / "store").mkdir()
    assert repository.revfs("push") == ExitCode.DONE
    return repository


def test_a_file_that_is_untracked_stays_and_the_next_commit_has_it_no_longer(
    pushed: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert pushed.revfs("remove", "data/one") == ExitCode.DONE
    shown = capsys.readouterr()
    assert shown.out == ("removed 1 file from git's index; what stands in the work tree stays\n")
    assert shown.err == ""
    assert (pushed.top / "data/one").read_bytes() == b"data/one"
    assert {b"D  data/one", b"?? data/one"} <= set(pushed.status())
    pushed.commit()
    assert b"data/one" not in pushed.git("ls-tree", "-r", "--name-only", "HEAD").split()


def test_a_dry_run_and_json_name_the_files(
    pushed: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = pushed.staged()
    assert pushed.revfs("remove", "-n", "data") == ExitCode.DONE
    assert capsys.readouterr().out == (
        "would remove data/one\nwould remove data/two\nwould remove 2 files from git's index\n"
    )
    assert pushed.revfs("remove", "--dry-run", "--json", "data") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"dry_run": True, "removed": ["data/one", "data/two"]}
    assert pushed.staged() == before
    assert pushed.revfs("remove", "--json", "data") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == facts | {"dry_run": False, "still_pointers": 0}


def test_pointers_become_data_where_it_is_here_and_a_word_is_said_of_others(
    pushed: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = pushed.clone(tmp_path / "clone")
    lost = b"revfs 1\nblake3 " + b"0" * 64 + b"\nsize 9\n"
    clone.write("data/two", lost)
    blob = clone.write_blob(lost)
    clone.git("update-index", "--cacheinfo", f"100644,{blob},data/two")
    assert clone.revfs("cat", "HEAD:other") == ExitCode.DONE
    capsys.readouterr()
    assert clone.revfs("remove", "data") == ExitCode.DONE
    shown = capsys.readouterr()
    assert "1 file of them stay pointers" in shown.err
    assert (clone.top / "data/one").read_bytes() == b"data/one"
    assert parse_pointer((clone.top / "data/two").read_bytes()) is not None
    assert parse_pointer((clone.top / "other").read_bytes()) is not None
    assert b"other" in clone.staged()
    assert b"data/one" not in clone.staged()


def test_what_is_not_tracked_is_one_sentence(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("new")
    assert repository.revfs("remove", "new") == ExitCode.FAILED
    assert capsys.readouterr().err == ("revfs: new is not tracked: git's index has nothing of it\n")
    assert repository.revfs("remove") == ExitCode.USAGE
