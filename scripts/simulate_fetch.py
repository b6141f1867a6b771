"""What the fetcher asks a remote for, and how long that takes, for a number of ways to read.

The decisions are the project's own (store.fetch_schedule, store.contents); the rest is a model: a
link that all answers under way share evenly, a round trip before each, and one processor that
every request and every read keeps busy for a while. Nothing here is random but by a fixed seed.

For each pattern: requests, bytes against those that were asked for, and the time against the ideal,
which is one round trip and the bytes that were asked for at the rate of the link.
"""

import argparse
import heapq
import random
import struct
import sys
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from store.cache_rows import PackPlace
from store.contents import ReadStreams
from store.fetch_plan import Ranges, merged
from store.fetch_schedule import DEMANDS_AT_ONCE, FetchSchedule, Flight, FlightClass
from store.ids import PackName
from store.packs import PACK_HEADER_BYTES, PackTable

ENTRY = struct.Struct("<32sIIIB")
PACK_BYTES = 64 << 20
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """The round trip, the rate of all answers together, and how long one request and one read keep
    the processor busy."""

    rtt_seconds: float
    bytes_per_second: float
    request_seconds: float = 0.002
    read_seconds: float = 0.0002


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of what is read: its pack, and the number of its entry there."""

    pack: PackName
    number: int


class Remote:
    """Made packs, filled with chunks of given sizes one after the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.tables: dict[PackName, PackTable] = {}
        self.pieces: list[Piece] = []
        rows: list[bytes] = []
        offset = PACK_HEADER_BYTES
        for number, size in enumerate(sizes):
            if rows and offset + size + 45 * (len(rows) + 2) > PACK_BYTES:
                self._finish(rows)
                rows, offset = [], PACK_HEADER_BYTES
            rows.append(ENTRY.pack(number.to_bytes(32, "big"), offset, size, size, 0))
            offset += size
        self._finish(rows)

    def get_pack_table(self, pack: PackName) -> PackTable | None:
        return self.tables.get(pack)

    def place(self, piece: Piece) -> PackPlace:
        return PackPlace(piece.pack, self.tables[piece.pack].entry(piece.number))

    def _finish(self, rows: list[bytes]) -> None:
        name = PackName(f"{len(self.tables):032x}")
        self.tables[name] = PackTable.trusted(b"".join(rows))
        self.pieces += [Piece(name, number) for number in range(len(rows))]


@dataclass(slots=True, eq=False)
class Flow:
    """One answer that is arriving: how far the link had come when it began, and who waits for
    which byte of it."""

    flight: Flight
    began: float | None = None
    waiting: list[tuple[int, Callable[[], None]]] = field(default_factory=list)


