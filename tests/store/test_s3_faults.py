"""S3Remote where servers, networks and credentials fail or lie."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.errors import (
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.s3 import (
    FIRST_REFUSAL_SECONDS,
    MOST_REFUSAL_SECONDS,
    PLAIN_BODY_BYTES,
    S3Location,
    S3Remote,
)
from store.s3_answers import Answer, get_range_fault, translate_answer
from tests.fakes.s3_servers import S3Server, free_port
from tests.fakes.tcp_proxy import Link, TcpProxy

BUCKET = "faults"
KEY = "packs/00/object"
CONTENT = bytes(range(256)) * 1024
SHORT_SECONDS = 0.3
TIMEOUT_SECONDS = 10.0


@dataclass
class Reply:
    """What the liar says: headers as given, Content-Length only if among them."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def error_reply(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so</Message></Error>".encode()
    return Reply(status, body, {"Content-Length": str(len(body)), **(headers or {})})


class Liar:
    """An HTTP server that says what `answer` says, whatever is asked. `requests` are what was
    asked: (verb, path)."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], Reply] = lambda _: Reply(500)
        self.requests: list[tuple[str, str]] = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                liar.requests.append((self.command, self.path))
                reply = liar.answer(self)
                self.send_response(reply.status)
                self.send_header("Connection", "close")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_PUT = do_DELETE = do_HEAD = reply  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing: tests look at `requests`."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def always(self, reply: Reply) -> None:
        self.answer = lambda _: reply


@contextmanager
def serve_liar() -> Iterator[Liar]:
    liar = Liar()
    # A short poll: shutdown waits for it.
    thread = threading.Thread(target=liar.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield liar
    finally:
        liar.server.shutdown()
        thread.join()
        liar.server.server_close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    with serve_liar() as liar:
        yield liar


@pytest.fixture
def proxy(rclone_s3: S3Server) -> Iterator[TcpProxy]:
    """A link to a server that has the object."""
    rclone_s3.make_bucket(BUCKET)
    rclone_s3.client.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    with TcpProxy(rclone_s3.address) as proxy:
        yield proxy


class HandClock:
    """A clock that stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def remote_at(
    endpoint: str,
    bucket: str = BUCKET,
    profile: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> S3Remote:
    location = S3Location(bucket, "", "us-east-1", endpoint, profile)
    return S3Remote(location, connections=4, clock=clock)


async def fetch(remote: S3Remote, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    return await remote.fetch(KEY, max_bytes=len(CONTENT), timeout_seconds=timeout_seconds)


# The network


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


async def test_a_file_goes_up_in_one_request(liar: Liar, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(PLAIN_BODY_BYTES + 20 * 1024 * 1024))
    liar.always(Reply(200, headers={"Content-Length": "0"}))
    await remote_at(liar.endpoint).put(KEY, body, timeout_seconds=TIMEOUT_SECONDS)
    assert liar.requests == [("PUT", f"/{BUCKET}/{KEY}")]


# Answers that are errors


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


# Answers that lie


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
    ],
    ids=["no token", "no end", "no word of an end", "empty", "cut", "other prefix"],
)
async def test_a_list_that_is_not_whole_or_not_ours_is_an_error(
    liar: Liar, reply: Reply, fault: str
) -> None:
    liar.always(reply)
    with pytest.raises(RemoteError, match=fault):
        await remote_at(liar.endpoint).list_objects("packs/", timeout_seconds=TIMEOUT_SECONDS)


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


# Credentials


def require_key(key: str) -> Callable[[BaseHTTPRequestHandler], Reply]:
    """A server that knows only this access key."""

    def answer(request: BaseHTTPRequestHandler) -> Reply:
        if f"Credential={key}/" in request.headers.get("Authorization", ""):
            return Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))})
        return error_reply(403, "InvalidAccessKeyId")

    return answer


def write_credentials(monkeypatch: pytest.MonkeyPatch, home: Path, key: str) -> None:
    file = home / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))


