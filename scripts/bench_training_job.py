"""The training job itself: a DataLoader over a folder of pictures, as ImageFolder has them. It runs
in a Python of its own, the one that has torch, and needs nothing of revfs.

It prints one line of JSON when it has listed the folder. Then for each line of its input, the seed
of an epoch's order, it runs that epoch and prints another. It ends when its input does."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SIDE = 224


class Picture(NamedTuple):
    """A file, and the number of its class."""

    path: str
    label: int


class Batch(NamedTuple):
    """What is counted of a batch."""

    files: int
    byte_count: int


def list_pictures(folder: Path) -> list[Picture]:
    """All files, in order of their classes and names; a class is a folder right in this one."""
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return [
        Picture(str(Path(at, name)), label)
        for label, title in enumerate(classes)
        for at, _, names in sorted(os.walk(folder / title))
        for name in sorted(names)
    ]


class Bytes:
    """Reads whole files, and gives (label, size)."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> tuple[int, int]:
        picture = self._pictures[number]
        with open(picture.path, "rb", buffering=0) as file:
            return picture.label, len(file.read())


class Decoded:
    """Decodes files the way ImageFolder does, and gives (label, size, pixels)."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> tuple[int, int, Any]:
        # Here and not above: only this job's Python has them, and its tests need neither.
        import torch
        from PIL import Image

        picture = self._pictures[number]
        with open(picture.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            pixels = Image.open(file).convert("RGB").resize((SIDE, SIDE)).tobytes()
        tensor = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(SIDE, SIDE, 3)
        return picture.label, size, tensor


class Job:
    """A loader that lives for all epochs; so do its processes, which the first epoch starts."""

    def __init__(self, dataset: Bytes | Decoded, loaders: int, batch: int) -> None:
        import torch
        from torch.utils.data import DataLoader

        torch.set_num_threads(1)
        self._order = torch.Generator()
        self._loader = DataLoader(
            dataset,  # type: ignore[arg-type,unused-ignore]
            batch_size=batch,
            shuffle=True,
            num_workers=loaders,
            persistent_workers=loaders > 0,
            generator=self._order,
        )

    def run_epoch(self, seed: int) -> Iterator[Batch]:
        """Read everything once, in the order that follows from the seed."""
        self._order.manual_seed(seed)
        for labels, sizes, *_ in self._loader:
            yield Batch(len(labels), int(sizes.sum()))


def time_epoch(batches: Iterable[Batch]) -> dict[str, float]:
    """Seconds to the first batch and to the end, files and bytes."""
    started = time.perf_counter()
    files = byte_count = 0
    first_seconds = 0.0
    for batch in batches:
        first_seconds = first_seconds or time.perf_counter() - started
        files += batch.files
        byte_count += batch.byte_count
    return {
        "seconds": time.perf_counter() - started,
        "first_batch_seconds": first_seconds,
        "files": files,
        "bytes": byte_count,
    }


def main(words: Sequence[str]) -> None:
    """List, then run the epochs that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--loaders", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--decode", action="store_true")
    wanted = parser.parse_args(words)
    started = time.perf_counter()
    pictures = list_pictures(wanted.folder)
    listed = {"seconds": time.perf_counter() - started, "files": len(pictures)}
    dataset = Decoded(pictures) if wanted.decode else Bytes(pictures)
    job = Job(dataset, wanted.loaders, wanted.batch)
    print(json.dumps(listed), flush=True)
    for line in sys.stdin:
        print(json.dumps(time_epoch(job.run_epoch(int(line)))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
