"""Random work with git over staged data, and what git can come back to after it, told by asking git
for each commit, index and record one by one.

    python -m tests.store.git_walks [SEEDS [STEPS]]

runs the walk of the tests for many seeds.
"""

import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from store.errors import GitError
from store.git_blobs import blob_id
from store.git_command import find_repository
from store.ids import PackName
from store.local_gc_staged import plan_staged
from store.local_store import LocalStore
from store.store_settings import StoreSettings
from tests.fakes.repositories import REPOSITORY_ID, TIMEOUT_SECONDS, Repository, make_repository
from tests.fakes.staged_files import StagedFiles

_PATHS = ("a", "b", "folder/c", "folder/d")
_RECORDS = ("ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD")


class Walk:
    """A repository with two worktrees, its staged files, and a random hand at work in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.repository = make_repository(folder / "repository")
        self.repository.git("config", "gc.auto", "0")
        linked = Repository(folder / "linked")
        self.repository.git("worktree", "add", "--quiet", "-b", "linked", str(linked.top))
        self.worktrees = [self.repository, linked]
        paths = find_repository(self.repository.top)
        settings = StoreSettings(
            paths, REPOSITORY_ID, None, folder / "cache", None, TIMEOUT_SECONDS
        )
        self.local = LocalStore(settings, to_write=True, holds=False)
        self.staged = StagedFiles(self.local)
        self.steps: list[str] = []
        self.dropped: set[PackName] = set()

    def step(self) -> None:
        """Do one thing; what git refuses is left as it is."""
        work = self.rng.choice(_WORK)
        here = self.rng.choice(self.worktrees)
        self.steps.append(f"{work.__name__} in {here.top.name}")
        self.clean(here)
        with suppress(GitError):
            work(self, here)

    def clean(self, here: Repository) -> None:
        """Stage what stands in a work tree and is not staged any more, as the filter would before
        git takes it up again."""
        for path in _PATHS:
            with suppress(OSError):
                text = (here.top / path).read_bytes()
                if (
                    text in self.staged.contents
                    and not self.staged.packs[text] <= self.staged.names()
                ):
                    self.staged.stage(self.staged.contents[text])

    def collect(self) -> None:
        """Drop what nothing needs, and see that this was all of that, and nothing else."""
        before = self.staged.names()
        wanted = self.reachable_texts()
        needed = {pack for text in wanted for pack in self.staged.packs[text]} & before
        plan = trio.run(
            partial(
                plan_staged,
                self.local,
                self._no_lists,
                # As if it were tomorrow: none of the packs is young.
                now_seconds=time.time() + 86400,
                grace_seconds=0,
            )
        )
        assert plan.refusal is None, (plan.refusal, self.steps)
        self.dropped |= {pack.name for pack in plan.execute(self.local)}
        left = self.staged.names()
        assert needed <= left, ("lost", needed - left, self.steps)
        assert left <= needed, ("kept", left - needed, self.steps)
        for text in wanted:
            assert self.staged.read(text) == self.staged.contents[text], self.steps

    @staticmethod
    async def _no_lists(pointers: object, _: object) -> list[object]:
        raise AssertionError(f"all lists are here: {pointers}")

    def reachable_texts(self) -> set[bytes]:
        """The pointer texts that some commit, index or record still leads to."""
        found: set[str] = set()
        for here in self.worktrees:
            commits = here.git("rev-list", "--all", "HEAD").decode().split()
            commits += here.git("log", "--walk-reflogs", "--all", "--format=%H").decode().split()
            commits += self._recorded(here)
            every = here.git("rev-list", "--stdin", stdin="\n".join(commits).encode())
            for commit in set(every.decode().split()):
                found |= self._blobs(here, "ls-tree", "-r", commit)
            found |= self._blobs(here, "ls-files", "--stage")
            found |= self._resolve_undo(here)
            with suppress(GitError):
                found |= self._blobs(here, "ls-tree", "-r", "AUTO_MERGE")
        return {text for text in self.staged.contents if self._blob_of(text) in found}

    def _recorded(self, here: Repository) -> list[str]:
        git_dir = Path(here.git("rev-parse", "--absolute-git-dir").decode().strip())
        commits = []
        for record in _RECORDS:
            with suppress(GitError):
                name = here.git("rev-parse", "--verify", "--quiet", f"{record}^{{commit}}")
                commits.append(name.decode().strip())
        # Of a reflog git log shows where each step led to, not from where the first came.
        for record in (*git_dir.glob("rebase-merge/*"), *git_dir.glob("logs/**/*")):
            words = re.findall(r"\b[0-9a-f]{40}\b", record.read_text()) if record.is_file() else ()
            for word in set(words):
                with suppress(GitError):
                    name = here.git("rev-parse", "--verify", "--quiet", f"{word}^{{commit}}")
                    commits.append(name.decode().strip())
        return commits

    def _blobs(self, here: Repository, *command: str) -> set[str]:
        return set(re.findall(r"\b[0-9a-f]{40}\b", here.git(*command).decode()))

    def _resolve_undo(self, here: Repository) -> set[str]:
        return self._blobs(here, "ls-files", "--resolve-undo")

    def _blob_of(self, text: bytes) -> str:
        return blob_id(text).hex()


def write(walk: Walk, here: Repository) -> None:
    size = walk.rng.choice((50, 900, 1700, 2600))
    text = walk.staged.stage(walk.rng.randbytes(size))
    here.write(walk.rng.choice(_PATHS), text)


def write_and_add(walk: Walk, here: Repository) -> None:
    write(walk, here)
    here.git("add", "--all")


def commit(walk: Walk, here: Repository) -> None:
    write_and_add(walk, here)
    here.git("commit", "--quiet", "--message", "work")


def amend(walk: Walk, here: Repository) -> None:
    write_and_add(walk, here)
    here.git("commit", "--quiet", "--amend", "--message", "better")


def stash(walk: Walk, here: Repository) -> None:
    write(walk, here)
    here.git("stash", *walk.rng.choice(((), ("--include-untracked",), ("--keep-index",))))


def pop_stash(walk: Walk, here: Repository) -> None:
    here.git("stash", walk.rng.choice(("pop", "drop", "apply")))


def reset(walk: Walk, here: Repository) -> None:
    here.git("reset", "--quiet", walk.rng.choice(("--hard", "--mixed", "--soft")), "HEAD~1")


def clean_up(walk: Walk, here: Repository) -> None:
    here.git("reset", "--quiet", "--hard")
    here.git("clean", "--quiet", "-fd")


def branch_off(walk: Walk, here: Repository) -> None:
    here.git("checkout", "--quiet", "-b", f"topic-{len(walk.steps)}")


def switch(walk: Walk, here: Repository) -> None:
    detached = walk.rng.choice(((), ("--detach",)))
    here.git("checkout", "--quiet", "--force", *detached, other_branch(walk, here))


def other_branch(walk: Walk, here: Repository) -> str:
    names = here.git("for-each-ref", "--format=%(refname:short)", "refs/heads").decode().split()
    return walk.rng.choice(names or ["HEAD"])


def delete_branch(walk: Walk, here: Repository) -> None:
    here.git("branch", "--quiet", "-D", other_branch(walk, here))


def merge(walk: Walk, here: Repository) -> None:
    here.git("merge", "--quiet", "--no-edit", other_branch(walk, here))


def rebase(walk: Walk, here: Repository) -> None:
    here.git("rebase", "--quiet", "--autostash", other_branch(walk, here))


def pick(walk: Walk, here: Repository) -> None:
    here.git("cherry-pick", other_branch(walk, here))


def settle(walk: Walk, here: Repository) -> None:
    verb = walk.rng.choice(("merge", "rebase", "cherry-pick"))
    if walk.rng.random() < 0.5:
        here.git(verb, "--abort")
    else:
        here.git("add", "--all")
        here.git("-c", "core.editor=true", verb, "--continue")


def tag(walk: Walk, here: Repository) -> None:
    here.git("tag", "--force", walk.rng.choice(("one", "two")), other_branch(walk, here))


def forget_reflogs(walk: Walk, here: Repository) -> None:
    here.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")


def collect_objects(walk: Walk, here: Repository) -> None:
    here.git("gc", "--quiet", walk.rng.choice(("--prune=now", "--no-prune")))


_WORK: list[Callable[[Walk, Repository], None]] = [
    *(write_and_add, commit, commit, amend, stash, pop_stash, reset, clean_up, branch_off),
    *(switch, delete_branch, merge, rebase, pick, settle, settle, tag, forget_reflogs),
    collect_objects,
]


@contextmanager
def walking(folder: Path, seed: int) -> Iterator[Walk]:
    """A walk in a folder of its own."""
    walk = Walk(folder, seed)
    try:
        yield walk
    finally:
        walk.local.close()


def run_walk(folder: Path, seed: int, steps: int) -> tuple[int, int]:
    """Take so many steps, and collect after each few; how many packs were dropped and are left."""
    with walking(folder, seed) as walk:
        for number in range(steps):
            walk.step()
            if walk.rng.random() < 0.2 or number == steps - 1:
                walk.collect()
        with suppress(GitError):
            forget_reflogs(walk, walk.repository)
        walk.collect()
        return len(walk.dropped), len(walk.staged.names())


def main(seeds: int = 100, steps: int = 80) -> None:
    """Walk once for each seed."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            dropped, left = run_walk(Path(folder), seed, steps)
        print(f"seed {seed}: {dropped} packs dropped, {left} left", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
