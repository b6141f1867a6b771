"""The model of a fetcher: what is known of a few simple cases, and the same at every run."""

import random

import pytest
from simulate_fetch import Link, Pattern, Remote, columns, dealt, run_pattern

LINK = Link(0.01, 100e6, request_seconds=0, read_seconds=0)


def test_a_lone_read_takes_a_round_trip_and_its_bytes() -> None:
    remote = Remote([1_000_000] * 10)
    machine, seconds = run_pattern(Pattern("one", remote, [remote.pieces[:1]]), LINK)
    assert seconds == pytest.approx(0.01 + 0.01)
    assert (machine.requests, machine.fetched_bytes) == (1, 1_000_000)


def test_two_answers_at_once_share_the_link() -> None:
    remote = Remote([1_000_000] * 10)
    walks = [[remote.pieces[1]], [remote.pieces[7]]]
    machine, seconds = run_pattern(Pattern("two", remote, walks), LINK)
    assert seconds == pytest.approx(0.01 + 0.02)
    assert machine.requests == 2


def test_one_request_after_the_other_keeps_the_processor_busy() -> None:
    remote = Remote([100] * 10)
    link = Link(0.01, 1e12, request_seconds=0.002, read_seconds=0)
    walks = [[piece] for piece in remote.pieces[::3]]
    _, seconds = run_pattern(Pattern("four", remote, walks), link)
    assert seconds == pytest.approx(4 * 0.002 + 0.01)


@pytest.mark.parametrize("readers", [1, 8])
def test_every_pattern_ends_with_all_that_was_asked_for_and_is_the_same_again(readers: int) -> None:
    seeded = random.Random(1)
    remote = Remote([seeded.randint(1000, 2_000_000) for _ in range(200)])
    shuffled = seeded.sample(remote.pieces, 200)
    for walks in (dealt(shuffled, readers), dealt(remote.pieces, readers), [columns(shuffled)]):
        results = []
        for _ in range(2):
            machine, seconds = run_pattern(Pattern("any", remote, walks), LINK)
            assert machine.schedule.is_idle
            for piece in {piece for walk in walks for piece in walk}:
                entry = remote.place(piece).entry
                here = machine.load_ranges(piece.pack)
                assert any(low <= entry.offset and entry.end <= high for low, high in here)
            results.append((machine.requests, machine.fetched_bytes, seconds))
        assert results[0] == results[1]
        asked = sum(
            remote.place(piece).entry.stored_length for walk in walks for piece in set(walk)
        )
        assert results[0][2] >= 0.01 + asked / LINK.bytes_per_second - 1e-6


def test_a_file_read_in_order_is_had_at_nine_tenths_of_the_link() -> None:
    remote = Remote([1 << 20] * 512)
    for link in (Link(0.01, 250e6), Link(0.04, 125e6)):
        _, seconds = run_pattern(Pattern("large", remote, [remote.pieces], ahead=True), link)
        assert (512 << 20) / link.bytes_per_second / seconds >= 0.9