class Machine:
    """The fetcher, the processor and the link, in virtual time."""

    def __init__(self, remote: Remote, link: Link) -> None:
        self.remote = remote
        self.link = link
        self.now = 0.0
        self.requests = self.fetched_bytes = 0
        self.schedule = FetchSchedule(remote, self.load_ranges)
        self._here: dict[PackName, Ranges] = {}
        self._flows: dict[Flight, Flow] = {}
        self._queue: deque[Flow] = deque()
        self._demands = 0
        self._busy_until = 0.0
        self._tie = count()
        self._timed: list[tuple[float, int, Callable[[], None]]] = []
        # Each answer under way has got `_served` bytes less what it was when the answer began;
        # what is to happen when that has grown to a number.
        self._served = 0.0
        self._active = 0
        self._arriving: list[tuple[float, int, Callable[[], None]]] = []

    def load_ranges(self, pack: PackName) -> Ranges:
        return self._here.get(pack, [])

    def work(self, seconds: float, then: Callable[[], None]) -> None:
        """Have the processor do something, after all that it has to do already."""
        self._busy_until = max(self.now, self._busy_until) + seconds
        heapq.heappush(self._timed, (self._busy_until, next(self._tie), then))

    def read(self, piece: Piece, then: Callable[[], None]) -> None:
        """Read a chunk, and go on when it is here."""
        place = self.remote.place(piece)
        entry = place.entry
        here = self.load_ranges(place.pack)
        if any(start <= entry.offset < end for start, end in here):
            then()
            return
        flight = self.schedule.find(place)
        if flight is None:
            flight = self.schedule.start_demand(place)
            self._launch(flight)
            self.pump()
        self._wait(self._flows[flight], entry.end - flight.start, then)

    def pump(self) -> None:
        """Start what may be fetched ahead."""
        while (flight := self.schedule.start_next()) is not None:
            self._launch(flight)

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._timed or self._arriving:
            arrival = self._next_arrival()
            if self._timed and self._timed[0][0] <= arrival:
                self._advance(self._timed[0][0])
                heapq.heappop(self._timed)[2]()
            else:
                self._advance(arrival)
                # Not what rounding left of it; and one may wait for what has arrived already.
                self._served = max(self._served, self._arriving[0][0])
                heapq.heappop(self._arriving)[2]()

    def _next_arrival(self) -> float:
        if not self._arriving:
            return float("inf")
        missing = max(0.0, self._arriving[0][0] - self._served)
        return self.now + missing * self._active / self.link.bytes_per_second

    def _advance(self, now: float) -> None:
        if self._active:
            self._served += (now - self.now) * self.link.bytes_per_second / self._active
        self.now = now

    def _launch(self, flight: Flight) -> None:
        flow = self._flows[flight] = Flow(flight)
        if flight.kind is FlightClass.DEMAND and self._demands >= DEMANDS_AT_ONCE:
            self._queue.append(flow)
        else:
            self._ask(flow)

    def _ask(self, flow: Flow) -> None:
        self._demands += flow.flight.kind is FlightClass.DEMAND
        self.requests += 1
        self.fetched_bytes += flow.flight.length

        def asked() -> None:
            answer = self.now + self.link.rtt_seconds
            heapq.heappush(self._timed, (answer, next(self._tie), lambda: self._begin(flow)))

        self.work(self.link.request_seconds, asked)

    def _begin(self, flow: Flow) -> None:
        flow.began = self._served
        self._active += 1
        waiting, flow.waiting = flow.waiting, []
        for offset, then in waiting:
            self._wait(flow, offset, then)
        self._wait(flow, flow.flight.length, lambda: self._land(flow))

    def _wait(self, flow: Flow, offset: int, then: Callable[[], None]) -> None:
        if flow.began is None:
            flow.waiting.append((offset, then))
        else:
            heapq.heappush(self._arriving, (flow.began + offset, next(self._tie), then))

    def _land(self, flow: Flow) -> None:
        flight = flow.flight
        self._active -= 1
        del self._flows[flight]
        self.schedule.land(flight)
        here = self._here.get(flight.pack, [])
        self._here[flight.pack] = merged(here, [(flight.start, flight.end)])
        if flight.kind is FlightClass.DEMAND:
            self._demands -= 1
            if self._queue:
                self._ask(self._queue.popleft())
        self.pump()


