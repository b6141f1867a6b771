"""Bodies of messages between the processes of a mount that are cut short, or lie about lengths."""

import pytest

from store.errors import MalformedObject
from store.messages import (
    FileRead,
    pack_fetched,
    pack_paths,
    pack_reads,
    parse_fetched,
    parse_numbered,
    parse_paths,
    parse_places,
    parse_reads,
    parse_told,
)


def test_a_fetched_chunk_comes_with_its_ranges_or_is_refused() -> None:
    body = pack_fetched(b"ranges.", b"chunk")
    assert parse_fetched(body) == (b"ranges.", b"chunk")
    for end in range(4 + len(b"ranges.")):
        with pytest.raises(MalformedObject):
            parse_fetched(body[:end])


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (parse_places, b"x" * 60),
        (parse_reads, pack_reads([FileRead(1.0, 2, True, b"path")])[:-1]),
        (parse_paths, pack_paths([b"a", b"b"])[:-1]),
        (parse_numbered, b"1234567"),
        (parse_told, b"[]"),
        (parse_told, b"{"),
        (parse_told, b"[" * 100_000),
    ],
)
def test_a_body_that_is_cut_short_is_refused(parse: object, body: bytes) -> None:
    with pytest.raises(MalformedObject):
        parse(body)  # type: ignore[operator]
