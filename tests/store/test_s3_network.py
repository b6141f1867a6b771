"""S3Remote over links that are slow, silent, cut or not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from store import s3
from store.errors import RemoteUnavailable
from store.retry import RetryingRemote
from tests.fakes.s3_remotes import (
    BUCKET,
    CONNECTIONS,
    CONTENT,
    KEY,
    TIMEOUT_SECONDS,
    fetch,
    remote_at,
)
from tests.fakes.s3_servers import S3Server, free_port
from tests.fakes.tcp_proxy import Link, TcpProxy

SHORT_SECONDS = 0.3


@pytest.fixture
def proxy(rclone_s3: S3Server) -> Iterator[TcpProxy]:
    """A link to a server that has the object."""
    rclone_s3.make_bucket(BUCKET)
    rclone_s3.client.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    with TcpProxy(rclone_s3.address) as proxy:
        yield proxy


async def test_through_a_good_link_the_object_comes_whole(proxy: TcpProxy) -> None:
    assert await fetch(remote_at(proxy.endpoint)) == CONTENT
    assert proxy.down_bytes >= len(CONTENT)


async def test_connections_are_used_again(proxy: TcpProxy) -> None:
    remote = remote_at(proxy.endpoint)
    for start in range(0, 100, 10):
        await remote.fetch_range(KEY, start, 10, timeout_seconds=TIMEOUT_SECONDS)
        await fetch(remote)
    assert proxy.connections == 1


@pytest.mark.parametrize(
    "link", [Link(stall=True), Link(trickle_seconds=0.02)], ids=["silence", "trickle"]
)
async def test_a_slow_server_does_not_outlive_the_deadline(proxy: TcpProxy, link: Link) -> None:
    remote = remote_at(proxy.endpoint)
    proxy.set_link(link)
    with trio.fail_after(TIMEOUT_SECONDS), pytest.raises(RemoteUnavailable, match="no answer"):
        await fetch(remote, SHORT_SECONDS)


async def test_a_thread_that_was_left_to_a_trickle_ends_on_its_own(proxy: TcpProxy) -> None:
    remote = remote_at(proxy.endpoint)
    # Ten seconds or more for the body, while the head is through at once.
    proxy.set_link(Link(down_bytes_per_second=len(CONTENT) / TIMEOUT_SECONDS))
    with pytest.raises(RemoteUnavailable):
        await fetch(remote, SHORT_SECONDS)
    with trio.fail_after(TIMEOUT_SECONDS / 2):
        while remote._limiter.borrowed_tokens:
            await trio.sleep(0.01)


async def test_after_silence_the_remote_works_again(proxy: TcpProxy) -> None:
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(stall=True))
    with pytest.raises(RemoteUnavailable):
        await fetch(remote, SHORT_SECONDS)
    proxy.set_link(Link())
    assert await fetch(remote) == CONTENT


async def test_after_one_silence_the_other_idle_connections_are_not_tried(proxy: TcpProxy) -> None:
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(delay_seconds=0.1))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fetch, remote)
    assert proxy.connections == 3
    proxy.set_link(Link())
    proxy.freeze_connections()
    with pytest.raises(RemoteUnavailable):
        await fetch(remote, SHORT_SECONDS)
    assert await fetch(remote) == CONTENT
    assert proxy.connections == 4


async def test_calls_that_are_stuck_keep_no_other_from_being_made(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as a trickle may hold a thread.
    monkeypatch.setattr(s3, "SILENCE_SECONDS", 10 * TIMEOUT_SECONDS)
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(stall=True))

    async def be_stuck() -> None:
        with pytest.raises(RemoteUnavailable):
            await fetch(remote, SHORT_SECONDS)

    async with trio.open_nursery() as nursery:
        for _ in range(2 * CONNECTIONS):
            nursery.start_soon(be_stuck)
    proxy.freeze_connections()
    proxy.set_link(Link())
    assert await fetch(remote) == CONTENT


async def test_a_server_that_is_silent_is_asked_again_over_a_new_connection(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "SILENCE_SECONDS", SHORT_SECONDS)
    plain = remote_at(proxy.endpoint)
    assert await fetch(plain) == CONTENT
    proxy.freeze_connections()
    remote = RetryingRemote(plain)
    assert await remote.fetch(KEY, max_bytes=len(CONTENT), timeout_seconds=TIMEOUT_SECONDS)
    assert proxy.connections == 2


@pytest.mark.parametrize("cut_after_bytes", [0, 40, len(CONTENT) // 2])
async def test_a_cut_body_is_unavailable_and_never_short(
    proxy: TcpProxy, cut_after_bytes: int
) -> None:
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(cut_after_bytes=cut_after_bytes))
    with pytest.raises(RemoteUnavailable):
        await fetch(remote)
    with pytest.raises(RemoteUnavailable):
        await remote.fetch_range(KEY, 0, len(CONTENT), timeout_seconds=TIMEOUT_SECONDS)
    proxy.set_link(Link())
    assert await fetch(remote) == CONTENT


async def test_a_server_that_went_away_and_came_back_is_used_again(proxy: TcpProxy) -> None:
    remote = remote_at(proxy.endpoint)
    assert await fetch(remote) == CONTENT
    proxy.set_link(Link(refuse=True))
    proxy.cut_connections()
    with pytest.raises(RemoteUnavailable):
        await fetch(remote)
    proxy.set_link(Link())
    assert await fetch(remote) == CONTENT


async def test_a_port_where_nobody_listens_is_unavailable() -> None:
    with pytest.raises(RemoteUnavailable):
        await fetch(remote_at(f"http://127.0.0.1:{free_port()}"))


async def test_a_host_that_does_not_exist_is_unavailable() -> None:
    with pytest.raises(RemoteUnavailable):
        await fetch(remote_at("http://host.invalid:9"))


async def test_a_large_put_ends_when_its_time_is_over(proxy: TcpProxy, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(8 * 1024 * 1024))
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(up_bytes_per_second=100_000.0))
    for source in (body, body.read_bytes()):
        with trio.fail_after(TIMEOUT_SECONDS), pytest.raises(RemoteUnavailable):
            await remote.put("packs/00/late", source, timeout_seconds=SHORT_SECONDS)


async def test_a_cancelled_put_is_cut(proxy: TcpProxy, rclone_s3: S3Server) -> None:
    remote = remote_at(proxy.endpoint)
    proxy.set_link(Link(up_bytes_per_second=100_000.0))
    with trio.move_on_after(SHORT_SECONDS) as scope:
        await remote.put("packs/00/cut", bytes(8 * 1024 * 1024), timeout_seconds=600)
    assert scope.cancelled_caught
    assert remote._limiter.borrowed_tokens == 0, "the thread of a put is waited for"
