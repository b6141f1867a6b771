"""`revfs init` on real repositories."""

import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from cli.main import ExitCode, run
from store.config_files import COMMITTED_FILE
from store.git_command import run_git


def configured_id(top: Path) -> str:
    arguments = ["config", "--file", COMMITTED_FILE, "repository.id"]
    return run_git(arguments, cwd=top).decode().strip()


def test_init_writes_a_random_id_and_stages_it(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    assert UUID(configured_id(top)).version == 4
    assert configured_id(top) in capsys.readouterr().out
    assert run_git(["status", "--porcelain"], cwd=top).decode() == f"A  {COMMITTED_FILE}\n"


def test_init_touches_nothing_but_its_file_the_filter_and_the_hook(top: Path) -> None:
    (top / "staged").write_text("mine")
    run_git(["add", "staged"], cwd=top)
    (top / "staged").write_text("mine, changed")
    before = run_git(["config", "--local", "--list"], cwd=top)
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    after = run_git(["config", "--local", "--list"], cwd=top)
    assert after.startswith(before)
    added = [line.partition(b"=")[0] for line in after.removeprefix(before).splitlines()]
    assert added == [b"filter.revfs.process", b"filter.revfs.required"]
    hooks = {path.name for path in (top / ".git/hooks").iterdir()}
    assert {name for name in hooks if not name.endswith(".sample")} == {"pre-push"}
    status = run_git(["status", "--porcelain"], cwd=top).decode().splitlines()
    assert sorted(status) == sorted([f"A  {COMMITTED_FILE}", "AM staged"])


def test_a_second_init_changes_nothing(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    before = (top / COMMITTED_FILE).read_bytes()
    run_git(["rm", "--quiet", "--cached", COMMITTED_FILE], cwd=top)
    capsys.readouterr()
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    assert "already" in capsys.readouterr().out
    assert (top / COMMITTED_FILE).read_bytes() == before
    assert run_git(["ls-files"], cwd=top) == b""


def test_init_keeps_the_remotes_that_are_there(top: Path) -> None:
    assert run(["-C", str(top), "remote", "add", "disk", "/data"]) == ExitCode.DONE
    before = (top / COMMITTED_FILE).read_text()
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    assert (top / COMMITTED_FILE).read_text().startswith(before)


def test_init_from_a_folder_below_writes_at_the_top(top: Path) -> None:
    (top / "below").mkdir()
    assert run(["-C", str(top / "below"), "init"]) == ExitCode.DONE
    assert configured_id(top)


def test_a_clone_has_the_id_of_its_origin(
    top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(top), "init"]) == ExitCode.DONE
    run_git(["commit", "--quiet", "--message", "id"], cwd=top)
    for options in ([], ["--bare"]):
        clone = tmp_path / f"clone{len(options)}"
        run_git(["clone", "--quiet", *options, ".", str(clone)], cwd=top)
        capsys.readouterr()
        assert run(["-C", str(clone), "init"]) == ExitCode.DONE
        assert f"already set up: {configured_id(top)}" in capsys.readouterr().out


def test_a_bare_repository_without_an_id_is_sent_to_a_work_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path], check=True)
    assert run(["-C", str(tmp_path), "init"]) == ExitCode.FAILED
    assert "run `revfs init` in a clone with a work tree" in capsys.readouterr().err


def test_outside_of_a_repository_git_init_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["-C", str(tmp_path), "init"]) == ExitCode.FAILED
    assert "or run git init" in capsys.readouterr().err
