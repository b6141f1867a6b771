"""The numbers of names: one for each folder, name and commit, for as long as the mount lives."""

import itertools
from typing import NamedTuple

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from store.directories import Directory, Entry, Kind
from store.git_refs import Ref, Tip
from store.ids import GitId
from vfs.attributes import FOR_EVER_SECONDS, MOVING_SECONDS, Attributes
from vfs.filesystem import RevisionFilesystem
from vfs.inodes import ROOT_INODE
from vfs.named_revisions import NamedRevisions
from vfs.ref_names import Snapshot, plan_names

COMMITS = range(3)
# What each branch leads to in turn; a slash is a folder.
states = st.dictionaries(
    st.sampled_from(["main", "feature", "feature/x", "feature/y/z", "other"]),
    st.sampled_from(COMMITS),
)


def tip(number: int) -> Tip:
    return Tip(GitId(f"{number + 0xAB:040x}"), bytes([number + 1]) * 20, 1000 + number)


class Loader:
    """Each commit holds one file, named after it, and one folder."""

    def get(self, tree: bytes) -> Directory:
        file = Entry(b"file-%d" % (tree[0] - 1), Kind.PLAIN, 5, 0, bytes(32))
        folder = Entry(b"folder", Kind.FOLDER, 0, 0, tree + bytes(12))
        return Directory.from_entries([file, folder])


class Item(NamedTuple):
    """One name of a listing."""

    name: bytes
    inode: int
    attributes: Attributes | None
    next_position: int


class Names:
    """The names of a state of the branches, as if git had said so."""

    def __init__(self) -> None:
        self.snapshot = Snapshot({}, 0)

    def move(self, state: dict[str, int]) -> None:
        refs = [Ref(b"refs/heads/" + name.encode(), tip(number)) for name, number in state.items()]
        self.snapshot = plan_names(refs, {tip(number) for number in state.values()})

    def get(self) -> Snapshot:
        return self.snapshot

    async def load(self) -> Snapshot:
        return self.snapshot

    async def find_commit(self, prefix: bytes) -> Tip | None:
        found = [tip(n) for n in COMMITS if tip(n).commit.encode().startswith(prefix)]
        return found[0] if len(found) == 1 else None


class Parts:
    """A file system of names, without a repository."""

    def __init__(self) -> None:
        self.names = Names()
        tree = NamedRevisions(Loader(), self.names)  # type: ignore[arg-type]
        self.filesystem = RevisionFilesystem(tree, None, None, 1.0)  # type: ignore[arg-type]

    async def items(self, inode: int, position: int = 0) -> list[Item]:
        """What is listed from a position on, `.` and `..` with the inode alone."""
        listing = await self.filesystem.list_directory(inode)
        dots = [Item(name, own, None, behind) for name, own, behind in listing.dots[position:]]
        others = listing.items(position, 1000)
        return dots + [Item(name, found.inode, found, behind) for name, found, behind in others]

    async def list(self, inode: int) -> dict[bytes, Item]:
        return {item.name: item for item in await self.items(inode)}

    async def walk(self, inode: int, path: bytes = b"", depth: int = 4) -> dict[bytes, int]:
        """path → inode of all below a node, but for the folder without end in each commit."""
        found: dict[bytes, int] = {}
        for name, item in (await self.list(inode)).items():
            if name in (b".", b".."):
                continue
            below = path + b"/" + name
            found[below] = item.inode
            assert await self.filesystem.lookup(inode, name) == item.attributes
            if item.attributes.mode == 0o040555 and name != b"folder":
                found |= await self.walk(item.inode, below, depth - 1)
        return found


def meaning(path: bytes, state: dict[str, int]) -> tuple[bytes, int | None]:
    """A path, and the commit that it is in; None for folders of names."""
    if path.startswith(b"/commits/"):
        return path, int(path.split(b"/")[2], 16) - 0xAB
    for name, number in state.items():
        if path == b"/branches/" + name.encode() or path.startswith(
            b"/branches/" + name.encode() + b"/"
        ):
            return path, number
    return path, None


def without_conflicts(state: dict[str, int]) -> dict[str, int]:
    """What git would have: no ref inside another."""
    return {
        name: number
        for name, number in state.items()
        if not any(name.startswith(other + "/") for other in state)
    }


