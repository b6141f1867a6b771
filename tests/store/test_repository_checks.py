"""The checks of a repository: each failure provoked, and the sentence read."""

import os
import sys
from pathlib import Path

import pytest

from store.checks import Finding, Outcome
from store.config import load_config
from store.git_command import find_repository
from store.repository_checks import check_repository, is_in_repository
from tests.fakes.repositories import Repository, make_repository

REVFS = Path(sys.executable).parent / "revfs"


@pytest.fixture
def healthy(repository: Repository) -> Repository:
    """A repository in which everything is set up."""
    repository.git("config", "filter.revfs.process", f"{REVFS} filter-process")
    repository.git("config", "filter.revfs.required", "true")
    write_hook(repository.top / ".git/hooks/pre-push")
    return repository


def write_hook(hook: Path, line: str = 'exec revfs hook pre-push "$@"', mode: int = 0o755) -> None:
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{line}\n")
    hook.chmod(mode)


def check(repository: Repository) -> dict[str, Finding]:
    paths = find_repository(repository.top)
    findings = check_repository(paths, load_config(paths, os.environ))
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def only_problem(repository: Repository) -> Finding:
    (found,) = [
        finding for finding in check(repository).values() if finding.outcome is Outcome.PROBLEM
    ]
    return found


def test_a_repository_that_is_set_up_is_well(healthy: Repository) -> None:
    findings = check(healthy)
    assert {finding.outcome for finding in findings.values()} == {Outcome.OK}
    names = ["repository", "repository id", "git state folder", "filter", "pre-push hook"]
    assert list(findings) == names
    assert not (healthy.top / ".git/revfs").exists()


def test_a_repository_without_an_id_is_to_be_initialised(tmp_path: Path) -> None:
    findings = check(make_repository(tmp_path / "new", initialised=False))
    assert "run `revfs init`" in findings["repository id"].text
    assert findings["filter"].outcome is Outcome.NOT_CHECKED
    assert findings["pre-push hook"].outcome is Outcome.NOT_CHECKED


@pytest.mark.parametrize("state", ["changed", "staged", "untracked", "ignored"])
def test_an_id_that_is_not_committed_as_it_stands_is_to_be_committed(
    healthy: Repository, state: str
) -> None:
    if state in ("untracked", "ignored"):
        healthy.git("rm", "--quiet", "--cached", ".revfsconfig")
        healthy.commit()
    else:
        with (healthy.top / ".revfsconfig").open("a") as file:
            file.write("# more\n")
    if state == "staged":
        healthy.git("add", ".revfsconfig")
    if state == "ignored":
        (healthy.top / ".git/info").mkdir(exist_ok=True)
        (healthy.top / ".git/info/exclude").write_text(".*\n")
    found = only_problem(healthy)
    assert found.name == "repository id"
    assert "`git add --force .revfsconfig` and `git commit`" in found.text


def test_in_a_bare_repository_the_work_tree_is_not_asked_for(
    healthy: Repository, tmp_path: Path
) -> None:
    healthy.git("clone", "--quiet", "--bare", str(healthy.top), str(tmp_path / "bare.git"))
    findings = check(Repository(tmp_path / "bare.git"))
    assert findings["repository id"].outcome is Outcome.OK
    assert findings["filter"].text == "there is no work tree"
    assert findings["pre-push hook"].outcome is Outcome.NOT_CHECKED


def test_a_clone_without_the_filter_is_to_be_initialised(healthy: Repository) -> None:
    healthy.git("config", "--unset", "filter.revfs.process")
    found = only_problem(healthy)
    assert "`git add` would put their bytes into git: run `revfs init`" in found.text


@pytest.mark.parametrize("value", [None, "false"])
def test_a_filter_that_may_fail_in_silence_is_a_problem(
    healthy: Repository, value: str | None
) -> None:
    change = ("--unset", "filter.revfs.required")
    healthy.git("config", *(change if value is None else (change[1], value)))
    found = only_problem(healthy)
    assert found.name == "filter required"
    assert "run `revfs init`" in found.text


