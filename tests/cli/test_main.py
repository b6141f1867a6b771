"""The command itself: what importing costs, how a run ends, and what the console prints."""

import errno
import json
import os
import pty
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.console import (
    SECONDS_BETWEEN_LINES,
    App,
    Console,
    escape_name,
    format_bytes,
    format_rate,
    format_seconds,
)
from cli.main import VERBS, ExitCode, Verb, run
from store.errors import ChunkMissing, ConfigError
from tests.fakes.processes import ROOT, environment_with, python_command, revfs_command


def start(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """The finished command, in a process of its own."""
    return subprocess.run(
        revfs_command(*arguments),
        cwd=cwd,
        env=environment_with(**variables),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[App], object]], None]:
    """Makes a function the verb `try`."""

    def install(function: Callable[[App], object]) -> None:
        module = types.ModuleType("verb_under_test")
        vars(module)["command"] = click.command("try")(click.pass_obj(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(VERBS, "try", Verb(f"{module.__name__}:command", "Try it."))

    return install


def raising(error: BaseException) -> Callable[[App], None]:
    def function(app: App) -> None:
        raise error

    return function


def test_help_imports_click_and_no_other_foreign_library() -> None:
    code = (
        "import sys; from cli.main import run; run(['--help']);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    completed = subprocess.run(
        python_command(code), cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(completed.stderr.split())
    assert "click" in loaded
    foreign = {"boto3", "botocore", "pygit2", "pyfuse3", "lmdb", "trio", "rich", "zstandard"}
    assert not loaded & (foreign | {"blake3", "pyfastcdc", "vfs"})


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.DONE
    out = capsys.readouterr().out
    for name, listed in VERBS.items():
        assert (f"\n  {name} " in out) is not listed.hidden
        assert listed.summary in out


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_can_be_had_and_explains_itself_by_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert "Example:" in out
    assert f"revfs {name}" in out


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mout"]) == ExitCode.USAGE
    assert "mout" in capsys.readouterr().err


def test_an_error_of_ours_is_one_sentence_and_exit_code_1(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(ConfigError("no such thing: do this")))
    assert run(["try"]) == ExitCode.FAILED
    assert capsys.readouterr().err == "revfs: no such thing: do this\n"


def test_an_error_of_ours_is_found_in_nested_groups(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    inner = BaseExceptionGroup("inner", [GeneratorExit(), ChunkMissing("chunk 7 is gone")])
    verb(raising(BaseExceptionGroup("outer", [inner, ValueError("later")])))
    assert run(["try"]) == ExitCode.FAILED
    assert capsys.readouterr().err == "revfs: chunk 7 is gone\n"


def test_an_error_of_the_system_is_told_with_its_path(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/file")))
    assert run(["try"]) == ExitCode.FAILED
    assert capsys.readouterr().err == f"revfs: /some/file: {os.strerror(errno.EACCES)}\n"


def test_a_bug_says_so_and_shows_its_place_only_when_asked(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verb(raising(ZeroDivisionError("oh")))
    assert run(["try"]) == ExitCode.BUG
    err = capsys.readouterr().err
    assert "this is a bug in revfs: ZeroDivisionError: oh" in err
    assert "Traceback" not in err
    assert run(["-v", "try"]) == ExitCode.BUG
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("REVFS_DEBUG", "1")
    assert run(["try"]) == ExitCode.BUG
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("grouped", [False, True])
def test_an_interrupt_ends_without_a_word(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str], grouped: bool
) -> None:
    error: BaseException = KeyboardInterrupt()
    verb(raising(BaseExceptionGroup("nursery", [error]) if grouped else error))
    assert run(["try"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.strip() == ""


def test_a_verb_can_end_with_a_code_of_its_own(verb: Callable[..., None]) -> None:
    verb(lambda app: click.get_current_context().exit(3))
    assert run(["try"]) == 3


def test_what_a_verb_returns_is_no_exit_code_unless_it_is_a_number(
    verb: Callable[..., None],
) -> None:
    verb(lambda app: "text")
    assert run(["try"]) == ExitCode.DONE


def test_another_folder_can_be_named_as_with_git(
    verb: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    seen: list[Path] = []
    verb(lambda app: seen.append(app.cwd))
    assert run(["try"]) == run(["-C", "below", "try"]) == ExitCode.DONE
    assert seen == [tmp_path, tmp_path / "below"]
    assert run(["-C", "none", "try"]) == ExitCode.USAGE


def test_a_missing_repository_is_told_by_a_real_process(tmp_path: Path) -> None:
    completed = start("init", cwd=tmp_path)
    assert completed.returncode == ExitCode.FAILED
    assert completed.stderr.startswith(f"revfs: {tmp_path} is not inside a git repository")


def test_quiet_silences_what_was_done_and_not_what_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(quiet=True)
    console.say("done")
    console.out("asked for")
    console.warn("careful")
    assert capsys.readouterr() == ("asked for\n", "revfs: warning: careful\n")


def test_no_text_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.out("red \x1b[31m")
    console.error("title \x1b]0;x\x07")
    console.table(("name",), [("two\nlines",), (b"\xff",)])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert out.splitlines() == ["red \\x1b[31m", "name", "two\\nlines", "\\xff"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain ünïcode 文.bin", "plain ünïcode 文.bin"),
        (b"caf\xc3\xa9 \xe9", "café \\xe9"),
        ("a\tb\x7f", "a\\tb\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("back\\slash", "back\\\\slash"),
        ("\udcff\ud800", "\\xff\\ud800"),
    ],
)
def test_a_name_is_shown_on_one_harmless_line(name: bytes | str, shown: str) -> None:
    assert escape_name(name) == shown


def test_a_table_is_aligned_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("name", "size"), [("a", 5), ("longer", 12345)])
    assert capsys.readouterr().out.splitlines() == [
        "name     size",
        "a           5",
        "longer  12345",
    ]


def test_a_table_without_rows_is_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("name", "size"), [])
    assert capsys.readouterr().out == "name  size\n"


def test_json_keeps_names_that_are_not_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    value = [{"name": os.fsdecode(b"\xff")}]
    Console().out_json(value)
    assert json.loads(capsys.readouterr().out) == value


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (64 << 20, "64 MiB"),
        (3 << 60, "3072 PiB"),
    ],
)
def test_bytes_are_told_in_binary_units(count: int, text: str) -> None:
    assert format_bytes(count) == text
    assert format_rate(count) == f"{text}/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_away_from_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Console(clock=clock).progress("push", 100 << 20) as progress:
        progress.advance(1 << 20)
        assert capsys.readouterr().err == ""
        clock.now += SECONDS_BETWEEN_LINES
        progress.advance(49 << 20, 7)
        progress.advance(0)
        line = capsys.readouterr().err
        assert line == "revfs: push: 7 done, 50 MiB of 100 MiB, 10 MiB/s, 5 s left\n"
        clock.now += SECONDS_BETWEEN_LINES
        progress.set_total(None)
        progress.describe("verify")
        clock.now += SECONDS_BETWEEN_LINES
        progress.advance(0)
        first, second = capsys.readouterr().err.splitlines()
    assert first == "revfs: push: 7 done, 50 MiB, 5 MiB/s"
    assert second.startswith("revfs: verify: ")


def test_progress_is_silent_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(quiet=True, clock=clock).progress("push", None) as progress:
        clock.now += 2 * SECONDS_BETWEEN_LINES
        progress.advance(1)
        progress.describe("more")
        progress.set_total(2)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar() -> None:
    code = (
        "from cli.console import Console\n"
        "with Console().progress('push [bold]', 10) as progress:\n"
        "    progress.advance(5, 1)\n"
    )
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run(python_command(code), cwd=ROOT, env=environment, stderr=child, check=True)
    os.close(child)
    with os.fdopen(parent, "rb", buffering=0) as terminal:
        shown = terminal.read(1 << 16)
    assert b"push [bold]" in shown
    assert b"5 B of 10 B" in shown
