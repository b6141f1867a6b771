"""What every Remote holds to, whatever is behind it: memory, a folder, moto, rclone."""

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from store.directory import DirectoryRemote
from store.errors import MalformedObject, ObjectMissing, RemoteError
from store.ids import GitId, new_pack_name
from store.remote import FORMAT_KEY, Remote, index_key, manifests_prefix, pack_key
from store.retry import RetryingRemote
from store.s3 import PLAIN_BODY_BYTES, S3Location, S3Remote
from tests.fakes.faulty_remote import FaultyRemote
from tests.fakes.memory_remote import MemoryRemote

TIMEOUT_SECONDS = 20.0
SHORT_SECONDS = 0.2
SIZES = [1, 255, PLAIN_BODY_BYTES, PLAIN_BODY_BYTES + 1, 3 * 1024 * 1024 + 7]
BUCKET = "contract"
S3_PAGE_KEYS = 1000
MOTO_PAGE_KEYS = 30
PACK = pack_key(new_pack_name())
KINDS = ["memory", "folder", "moto", "rclone", "retrying"]

MakeRemote = Callable[[], Remote]


def make_content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(params=KINDS)
def make_remote(request: pytest.FixtureRequest, tmp_path: Path) -> MakeRemote:
    """Makes the remote of one kind, over the same empty storage each time."""
    if request.param == "memory":
        memory = MemoryRemote()
        return lambda: memory
    if request.param == "folder":
        return lambda: DirectoryRemote(tmp_path / "remote")
    if request.param == "retrying":
        inner = FaultyRemote(MemoryRemote(), lambda call, number: None)
        return lambda: RetryingRemote(inner)
    server = request.getfixturevalue({"moto": "moto_server", "rclone": "rclone_s3"}[request.param])
    server.make_bucket(BUCKET)
    # In moto each put is slow: smaller pages in place of more objects.
    request.getfixturevalue("monkeypatch").setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(MOTO_PAGE_KEYS))
    location = S3Location(BUCKET, f"team a/{secrets.token_hex(4)}", endpoint=server.endpoint)
    return lambda: S3Remote(location)


async def test_what_was_put_is_what_is_fetched(make_remote: MakeRemote) -> None:
    remote = make_remote()
    for size in SIZES:
        key, content = pack_key(new_pack_name()), make_content(size)
        await remote.put(key, content, timeout_seconds=TIMEOUT_SECONDS)
        got = await remote.fetch(key, max_bytes=size, timeout_seconds=TIMEOUT_SECONDS)
        assert got == content


async def test_an_empty_object_is_an_object(make_remote: MakeRemote) -> None:
    remote = make_remote()
    await remote.put(PACK, b"", timeout_seconds=TIMEOUT_SECONDS)
    assert await remote.fetch(PACK, max_bytes=0, timeout_seconds=TIMEOUT_SECONDS) == b""


async def test_a_file_is_put_as_its_bytes(make_remote: MakeRemote, tmp_path: Path) -> None:
    remote, file = make_remote(), tmp_path / "body"
    for size in [0, *SIZES]:
        key = pack_key(new_pack_name())
        file.write_bytes(make_content(size))
        await remote.put(key, file, timeout_seconds=TIMEOUT_SECONDS)
        got = await remote.fetch(key, max_bytes=size, timeout_seconds=TIMEOUT_SECONDS)
        assert got == file.read_bytes()


async def test_a_body_that_cannot_be_read_puts_nothing(
    make_remote: MakeRemote, tmp_path: Path
) -> None:
    remote = make_remote()
    with pytest.raises((RemoteError, FileNotFoundError)):
        await remote.put(PACK, tmp_path / "none", timeout_seconds=TIMEOUT_SECONDS)
    await remote.put(FORMAT_KEY, b"x", timeout_seconds=TIMEOUT_SECONDS)
    listed = await remote.list_objects("", timeout_seconds=TIMEOUT_SECONDS)
    assert [info.key for info in listed] == [FORMAT_KEY]


