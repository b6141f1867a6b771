"""Ranges of S3 objects by the short way round the client: the same answers, and the same errors."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import trio

from store.errors import ObjectMissing, RemoteDenied, RemoteError, RemoteUnavailable
from store.s3 import S3Location, S3Remote
from tests.fakes.lying_server import Liar, Reply, error_reply
from tests.fakes.s3_remotes import remote_at
from tests.fakes.s3_servers import S3Server

CONTENT = os.urandom(300_000)
KEY = "packs/00/object"


@pytest.fixture(params=["rclone_s3", "moto_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    found.make_bucket("ranges")
    return found


async def filled(remote: S3Remote) -> S3Remote:
    await remote.put(KEY, CONTENT, timeout_seconds=20)
    return remote


def client_of(remote: S3Remote) -> Any:
    """The connection that the remote uses now."""
    return remote._access._client


def count_ordinary(remote: S3Remote) -> list[object]:
    """The calls of get_object that a remote makes from now on."""
    calls: list[object] = []
    client = client_of(remote).client
    real: Callable[..., object] = client.get_object

    def counted(**arguments: object) -> object:
        calls.append(arguments)
        return real(**arguments)

    client.get_object = counted  # type: ignore[method-assign, assignment]
    return calls


async def test_ranges_after_the_first_go_the_short_way_and_are_the_same(server: S3Server) -> None:
    remote = await filled(remote_at(server.endpoint, "ranges"))
    ordinary = count_ordinary(remote)
    for start, length in ((0, 10), (5, 100_000), (299_999, 1), (0, 300_000)):
        found = await remote.fetch_range(KEY, start, length, timeout_seconds=20)
        assert found == CONTENT[start : start + length]
    assert len(ordinary) == 1
    await remote.close()


async def test_many_at_once_are_the_same(server: S3Server) -> None:
    remote = await filled(remote_at(server.endpoint, "ranges"))

    async def read(start: int) -> None:
        found = await remote.fetch_range(KEY, start, 1000, timeout_seconds=20)
        assert found == CONTENT[start : start + 1000]

    async with trio.open_nursery() as nursery:
        for start in range(0, 60_000, 1000):
            nursery.start_soon(read, start)
    await remote.close()


@pytest.mark.parametrize("prefix", ["some/where", "with blank", "naïve+plus&more"])
async def test_any_prefix_is_found(server: S3Server, prefix: str) -> None:
    location = S3Location("ranges", prefix, "us-east-1", server.endpoint)
    remote = await filled(S3Remote(location, connections=2))
    for _ in range(3):
        assert await remote.fetch_range(KEY, 7, 50, timeout_seconds=20) == CONTENT[7:57]
    await remote.close()


async def test_what_is_missing_is_missing_by_both_ways(server: S3Server) -> None:
    remote = await filled(remote_at(server.endpoint, "ranges"))
    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await remote.fetch_range("packs/00/nothing", 0, 10, timeout_seconds=20)
        assert await remote.fetch_range(KEY, 0, 10, timeout_seconds=20) == CONTENT[:10]
    await remote.close()


async def test_a_range_behind_the_end_is_an_error_by_both_ways(server: S3Server) -> None:
    remote = await filled(remote_at(server.endpoint, "ranges"))
    for _ in range(2):
        with pytest.raises(RemoteUnavailable):
            await remote.fetch_range(KEY, 299_990, 20, timeout_seconds=20)
        await remote.fetch_range(KEY, 0, 10, timeout_seconds=20)
    await remote.close()


def ranged(body: bytes, start: int = 0) -> Reply:
    end = start + len(body) - 1
    heads = {"Content-Range": f"bytes {start}-{end}/100", "Content-Length": str(len(body))}
    return Reply(206, body, heads)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (error_reply(403, "AccessDenied"), RemoteDenied),
        (error_reply(403, "InvalidAccessKeyId"), RemoteDenied),
        (error_reply(503, "SlowDown"), RemoteUnavailable),
        (error_reply(301, "PermanentRedirect", {"Location": "http://127.0.0.1:9/"}), RemoteError),
        (ranged(b"x" * 9), RemoteUnavailable),
        (ranged(b"x" * 10, start=1), RemoteUnavailable),
        (Reply(200, b"x" * 10, {"Content-Length": "10"}), RemoteUnavailable),
    ],
)
async def test_wrong_answers_by_the_short_way_are_the_errors_that_they_always_are(
    liar: Liar, reply: Reply, error: type[RemoteError]
) -> None:
    remote = remote_at(liar.endpoint)
    liar.answer = lambda _: ranged(b"x" * 10)
    assert await remote.fetch_range(KEY, 0, 10, timeout_seconds=5) == b"x" * 10
    liar.answer = lambda _: reply
    with pytest.raises(error):
        await remote.fetch_range(KEY, 0, 10, timeout_seconds=5)
    await remote.close()


async def test_the_short_way_signs_for_the_same_region_and_names_the_same_object(
    liar: Liar,
) -> None:
    signatures: list[str] = []

    def answer(request: object) -> Reply:
        signatures.append(request.headers["Authorization"].split(", Sig")[0])  # type: ignore[attr-defined]
        return ranged(b"x" * 10)

    liar.answer = answer
    location = S3Location("bucket", "pre", "eu-central-1", liar.endpoint)
    remote = S3Remote(location, connections=2)
    for _ in range(3):
        await remote.fetch_range(KEY, 0, 10, timeout_seconds=5)
    assert len(set(liar.requests)) == 1
    assert {text.split("/")[2] for text in signatures} == {"eu-central-1"}
    await remote.close()


class OtherClient:
    """A client of a botocore that is made of other parts."""

    def __init__(self, client: Any) -> None:
        self.get_object, self.meta, self.close = client.get_object, client.meta, client.close


async def test_with_another_botocore_ranges_go_the_ordinary_way(server: S3Server) -> None:
    remote = await filled(remote_at(server.endpoint, "ranges"))
    assert await remote.fetch_range(KEY, 0, 10, timeout_seconds=20) == CONTENT[:10]
    connection = client_of(remote)
    connection.client = OtherClient(connection.client)  # type: ignore[assignment]
    ordinary = count_ordinary(remote)
    for start in (0, 5, 7):
        found = await remote.fetch_range(KEY, start, 10, timeout_seconds=20)
        assert found == CONTENT[start : start + 10]
    assert len(ordinary) == 3
    await remote.close()
