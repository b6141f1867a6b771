"""Undoing: what a collector has forgotten of this repository, and the trash still has, comes back.

A commit is brought back by pushing it once more, from what the remote still holds: packs that were
condemned meanwhile are copied from, and not named again. Then its manifests in the trash go.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from store.errors import StoreError
from store.git import Commit, GitRepository
from store.ids import GitId
from store.leases import HeldLease
from store.manifests import parse_manifest_key
from store.progress import ByteProgress
from store.push import ProgressTo, PushContext, PushSummary, plan_push
from store.remote import TRASH_PREFIX, restored_key


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """The commits that come back, parents first, and the keys of each in the trash; `unknown` are
    those that this clone does not have."""

    commits: tuple[Commit, ...]
    keys: Mapping[GitId, Sequence[str]]
    unknown: tuple[GitId, ...]

    async def execute(
        self, context: PushContext, progress: ByteProgress, progress_to: ProgressTo
    ) -> PushSummary:
        """Do it. Raises LostChunk where something of a commit is gone for good."""
        plan = await plan_push(context, self.commits, progress)
        keys = [key for commit in self.commits for key in self.keys[commit.commit]]

        async def empty_trash(lease: HeldLease) -> None:
            await lease.delete_all(keys, context.timeout_seconds)

        return await plan.execute(progress_to, empty_trash)


async def plan_undo(
    context: PushContext, repository: GitRepository, wanted: Collection[GitId] | None = None
) -> UndoPlan:
    """What of this repository is in the trash; of `wanted` commits alone, if given. Raises
    StoreError for one of those that is not there."""
    prefix = f"{TRASH_PREFIX}{context.repository}/"
    listed = await context.remote.list_objects(prefix, timeout_seconds=context.timeout_seconds)
    keys: dict[GitId, list[str]] = {}
    for info in listed:
        parsed = parse_manifest_key(restored_key(info.key))
        if parsed is not None and (wanted is None or parsed[1] in wanted):
            keys.setdefault(parsed[1], []).append(info.key)
    for commit in wanted or ():
        if commit not in keys:
            raise StoreError(f"nothing of commit {commit[:12]} was forgotten, or it is too late")
    known = [commit for commit in keys if repository.refs.find_commit(commit) is not None]
    order = [commit for commit in repository.history(known) if commit.commit in keys]
    return UndoPlan(tuple(order), keys, tuple(sorted(keys.keys() - set(known))))
