"""`revfs doctor` as a person and a script meet it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import ExitCode, run
from tests.fakes.repositories import Repository
from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import Link, TcpProxy

Doctor = Callable[..., dict[str, tuple[str, str]]]

# What a machine of tests may lack, and no test here is about.
OF_THE_MACHINE = ("fuse device", "fusermount3", "cache space")


@pytest.fixture
def healthy(repository: Repository, tmp_path: Path) -> Repository:
    """A repository in which everything is set up, with a remote in a folder."""
    command = Path(sys.executable).parent / "revfs"
    repository.git("config", "filter.revfs.process", f"{command} filter-process")
    repository.git("config", "filter.revfs.required", "true")
    hook = repository.top / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nexec revfs hook pre-push "$@"\n')
    hook.chmod(0o755)
    (tmp_path / "store").mkdir()
    add = ["remote", "add", "-d", "disk", str(tmp_path / "store")]
    assert repository.revfs("-q", *add) == 0
    repository.commit()
    return repository


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the verb for a program: check → (outcome, text); the exit code must fit them."""

    def call(*arguments: str) -> dict[str, tuple[str, str]]:
        capsys.readouterr()
        code = run([*arguments, "doctor", "--json"])
        findings = json.loads(capsys.readouterr().out)
        bad = any(finding["outcome"] == "problem" for finding in findings)
        assert code == (ExitCode.FAILED if bad else ExitCode.DONE)
        return {
            finding["check"]: (finding["outcome"], finding["text"])
            for finding in findings
            if finding["check"] not in OF_THE_MACHINE
        }

    return call


def test_where_all_is_well_every_line_says_ok(
    healthy: Repository, tmp_path: Path, doctor: Doctor
) -> None:
    before = healthy.status()
    findings = doctor("-C", str(healthy.top))
    assert {outcome for outcome, _ in findings.values()} == {"ok"}
    assert {"git", "cache folder", "filter", "pre-push hook", "remote write"} <= findings.keys()
    assert list((tmp_path / "store").iterdir()) == []
    assert healthy.status() == before


def test_lines_have_mark_check_and_words_and_the_last_counts(
    healthy: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (healthy.top / ".git/hooks/pre-push").unlink()
    assert healthy.revfs("doctor") == ExitCode.FAILED
    captured = capsys.readouterr()
    *lines, last = captured.out.splitlines()
    assert captured.err == ""
    assert last.endswith(" found")
    (line,) = [line for line in lines if "pre-push hook" in line]
    assert line.split()[:3] == ["problem", "pre-push", "hook"]
    assert "run `revfs init`" in line
    assert any(line.startswith("ok           git ") for line in lines)


def test_quietly_only_problems_are_printed(
    healthy: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.git("config", "--unset", "filter.revfs.process")
    assert healthy.revfs("-q", "doctor") == ExitCode.FAILED
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"problem"}
    assert any("filter" in line for line in lines)


def test_outside_of_a_repository_the_machine_is_checked(tmp_path: Path, doctor: Doctor) -> None:
    findings = doctor("-C", str(tmp_path))
    assert findings["repository"][0] == "not checked"
    assert findings["cache folder"][0] == "ok"
    assert "filter" not in findings
    assert "problem" not in {outcome for outcome, _ in findings.values()}


def test_a_repository_that_is_broken_is_a_problem(tmp_path: Path, doctor: Doctor) -> None:
    (tmp_path / ".git").mkdir()
    assert doctor("-C", str(tmp_path))["repository"][0] == "problem"


def test_a_repository_that_was_named_and_is_not_there_is_a_problem(
    tmp_path: Path, doctor: Doctor
) -> None:
    findings = doctor("-C", str(tmp_path), "--repo", "nowhere")
    assert findings["repository"][0] == "problem"
    assert "no folder, and no url" in findings["repository"][1]


def test_a_kept_clone_is_checked_like_any_other(healthy: Repository, doctor: Doctor) -> None:
    findings = doctor("-q", "--repo", f"file://{healthy.top}")
    assert findings["remote write"][0] == "ok"
    assert findings["filter"] == ("not checked", "there is no work tree")


def test_a_setting_that_cannot_be_meant_leaves_the_machine_to_be_checked(
    healthy: Repository, doctor: Doctor
) -> None:
    (healthy.top / ".git/revfs").mkdir(mode=0o700, exist_ok=True)
    (healthy.top / ".git/revfs/config").write_text("[mount]\n\ttimeout = soon\n")
    findings = doctor("-C", str(healthy.top))
    assert "mount.timeout" in findings["repository"][1]
    assert findings["repository"][0] == "problem"
    assert findings["cache folder"][0] == "ok"


def test_a_remote_of_an_unknown_name_leaves_the_rest_to_be_checked(
    healthy: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert healthy.revfs("doctor", "--remote", "nobody") == ExitCode.FAILED
    out = capsys.readouterr().out
    assert "no remote is called 'nobody'" in out
    assert "pre-push hook" in out


def test_a_repository_without_a_remote_is_told_how_to_get_one(
    healthy: Repository, doctor: Doctor
) -> None:
    assert healthy.revfs("-q", "remote", "remove", "disk") == 0
    healthy.commit()
    outcome, text = doctor("-C", str(healthy.top))["remote"]
    assert (outcome, "revfs remote add" in text) == ("not checked", True)


def test_a_server_that_is_silent_does_not_hold_it_up(
    healthy: Repository,
    rclone_s3: S3Server,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("store.remote_checks._CALL_SECONDS", 0.5)
    with TcpProxy(rclone_s3.address, Link(stall=True)) as proxy:
        add = ["remote", "add", "--local", "-d", "far", "s3://bucket"]
        options = ["--endpoint", proxy.endpoint, "--region", "us-east-1"]
        assert healthy.revfs("-q", *add, *options) == 0
        findings = doctor("-C", str(healthy.top))
    assert findings["remote list"][0] == "problem"
    assert "check the network" in findings["remote list"][1]
    assert findings["remote write"][0] == "not checked"


def test_names_that_could_fool_a_terminal_are_written_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    run(["-C", str(folder), "doctor"])
    assert "\x1b" not in capsys.readouterr().out
