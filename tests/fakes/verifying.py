"""`verify` over a remote of the test's own, and random damage to the objects of a bucket."""

import random
from collections.abc import Sequence
from dataclasses import replace

from store.config import RemoteSettings
from store.local_store import LocalStore
from store.opening import WrapRemote, open_remote_parts
from store.verification import Verification, VerifyContext
from store.verify import verify_remote
from store.verify_places import open_place_book
from tests.fakes.repositories import REPOSITORY_ID, TIMEOUT_SECONDS, NoProgress, commits_of


async def verify(
    local: LocalStore,
    wrap_remote: WrapRemote,
    *texts: str,
    read: bool = False,
    every_manifest: bool = False,
) -> Verification:
    """What `verify_remote` finds of revisions (HEAD if none) and their history."""
    assert local.settings.remote is not None
    with open_place_book(local.settings.cache_directory) as book:
        async with open_remote_parts(local, local.settings.remote, wrap_remote) as parts:
            context = VerifyContext(
                repository=REPOSITORY_ID,
                remote=parts.catalog.remote,
                local=local,
                book=book,
                read=read,
                every_manifest=every_manifest,
                timeout_seconds=TIMEOUT_SECONDS,
            )
            return await verify_remote(context, commits_of(local.repository, *texts), NoProgress())
