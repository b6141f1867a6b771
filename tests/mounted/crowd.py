"""Many mounts and commands on one cache, while new versions are pushed: no error, no wrong byte,
and hardly a byte fetched twice.

    python -m tests.mounted.crowd [--seconds 600] [--mounts 8] [--commands 8] [FOLDER]

Bytes are counted by a front before the S3 server, which only the crowd goes through.
"""

import argparse
import hashlib
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.fakes.s3_front import Asked, S3Front, serve_front
from tests.fakes.s3_servers import S3Server, serve_rclone_s3
from tests.mounted.repositories import (
    REVFS,
    Clone,
    commit_version,
    is_in_tree,
    make_repository,
)

BUCKET = "crowd"
MOST_TIMES_FETCHED = 1.05
SEED = 20261129
READERS = 4
READS = 40


class Version(NamedTuple):
    """A tag, and the SHA-256 of each of the files that came with it."""

    tag: str
    files: dict[str, str]


class Publisher:
    """Pushes one version after the other, past the front. Each adds a folder of its own, and
    changes a file that all have."""

    def __init__(self, folder: Path, server: S3Server, front: S3Front) -> None:
        server.make_bucket(BUCKET)
        options = ("--endpoint", front.endpoint, "--region", "us-east-1")
        self.repository = make_repository(folder, f"s3://{BUCKET}", *options)
        past_the_front = ("--local", "origin", "endpoint", server.endpoint)
        self.repository.revfs("remote", "modify", *past_the_front)
        self._seed = random.Random(SEED)
        self._kept = self._seed.randbytes(6 << 20)
        self.versions: list[Version] = []

    def push(self, clones: list[Clone]) -> None:
        """Make the next version, and let all clones know of it."""
        tag = f"v{len(self.versions)}"
        files = {f"data/{tag}/large.bin": self._seed.randbytes(5 << 20)}
        for number in range(60):
            size = self._seed.randrange(100, 60_000)
            files[f"data/{tag}/{number:02}.bin"] = self._seed.randbytes(size)
        place = self._seed.randrange(len(self._kept))
        self._kept = self._kept[:place] + self._seed.randbytes(100) + self._kept[place:]
        files["data/kept.bin"] = self._kept
        for name, content in files.items():
            path = self.repository.top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        commit_version(self.repository, tag)
        self.repository.revfs("push", "--quiet")
        for clone in clones:
            clone.git("fetch", "--quiet", "--tags", "origin")
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self.versions.append(Version(tag, hashes))


class Fetched(NamedTuple):
    """What was fetched of packs: bytes in all, and bytes that are not the same."""

    total: int
    distinct: int
    requests: int

    @property
    def times(self) -> float:
        """How often a byte was fetched, on average."""
        return self.total / max(1, self.distinct)


def count_fetched(passed: list[Asked]) -> Fetched:
    """What these requests fetched of packs."""
    ranges = sorted(
        (asked.key, asked.first, asked.last + 1)
        for asked in passed
        if asked.verb == "GET" and asked.key.startswith("packs/")
        if asked.first is not None and asked.last is not None
    )
    distinct, at = 0, ("", 0)
    for key, start, end in ranges:
        begin = max(start, at[1]) if key == at[0] else start
        distinct += max(0, end - begin)
        at = key, max(end, begin)
    return Fetched(sum(end - start for _, start, end in ranges), distinct, len(ranges))


@dataclass
class Crowd:
    """Who is at it. `troubles` are errors, warnings and wrong bytes, in words."""

    folder: Path
    publisher: Publisher
    clones: list[Clone]
    deadline: float
    troubles: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def live(self, number: int, work: Callable[["Member"], None]) -> None:
        """Do the same again and again until time is over."""
        member = Member(self, number, random.Random(SEED + number))
        while time.monotonic() < self.deadline and not self.troubles:
            try:
                work(member)
            except Exception:
                self.complain(f"{work.__name__}: {traceback.format_exc()}")

    def complain(self, words: str) -> None:
        """Note that something is wrong."""
        with self._lock:
            self.troubles.append(words)

    def count(self, what: str) -> None:
        """Note that something was done."""
        with self._lock:
            self.done[what] = self.done.get(what, 0) + 1


