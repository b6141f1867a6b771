"""Order files, where their paths stand, and how far ahead of a reader to be."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import ConfigError
from store.order_files import MountPaths, iterate_paths, read_order
from store.order_paths import OrderPaths
from store.order_window import OrderWindow

PATHS = st.lists(st.binary(min_size=1).filter(lambda path: not {0, 10} & set(path)))


def paths_of(raw: bytes, *, nul: bool = False) -> list[bytes]:
    return list(iterate_paths(io.BytesIO(raw), nul=nul))


@given(PATHS)
def test_paths_come_back_as_they_were_written_whatever_bytes_they_are(paths: list[bytes]) -> None:
    assert paths_of(b"".join(path + b"\n" for path in paths)) == paths
    assert paths_of(b"\n".join(paths)) == paths
    assert paths_of(b"".join(path + b"\0" for path in paths)) == paths


def test_blank_lines_are_no_paths() -> None:
    assert paths_of(b"\na\n\n\nb\n\n") == [b"a", b"b"]


def test_a_nul_says_that_line_breaks_are_of_the_names() -> None:
    assert paths_of(b"a\nb\0c\0") == [b"a\nb", b"c"]
    assert paths_of(b"a\nb") == [b"a", b"b"]
    assert paths_of(b"a\nb", nul=True) == [b"a\nb"]


def test_many_paths_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.order_files._BLOCK_BYTES", 7)
    paths = [b"%d" % number for number in range(100)]
    assert paths_of(b"\n".join(paths)) == paths


def test_what_is_no_file_of_paths_is_refused() -> None:
    with pytest.raises(ConfigError, match="no file of paths"):
        paths_of(b"\xff" * 100_000)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (b"a/b", b"a/b"),
        (b"./a//b/", b"a/b"),
        (b"a/../b", b"b"),
        (b".", b""),
        (b"a.", b"a."),
        (b"..", None),
        (b"a/../../b", None),
        (b"/mnt/data/a/b", b"a/b"),
        (b"/link/./a", b"a"),
        (b"/mnt/data", b""),
        (b"/mnt/database/a", None),
        (b"/etc/passwd", None),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_what_is_written_is_a_path_from_the_top_of_the_mount(
    written: bytes, meant: bytes | None
) -> None:
    assert MountPaths([b"/mnt/data", b"/link"]).from_top(written) == meant


def test_relative_paths_begin_where_somebody_stands_in_the_mount() -> None:
    paths = MountPaths([b"/mnt"], b"train")
    assert paths.from_top(b"a") == b"train/a"
    assert paths.from_top(b".") == b"train"
    assert paths.from_top(b"../test/a") == b"test/a"
    assert paths.from_top(b"/mnt/test/a") == b"test/a"


def test_of_an_order_what_leads_out_of_the_mount_stays_what_it_is() -> None:
    file = io.BytesIO(b"a\n/etc/passwd\n../x\n/mnt/b\n")
    assert list(read_order(file, MountPaths([b"/mnt"]))) == [[b"a", b"/etc/passwd", b"../x", b"b"]]


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"dd", b""]), max_size=40), st.integers(0, 40))
def test_a_path_is_found_where_it_stands_nearest(paths: list[bytes], place: int) -> None:
    order = OrderPaths()
    order.append(paths)
    order.finish()
    assert [order.path(number) for number in range(len(order))] == paths
    assert order.nearest(b"none", place) is None
    for path in set(paths):
        places = [number for number, other in enumerate(paths) if other == path]
        found = order.nearest(path, place)
        assert found is not None
        assert found in places
        assert abs(found - place) == min(abs(number - place) for number in places)


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3000), st.integers(1, 4000))),
)
def test_no_more_is_ahead_than_may_be(most: int, events: list[tuple[bool, int, int]]) -> None:
    window = OrderWindow(most)
    ahead: dict[int, int] = {}
    place = 0
    for is_read, where, cost in events:
        if is_read:
            window.note_read(where)
            ahead = {key: value for key, value in ahead.items() if key >= window.position}
        else:
            step_bytes = window.next_step_bytes(cost, 1 << 40)
            place = max(place, window.planned)
            if step_bytes is not None and cost <= most:
                window.note_fetched(place, cost)
                ahead[place] = cost
                place += 1
                window.note_planned(place)
        assert window.fetched_bytes == sum(ahead.values()) <= most


def test_a_lone_look_far_ahead_moves_nothing_and_two_near_each_other_do() -> None:
    window = OrderWindow(1000)
    assert not window.note_read(5000)
    assert not window.note_read(90_000)
    assert not window.note_read(5001)
    assert window.note_read(5003)
    assert (window.position, window.planned) == (5004, 5004)


def test_what_is_read_late_moves_nothing() -> None:
    window = OrderWindow(1000)
    assert window.note_read(10)
    assert not window.note_read(3)
    assert window.position == 11


def test_few_large_steps_are_made_and_not_many_small_ones() -> None:
    window = OrderWindow(100)
    no_end = 1 << 40
    assert window.next_step_bytes(0, no_end) == 100
    for place in range(8):
        window.note_fetched(place, 10)
    assert window.next_step_bytes(0, no_end) is None
    # The last of an order need not wait for anybody.
    assert window.next_step_bytes(0, 20) == 20
    assert window.note_read(0)
    assert window.next_step_bytes(0, no_end) == 30
    assert window.next_step_bytes(31, no_end) is None
