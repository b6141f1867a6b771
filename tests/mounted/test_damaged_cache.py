"""The cache damaged under a living mount: what is read is right all the same, and fetched anew."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Mounted


def packs_of(cache: Path) -> list[Path]:
    return [path for path in (cache / "packs").glob("??/*") if path.is_file()]


def flip_a_bit_in_each_kilobyte(cache: Path) -> None:
    for path in packs_of(cache):
        raw = bytearray(path.read_bytes())
        raw[::1024] = bytes(byte ^ 1 for byte in raw[::1024])
        # In place: whoever has the file open sees it.
        with path.open("r+b") as file:
            file.write(raw)


def cut_packs(cache: Path) -> None:
    for path in packs_of(cache):
        os.truncate(path, path.stat().st_size // 2)


def remove_packs(cache: Path) -> None:
    shutil.rmtree(cache / "packs", ignore_errors=True)


def remove_tables(cache: Path) -> None:
    shutil.rmtree(cache / "index")


def remove_both(cache: Path) -> None:
    remove_packs(cache)
    remove_tables(cache)


def forget_pages(mount: Mounted) -> None:
    """Have the kernel ask the mount again for what it has read of it."""
    for path in (mount.path / "data").rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_whatever_is_damaged_under_a_living_mount_no_byte_of_it_is_wrong(
    in_bucket: InBucket, published: Published
) -> None:
    wanted = contents(published.checkouts / "v1/data")
    damages: list[Callable[[Path], None]] = [
        *(flip_a_bit_in_each_kilobyte, cut_packs, remove_packs, remove_tables, remove_both),
    ]
    with in_bucket.clone.mounted("v1") as mount:
        assert contents(mount.path / "data") == wanted
        for damage in damages:
            damage(in_bucket.clone.cache)
            before = mount.fetched_bytes()
            forget_pages(mount)
            assert contents(mount.path / "data") == wanted, damage
            # Files that are open are read on when their names are gone.
            if damage in (flip_a_bit_in_each_kilobyte, cut_packs):
                assert mount.fetched_bytes() > before, damage
        assert " ERROR " not in mount.log
        # Another mount, which finds what this one has put back.
        with in_bucket.clone.mounted("v1") as other:
            assert contents(other.path / "data") == wanted


@pytest.mark.parametrize("scrambled", [True, False])
def test_a_cache_without_its_tables_needs_no_chunk_again(
    in_bucket: InBucket, published: Published, scrambled: bool
) -> None:
    wanted = contents(published.checkouts / "v1/data")
    with in_bucket.clone.mounted("v1") as mount:
        assert contents(mount.path / "data") == wanted
    if scrambled:
        (in_bucket.clone.cache / "index/data.mdb").write_bytes(os.urandom(100_000))
    else:
        remove_tables(in_bucket.clone.cache)
    with in_bucket.clone.mounted("v1") as mount:
        assert contents(mount.path / "data") == wanted
        # Chunks are found in the packs that lie there; what tells where they are is fetched.
        assert mount.fetched_bytes() == 0
