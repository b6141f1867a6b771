"""`revfs diff` and `revfs du` as a person and a script meet them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.repositories import Repository, make_repository, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LARGE = random_bytes(3 << 20)
ODD = b"data/\xe9\n\x1b[31m"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two versions, v1 and v2, with a change of every kind between them."""
    repository = make_repository(tmp_path / "repository")
    repository.write("data/large", LARGE)
    repository.write("data/tool", b"run")
    repository.write("data/moved", b"moved")
    repository.write("data/gone", b"gone")
    repository.write("README", b"read me")
    repository.git("add", "README")
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit()
    repository.git("tag", "v1")
    repository.write("data/large", LARGE + b"more")
    (repository.top / "data/tool").chmod(0o755)
    (repository.top / "data/moved").rename(repository.top / "data/there")
    (repository.top / "data/gone").unlink()
    repository.write(ODD, b"odd")
    repository.write("README", b"read me again")
    repository.git("add", "README")
    assert repository.revfs("-q", "add", "data") == 0
    repository.commit()
    repository.git("tag", "v2")
    return repository


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def test_diff_shows_each_change_and_what_is_new(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("diff", "v1", "v2") == ExitCode.DONE
    *shown, totals, new = lines(capsys)
    assert shown == [
        "changed README 7 B -> 13 B (git)",
        "removed data/gone 4 B",
        "changed data/large 3 MiB -> 3 MiB",
        "renamed data/moved -> data/there 5 B",
        "mode data/tool 3 B +x",
        "added data/\\xe9\\n\\x1b[31m 3 B",
    ]
    assert totals.startswith("1 added (3 B), 2 changed (")
    assert new.startswith("new bytes: ")
    assert new.endswith("that v1 has nowhere, and 13 B in 1 file of git's own")


def test_the_revisions_of_a_diff_can_be_named_in_many_ways(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    commits = [repository.git("rev-parse", tag).decode().strip() for tag in ("v1", "v2")]
    ways = (("v1", "v2"), ("v1",), ("v1..v2",), ("v1..",), ("v1", "HEAD"), ("v1", "v2", "./"))
    for words in ways:
        assert repository.revfs("diff", "--json", *words) == ExitCode.DONE
        found = json.loads(capsys.readouterr().out)
        assert [found["old"]["commit"], found["new"]["commit"]] == commits
        assert len(found["changes"]) == 6


def test_diff_json_has_both_sides_of_each_change(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("diff", "--json", "v1", "v2", "data") == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    changes = {os.fsencode(change["path"]): change for change in found["changes"]}
    assert {path: change["status"] for path, change in changes.items()} == {
        b"data/gone": "removed",
        b"data/large": "changed",
        b"data/there": "renamed",
        b"data/tool": "mode",
        ODD: "added",
    }
    there = changes[b"data/there"]
    assert (there["old"]["path"], there["new"]["path"]) == ("data/moved", "data/there")
    assert there["old"]["blake3"] == there["new"]["blake3"]
    tool = changes[b"data/tool"]
    assert (tool["old"]["mode"], tool["new"]["mode"]) == ("100444", "100555")
    assert (changes[ODD]["old"], changes[ODD]["kind"]) == (None, "tracked")
    assert found["totals"]["changed"] == {
        "files": 1,
        "old_size": len(LARGE),
        "size": len(LARGE) + 4,
    }
    # The last piece of the large file, and the odd one.
    assert 7 <= found["new_bytes"] < len(LARGE)
    assert found["new_git_bytes"] == 0


def test_a_diff_of_the_same_says_so_and_a_summary_is_short(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("diff", "v2", "HEAD") == ExitCode.DONE
    assert lines(capsys) == ["nothing changed"]
    assert repository.revfs("diff", "--summary", "v1") == ExitCode.DONE
    assert len(lines(capsys)) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), ExitCode.USAGE, "Missing argument"),
        (("v1...v2",), ExitCode.USAGE, "two dots"),
        (("v1", "v2", "data", "README"), ExitCode.USAGE, "one path"),
        (("v1..v2", "data", "README"), ExitCode.USAGE, "one path"),
        (("v1", "none"), ExitCode.FAILED, "neither a revision nor a path"),
        (("none",), ExitCode.FAILED, "no commit goes by the name 'none'"),
    ],
)
def test_a_diff_that_cannot_be_meant_is_refused(
    repository: Repository,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: ExitCode,
    said: str,
) -> None:
    assert repository.revfs("diff", *words) == code
    assert said in capsys.readouterr().err


