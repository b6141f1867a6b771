"""Shown: what a mount shows, of the three kinds of mounts, and what keeps it so while it lasts."""

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol

import trio

from store.concurrency import GIT_READS
from store.directories import FOLDER_KINDS, Kind
from store.errors import CacheUnusable, PathRefused, RepositoryGone, RevisionNotFound, StoreError
from store.git_refs import Stamp, Tip, load_ref_stamp
from store.ids import GitId
from store.local_folders import make_private_folder
from store.local_store import LocalStore
from store.paths import load_path
from vfs.attributes import MOVING_SECONDS
from vfs.inodes import DirectoryNumbers
from vfs.mount_request import MountKind, MountRequest, split_revision
from vfs.named_revisions import NamedRevisions
from vfs.ref_names import RefNames
from vfs.tree import NO_TREE, RevisionTree

log = logging.getLogger(__name__)

Moved = Callable[[GitId], Awaitable[None]]


class Shown(Protocol):
    """What a mount shows. `reading_commit` is the only commit whose data will be read, or None."""

    tree: RevisionTree
    reading_commit: GitId | None

    @property
    def commit(self) -> str:
        """The commit that is shown now; empty where it is not one."""
        ...

    async def keep_up(self, moved: Moved) -> None:
        """Follow what moves, for as long as the mount lasts; `moved` hears of each new commit."""
        ...


class Root(NamedTuple):
    """What a mount of one commit shows: the raw id of a tree, with the time of all of it."""

    commit: GitId
    tree: bytes
    time_seconds: int


def load_root(request: MountRequest, local: LocalStore) -> Root | None:
    """What a mount of one commit will show; None for other kinds, of which it is made sure that
    there is such a thing. Raises StoreError where there is not."""
    if request.kind is not MountKind.REVISION:
        open_shown(request, local)
        return None
    text, path = split_revision(request.revision)
    revision = local.repository.resolve(text)
    tree = _load_root(local, revision.tree, path, text)
    return Root(revision.commit, tree, revision.time_seconds)


def open_shown(
    request: MountRequest,
    local: LocalStore,
    root: Root | None = None,
    numbers: DirectoryNumbers | None = None,
) -> Shown:
    """What was asked for: of one commit `root`, with `numbers` that all processes of the mount
    share. Raises StoreError where there is no such thing."""
    if root is not None:
        return OneRevision(local, root, numbers)
    if request.kind is MountKind.ALL:
        return AllRevisions(local)
    return FollowedRef(local, *split_revision(request.revision))


def will_see_staged(request: MountRequest) -> bool:
    """Whether commits may come whose data is only staged here; then there are folders for it."""
    if request.kind is MountKind.REVISION:
        return False
    try:
        make_private_folder(request.settings.paths.state_dir)
    except CacheUnusable as error:
        log.debug("nothing can be staged, so nothing will be: %s", error)
        return False
    return True


class OneRevision:
    """One commit, or a folder of it."""

    def __init__(self, local: LocalStore, root: Root, numbers: DirectoryNumbers | None) -> None:
        self.tree = RevisionTree(local.directories, root.tree, root.time_seconds, numbers=numbers)
        self.reading_commit: GitId | None = root.commit
        self.commit = root.commit

    async def keep_up(self, moved: Moved) -> None:
        """A commit never moves."""
        await trio.sleep_forever()


class AllRevisions:
    """Every commit of the repository, by branch, tag or id."""

    commit = ""

    def __init__(self, local: LocalStore) -> None:
        self.tree: RevisionTree = NamedRevisions(local.directories, RefNames(local.repository))
        self.reading_commit: GitId | None = None

    async def keep_up(self, moved: Moved) -> None:
        """Names are looked after when somebody looks at them."""
        await trio.sleep_forever()


class FollowedRef:
    """The commit of a ref, or a folder of it, as the ref moves."""

    def __init__(self, local: LocalStore, text: str, path: str) -> None:
        self._local = local
        self._text = text
        self._path = path
        # The ref, and those that it points to by name.
        self._chain = local.repository.refs.resolve_name(text)
        self._stamp: Stamp = load_ref_stamp(local.repository.paths, self._chain)
        tip = local.repository.refs.load_ref(self._chain[0])
        if tip is None:
            raise RevisionNotFound(f"{text} leads to no commit yet; mount it when it has one")
        self._tip = tip
        # Said once until it is whole again: that the ref or its folder is gone.
        self._is_lost = False
        root = _load_root(local, tip.tree, path, text)
        self.tree = RevisionTree(local.directories, root, tip.time_seconds, moves=True)
        self.reading_commit: GitId | None = None

    @property
    def commit(self) -> str:
        """The commit that is shown now."""
        return self._tip.commit

    async def keep_up(self, moved: Moved) -> None:
        """Move when the ref moves; stay where it was last while it leads nowhere."""
        await moved(self._tip.commit)
        while True:
            await trio.sleep(MOVING_SECONDS)
            try:
                if await self._follow():
                    await moved(self._tip.commit)
            except RepositoryGone as error:
                log.debug("%s stays where it was: %s", self._text, error)
            except StoreError as error:
                self._say_lost(str(error))
            except Exception:
                # The mount must not end because it cannot move.
                log.exception("following %s failed as it should not", self._text)

    async def _follow(self) -> bool:
        """Look where the ref is, and go there; whether the commit is another one."""
        load_stamp = partial(load_ref_stamp, self._local.repository.paths, self._chain)
        stamp = await trio.to_thread.run_sync(load_stamp, limiter=GIT_READS)
        if stamp == self._stamp:
            return False
        tip, root = await trio.to_thread.run_sync(self._load, limiter=GIT_READS)
        self._stamp = stamp
        if tip is None:
            self._say_lost(f"{self._text} is gone, or leads to no commit")
            return False
        self._is_lost = False
        if tip.commit == self._tip.commit:
            return False
        self.tree.move_to(root, tip.time_seconds)
        log.info("%s moved from %s to %s", self._text, self._tip.commit, tip.commit)
        self._tip = tip
        return True

    def _load(self) -> tuple[Tip | None, bytes]:
        refs = self._local.repository.refs
        tip = refs.load_ref(self._chain[0])
        if tip is None:
            return None, NO_TREE
        self._chain = refs.load_chain(self._chain[0])
        return tip, _load_root(self._local, tip.tree, self._path, self._text)

    def _say_lost(self, words: str) -> None:
        if not self._is_lost:
            log.warning("%s; the mount stays at %s until it is back", words, self._tip.commit)
        self._is_lost = True


def _load_root(local: LocalStore, tree: bytes, path: str, text: str) -> bytes:
    """The tree at a path of a root tree. Raises PathNotFound, and PathRefused for what is no
    folder."""
    entry = load_path(local.directories, tree, os.fsencode(path)).entry
    if entry.kind not in FOLDER_KINDS:
        raise PathRefused(f"{path} is not a folder in {text}; revfs cat {text}:{path} writes it")
    return entry.tree if entry.kind == Kind.FOLDER else NO_TREE
