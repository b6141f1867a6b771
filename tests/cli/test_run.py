"""`revfs run` as a person, a script and a colleague's clone meet it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import ExitCode
from store.stage_lock import load_lock
from tests.fakes.processes import environment_with, revfs_command
from tests.fakes.repositories import Repository

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

# Counts its runs beside what it makes, so that a test can see whether it ran.
COPY = ("sh", "-c", 'mkdir -p "$2" && cat "$1"/* > "$2/all" && echo run >> .git/runs', "copy")
Run = Callable[..., list[str]]


@pytest.fixture
def repository(repository: Repository) -> Repository:
    """One commit with data to read."""
    repository.write("raw/one", b"1\n")
    assert repository.revfs("-q", "add", "raw") == 0
    repository.commit()
    return repository


@pytest.fixture
def run(repository: Repository, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `revfs run`, which must succeed, and gives the lines on stdout."""

    def call(*arguments: str) -> list[str]:
        capfd.readouterr()
        code = repository.revfs("run", *arguments)
        captured = capfd.readouterr()
        assert code == ExitCode.DONE, captured.err
        return captured.out.splitlines()

    return call


@pytest.fixture
def refused(repository: Repository, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `revfs run`, which must fail with this code, and gives what is on stderr."""

    def call(*arguments: str, code: int = ExitCode.FAILED) -> str:
        capfd.readouterr()
        assert repository.revfs("run", *arguments) == code
        return capfd.readouterr().err

    return call


def runs(repository: Repository) -> int:
    """How often COPY has run."""
    log = repository.top / ".git/runs"
    return len(log.read_text().split()) if log.exists() else 0


def staged(repository: Repository) -> list[str]:
    """What is staged, as `letter path`."""
    raw = repository.git("diff", "--cached", "--name-status").decode()
    return [" ".join(line.split("\t")) for line in raw.splitlines()]


def listed(run: Run) -> dict[str, Any]:
    return {stage["name"]: stage for stage in json.loads("\n".join(run("--list", "--json")))}


def states(run: Run) -> dict[str, list[str]]:
    """name → what changed, as `kind path how`."""
    return {
        name: [f"{c['kind']} {c['path']} {c['how']}" for c in stage["changes"]]
        for name, stage in listed(run).items()
    }


def test_a_command_is_run_its_output_added_and_all_of_it_recorded(
    repository: Repository, run: Run
) -> None:
    out = run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    assert out == ["copy has run; revfs.lock is staged with its outputs"]
    assert staged(repository) == ["M .gitattributes", "A made/all", "A revfs.lock"]
    repository.commit()
    (stage,) = listed(run).values()
    assert stage["command"] == [*COPY, "raw", "made"]
    for path in ("raw", "made"):
        of_git = repository.git("rev-parse", f"HEAD:{path}").decode().strip()
        assert (stage["dependencies"] | stage["outputs"])[path] == of_git
    pointer = repository.git("cat-file", "blob", "HEAD:made/all")
    assert pointer.startswith(b"revfs 1\n")


def test_nothing_is_run_where_nothing_changed(repository: Repository, run: Run) -> None:
    words = ("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    run(*words)
    repository.commit()
    for again in (words, ("-n", "copy"), ("--all",)):
        assert run(*again) == ["copy is up to date"]
    assert runs(repository) == 1
    assert staged(repository) == []
    run("-n", "copy", "--force")
    assert runs(repository) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda top: (top / "raw/one").write_text("2\n"), "dependency raw changed"),
        (lambda top: (top / "raw/two").write_text("2\n"), "dependency raw changed"),
        (lambda top: (top / "made/all").write_text("by hand"), "output made changed"),
        (lambda top: (top / "made/all").unlink(), "output made missing"),
    ],
)
def test_what_changed_is_named_and_makes_it_run_again(
    repository: Repository, run: Run, change: Callable[[Path], object], expected: str
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    repository.commit()
    change(repository.top)
    assert states(run) == {"copy": [expected]}
    run("-n", "copy")
    assert runs(repository) == 2
    assert states(run) == {"copy": []}


def test_another_command_of_the_same_name_takes_the_place_of_the_first(
    repository: Repository, run: Run
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made", "more")
    assert runs(repository) == 2
    assert load_lock(repository.top)["copy"].stage.command[-1] == "more"


def test_all_runs_in_order_of_dependencies_and_only_what_has_to(
    repository: Repository, run: Run
) -> None:
    run("-n", "z", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    run("-n", "a", "-d", "made/all", "-o", "more", "--", *COPY, "made", "more")
    run("-n", "m", "-o", "else", "--", *COPY, "raw", "else")
    assert runs(repository) == 3
    repository.write("raw/two", b"2\n")
    assert run("--all") == [
        "m is up to date",
        "z has run; revfs.lock is staged with its outputs",
        "a has run; revfs.lock is staged with its outputs",
    ]
    assert (repository.top / "more/all").read_bytes() == b"1\n2\n"
    assert runs(repository) == 5
    assert states(run) == {"a": [], "m": [], "z": []}


def test_a_stage_whose_input_came_out_the_same_is_not_run(repository: Repository, run: Run) -> None:
    first_only = ("sh", "-c", "mkdir -p made && head -n 1 raw/one > made/first")
    run("-n", "first", "-d", "raw", "-o", "made", "--", *first_only)
    run("-n", "copy", "-d", "made", "-o", "more", "--", *COPY, "made", "more")
    repository.write("raw/one", b"1\nmore\n")
    out = run("--all")
    assert out == ["first has run; revfs.lock is staged with its outputs", "copy is up to date"]


def test_a_command_that_fails_ends_it_with_its_code_and_records_nothing(
    repository: Repository, run: Run, refused: Callable[..., str]
) -> None:
    words = refused("-n", "bad", "-o", "made", "--", "sh", "-c", "echo x > made; exit 7", code=7)
    assert words.splitlines()[-1] == "revfs: bad ended with code 7; nothing was recorded"
    assert staged(repository) == []
    assert load_lock(repository.top) == {}


def test_after_a_stage_that_failed_no_other_is_run(
    repository: Repository, run: Run, refused: Callable[..., str]
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "more", "--", *COPY, "raw", "more")
    run("-n", "next", "-d", "more", "-o", "last", "--", *COPY, "more", "last")
    repository.write("raw/folder/x")
    # `cat` of a folder fails.
    assert "copy ended with code 1" in refused("--all")
    assert runs(repository) == 2


def test_an_output_that_was_not_written_is_named(
    repository: Repository, refused: Callable[..., str]
) -> None:
    words = refused("-n", "lazy", "-o", "made", "-o", "raw/one", "--", "true")
    assert "lazy did not write its output made; nothing was recorded" in words
    assert staged(repository) == []
    words = refused("-n", "lazy", "-o", "empty", "--", "mkdir", "empty")
    assert "the output empty of lazy holds no file" in words
    assert load_lock(repository.top) == {}


def test_a_dependency_that_is_not_there_is_named_before_the_command_runs(
    repository: Repository, refused: Callable[..., str]
) -> None:
    words = refused("-n", "copy", "-d", "nowhere", "-o", "made", "--", *COPY, "raw", "made")
    line = "revfs: nowhere, which copy depends on, is not there or holds no file"
    assert words.splitlines()[-1] == line
    assert runs(repository) == 0


def test_paths_are_those_of_the_folder_it_is_started_in(repository: Repository, run: Run) -> None:
    below = Repository(repository.top / "raw")
    words = ("-n", "copy", "-d", "one", "-o", "../made", "--", *COPY, "raw", "made")
    assert below.revfs("run", *words) == ExitCode.DONE
    stage = listed(run)["copy"]
    assert (list(stage["dependencies"]), list(stage["outputs"])) == (["raw/one"], ["made"])


def test_the_command_runs_at_the_top_and_learns_where_its_inputs_are(
    repository: Repository, run: Run
) -> None:
    script = 'pwd; echo "$REVFS_INPUT" "$1"'
    out = run("-n", "where", "--", "sh", "-c", script, "sh", "{input}/raw")
    top = str(repository.top)
    assert out[:2] == [top, f"{top} {top}/raw"]


def test_the_words_of_the_command_go_as_they_are(repository: Repository, run: Run) -> None:
    words = ("--all", "-n", "$HOME; *", "caf\udce9", "")
    run("-n", "words", "sh", "-c", 'printf "%s|" "$@" > .git/words', "sh", *words)
    written = (repository.top / ".git/words").read_bytes()
    assert written == os.fsencode("".join(f"{word}|" for word in words))
    assert load_lock(repository.top)["words"].stage.command[-5:] == words


def test_what_git_keeps_itself_can_be_an_output(repository: Repository, run: Run) -> None:
    script = "echo 1 > metrics.json; echo 2 > model"
    run("-n", "train", "-o", "model", "--plain-output", "metrics.json", "--", "sh", "-c", script)
    staged = repository.git("cat-file", "blob", ":metrics.json")
    assert staged == b"1\n"
    assert repository.git("cat-file", "blob", ":model").startswith(b"revfs 1\n")
    repository.write("metrics.json", b"other")
    assert states(run) == {"train": ["output metrics.json changed"]}


@pytest.mark.parametrize("rule", ["made", "made/", "made/*"])
def test_an_output_that_is_ignored_is_named_before_the_command_runs(
    repository: Repository, refused: Callable[..., str], rule: str
) -> None:
    repository.write(".gitignore", f"{rule}\n".encode())
    words = ("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    assert "the output made is ignored by git" in refused(*words)
    assert runs(repository) == 0


def test_data_is_no_plain_output(repository: Repository, refused: Callable[..., str]) -> None:
    words = refused("-n", "x", "--plain-output", "raw/one", "--", "sh", "-c", "echo > raw/one")
    assert "raw/one is tracked by revfs: make it an output with -o" in words
    assert (repository.top / "raw/one").read_bytes() == b"1\n"


def test_a_ring_and_an_overlap_are_refused_before_anything_runs(
    repository: Repository, run: Run, refused: Callable[..., str]
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    back = ("-n", "back", "-d", "made", "-o", "raw", "--", *COPY, "made", "raw")
    assert "in a ring" in refused(*back)
    assert "by the stages copy and other" in refused("-n", "other", "-o", "made/all", "--", "true")
    assert runs(repository) == 1


def test_nothing_is_written_beyond_a_link(
    repository: Repository, refused: Callable[..., str], tmp_path: Path
) -> None:
    (repository.top / "link").symlink_to(tmp_path)
    assert "lies beyond a symbolic link" in refused("-n", "x", "-o", "link/sub/y", "--", "true")
    assert not (tmp_path / "sub").exists()
    # Also where it is a committed revfs.lock that says so.
    stage = {"command": ["true"], "dependencies": {}, "plain_outputs": {}}
    lock = {"stages": {"x": stage | {"outputs": {"link/sub/y": "0" * 40}}}, "version": 1}
    repository.write("revfs.lock", json.dumps(lock).encode())
    assert "beyond a symbolic link" in refused("--all")
    assert not (tmp_path / "sub").exists()


def test_a_stage_can_be_forgotten(
    repository: Repository, run: Run, refused: Callable[..., str]
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    assert run("--remove", "copy") == ["forgot copy; its outputs stay as they are"]
    assert run("--list") == ["there is no stage yet"]
    assert (repository.top / "made/all").exists()
    for arguments in (("--remove", "copy"), ("-n", "copy")):
        assert "no stage goes by the name copy" in refused(*arguments)


def test_the_list_says_in_a_line_each_why_a_stage_has_to_run(
    repository: Repository, run: Run
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", "cp", "-r", "raw", "made")
    repository.write("raw/two")
    header, row = run("--list")
    assert header.split() == ["NAME", "STATE", "COMMAND"]
    assert " ".join(row.split()) == "copy dependency raw changed cp -r raw made"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--", "true"),
        ("-n", "x", "--all"),
        ("-n", "x", "-d", "raw"),
        ("--all", "--", "true"),
        ("--all", "--at", "HEAD"),
        ("--list", "--force"),
        ("-n", "x", "--json", "--", "true"),
        ("--list", "--remove", "x"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], refused: Callable[..., str]
) -> None:
    assert "Usage: revfs run" in refused(*arguments, code=ExitCode.USAGE)


def test_a_colleague_without_the_data_sees_that_all_is_up_to_date(
    repository: Repository, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    repository.commit()
    clone = repository.clone(tmp_path / "clone")
    assert (clone.top / "raw/one").read_bytes().startswith(b"revfs 1\n")
    capfd.readouterr()
    assert clone.revfs("run", "--all") == 0
    assert capfd.readouterr().out == "copy is up to date\n"


def test_a_clone_that_was_never_set_up_gets_the_filter_with_the_first_output(
    repository: Repository, run: Run
) -> None:
    repository.git("config", "--unset", "filter.revfs.process")
    run("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    assert repository.git("config", "filter.revfs.required") == b"true\n"


def test_a_command_is_not_run_over_pointers(
    repository: Repository, refused: Callable[..., str], run: Run
) -> None:
    repository.write("raw/two", b"2\n")
    assert repository.revfs("-q", "add", "raw") == 0
    stage = ("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    pointer = repository.git("cat-file", "blob", ":raw/two")
    repository.write("raw/two", pointer)
    assert "only pointers (raw/two): revfs pull gets it, --at HEAD" in refused(*stage)
    assert (runs(repository), load_lock(repository.top)) == (0, {})
    repository.write("raw/two", b"2\n")
    run(*stage)
    # What nothing is made of may stay a pointer.
    made = repository.git("cat-file", "blob", ":made/all")
    repository.write("made/all", made)
    repository.write("raw/one", b"3\n")
    run(*stage)
    assert runs(repository) == 2


def test_a_command_is_not_run_without_data_that_was_added_from_elsewhere(
    repository: Repository, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"data")
    assert repository.revfs("-q", "add", str(tmp_path / "elsewhere"), "--to", "raw/two") == 0
    err = refused("-n", "copy", "-d", "raw", "-o", "made", "--", *COPY, "raw", "made")
    assert "is not in the work tree (raw/two): commit it, and --at HEAD reads it" in err
    assert runs(repository) == 0


def test_an_interrupted_run_records_nothing(repository: Repository) -> None:
    script = "echo half > made; echo started > .git/started; exec sleep 60"
    process = subprocess.Popen(
        revfs_command("run", "-n", "slow", "-o", "made", "--", "sh", "-c", script),
        cwd=repository.top,
        env=environment_with(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while not (repository.top / ".git/started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in err
    assert staged(repository) == []
    assert load_lock(repository.top) == {}
