"""The pictures that the training job reads: JPEG files in a folder for each class.

All of it follows from a seed, so a folder once made is used again."""

import io
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench_data import SEED, DataSet
from PIL import Image

PART = "images"
CLASSES = 50
# Noise of these sides makes files of 65 to 150 KB: 100 KB in the middle, and some 5 ms to decode.
_SIDES = range(288, 449, 8)
_QUALITY = 85
_START = b"\xff\xd8"
_COMMENT = b"\xff\xfe"
_COMMENT_BYTES = 1000
_MADE = "made"


def make_images(folder: Path, count: int) -> DataSet:
    """So many files `images/cNN/NNNNNN.jpg`, no two alike, made where they are not there."""
    mark = folder / _MADE
    wanted = f"{SEED} {count} {CLASSES} {_SIDES} {_QUALITY}"
    if not (mark.exists() and mark.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _write_images(folder / PART, count)
        mark.write_text(wanted)
    return DataSet(folder)


def _write_images(folder: Path, count: int) -> None:
    chance = random.Random(SEED)
    drawn = draw_noise(chance)
    for number in range(CLASSES):
        (folder / f"c{number:02}").mkdir(parents=True)
    for number in range(count):
        content = with_comment(chance.choice(drawn), chance.randbytes(_COMMENT_BYTES))
        (folder / f"c{number % CLASSES:02}" / f"{number:06}.jpg").write_bytes(content)


def draw_noise(chance: random.Random, sides: Sequence[int] = _SIDES) -> list[bytes]:
    """A square picture of each side, as JPEG."""
    drawn = []
    for side in sides:
        picture = Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_QUALITY)
        drawn.append(file.getvalue())
    return drawn


def with_comment(picture: bytes, comment: bytes) -> bytes:
    """The same picture in a file that differs: with a comment of at most 65,533 bytes at its head
    (ITU-T T.81, B.2.4.5). To draw each anew would take minutes."""
    assert picture.startswith(_START), "no JPEG"
    length = (len(comment) + 2).to_bytes(2, "big")
    return _START + _COMMENT + length + comment + picture[len(_START) :]
