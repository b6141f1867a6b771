"""A mount over a remote that is silent, slow, cut, busy or gone: what its readers see.

    python -m tests.mounted.outage [--timeout 30] [--readers 200] [--gone-seconds 300] [FAULT]...

For each fault: after how many seconds stuck readers had their errno, how long stat and reads of
what is cached took meanwhile, and how soon all was well again. The readers are in a process of
their own, so that what is measured is the mount and not this one.
"""

import argparse
import errno
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.lying_server import error_reply
from tests.fakes.processes import ROOT
from tests.fakes.s3_front import Asked, S3Front, serve_front
from tests.fakes.s3_servers import serve_rclone_s3
from tests.fakes.tcp_proxy import Link, TcpProxy
from tests.mounted.repositories import Clone, commit_version, make_repository

BUCKET = "outage"
SEED = 20261129
CACHED = 60
LARGE_BYTES = 8 << 20
BUSY_SHARE = 0.3
HEALED_SECONDS = 10.0
PAUSE_SECONDS = 0.005


class Fault(NamedTuple):
    """What the link does, and the share of requests that are answered 503. `connections` are cut
    when it begins."""

    link: Link
    busy_share: float = 0.0
    is_deadly: bool = True


FAULTS = {
    "silent": Fault(Link(stall=True)),
    "trickling": Fault(Link(trickle_seconds=1.0)),
    "cutting": Fault(Link(cut_after_bytes=150)),
    "refusing": Fault(Link(refuse=True)),
    "busy": Fault(Link(), BUSY_SHARE, is_deadly=False),
    "gone": Fault(Link(refuse=True)),
}


@dataclass(frozen=True)
class Scene:
    """A clone whose remote lies behind a front and a proxy. Its files are `large`, `cached/N` and
    `many/N` below `data`, all of them in `top` too."""

    clone: Clone
    front: S3Front
    proxy: TcpProxy
    top: Path

    def begin(self, fault: Fault) -> None:
        """From now on it is so."""
        chance = random.Random(SEED)

        def answer(asked: Asked) -> Any:
            return error_reply(503, "SlowDown") if chance.random() < fault.busy_share else None

        self.front.answer = answer
        self.proxy.set_link(fault.link)
        if fault.link.refuse:
            self.proxy.cut_connections()

    def end(self) -> None:
        """All is well again."""
        self.begin(Fault(Link()))


@contextmanager
def open_scene(folder: Path, files: int) -> Iterator[Scene]:
    """A scene with so many small files beside the cached ones."""
    with (
        serve_rclone_s3(folder / "server") as server,
        serve_front(server) as front,
        TcpProxy(front.address) as proxy,
    ):
        server.make_bucket(BUCKET)
        options = ("--endpoint", proxy.endpoint, "--region", "us-east-1")
        repository = make_repository(folder, f"s3://{BUCKET}", *options)
        seed = random.Random(SEED)
        large = repository.top / "data" / "large"
        large.parent.mkdir()
        large.write_bytes(seed.randbytes(LARGE_BYTES))
        for name, count in (("cached", CACHED), ("many", files)):
            place = repository.top / "data" / name
            place.mkdir()
            for number in range(count):
                (place / f"{number:05}").write_bytes(seed.randbytes(20_000))
            # In packs of their own: else what is read of the one would bring some of the other.
            commit_version(repository, name)
            repository.revfs("push", "--quiet")
        yield Scene(
            repository.clone(folder / "clone", folder / "reader"), front, proxy, repository.top
        )


@dataclass(frozen=True)
class Seen:
    """What readers saw: how often each errno (0: their bytes), seconds until the last of them had
    it; seconds of each stat, and of each read of a cached file past the page cache."""

    errnos: dict[str, int]
    last_seconds: float
    stats: list[float]
    reads: list[float]


def share(values: list[float], part: float) -> float:
    """The value that this part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def look(mountpoint: Path, first: int, readers: int) -> Seen:
    """In a process of its own: have files read that are not here, one by each reader, and see how
    the mount is until all have their answer."""
    answers: list[tuple[int, float]] = []
    began = time.monotonic()

    def read(path: Path) -> None:
        answers.append((read_errno(path), time.monotonic() - began))

    paths = [mountpoint / f"data/many/{number:05}" for number in range(first, first + readers)]
    threads = [threading.Thread(target=read, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    stats, reads = [], []
    number = 0
    while any(thread.is_alive() for thread in threads):
        number += 1
        stats.append(_timed(lambda n=number: _look_up(mountpoint / f"data/many/no-{n}")))
        reads.append(_timed(lambda n=number: _read_past_cache(mountpoint, n)))
        time.sleep(PAUSE_SECONDS)
    errnos = Counter(errno.errorcode.get(code, "bytes") for code, _ in answers)
    return Seen(dict(errnos), max(seconds for _, seconds in answers), stats, reads)


def read_errno(path: Path) -> int:
    """The errno of reading a file, 0 for none."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno or -1
    return 0


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _look_up(path: Path) -> None:
    """Stat a name that is not there: what is, the kernel would answer from its memory."""
    with suppress(FileNotFoundError):
        path.stat()


