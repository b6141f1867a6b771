"""Whom each finding of `verify` hurts: the files by the object that should have their bytes, the
commits by their manifests."""

from collections.abc import Callable, Iterator

from store.ids import PackName
from store.manifests import Manifest, manifest_key
from store.remote import FORMAT_KEY, index_key, manifests_prefix, pack_key
from store.shown_names import escape_name
from store.verification import CommitLook, Verification, VerifyContext
from store.verify_findings import Finding
from store.verify_walk import CommitWalk, Hurt, TreeLook

NewWalk = Callable[[frozenset[PackName]], CommitWalk]

NOT_PUSHED = "is not there, and neither is all its data: the commit is not pushed"
NO_MANIFEST = "is not there, though all its data is: it was deleted, or never pushed"
LOST_MANIFEST = "is missing: it was there when this machine last looked"


class Blame:
    """Goes over the commits of a verification, once all was looked at."""

    def __init__(
        self, found: Verification, context: VerifyContext, walk: CommitWalk, new_walk: NewWalk
    ) -> None:
        """`new_walk` makes one that counts places in some packs only."""
        self._found = found
        self._context = context
        self._walk = walk
        self._new_walk = new_walk
        # The last one, since many commits in a row have the same packs.
        self._exact: tuple[frozenset[PackName], CommitWalk] | None = None

    async def run(self) -> None:
        """Tell the findings which files and commits they hurt, and find what only a commit as a
        whole shows. Raises RemoteError."""
        for look in self._found.commits:
            if look.tree is None:
                look.hurt = True
                continue
            self._found.files += look.tree.files
            self._blame_format(look, look.tree)
            self._blame_manifests(look, look.tree)
            await self._blame_objects(look, look.tree)
        for manifests in self._found.unknown.values():
            for manifest in manifests:
                self._blame_unknown(manifest)

    def _blame_format(self, look: CommitLook, tree: TreeLook) -> None:
        finding = self._found.findings.get(FORMAT_KEY)
        if finding is not None:
            finding.hurts_all(look.commit, tree.files)
            look.hurt = True

    def _blame_manifests(self, look: CommitLook, tree: TreeLook) -> None:
        """A commit without a manifest can be read for now, but nothing keeps its data."""
        for number, manifest in enumerate(look.manifests):
            finding = None
            if manifest is None:
                finding = self._found.findings.get(self._manifest_key(look, number))
            if finding is not None and look.manifest is None:
                finding.hurts_all(look.commit, tree.files)
            elif finding is not None:
                finding.commits.add(look.commit.commit)
        if look.manifest is None:
            look.hurt = True
        if not look.manifests:
            finding = self._found.findings.add(self._place_of(look), self._why_none(look, tree))
            finding.hurts_all(look.commit, tree.files)

    def _why_none(self, look: CommitLook, tree: TreeLook) -> str:
        if self._context.local.knows_commit(look.commit.commit):
            return LOST_MANIFEST
        return NOT_PUSHED if tree.is_hurt else NO_MANIFEST

    async def _blame_objects(self, look: CommitLook, tree: TreeLook) -> None:
        walk = self._walk
        if look.manifest is not None and not tree.packs <= set(look.manifest.packs):
            walk = await self._exact_walk(look, frozenset(look.manifest.packs))
        for path, hurt in walk.hurt_files(look.commit.tree):
            look.hurt = True
            look.git_is_damaged |= bool(hurt.cause)
            finding = self._finding_of(hurt, look, path)
            if finding is not None:
                finding.hurts(look.commit.commit, path, hurt.content)
        if look.manifest is not None:
            for finding in self._findings_on(look.manifest):
                finding.commits.add(look.commit.commit)

    async def _exact_walk(self, look: CommitLook, allowed: frozenset[PackName]) -> CommitWalk:
        """A walk by the packs alone that the commit's manifest names: nothing keeps the others."""
        if self._exact is None or self._exact[0] != allowed:
            self._exact = allowed, self._new_walk(allowed)
        walk = self._exact[1]
        await walk.look_at(look.commit.tree)
        return walk

    def _finding_of(self, hurt: Hurt, look: CommitLook, path: bytes) -> Finding | None:
        """What hurts a file of a commit; None where the commit was never pushed."""
        findings, manifest = self._found.findings, look.manifest
        if hurt.cause:
            return findings.add(f"git folder {escape_name(path)}", f"cannot be read: {hurt.cause}")
        finding = None if hurt.pack is None else findings.get(pack_key(hurt.pack))
        if finding is not None:
            return finding
        if hurt.is_list and hurt.pack is not None:
            return findings.add(pack_key(hurt.pack), "has a damaged chunk list")
        if manifest is None:
            return None
        others = list(self._findings_on(manifest))
        if others:
            return others[0]
        pack = hurt.pack
        if pack is not None and pack in manifest.packs and pack not in self._found.index.claims:
            return findings.add(pack_key(pack), "is in no index object")
        number = look.manifests.index(manifest)
        problem = "is incomplete: it names no pack that has the data of these files"
        return findings.add(self._manifest_key(look, number), problem)

    def _findings_on(self, manifest: Manifest) -> Iterator[Finding]:
        """The findings on what a manifest names: index objects first, since without one nobody
        knows what should be in their packs."""
        for key in (*map(index_key, manifest.indexes), *map(pack_key, manifest.packs)):
            finding = self._found.findings.get(key)
            if finding is not None:
                yield finding

    def _blame_unknown(self, manifest: Manifest | None) -> None:
        if manifest is not None:
            for finding in self._findings_on(manifest):
                finding.commits.add(manifest.commit)

    def _place_of(self, look: CommitLook) -> str:
        return manifests_prefix(self._context.repository, look.commit.commit)

    def _manifest_key(self, look: CommitLook, number: int) -> str:
        commit = look.commit.commit
        ulid = self._found.inventory.manifests[commit][number]
        return manifest_key(self._context.repository, commit, ulid)
