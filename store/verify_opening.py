"""Opening what `verify` of a remote and its repair work with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from store.config import RemoteSettings
from store.copies import (
    Copies,
    FindsCopies,
    LocalCopies,
    RemoteCopies,
    SalvagedCopies,
    WorkTreeCopies,
)
from store.errors import ConfigError
from store.local_chunks import LocalChunks
from store.local_store import LocalSources, LocalStore, identity_of
from store.opening import RemoteParts, WrapRemote, open_remote_parts, unwrapped
from store.push import PushContext
from store.push_contents import TreeContents
from store.verification import Verification, VerifyContext
from store.verify_lists import ListReader
from store.verify_places import open_place_book
from store.verify_repair import RepairContext


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is looked at: every byte (`read`), and all commits that have a manifest
    (`every_manifest`)."""

    read: bool = False
    every_manifest: bool = False


@dataclass(frozen=True, slots=True)
class OpenVerification:
    """A remote opened to be verified, and repaired."""

    context: VerifyContext
    parts: RemoteParts

    def repair_context(
        self, found: Verification, tool: str, others: Sequence[FindsCopies]
    ) -> RepairContext:
        """What a repair works with; `others` are the other remotes. The store must be open to
        write."""
        context, local = self.context, self.context.local
        assert local.staging is not None
        chunking = local.load_chunking()
        if found.inventory.format is not None:
            chunking = found.inventory.format.chunking
        work_tree = WorkTreeCopies(local.settings.paths.work_tree, chunking)
        salvage = SalvagedCopies(context.remote, context.book, context.timeout_seconds)
        kinds: list[FindsCopies] = [LocalCopies(local, context.book), work_tree, salvage, *others]
        assert local.settings.remote is not None
        return RepairContext(
            push=PushContext(
                repository=context.repository,
                tool=tool,
                remote=context.remote,
                catalog=self.parts.catalog,
                staging=local.staging,
                cache=local.cache,
                trees=TreeContents(local.directories, []),
                sources=[],
                itself=salvage,
                timeout_seconds=context.timeout_seconds,
            ),
            book=context.book,
            copies=Copies(kinds),
            salvage=salvage,
            work_tree=work_tree,
            lists=ListReader(
                LocalChunks(local),
                context.remote,
                found.inventory.packs,
                context.timeout_seconds,
                anywhere=True,
            ),
            kept_format=local.index.load_format(identity_of(local.settings.remote)),
        )


@asynccontextmanager
async def open_verification(
    local: LocalStore, options: VerifyOptions, wrap_remote: WrapRemote = unwrapped
) -> AsyncIterator[OpenVerification]:
    """The remote of the local store, ready to be verified while the context lasts."""
    remote, repository = local.settings.remote, local.settings.repository_id
    if remote is None or repository is None:
        raise ConfigError("there is no remote, or the repository has no id yet: run `revfs init`")
    with open_place_book(local.settings.cache_directory) as book:
        async with open_remote_parts(local, remote, wrap_remote) as parts:
            context = VerifyContext(
                repository=repository,
                remote=parts.catalog.remote,
                local=local,
                book=book,
                read=options.read,
                every_manifest=options.every_manifest,
                timeout_seconds=local.settings.timeout_seconds,
            )
            yield OpenVerification(context, parts)


@asynccontextmanager
async def open_other(
    local: LocalStore, remote: RemoteSettings, wrap_remote: WrapRemote = unwrapped
) -> AsyncIterator[RemoteCopies]:
    """Another remote of the repository, for copies, while the context lasts. It is asked when
    something is looked for in it, and not before."""
    async with open_remote_parts(local, remote, wrap_remote) as parts:

        async def learn() -> None:
            await parts.catalog.fetch_all_indexes()

        sources = LocalSources(None, local.index, local.cache)
        with closing(parts.source(sources, None)) as source:
            yield RemoteCopies(remote.name, source, learn)