def _read_past_cache(mountpoint: Path, number: int) -> None:
    descriptor = os.open(mountpoint / f"data/cached/{number % CACHED:05}", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert len(os.read(descriptor, 20_000)) == 20_000
    finally:
        os.close(descriptor)


def look_from_outside(mountpoint: Path, first: int, readers: int) -> Seen:
    """`look`, in a new process."""
    command = [sys.executable, "-m", "tests.mounted.outage", "--look", mountpoint, str(first)]
    completed = subprocess.run(
        [*command, str(readers)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return Seen(**json.loads(completed.stdout))


def wait_until_healed(path: Path) -> float:
    """Seconds until a file can be read."""
    began = time.monotonic()
    while read_errno(path):
        time.sleep(0.05)
    return time.monotonic() - began


def run_fault(
    scene: Scene,
    fault: Fault,
    *,
    timeout: float,
    readers: int,
    first: int = 0,
    gone_seconds: float = 0,
) -> tuple[list[Seen], float]:
    """What readers see of a fault, each with a file of his own from the `first` on: again and again
    for some seconds, at least once. And how soon it is over, for one who reads the next file."""
    clone, seen = scene.clone, []
    with clone.mounted("many", None, "--timeout", str(timeout)) as mount:
        for number in range(CACHED):
            (mount.path / f"data/cached/{number:05}").read_bytes()
        scene.begin(fault)
        try:
            until = time.monotonic() + gone_seconds
            while not seen or time.monotonic() < until:
                seen.append(look_from_outside(mount.path, first, readers))
        finally:
            scene.end()
        return seen, wait_until_healed(mount.path / f"data/many/{first + readers:05}")


def show(name: str, seen: list[Seen], healed: float) -> None:
    """One line of figures."""
    errnos: Counter[str] = Counter()
    for one in seen:
        errnos.update(one.errnos)
    stats = [value for one in seen for value in one.stats]
    reads = [value for one in seen for value in one.reads]
    answers = ", ".join(f"{count} {what}" for what, count in sorted(errnos.items()))
    last = max(one.last_seconds for one in seen)
    milliseconds = [1e3 * share(v, part) for v in (stats, reads) for part in (0.5, 0.99, 1)]
    print(
        f"{name:10} {answers:22} last after {last:5.1f} s | stat p50 {milliseconds[0]:.2f} p99 "
        f"{milliseconds[1]:.1f} most {milliseconds[2]:.0f} ms | cached read p50 "
        f"{milliseconds[3]:.2f} p99 {milliseconds[4]:.1f} most {milliseconds[5]:.0f} ms | "
        f"healed after {healed:.2f} s",
        flush=True,
    )


def main() -> int:
    """Run the faults that were named, or all; 1 where one did not end as it should."""
    if sys.argv[1:2] == ["--look"]:
        mountpoint, first, readers = sys.argv[2:]
        print(json.dumps(vars(look(Path(mountpoint), int(first), int(readers)))))
        return 0
    parser = argparse.ArgumentParser(description="what readers see of a remote in trouble")
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--gone-seconds", type=float, default=300)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    wanted = parser.parse_args()
    failed = False
    for name in wanted.faults or FAULTS:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_scene(Path(folder), wanted.readers + 1) as scene,
        ):
            seen, healed = run_fault(
                scene,
                FAULTS[name],
                timeout=wanted.timeout,
                readers=wanted.readers,
                gone_seconds=wanted.gone_seconds if name == "gone" else 0,
            )
        show(name, seen, healed)
        expected = {"EIO"} if FAULTS[name].is_deadly else {"bytes"}
        late = any(one.last_seconds > wanted.timeout + 5 for one in seen)
        wrong = any(set(one.errnos) != expected for one in seen)
        failed = failed or late or wrong or healed > HEALED_SECONDS
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
