"""Git's long-running filter process, version 2: packets, the handshake, and the loop that answers.

Source: gitattributes(5) "Long Running Filter Process", long-running-process-protocol.txt and
protocol-common.txt of git's documentation. What is cleaned and smudged is for `FilterWork` to say.
"""

import logging
import os
import select
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from store.errors import MalformedObject, StoreError

log = logging.getLogger(__name__)

# pkt-line: four hex digits that count themselves; at most 65,520 bytes in all.
_LENGTH_DIGITS = 4
_MOST_PAYLOAD_BYTES = 65516
_FLUSH = b"0000"
_CAPABILITIES = (b"capability=clean", b"capability=smudge", b"capability=delay")
_IDLE_SECONDS = 0.1


class Delayed(Exception):
    """Raised by `FilterWork.smudge`: the content comes later."""


class FilterWork(Protocol):
    """What a filter does. Every method may raise StoreError, which fails that one file."""

    def clean(self, path: bytes, content: "ContentStream") -> bytes:
        """What git keeps for a file of this content."""
        ...

    def smudge(self, path: bytes, content: bytes, *, can_delay: bool) -> Iterable[bytes]:
        """The pieces of what is written to the work tree for what git keeps. Raises Delayed, where
        that is allowed: the path will be among those of `wait_available`, and asked for again."""
        ...

    def wait_available(self) -> Sequence[bytes]:
        """Delayed paths that are ready, at least one; none when all have been named."""
        ...

    def rest(self) -> None:
        """Nothing was asked for a while."""
        ...


class ContentStream:
    """The content of one request, as a file to be read once, to its end."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._left_in_packet = 0
        self._at_end = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill `buffer` as far as one packet reaches; 0 is the end."""
        if not self._left_in_packet and not self._next_packet():
            return 0
        count = self._source.readinto(buffer[: self._left_in_packet])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        self._left_in_packet -= count
        return int(count)

    def read_all(self) -> bytes:
        """All that is left."""
        parts = bytearray()
        window = memoryview(bytearray(_MOST_PAYLOAD_BYTES))
        while count := self.readinto(window):
            parts += window[:count]
        return bytes(parts)

    def skip(self) -> None:
        """Read to the end and forget."""
        window = memoryview(bytearray(_MOST_PAYLOAD_BYTES))
        while self.readinto(window):
            pass

    def _next_packet(self) -> bool:
        while not self._at_end and not self._left_in_packet:
            length = _read_length(self._source)
            self._at_end = length is None
            self._left_in_packet = length or 0
        return not self._at_end


def serve_filter(source: BinaryIO, sink: BinaryIO, work: FilterWork) -> None:
    """Answer git's requests until it hangs up. Raises MalformedObject for what is not this
    protocol, BrokenPipeError where git does not listen any more."""
    try:
        _shake_hands(source, sink)
        while True:
            request = _read_request(source, work)
            if request is None:
                return
            _answer(request, source, sink, work)
    except EOFError:
        return


def _shake_hands(source: BinaryIO, sink: BinaryIO) -> None:
    hello = _read_list(source)
    if not hello or hello[0] != b"git-filter-client" or b"version=2" not in hello:
        raise MalformedObject("this is for git to run (filter.revfs.process), not for people")
    _write(sink, _packets([b"git-filter-server\n", b"version=2\n"]))
    offered = _read_list(source)
    common = [name + b"\n" for name in _CAPABILITIES if name in offered]
    _write(sink, _packets(common))


def _read_request(source: BinaryIO, work: FilterWork) -> dict[bytes, bytes] | None:
    """The next request by its keys; None at the end. While none comes the work may rest."""
    if not select.select([source], [], [], _IDLE_SECONDS)[0]:
        work.rest()
    try:
        lines = _read_list(source)
    except EOFError:
        return None
    pairs = (line.partition(b"=") for line in lines)
    return {key: value for key, _, value in pairs}


def _answer(
    request: dict[bytes, bytes], source: BinaryIO, sink: BinaryIO, work: FilterWork
) -> None:
    command, path = request.get(b"command"), request.get(b"pathname", b"")
    if command == b"list_available_blobs":
        ready = [b"pathname=" + name + b"\n" for name in work.wait_available()]
        _write(sink, _packets(ready) + _packets([b"status=success\n"]))
        return
    content = ContentStream(source)
    try:
        if command == b"clean":
            _write_content(sink, [work.clean(path, content)])
        elif command == b"smudge":
            can_delay = request.get(b"can-delay") == b"1"
            text = content.read_all()
            _write_content(sink, work.smudge(path, text, can_delay=can_delay))
        else:
            raise MalformedObject(f"git asked for {command!r}, which was not offered")
    except Delayed:
        _write(sink, _packets([b"status=delayed\n"]))
    except StoreError as error:
        log.error("%s", error)
        content.skip()
        _write(sink, _packets([b"status=error\n"]))


def _write_content(sink: BinaryIO, pieces: Iterable[bytes]) -> None:
    """Success, the pieces, and the word that it stays a success; an error after the first piece is
    told in its place, and git drops what it has got."""
    remaining = iter(pieces)
    # The first piece decides how the answer begins.
    first = next(remaining, b"")
    out = _packets([b"status=success\n"]) + b"".join(_content_packets(first))
    last = _FLUSH
    try:
        for piece in remaining:
            _write(sink, out)
            out = b"".join(_content_packets(piece))
    except StoreError as error:
        log.error("%s", error)
        last = _packets([b"status=error\n"])
    _write(sink, out + _FLUSH + last)


def _content_packets(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(view), _MOST_PAYLOAD_BYTES):
        part = view[start : start + _MOST_PAYLOAD_BYTES]
        yield b"%04x" % (len(part) + _LENGTH_DIGITS)
        yield bytes(part)


def _packets(lines: Iterable[bytes]) -> bytes:
    """Lines as packets, and the flush packet that ends a list."""
    return b"".join(b"%04x" % (len(line) + _LENGTH_DIGITS) + line for line in lines) + _FLUSH


def _write(sink: BinaryIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(sink.fileno(), view) :]


def _read_length(source: BinaryIO) -> int | None:
    """The length of the next packet's payload, None for a flush packet. Raises EOFError."""
    digits = source.read(_LENGTH_DIGITS)
    if len(digits) < _LENGTH_DIGITS:
        raise EOFError
    try:
        length = int(digits, 16)
    except ValueError as error:
        raise MalformedObject(f"git sent {digits!r} where a packet begins") from error
    if length == 0:
        return None
    if length < _LENGTH_DIGITS:
        raise MalformedObject(f"git sent a packet of the impossible length {length}")
    return length - _LENGTH_DIGITS


def _read_list(source: BinaryIO) -> list[bytes]:
    """Packets up to a flush, without the line feeds at their ends."""
    lines = []
    while (length := _read_length(source)) is not None:
        line = source.read(length)
        if len(line) < length:
            raise EOFError
        lines.append(line.removesuffix(b"\n"))
    return lines
