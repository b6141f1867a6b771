"""RetryingRemote: when it tries again, for how long, and what it says in the end."""

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from store.errors import (
    MalformedObject,
    ObjectMissing,
    RemoteDenied,
    RemoteMisconfigured,
    RemoteUnavailable,
)
from store.remote import Remote
from store.retry import (
    SLOW_LINK_BYTES_PER_SECOND,
    SMALL_ATTEMPT_SECONDS,
    RetryingRemote,
    get_attempt_seconds,
    plan_pause,
)
from tests.fakes.faulty_remote import Cuts, Delays, Fault, FaultyRemote, Hangs, Plan, Raises
from tests.fakes.memory_remote import Call, MemoryRemote

TIMEOUT_SECONDS = 30.0
BUSY = RemoteUnavailable("the server is busy")
SECONDS = st.floats(min_value=0.001, max_value=1e6)
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)


def fails(times: int, fault: Fault) -> Plan:
    return lambda call, number: fault if number < times else None


async def stored(content: bytes = b"content", key: str = "key") -> MemoryRemote:
    remote = MemoryRemote()
    await remote.put(key, content, timeout_seconds=1)
    remote.calls.clear()
    return remote


async def call_each(remote: Remote, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Every method once."""
    await remote.put("key", b"content", timeout_seconds=timeout_seconds)
    await remote.fetch("key", max_bytes=99, timeout_seconds=timeout_seconds)
    await remote.fetch_range("key", 0, 1, timeout_seconds=timeout_seconds)
    await remote.list_objects("", timeout_seconds=timeout_seconds)
    await remote.delete("key", timeout_seconds=timeout_seconds)


@given(st.integers(1, 10_000), SECONDS, SECONDS, SECONDS, JITTER)
def test_a_pause_never_passes_its_bounds(
    failures: int, remaining: float, first: float, most: float, jitter: float
) -> None:
    pause = plan_pause(
        failures, remaining, first_pause_seconds=first, most_pause_seconds=most, jitter=jitter
    )
    assert pause is None or 0 <= pause <= min(most, first * 2.0 ** min(failures - 1, 64))
    assert pause is None or pause < remaining


@given(st.integers(1, 100), SECONDS, SECONDS, JITTER)
def test_the_bound_doubles_until_it_is_the_most(
    failures: int, first: float, most: float, jitter: float
) -> None:
    def plan(failures: int, jitter: float) -> float:
        pause = plan_pause(
            failures,
            float("inf"),
            first_pause_seconds=first,
            most_pause_seconds=most,
            jitter=jitter,
        )
        assert pause is not None
        return pause

    now, then = plan(failures, 0.5), plan(failures + 1, 0.5)
    assert then == pytest.approx(min(2 * now, most / 2))
    assert plan(failures, jitter) == pytest.approx(2 * now * jitter)


@given(st.integers(1, 100), SECONDS)
def test_no_time_left_means_no_pause(failures: int, over: float) -> None:
    for remaining in (0.0, -over):
        assert (
            plan_pause(failures, remaining, first_pause_seconds=1, most_pause_seconds=1, jitter=0.0)
            is None
        )


@given(st.integers(0, 2**40), SECONDS)
def test_an_attempt_gets_time_for_its_bytes_but_no_more_than_remains(
    size: int, remaining: float
) -> None:
    seconds = get_attempt_seconds(size, remaining)
    assert seconds <= remaining
    if seconds < remaining:
        assert seconds >= SMALL_ATTEMPT_SECONDS
        assert seconds * SLOW_LINK_BYTES_PER_SECOND >= size


@pytest.mark.virtual_clock
async def test_every_call_is_made_again_after_a_temporary_error() -> None:
    faulty = FaultyRemote(MemoryRemote(), lambda call, number: Raises(BUSY) if number % 2 else None)
    faulty_first = FaultyRemote(faulty, lambda call, number: None if number % 2 else Raises(BUSY))
    await call_each(RetryingRemote(faulty_first, random=random.Random(1).random))
    assert {call.verb for call in faulty_first.calls} == {
        *("put", "fetch", "fetch_range", "list", "delete")
    }


@pytest.mark.parametrize(
    "error",
    [
        ObjectMissing("gone"),
        RemoteDenied("no"),
        RemoteMisconfigured("no bucket"),
        MalformedObject("large"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_not_temporary_passes_at_once(error: Exception) -> None:
    faulty = FaultyRemote(await stored(), lambda call, number: Raises(error))
    with pytest.raises(type(error)) as caught:
        await RetryingRemote(faulty).fetch("key", max_bytes=99, timeout_seconds=TIMEOUT_SECONDS)
    assert caught.value is error
    assert len(faulty.calls) == 1


@pytest.mark.virtual_clock
async def test_the_end_of_time_is_an_error_that_names_remote_and_cause() -> None:
    faulty = FaultyRemote(await stored(), lambda call, number: Raises(BUSY))
    begin = trio.current_time()
    with pytest.raises(RemoteUnavailable, match=str(BUSY)) as caught:
        await RetryingRemote(faulty).fetch("key", max_bytes=99, timeout_seconds=TIMEOUT_SECONDS)
    assert faulty.url in str(caught.value)
    assert caught.value.__cause__ is BUSY
    assert trio.current_time() - begin <= TIMEOUT_SECONDS
    assert len(faulty.calls) > 5


@pytest.mark.virtual_clock
@pytest.mark.parametrize("verb", ["put", "fetch", "fetch_range", "list", "delete"])
async def test_a_call_that_hangs_ends_with_its_time(verb: str) -> None:
    faulty = FaultyRemote(
        MemoryRemote(), lambda call, number: Hangs() if call.verb == verb else None
    )
    begin = trio.current_time()
    with pytest.raises(RemoteUnavailable, match="no answer in time"):
        await call_each(RetryingRemote(faulty))
    assert trio.current_time() - begin == pytest.approx(TIMEOUT_SECONDS)


@pytest.mark.virtual_clock
async def test_a_silent_first_attempt_leaves_time_for_a_second() -> None:
    faulty = FaultyRemote(await stored(), fails(1, Hangs()))
    got = await RetryingRemote(faulty).fetch_range("key", 0, 3, timeout_seconds=TIMEOUT_SECONDS)
    assert got == b"con"
    assert SMALL_ATTEMPT_SECONDS <= trio.current_time() < TIMEOUT_SECONDS


@pytest.mark.virtual_clock
async def test_a_large_range_on_a_slow_link_is_waited_for() -> None:
    size = 2 * int(SMALL_ATTEMPT_SECONDS) * SLOW_LINK_BYTES_PER_SECOND
    slow = FaultyRemote(
        await stored(bytes(size)), lambda call, number: Delays(size / SLOW_LINK_BYTES_PER_SECOND)
    )
    got = await RetryingRemote(slow).fetch_range("key", 0, size, timeout_seconds=600)
    assert len(got) == size
    assert len(slow.calls) == 1


@pytest.mark.virtual_clock
async def test_a_put_may_take_all_of_its_time() -> None:
    slow = FaultyRemote(MemoryRemote(), lambda call, number: Delays(10 * SMALL_ATTEMPT_SECONDS))
    await RetryingRemote(slow).put("key", b"x", timeout_seconds=20 * SMALL_ATTEMPT_SECONDS)
    assert len(slow.calls) == 1


@pytest.mark.virtual_clock
async def test_a_put_whose_answer_was_lost_is_put_again() -> None:
    inner = MemoryRemote()
    faulty = FaultyRemote(inner, fails(1, Raises(BUSY, after=True)))
    await RetryingRemote(faulty).put("key", b"content", timeout_seconds=TIMEOUT_SECONDS)
    assert inner.calls == 2 * [Call("put", "key", length=len(b"content"))]
    assert inner.objects["key"][0] == b"content"


@pytest.mark.virtual_clock
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
async def test_the_pauses_are_the_planned_ones(jitter: float) -> None:
    failures = 4
    faulty = FaultyRemote(await stored(), fails(failures, Raises(BUSY)))
    remote = RetryingRemote(
        faulty, first_pause_seconds=1, most_pause_seconds=3, random=lambda: jitter
    )
    begin = trio.current_time()
    await remote.fetch("key", max_bytes=99, timeout_seconds=TIMEOUT_SECONDS)
    planned = [
        plan_pause(
            number + 1,
            TIMEOUT_SECONDS,
            first_pause_seconds=1,
            most_pause_seconds=3,
            jitter=jitter,
        )
        for number in range(failures)
    ]
    assert None not in planned
    assert trio.current_time() - begin == pytest.approx(sum(filter(None, planned)))


@pytest.mark.virtual_clock
async def test_a_caller_that_gives_up_is_not_held() -> None:
    faulty = FaultyRemote(await stored(), lambda call, number: Raises(BUSY))
    with trio.move_on_after(1) as scope:
        await RetryingRemote(faulty).fetch("key", max_bytes=99, timeout_seconds=TIMEOUT_SECONDS)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1)


async def test_bytes_that_are_wrong_are_not_its_business() -> None:
    faulty = FaultyRemote(await stored(), fails(1, Cuts(3)))
    got = await RetryingRemote(faulty).fetch("key", max_bytes=99, timeout_seconds=TIMEOUT_SECONDS)
    assert got == b"con"
