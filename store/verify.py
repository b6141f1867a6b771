"""`verify` of a remote: commit → tree → pointer → list → chunk → pack, for every file of commits.

What a file hurts by is found from both ends: the objects of the remote are checked one by one, and
every chunk of every file is looked for in what proved to be sound.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import trio

from store.concurrency import TABLE_WRITES, run_all
from store.directory_loader import DirectoryLoader
from store.errors import GitError, StoreError
from store.git import Commit
from store.ids import PackName
from store.local_chunks import LocalChunks
from store.packs import PackEntry, PackTable
from store.progress import ByteProgress
from store.remote import index_key
from store.verification import CommitLook, Verification, VerifyContext
from store.verify_blame import Blame
from store.verify_findings import Findings
from store.verify_lists import ListReader
from store.verify_objects import Inventory, ObjectReader
from store.verify_packs import Claim, PackCheck, PackChecker
from store.verify_walk import CommitWalk

_TAILS_AT_ONCE = 16
# Each holds a run of some megabytes.
_READS_AT_ONCE = 4


async def verify_remote(
    context: VerifyContext, commits: Sequence[Commit], progress: ByteProgress
) -> Verification:
    """Look at every file of the commits, and at all of the remote that they need. `progress` is
    told of packs and files, and of the bytes that were read.

    Raises StoreError where the remote cannot be asked; what is wrong with its objects is found,
    not raised.
    """
    return await _Verifier(context, progress).run(commits)


class _Verifier:
    """One run of `verify_remote`."""

    def __init__(self, context: VerifyContext, progress: ByteProgress) -> None:
        self._context = context
        self._progress = progress
        self._findings = Findings()
        self._objects = ObjectReader(
            context.remote,
            context.repository,
            self._findings,
            progress,
            context.timeout_seconds,
        )

    @property
    def _directories(self) -> DirectoryLoader:
        return self._context.local.directories

    async def run(self, commits: Sequence[Commit]) -> Verification:
        inventory = await self._objects.take_inventory()
        self._require_data(inventory)
        looks = [CommitLook(commit) for commit in commits]
        found = Verification(self._findings, looks, inventory)
        if self._context.every_manifest:
            self._join_others(found)
        await self._read_manifests(found)
        await self._read_indexes(found)
        await self._check_packs(found, found.named_packs, read=self._context.read)
        if any(look.manifest is None for look in looks):
            self._take_by_size(found)
        self._context.book.finish()
        walk = await self._walk(found)
        if await self._check_those_used(found):
            walk = await self._walk(found)
        await Blame(found, self._context, walk, partial(self._new_walk, found)).run()
        return found

    def _require_data(self, inventory: Inventory) -> None:
        """Refuse a remote that holds nothing at all: there is nothing to verify."""
        if inventory.format or inventory.packs or inventory.indexes or inventory.manifests:
            return
        url = self._context.remote.url
        if self._context.local.load_store_id() is None:
            raise StoreError(f"{url} is empty: nothing was pushed there yet")
        raise StoreError(f"{url} held data when it was last seen, and is empty now: is it mounted?")

    def _join_others(self, found: Verification) -> None:
        """Have all other commits looked at that have a manifest."""
        known = {look.commit.commit for look in found.commits}
        for commit in found.inventory.manifests.keys() - known:
            try:
                tree = self._context.local.repository.resolve(commit).tree
            except GitError:
                found.unknown[commit] = []
            else:
                found.commits.append(CommitLook(Commit(commit, tree)))

    async def _read_manifests(self, found: Verification) -> None:
        ids = [*(look.commit.commit for look in found.commits), *found.unknown]
        manifests = await self._objects.read_manifests(ids, found.inventory)
        for look in found.commits:
            look.manifests = manifests.get(look.commit.commit, [])
        for commit in found.unknown:
            found.unknown[commit] = manifests.get(commit, [])

    async def _read_indexes(self, found: Verification) -> None:
        """Those that the manifests name; all, where that is not enough to know every pack."""
        needed = found.needed_indexes
        book = self._context.book
        await self._objects.read_indexes(needed, needed, found.index, book)
        is_enough = all(look.manifest is not None for look in found.commits)
        if not is_enough or found.named_packs - found.index.claims.keys():
            rest = found.inventory.indexes - needed
            await self._objects.read_indexes(rest, needed, found.index, book)
        if found.named_packs - found.index.claims.keys():
            for name in found.index.missing & needed:
                self._findings.add(index_key(name), "is missing")

    async def _check_packs(
        self, found: Verification, names: Iterable[PackName], *, read: bool
    ) -> None:
        checker = PackChecker(
            self._context.remote,
            found.inventory.packs,
            read=read,
            timeout_seconds=self._context.timeout_seconds,
            progress=self._progress,
        )
        calls = [partial(self._check_pack, found, checker, name) for name in sorted(names)]
        await run_all(calls, at_once=_READS_AT_ONCE if read else _TAILS_AT_ONCE)

    async def _check_pack(self, found: Verification, checker: PackChecker, name: PackName) -> None:
        claim, table = self._load_claim(found, name)
        check = await checker.check(name, claim, table)
        if check.problem is not None:
            self._findings.add(check.key, check.problem)
        await trio.to_thread.run_sync(self._note, check, limiter=TABLE_WRITES)
        # All tables of a large remote are too much to hold; this one is in the book.
        found.checks[name] = replace(check, table=None)

    def _note(self, check: PackCheck) -> None:
        book = self._context.book
        if check.claim is None and check.table is not None:
            book.keep_tables([(check.name, check.table)])
        book.add(check.name, check.entries())

    def _load_claim(
        self, found: Verification, name: PackName
    ) -> tuple[Claim | None, PackTable | None]:
        claim = found.index.claims.get(name)
        return claim, None if claim is None else self._context.book.load_table(name)

    def _take_by_size(self, found: Verification) -> None:
        """Take packs that no manifest names for sound where they have the size that they should:
        which of them a commit without a manifest needs is seen by that."""
        for name, claim in found.index.claims.items():
            if name not in found.checks and found.inventory.packs.get(name) == claim.size:
                table = self._context.book.load_table(name)
                entries: list[tuple[PackEntry, bool]] = [(entry, True) for entry in table or ()]
                self._context.book.add(name, entries)

    async def _check_those_used(self, found: Verification) -> bool:
        """Check the packs that were only taken for sound and turn out to be needed; whether any of
        them is not."""
        used: set[PackName] = set()
        for look in found.commits:
            if look.tree is not None:
                used |= look.tree.packs
        await self._check_packs(found, used - found.checks.keys(), read=self._context.read)
        self._context.book.finish()
        return any(found.checks[name].bad for name in used)

    async def _walk(self, found: Verification) -> CommitWalk:
        walk = self._new_walk(found, None)
        for look in found.commits:
            try:
                look.tree = await walk.look_at(look.commit.tree)
            except GitError as error:
                self._findings.add(f"git commit {look.commit.commit}", str(error))
        return walk

    def _new_walk(self, found: Verification, allowed: frozenset[PackName] | None) -> CommitWalk:
        context = self._context
        lists = ListReader(
            LocalChunks(context.local),
            context.remote,
            found.inventory.packs,
            context.timeout_seconds,
        )
        return CommitWalk(self._directories, lists, context.book, self._progress, allowed)
