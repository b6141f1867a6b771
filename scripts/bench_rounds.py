"""What is measured when: rounds over each link, in which the contenders take turns."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from bench_link import UNLIMITED, LinkSpeed, measure_ceiling
from bench_million import measure_million
from bench_peers import rclone_mount, s3fs_mount
from bench_processes import NotMeasured
from bench_reads import (
    measure_dvc_pull,
    measure_epochs,
    measure_first_byte,
    measure_large,
    measure_limits,
    measure_sparse,
    measure_text,
    measure_workers,
    note_link_limits,
    ours,
)
from bench_session import Figure, Session, say
from bench_starts import measure_help, measure_status
from bench_table import DVC, LINK, OURS, RCLONE, S3FS, UNLIMITED_LINK
from bench_writes import ALL, TEXT, make_dvc_pushed, make_pushed, measure_edit

T = TypeVar("T", bound="Repository")

_CEILING_SECONDS = 2.5
_UNLIMITED_BYTES = 1 << 30
# Over a slow link some take minutes for what a part of it shows as well.
_MOST_FILES_OF_A_PEER = 1_000


class Repository(Protocol):
    """What is kept of either kind."""

    def discard(self) -> None:
        """Give the space of its large files back."""


class Pushed(Generic[T]):
    """A repository with its data in the remote, made when first needed and kept for later rounds.
    `rows` are those of its add and push."""

    def __init__(self, session: Session, rows: Sequence[str], make: Callable[[], T]) -> None:
        self._session = session
        self._rows = rows
        self._make = make
        self._kept: T | None = None

    def take(self) -> T:
        """A new one, made over the link as it is, where its rows are to be measured; else the last,
        or one made over a link without limits. Raises NotMeasured."""
        if self._session.wants(*self._rows):
            if self._kept is not None:
                self._kept.discard()
            self._kept = self._make()
        elif self._kept is None:
            self._kept = self._make_over_unlimited()
        return self._kept

    def _make_over_unlimited(self) -> T:
        link = self._session.link
        speed = link.speed
        link.set_speed(UNLIMITED)
        try:
            return self._make()
        finally:
            link.set_speed(speed)


class Sources:
    """The repositories that are read from."""

    def __init__(self, session: Session) -> None:
        self.rows, self.text_rows = ("add", "push"), ("add-text", "push-text")
        self.ours = Pushed(session, self.rows, lambda: make_pushed(session, ALL, self.rows))
        self.text = Pushed(
            session, self.text_rows, lambda: make_pushed(session, TEXT, self.text_rows)
        )
        self.dvc = Pushed(session, self.rows, lambda: make_dvc_pushed(session, self.rows))


def measure_all(session: Session) -> None:
    """All rounds over all links, then what has no rounds."""
    choice = session.choice
    sources = Sources(session)
    for speed in choice.links:
        session.link.set_speed(speed)
        measure_link(session, speed)
    for number in range(choice.runs):
        for speed in choice.links:
            say(f"round {number + 1} of {choice.runs}, {speed.title}")
            session.link.set_speed(speed)
            measure_ours(session, sources, number)
            measure_peers(session, sources, number)
    session.link.set_speed(choice.links[0])
    measure_help(session)
    measure_status(session, choice.runs)
    measure_million(session, session.folder.parent)


def measure_link(session: Session, speed: LinkSpeed) -> None:
    """What the proxy carries: without limits, and with those of this link, each way."""
    carried = {}
    byte_count = int(speed.bytes_per_second * _CEILING_SECONDS)
    for row, up in (("link-up", True), ("link-down", False)):
        for title, limits, size in (
            (UNLIMITED_LINK, UNLIMITED, _UNLIMITED_BYTES),
            (LINK, speed, byte_count),
        ):
            result = measure_ceiling(session.programs.proxy, session.folder, limits, size, up=up)
            carried[row] = result.byte_count / result.seconds
            crossed = result.traffic
            session.add(
                Figure(
                    row,
                    speed.name,
                    title,
                    carried[row] / 1e6,
                    result.seconds,
                    crossed.up_bytes,
                    crossed.down_bytes,
                    crossed.requests,
                    crossed.connections,
                    {"link": result.processor_seconds},
                )
            )
    note_link_limits(session, carried["link-up"], carried["link-down"])


def measure_ours(session: Session, sources: Sources, run: int) -> None:
    """Our part of a round."""
    if not session.choice.wants_contender(OURS):
        return
    rows = [*sources.rows, "first-byte", "cold-epoch", "warm-small", "cold-large", "warm-large"]
    rows.append("sparse")
    if session.wants(*rows):
        with session.attempt(rows, OURS):
            source = sources.ours.take()
            mounting = ours(source)
            measure_first_byte(session, source, run)
            measure_epochs(session, OURS, mounting, run)
            measure_workers(session, source, run)
            measure_large(session, OURS, mounting)
            measure_sparse(session, OURS, mounting, run)
    rows = [*sources.text_rows, "cold-text"]
    if session.wants(*rows):
        with session.attempt(rows, OURS):
            source = sources.text.take()
            measure_text(session, OURS, ours(source), run)
    measure_edit(session, run)


def measure_peers(session: Session, sources: Sources, run: int) -> None:
    """The others' part of a round."""
    choice = session.choice
    is_first = session.link.speed == choice.links[0]
    if choice.wants_contender(RCLONE):
        most = 0 if is_first else _MOST_FILES_OF_A_PEER
        measure_epochs(session, RCLONE, rclone_mount, run, most_files=most)
        measure_large(session, RCLONE, rclone_mount)
        if is_first:
            measure_sparse(session, RCLONE, rclone_mount, run)
            measure_text(session, RCLONE, rclone_mount, run)
    if is_first and choice.wants_contender(S3FS):
        measure_epochs(session, S3FS, s3fs_mount, run, most_files=choice.scale.s3fs_files)
        measure_large(session, S3FS, s3fs_mount)
    measure_limits(session, run)
    rows = [*sources.rows, "first-byte"]
    if is_first and choice.wants_contender(DVC) and session.wants(*rows):
        try:
            source = sources.dvc.take()
        except NotMeasured as error:
            session.miss(rows, DVC, str(error))
        else:
            measure_dvc_pull(session, DVC, source)