@pytest.mark.parametrize("line", ["cat", "'unfinished", "cat %f", "revfs status"])
def test_a_filter_that_is_not_revfs_is_a_problem(healthy: Repository, line: str) -> None:
    healthy.git("config", "filter.revfs.process", line)
    assert "does not run revfs" in only_problem(healthy).text


@pytest.mark.parametrize("program", ["/nowhere/revfs", "./revfs", "a-revfs-that-nobody-has"])
def test_a_filter_whose_command_is_gone_names_it(healthy: Repository, program: str) -> None:
    healthy.git("config", "filter.revfs.process", f"{program} filter-process")
    text = only_problem(healthy).text
    assert f"git is to run {program}, which is not there" in text
    assert "run `revfs init`" in text


def test_a_filter_whose_command_does_not_run_says_how(healthy: Repository, tmp_path: Path) -> None:
    command = tmp_path / "a broken revfs"
    command.write_text("#!/bin/sh\nexit 3\n")
    command.chmod(0o755)
    healthy.git("config", "filter.revfs.process", f"'{command}' filter-process")
    assert "ends with code 3: install revfs anew" in only_problem(healthy).text
    command.write_text("#!/nowhere/interpreter\n")
    assert "cannot be run (No such file" in only_problem(healthy).text


def test_a_filter_whose_command_hangs_is_not_waited_for(
    healthy: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.repository_checks._COMMAND_SECONDS", 0.2)
    command = tmp_path / "revfs"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o755)
    healthy.git("config", "filter.revfs.process", f"{command} filter-process")
    assert "does not answer within 0.2 s" in only_problem(healthy).text


def test_a_filter_that_is_started_by_several_words_is_well(healthy: Repository) -> None:
    line = f"{sys.executable} '{REVFS}' filter-process"
    healthy.git("config", "filter.revfs.process", line)
    assert check(healthy)["filter"].outcome is Outcome.OK


def test_a_missing_hook_means_that_git_push_sends_no_data(healthy: Repository) -> None:
    hook = healthy.top / ".git/hooks/pre-push"
    hook.unlink()
    text = only_problem(healthy).text
    assert f"{hook} is not there" in text
    assert "run `revfs init`" in text


def test_a_hook_of_somebody_else_is_to_be_joined(healthy: Repository) -> None:
    write_hook(healthy.top / ".git/hooks/pre-push", "make check")
    assert "`revfs init --hooks`" in only_problem(healthy).text


def test_a_hook_that_cannot_be_executed_is_a_problem(healthy: Repository) -> None:
    (healthy.top / ".git/hooks/pre-push").chmod(0o644)
    assert "chmod +x" in only_problem(healthy).text


def test_the_hook_is_looked_for_where_git_looks(healthy: Repository) -> None:
    healthy.git("config", "core.hooksPath", "tools/hooks")
    assert f"{healthy.top}/tools/hooks/pre-push is not there" in only_problem(healthy).text
    (healthy.top / "tools").mkdir()
    write_hook(healthy.top / "tools/hooks/pre-push")
    assert check(healthy)["pre-push hook"].outcome is Outcome.OK


def test_a_state_folder_that_others_can_write_is_a_problem(healthy: Repository) -> None:
    folder = healthy.top / ".git/revfs"
    folder.mkdir()
    folder.chmod(0o777)
    found = only_problem(healthy)
    assert found.name == "git state folder"
    assert "run chmod go-w on it" in found.text


def test_staged_packs_are_counted(healthy: Repository) -> None:
    healthy.write("data", b"bytes")
    assert healthy.revfs("-q", "add", "data") == 0
    healthy.commit()
    assert "packs that wait for a push: 1" in check(healthy)["git state folder"].text


def test_tables_of_staged_packs_that_are_damaged_are_made_anew(
    healthy: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    folder = healthy.top / ".git/revfs"
    (folder / "index").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "index/data.mdb").write_bytes(b"nonsense" * 4096)
    assert check(healthy)["git state folder"].outcome is Outcome.OK
    (line,) = caplog.messages
    assert line.startswith(f"the damaged tables in {folder / 'index'} are made anew")


def test_a_broken_repository_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_in_repository(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep/er").mkdir(parents=True)
    assert is_in_repository(tmp_path / "deep/er")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert is_in_repository(Path("/"))
