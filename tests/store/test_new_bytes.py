"""How many bytes are new, against sums over the pieces that the test cuts itself."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store.chunking import read_chunks
from store.errors import ChunkMissing, RemoteDenied, leaves_of
from store.local_chunks import LocalChunks
from store.local_store import LocalStore
from store.new_bytes import NewBytes, count_new_bytes
from store.opening import WrapRemote, open_reading
from store.packs import PackKind
from store.paths import load_path, walk_path
from store.revision_diff import compare_trees
from tests.fakes.buckets import FINE, Bucket, to, version
from tests.fakes.faulty_remote import Raises, faulty
from tests.fakes.repositories import Repository, bucket_remote, open_local, push, random_bytes

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")

# Of the kind in the head of a pack.
_KIND_OFFSET = 5
LARGE = random_bytes(300_000, 1)
EDITED = LARGE[:100_000] + b"something else" + LARGE[100_100:]


def pieces(*contents: bytes) -> dict[bytes, int]:
    """The pieces that files are cut in, each once, with their lengths."""
    found: dict[bytes, int] = {}
    for content in contents:
        cut = (
            read_chunks(io.BytesIO(content), FINE) if len(content) > FINE.least_bytes else [content]
        )
        found |= {bytes(piece): len(piece) for piece in cut}
    return found


def new_pieces(old: list[bytes], new: list[bytes]) -> NewBytes:
    known = pieces(*old)
    lengths = [length for piece, length in pieces(*new).items() if piece not in known]
    return NewBytes(len(lengths), sum(lengths), 0, 0)


async def count(
    local: LocalStore, wrap: WrapRemote, old: str = "HEAD~1", new: str = "HEAD", path: bytes = b""
) -> NewBytes:
    before, after = local.repository.resolve(old), local.repository.resolve(new)
    changes = compare_trees(local.directories, before.tree, after.tree, path)
    root = load_path(local.directories, before.tree, b"")
    old_files = [found.entry for found in walk_path(local.directories, root)]
    async with (
        open_reading(local, before.commit, wrap) as old_reading,
        open_reading(local, after.commit, wrap) as new_reading,
    ):
        chunks = LocalChunks(local)
        return await count_new_bytes(changes, old_files, chunks, old_reading, new_reading)


async def test_an_edit_costs_the_pieces_around_it(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, large=LARGE, same=b"same")
    version(repository, local, large=EDITED)
    wanted = new_pieces([LARGE], [EDITED])
    assert 0 < wanted.chunk_bytes < len(LARGE) // 3
    assert await count(local, to(bucket)) == wanted
    assert await count(local, to(bucket), "HEAD", "HEAD~1") == new_pieces([EDITED], [LARGE])
    assert bucket.calls == []


async def test_what_the_old_revision_has_anywhere_is_not_new(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, large=LARGE, old__a=b"one", gone=b"gone")
    (repository.top / "gone").unlink()
    # A copy, a file with one piece of another, two of the same, and one that was elsewhere.
    contents = {"copy": LARGE, "edited": EDITED, "twice": b"two", "twin": b"two", "b": b"one"}
    version(repository, local, **contents)
    old = [LARGE, b"one", b"gone"]
    # .gitattributes, which names the new files, is git's own.
    found = replace(await count(local, to(bucket)), git_files=0, git_bytes=0)
    assert found == new_pieces(old, [EDITED, b"two"])
    assert await count(local, to(bucket), path=b"copy") == NewBytes(0, 0, 0, 0)
    assert await count(local, to(bucket), path=b"twin") == new_pieces(old, [b"two"])


async def test_files_that_git_keeps_count_apart(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, large=LARGE)
    repository.write("old", b"123")
    repository.git("add", "old")
    repository.commit()
    for path, content in {"plain": b"12345", "plain-too": b"12345", "copy": b"123"}.items():
        repository.write(path, content)
        repository.git("add", path)
    repository.commit()
    assert await count(local, to(bucket)) == NewBytes(0, 0, 1, 5)


@pytest.fixture
def clone(
    repository: Repository, local: LocalStore, bucket: Bucket, tmp_path: Path
) -> Iterator[LocalStore]:
    """A clone, with an empty cache, of two versions that only the bucket has."""
    version(repository, local, large=LARGE, small=b"old")
    version(repository, local, large=EDITED, small=b"new")
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as c:
        yield c


async def test_lists_of_pieces_are_fetched_many_at_once_and_no_data(
    repository: Repository, local: LocalStore, bucket: Bucket, clone: LocalStore, tmp_path: Path
) -> None:
    await push(local, to(bucket))
    bucket.calls.clear()
    old = {f"file{number}": random_bytes(100_000, number) for number in range(20)}
    new = {name: content[:50_000] + b"edited" + content[50_000:] for name, content in old.items()}
    for contents in (old, new):
        version(repository, local, **contents)
    await push(local, to(bucket))
    bucket.calls.clear()
    fresh = repository.clone(tmp_path / "fresh")
    with open_local(fresh, tmp_path / "empty", bucket_remote()) as other:
        wanted = new_pieces([*old.values(), EDITED, b"new"], list(new.values()))
        assert await count(other, to(bucket)) == wanted
    ranges = [call.key for call in bucket.calls if call.verb == "fetch_range"]
    assert {bucket.objects[key][0][_KIND_OFFSET] for key in ranges} == {PackKind.LISTS}
    # 41 lists, in two packs.
    assert 0 < len(ranges) <= 6


async def test_what_is_here_is_counted_without_a_remote(
    local: LocalStore, bucket: Bucket, clone: LocalStore
) -> None:
    old, new = (local.repository.resolve(text).tree for text in ("HEAD~1", "HEAD"))
    changes = compare_trees(local.directories, old, new)
    root = load_path(local.directories, old, b"")
    old_files = [found.entry for found in walk_path(local.directories, root)]
    wanted = new_pieces([LARGE, b"old"], [EDITED, b"new"])
    assert await count_new_bytes(changes, old_files, LocalChunks(local), None, None) == wanted
    with pytest.raises(ChunkMissing, match="list of pieces is neither here nor in"):
        await count_new_bytes(changes, old_files, LocalChunks(clone), None, None)


async def test_a_remote_that_fails_is_the_reason_why_it_is_unknown(
    local: LocalStore, bucket: Bucket, clone: LocalStore
) -> None:
    await push(local, to(bucket))
    refusing = faulty(lambda call, number: Raises(RemoteDenied("the credentials have expired")))
    with pytest.raises(BaseExceptionGroup) as caught:
        await count(clone, refusing)
    assert any("have expired" in str(error) for error in leaves_of(caught.value))


async def test_a_list_that_is_nowhere_makes_it_unknown(
    local: LocalStore, bucket: Bucket, clone: LocalStore
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await count(clone, to(bucket))
    (error,) = leaves_of(caught.value)
    assert isinstance(error, ChunkMissing)