@dataclass
class Member:
    """One of the crowd."""

    crowd: Crowd
    number: int
    seed: random.Random
    rounds: int = 0

    @property
    def clone(self) -> Clone:
        """The clone it works in: most share the first."""
        return self.crowd.clones[0]

    @property
    def own_clone(self) -> Clone:
        """A clone whose work tree nobody else changes."""
        return self.crowd.clones[self.number]

    def pick(self) -> Version:
        """The newest version, most of the time."""
        versions = self.crowd.publisher.versions
        return versions[-1] if self.seed.random() < 0.7 else self.seed.choice(versions)

    def revfs(self, *arguments: str | Path, clone: Clone | None = None) -> str:
        """What revfs prints; whatever it says on stderr is trouble."""
        completed = (clone or self.clone).run(REVFS, *arguments, "--quiet", ok=False)
        if completed.returncode or completed.stderr:
            words = " ".join(map(str, arguments))
            self.crowd.complain(f"revfs {words}: {completed.returncode}: {completed.stderr}")
        self.crowd.count(str(arguments[0]))
        return completed.stdout

    def fresh_folder(self, what: str) -> Path:
        """A folder that is not there yet."""
        self.rounds += 1
        return self.crowd.folder / f"{what}-{self.number}-{self.rounds}"

    def check(self, name: str, content: bytes, digest: str) -> None:
        """See that these are the bytes of a file."""
        if hashlib.sha256(content).hexdigest() != digest:
            self.crowd.complain(f"{name} has other bytes")


@contextmanager
def mounted(member: Member, version: Version) -> Iterator[Path]:
    """A version on a folder of its own; its log must be clean at the end."""
    place = member.fresh_folder("mount")
    place.mkdir()
    try:
        member.revfs("mount", version.tag, place, "--workers", "1")
        record = member.clone.records.load(place)
        yield place
        member.revfs("unmount", place)
        lines = Path(record.log).read_text().splitlines() if record else ["there was no record"]
        bad = [line for line in lines if " INFO " not in line]
        if bad:
            member.crowd.complain(f"{version.tag}: {bad[:3]}")
    except Exception:
        names = sorted(path.name for path in place.iterdir())
        state = "mounted" if is_in_tree(place) else "not mounted"
        member.crowd.complain(f"{place} is {state}, with {names}: {logs_of(member.clone, place)}")
        raise
    finally:
        member.clone.end_mount(place)


def logs_of(clone: Clone, place: Path) -> str:
    """The last lines of all logs that name a place."""
    logs = (clone.cache / "logs").glob("*.log")
    return "\n".join(
        text[-600:] for text in (log.read_text() for log in logs) if str(place) in text
    )


def read_mount(member: Member) -> None:
    """Mount, read some files side by side, unmount."""
    version = member.pick()
    names = member.seed.sample(sorted(version.files), min(READS, len(version.files)))
    with mounted(member, version) as place, ThreadPoolExecutor(READERS) as pool:
        for name, content in zip(
            names, pool.map(lambda name: (place / name).read_bytes(), names), strict=True
        ):
            member.check(name, content, version.files[name])


def warm_mount(member: Member) -> None:
    """Mount, warm the newest folder, and look at a file."""
    version = member.pick()
    with mounted(member, version) as place:
        member.revfs("warm", place, f"data/{version.tag}", "--wait")
        name = f"data/{version.tag}/large.bin"
        member.check(name, (place / name).read_bytes(), version.files[name])


def cat(member: Member) -> None:
    """A file to standard output."""
    version = member.pick()
    name = member.seed.choice(sorted(version.files))
    command = [REVFS, "cat", version.tag, name]
    target = member.fresh_folder("cat")
    script = 'out=$1; shift; exec "$@" > "$out"'
    completed = member.clone.run("sh", "-c", script, "sh", target, *command, ok=False)
    if completed.returncode or completed.stderr:
        member.crowd.complain(f"cat {version.tag} {name}: {completed.stderr}")
        return
    member.check(name, target.read_bytes(), version.files[name])
    target.unlink()
    member.crowd.count("cat")


