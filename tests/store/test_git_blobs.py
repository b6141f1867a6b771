"""Small blobs in bulk: packed, loose, borrowed, large, damaged and gone."""

import shutil
import struct
from pathlib import Path

import pytest

from store.errors import GitError
from store.git import GitRepository
from store.git_blobs import PackedBlobs, blob_id
from store.git_command import find_repository
from tests.fakes.repositories import Repository, make_repository

MOST_BYTES = 200
CONTENTS = [b"", b"\0", *(b"%d" % n for n in range(300)), b"x" * MOST_BYTES]
LARGE = bytes(1 << 20)


def packed_of(repository: Repository) -> PackedBlobs:
    return PackedBlobs(repository.top / ".git" / "objects")


def write_packed(opened: GitRepository) -> list[bytes]:
    """CONTENTS and LARGE in a pack; their ids."""
    return opened.write_blobs([*CONTENTS, LARGE])


def test_packed_blobs_come_whole_and_of_a_large_one_the_size(
    repository: Repository, opened: GitRepository
) -> None:
    ids = write_packed(opened)
    assert packed_of(repository).load(ids, MOST_BYTES) == [*CONTENTS, len(LARGE)]
    assert opened.load_small_blobs(ids, MOST_BYTES) == [*CONTENTS, len(LARGE)]


def test_blobs_outside_packs_are_left_to_git_itself(
    repository: Repository, opened: GitRepository
) -> None:
    ids = [bytes.fromhex(repository.write_blob(content)) for content in (b"loose", LARGE)]
    assert packed_of(repository).load(ids, MOST_BYTES) == [None, None]
    assert opened.load_small_blobs(ids, MOST_BYTES) == [b"loose", len(LARGE)]


def test_packs_that_came_or_went_after_the_first_load_are_seen(
    repository: Repository, opened: GitRepository
) -> None:
    packed = packed_of(repository)
    assert packed.load([blob_id(CONTENTS[5])], MOST_BYTES) == [None]
    ids = write_packed(opened)
    assert packed.load(ids, MOST_BYTES) == [*CONTENTS, len(LARGE)]
    for pack in (repository.top / ".git" / "objects" / "pack").glob("pack-*"):
        pack.chmod(0o600)
        pack.rename(pack.parent.parent.parent / pack.name)
    with GitRepositoryFor(repository) as again:
        assert again.write_blobs(CONTENTS) == ids[:-1]
        assert packed.load(ids[:-1], MOST_BYTES) == CONTENTS


@pytest.mark.parametrize("is_relative", [False, True])
def test_blobs_that_are_borrowed_from_another_repository_are_found_in_its_packs(
    repository: Repository, opened: GitRepository, tmp_path: Path, is_relative: bool
) -> None:
    ids = write_packed(opened)
    borrower = make_repository(tmp_path / "borrower")
    objects = repository.top / ".git" / "objects"
    named = Path("../../..", repository.top.name, ".git/objects") if is_relative else objects
    borrowed = borrower.top / ".git" / "objects" / "info" / "alternates"
    borrowed.write_text(f"# where most of it is\n\n/nowhere\n{named}\n")
    assert packed_of(borrower).load(ids, MOST_BYTES) == [*CONTENTS, len(LARGE)]


def test_what_is_no_blob_or_nowhere_is_an_error_with_its_id(
    repository: Repository, opened: GitRepository
) -> None:
    repository.git("gc", "--quiet")
    tree = bytes.fromhex(repository.git("rev-parse", "HEAD^{tree}").decode().strip())
    for most_bytes in (MOST_BYTES, 1):
        assert packed_of(repository).load([tree], most_bytes) == [None]
        for raw_id in (tree, b"?" * 20):
            with pytest.raises(GitError, match=raw_id.hex()):
                opened.load_small_blobs([raw_id], most_bytes)


def test_contents_that_do_not_hash_to_their_id_are_refused(
    repository: Repository, opened: GitRepository
) -> None:
    ids = write_packed(opened)
    swap_places_in_pack(repository, ids[5], ids[6])
    found = packed_of(repository).load(ids, MOST_BYTES)
    assert found == [*CONTENTS[:5], None, None, *CONTENTS[7:], len(LARGE)]
    with GitRepositoryFor(repository) as again, pytest.raises(GitError, match=ids[5].hex()):
        again.load_small_blobs(ids, MOST_BYTES)


def test_a_repository_without_objects_has_no_packed_blobs(
    repository: Repository, opened: GitRepository
) -> None:
    shutil.rmtree(repository.top / ".git" / "objects")
    assert packed_of(repository).load([b"?" * 20], MOST_BYTES) == [None]


class GitRepositoryFor:
    """A repository that is opened anew, as by another process."""

    def __init__(self, repository: Repository) -> None:
        self._opened = GitRepository(find_repository(repository.top))

    def __enter__(self) -> GitRepository:
        return self._opened

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def swap_places_in_pack(repository: Repository, one: bytes, other: bytes) -> None:
    """Make a pack's own index say that each of two objects lies where the other does."""
    (path,) = (repository.top / ".git" / "objects" / "pack").glob("*.idx")
    raw = bytearray(path.read_bytes())
    # gitformat-pack: magic, version, 256 sums, then columns of names, checksums and offsets.
    (count,) = struct.unpack_from(">I", raw, 8 + 255 * 4)
    names = 8 + 256 * 4
    places = []
    for raw_id in (one, other):
        number = (raw.index(raw_id, names) - names) // 20
        places.append(names + count * 24 + 4 * number)
    first, second = (slice(place, place + 4) for place in places)
    raw[first], raw[second] = raw[second], raw[first]
    path.chmod(0o600)
    path.write_bytes(raw)
