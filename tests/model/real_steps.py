"""The code itself, call by call: pushes, collectors, a repack and an undo over one bucket in
memory, with a schedule that says whose call is next, who crashes, and when time goes by.

Every call to the bucket waits at a gate. What is checked after each is the same as in the model: no
manifest names a missing chunk, and no commit that was pushed and not forgotten has lost its
manifest.
"""

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import trio

from store.errors import RemoteDenied, StoreError, leaves_of
from store.ids import ChunkId, GitId, PackName, chunk_id
from store.keep_policy import KeepPolicy
from store.manifests import parse_manifest
from store.remote import INDEX_PREFIX, MANIFESTS_PREFIX, ObjectInfo, pack_key
from store.remote_index import parse_index
from tests.fakes.buckets import Bucket
from tests.fakes.collected import Actor, Time, actor, timed_bucket
from tests.fakes.repositories import Repository, make_repository, random_bytes

Result = TypeVar("Result")

A, B, C, D = (random_bytes(3000, seed) for seed in range(4))
VERSIONS = {"old": (A, B), "left": (B, C), "right": (A, C, D)}
"""What is committed under each name: a file of one chunk for each content."""

# Short ones within a push are as telling as those after which a grace is over.
PAUSES_DAYS = (1 / 1440, 6 / 1440, 6 / 1440, 0.3, 7.1, 7.1)
MOST_DAYS = 14.0
_AT_ONCE = 3
_MOST_SECONDS = 120.0


class Crashed(RemoteDenied):
    """The machine is gone; nothing more of it arrives."""