@pytest.fixture
def lost(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A clone with an empty cache, whose remote is gone."""
    (tmp_path / "remote").mkdir()
    assert repository.revfs("-q", "remote", "add", "-d", "disk", str(tmp_path / "remote")) == 0
    repository.commit()
    assert repository.revfs("-q", "push", "v2") == 0
    clone = repository.clone(tmp_path / "clone")
    monkeypatch.setenv("REVFS_CACHE_DIR", str(tmp_path / "empty"))
    shutil.rmtree(tmp_path / "remote")
    return clone


def test_without_its_remote_a_diff_shows_the_rest_with_a_warning(
    lost: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert lost.revfs("diff", "v1", "v2") == ExitCode.DONE
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "new bytes: unknown"
    assert "renamed" in captured.out
    assert captured.err.startswith("revfs: warning: how many bytes are new is unknown: ")
    assert captured.err.count("\n") == 1
    assert lost.revfs("diff", "--json", "v1", "v2") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["new_bytes"] is None


def test_without_its_remote_du_says_what_is_unknown(
    lost: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert lost.revfs("du", "--json", "v2", "data") == ExitCode.DONE
    captured = capsys.readouterr()
    total = json.loads(captured.out)["total"]
    assert total["unknown"] == total["size"] == len(LARGE) + 4 + len(b"runmovedodd")
    assert (total["stored"], total["here"]) == (0, 0)
    assert "sizes are incomplete" in captured.err
    assert lost.revfs("du", "--offline", "--json", "v2", "data") == ExitCode.DONE
    assert capsys.readouterr().err == ""


def test_du_has_a_line_for_each_entry_and_a_total(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("du", "v1") == ExitCode.DONE
    rows = lines(capsys)
    assert rows[0] == "SIZE STORED HERE NAME"
    assert [row.split()[-1] for row in rows[1:]] == [
        ".gitattributes",
        ".revfsconfig",
        "README",
        "data/",
        "total",
    ]
    assert rows[3] == "7 B - - README"
    assert rows[4] == "3 MiB 3 MiB 3 MiB data/"
    assert repository.revfs("du", "data/tool") == ExitCode.DONE
    assert lines(capsys)[1:] == ["3 B 3 B 3 B data/tool", "3 B 3 B 3 B total"]


def test_a_summary_of_du_is_a_line_for_each_path(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("du", "-s") == ExitCode.DONE
    assert [row.split()[-1] for row in lines(capsys)[1:]] == ["./", "total"]
    inside = Repository(repository.top / "data")
    words = ("du", "-s", "--json", "HEAD", "./tool", "data", "README", "data/tool")
    assert inside.revfs(*words) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    # The tool lies below `data`, and does not count twice.
    assert [part["path"] for part in found["parts"]] == ["data", "README"]
    assert found["total"]["size"] == sum(part["size"] for part in found["parts"])
    assert found["total"]["files"] == 5


def test_du_json_is_exact(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert repository.revfs("du", "--json", "v1", "data/tool", "README") == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    nothing = {"files": 1, "git_size": 0, "unknown": 0}
    assert found["parts"] == [
        {"path": "data/tool", "kind": "file", "size": 3, "stored": 3, "here": 3, **nothing},
        {
            "path": "README",
            "kind": "file",
            "size": 7,
            "stored": 0,
            "here": 0,
            **nothing,
            "git_size": 7,
        },
    ]
