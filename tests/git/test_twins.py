"""Git's own verbs on tracked files give what they give on the files themselves."""

import random
from pathlib import Path

import pytest

from tests.git.twins import Twins, make_twins

LARGE = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    made = make_twins(tmp_path)
    assert made.commit_ids_differ()
    return made


def test_stash_switch_reset_and_revert(twins: Twins) -> None:
    twins.git("switch", "--quiet", "-c", "other")
    twins.write("data/first", b"\0changed" * 1000)
    twins.write("data/large", LARGE)
    twins.check("a change")
    twins.git("stash")
    twins.git("stash", "pop")
    twins.git("add", "data")
    twins.git("stash")
    twins.git("stash", "pop", "--index")
    twins.git("commit", "--quiet", "-m", "second")
    twins.write("data/first", b"\0again")
    twins.delete("data/large")
    twins.git("commit", "--quiet", "-a", "-m", "third")
    for name in ("main", "other", "main~0", "other~1", "other"):
        twins.git("-c", "advice.detachedHead=false", "checkout", "--quiet", name)
    twins.git("diff", "--quiet")
    twins.git("reset", "--quiet", "--hard", "HEAD~1")
    twins.git("revert", "--no-edit", "HEAD")
    twins.write("data/first", b"not wanted")
    twins.git("restore", "data/first")
    twins.git("mv", "data/first", "data/moved")
    twins.git("rm", "--quiet", "--force", "data/moved")


def diverge(twins: Twins) -> None:
    """A branch `other` beside main: both changed data/both, each one file of its own."""
    twins.write("data/both", b"\0base" * 500)
    twins.write("data/deleted", b"\0here" * 500)
    twins.git("add", "data")
    twins.git("commit", "--quiet", "-m", "base")
    twins.git("switch", "--quiet", "-c", "other")
    twins.write("data/theirs", LARGE)
    twins.write("data/both", b"\0theirs" * 500)
    twins.write("data/deleted", b"\0theirs, changed" * 500)
    twins.git("add", "data")
    twins.git("commit", "--quiet", "-m", "theirs")
    twins.git("switch", "--quiet", "main")


def test_a_merge_without_a_conflict(twins: Twins) -> None:
    diverge(twins)
    twins.write("data/ours", b"\0ours")
    twins.chmod("data/first", 0o755)
    twins.git("add", "data")
    twins.git("commit", "--quiet", "-m", "ours")
    twins.git("merge", "--no-edit", "other")
    assert (twins.ours.top / "data/theirs").read_bytes() == LARGE


def test_a_merge_and_a_rebase_with_conflicts_keep_ours_and_say_so(twins: Twins) -> None:
    diverge(twins)
    twins.write("data/both", b"\0ours" * 500)
    twins.delete("data/deleted")
    twins.git("commit", "--quiet", "-a", "-m", "ours")
    twins.git("merge", "--no-edit", "other", fails=True)
    assert (twins.ours.top / "data/both").read_bytes() == b"\0ours" * 500
    twins.git("merge", "--abort")
    twins.git("merge", "--no-edit", "other", fails=True)
    twins.git("checkout", "--theirs", "data/both")
    twins.git("add", "data/both", "data/deleted")
    twins.git("commit", "--quiet", "--no-edit")
    twins.git("reset", "--quiet", "--hard", "HEAD~1")
    twins.git("rebase", "other", fails=True)
    twins.git("rebase", "--abort")
    twins.git("rebase", "-X", "theirs", "other", fails=True)
    twins.git("rm", "--quiet", "data/deleted")
    twins.git("-c", "core.editor=true", "rebase", "--continue")


def test_worktrees_links_and_kinds_that_change(twins: Twins, tmp_path: Path) -> None:
    twins.write("data/sub/one", LARGE)
    twins.write("data/sub/.gitignore", b"*.tmp\n")
    twins.git("add", "data")
    twins.git("commit", "--quiet", "-m", "one")
    twins.link("data/first", "sub/one")
    twins.git("commit", "--quiet", "-a", "-m", "a link now")
    for clone in (twins.ours, twins.twin):
        clone.git("worktree", "add", "--quiet", clone.home / "beside", "HEAD~1")
    beside = Twins(
        twins.ours.at(twins.ours.home / "beside"), twins.twin.at(twins.twin.home / "beside")
    )
    beside.check("git worktree add")
    beside.write("data/first", b"changed in the other work tree")
    beside.git("commit", "--quiet", "-a", "-m", "beside")
    twins.check("a commit beside it")
    twins.git("switch", "--quiet", "--detach", "HEAD~2")
    twins.git("switch", "--quiet", "main")


VERBS = ("write", "write", "delete", "commit", "commit", "stash", "pop", "switch", "merge", "reset")


@pytest.mark.parametrize("seed", range(2))
def test_a_random_walk_over_two_branches(twins: Twins, seed: int) -> None:
    chance = random.Random(seed)
    twins.git("branch", "other")
    names = [f"data/{number}" for number in range(4)]
    for step in range(30):
        verb = chance.choice(VERBS)
        present = [name for name in names if (twins.twin.top / name).exists()]
        if verb == "write":
            size = chance.choice((1, 100, 50_000, 600_000))
            twins.write(chance.choice(names), b"\0" + chance.randbytes(size))
            twins.check(step)
        elif verb == "delete" and present:
            twins.delete(chance.choice(present))
            twins.check(step)
        elif verb == "commit":
            twins.git("add", "data")
            twins.git("commit", "--quiet", "--allow-empty", "-m", f"step {step}")
        elif verb in ("stash", "pop"):
            twins.git("stash", *(["pop"] if verb == "pop" else []), may_fail=True)
            twins.git("reset", "--quiet", "--hard")
        elif verb == "switch":
            twins.git("switch", "--quiet", chance.choice(("main", "other")), may_fail=True)
        elif verb == "merge":
            twins.git("merge", "--no-edit", chance.choice(("main", "other")), may_fail=True)
            twins.git("reset", "--quiet", "--hard")
        elif verb == "reset":
            twins.git("reset", "--quiet", "--hard", "HEAD~0")