def export(member: Member) -> None:
    """A folder of a version as plain files."""
    version = member.pick()
    target = member.fresh_folder("export")
    member.revfs("export", version.tag, f"data/{version.tag}", target)
    for path in sorted(target.iterdir()):
        name = f"data/{version.tag}/{path.name}"
        member.check(name, path.read_bytes(), version.files[name])
        path.unlink()


def fetch(member: Member) -> None:
    """A whole version into the cache."""
    member.revfs("fetch", member.pick().tag)


def look(member: Member) -> None:
    """What asks no remote."""
    member.revfs("status")
    member.revfs("du", member.pick().tag)
    member.revfs("ls", member.pick().tag)


def pull(member: Member) -> None:
    """A version in the work tree, its data over the pointers."""
    clone, version = member.own_clone, member.pick()
    clone.git("checkout", "--quiet", "--force", version.tag)
    member.revfs("pull", f"data/{version.tag}", clone=clone)
    name = f"data/{version.tag}/large.bin"
    member.check(name, (clone.top / name).read_bytes(), version.files[name])


def add(member: Member) -> None:
    """A file that is staged and committed, but never pushed."""
    clone = member.own_clone
    member.rounds += 1
    path = clone.top / "data" / f"own-{member.rounds}.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(member.seed.randbytes(200_000))
    member.revfs("add", path, clone=clone)
    clone.git("commit", "--quiet", "-m", path.name)
    member.revfs("checkout", clone=clone)


COMMANDS = (cat, warm_mount, fetch, pull, export, add, look, cat)


class Outcome(NamedTuple):
    """What became of it."""

    troubles: list[str]
    done: dict[str, int]
    fetched: Fetched
    versions: int


def run_crowd(
    folder: Path, server: S3Server, *, seconds: float, mounts: int, commands: int, pause: float
) -> Outcome:
    """Have so many at work on one cache for some seconds, with a new version after each pause."""
    with serve_front(server) as front:
        publisher = Publisher(folder / "published", server, front)
        publisher.push([])
        home = folder / "home"
        members = mounts + commands
        clones = [publisher.repository.clone(folder / "clone-0", home)]
        for number in range(1, members + 1):
            top = folder / f"clone-{number}"
            clones[0].git("clone", "--quiet", publisher.repository.top, top)
            clones.append(clones[0].at(top))
        crowd = Crowd(folder, publisher, clones, time.monotonic() + seconds)
        works = [read_mount] * mounts + [COMMANDS[n % len(COMMANDS)] for n in range(commands)]
        with ThreadPoolExecutor(members) as pool:
            for number, work in enumerate(works):
                pool.submit(crowd.live, number + 1, work)
            while time.monotonic() + pause < crowd.deadline and not crowd.troubles:
                time.sleep(pause)
                publisher.push(clones)
        return Outcome(
            crowd.troubles, crowd.done, count_fetched(front.passed), len(publisher.versions)
        )


def main() -> int:
    """Run a crowd and print what came of it; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description="many mounts and commands on one cache")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--mounts", type=int, default=8)
    parser.add_argument("--commands", type=int, default=8)
    parser.add_argument("--pause", type=float, default=10, help="seconds between versions")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serve_rclone_s3(Path(name) / "server") as server:
        outcome = run_crowd(
            Path(name),
            server,
            seconds=wanted.seconds,
            mounts=wanted.mounts,
            commands=wanted.commands,
            pause=wanted.pause,
        )
    print(f"versions pushed: {outcome.versions}")
    print("done: " + ", ".join(f"{n} {what}" for what, n in sorted(outcome.done.items())))
    total, distinct, requests = outcome.fetched
    print(f"fetched of packs: {total / 1e6:.1f} MB in {requests} requests, {distinct / 1e6:.1f} MB")
    print(f"each byte {outcome.fetched.times:.3f} times")
    for trouble in outcome.troubles:
        print(f"TROUBLE: {trouble}")
    return int(bool(outcome.troubles) or outcome.fetched.times > MOST_TIMES_FETCHED)


if __name__ == "__main__":
    sys.exit(main())
