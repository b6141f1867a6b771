"""Git's own verbs on tracked files give what they give on the files themselves."""

import random
from pathlib import Path

import pytest

from tests.git.twins import Twins, make_twins


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    made = make_twins(tmp_path)
    assert made.commit_ids_differ()
    return made


def test_commit_switch_and_stash(twins: Twins) -> None:
    twins.git("switch", "--quiet", "-c", "other")
    twins.write("data/first", b"\0changed" * 1000)
    twins.write("data/large", random.Random(1).randbytes(3_000_000))
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
    twins.git("cherry-pick", "other@{1}", fails=True)
