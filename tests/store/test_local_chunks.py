"""Whether chunks are here: asked in bulk, against where each of them is found to be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.ids import ChunkId, chunk_id
from store.local_chunks import LocalChunks, Presence
from store.local_store import LocalStore
from store.many_lists import visit_chunk_lists
from store.opening import open_reading
from store.pointer import Pointer
from tests.fakes.buckets import Bucket, to, version
from tests.fakes.repositories import (
    Repository,
    bucket_remote,
    open_local,
    push,
    random_bytes,
    read_file,
    staged_pointer,
)

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

NOWHERE = chunk_id(b"known of nowhere")
CONTENTS = {"read": b"one chunk", "unread": b"and another one"}
READ, UNREAD = (chunk_id(content) for content in CONTENTS.values())


@pytest.fixture
def clone(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> Iterator[LocalStore]:
    """A clone, with an empty cache, of what only the bucket has."""
    version(repository, local, **CONTENTS)
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as c:
        yield c


def presence(local: LocalStore, *chunks: ChunkId) -> list[Presence]:
    """What is told of these chunks, by either way of asking."""
    local.cache.flush()
    found = LocalChunks(local).load_presence(chunks)
    places = LocalChunks(local).load(chunks)
    assert found == [Presence(held.staged, held.here) if held else ABSENT for held in places]
    return found


@pytest.mark.parametrize("liar_first", [True, False])
async def test_two_pointers_that_name_one_list_are_each_looked_at_by_itself(
    repository: Repository, local: LocalStore, liar_first: bool
) -> None:
    version(repository, local, large=random_bytes(300_000))
    right = staged_pointer(repository, b"large")
    liar = Pointer(right.content, right.size + 1, right.chunks)
    pointers = [liar, right] if liar_first else [right, liar]
    chunks = LocalChunks(local)
    assert chunks.load_files_here(pointers) == [pointer == right for pointer in pointers]
    taken: list[Pointer] = []
    absent = await visit_chunk_lists(chunks, None, pointers, lambda found, _: taken.append(found))
    assert (taken, absent) == ([right], [liar])


STAGED, CACHED, ABSENT = Presence(True, True), Presence(False, True), Presence(False, False)


async def test_a_chunk_is_here_where_it_is_staged_and_where_its_very_bytes_are_cached(
    local: LocalStore, bucket: Bucket, clone: LocalStore
) -> None:
    assert presence(local, UNREAD, NOWHERE, READ) == [STAGED, ABSENT, STAGED]
    await push(local, to(bucket))
    assert presence(clone, READ, UNREAD, NOWHERE) == [ABSENT, ABSENT, ABSENT]
    head = clone.repository.resolve("HEAD").commit
    async with open_reading(clone, head, to(bucket)) as reading:
        await reading.source.learn_commit()
    # Known is not here.
    assert presence(clone, READ, UNREAD, NOWHERE) == [ABSENT, ABSENT, ABSENT]
    assert await read_file(clone, to(bucket), b"read") == CONTENTS["read"]
    assert presence(clone, READ, UNREAD, NOWHERE) == [CACHED, ABSENT, ABSENT]
