"""Verification: what `verify` works with, and what it knows of a remote when it has looked."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from store.git import Commit
from store.ids import GitId, PackName
from store.local_store import LocalStore
from store.manifests import Manifest
from store.remote import Remote
from store.verify_findings import Findings
from store.verify_objects import IndexLook, Inventory
from store.verify_packs import PackCheck
from store.verify_places import PlaceBook
from store.verify_walk import TreeLook


@dataclass(frozen=True, slots=True)
class VerifyContext:
    """What a verification works with. With `read` every byte is fetched and hashed; with
    `every_manifest` the commits are joined by all others that have a manifest."""

    repository: str
    remote: Remote
    local: LocalStore
    book: PlaceBook
    read: bool
    every_manifest: bool
    timeout_seconds: float


@dataclass(slots=True)
class CommitLook:
    """What was seen of one commit. `manifests` are in the order of the inventory, None for one
    that is damaged; `tree` is None where git cannot give it, and `git_is_damaged` says that it
    cannot give all below."""

    commit: Commit
    manifests: list[Manifest | None] = field(default_factory=list)
    tree: TreeLook | None = None
    hurt: bool = False
    git_is_damaged: bool = False

    @property
    def manifest(self) -> Manifest | None:
        """The newest that can be used."""
        return next((manifest for manifest in self.manifests if manifest is not None), None)


@dataclass(slots=True)
class Verification:
    """What was found in a remote, and what it was found from. `unknown` are the commits that have a
    manifest there and are not in this clone."""

    findings: Findings
    commits: list[CommitLook]
    inventory: Inventory
    index: IndexLook = field(default_factory=IndexLook)
    checks: dict[PackName, PackCheck] = field(default_factory=dict)
    unknown: dict[GitId, list[Manifest | None]] = field(default_factory=dict)
    files: int = 0

    @property
    def needed_indexes(self) -> frozenset[str]:
        """The index objects that the manifests in use name."""
        return frozenset(name for manifest in self._manifests() for name in manifest.indexes)

    @property
    def named_packs(self) -> set[PackName]:
        """The packs that the manifests in use name."""
        return {name for manifest in self._manifests() for name in manifest.packs}

    def _manifests(self) -> Iterable[Manifest]:
        for look in self.commits:
            if look.manifest is not None:
                yield look.manifest
        for manifests in self.unknown.values():
            yield from [manifest for manifest in manifests if manifest is not None][:1]
