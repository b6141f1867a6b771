"""S3Remote and what a server says: every answer has its kind, and a lie gives no bytes."""

import dataclasses
import gc
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import (
    MalformedObject,
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.s3 import PLAIN_BODY_BYTES
from store.s3_answers import Answer, get_range_fault, translate_answer
from tests.fakes.lying_server import Liar, Reply, error_reply, serve_liar
from tests.fakes.s3_remotes import BUCKET, CONTENT, KEY, TIMEOUT_SECONDS, fetch, remote_at
from tests.fakes.s3_servers import S3Server


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", ObjectMissing),
        (404, "NoSuchBucket", RemoteMisconfigured),
        (400, "AuthorizationHeaderMalformed", RemoteMisconfigured),
        (403, "RequestTimeTooSkewed", RemoteMisconfigured),
        (401, "Unauthorized", RemoteDenied),
        (403, "AccessDenied", RemoteDenied),
        (403, "InvalidAccessKeyId", RemoteDenied),
        (403, "SignatureDoesNotMatch", RemoteDenied),
        (400, "ExpiredToken", RemoteDenied),
        (500, "InternalError", RemoteUnavailable),
        (503, "SlowDown", RemoteUnavailable),
        (429, "TooManyRequests", RemoteUnavailable),
        (400, "RequestTimeout", RemoteUnavailable),
        (400, "SomethingNew", RemoteError),
    ],
)
async def test_each_answer_has_its_kind(
    liar: Liar, status: int, code: str, kind: type[RemoteError]
) -> None:
    liar.always(error_reply(status, code))
    remote = remote_at(liar.endpoint)
    with pytest.raises(RemoteError) as caught:
        await fetch(remote)
    assert type(caught.value) is kind
    assert caught.value.temporary == (kind is RemoteUnavailable)
    assert caught.value.__cause__ is not None
    assert remote.url in str(caught.value)
    assert len(liar.requests) == 1, "the retry is not the remote's"


@given(st.text(max_size=20), st.integers(0, 999))
def test_any_answer_at_all_has_a_kind(code: str, status: int) -> None:
    error = translate_answer(Answer(code, status), "somewhere")
    assert str(error).startswith("somewhere: ")
    assert isinstance(error, RemoteMisconfigured) or not 300 <= status < 400


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_gateway_that_speaks_html_is_unavailable(liar: Liar, status: int) -> None:
    body = b"<html><body><h1>Bad gateway</h1>"
    liar.always(Reply(status, body, {"Content-Length": str(len(body))}))
    with pytest.raises(RemoteUnavailable):
        await fetch(remote_at(liar.endpoint))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_to_another_host_is_followed(liar: Liar, status: int) -> None:
    with serve_liar() as other:
        reply = error_reply(
            status,
            "PermanentRedirect",
            {"Location": other.endpoint, "x-amz-bucket-region": "eu-west-1"},
        )
        liar.always(reply)
        with pytest.raises(RemoteMisconfigured, match="region"):
            await fetch(remote_at(liar.endpoint))
        assert other.requests == []
    assert len(liar.requests) == 1


async def test_a_bucket_that_is_not_there_is_said_so(
    moto_server: S3Server, rclone_s3: S3Server
) -> None:
    for server in (moto_server, rclone_s3):
        remote = remote_at(server.endpoint, bucket="nowhere")
        with pytest.raises(RemoteMisconfigured, match="no such bucket"):
            await fetch(remote)
        with pytest.raises(RemoteMisconfigured, match="no such bucket"):
            await remote.list_objects("", timeout_seconds=TIMEOUT_SECONDS)


def range_reply(body: bytes, content_range: str | None, status: int = 206) -> Reply:
    headers = {"Content-Length": str(len(body))}
    if content_range is not None:
        headers["Content-Range"] = content_range
    return Reply(status, body, headers)


@pytest.mark.parametrize(
    "reply",
    [
        range_reply(CONTENT, None, status=200),
        range_reply(CONTENT[10:20], None),
        range_reply(CONTENT[10:20], f"bytes 11-20/{len(CONTENT)}"),
        range_reply(CONTENT[10:19], f"bytes 10-18/{len(CONTENT)}"),
        range_reply(CONTENT[10:19], f"bytes 10-19/{len(CONTENT)}"),
        range_reply(CONTENT[10:21], f"bytes 10-19/{len(CONTENT)}"),
        range_reply(CONTENT[10:20], "bytes 10-19/many"),
        Reply(206, CONTENT[10:30], {"Content-Range": f"bytes 10-19/{len(CONTENT)}"}),
        Reply(
            206,
            CONTENT[10:15],
            {"Content-Range": f"bytes 10-19/{len(CONTENT)}", "Content-Length": "10"},
        ),
    ],
    ids=[
        *("range ignored", "no place", "other place", "shorter", "short"),
        *("long", "odd place", "no length", "cut"),
    ],
)
async def test_a_wrong_answer_to_a_range_gives_no_bytes(liar: Liar, reply: Reply) -> None:
    liar.always(reply)
    with pytest.raises(RemoteUnavailable):
        await remote_at(liar.endpoint).fetch_range(KEY, 10, 10, timeout_seconds=TIMEOUT_SECONDS)


