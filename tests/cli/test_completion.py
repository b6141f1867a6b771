"""Completion, in the shells themselves where they are installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.completing import (
    complete_mountpoint,
    complete_remote,
    complete_revision_then_paths,
    complete_revision_then_place,
    complete_verbs,
)
from cli.console import App, Console
from cli.main import VERBS, ExitCode, run
from cli.stores import open_mount_records
from store.stage_lock import encode_lock
from store.stages import Stage, StageRecord
from tests.fakes.processes import environment_with
from tests.fakes.repositories import Repository
from vfs.mount_records import MountRecord, process_start

# What each shell needs to complete the words in $LINE without a person at the keyboard.
BASH = """
source "$SCRIPT"
complete -p revfs >&2
COMP_WORDS=($LINE); [[ $LINE == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_revfs_completion revfs
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { [[ $2 == revfs ]] || exit 9 }
source $SCRIPT
_describe() { for item in ${(P)3}; do print -r -- ${item%%:*}; done }
compadd() { print -rl -- ${(P)${@[-1]}} }
words=(${=LINE}); [[ $LINE == *' ' ]] && words+=('')
CURRENT=$#words
_revfs_completion
"""
FISH = """
source $SCRIPT
complete -C "$LINE" | string replace -r '\\t.*' ''; or true
"""
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-c", BASH],
    "zsh": ["zsh", "-f", "-c", ZSH],
    "fish": ["fish", "--no-config", "-c", FISH],
}

Complete = Callable[[str], list[str]]


@pytest.fixture
def repository(repository: Repository) -> Repository:
    for name in ("v1.0", "v1.1"):
        repository.git("tag", name)
    repository.git("branch", "task/train")
    return repository


@pytest.fixture(params=sorted(SHELLS))
def complete(
    request: pytest.FixtureRequest,
    repository: Repository,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Complete:
    """What a shell makes of a command line that ends with a TAB, in a folder of the repository."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert run(["completion", shell]) == ExitCode.DONE
    script = tmp_path / "script"
    script.write_text(capfd.readouterr().out)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def call(line: str) -> list[str]:
        completed = subprocess.run(
            SHELLS[shell],
            cwd=repository.top,
            env=environment_with(SCRIPT=str(script), LINE=line, PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout.split()

    return call


def test_a_shell_completes_verbs_options_and_revisions(complete: Complete) -> None:
    assert complete("revfs unmou") == ["unmount"]
    assert complete("revfs push --re") == ["--remote"]
    assert sorted(complete("revfs push v1")) == ["v1.0", "v1.1"]


def completions(*words: str) -> list[str]:
    """What click answers a shell, without one."""
    line = " ".join(["revfs", *words])
    program = "from cli.main import main; main()"
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env=environment_with(
            COMP_WORDS=line, COMP_CWORD=str(len(words)), _REVFS_COMPLETE="bash_complete"
        ),
        capture_output=True,
        text=True,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    return [line.partition(",")[2] for line in completed.stdout.splitlines() if line]


def test_what_cannot_be_told_completes_to_nothing(tmp_path: Path) -> None:
    assert completions("-C", str(tmp_path), "push", "v") == []
    assert completions("-C", str(tmp_path / "nowhere"), "push", "v") == []
    assert completions("--repo", "https://example.invalid/x.git", "push", "v") == []


def test_a_repository_that_is_named_is_the_one_that_is_asked(repository: Repository) -> None:
    assert completions("--repo", str(repository.top), "push", "v1.1") == ["v1.1"]
    assert completions("-C", str(repository.top), "run", "--at", "ta") == ["task/train"]


def test_stages_complete_by_name(repository: Repository) -> None:
    records = {
        name: StageRecord(Stage(name, ("make",), None, (), (), ()), {}, {})
        for name in ("clean", "train", "transform")
    }
    repository.write("revfs.lock", encode_lock(records))
    where = ("-C", str(repository.top))
    assert completions(*where, "run", "-n", "tra") == ["train", "transform"]
    assert completions(*where, "run", "--remove", "cl") == ["clean"]


def test_verbs_are_listed_without_a_look_at_them() -> None:
    items = complete_verbs(((name, verb.summary) for name, verb in VERBS.items()), "mou")
    assert [(item.value, item.help) for item in items] == [
        ("mount", VERBS["mount"].summary),
        ("mounts", VERBS["mounts"].summary),
    ]


def context_in(folder: Path, **values: object) -> click.Context:
    """What a callback is handed, for a command line that began with -C."""
    root = click.Context(click.Group("revfs"))
    root.params["folder"] = folder
    context = click.Context(click.Command("verb"), parent=root)
    context.params.update(values)
    return context


ANY = click.Argument(["any"])


def test_paths_complete_inside_the_revision(repository: Repository) -> None:
    for name in (b"data/one", b"data/deep/two", b"data/with space", b"data/$(id)", b"data/\xff"):
        repository.write(name)
    repository.git("add", "data")
    repository.commit()
    repository.git("rm", "--quiet", "-r", "data/deep")
    repository.commit()

    def paths(incomplete: str, revision: str = "HEAD") -> list[str]:
        context = context_in(repository.top / "data", any=(revision,))
        return [item.value for item in complete_revision_then_paths(context, ANY, incomplete)]

    assert paths("da") == ["data/"]
    assert paths("data/") == ["data/one"]
    assert paths("data/", revision="HEAD~1") == ["data/deep/", "data/one"]
    assert paths("data/deep/t", revision="HEAD~1") == ["data/deep/two"]
    assert paths("data/", revision="--help") == paths("no/where/") == []


def test_the_first_word_is_a_revision_and_the_next_a_place(repository: Repository) -> None:
    repository.git("tag", "v1")
    for complete in (complete_revision_then_paths, complete_revision_then_place):
        context = context_in(repository.top, any=())
        assert "v1" in [item.value for item in complete(context, ANY, "v")]
    context = context_in(repository.top, any=("v1",))
    (item,) = complete_revision_then_place(context, ANY, "mn")
    assert (item.value, item.type) == ("mn", "dir")


def test_remotes_complete_by_name(repository: Repository, tmp_path: Path) -> None:
    for name in ("disk", "backup"):
        assert repository.revfs("-q", "remote", "add", name, str(tmp_path / name)) == 0
    context = context_in(repository.top)
    assert [item.value for item in complete_remote(context, ANY, "d")] == ["disk"]


def test_mountpoints_complete_as_they_were_begun(
    repository: Repository, tmp_path: Path, isolated_home: Path
) -> None:
    places = [repository.top / "mnt/v1", tmp_path / "elsewhere"]
    records = open_mount_records(App(Console(), tmp_path, False, dict(os.environ)))
    started = process_start(os.getpid())
    assert started is not None
    for place in places:
        records.write(
            MountRecord(
                mountpoint=str(place),
                revision="v1",
                commit="0" * 40,
                git_dir="",
                repository="",
                store="",
                cache_directory="",
                pid=os.getpid(),
                pid_started=started,
                log="",
            )
        )
    context = context_in(repository.top)

    def found(incomplete: str) -> set[str]:
        return {item.value for item in complete_mountpoint(context, ANY, incomplete)}

    assert found("") == {"mnt/v1", *map(str, places)}
    assert found("m") == {"mnt/v1"}
    assert found(str(tmp_path / "e")) == {str(places[1])}
