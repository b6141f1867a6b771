"""`revfs gc` below running mounts: what they show stays right, and what only they need stays."""

import json
import mmap
import os
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone, Mounted, make_repository

_BLOCK_BYTES = 1 << 20


def read_past_the_page_cache(path: Path) -> bytes:
    """A whole file, each byte of it asked of the mount."""
    parts = []
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with closing(mmap.mmap(-1, _BLOCK_BYTES)) as block:
            while count := os.readv(descriptor, [block]):
                parts.append(block[:count])
    finally:
        os.close(descriptor)
    return b"".join(parts)


def load_expected(published: Published) -> dict[Path, bytes]:
    top = published.checkouts / "v1"
    found = [path for path in (top / "data").rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.relative_to(top): path.read_bytes() for path in found}


def read_again_and_again(
    mount: Mounted, expected: Mapping[Path, bytes], stop: threading.Event, wrong: list[object]
) -> None:
    while not stop.is_set():
        for path, content in expected.items():
            try:
                if read_past_the_page_cache(mount.path / path) != content:
                    wrong.append(path)
            except OSError as error:
                wrong.append((path, error))


def test_evicting_all_below_a_mount_costs_its_readers_nothing_but_time(
    in_bucket: InBucket, published: Published
) -> None:
    expected = load_expected(published)
    clone, stop = in_bucket.clone, threading.Event()
    wrong: list[object] = []
    with clone.mounted("v1", None, "--workers", "2") as mount:
        readers = [
            threading.Thread(target=read_again_and_again, args=(mount, expected, stop, wrong))
            for _ in range(3)
        ]
        for reader in readers:
            reader.start()
        evicted = 0
        for _ in range(4):
            shown = json.loads(clone.revfs("gc", "--all", "--json"))
            evicted += shown["cache"]["evicted"]["packs"]
        stop.set()
        for reader in readers:
            reader.join()
        assert not wrong
        assert evicted > 0
        clone.revfs("gc", "--all")
        before = mount.fetched_bytes()
        for path, content in expected.items():
            assert read_past_the_page_cache(mount.path / path) == content
        mount.wait_until_fetched(before + 1)
        assert "ERROR" not in mount.log


def test_what_only_a_mount_still_shows_is_not_dropped(tmp_path: Path) -> None:
    repository: Clone = make_repository(tmp_path, None)
    for tag in ("first", "second"):
        (repository.top / "data").mkdir(exist_ok=True)
        (repository.top / "data/file").write_bytes(tag.encode() * 100)
        repository.revfs("add", "data")
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "-m", tag)
    with repository.mounted("HEAD") as mount:
        repository.git("reset", "--quiet", "--hard", "HEAD~1")
        repository.git("update-ref", "-d", "ORIG_HEAD")
        repository.git("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
        shown = json.loads(repository.revfs("gc", "--grace", "0", "--json"))
        assert (shown["staged"]["dropped"]["packs"], shown["staged"]["needed"]["packs"]) == (0, 2)
        assert (mount.path / "data/file").read_bytes() == b"second" * 100
    shown = json.loads(repository.revfs("gc", "--grace", "0", "--json"))
    assert shown["staged"]["dropped"]["packs"] == 1
    assert (repository.top / "data/file").read_bytes() == b"first" * 100
