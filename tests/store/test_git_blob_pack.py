"""BlobPack: blobs of every size as git reads them back, each once."""

from pathlib import Path

import pytest

from store.errors import GitError
from store.git import GitRepository
from store.git_blob_pack import BlobPack
from store.git_blobs import blob_id
from tests.fakes.repositories import Repository, random_bytes

# Around the borders of the size's own spelling, and of what is stored as it is.
SIZES = [0, 1, 15, 16, 17, 2047, 2048, 1023, 1024, 1025, 65535, 65536, 300_000]


def packs(repository: Repository) -> list[Path]:
    return list((repository.top / ".git/objects/pack").glob("*.pack"))


def loose(repository: Repository) -> int:
    return len(list((repository.top / ".git/objects").glob("??/*")))


@pytest.mark.parametrize("few", [True, False])
def test_blobs_of_every_size_come_back_whole(
    repository: Repository, opened: GitRepository, few: bool
) -> None:
    contents = [random_bytes(size, size) for size in SIZES]
    contents += [] if few else [b"%d" % number for number in range(100)]
    before = loose(repository)
    pack = BlobPack()
    ids = [pack.add(content) for content in contents]
    pack.write(opened.paths)
    for raw_id, content in zip(ids, contents, strict=True):
        assert opened.load_blob(raw_id) == content
    assert len(packs(repository)) == (0 if few else 1)
    assert loose(repository) == before + (len(SIZES) if few else 0)
    repository.git("fsck", "--strict")


def test_blobs_go_in_once_and_known_ones_not_at_all(
    repository: Repository, opened: GitRepository
) -> None:
    known = blob_id(b"known")
    before = loose(repository)
    pack = BlobPack([known])
    assert [pack.add(content) for content in (b"new", b"known", b"new")] == [
        blob_id(b"new"),
        known,
        blob_id(b"new"),
    ]
    pack.write(opened.paths)
    assert loose(repository) == before + 1
    assert opened.load_blob(blob_id(b"new")) == b"new"


def test_a_second_pack_of_the_same_blobs_is_no_error(
    repository: Repository, opened: GitRepository
) -> None:
    for _ in range(2):
        pack = BlobPack()
        for number in range(200):
            pack.add(b"%d" % number)
        pack.write(opened.paths)
    assert len(packs(repository)) == 1


def test_what_git_says_of_a_place_that_is_none_is_raised(
    repository: Repository, opened: GitRepository
) -> None:
    (repository.top / ".git/HEAD").unlink()
    pack = BlobPack()
    pack.add(b"content")
    with pytest.raises(GitError):
        pack.write(opened.paths)


def test_a_pack_of_nothing_asks_git_for_nothing(opened: GitRepository, tmp_path: Path) -> None:
    BlobPack([blob_id(b"known")]).write(opened.paths)
    assert not list((opened.paths.git_dir / "objects/pack").iterdir())
