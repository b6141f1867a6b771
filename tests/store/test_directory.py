"""DirectoryRemote where the folder or its file system is in the way. The contract has the rest."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from store.directory import DirectoryRemote
from store.errors import (
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)

KEY = "packs/00/object"
CONTENT = bytes(range(256)) * 64
TIMEOUT_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


async def put(remote: DirectoryRemote, body: bytes | Path = CONTENT) -> None:
    await remote.put(KEY, body, timeout_seconds=TIMEOUT_SECONDS)


async def fetch(remote: DirectoryRemote, key: str = KEY) -> bytes:
    return await remote.fetch(key, max_bytes=len(CONTENT), timeout_seconds=TIMEOUT_SECONDS)


async def list_keys(remote: DirectoryRemote, prefix: str = "") -> list[str]:
    listed = await remote.list_objects(prefix, timeout_seconds=TIMEOUT_SECONDS)
    return [info.key for info in listed]


def raising(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


async def test_a_folder_that_is_not_there_is_not_an_empty_remote(tmp_path: Path) -> None:
    remote = DirectoryRemote(tmp_path / "remote")
    for call in (fetch, list_keys):
        with pytest.raises(RemoteMisconfigured, match="is it mounted"):
            await call(remote)
    with pytest.raises(RemoteMisconfigured, match="is it mounted"):
        await remote.delete(KEY, timeout_seconds=TIMEOUT_SECONDS)


async def test_the_first_put_makes_the_folder_but_nothing_above_it(tmp_path: Path) -> None:
    await put(DirectoryRemote(tmp_path / "remote"))
    assert (tmp_path / "remote" / KEY).read_bytes() == CONTENT
    with pytest.raises(RemoteMisconfigured, match="is it mounted"):
        await put(DirectoryRemote(tmp_path / "share/remote"))
    assert not (tmp_path / "share").exists()


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../outside", "packs/../../outside", "a//b", ".hidden", "a/\0", "a/"]
)
async def test_a_key_never_leaves_the_folder(folder: Path, key: str) -> None:
    (folder.parent / "outside").write_bytes(CONTENT)
    remote = DirectoryRemote(folder)
    with pytest.raises(RemoteError, match="not a key"):
        await fetch(remote, key)
    with pytest.raises(RemoteError, match="not a key"):
        await remote.put(key, b"x", timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(RemoteError, match="not a key"):
        await remote.delete(key, timeout_seconds=TIMEOUT_SECONDS)
    assert list(folder.iterdir()) == []


async def test_a_symlink_is_neither_followed_nor_listed(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(CONTENT)
    (folder / "link").symlink_to(outside / "secret")
    (folder / "links").symlink_to(outside)
    remote = DirectoryRemote(folder)
    with pytest.raises(RemoteError, match="symlink"):
        await fetch(remote, "link")
    assert await list_keys(remote) == []


async def test_dot_files_and_a_put_under_way_are_not_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = DirectoryRemote(folder)
    (folder / ".DS_Store").write_bytes(b"x")
    seen: list[list[str]] = []
    rename = os.rename

    def look_before(source: Path, target: Path) -> None:
        seen.append([info.key for info in remote._scan(folder, "")])
        rename(source, target)

    monkeypatch.setattr(os, "rename", look_before)
    await put(remote)
    assert seen == [[]]
    assert await list_keys(remote) == [KEY]


async def test_a_folder_is_no_object(folder: Path) -> None:
    remote = DirectoryRemote(folder)
    await put(remote)
    for key in ("packs", f"{KEY}/below"):
        with pytest.raises(ObjectMissing):
            await fetch(remote, key)
    assert await list_keys(remote, f"{KEY}/") == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, RemoteDenied),
        (errno.EROFS, RemoteDenied),
        (errno.ENOSPC, RemoteError),
        (errno.EDQUOT, RemoteError),
        (errno.EIO, RemoteUnavailable),
        (errno.ESTALE, RemoteUnavailable),
        (errno.ENAMETOOLONG, RemoteError),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
async def test_a_put_that_fails_says_why_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[RemoteError]
) -> None:
    monkeypatch.setattr(os, "write", raising(number))
    with pytest.raises(RemoteError) as caught:
        await put(DirectoryRemote(folder))
    assert type(caught.value) is kind
    assert ("full" in str(caught.value)) == (number in {errno.ENOSPC, errno.EDQUOT})
    assert [path for path in folder.rglob("*") if path.is_file()] == []


async def test_a_file_system_that_cannot_copy_by_itself_gets_the_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder.parent / "source"
    source.write_bytes(CONTENT)
    monkeypatch.setattr(os, "copy_file_range", raising(errno.EXDEV))
    remote = DirectoryRemote(folder)
    await put(remote, source)
    assert await fetch(remote) == CONTENT


async def test_a_copy_that_the_kernel_began_is_finished_by_hand(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder.parent / "source"
    source.write_bytes(CONTENT)
    copy, sizes = os.copy_file_range, [len(CONTENT) // 3]

    def copy_once(source: int, target: int, size: int) -> int:
        if not sizes:
            raising(errno.EXDEV)()
        return copy(source, target, sizes.pop())

    monkeypatch.setattr(os, "copy_file_range", copy_once)
    remote = DirectoryRemote(folder)
    await put(remote, source)
    assert await fetch(remote) == CONTENT


async def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = DirectoryRemote(folder)
    await remote.put("packs/00/first", b"x", timeout_seconds=TIMEOUT_SECONDS)
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def log_fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("sync folder" if target.is_dir() else "sync file")
        fsync(descriptor)

    def log_rename(source: Path, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "rename", log_rename)
    await put(remote)
    assert steps == ["sync file", "rename", "sync folder"]


async def test_a_share_that_does_not_answer_ends_with_its_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    open_at_once = os.open

    def open_some_time(path: Path, flags: int) -> int:
        answers.wait()
        return open_at_once(path, flags)

    monkeypatch.setattr("store.directory.os.open", open_some_time)
    remote = DirectoryRemote(folder)
    with trio.fail_after(TIMEOUT_SECONDS), pytest.raises(RemoteUnavailable, match="not done"):
        await remote.fetch("object", max_bytes=1, timeout_seconds=0.05)
    answers.set()  # Lets the thread go.


async def test_a_cancelled_put_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    scope = trio.CancelScope()

    def cancel_then_write(descriptor: int, block: memoryview) -> int:
        trio.from_thread.run_sync(scope.cancel)
        return write(descriptor, block[:10])

    monkeypatch.setattr("store.directory.os.write", cancel_then_write)
    with scope:
        await put(DirectoryRemote(folder))
    assert scope.cancelled_caught
    assert [path for path in folder.rglob("*") if path.is_file()] == []


DAY_SECONDS = 86400.0


def leave_temporary(folder: Path, name: str, age_seconds: float) -> Path:
    """A file as a writer has it in its hands, last written so long ago."""
    place = folder / "packs/00" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"half an object")
    written = time.time() - age_seconds
    os.utime(place, (written, written))
    return place


async def test_what_a_killed_writer_left_goes_with_the_next_put_of_who_lists(folder: Path) -> None:
    dead = leave_temporary(folder, ".revfs-0123456789abcdef.part", 1.1 * DAY_SECONDS)
    others = [
        leave_temporary(folder, ".revfs-fedcba9876543210.part", 0.9 * DAY_SECONDS),
        leave_temporary(folder, ".revfs-0123.part", 2 * DAY_SECONDS),
        leave_temporary(folder, ".hidden", 2 * DAY_SECONDS),
    ]
    remote = DirectoryRemote(folder)
    assert await list_keys(remote, "packs/") == []
    assert dead.exists(), "whoever only reads removes nothing"
    await put(remote)
    assert not dead.exists()
    assert all(place.exists() for place in others)
    assert await list_keys(remote) == [KEY]


async def test_a_leftover_that_cannot_be_removed_is_in_no_puts_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_temporary(folder, ".revfs-0123456789abcdef.part", 2 * DAY_SECONDS)
    remote = DirectoryRemote(folder)
    await list_keys(remote)
    monkeypatch.setattr(os, "unlink", raising(errno.EACCES))
    await put(remote)
    assert await fetch(remote) == CONTENT