Walk = Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A way to read: what each reader reads, one after the other. `ahead` has each reader's file
    fetched ahead of it, as that of an open file of many chunks is."""

    name: str
    remote: Remote
    walks: Sequence[Walk]
    ahead: bool = False


def run_pattern(pattern: Pattern, link: Link) -> tuple[Machine, float]:
    """The machine after all readers were done, and how long that took."""
    machine = Machine(pattern.remote, link)
    finished = [0.0]

    def start(walk: Iterator[Piece], ahead: "Ahead | None") -> None:
        piece = next(walk, None)
        if piece is None:
            finished[0] = machine.now
            return
        machine.work(link.read_seconds, lambda: read(walk, piece, ahead))

    def read(walk: Iterator[Piece], piece: Piece, ahead: "Ahead | None") -> None:
        if ahead is None:
            machine.read(piece, lambda: start(walk, None))
            return
        # The kernel asks for 128 KiB at a time: the first of a chunk finds what is there, the rest
        # comes when it has.
        ahead.note(machine, piece, first=True)
        machine.read(piece, lambda: go_on(walk, piece, ahead))

    def go_on(walk: Iterator[Piece], piece: Piece, ahead: "Ahead") -> None:
        ahead.note(machine, piece, first=False)
        start(walk, ahead)

    for walk in pattern.walks:
        start(iter(walk), Ahead(walk, pattern.remote) if pattern.ahead else None)
    machine.run()
    return machine, finished[0]


class Ahead:
    """The window ahead of the reader of one file, whose chunks are its whole walk."""

    def __init__(self, walk: Walk, remote: Remote) -> None:
        sizes = [remote.place(piece).entry.stored_length for piece in walk]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self._walk = walk
        self._numbers = {piece: number for number, piece in enumerate(walk)}
        self._streams = ReadStreams()

    def note(self, machine: Machine, piece: Piece, *, first: bool) -> None:
        number = self._numbers[piece]
        low, high = self._starts[number], self._starts[number + 1]
        offsets = range(low, high, 128 << 10)
        for offset in offsets[:1] if first else offsets[1:]:
            size = min(128 << 10, high - offset)
            start, end = self._streams.plan_ahead(offset, size, self._starts[-1])
            if start < end:
                numbers = range(
                    bisect_right(self._starts, start) - 1, bisect_left(self._starts, end)
                )
                machine.schedule.wait(machine.remote.place(self._walk[n]) for n in numbers)
                machine.pump()


def patterns(readers: int) -> Iterator[Pattern]:
    """All ways to read that are shown."""
    seeded = random.Random(4)
    small = Remote([seeded.randint(60_000, 140_000) for _ in range(5000)])
    shuffled = seeded.sample(small.pieces, len(small.pieces))
    yield Pattern("shuffled epoch, 5,000 of 100 KB", small, dealt(shuffled, readers))
    shards = [small.pieces[start::4] for start in range(4)]
    yield Pattern("4 workers, a shuffled share each", small, [shuffle(seeded, s) for s in shards])
    yield Pattern("shuffled epoch, one reader", small, [shuffled])
    yield Pattern("in order, one reader", small, [small.pieces])
    yield Pattern("in order", small, dealt(small.pieces, readers))
    for share in (0.002, 0.01, 0.05):
        sample = seeded.sample(small.pieces, int(share * len(small.pieces)))
        yield Pattern(f"sample of {share:.1%}", small, dealt(sample, readers))
    yield Pattern("every eighth file", small, dealt(small.pieces[::8], readers))
    yield Pattern(
        "one folder of 300, shuffled",
        small,
        dealt(shuffle(seeded, small.pieces[1000:1300]), readers),
    )
    tiny = Remote([seeded.randint(100, 2000) for _ in range(60_000)])
    yield Pattern("60,000 of 1 KB, shuffled", tiny, dealt(shuffle(seeded, tiny.pieces), readers))
    yield Pattern(
        "60,000 of 1 KB, 1,000 of them", tiny, dealt(seeded.sample(tiny.pieces, 1000), readers)
    )
    large = Remote([seeded.randint(MIB // 2, 3 * MIB // 2) for _ in range(512)])
    yield Pattern("512 MiB file in order", large, [large.pieces], ahead=True)
    yield Pattern("512 MiB file, 60 places", large, dealt(seeded.sample(large.pieces, 60), readers))
    yield Pattern("Parquet: footer, then 3 of 20 columns", large, [columns(large.pieces)])
    yield Pattern(
        "tar: index, then 100 members",
        large,
        dealt([large.pieces[-1], *seeded.choices(large.pieces, k=100)], readers),
    )


def dealt(pieces: Sequence[Piece], readers: int) -> list[Walk]:
    """The pieces dealt out to readers, so that together they read about in that order."""
    return [pieces[start::readers] for start in range(readers)]


def shuffle(seeded: random.Random, pieces: Sequence[Piece]) -> list[Piece]:
    return seeded.sample(pieces, len(pieces))


def columns(pieces: Sequence[Piece]) -> list[Piece]:
    """The last chunk, then in each of 8 row groups three columns of the 20."""
    groups = [pieces[start : start + 64] for start in range(0, len(pieces) - 64, 64)]
    wanted = [piece for group in groups for at in (6, 32, 51) for piece in group[at : at + 3]]
    return [pieces[-1], *wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtt", type=float, default=10.0, help="round trip in milliseconds")
    parser.add_argument("--rate", type=float, default=2000.0, help="rate of the link in Mbit/s")
    parser.add_argument("--readers", type=int, default=32)
    chosen = parser.parse_args()
    link = Link(chosen.rtt / 1e3, chosen.rate * 1e6 / 8)
    print(f"{chosen.rtt:g} ms, {chosen.rate:g} Mbit/s, {chosen.readers} readers")
    print(
        f"{'pattern':40}{'GETs':>7}{'asked':>9}{'fetched':>9}{'factor':>8}{'s':>8}{'of ideal':>10}"
    )
    for pattern in patterns(chosen.readers):
        machine, seconds = run_pattern(pattern, link)
        asked = sum(
            pattern.remote.place(piece).entry.stored_length
            for piece in {piece for walk in pattern.walks for piece in walk}
        )
        ideal = link.rtt_seconds + asked / link.bytes_per_second
        fetched = machine.fetched_bytes
        print(
            f"{pattern.name:40}{machine.requests:7}{asked / 1e6:8.1f}M{fetched / 1e6:8.1f}M"
            f"{fetched / asked:8.2f}{seconds:8.2f}{ideal / seconds:10.0%}"
        )


if __name__ == "__main__":
    main()
