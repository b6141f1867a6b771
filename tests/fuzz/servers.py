"""Target: whatever a server answers to what an S3 remote asks, through the real HTTP and S3
libraries, over a pair of sockets in place of a network."""

import os
import re
import socket
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import trio
from urllib3.util import connection

from store.errors import MalformedObject, RemoteError, StoreError
from store.remote import ObjectInfo
from store.s3 import S3Location, S3Remote
from store.s3_answers import Answer, get_range_fault, translate_answer
from tests.fuzz.target import Target, is_harmless, only

TIMEOUT_SECONDS = 10.0
MOST_BYTES = 8
BODY = b"x" * MOST_BYTES
KEY = "packs/00/object"


class Server:
    """Every connection that urllib3 makes ends here; `answers` are given to one after the other,
    the last one to all that follow."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self._ends: list[socket.socket] = []

    def connect(self, *_: Any, **__: Any) -> socket.socket:
        """In place of urllib3's own function."""
        ours, theirs = socket.socketpair()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        # The answer fits in the buffer of the socket, so that nobody has to wait for a reader.
        ours.sendall(answer)
        ours.shutdown(socket.SHUT_WR)
        self._ends.append(ours)
        return theirs

    def close(self) -> None:
        """Let go of the connections."""
        while self._ends:
            self._ends.pop().close()


_server = Server()
_remotes: list[S3Remote] = []


def _remote() -> S3Remote:
    """One remote for all: what a hostile answer leaves behind would be a finding too."""
    if not _remotes:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        connection.create_connection = _server.connect  # type: ignore[assignment]
        location = S3Location("bucket", "p", "us-east-1", "http://localhost:9")
        # No pause after a refusal: the clock has gone on by hours at each look.
        remote = S3Remote(location, connections=2, clock=partial(next, count(0, 10_000)))
        # A new client takes a hundred times as long as an answer.
        client = remote._access._client
        remote._access._make_client = lambda: client
        _remotes.append(remote)
    return _remotes[0]


def check_s3_answers(raw: bytes) -> None:
    """Exactly what was asked for, or a RemoteError. The first byte says what is asked."""
    if not raw:
        return
    ask = (_fetch, _fetch_range, _fetch_range_again, _list, _delete, _put)[raw[0] % 6]
    _server.answers = [raw[1:]]
    try:
        with only(RemoteError, MalformedObject):
            trio.run(ask, _remote())
    finally:
        _server.close()


async def _fetch(remote: S3Remote) -> None:
    found = await remote.fetch(KEY, max_bytes=MOST_BYTES, timeout_seconds=TIMEOUT_SECONDS)
    assert len(found) <= MOST_BYTES


async def _fetch_range(remote: S3Remote) -> None:
    found = await remote.fetch_range(KEY, 3, len(BODY), timeout_seconds=TIMEOUT_SECONDS)
    assert len(found) == len(BODY)


async def _fetch_range_again(remote: S3Remote) -> None:
    hostile = _server.answers[0]
    _server.answers = [RANGE, hostile]
    await _fetch_range(remote)
    await _fetch_range(remote)


async def _list(remote: S3Remote) -> None:
    found = await remote.list_objects("packs/", timeout_seconds=TIMEOUT_SECONDS)
    for info in found:
        assert info.key.startswith("packs/")
        assert isinstance(info.size, int)
        assert isinstance(info.modified_seconds, float)
    assert list(found) == sorted(found, key=lambda info: info.key)
    assert all(isinstance(info, ObjectInfo) for info in found)


async def _delete(remote: S3Remote) -> None:
    await remote.delete(KEY, timeout_seconds=TIMEOUT_SECONDS)


async def _put(remote: S3Remote) -> None:
    await remote.put(KEY, BODY, timeout_seconds=TIMEOUT_SECONDS)


def _reply(head: str, body: bytes, **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {head}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


RANGE = _reply("206 Partial Content", BODY, Content_Range="bytes 3-10/100")
LIST = (
    b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/packs/a</Key>"
    b"<LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>5</Size></Contents>"
    b"</ListBucketResult>"
)


def s3_answer_seeds() -> Iterator[bytes]:
    """A right answer to each verb; errors; cut, chunked and redirecting ones."""
    for verb, answer in enumerate(
        (
            _reply("200 OK", BODY),
            RANGE,
            RANGE,
            _reply("200 OK", LIST),
            _reply("204 No Content", b""),
            _reply("200 OK", b"", ETag='"x"'),
        )
    ):
        yield bytes([verb]) + answer
        yield bytes([verb]) + answer[:-3]
    error = b"<Error><Code>SlowDown</Code><Message>so</Message></Error>"
    yield b"\0" + _reply("503 Slow Down", error)
    yield b"\1" + _reply(
        "301 Moved", error, Location="http://elsewhere.example/", x_amz_bucket_region="x"
    )
    yield b"\3" + _reply("403 Forbidden", error.replace(b"SlowDown", b"InvalidAccessKeyId"))
    head = b"HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 3-10/9\r\n\r\n"
    yield b"\1" + head + b"8\r\n" + BODY + b"\r\n0\r\n\r\n"


def check_answer_heads(raw: bytes) -> None:
    """Only the very range that was asked for is right; any error has a kind, in printable words."""
    code, status, rest = raw[:20], int.from_bytes(raw[20:22], "little"), raw[22:]
    said = rest.decode("utf-8", "replace")
    error = translate_answer(Answer(code.decode("latin-1"), status, said), "s3://bucket: key")
    assert isinstance(error, StoreError)
    assert is_harmless(str(error)), str(error)
    status = (200, 206, status)[status % 3]
    if get_range_fault(status, said, 8, 3, 8) is None:
        assert status in (200, 206)
        assert re.fullmatch(r"bytes 3-10/(\d+|\*)", said)
    assert get_range_fault(status, None, 8, 3, 8)


def answer_head_seeds() -> Iterator[bytes]:
    """A right range and an error."""
    yield bytes(20) + b"\0\0" + b"bytes 3-10/100"
    yield b"AccessDenied".ljust(20, b"\0") + b"\x93\1" + b"no\x1b[2J"


TARGETS = {
    "s3-answers": Target(check_s3_answers, s3_answer_seeds, 3000),
    "s3-heads": Target(check_answer_heads, answer_head_seeds, 200),
}
