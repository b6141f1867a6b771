"""What scripts/bench-training runs: reads the command line, makes everything ready, lets the job
run over mounts and over local files, and prints what it took."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from bench_data import WHOLE, DataSet
from bench_link import FIRST, SECOND, open_link
from bench_main import HOME, find_programs, make_environment, work_folder
from bench_processes import NotMeasured
from bench_report import describe_other_work
from bench_revfs import BUCKET, Revfs
from bench_session import Choice, Figure, Server, Session, say
from bench_training_images import PART, make_images
from bench_training_rounds import JobChoice, measure_link, measure_mode
from bench_training_table import (
    Mode,
    Verdict,
    describe_limit,
    describe_processors,
    judge,
    tabulate,
)
from bench_writes import make_pushed

from tests.fakes.s3_servers import serve_rclone_s3

_LINKS = {"first": FIRST, "second": SECOND}
# A cache of a size of its own: else a disk that somebody else fills empties it in the middle.
_OWN_MOUNT_OPTIONS = ("--cache-size", "64GiB")
NOTES = """\
Seconds of whole epochs, shuffled; medians. Ratios are ours to theirs, taken run by run.
read: files are read to their end. decode: they are decoded and scaled too, as ImageFolder does it.
First epoch: a fresh clone with an empty cache, over the link; local files from the disk.
Next epoch, from the disk: the kernel was told to forget its pages of the files, of the mount and of
what revfs has cached; from memory: it was not.
Server, link (a proxy on this machine), mount and job share its cores; "others" is all else."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingChoice:
    """What was asked for on the command line."""

    files: int
    modes: Sequence[Mode]
    job: JobChoice
    is_ordered: bool
    session: Choice


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Ends the program where it is wrong."""
    parser = argparse.ArgumentParser("scripts/bench-training", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 files and one run")
    parser.add_argument("--files", type=int, help="how many pictures (5,000)")
    parser.add_argument("--runs", type=int, help="3; with --quick 1")
    parser.add_argument(
        "--decode",
        action=argparse.BooleanOptionalAction,
        help="only decode the pictures, or only read them; else one after the other",
    )
    parser.add_argument(
        "--ordered", action="store_true", help="again with the order of the first epoch known"
    )
    parser.add_argument("--loaders", type=int, default=4, help="processes that load (4)")
    parser.add_argument("--batch", type=int, default=64, help="files in a batch (64)")
    parser.add_argument("--link", choices=tuple(_LINKS), default="first")
    parser.add_argument("--mount-options", default="", help="for revfs mount, in one word")
    parser.add_argument("--python", type=Path, required=True, help="one that has torch and pillow")
    parser.add_argument("--json", type=Path, default=HOME / "bench-training.json", metavar="FILE")
    return parser.parse_args(words)


def make_choice(options: argparse.Namespace) -> TrainingChoice:
    """What the command line means."""
    modes = {None: tuple(Mode), True: (Mode.DECODE,), False: (Mode.READ,)}[options.decode]
    # No rows and no contenders named: all. The scale is for the data of scripts/bench alone.
    session = Choice(
        WHOLE,
        frozenset(),
        frozenset(),
        (_LINKS[options.link],),
        options.runs or (1 if options.quick else 3),
        [*_OWN_MOUNT_OPTIONS, *options.mount_options.split()],
        drops_caches=False,
    )
    job = JobChoice(options.python, options.loaders, options.batch)
    files = options.files or (1_000 if options.quick else 5_000)
    return TrainingChoice(files, modes, job, options.ordered, session)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """The server, with an empty bucket: what the job reads over it is pushed first."""
    store = folder / "server"
    store.mkdir()
    with serve_rclone_s3(store) as server:
        server.make_bucket(BUCKET)
        assert server.pid is not None
        yield Server(server.pid, store, server.address[1], server.access_key, server.secret_key)


def measure(choice: TrainingChoice, data: DataSet, figures: list[Figure]) -> None:
    """Make everything ready, and measure; the figures are added one by one. Raises NotMeasured."""
    with work_folder() as folder, serve(folder) as server:
        environment = make_environment(folder)
        environment["AWS_ACCESS_KEY_ID"] = server.access_key
        environment["AWS_SECRET_ACCESS_KEY"] = server.secret_key
        programs, speed = find_programs(), choice.session.links[0]
        with open_link(programs.proxy, server.port, folder / "counters", speed) as link:
            session = Session(
                folder, programs, choice.session, data, link, server, environment, figures
            )
            _measure_all(session, choice)


def _measure_all(session: Session, choice: TrainingChoice) -> None:
    """Add and push once; then in each run the link, and all modes."""
    source = make_pushed(session, (PART,), ("add", "push"))
    is_ordered = choice.is_ordered and _knows_orders(source)
    for run in range(choice.session.runs):
        say(f"run {run + 1} of {choice.session.runs}")
        measure_link(session)
        for mode in choice.modes:
            measure_mode(session, source, choice.job, mode, run, ordered=is_ordered)


def _knows_orders(source: Revfs) -> bool:
    """Whether this revfs can write down an order and fetch by it."""
    if source.has_mount_option("--record"):
        return True
    say("this revfs has no mount --record; --ordered is left out")
    return False


def show(figures: Sequence[Figure], choice: TrainingChoice, data: DataSet, seconds: float) -> None:
    """The tables, and what has to be known to read them."""
    speed, job = choice.session.links[0], choice.job
    print(
        f"\n{speed.title}; {choice.files:,} pictures, "
        f"{data.count_bytes(PART) / 1e6:,.0f} MB; "
        f"{job.loaders} loaders, batches of {job.batch}; {choice.session.runs} run(s)\n"
    )
    _print_table(tabulate(figures, choice.files))
    print()
    _print_table([_show_verdict(verdict) for verdict in judge(figures)])
    print()
    cores = os.cpu_count() or 1
    for line in [*describe_limit(figures), *describe_processors(figures, cores)]:
        print(line)
    print(NOTES)
    print(describe_other_work(figures, cores))
    print(f"{seconds:.0f} s in all.")


def _show_verdict(verdict: Verdict) -> Sequence[str]:
    budget = "" if verdict.budget is None else f"at most {verdict.budget}"
    met = {True: "met", False: "NOT MET", None: ""}[verdict.is_met]
    return (verdict.row, f"to {verdict.against}", f"{verdict.ratio:.2f}", budget, met)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def write_json(path: Path, figures: Sequence[Figure], choice: TrainingChoice) -> None:
    """All figures and ratios, for programs."""
    content = {
        "link": dataclasses.asdict(choice.session.links[0]),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "files": choice.files,
        "loaders": choice.job.loaders,
        "batch": choice.job.batch,
        "figures": [dataclasses.asdict(figure) for figure in figures],
        "ratios": [dataclasses.asdict(verdict) for verdict in judge(figures)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Run it all. Interrupted, it takes down what it put up, and reports what it has."""

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    options = parse_words(sys.argv[1:])
    choice = make_choice(options)
    started = time.perf_counter()
    figures: list[Figure] = []
    say(f"{choice.files:,} pictures")
    data = make_images(HOME / f"images-{choice.files}", choice.files)
    try:
        measure(choice, data, figures)
    except NotMeasured as error:
        raise SystemExit(f"bench-training: {error}") from error
    finally:
        if figures:
            show(figures, choice, data, time.perf_counter() - started)
            write_json(options.json, figures, choice)
            print(f"figures in {options.json}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
