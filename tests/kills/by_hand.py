"""Kills commands at random points of their way, as many times as it is told to.

    python -m tests.kills.by_hand [--rounds N] [--minutes N] [--jobs N] [--seed N] [--only NAME]...

Each job has a repository of its own, made anew every forty rounds. What was killed, and whatever
did not hold that must, is printed for each command; a world in which something failed is kept.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fakes.s3_servers import S3Server, serve_rclone_s3
from tests.kills.commands import COMMANDS
from tests.kills.rounds import ROOT, Rounds, Tally
from tests.kills.world import World

ROUNDS_OF_A_WORLD = 40


def main() -> int:
    """1 if anything failed."""
    parser = argparse.ArgumentParser(description="kill commands at random points")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--minutes", type=float, help="begin no round after that")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=[each.name for each in COMMANDS])
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.endpoint is not None:
        work(arguments)
        return 0
    with tempfile.TemporaryDirectory() as folder, serve_rclone_s3(Path(folder)) as server:
        jobs = [_start(arguments, number, server.endpoint) for number in range(arguments.jobs)]
        found = [json.loads(job.communicate()[0].splitlines()[-1]) for job in jobs]
    return show(found)


def _start(arguments: argparse.Namespace, number: int, endpoint: str) -> "subprocess.Popen[str]":
    share = arguments.rounds // arguments.jobs + (number < arguments.rounds % arguments.jobs)
    command = [sys.executable, "-m", "tests.kills.by_hand", "--rounds", str(share)]
    if arguments.minutes is not None:
        command += ["--minutes", str(arguments.minutes)]
    command += ["--seed", str(1000 * arguments.seed + number), "--endpoint", endpoint]
    for name in arguments.only or ():
        command += ["--only", name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def work(arguments: argparse.Namespace) -> None:
    """A job: its rounds, and what became of them as a line of JSON."""
    server = S3Server(arguments.endpoint)
    commands = [each for each in COMMANDS if each.name in (arguments.only or each.name)]
    tallies: dict[str, Tally] = {}
    done = 0
    end = time.monotonic() + 60 * (arguments.minutes or float("inf"))
    while done < arguments.rounds and time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix="revfs-kills-"))
        world = World(folder, arguments.seed * 1000 + done, server)
        rounds = Rounds(world, tallies)
        failed = False
        for _ in range(min(ROUNDS_OF_A_WORLD, arguments.rounds - done)):
            if time.monotonic() >= end:
                break
            command = commands[done % len(commands)]
            done += 1
            try:
                rounds.run(command)
            except Exception:
                failed = True
                text = f"{time.ctime()} {folder}: {traceback.format_exc()}"
                print(f"{command.name}: {text}", file=sys.stderr, flush=True)
                tallies[command.name].failures.append(text)
                break
            print(f"round {done}: {command.name}", file=sys.stderr, flush=True)
        world.close()
        if not failed:
            shutil.rmtree(folder)
    print(json.dumps({name: dataclasses.asdict(tally) for name, tally in tallies.items()}))


def show(found: list[dict[str, dict[str, object]]]) -> int:
    """Print a line for each command, and what failed."""
    failed = 0
    print(f"{'command':14} rounds killed  at a call  one process  slowest open")
    for name in dict.fromkeys(name for tallies in found for name in tallies):
        parts = [Tally(**tallies[name]) for tallies in found if name in tallies]  # type: ignore[arg-type]
        slowest = max(part.slowest_open_seconds for part in parts)
        print(
            f"{name:14} {sum(part.rounds for part in parts):6} {sum(p.killed for p in parts):6}"
            f" {sum(part.at_calls for part in parts):10} {sum(p.one_process for p in parts):12}"
            f" {1000 * slowest:10.0f} ms"
        )
        for part in parts:
            failed += len(part.failures)
            print(*part.failures, sep="\n", end="\n" if part.failures else "")
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.pop("REVFS_CACHE_DIR", None)
    sys.exit(main())
