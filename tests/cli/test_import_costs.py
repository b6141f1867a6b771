"""What a command imports before it works: little, and nothing that must not live through a fork."""

import subprocess
import sys

import pytest

HEAVY = ("boto3", "lmdb", "pygit2", "pyfuse3", "rich", "trio")


def heavy_modules_after(statement: str) -> set[str]:
    """The heavy modules that a fresh Python has imported after `statement`."""
    program = f"{statement}; import sys; print(*(set({HEAVY!r}) & sys.modules.keys()))"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(completed.stdout.split())


def test_the_group_itself_imports_nothing_heavy() -> None:
    assert heavy_modules_after("import cli.main") == set()


@pytest.mark.parametrize("verb", ["mount", "unmount"])
def test_what_forks_or_only_sends_a_signal_imports_nothing_heavy(verb: str) -> None:
    assert heavy_modules_after(f"import cli.{verb}") == set()


def test_git_add_and_git_status_wait_for_no_loop_and_no_libgit2() -> None:
    assert heavy_modules_after("import cli.filter_process") == {"lmdb"}


def test_the_search_for_heavy_modules_finds_them() -> None:
    assert {"lmdb", "pygit2", "trio"} <= heavy_modules_after("import store.opening, store.git")
