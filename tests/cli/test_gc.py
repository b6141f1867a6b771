"""`revfs gc` as a person meets it: the plan as a table first, then what was given back."""

import json
import os
import re
from pathlib import Path

import pytest

from cli.main import ExitCode
from tests.fakes.repositories import Repository, make_repository, random_bytes, staged_packs

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

SIZE = 300_000


@pytest.fixture
def repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Repository:
    """A repository with one commit of data, and data that was added and is needed no more."""
    repository = make_repository(tmp_path / "repository")
    repository.write("wanted", random_bytes(SIZE, 1))
    assert repository.revfs("add", "wanted") == ExitCode.DONE
    repository.commit()
    repository.write("idle", random_bytes(SIZE, 2))
    assert repository.revfs("add", "idle") == ExitCode.DONE
    repository.git("reset", "--quiet", "--hard")
    make_old(repository)
    capsys.readouterr()
    return repository


def make_old(repository: Repository) -> None:
    for name in staged_packs(repository):
        os.utime(repository.top / ".git/revfs/staged" / name, (10**9, 10**9))


def pack_bytes(repository: Repository) -> int:
    folder = repository.top / ".git/revfs/staged"
    return sum(path.stat().st_size for path in folder.iterdir())


def rows(shown: str) -> list[list[str]]:
    """The cells of a table, and the lines behind it."""
    return [re.split(r"  +", line) for line in shown.splitlines()]


def test_the_plan_is_shown_and_then_done(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(staged_packs(repository)) == 2
    assert repository.revfs("gc") == ExitCode.DONE
    assert rows(capsys.readouterr().out) == [
        ["WHAT", "FILES", "SIZE", "WHY"],
        ["staged packs dropped", "1", "293.1 KiB", "no ref, index or reflog needs them"],
        ["staged packs kept", "1", "293.1 KiB", "needed"],
        ["gave back 293.1 KiB"],
    ]
    assert len(staged_packs(repository)) == 1
    assert repository.revfs("gc") == ExitCode.DONE
    assert capsys.readouterr().out.endswith("nothing to give back\n")
    assert repository.revfs("checkout", "wanted") == ExitCode.DONE
    assert (repository.top / "wanted").read_bytes() == random_bytes(SIZE, 1)


def test_a_dry_run_changes_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = staged_packs(repository)
    assert repository.revfs("gc", "--dry-run", "--all") == ExitCode.DONE
    shown = rows(capsys.readouterr().out)
    assert [row[0] for row in shown] == ["WHAT", "staged packs dropped", "staged packs kept"]
    assert staged_packs(repository) == before


def test_json_tells_the_plan_and_what_came_of_it(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    size = pack_bytes(repository)
    assert repository.revfs("gc", "--json", "--dry-run") == ExitCode.DONE
    planned = json.loads(capsys.readouterr().out)
    assert repository.revfs("gc", "--json") == ExitCode.DONE
    done = json.loads(capsys.readouterr().out)
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    assert (planned["freed_bytes"], planned["refused"]) == (0, None)
    assert planned["staged"] == done["staged"]
    assert done["staged"]["dropped"]["packs"] == 1
    assert done["staged"]["dropped"]["bytes"] == done["freed_bytes"]
    assert done["staged"]["needed"]["names"] == staged_packs(repository)
    assert size == done["freed_bytes"] + pack_bytes(repository)


@pytest.mark.parametrize(("grace", "packs"), [("36500d", 2), ("1w", 1), ("0", 1)])
def test_what_was_used_within_the_grace_stays(
    repository: Repository, grace: str, packs: int
) -> None:
    assert repository.revfs("gc", "--grace", grace) == ExitCode.DONE
    assert len(staged_packs(repository)) == packs


@pytest.mark.parametrize("grace", ["-1d", "1 day", "1.5h", "d", "9999999999d", ""])
def test_a_grace_that_is_no_span_of_time_is_wrong_usage(
    repository: Repository, grace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.revfs("gc", f"--grace={grace}") == ExitCode.USAGE
    assert "is no span of time: write one like 14d" in capsys.readouterr().err


def test_where_nobody_can_tell_what_is_needed_that_is_an_error_and_all_stay(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.top / ".git/shallow").write_text(f"{repository.head()}\n")
    assert repository.revfs("gc") == ExitCode.FAILED
    caught = capsys.readouterr()
    assert rows(caught.out)[1][3] == "nobody can tell whether they are needed"
    assert caught.err.startswith("revfs: no staged pack is dropped: this clone is shallow: ")
    assert len(staged_packs(repository)) == 2
    assert repository.revfs("gc", "--json") == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["staged"]["undecided"]["packs"] == 2


def test_from_another_worktree_and_from_outside_it_is_the_same_repository(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = Repository(tmp_path / "linked")
    linked.write("here", random_bytes(SIZE, 3))
    assert linked.revfs("add", "here") == ExitCode.DONE
    make_old(repository)
    outside = Repository(tmp_path)
    assert outside.revfs("--repo", str(linked.top), "gc", "--dry-run", "--json") == ExitCode.DONE
    out = capsys.readouterr().out
    facts = json.loads(out[out.index("{") :])
    assert (facts["staged"]["dropped"]["packs"], facts["staged"]["needed"]["packs"]) == (1, 2)
    assert linked.revfs("gc") == ExitCode.DONE
    assert len(staged_packs(repository)) == 2
    assert linked.revfs("checkout", "here", "wanted") == ExitCode.DONE


def test_the_cache_is_emptied_from_a_bare_repository_that_has_staged_nothing(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Repository(tmp_path / "bare")
    repository.git("clone", "--quiet", "--bare", str(repository.top), str(bare.top))
    assert bare.revfs("gc", "--all") == ExitCode.DONE
    assert capsys.readouterr().out == "nothing is cached or staged\n"
    assert not (bare.top / "revfs").exists()


def test_old_logs_of_mounts_that_are_gone_go_and_no_others(
    repository: Repository, isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = isolated_home / ".cache/revfs/logs"
    folder.mkdir(mode=0o700, parents=True)
    for name in ("old.log", "old.log.1", "new.log"):
        (folder / name).write_text("a line\n")
        if name != "new.log":
            os.utime(folder / name, (10**9, 10**9))
    assert repository.revfs("gc") == ExitCode.DONE
    shown = rows(capsys.readouterr().out)
    assert ["logs removed", "2", "14 B", "of mounts that are gone, older than 14 days"] in shown
    assert [path.name for path in folder.iterdir()] == ["new.log"]
