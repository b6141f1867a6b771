"""The remote that is made at its first use."""

import threading

import pytest
import trio

from store import deferred_remote
from store.config import RemoteSettings
from store.deferred_remote import DeferredRemote
from store.remote import Remote
from tests.fakes.memory_remote import MemoryRemote
from tests.fakes.repositories import bucket_remote


async def test_the_loop_goes_on_while_credentials_are_looked_for_and_that_is_done_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = threading.Event()
    made: list[Remote] = []

    def make_slowly(_: RemoteSettings) -> Remote:
        # In the loop itself nobody would be left to find them.
        assert found.wait(timeout=20)
        made.append(MemoryRemote())
        return made[0]

    monkeypatch.setattr(deferred_remote, "_make_s3", make_slowly)
    remote = DeferredRemote(bucket_remote())
    async with trio.open_nursery() as nursery:
        for key in ("a", "b", "c"):
            nursery.start_soon(lambda key: remote.put(key, b"x", timeout_seconds=20), key)
        await trio.sleep(0.01)
        found.set()
    assert len(made) == 1
    listed = await remote.list_objects("", timeout_seconds=20)
    assert [info.key for info in listed] == ["a", "b", "c"]


async def test_closing_one_that_was_never_used_makes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deferred_remote, "_make_s3", lambda _: pytest.fail("made for nothing"))
    remote = DeferredRemote(bucket_remote("nowhere"))
    assert (remote.url, remote.local_path("format")) == ("s3://nowhere", None)
    await remote.close()
