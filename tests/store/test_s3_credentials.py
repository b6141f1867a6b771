"""S3Remote with credentials that are refused, missing, half or new."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trio

from store.errors import RemoteDenied, RemoteError, RemoteMisconfigured, RemoteUnavailable
from store.s3 import S3Remote
from store.s3_access import DOUBTFUL_READS, LEAST_SECONDS, REFUSED_SECONDS
from tests.fakes.lying_server import Liar, Reply, error_reply
from tests.fakes.s3_remotes import BUCKET, CONTENT, TIMEOUT_SECONDS, fetch, remote_at
from tests.fakes.s3_servers import S3Server


class HandClock:
    """A clock that stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


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


async def test_a_login_is_found_a_second_later(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, isolated_home: Path, clock: HandClock
) -> None:
    write_credentials(monkeypatch, isolated_home, "old")
    liar.answer = require_key("new")
    remote = remote_at(liar.endpoint, clock=clock)
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    write_credentials(monkeypatch, isolated_home, "new key")
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    liar.answer = require_key("new key")
    clock.now += LEAST_SECONDS
    assert await fetch(remote) == CONTENT
    assert len(liar.requests) == 2


@dataclass(frozen=True)
class Trouble:
    """An answer that a server gives as long as something is wrong."""

    status: int
    code: str
    kind: type[RemoteError]
    words: str


TROUBLES = [
    Trouble(403, "InvalidAccessKeyId", RemoteDenied, "credentials are refused.*log in again"),
    Trouble(403, "SignatureDoesNotMatch", RemoteDenied, "credentials are refused"),
    Trouble(400, "ExpiredToken", RemoteDenied, "credentials are refused"),
    Trouble(403, "RequestTimeTooSkewed", RemoteMisconfigured, "the clock of this machine is off"),
    Trouble(404, "NoSuchBucket", RemoteMisconfigured, "no such bucket"),
    Trouble(301, "PermanentRedirect", RemoteMisconfigured, "lies elsewhere"),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.code)
async def test_while_it_lasts_the_server_is_asked_once_a_minute_and_success_ends_it(
    liar: Liar, clock: HandClock, trouble: Trouble
) -> None:
    liar.always(error_reply(trouble.status, trouble.code))
    remote = remote_at(liar.endpoint, clock=clock)
    texts = set()
    for _ in range(3 * 6):
        clock.now += 10
        for key in ("packs/00/a", "packs/00/b", "index/c"):
            with pytest.raises(trouble.kind, match=trouble.words) as caught:
                await remote.fetch(key, max_bytes=9, timeout_seconds=TIMEOUT_SECONDS)
            texts.add(str(caught.value))
        with pytest.raises(trouble.kind):
            await remote.list_objects("packs/", timeout_seconds=TIMEOUT_SECONDS)
    assert len(liar.requests) == 3
    assert texts == set(remote.get_refusals().said.values()), "one sentence for all"
    liar.always(Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))}))
    clock.now += REFUSED_SECONDS
    assert remote.get_refusals().may_try
    assert await fetch(remote) == CONTENT
    assert not remote.get_refusals().said
    await fetch(remote)
    assert len(liar.requests) == 5


async def test_many_who_try_again_at_once_make_one_request(liar: Liar, clock: HandClock) -> None:
    liar.answer = require_key("another")
    remote = remote_at(liar.endpoint, clock=clock)

    async def be_refused() -> None:
        with pytest.raises(RemoteDenied):
            await fetch(remote)

    await be_refused()
    clock.now += REFUSED_SECONDS
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(be_refused)
    assert len(liar.requests) == 2


async def test_a_try_without_an_answer_is_soon_followed_by_another(
    liar: Liar, clock: HandClock
) -> None:
    liar.answer = require_key("another")
    remote = remote_at(liar.endpoint, clock=clock)
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    clock.now += REFUSED_SECONDS
    liar.always(error_reply(503, "SlowDown"))
    with pytest.raises(RemoteUnavailable):
        await fetch(remote)
    liar.always(Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))}))
    with pytest.raises(RemoteDenied):
        await fetch(remote)
    clock.now += LEAST_SECONDS
    assert await fetch(remote) == CONTENT


