"""S3Remote with credentials that are refused, missing, half or new."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trio

from store.errors import RemoteDenied, RemoteMisconfigured
from store.s3_access import FIRST_REFUSAL_SECONDS, MOST_REFUSAL_SECONDS
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