async def test_a_range_is_exact(make_remote: MakeRemote) -> None:
    remote, content = make_remote(), make_content(200_000)
    await remote.put(PACK, content, timeout_seconds=TIMEOUT_SECONDS)
    size = len(content)
    ranges = [(0, 1), (0, size), (1, 100), (size - 1, 1), (size // 2, size - size // 2)]
    for start, length in ranges:
        got = await remote.fetch_range(PACK, start, length, timeout_seconds=TIMEOUT_SECONDS)
        assert got == content[start : start + length]


async def test_a_range_past_the_end_is_an_error(make_remote: MakeRemote) -> None:
    remote, content = make_remote(), make_content(100)
    await remote.put(PACK, content, timeout_seconds=TIMEOUT_SECONDS)
    size = len(content)
    for start, length in [(size - 1, 2), (size, 1), (0, size + 1), (50 * size, 10)]:
        with pytest.raises(RemoteError) as caught:
            await remote.fetch_range(PACK, start, length, timeout_seconds=SHORT_SECONDS)
        assert not isinstance(caught.value, ObjectMissing)


async def test_a_missing_object_is_told_apart(make_remote: MakeRemote) -> None:
    remote = make_remote()
    await remote.put(FORMAT_KEY, b"x", timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(ObjectMissing, match=PACK):
        await remote.fetch(PACK, max_bytes=10, timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(ObjectMissing, match=PACK):
        await remote.fetch_range(PACK, 0, 10, timeout_seconds=TIMEOUT_SECONDS)


async def test_an_object_over_the_limit_is_refused(make_remote: MakeRemote) -> None:
    remote, content = make_remote(), make_content(1000)
    await remote.put(PACK, content, timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(MalformedObject):
        await remote.fetch(PACK, max_bytes=len(content) - 1, timeout_seconds=TIMEOUT_SECONDS)
    got = await remote.fetch(PACK, max_bytes=len(content), timeout_seconds=TIMEOUT_SECONDS)
    assert got == content


async def test_a_list_is_complete_in_order_and_of_its_prefix(make_remote: MakeRemote) -> None:
    remote = make_remote()
    wanted = {pack_key(new_pack_name()): number + 1 for number in range(50)}
    others = [FORMAT_KEY, index_key("0" * 64), "packs-old/x", "pack"]
    for key, size in wanted.items():
        await remote.put(key, make_content(size), timeout_seconds=TIMEOUT_SECONDS)
    for key in others:
        await remote.put(key, b"x", timeout_seconds=TIMEOUT_SECONDS)
    listed = await remote.list_objects("packs/", timeout_seconds=TIMEOUT_SECONDS)
    assert [(info.key, info.size) for info in listed] == sorted(wanted.items())
    listed = await remote.list_objects("", timeout_seconds=TIMEOUT_SECONDS)
    assert [info.key for info in listed] == sorted([*wanted, *others])


async def test_a_list_by_half_a_name_finds_what_begins_so(make_remote: MakeRemote) -> None:
    remote = make_remote()
    for key in ["packs/aa/1", "packs/ab/2", "packs/b/3", "packs/a"]:
        await remote.put(key, b"x", timeout_seconds=TIMEOUT_SECONDS)
    listed = await remote.list_objects("packs/a", timeout_seconds=TIMEOUT_SECONDS)
    assert [info.key for info in listed] == ["packs/a", "packs/aa/1", "packs/ab/2"]
    assert await remote.list_objects("tombs/", timeout_seconds=TIMEOUT_SECONDS) == []


async def test_a_list_longer_than_a_page_of_s3_is_complete(
    make_remote: MakeRemote, request: pytest.FixtureRequest
) -> None:
    remote = make_remote()
    moto = request.node.callspec.params["make_remote"] == "moto"
    count = 3 * MOTO_PAGE_KEYS + 1 if moto else S3_PAGE_KEYS + 1
    keys = [f"tombs/{number:05}" for number in range(count)]

    async def put_some(some: list[str]) -> None:
        for key in some:
            await remote.put(key, b"", timeout_seconds=TIMEOUT_SECONDS)

    async with trio.open_nursery() as nursery:
        for lane in range(8):
            nursery.start_soon(put_some, keys[lane::8])
    listed = await remote.list_objects("tombs/", timeout_seconds=TIMEOUT_SECONDS)
    assert [info.key for info in listed] == keys


async def test_a_listed_time_is_about_now(make_remote: MakeRemote, tmp_path: Path) -> None:
    remote = make_remote()
    (tmp_path / "now").touch()
    await remote.put(FORMAT_KEY, b"x", timeout_seconds=TIMEOUT_SECONDS)
    (info,) = await remote.list_objects(FORMAT_KEY, timeout_seconds=TIMEOUT_SECONDS)
    assert abs(info.modified_seconds - (tmp_path / "now").stat().st_mtime) < TIMEOUT_SECONDS


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(make_remote: MakeRemote) -> None:
    remote = make_remote()
    await remote.put(PACK, b"x", timeout_seconds=TIMEOUT_SECONDS)
    await remote.delete(PACK, timeout_seconds=TIMEOUT_SECONDS)
    await remote.delete(PACK, timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(ObjectMissing):
        await remote.fetch(PACK, max_bytes=1, timeout_seconds=TIMEOUT_SECONDS)
    assert await remote.list_objects("", timeout_seconds=TIMEOUT_SECONDS) == []


async def test_odd_keys_come_back_as_they_were(make_remote: MakeRemote) -> None:
    remote = make_remote()
    manifests = manifests_prefix("3f2504e0-4f89-11d3-9a0c-0305e82c3301", GitId("0" * 40))
    for key in [f"{manifests}01J0", "trash/a b+c%20d&e=f", "leases/ü-日本", "x/~'(*)!;:@$,"]:
        content = key.encode()
        await remote.put(key, content, timeout_seconds=TIMEOUT_SECONDS)
        got = await remote.fetch(key, max_bytes=len(content), timeout_seconds=TIMEOUT_SECONDS)
        assert got == content
        folder = key.split("/")[0] + "/"
        (info,) = await remote.list_objects(folder, timeout_seconds=TIMEOUT_SECONDS)
        assert info.key == key


async def test_many_ranges_at_once_do_not_mix(make_remote: MakeRemote) -> None:
    remote, content = make_remote(), make_content(1_000_000)
    await remote.put(PACK, content, timeout_seconds=TIMEOUT_SECONDS)
    got: dict[int, bytes] = {}

    async def get(start: int, length: int) -> None:
        got[start] = await remote.fetch_range(PACK, start, length, timeout_seconds=TIMEOUT_SECONDS)

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(get, number * 30_000, 1 + number * 1000)
    assert got == {
        start: content[start : start + length]
        for start, length in ((number * 30_000, 1 + number * 1000) for number in range(32))
    }


async def test_another_remote_over_the_same_storage_sees_the_same(make_remote: MakeRemote) -> None:
    await make_remote().put(PACK, b"x", timeout_seconds=TIMEOUT_SECONDS)
    got = await make_remote().fetch(PACK, max_bytes=1, timeout_seconds=TIMEOUT_SECONDS)
    assert got == b"x"


async def test_a_local_path_holds_the_object_where_there_is_one(make_remote: MakeRemote) -> None:
    remote = make_remote()
    await remote.put(PACK, b"x", timeout_seconds=TIMEOUT_SECONDS)
    path = remote.local_path(PACK)
    assert path is None or path.read_bytes() == b"x"


async def test_a_remote_says_where_it_is_and_closes(make_remote: MakeRemote) -> None:
    remote = make_remote()
    assert remote.url
    await remote.close()
