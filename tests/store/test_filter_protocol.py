"""Git's filter protocol, played by hand; the tests in tests/git have git itself play it."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import pytest

from store.errors import MalformedObject, StoreError
from store.filter_protocol import ContentStream, Delayed, serve_filter

FLUSH = b"0000"


def packets(*lines: bytes) -> bytes:
    return b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + FLUSH


HELLO = packets(b"git-filter-client\n", b"version=2\n")
OFFER = packets(b"capability=clean\n", b"capability=smudge\n", b"capability=delay\n")


@dataclass
class Work:
    """Counts bytes as clean, spells as smudge; what is called `later` is delayed once."""

    delayed: list[bytes] = field(default_factory=list)
    rests: int = 0

    def clean(self, path: bytes, content: ContentStream) -> bytes:
        if path == b"bad":
            raise StoreError("bad cannot be cleaned")
        return b"%s has %d" % (path, len(content.read_all()))

    def smudge(self, path: bytes, content: bytes, *, can_delay: bool) -> Iterator[bytes]:
        if path == b"later" and can_delay:
            self.delayed.append(path)
            raise Delayed
        yield from (content, b"!" * 70_000)
        if path == b"breaks":
            raise StoreError("it broke in the middle")

    def wait_available(self) -> Sequence[bytes]:
        found, self.delayed = self.delayed, []
        return found

    def rest(self) -> None:
        self.rests += 1


class Git:
    """The other side: writes requests, reads answers."""

    def __init__(self, to_filter: BinaryIO, from_filter: BinaryIO) -> None:
        self._to, self._from = to_filter, from_filter

    def send(self, raw: bytes) -> None:
        self._to.write(raw)
        self._to.flush()

    def hang_up(self) -> None:
        self._to.close()

    def read_list(self) -> list[bytes]:
        lines = []
        while (length := int(self._from.read(4) or b"0", 16)) != 0:
            lines.append(self._from.read(length - 4))
        return lines

    def ask(self, command: bytes, path: bytes, content: bytes, *more: bytes) -> list[list[bytes]]:
        """Status, content and last status of one request."""
        self.send(packets(b"command=" + command + b"\n", b"pathname=" + path + b"\n", *more))
        parts = [content[start : start + 60_000] for start in range(0, len(content), 60_000)]
        self.send(packets(*parts))
        status = self.read_list()
        if status != [b"status=success\n"]:
            return [status]
        return [status, [b"".join(self.read_list())], self.read_list()]


@contextmanager
def serving(work: Work) -> Iterator[tuple[Git, list[BaseException]]]:
    """A filter in a thread, and what it raised."""
    errors: list[BaseException] = []
    (filter_in, git_out), (git_in, filter_out) = os.pipe(), os.pipe()

    def serve() -> None:
        with os.fdopen(filter_in, "rb") as source, os.fdopen(filter_out, "wb") as sink:
            try:
                serve_filter(source, sink, work)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with os.fdopen(git_out, "wb") as to_filter, os.fdopen(git_in, "rb") as from_filter:
        try:
            yield Git(to_filter, from_filter), errors
        finally:
            to_filter.close()
            thread.join()


@contextmanager
def talking(work: Work) -> Iterator[Git]:
    """As `serving`, with the hands shaken."""
    with serving(work) as (git, errors):
        git.send(HELLO)
        assert git.read_list() == [b"git-filter-server\n", b"version=2\n"]
        git.send(OFFER)
        assert len(git.read_list()) == 3
        yield git
    assert errors == []


def test_files_are_cleaned_and_smudged_in_one_talk() -> None:
    with talking(Work()) as git:
        for size in (0, 1, 59_999, 60_000, 300_001):
            answer = git.ask(b"clean", b"a/b", b"x" * size, b"blob=00\n")
            assert answer == [[b"status=success\n"], [b"a/b has %d" % size], []]
        answer = git.ask(b"smudge", b"a", b"pointer")
        assert answer == [[b"status=success\n"], [b"pointer" + b"!" * 70_000], []]


@pytest.mark.usefixtures("caplog")
def test_a_file_that_fails_fails_alone() -> None:
    with talking(Work()) as git:
        assert git.ask(b"clean", b"bad", b"x" * 200_000) == [[b"status=error\n"]]
        broken = git.ask(b"smudge", b"breaks", b"p")
        assert broken[0] == [b"status=success\n"]
        assert broken[2] == [b"status=error\n"]
        assert git.ask(b"clean", b"good", b"x")[1] == [b"good has 1"]


def test_a_delayed_file_is_named_when_it_is_ready_and_asked_for_again() -> None:
    with talking(Work()) as git:
        assert git.ask(b"smudge", b"later", b"p", b"can-delay=1\n") == [[b"status=delayed\n"]]
        for expected in ([b"pathname=later\n"], []):
            git.send(packets(b"command=list_available_blobs\n"))
            assert git.read_list() == expected
            assert git.read_list() == [b"status=success\n"]
        assert git.ask(b"smudge", b"later", b"")[0] == [b"status=success\n"]


def test_the_work_may_rest_while_git_is_silent() -> None:
    work = Work()
    with talking(work) as git:
        while not work.rests:
            pass
        assert git.ask(b"clean", b"a", b"x")[1] == [b"a has 1"]


def test_only_what_git_knows_is_agreed_on() -> None:
    with serving(Work()) as (git, errors):
        git.send(HELLO)
        git.read_list()
        git.send(packets(b"capability=clean\n", b"capability=new\n"))
        assert git.read_list() == [b"capability=clean\n"]
    assert errors == []


@pytest.mark.parametrize(
    "words",
    [packets(b"hello\n"), packets(b"git-filter-client\n", b"version=1\n"), b"zzzz", b"0001"],
)
def test_who_does_not_speak_it_is_told_so(words: bytes) -> None:
    with serving(Work()) as (git, errors):
        git.send(words)
        git.hang_up()
    assert [type(error) for error in errors] == [MalformedObject]


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_git_may_hang_up_at_any_byte(cut: int) -> None:
    talk = HELLO + OFFER + packets(b"command=clean\n", b"pathname=a\n") + packets(b"content")
    with serving(Work()) as (git, errors):
        git.send(talk[:cut])
        git.hang_up()
    assert errors == []
