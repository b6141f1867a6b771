"""One run of the benchmark: where it works, what it talks to, the figures that it has so far."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_data import DataSet, Scale
from bench_link import Link, LinkSpeed
from bench_processes import (
    Finished,
    NotMeasured,
    get_machine_seconds,
    get_processor_seconds,
    run,
)

PLAIN_BUCKET = "plain"
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# The rows that are measured over each link; the others say the same over any.
LINK_ROWS = frozenset(
    {
        "link-up",
        "link-down",
        "first-byte",
        "cold-epoch",
        "cold-text",
        "cold-large",
        "push",
        "push-text",
    }
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `value` is in the row's unit, None where `note` says why there is none;
    `processors` are the seconds of each process, `others` of all else on the machine."""

    row: str
    link: str
    contender: str
    value: float | None
    seconds: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0
    requests: int = 0
    connections: int = 0
    processors: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are that the benchmark starts."""

    revfs: Path
    rclone: Path
    reader: Path
    proxy: Path
    passthrough: Path
    dvc: Path
    s3fs: Path


@dataclass(frozen=True, slots=True)
class Server:
    """The object server: its process, the folder in which buckets are folders, and how to it."""

    pid: int
    folder: Path
    port: int
    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for on the command line."""

    scale: Scale
    rows: frozenset[str]
    contenders: frozenset[str]
    links: Sequence[LinkSpeed]
    runs: int
    mount_options: Sequence[str]
    drops_caches: bool

    def wants(self, *rows: str) -> bool:
        """Whether any of these rows was asked for; no name given at all means all of them."""
        return not self.rows or any(row in self.rows for row in rows)

    def wants_contender(self, name: str) -> bool:
        return not self.contenders or name in self.contenders


@dataclass(slots=True)
class Measurement:
    """What is being measured: the caller sets value and seconds, and adds what commands used."""

    value: float = 0.0
    seconds: float = 0.0
    processors: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, finished: Finished) -> None:
        """Count the processor seconds of a command under a name."""
        used = self.processors.get(name, 0.0) + finished.processor_seconds
        self.processors[name] = used


class Session:
    """A run in one folder. Figures are only ever added."""

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        choice: Choice,
        data: DataSet,
        link: Link,
        server: Server,
        environment: Mapping[str, str],
        figures: list[Figure],
    ) -> None:
        self.folder = folder
        self.programs = programs
        self.choice = choice
        self.data = data
        self.link = link
        self.server = server
        self.environment = environment
        self._figures = figures
        self._folders = 0

    def new_folder(self, name: str) -> Path:
        """An empty folder that nothing used before."""
        self._folders += 1
        folder = self.folder / f"{self._folders:03}-{name}"
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def measuring(
        self, row: str, contender: str, pids: Mapping[str, int] | None = None
    ) -> Iterator[Measurement]:
        """Record what happens meanwhile as one figure. What is written already is on the disk
        before, so that nobody pays for another's writing."""
        watched = {"server": self.server.pid, "link": self.link.pid, **(pids or {})}
        os.sync()
        measurement = Measurement()
        traffic, machine = self.link.get_traffic(), get_machine_seconds()
        before = {name: get_processor_seconds(pid) for name, pid in watched.items()}
        yield measurement
        machine = get_machine_seconds() - machine
        crossed = self.link.get_traffic().since(traffic)
        used = {n: get_processor_seconds(pid) - before[n] for n, pid in watched.items()}
        used |= measurement.processors
        used["others"] = max(0.0, machine - sum(used.values()))
        self.add(
            Figure(
                row,
                self.link.speed.name,
                contender,
                measurement.value,
                measurement.seconds,
                crossed.up_bytes,
                crossed.down_bytes,
                crossed.requests,
                crossed.connections,
                {name: round(seconds, 3) for name, seconds in used.items()},
            )
        )

    def note_value(self, row: str, contender: str, value: float, note: str = "") -> None:
        """Record a figure that follows from others, or was measured elsewhere."""
        self.add(Figure(row, self.link.speed.name, contender, value, note=note))

    def miss(self, rows: Sequence[str], contender: str, why: str) -> None:
        """Record that rows were asked for and could not be measured."""
        for row in rows:
            self.add(Figure(row, self.link.speed.name, contender, None, note=why))

    @contextlib.contextmanager
    def attempt(self, rows: Sequence[str], contender: str) -> Iterator[None]:
        """What cannot be measured in here becomes a figure that says why."""
        try:
            yield
        except (NotMeasured, OSError) as error:
            self.miss(rows, contender, str(error))

    def wants(self, *rows: str) -> bool:
        """Whether any of these rows is to be measured over the link as it is now: not while things
        are made ready over a link without limits, and what has no link in it only once."""
        speed = self.link.speed
        return any(
            self.choice.wants(row)
            and speed in self.choice.links
            and (row in LINK_ROWS or speed == self.choice.links[0])
            for row in rows
        )

    def add(self, figure: Figure) -> None:
        """Keep a figure, if its row is wanted."""
        if not self.wants(figure.row):
            return
        self._figures.append(figure)
        value = figure.note if figure.value is None else f"{figure.value:,.3f}"
        seconds = f"{figure.seconds:.2f} s" if figure.seconds else ""
        say(f"{figure.row} [{figure.link}] {figure.contender}: {value} {seconds}")

    def read(
        self, paths: Sequence[Path], *, threads: int, block_bytes: int = 1 << 20
    ) -> "ReadReport":
        """Read the files to their ends with the reader in C. Raises NotMeasured if one fails."""
        return self._run_reader(paths, ["--threads", str(threads), "--block", str(block_bytes)])

    def drop_pages(self, paths: Sequence[Path]) -> None:
        """Have the kernel forget its pages of these files."""
        self._run_reader(paths, ["--threads", "8", "--drop"])

    def _run_reader(self, paths: Sequence[Path], options: Sequence[str]) -> "ReadReport":
        paths_file = self.folder / "paths"
        paths_file.write_text("".join(f"{path}\n" for path in paths))
        command = [self.programs.reader, *options, paths_file]
        finished = run(command, environment=self.environment, timeout_seconds=300)
        said = json.loads(finished.output)
        return ReadReport(said["seconds"], said["files"], said["bytes"], finished)

    def drop_caches(self, prefix: str) -> None:
        """Where that was asked for, have the kernel forget all files that it has read, but for
        those that the server has below `prefix`: how quick its disk is, is not the question."""
        if self.choice.drops_caches:
            os.sync()
            _DROP_CACHES.write_text("3")
            top = self.server.folder / prefix
            self.read([path for path in top.rglob("*") if path.is_file()], threads=4)


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What the reader did."""

    seconds: float
    files: int
    byte_count: int
    finished: Finished


def say(text: str) -> None:
    """A line about how far the run is; the results themselves are for stdout."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
