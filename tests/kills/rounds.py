"""A round: a command is killed somewhere on its way, all is looked at, and it is run once more.

Where it is killed is a random share of the time that it took when it was let run, or, every second
time, a random one of the calls to files that it made (`injected`). Killed is the whole group of
processes, or one of them.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.commands import Command
from tests.kills.world import COMMAND_SECONDS, World, digest
from tests.mounted.repositories import wait_until

INJECTED = Path(__file__).parent / "injected"
ROOT = Path(__file__).parents[2]


@dataclass
class Tally:
    """What became of the rounds of one command."""

    rounds: int = 0
    killed: int = 0
    at_calls: int = 0
    one_process: int = 0
    slowest_open_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Learnt:
    """What a command took when it was let run."""

    seconds: float
    calls: int


class Rounds:
    """Rounds in one world."""

    def __init__(self, world: World, tallies: dict[str, Tally]) -> None:
        self._world = world
        self._tallies = tallies
        self._learnt: dict[str, Learnt] = {}
        self._counter = world.folder / "counter"

    def run(self, command: Command) -> None:
        """One round. Raises AssertionError where something does not hold that must."""
        world, tally = self._world, self._tallies.setdefault(command.name, Tally())
        if command.name not in self._learnt:
            command.prepare(world)
            self._learnt[command.name] = self._learn(command)
            command.after(world)
        command.prepare(world)
        tally.rounds += 1
        tally.killed += self._kill(command, self._learnt[command.name], tally)
        world.require_sound(mount=command.serves or world.chance.random() < 0.2)
        if not command.serves:
            completed = world.repository.run(*command.words(world))
            assert "Traceback" not in completed.stderr
        command.after(world)
        tally.slowest_open_seconds = max(tally.slowest_open_seconds, *world.open_seconds)
        world.open_seconds.clear()

    def _learn(self, command: Command) -> Learnt:
        start = time.monotonic()
        with self._started(command, 0) as process:
            if command.serves:
                self._read_all()
                seconds = time.monotonic() - start
                process.terminate()
            process.wait(COMMAND_SECONDS)
            seconds = seconds if command.serves else time.monotonic() - start
        assert process.returncode == 0, f"{command.name} ended with {process.returncode}"
        return Learnt(seconds, int.from_bytes(self._counter.read_bytes(), "little"))

    def _kill(self, command: Command, learnt: Learnt, tally: Tally) -> bool:
        """Start the command and kill it; False where it had ended before."""
        chance = self._world.chance
        at_call = chance.randint(1, max(1, learnt.calls)) if tally.rounds % 2 else 0
        with self._started(command, at_call) as process, self._readers(command) as wrong:
            if at_call:
                tally.at_calls += 1
                # Other calls than before, perhaps, and so fewer.
                _wait(process, 5 * learnt.seconds + 5)
            else:
                _wait(process, chance.uniform(0.0, 1.1 * learnt.seconds))
            if process.poll() is None and not at_call and chance.random() < 0.3:
                tally.one_process += _kill_one(process, chance.random())
                _wait(process, 2.0 if command.serves else COMMAND_SECONDS)
            killed = process.poll() is None or process.returncode != 0
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert not wrong, f"a reader of the mount got what was never written: {wrong}"
        return killed

    @contextlib.contextmanager
    def _started(self, command: Command, at_call: int) -> Iterator["subprocess.Popen[bytes]"]:
        self._counter.write_bytes(bytes(8))
        environment = {
            **self._world.repository.environment,
            "PYTHONPATH": f"{INJECTED}:{ROOT}",
            "REVFS_KILL_COUNTER": str(self._counter),
            "REVFS_KILL_AT": str(at_call),
        }
        process = subprocess.Popen(
            command.words(self._world),
            cwd=self._world.top,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _read_all(self) -> None:
        place = self._world.mountpoint / "data"
        wait_until(place.exists, COMMAND_SECONDS)
        for path in sorted(place.iterdir()):
            path.read_bytes()

    @contextlib.contextmanager
    def _readers(self, command: Command) -> Iterator[list[str]]:
        """Read what can be read at the mountpoint all the while; paths of what was wrong."""
        wrong: list[str] = []
        ended = threading.Event()
        # Not those of HEAD, which a command that does not serve may be moving just now.
        names = sorted(
            {Path(path).name for held in self._world.revisions.values() for path in held}
        )
        reader = threading.Thread(target=self._read_on, args=(names, wrong, ended))
        if command.serves:
            reader.start()
        try:
            yield wrong
        finally:
            ended.set()
            if command.serves:
                reader.join(COMMAND_SECONDS)
                assert not reader.is_alive(), "a reader hangs at a mount that was killed"

    def _read_on(self, names: list[str], wrong: list[str], ended: threading.Event) -> None:
        while not ended.wait(0.01):
            for name in names:
                try:
                    content = (self._world.mountpoint / "data" / name).read_bytes()
                except OSError:
                    continue
                if digest(content) not in self._world.written:
                    wrong.append(name)


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _kill_one(process: "subprocess.Popen[bytes]", where: float) -> bool:
    """Kill one process of those below it, or itself where there are none."""
    below = _children_of(process.pid) or [process.pid]
    with contextlib.suppress(ProcessLookupError):
        os.kill(below[int(where * len(below))], signal.SIGKILL)
        return True
    return False


def _children_of(pid: int) -> list[int]:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    below = [int(word) for word in words]
    return below + [child for each in below for child in _children_of(each)]
