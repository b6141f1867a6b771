"""RefNames: what goes by which name in a mount of all revisions, asked of git when it has moved.

branches/feature/x   refs/heads/feature/x
remotes/origin/main  refs/remotes/origin/main
tags/v1              refs/tags/v1
commits/<id>         the newest commits of all of them; any other one by `find_commit`
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union

import trio

from store.concurrency import GIT_READS
from store.directories import refusal_of_name
from store.errors import RepositoryGone, StoreError
from store.git import GitRepository
from store.git_refs import Ref, Stamp, Tip, load_stamp
from vfs.attributes import MOVING_SECONDS

log = logging.getLogger(__name__)

RECENT_COMMITS = 300
COMMITS = b"commits"
_FOLDERS = {b"refs/heads/": b"branches", b"refs/remotes/": b"remotes", b"refs/tags/": b"tags"}

Names = Mapping[bytes, Union[Tip, "Names"]]
"""What each name of a folder stands for: a commit, or a folder of more names."""

Path = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All names as they were at one moment; `time_seconds` is the newest commit's."""

    names: Names
    time_seconds: int

    def folder(self, path: Path) -> Names:
        """The names in a folder; none where there is no such folder (any more)."""
        found: Tip | Names | None = self.names
        for part in path:
            found = None if found is None or isinstance(found, Tip) else found.get(part)
        return {} if found is None or isinstance(found, Tip) else found


def plan_names(refs: Iterable[Ref], recent: Iterable[Tip]) -> Snapshot:
    """The folders of names that these refs and commits make. A name that no folder can hold is left
    out."""
    folders: dict[bytes, dict[bytes, object]] = {name: {} for name in _FOLDERS.values()}
    latest = 0
    # In order of name, so that a ref inside what is a ref itself (which git does not make) is last.
    for ref in sorted(refs):
        latest = max(latest, ref.tip.time_seconds)
        for prefix, folder in _FOLDERS.items():
            if ref.name.startswith(prefix):
                _place(folders[folder], ref.name.removeprefix(prefix).split(b"/"), ref.tip)
    commits = {tip.commit.encode(): tip for tip in recent}
    return Snapshot({**folders, COMMITS: commits}, latest)  # type: ignore[dict-item]


def _place(folder: dict[bytes, object], parts: list[bytes], tip: Tip) -> None:
    if any(refusal_of_name(part) for part in parts):
        return
    for part in parts[:-1]:
        below = folder.setdefault(part, {})
        if not isinstance(below, dict):
            return
        folder = below
    folder.setdefault(parts[-1], tip)


class RefNames:
    """The names of one repository. Belongs to one trio loop."""

    def __init__(self, repository: GitRepository) -> None:
        """Asks git at once. Raises GitError."""
        self._repository = repository
        self._stamp: Stamp = ()
        self._snapshot = Snapshot({}, 0)
        self._refresh()
        self._looked = -math.inf
        self._looking = trio.Lock()

    def get(self) -> Snapshot | None:
        """The names as they were up to half a second ago, if they were asked for since."""
        return self._snapshot if self._is_fresh() else None

    async def load(self) -> Snapshot:
        """The names of now, or of up to half a second ago. Where git cannot say, the last it
        said."""
        if self._is_fresh():
            return self._snapshot
        async with self._looking:
            if not self._is_fresh():
                await self._look()
        return self._snapshot

    async def find_commit(self, prefix: bytes) -> Tip | None:
        """The commit of that id, or the only one whose id begins so. Raises RepositoryGone."""
        text = prefix.decode("ascii", "replace")
        find = self._repository.refs.find_commit
        return await trio.to_thread.run_sync(find, text, limiter=GIT_READS)

    def _is_fresh(self) -> bool:
        return trio.current_time() - self._looked < MOVING_SECONDS

    async def _look(self) -> None:
        try:
            await trio.to_thread.run_sync(self._refresh, limiter=GIT_READS)
        except RepositoryGone as error:
            log.debug("names stay as they were: %s", error)
        except StoreError as error:
            log.warning("names stay as they were: %s", error)
        self._looked = trio.current_time()

    def _refresh(self) -> None:
        # Before the refs are read: what moves meanwhile is seen the next time.
        stamp = load_stamp(self._repository.paths)
        if stamp != self._stamp:
            refs = self._repository.refs.load_all()
            recent = self._repository.refs.load_recent((ref.tip for ref in refs), RECENT_COMMITS)
            self._snapshot = plan_names(refs, recent)
            self._stamp = stamp
