"""The data of the benchmark: pictures (random bytes), one large file, and text that compresses.

All of it follows from a seed and from the Python that runs, so a folder once made is used again."""

import os
import random
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

SEED = 20261125
_FOLDERS = 50
_LEAST_BYTES, _MOST_BYTES = 20_000, 180_000
_MADE = "made"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything there is."""

    name: str
    small_files: int
    text_files: int
    large_bytes: int
    edited_bytes: int
    status_files: int
    million_files: int
    s3fs_files: int


WHOLE = Scale("whole", 5_000, 5_000, 512 << 20, 1 << 30, 100_000, 1_000_000, 500)
QUICK = Scale("quick", 2_000, 1_000, 192 << 20, 512 << 20, 10_000, 20_000, 200)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A folder of files: `small/NN/NNNNN.bin`, `large/large.bin`, `text/NN/NNNNN.txt`."""

    folder: Path

    def list_files(self, part: str) -> list[Path]:
        """The files of a part, relative to the folder, in order."""
        top = self.folder / part
        found = (Path(at, name) for at, _, names in os.walk(top) for name in names if name != _MADE)
        return sorted(path.relative_to(self.folder) for path in found)

    def count_bytes(self, *parts: str) -> int:
        """The bytes of all files of these parts."""
        paths = (path for part in parts for path in self.list_files(part))
        return sum((self.folder / path).stat().st_size for path in paths)


def make_data(folder: Path, scale: Scale) -> DataSet:
    """The data at this scale, made where it is not there."""
    mark = folder / _MADE
    wanted = f"{SEED} {scale}"
    if not (mark.exists() and mark.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        write_random_files(folder / "small", scale.small_files)
        write_random_file(folder / "large" / "large.bin", scale.large_bytes, SEED + 1)
        _write_text(folder / "text", scale.text_files)
        mark.write_text(wanted)
    return DataSet(folder)


def write_random_files(folder: Path, count: int) -> None:
    """Files of 100 KB on average, a hundred or so in each folder."""
    chance = random.Random(SEED)
    for number in range(count):
        content = chance.randbytes(chance.randint(_LEAST_BYTES, _MOST_BYTES))
        _write(folder / f"{number % _FOLDERS:02}" / f"{number:05}.bin", content)


def write_random_file(path: Path, size: int, seed: int) -> None:
    """One file of random bytes; the size is a multiple of 1 MiB."""
    chance = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(chance.randbytes(1 << 20))


def edit_in_places(path: Path, places: int, place_bytes: int, seed: int) -> int:
    """Write other bytes over so many places of a file, evenly far apart; how many bytes."""
    chance = random.Random(seed)
    step = path.stat().st_size // places
    with path.open("r+b") as file:
        for number in range(places):
            file.seek(number * step + chance.randrange(step - place_bytes))
            file.write(chance.randbytes(place_bytes))
    return places * place_bytes


def _write_text(folder: Path, count: int) -> None:
    """Sources of Python's own library, each file put together from other pieces of them."""
    chance = random.Random(SEED + 2)
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)
    corpus = b"".join(path.read_bytes() for path in sources)
    for number in range(count):
        size, parts = chance.randint(_LEAST_BYTES, _MOST_BYTES), []
        while size > 0:
            start, length = chance.randrange(len(corpus)), min(size, chance.randint(2000, 40_000))
            parts.append(corpus[start : start + length])
            size -= length
        _write(folder / f"{number % _FOLDERS:02}" / f"{number:05}.txt", b"".join(parts))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