async def test_bytes_past_the_stated_length_do_not_reach_the_next_answer(liar: Liar) -> None:
    good = range_reply(CONTENT[10:20], f"bytes 10-19/{len(CONTENT)}")
    liar.always(dataclasses.replace(good, body=CONTENT[10:99]))
    remote = remote_at(liar.endpoint)
    for _ in range(3):
        got = await remote.fetch_range(KEY, 10, 10, timeout_seconds=TIMEOUT_SECONDS)
        assert got == CONTENT[10:20]


SLIP = st.integers(-2, 2)


@given(st.integers(0, 2**50), st.integers(1, 2**30), SLIP, SLIP, SLIP)
def test_only_the_range_that_was_asked_for_is_right(
    start: int, length: int, moved: int, longer: int, more: int
) -> None:
    end = start + moved + length + longer - 1
    content_range = f"bytes {start + moved}-{end}/{end + 1}"
    fault = get_range_fault(206, content_range, length + more, start, length)
    assert (fault is None) == (moved == longer == more == 0)


async def test_an_answer_that_states_no_length_is_not_taken_for_whole(liar: Liar) -> None:
    liar.always(Reply(200, CONTENT[:100]))
    with pytest.raises(RemoteUnavailable, match="no length"):
        await fetch(remote_at(liar.endpoint))


def list_reply(*keys: str, more: str = "<IsTruncated>false</IsTruncated>") -> Reply:
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    body = f"<ListBucketResult>{more}{entries}</ListBucketResult>".encode()
    return Reply(200, body, {"Content-Length": str(len(body))})


def spoilt_list(part: str, instead: str) -> Reply:
    body = list_reply("packs/a").body.replace(part.encode(), instead.encode())
    return Reply(200, body, {"Content-Length": str(len(body))})


@pytest.mark.parametrize("length", ["!8", "-8", "8.5", "9" * 5000])
async def test_a_length_that_is_none_is_no_answer(liar: Liar, length: str) -> None:
    heads = {"Content-Range": f"bytes 10-19/{len(CONTENT)}", "Content-Length": length}
    remote = remote_at(liar.endpoint)
    liar.always(range_reply(CONTENT[10:20], f"bytes 10-19/{len(CONTENT)}"))
    await remote.fetch_range(KEY, 10, 10, timeout_seconds=TIMEOUT_SECONDS)
    liar.always(Reply(206, CONTENT[10:20], heads))
    # By the short way of a range after the first, and by the ordinary one.
    with pytest.raises(RemoteUnavailable):
        await remote.fetch_range(KEY, 10, 10, timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises((RemoteUnavailable, MalformedObject)):
        await fetch(remote)
    await remote.close()
    # botocore lets go of an answer whose head it cannot read without closing it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (list_reply("packs/a", more="<IsTruncated>true</IsTruncated>"), "breaks off"),
        (
            list_reply(
                "packs/a",
                more="<IsTruncated>true</IsTruncated>"
                "<NextContinuationToken>again</NextContinuationToken>",
            ),
            "breaks off",
        ),
        (list_reply("packs/a", more=""), "breaks off"),
        (Reply(200), "breaks off"),
        (Reply(200, b"<ListBucketResult><Contents>", {"Content-Length": "28"}), "cannot answer"),
        (list_reply("packs/a", "tombs/b"), "tombs/b"),
        (spoilt_list("<Size>1</Size>", ""), "not whole"),
        (spoilt_list("<Key>packs/a</Key>", ""), "not whole"),
        (spoilt_list("LastModified", "Modified"), "not whole"),
        (spoilt_list("2026-01-01T00:00", "2026-13-41"), "cannot be read"),
        (spoilt_list("<Size>1", "<Size>one"), "cannot be read"),
    ],
    ids=[
        *("no token", "no end", "no word of an end", "empty", "cut", "other prefix"),
        *("no size", "no key", "no date", "a date that is none", "a size that is none"),
    ],
)
async def test_a_list_that_is_not_whole_or_not_ours_is_an_error(
    liar: Liar, reply: Reply, fault: str
) -> None:
    liar.always(reply)
    remote = remote_at(liar.endpoint)
    with pytest.raises(RemoteError, match=fault):
        await remote.list_objects("packs/", timeout_seconds=TIMEOUT_SECONDS)
    await remote.close()


async def test_a_file_goes_up_in_one_request(liar: Liar, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(PLAIN_BODY_BYTES + 20 * 1024 * 1024))
    liar.always(Reply(200, headers={"Content-Length": "0"}))
    await remote_at(liar.endpoint).put(KEY, body, timeout_seconds=TIMEOUT_SECONDS)
    assert liar.requests == [("PUT", f"/{BUCKET}/{KEY}")]


async def test_nothing_is_asked_that_only_some_servers_know(liar: Liar, tmp_path: Path) -> None:
    headers: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> Reply:
        headers.extend(f"{name}: {value}".lower() for name, value in request.headers.items())
        return Reply(200, headers={"Content-Length": "0"})

    liar.answer = answer
    remote = remote_at(liar.endpoint)
    (tmp_path / "body").write_bytes(bytes(2 * PLAIN_BODY_BYTES))
    assert await fetch(remote) == b""
    await remote.put(KEY, b"x", timeout_seconds=TIMEOUT_SECONDS)
    await remote.put(KEY, tmp_path / "body", timeout_seconds=TIMEOUT_SECONDS)
    assert len(liar.requests) == 3
    assert not [line for line in headers if "checksum" in line or "aws-chunked" in line]
