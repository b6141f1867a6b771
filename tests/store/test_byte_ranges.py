import struct

from hypothesis import given
from hypothesis import strategies as st

from store import byte_ranges
from tests.store.damage import unhurried

Step = tuple[str, int, int]

PLACES = st.integers(0, 60)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "union"]), PLACES, PLACES).filter(
        lambda step: step[1] < step[2]
    ),
    max_size=25,
)


def after(steps: list[Step]) -> tuple[bytes, set[int]]:
    """The packed set after these steps, and the model of it."""
    packed, model = byte_ranges.EMPTY, set[int]()
    for verb, start, end in steps:
        if verb == "remove":
            packed = byte_ranges.remove(packed, start, end)
            model -= set(range(start, end))
        elif verb == "add":
            packed = byte_ranges.add(packed, start, end)
            model |= set(range(start, end))
        else:
            other = byte_ranges.add(byte_ranges.add(b"", start, end), 2 * end, 3 * end)
            packed = byte_ranges.union(packed, other)
            model |= set(range(start, end)) | set(range(2 * end, 3 * end))
    return packed, model


@unhurried
@given(STEPS)
def test_a_packed_set_holds_what_a_set_of_numbers_holds(steps: list[Step]) -> None:
    packed, model = after(steps)
    found = byte_ranges.pairs(packed)
    assert {place for start, end in found for place in range(start, end)} == model
    assert byte_ranges.total(packed) == len(model)


@unhurried
@given(STEPS)
def test_the_ranges_are_in_order_not_empty_and_have_gaps_between_them(steps: list[Step]) -> None:
    found = byte_ranges.pairs(after(steps)[0])
    assert all(start < end for start, end in found)
    borders = [border for pair in found for border in pair]
    assert borders == sorted(set(borders))


@unhurried
@given(STEPS, PLACES, PLACES)
def test_covers_agrees_with_the_model(steps: list[Step], one: int, other: int) -> None:
    packed, model = after(steps)
    start, end = min(one, other), max(one, other) + 1
    assert byte_ranges.covers(packed, start, end) == (set(range(start, end)) <= model)


@unhurried
@given(STEPS, STEPS)
def test_a_union_does_not_depend_on_the_order(steps: list[Step], others: list[Step]) -> None:
    (one, model), (other, more) = after(steps), after(others)
    assert byte_ranges.union(one, other) == byte_ranges.union(other, one)
    assert byte_ranges.total(byte_ranges.union(one, other)) == len(model | more)


def test_sets_that_touch_become_one_range() -> None:
    one, other = byte_ranges.add(b"", 0, 5), byte_ranges.add(b"", 5, 9)
    assert byte_ranges.pairs(byte_ranges.union(one, other)) == [(0, 9)]


def test_the_packed_form_is_the_documented_one() -> None:
    packed = byte_ranges.add(byte_ranges.add(b"", 8, 10), 100, 4_000_000_000)
    assert packed == struct.pack("<IIII", 8, 10, 100, 4_000_000_000)


def test_a_torn_row_holds_nothing() -> None:
    packed = byte_ranges.add(b"", 0, 100)
    assert not byte_ranges.covers(packed[:-1], 0, 1)
    assert byte_ranges.total(packed + b"x") == 0
