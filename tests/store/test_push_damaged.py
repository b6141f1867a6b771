"""Staged data that was damaged on the disk: named, added again, pushed; nothing sound is lost."""

from pathlib import Path

import pytest

from store import push_selection as selection_module
from store.errors import ChunkMissing, IntegrityError, StoreError
from store.local_store import LocalStore
from store.packs import load_pack_table
from tests.fakes.buckets import FINE, Bucket, assert_complete, manifests, to, version
from tests.fakes.repositories import (
    Repository,
    add,
    bucket_remote,
    open_local,
    push,
    random_bytes,
    read_file,
    staged_packs,
)

pytestmark = [pytest.mark.usefixtures("in_no_hurry_for_git"), pytest.mark.expects_warnings]


def place_of(repository: Repository, pack: str) -> Path:
    return repository.top / ".git/revfs/staged" / pack


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


def last_chunk(repository: Repository, pack: str) -> int:
    """The offset of the last chunk of a staged pack."""
    _, table = load_pack_table(place_of(repository, pack))
    return table.entry(len(table) - 1).offset


async def push_until_done(repository: Repository, local: LocalStore, bucket: Bucket) -> list[str]:
    """Push, and add again what an error names, as a person would; the errors."""
    errors: list[str] = []
    for _ in range(5):
        try:
            await push(local, to(bucket))
        except StoreError as error:
            errors.append(str(error))
            if "add it again" in str(error):
                add(repository, local, chunking=FINE)
        else:
            return errors
    raise AssertionError(errors)


@pytest.mark.parametrize("merged", [False, True])
async def test_a_damaged_chunk_is_named_and_added_again_and_the_rest_of_its_pack_goes_up(
    repository: Repository,
    local: LocalStore,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    merged: bool,
) -> None:
    if not merged:
        monkeypatch.setattr(selection_module, "_SMALL_PACK_BYTES", 0)
    first = version(repository, local, gone=random_bytes(1000, 1), stays=random_bytes(1000, 2))
    (pack,) = staged_packs(repository)
    (repository.top / "gone").unlink()
    version(repository, local, later=b"later")
    flip(place_of(repository, pack), last_chunk(repository, pack))
    errors = await push_until_done(repository, local, bucket)
    assert pack in errors[0]
    # A pack that goes up as it is is proven as a whole first, and only then looked into.
    assert len(errors) == (1 if merged else 2)
    assert "stays (commit" in errors[-1]
    assert staged_packs(repository) == []
    await assert_complete(local, bucket)
    assert first in manifests(bucket)
    with open_local(repository.clone(tmp_path / "clone"), tmp_path / "other", bucket_remote()) as o:
        assert await read_file(o, to(bucket), b"stays") == random_bytes(1000, 2)


@pytest.mark.parametrize("whole", [True, False])
async def test_damage_in_a_file_of_many_chunks_is_healed_by_adding_it_again(
    repository: Repository, local: LocalStore, bucket: Bucket, whole: bool
) -> None:
    version(repository, local, large=random_bytes(200_000))
    for pack in staged_packs(repository):
        path = place_of(repository, pack)
        if whole:
            flip(path, last_chunk(repository, pack))
        else:
            path.write_bytes(path.read_bytes()[: last_chunk(repository, pack) + 2])
    errors = await push_until_done(repository, local, bucket)
    assert "chunk list of large" in errors[0]
    await assert_complete(local, bucket)
    assert repository.head() in manifests(bucket)


async def test_a_damaged_table_of_a_pack_costs_no_data(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=random_bytes(1000))
    (pack,) = staged_packs(repository)
    (repository.top / "a").unlink()
    flip(place_of(repository, pack), place_of(repository, pack).stat().st_size - 10)
    assert await push_until_done(repository, local, bucket) == []
    await assert_complete(local, bucket)


async def test_what_is_damaged_and_nowhere_else_stays_an_error(
    repository: Repository, local: LocalStore, bucket: Bucket
) -> None:
    version(repository, local, a=random_bytes(1000))
    (pack,) = staged_packs(repository)
    (repository.top / "a").unlink()
    flip(place_of(repository, pack), 500)
    with pytest.raises(IntegrityError, match="push again"):
        await push(local, to(bucket))
    for _ in range(2):
        with pytest.raises(ChunkMissing, match=r"a \(commit"):
            await push(local, to(bucket))
    assert staged_packs(repository) == [pack]
    assert manifests(bucket) == {}
