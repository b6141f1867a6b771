"""The commands that are killed. One more is one more entry of COMMANDS."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kills.world import World, files_below


def _nothing(world: World) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """What is run (`words`, in which REVFS is the installed command), what has to be so before, and
    what must be so when it has run to its end, after a kill of it. One that `serves` goes on until
    it is ended, with readers at the mountpoint."""

    name: str
    words: Callable[[World], list[str]]
    prepare: Callable[[World], None] = _nothing
    after: Callable[[World], None] = _nothing
    serves: bool = False


def _fixed(*words: str) -> Callable[[World], list[str]]:
    return lambda world: [world.revfs if word == "REVFS" else word for word in words]


def _change(world: World) -> None:
    world.change()


def _commit_what_was_added(world: World) -> None:
    world.repository.git("commit", "--quiet", "--allow-empty", "-m", "added")
    world.know_head()


def _change_and_commit(world: World) -> None:
    world.change()
    world.commit()


def _forget_cache(world: World) -> None:
    for name in ("packs", "index"):
        shutil.rmtree(world.repository.cache / name, ignore_errors=True)


def _put_pointers(world: World) -> None:
    without = ("-c", "filter.revfs.process=", "-c", "filter.revfs.required=false")
    shutil.rmtree(world.top / "data")
    world.repository.git(*without, "checkout", "--force", "HEAD", "--", "data")


def _is_whole(world: World) -> None:
    world.require_work_tree(world.head)
    assert world.repository.git("status", "--porcelain") == ""


def _other_revision(world: World) -> list[str]:
    """The same one for a round, whatever HEAD is by now."""
    commits = sorted(world.revisions)
    number = len(world.written) + len(commits)
    return ["git", "checkout", "--quiet", "--force", commits[number % len(commits)]]


def _return(world: World) -> None:
    _is_whole(world)
    world.repository.git("checkout", "--quiet", "--force", "main")
    _is_whole(world)


def _mount(world: World) -> list[str]:
    return [world.revfs, "mount", "--foreground", world.head, str(world.mountpoint)]


def _export(world: World) -> list[str]:
    return [world.revfs, "export", "HEAD", "data", str(world.folder / "exported")]


def _is_exported(world: World) -> None:
    place: Path = world.folder / "exported"
    found = {f"data/{path.partition('/')[2]}": text for path, text in files_below(place).items()}
    assert found == world.revisions[world.head]
    shutil.rmtree(place)


def _bring_back(world: World) -> None:
    """What was forgotten is not gone: nothing is as old here as what gc deletes."""
    world.repository.revfs("gc", "--undo")


_GC_REMOTE = ("REVFS", "gc", "--remote", "origin", "--keep-commit", "HEAD", "--max-delete", "100%")

COMMANDS = [
    Command("mount", _mount, _forget_cache, serves=True),
    Command("add", _fixed("REVFS", "add", "data"), _change, _commit_what_was_added),
    Command("git add", _fixed("git", "add", "data"), _change, _commit_what_was_added),
    Command(
        "git commit",
        _fixed("git", "commit", "--quiet", "--allow-empty", "-a", "-m", "killed"),
        _change,
        _change_and_commit,
    ),
    Command("git checkout", _other_revision, _forget_cache, _return),
    Command("push", _fixed("REVFS", "push"), _change_and_commit, World.require_pushed),
    Command("fetch", _fixed("REVFS", "fetch"), _forget_cache),
    Command("pull", _fixed("REVFS", "pull"), _put_pointers, _is_whole),
    Command("export", _export, _forget_cache, _is_exported),
    Command("gc", _fixed("REVFS", "gc", "--all", "--grace", "0"), _change_and_commit),
    Command("gc --remote", _fixed(*_GC_REMOTE), _change_and_commit, _bring_back),
]
