"""Files of the cache, and of the tables beside the staged packs, that are damaged between two runs.

    python -m tests.kills.damage [--rounds N] [--seed N]

After each damage everything is read again, in a process of its own: every byte must be right. LMDB
believes what it reads, so damage inside its file may end that process; the next one must then find
all well. How often that was is printed, by the kind of file and of damage.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fakes.s3_servers import S3Server, serve_rclone_s3
from tests.kills.world import Crashed, World

PAGE_BYTES = 4096
ROUNDS_OF_A_WORLD = 100


def flip(path: Path, chance: random.Random) -> None:
    """A bit."""
    raw = bytearray(path.read_bytes())
    if raw:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    path.write_bytes(raw)


def scatter(path: Path, chance: random.Random) -> None:
    """Sixty-four bytes anywhere."""
    raw = bytearray(path.read_bytes())
    for _ in range(64 if raw else 0):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    path.write_bytes(raw)


def zero_page(path: Path, chance: random.Random) -> None:
    """Four KiB of zeros."""
    raw = bytearray(path.read_bytes())
    start = chance.randrange(len(raw) // PAGE_BYTES + 1) * PAGE_BYTES
    raw[start : start + PAGE_BYTES] = bytes(len(raw[start : start + PAGE_BYTES]))
    path.write_bytes(raw)


def cut(path: Path, chance: random.Random) -> None:
    """Cut anywhere."""
    raw = path.read_bytes()
    path.write_bytes(raw[: chance.randrange(len(raw) + 1)])


def scramble(path: Path, chance: random.Random) -> None:
    """Other bytes from some place on."""
    raw = path.read_bytes()
    start = chance.choice((0, chance.randrange(len(raw) + 1)))
    path.write_bytes(raw[:start] + chance.randbytes(len(raw) - start))


def remove(path: Path, chance: random.Random) -> None:
    """Removed."""
    path.unlink()


def remove_folder(path: Path, chance: random.Random) -> None:
    """Removed, with all that is beside it."""
    shutil.rmtree(path.parent)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    *(flip, scatter, zero_page, cut, scramble, remove, remove_folder),
]


def damage_something(world: World) -> str:
    """Damage a file of the cache, or of the tables beside the staged packs; what was done."""
    chance = world.chance
    tables = world.top / ".git/revfs/index"
    files = [path for path in world.repository.cache.rglob("*") if path.is_file()]
    # The tables are few files, and the ones to look at closest.
    likely = [path for path in [*files, *tables.iterdir()] if path.name == "data.mdb"]
    path = chance.choice(chance.choice((likely, [*files, *tables.iterdir()])))
    damage = chance.choice(DAMAGES)
    damage(path, chance)
    if path.is_relative_to(tables):
        name = f"staged {path.name}"
    else:
        folder, *below = path.relative_to(world.repository.cache).parts
        name = path.name if folder == "index" else f"in {folder}" if below else folder
    return f"{name}: {damage.__name__}"


def run_round(world: World, crashes: Counter[str]) -> str:
    """Damage something and read everything. Raises AssertionError for a wrong byte, or an error."""
    done = damage_something(world)
    try:
        world.require_right_bytes(world.repository)
    except Crashed:
        crashes[done] += 1
        world.require_right_bytes(world.repository)
    return done


def begin(folder: Path, seed: int, server: S3Server) -> World:
    """A world all of whose data is in the cache, but for what is staged alone."""
    world = World(folder, seed, server)
    world.change()
    world.commit()
    shutil.rmtree(world.repository.cache)
    world.require_right_bytes(world.repository)
    return world


def main() -> int:
    """1 if anything failed."""
    parser = argparse.ArgumentParser(description="damage the files of a cache")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rounds: Counter[str] = Counter()
    crashes: Counter[str] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as place, serve_rclone_s3(Path(place)) as server:
        while rounds.total() < arguments.rounds:
            folder = Path(tempfile.mkdtemp(prefix="revfs-damage-"))
            world = begin(folder, arguments.seed * 1000 + rounds.total(), server)
            try:
                for _ in range(min(ROUNDS_OF_A_WORLD, arguments.rounds - rounds.total())):
                    rounds[run_round(world, crashes)] += 1
            except AssertionError as error:
                failed += 1
                rounds["failed"] += 1
                print(f"{folder}: {error}", file=sys.stderr, flush=True)
            else:
                shutil.rmtree(folder)
    for name, count in sorted(rounds.items()):
        print(f"{count:5} {name}, {crashes[name]} crashed")
    print(f"{rounds.total()} rounds, {crashes.total()} crashed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