class Gate:
    """One actor's way to the bucket: each call waits until it is let through."""

    def __init__(self, bucket: Bucket, check: Callable[[], None]) -> None:
        self._bucket = bucket
        self._check = check
        self._waiting: list[tuple[str, trio.Event]] = []
        self._crash: str | None = None
        self.under_way = 0

    @property
    def url(self) -> str:
        return self._bucket.url

    @property
    def waits(self) -> bool:
        """Whether a call waits, and none is under way."""
        return bool(self._waiting) and not self.under_way

    @property
    def next(self) -> str:
        """The verb and the key of the call that is next."""
        return self._waiting[0][0]

    def let_one_through(self) -> None:
        self.under_way += 1
        self._waiting.pop(0)[1].set()

    def crash(self, *, after: bool) -> None:
        """Before the call that waits, or right after it is done."""
        self._crash = "after" if after else "before"
        self.let_one_through()

    async def _pass(self, what: str, call: Callable[[], Awaitable[Result]]) -> Result:
        if self._crash is None:
            turn = trio.Event()
            self._waiting.append((what, turn))
            await turn.wait()
            try:
                if self._crash == "before":
                    raise Crashed("crashed")
                result = await call()
                self._check()
                if self._crash == "after":
                    raise Crashed("crashed")
                return result
            finally:
                self.under_way -= 1
                if self._crash is not None:
                    self._crash = "over"
                    while self._waiting:
                        self.let_one_through()
        raise Crashed("crashed")

    async def fetch(self, key: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
        async def call() -> bytes:
            return await self._bucket.fetch(key, max_bytes=max_bytes, timeout_seconds=1)

        return await self._pass(f"fetch {key}", call)

    async def fetch_range(
        self, key: str, start: int, length: int, *, timeout_seconds: float
    ) -> bytes:
        async def call() -> bytes:
            return await self._bucket.fetch_range(key, start, length, timeout_seconds=1)

        return await self._pass(f"fetch {key}", call)

    async def put(self, key: str, body: bytes | Path, *, timeout_seconds: float) -> None:
        async def call() -> None:
            await self._bucket.put(key, body, timeout_seconds=1)

        await self._pass(f"put {key}", call)

    async def list_objects(self, prefix: str, *, timeout_seconds: float) -> Sequence[ObjectInfo]:
        async def call() -> Sequence[ObjectInfo]:
            return await self._bucket.list_objects(prefix, timeout_seconds=1)

        return await self._pass(f"list {prefix}", call)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        async def call() -> None:
            await self._bucket.delete(key, timeout_seconds=1)

        await self._pass(f"delete {key}", call)

    def local_path(self, key: str) -> None:
        return None

    async def close(self) -> None:
        pass


@dataclass
class Checker:
    """What must hold of the bucket after every call."""

    bucket: Bucket
    needed: dict[str, set[ChunkId]]
    promised: set[str] = field(default_factory=set)
    # Objects never change, so that each is parsed once.
    _tables: dict[str, dict[PackName, set[ChunkId]]] = field(default_factory=dict)

    def check(self) -> None:
        places: dict[PackName, set[ChunkId]] = {}
        for key in self.bucket.keys(INDEX_PREFIX):
            for pack, chunks in self._chunks_of(key).items():
                places.setdefault(pack, set()).update(chunks)
        complete = set()
        for key in self.bucket.keys(MANIFESTS_PREFIX):
            manifest = parse_manifest(self.bucket.objects[key][0])
            complete.add(str(manifest.commit))
            held: set[ChunkId] = set()
            for pack in manifest.packs:
                assert pack_key(pack) in self.bucket.objects, f"{key} names the missing {pack}"
                held |= places.get(pack, set())
            assert self.needed[str(manifest.commit)] <= held, f"{key} names a missing chunk"
        assert self.promised <= complete, "a commit lost its manifest, and nobody forgot it"

    def _chunks_of(self, key: str) -> dict[PackName, set[ChunkId]]:
        if key not in self._tables:
            packs = parse_index(self.bucket.objects[key][0])
            self._tables[key] = {p.name: {entry.chunk for entry in p.table} for p in packs}
        return self._tables[key]


@dataclass(frozen=True)
class Template:
    """Two clones with staged packs of their own, and what each version is in git."""

    folder: Path
    commits: dict[str, str]


def make_template(folder: Path) -> Template:
    """`old` is pushed first; `left` follows it in one clone, `right` in the other."""
    folder.mkdir(exist_ok=True)
    bucket, days = Bucket(), Time()
    first = make_repository(folder / "left")
    commits = {"start": first.head()}
    with actor(first, folder / "left-cache", bucket, days) as left:
        commits["old"] = _commit(left, "old")
        second = first.clone(folder / "right")
        shutil.copytree(first.top / ".git/revfs", second.top / ".git/revfs", dirs_exist_ok=True)
        commits["left"] = _commit(left, "left")
    with actor(second, folder / "right-cache", bucket, days) as right:
        commits["right"] = _commit(right, "right")
    return Template(folder, commits)


def _commit(who: Actor, name: str) -> str:
    files = {f"file{number}": content for number, content in enumerate(VERSIONS[name])}
    return who.version(**files)


@dataclass
class Task:
    """What an actor is to do, and how far he is."""

    name: str
    gate: Gate
    work: Callable[[], Awaitable[object]]
    started: bool = False
    ended: bool = False
    outcome: str = ""


class Stage:
    """The bucket, the time, the two clones and those who are at work."""

    def __init__(self, left: Actor, right: Actor, template: Template) -> None:
        self.bucket, self.time = left.bucket, left.time
        self.actors = self._left, self._right = left, right
        self._commits = template.commits
        needed = {
            commit: {chunk_id(content) for content in VERSIONS.get(name, ())}
            for name, commit in template.commits.items()
        }
        self.checker = Checker(self.bucket, needed)
        self._passed_days = 0.0
        self._nursery: trio.Nursery
        self.log: list[str] = []
        self.tasks: list[Task] = []

    async def prepare(self) -> None:
        """`old` is there, with packs that are not new any more."""
        await self._left.push(self._commits["old"])
        self.bucket.calls.clear()
        self.time.pass_days(2)
        self.checker.promised |= {self._commits["old"], self._commits["start"]}
        self.checker.check()

    def add(self, name: str) -> None:
        """Somebody more is at work: push-left, push-right, gc, gc-forget, repack or undo."""
        who = self._right if name in ("push-right", "repack") else self._left
        gate = Gate(self.bucket, self.checker.check)
        works: dict[str, Callable[[Actor], Awaitable[object]]] = {
            "push-left": self._push_left,
            "push-right": self._push_right,
            "gc": Actor.gc,
            "gc-forget": self._forget,
            "repack": Actor.repack,
            "undo": Actor.undo,
        }
        mine = replace(who, wrap=lambda _: gate)

        async def work() -> object:
            return await works[name](mine)

        self.tasks.append(Task(name, gate, work))

    async def _push_left(self, who: Actor) -> None:
        await who.push(self._commits["left"])
        self.checker.promised.add(self._commits["left"])

    async def _push_right(self, who: Actor) -> None:
        await who.push(self._commits["right"])
        self.checker.promised.add(self._commits["right"])

    async def _forget(self, who: Actor) -> None:
        self.checker.promised.discard(self._commits["old"])
        keep = tuple(GitId(self._commits[name]) for name in ("start", "left", "right"))
        await who.gc(KeepPolicy(commits=keep))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Whoever is started works inside."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            yield

    async def run(self, name: str, until: str | None = None) -> None:
        """Have somebody work until his next call is this one, or to his end."""
        task = next((task for task in self.tasks if task.name == name and not task.ended), None)
        if task is None:
            self.add(name)
            task = self.tasks[-1]
        if not task.started:
            await self._start(task)
        while not task.ended and (until is None or not task.gate.next.startswith(until)):
            task.gate.let_one_through()
            await self._settle(task)

    async def play(self, choices: Iterator[int]) -> None:
        """Let them work, a few at a time in the order in which they were added, by these choices;
        when the choices end, each to his own end."""
        async with self.open():
            task: Task | None = None
            while live := [task for task in self.tasks if not task.ended][:_AT_ONCE]:
                who, what = divmod(next(choices, 0), 100)
                # Often the same one goes on: some calls matter only right behind one another.
                if task is None or task.ended or what % 2:
                    task = live[who % len(live)]
                if task.started:
                    self._act(task, what)
                    await self._settle(task)
                else:
                    await self._start(task)

    def _act(self, task: Task, what: int) -> None:
        if what >= 100 - len(PAUSES_DAYS):
            days = PAUSES_DAYS[what - 100]
            if self._passed_days + days <= MOST_DAYS:
                self._passed_days += days
                self.time.pass_days(days)
                self.log.append(f"{days:g} days later")
        elif what < 2:
            self.log.append(f"{task.name} crashes")
            task.gate.crash(after=what == 1)
        else:
            task.gate.let_one_through()

    async def _start(self, task: Task) -> None:
        task.started = True
        self._nursery.start_soon(self._run, task)
        await self._settle(task)

    async def _settle(self, task: Task) -> None:
        """Wait until it has a call to make, or has ended."""
        deadline = time.monotonic() + _MOST_SECONDS
        while not (task.ended or task.gate.waits):
            # By the clock on the wall: that of the loop stands still, so that no call is late.
            await trio.to_thread.run_sync(time.sleep, 0.0005)
            assert time.monotonic() < deadline, f"{task.name} neither goes on nor ends"

    async def _run(self, task: Task) -> None:
        try:
            await task.work()
            task.outcome = "done"
        except* StoreError as group:
            task.outcome = "; ".join(map(str, leaves_of(group)))
        finally:
            task.ended = True
            self.log.append(f"{task.name}: {task.outcome}")


@contextmanager
def staged(template: Template, folder: Path) -> Iterator[Stage]:
    """A stage of its own in `folder`."""
    with ExitStack() as stack:
        bucket = timed_bucket(days := Time())
        actors = []
        for name in ("left", "right"):
            for part in (name, f"{name}-cache"):
                shutil.copytree(template.folder / part, folder / part, symlinks=True)
            opened = actor(Repository(folder / name), folder / f"{name}-cache", bucket, days)
            actors.append(stack.enter_context(opened))
        yield Stage(*actors, template)
