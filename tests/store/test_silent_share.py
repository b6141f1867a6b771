"""A remote's folder on a network share that has stopped to answer."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from store import local_folders
from store.local_store import LocalStore
from store.opening import Reading, open_reading
from store.pointer import Pointer
from tests.fakes.buckets import version
from tests.fakes.repositories import (
    Repository,
    commits_of,
    folder_remote,
    open_local,
    push,
    random_bytes,
    staged_pointer,
)

SMALL = random_bytes(1000, 1)
LARGE = random_bytes(400_000, 2)
STAGED = random_bytes(1000, 3)


@dataclass
class Share:
    """A folder whose files cannot be opened while it is silent."""

    folder: Path
    answers: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Share]:
    share = Share(tmp_path / "share")
    share.folder.mkdir()
    share.answers.set()
    real_open = os.open

    def open_some_time(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(f"{share.folder}/packs"):
            assert share.answers.wait(timeout=20)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_some_time)
    monkeypatch.setattr(
        local_folders,
        "mounted_file_systems",
        lambda: [("/", "ext4"), (str(share.folder), "nfs4")],
    )
    yield share
    share.answers.set()


@pytest.fixture
def files(repository: Repository, tmp_path: Path, share: Share) -> dict[str, Pointer]:
    """Two files that are on the share alone, and one that is staged."""

    async def push_first() -> None:
        with open_local(repository, tmp_path / "cache", folder_remote(share.folder)) as local:
            version(repository, local, small=SMALL, large=LARGE)
            await push(local, lambda made: made)
            version(repository, local, staged=STAGED)

    trio.run(push_first)
    names = ("small", "large", "staged")
    return {name: staged_pointer(repository, name.encode()) for name in names}


def reading(local: LocalStore) -> Any:
    (*_, newest) = commits_of(local.repository)
    return open_reading(local, newest.commit)


async def read(opened: Reading, pointer: Pointer, seconds: float) -> bytes | None:
    """The first bytes of a file, or None where they do not come in time."""
    with trio.move_on_after(seconds):
        return await opened.contents.read(pointer, 0, 1000)
    return None


@pytest.mark.usefixtures("in_no_hurry_for_git")
async def test_a_share_that_does_not_answer_holds_up_only_its_own_readers_and_not_past_their_time(
    repository: Repository, tmp_path: Path, share: Share, files: dict[str, Pointer]
) -> None:
    with open_local(repository, tmp_path / "cache", folder_remote(share.folder)) as local:
        async with reading(local) as opened:
            share.answers.clear()
            # More than there are threads for local disks.
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(read, opened, files["small"], 60)
                await wait_all_tasks_blocked()
                assert await read(opened, files["staged"], 20) == STAGED
                assert await read(opened, files["large"], 0.01) is None
                nursery.cancel_scope.cancel()
            share.answers.set()
            assert await read(opened, files["small"], 20) == SMALL
            assert await read(opened, files["large"], 20) == LARGE[:1000]