async def test_while_credentials_are_refused_the_server_is_left_alone(liar: Liar) -> None:
    liar.answer = require_key("another")
    remote = remote_at(liar.endpoint)
    texts = set()
    for _ in range(5):
        with pytest.raises(RemoteDenied) as caught:
            await fetch(remote)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert len(liar.requests) == 1


async def test_new_credentials_in_the_file_are_found_after_a_pause(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, isolated_home: Path, clock: HandClock
) -> None:
    write_credentials(monkeypatch, isolated_home, "old")
    liar.answer = require_key("new")
    remote = remote_at(liar.endpoint, clock=clock)
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    write_credentials(monkeypatch, isolated_home, "new")
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    clock.now += FIRST_REFUSAL_SECONDS
    assert await fetch(remote) == CONTENT


async def test_each_refusal_doubles_the_pause_up_to_its_bound_and_success_ends_it(
    liar: Liar, clock: HandClock
) -> None:
    remote = remote_at(liar.endpoint, clock=clock)

    async def is_asked_and_refuses() -> bool:
        before = len(liar.requests)
        with pytest.raises(RemoteDenied):
            await fetch(remote)
        return len(liar.requests) > before

    liar.answer = require_key("another")
    for number in range(7):
        assert await is_asked_and_refuses()
        pause = min(MOST_REFUSAL_SECONDS, FIRST_REFUSAL_SECONDS * 2**number)
        clock.now += pause * 0.99
        assert not await is_asked_and_refuses()
        clock.now += pause * 0.01
    liar.always(Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))}))
    assert await fetch(remote) == CONTENT
    liar.answer = require_key("another")
    assert await is_asked_and_refuses()
    clock.now += FIRST_REFUSAL_SECONDS
    assert await is_asked_and_refuses()


async def test_many_refusals_at_once_count_as_one(liar: Liar, clock: HandClock) -> None:
    liar.answer = require_key("another")
    remote = remote_at(liar.endpoint, clock=clock)

    async def be_refused() -> None:
        with pytest.raises(RemoteDenied):
            await fetch(remote)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(be_refused)
    clock.now += FIRST_REFUSAL_SECONDS
    liar.always(Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))}))
    assert await fetch(remote) == CONTENT


async def test_an_object_that_is_not_allowed_does_not_close_the_others(liar: Liar) -> None:
    def answer(request: BaseHTTPRequestHandler) -> Reply:
        if "secret" in request.path:
            return error_reply(403, "AccessDenied")
        return Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))})

    liar.answer = answer
    remote = remote_at(liar.endpoint)
    with pytest.raises(RemoteDenied, match="not allowed"):
        await remote.fetch("secret", max_bytes=9, timeout_seconds=TIMEOUT_SECONDS)
    assert await fetch(remote) == CONTENT


async def test_without_credentials_a_call_is_denied_and_nothing_is_sent(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RemoteDenied, match="credentials"):
        await fetch(remote_at(liar.endpoint))
    assert liar.requests == []


async def test_half_credentials_are_denied_at_the_call_not_before(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote = remote_at(liar.endpoint)
    with pytest.raises(RemoteDenied, match="credentials"):
        await fetch(remote)


async def test_a_role_that_wants_a_one_time_password_is_denied_without_a_prompt(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    config = isolated_home / "config"
    config.write_text(
        "[profile base]\naws_access_key_id = x\naws_secret_access_key = x\n"
        "[profile team]\nrole_arn = arn:aws:iam::123456789012:role/team\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(RemoteDenied, match="MFA"):
        await fetch(remote_at(liar.endpoint, profile="team"))


def test_a_profile_that_does_not_exist_is_said_so_at_once() -> None:
    with pytest.raises(RemoteMisconfigured, match="nobody"):
        remote_at("http://127.0.0.1:9", profile="nobody")


def test_an_endpoint_that_is_no_address_is_said_so_at_once() -> None:
    with pytest.raises(RemoteMisconfigured, match="no address"):
        remote_at("no address")


async def test_real_servers_refuse_a_wrong_key(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    rclone_s3.make_bucket(BUCKET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    with pytest.raises(RemoteDenied):
        await fetch(remote_at(rclone_s3.endpoint))