@settings(max_examples=60)
@given(st.lists(states, min_size=1, max_size=6))
def test_a_number_means_one_path_in_one_commit_for_ever(history: list[dict[str, int]]) -> None:
    async def run() -> None:
        parts = Parts()
        meanings: dict[int, tuple[bytes, int | None]] = {}
        numbers: dict[tuple[bytes, int | None], int] = {}
        for state in map(without_conflicts, history):
            parts.names.move(state)
            for path, inode in (await parts.walk(ROOT_INODE)).items():
                key = meaning(path, state)
                # Never another's number, and always the same one.
                assert meanings.setdefault(inode, key) == key
                assert numbers.setdefault(key, inode) == inode

    trio.run(run)


@given(st.lists(states, min_size=2, max_size=5))
def test_a_listing_goes_on_from_any_position_whatever_has_moved(
    history: list[dict[str, int]],
) -> None:
    async def run() -> None:
        parts = Parts()
        parts.names.move(without_conflicts(history[0]))
        branches = (await parts.filesystem.lookup(ROOT_INODE, b"branches")).inode
        for before, after in itertools.pairwise(history):
            parts.names.move(without_conflicts(before))
            listed = await parts.items(branches)
            parts.names.move(without_conflicts(after))
            for number, item in enumerate(listed):
                rest = await parts.items(branches, item.next_position)
                # No inode is told twice, and what stays and was not told yet is.
                told = {item.inode for item in listed[: number + 1]}
                assert not told & {item.inode for item in rest}
                now = {i.inode for i in await parts.items(branches)}
                untold = {item.inode for item in listed[number + 1 :]}
                assert untold & now <= {item.inode for item in rest}

    trio.run(run)


async def test_names_hold_for_a_moment_and_what_is_in_a_commit_for_ever() -> None:
    parts = Parts()
    parts.names.move({"main": 1, "feature/x": 2})
    lookup = parts.filesystem.lookup
    branches = await lookup(ROOT_INODE, b"branches")
    main = await lookup(branches.inode, b"main")
    feature = await lookup(branches.inode, b"feature")
    file = await lookup(main.inode, b"file-1")
    moving = [branches, main, feature, await parts.filesystem.load_attributes(ROOT_INODE)]
    assert {found.valid_seconds for found in moving} == {MOVING_SECONDS}
    assert file.valid_seconds == FOR_EVER_SECONDS
    assert (main.time_seconds, file.time_seconds) == (1001, 1001)
    # Folders of names show the time of the newest commit.
    assert (branches.time_seconds, feature.time_seconds) == (1002, 1002)


async def test_the_way_up_leads_through_the_names() -> None:
    parts = Parts()
    parts.names.move({"feature/x": 2})
    inodes = [ROOT_INODE]
    for name in (b"branches", b"feature", b"x", b"folder", b"folder"):
        inodes.append((await parts.filesystem.lookup(inodes[-1], name)).inode)
    for above, inode in itertools.pairwise(inodes):
        assert (await parts.filesystem.lookup(inode, b"..")).inode == above
        assert (await parts.list(inode))[b".."].inode == above
        assert (await parts.list(inode))[b"."].inode == inode


async def test_what_was_open_when_a_name_moved_or_went_is_still_there() -> None:
    parts = Parts()
    parts.names.move({"main": 0, "feature/x": 1})
    lookup = parts.filesystem.lookup
    branches = (await lookup(ROOT_INODE, b"branches")).inode
    main = (await lookup(branches, b"main")).inode
    feature = (await lookup(branches, b"feature")).inode
    parts.names.move({"main": 1})
    assert (await parts.list(main)).keys() == {b".", b"..", b"file-0", b"folder"}
    assert (await parts.list(feature)).keys() == {b".", b".."}
    assert (await parts.filesystem.load_attributes(main)).time_seconds == 1000


async def test_a_commit_goes_by_the_beginning_of_its_id_without_being_listed_so() -> None:
    parts = Parts()
    parts.names.move({"main": 0})
    commits = (await parts.filesystem.lookup(ROOT_INODE, b"commits")).inode
    whole = tip(1).commit.encode()
    found = await parts.filesystem.lookup(commits, whole)
    again = await parts.filesystem.lookup(commits, whole)
    assert found == again
    assert (await parts.list(found.inode)).keys() == {b".", b"..", b"file-1", b"folder"}
    assert (await parts.list(commits)).keys() == {b".", b"..", tip(0).commit.encode()}
