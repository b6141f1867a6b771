"""What `du` measures, against sums over the tables of packs that the test makes by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from store.ids import ChunkId, chunk_id
from store.local_store import LocalStore
from store.opening import open_reading
from store.paths import list_path, load_path
from store.sizes import PartSize, Size, SizeSurvey, outermost
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
from tests.store.test_new_bytes import pieces

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

LARGE = random_bytes(200_000, 1)
TEXT = b"the same words again and again; " * 1000
CONTENTS = {
    "one__large": LARGE,
    "one__text": TEXT,
    "two__text": TEXT,
    "two__more": LARGE[:150_000] + TEXT,
    "small": b"small",
}


def stored_lengths(local: LocalStore) -> dict[ChunkId, int]:
    """What every staged chunk takes in its pack."""
    assert local.staging is not None
    tables = [local.staging.load_table(pack.name)[1] for pack in local.staging.packs()]
    return {entry.chunk: entry.stored_length for table in tables for entry in table}


def stored_size(repository: Repository, stored: dict[ChunkId, int], *names: str) -> int:
    """The stored bytes of these files, each piece and each list of pieces once."""
    found = {chunk_id(piece) for piece in pieces(*(CONTENTS[name] for name in names))}
    for name in names:
        found.add(staged_pointer(repository, name.replace("__", "/").encode()).content)
    return sum(stored[chunk] for chunk in found)


def survey(local: LocalStore, path: bytes = b"") -> SizeSurvey:
    tree = local.repository.resolve("HEAD").tree
    return SizeSurvey(local, list_path(local.directories, load_path(local.directories, tree, path)))


def by_path(parts: list[PartSize]) -> dict[bytes, Size]:
    return {part.path: part.size for part in parts}


def test_each_piece_counts_once_in_a_folder_and_once_in_all(
    repository: Repository, local: LocalStore
) -> None:
    version(repository, local, **CONTENTS)
    stored = stored_lengths(local)
    parts, total = survey(local).measure()
    sizes = by_path(parts)
    for folder in ("one", "two"):
        names = [name for name in CONTENTS if name.startswith(folder)]
        true_size = sum(len(CONTENTS[name]) for name in names)
        size = stored_size(repository, stored, *names)
        assert sizes[folder.encode()] == Size(2, true_size, 0, size, size, 0)
    git_bytes = sum(sizes[name].size_bytes for name in (b".gitattributes", b".revfsconfig"))
    true_size = sum(map(len, CONTENTS.values())) + git_bytes
    size = stored_size(repository, stored, *CONTENTS)
    assert total == Size(7, true_size, git_bytes, size, size, 0)
    # Both savings are in it: shared pieces, and texts that compress.
    assert size < sizes[b"one"].stored_bytes + sizes[b"two"].stored_bytes
    assert sizes[b"one"].stored_bytes < len(LARGE) + len(TEXT) // 10


def test_a_file_is_a_part_of_its_own(repository: Repository, local: LocalStore) -> None:
    version(repository, local, **CONTENTS)
    (part,), total = survey(local, b"small").measure()
    assert (part.path, part.is_folder, part.size) == (b"small", False, Size(1, 5, 0, 5, 5, 0))
    assert total == part.size


@pytest.fixture
def clone(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> Iterator[LocalStore]:
    """A clone, with an empty cache, of what only the bucket has."""
    version(repository, local, **CONTENTS)
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as c:
        yield c


async def fetched(local: LocalStore, bucket: Bucket, found: SizeSurvey) -> dict[bytes, Size]:
    async with open_reading(local, local.repository.resolve("HEAD").commit, to(bucket)) as reading:
        await found.fetch(reading)
        await trio.sleep(0)
    return by_path(found.measure()[0])


async def test_what_is_cached_in_part_is_here_in_part(
    repository: Repository, local: LocalStore, bucket: Bucket, clone: LocalStore
) -> None:
    stored = stored_lengths(local)
    await push(local, to(bucket))
    found = survey(clone)
    unknown = by_path(found.measure()[0])
    assert unknown[b"two"].stored_bytes == unknown[b"two"].here_bytes == 0
    assert unknown[b"two"].unknown_bytes == len(TEXT) + len(CONTENTS["two__more"])
    sizes = await fetched(clone, bucket, found)
    assert sizes[b"two"].stored_bytes == stored_size(repository, stored, "two__text", "two__more")
    assert (sizes[b"small"].stored_bytes, sizes[b"small"].unknown_bytes) == (5, 0)
    lists = sizes[b"two"].here_bytes
    assert lists == stored[staged_pointer(repository, b"two/more").content]
    assert await read_file(clone, to(bucket), b"two/text") == TEXT
    after = by_path(survey(clone).measure()[0])
    in_text = sum(stored[chunk_id(piece)] for piece in pieces(TEXT))
    assert after[b"two"].here_bytes >= lists + in_text
    assert after[b"two"].here_bytes < after[b"two"].stored_bytes


async def test_what_nobody_has_is_unknown_also_after_asking(
    bucket: Bucket, clone: LocalStore
) -> None:
    found = survey(clone)
    sizes = await fetched(clone, bucket, found)
    assert sizes[b"one"].unknown_bytes == len(LARGE) + len(TEXT)
    assert sizes[b"small"] == Size(1, 5, 0, 0, 0, 5)


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        ([], []),
        ([b"a", b"b"], [b"a", b"b"]),
        ([b"b/c", b"b", b"bc", b"b"], [b"b", b"bc"]),
        ([b"a", b""], [b""]),
    ],
)
def test_paths_below_others_are_left_out(paths: list[bytes], kept: list[bytes]) -> None:
    assert outermost(paths) == kept
