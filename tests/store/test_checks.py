"""The checks of git, Python and the cache folder: each failure provoked, and the sentence read."""

import os
from pathlib import Path

import pytest

from store.checks import (
    Finding,
    Outcome,
    check_cache,
    check_git,
    check_python,
    judge_space,
    load_user_config,
    run_check,
)
from store.errors import GitError

GIB = 1 << 30


def only_problem(findings: list[Finding]) -> Finding:
    (found,) = [finding for finding in findings if finding.outcome is Outcome.PROBLEM]
    return found


def fake_git(folder: Path, words: str) -> None:
    git = folder / "git"
    git.write_text(f"#!/bin/sh\necho {words}\n")
    git.chmod(0o755)


def test_the_git_and_python_of_the_tests_are_well() -> None:
    assert [finding.outcome for finding in [*check_git(), *check_python()]] == [Outcome.OK] * 2


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("git version 2.30.9", Outcome.PROBLEM),
        ("git version 1.99", Outcome.PROBLEM),
        ("no git at all", Outcome.PROBLEM),
        ("git version 2.31.0", Outcome.OK),
        ("git version 3.0.windows.1", Outcome.OK),
    ],
)
def test_a_git_that_is_too_old_is_to_be_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, outcome: Outcome
) -> None:
    fake_git(tmp_path, words)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (found,) = check_git()
    assert found.outcome is outcome
    assert outcome is Outcome.OK or "install 2.31 or newer" in found.text


def test_a_git_that_is_missing_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError):
        check_git()
    assert "install git first" in only_problem(run_check("git", check_git)).text


def test_a_python_that_is_too_old_is_to_be_renewed() -> None:
    assert "install revfs with 3.11 or newer" in only_problem(check_python((3, 10))).text


def test_a_cache_that_is_not_there_yet_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    findings = check_cache(folder, None)
    names = ["cache folder", "cache space", "cache index"]
    assert [finding.name for finding in findings] == names
    assert {finding.outcome for finding in findings if finding.name != "cache space"} == {
        Outcome.OK
    }
    assert os.listdir(folder) == ["index"]


def test_a_cache_that_others_can_write_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    assert "run chmod go-w on it" in only_problem(check_cache(folder, None)).text


def test_a_cache_that_is_a_link_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "cache"
    link.symlink_to("real")
    text = only_problem(check_cache(link, None)).text
    assert "symbolic link" in text
    assert "revfs config --user cache.directory" in text


def test_a_cache_on_a_disk_that_takes_no_writes_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = tmp_path / "cache"
    text = only_problem(check_cache(folder, None)).text
    assert "nothing can be written" in text
    assert "No space left on device" in text
    assert os.listdir(folder) == []


def test_tables_that_are_damaged_are_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    check_cache(folder, None)
    (folder / "index" / "data.mdb").write_bytes(b"nonsense" * 4096)
    found = {finding.name: finding for finding in check_cache(folder, GIB)}
    assert found["cache index"].outcome is Outcome.OK
    (line,) = caplog.messages
    assert line.startswith(f"the damaged tables in {folder / 'index'} are made anew")


def test_a_disk_with_little_room_is_a_problem() -> None:
    assert judge_space(50 * GIB, 100 * GIB, None).outcome is Outcome.OK
    assert "make room" in judge_space(GIB // 8, 100 * GIB, GIB).text
    assert "revfs config --user cache.size" in judge_space(9 * GIB, 100 * GIB, None).text
    assert judge_space(9 * GIB, 100 * GIB, GIB).outcome is Outcome.OK


def test_outside_of_a_repository_the_user_and_the_environment_say_where_the_cache_is(
    tmp_path: Path, isolated_home: Path
) -> None:
    environment = {"HOME": str(isolated_home)}
    assert load_user_config(environment, tmp_path).cache_directory == (
        isolated_home / ".cache/revfs"
    )
    file = isolated_home / ".config/revfs/config"
    file.parent.mkdir(parents=True)
    file.write_text("[cache]\n\tdirectory = ~/mine\n\tsize = 3MiB\n")
    config = load_user_config(environment, tmp_path)
    assert (config.cache_directory, config.cache_size_bytes) == (isolated_home / "mine", 3 << 20)
    environment["REVFS_CACHE_DIR"] = "/elsewhere"
    assert load_user_config(environment, tmp_path).cache_directory == Path("/elsewhere")