def refuse(*verbs: str) -> Callable[[BaseHTTPRequestHandler], Reply]:
    """A server that allows all but these verbs."""

    def answer(request: BaseHTTPRequestHandler) -> Reply:
        verb = "LIST" if "list-type" in request.path else request.command
        if verb in verbs:
            return error_reply(403, "AccessDenied")
        body = CONTENT if verb == "GET" else b""
        return Reply(200, body, {"Content-Length": str(len(body))})

    return answer


async def try_verb(remote: S3Remote, verb: str, key: str) -> None:
    if verb == "GET":
        await remote.fetch(key, max_bytes=len(CONTENT), timeout_seconds=TIMEOUT_SECONDS)
    elif verb == "PUT":
        await remote.put(key, b"body", timeout_seconds=TIMEOUT_SECONDS)
    elif verb == "LIST":
        await remote.list_objects(key, timeout_seconds=TIMEOUT_SECONDS)
    else:
        await remote.delete(key, timeout_seconds=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("verb", "words", "first_requests"),
    [
        ("GET", "read.*s3:GetObject", DOUBTFUL_READS),
        ("PUT", "write.*s3:PutObject", 1),
        ("LIST", "list.*s3:ListBucket", 1),
        ("DELETE", "delete.*s3:DeleteObject", 1),
    ],
)
async def test_a_verb_that_is_not_allowed_is_tried_once_a_minute_and_closes_no_other(
    liar: Liar, clock: HandClock, verb: str, words: str, first_requests: int
) -> None:
    liar.answer = refuse(verb)
    remote = remote_at(liar.endpoint, clock=clock)
    for minute in range(3):
        for number in range(6):
            with pytest.raises(RemoteDenied, match=f"not allowed to {words}"):
                await try_verb(remote, verb, f"packs/00/{number}")
        assert len(liar.requests) == first_requests + minute
        clock.now += REFUSED_SECONDS
    before = len(liar.requests)
    other = "PUT" if verb == "GET" else "GET"
    await try_verb(remote, other, "packs/00/0")
    assert len(liar.requests) == before + 1
    liar.answer = refuse()
    if verb != "LIST":
        await try_verb(remote, verb, "packs/00/9")
        assert not remote.get_refusals().said


async def test_an_object_that_is_not_allowed_does_not_close_the_others(liar: Liar) -> None:
    def answer(request: BaseHTTPRequestHandler) -> Reply:
        if "secret" in request.path:
            return error_reply(403, "AccessDenied")
        return Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))})

    liar.answer = answer
    remote = remote_at(liar.endpoint)
    for number in range(10):
        for _ in range(2):
            with pytest.raises(RemoteDenied, match="not allowed"):
                await try_verb(remote, "GET", f"packs/00/secret{number}")
        assert await fetch(remote) == CONTENT
    assert len(liar.requests) == 20, "for one object nobody asks twice"


def dated(code: str, seconds: float) -> Reply:
    """A refusal by a server whose clock is so far ahead of ours."""
    return error_reply(403, code, {"Date": formatdate(time.time() + seconds, usegmt=True)})


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch", "AccessDenied"])
@pytest.mark.parametrize(("seconds", "side"), [(3600, "behind"), (-3600, "ahead of")])
async def test_a_clock_that_is_off_by_an_hour_is_what_is_said(
    liar: Liar, code: str, seconds: float, side: str
) -> None:
    liar.always(dated(code, seconds))
    with pytest.raises(RemoteMisconfigured, match=f"clock .* is 60 minutes {side} the server's"):
        await fetch(remote_at(liar.endpoint))


async def test_a_clock_that_is_nearly_right_is_not_blamed(liar: Liar) -> None:
    liar.always(dated("SignatureDoesNotMatch", 300))
    with pytest.raises(RemoteDenied, match="credentials"):
        await fetch(remote_at(liar.endpoint))


async def test_a_clock_that_was_set_right_is_found_a_second_later(
    liar: Liar, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar.always(dated("RequestTimeTooSkewed", 3600))
    remote = remote_at(liar.endpoint, clock=clock)
    with pytest.raises(RemoteMisconfigured, match="clock"):
        await fetch(remote)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    liar.always(Reply(200, CONTENT, {"Content-Length": str(len(CONTENT))}))
    clock.now += LEAST_SECONDS
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
