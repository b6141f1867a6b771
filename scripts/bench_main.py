"""What scripts/bench runs: reads the command line, makes everything ready, measures, reports."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench_data import QUICK, WHOLE, make_data  # noqa: E402
from bench_link import FIRST, SECOND, UNLIMITED, open_link  # noqa: E402
from bench_peers import unmount  # noqa: E402
from bench_print import print_report, write_json  # noqa: E402
from bench_rounds import measure_all  # noqa: E402
from bench_server import serve  # noqa: E402
from bench_session import Choice, Figure, Programs, Session, say  # noqa: E402
from bench_table import DVC, LOOP, NATIVE, OURS, RCLONE, ROW_NAMES, S3FS  # noqa: E402

from tests.fakes.s3_servers import rclone_binary  # noqa: E402

HOME = ROOT / ".bench"
CONTENDERS = {
    "revfs": OURS,
    "rclone": RCLONE,
    "s3fs": S3FS,
    "dvc": DVC,
    "loop": LOOP,
    "native": NATIVE,
}


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Ends the program where it is wrong."""
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller data, one run, one link")
    parser.add_argument("--rows", type=_names_of(ROW_NAMES), default=[], metavar="NAME,...")
    parser.add_argument(
        "--contenders", type=_names_of(tuple(CONTENDERS)), default=[], metavar="NAME,..."
    )
    parser.add_argument("--link", choices=("first", "second", "both"))
    parser.add_argument("--runs", type=int, help="3; with --quick 1")
    parser.add_argument("--mount-options", default="", help="for revfs mount, in one word")
    parser.add_argument(
        "--drop-caches", action="store_true", help="have the kernel forget all files first (root)"
    )
    parser.add_argument("--json", type=Path, default=HOME / "bench.json", metavar="FILE")
    parser.add_argument("--plot", type=Path, default=HOME / "bench.png", metavar="FILE")
    return parser.parse_args(words)


def _names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if strangers := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(
                f"{strangers[0]!r} is none of them; there are: {', '.join(known)}"
            )
        return names

    return parse


def make_choice(options: argparse.Namespace) -> Choice:
    """What the command line means."""
    link = options.link or ("first" if options.quick else "both")
    return Choice(
        QUICK if options.quick else WHOLE,
        frozenset(options.rows),
        frozenset(CONTENDERS[name] for name in options.contenders),
        {"first": (FIRST,), "second": (SECOND,), "both": (FIRST, SECOND)}[link],
        options.runs or (1 if options.quick else 3),
        options.mount_options.split(),
        options.drop_caches,
    )


def make_environment(folder: Path) -> dict[str, str]:
    """An environment that sees nothing of the user's own settings."""
    config = folder / "gitconfig"
    config.write_text(
        "[user]\n\tname = Bench\n\temail = bench@example.org\n[gc]\n\tauto = 0\n"
        "[init]\n\tdefaultBranch = main\n"
    )
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_CONFIG_SYSTEM": os.devnull,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-aws-credentials"),
    }


def find_programs() -> Programs:
    """Where they are, or would be."""
    return Programs(
        revfs=Path(sys.executable).with_name("revfs"),
        rclone=Path(rclone_binary()),
        reader=HOME / "bench_reader",
        proxy=HOME / "link_proxy",
        passthrough=HOME / "passthrough_ll",
        dvc=HOME / "dvc/bin/dvc",
        s3fs=Path(shutil.which("s3fs") or "s3fs"),
    )


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for this run, removed at the end; so are those of runs that were killed."""
    for left in HOME.glob("run-*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():
            remove_folder(left)
    folder = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=HOME)).resolve()
    try:
        yield folder
    finally:
        say("removing what was made")
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove it; whatever is mounted in it is taken down first."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1]
        if place.startswith(f"{folder}/"):
            unmount(Path(place))
    shutil.rmtree(folder, ignore_errors=True)


def measure(choice: Choice, figures: list[Figure]) -> None:
    """Make everything ready, and measure; the figures are added one by one."""
    data = make_data(HOME / f"data-{choice.scale.name}", choice.scale)
    programs = find_programs()
    with work_folder() as folder, serve(folder, data) as server:
        environment = make_environment(folder)
        environment["AWS_ACCESS_KEY_ID"] = server.access_key
        environment["AWS_SECRET_ACCESS_KEY"] = server.secret_key
        with open_link(programs.proxy, server.port, folder / "counters", UNLIMITED) as link:
            session = Session(folder, programs, choice, data, link, server, environment, figures)
            measure_all(session)


def plot(json_file: Path, picture: Path) -> None:
    """Have the plot made by the venv that has matplotlib; without it there is none."""
    python = HOME / "dvc/bin/python"
    command = [str(python), str(ROOT / "scripts/plot_bench.py"), str(json_file), str(picture)]
    if not python.exists() or subprocess.run(command).returncode:
        say("no plot could be made; the JSON file has the figures")


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
    try:
        measure(choice, figures)
    finally:
        report(figures, choice, time.perf_counter() - started, options)


def report(
    figures: Sequence[Figure], choice: Choice, seconds: float, options: argparse.Namespace
) -> None:
    """The tables, the file and the picture, of as many figures as there are."""
    if figures:
        print_report(figures, choice, seconds)
        write_json(options.json, figures, choice, seconds)
        plot(options.json, options.plot)
        print(f"figures in {options.json}, plot in {options.plot}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
