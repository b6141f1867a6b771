"""Order files: the paths of files in the order in which a job reads them. Pure but for reading.

One path a line; where there is a NUL in the file's first MiB, or where that is asked for, a NUL
ends each path instead, since a path may hold a line break. Paths are bytes: nothing is decoded.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from store.errors import ConfigError

_BLOCK_BYTES = 1 << 20
# PATH_MAX of Linux, and some for whoever writes `./` before each.
_MOST_PATH_BYTES = 8192
_PATHS_AT_ONCE = 16_384


def iterate_paths(file: BinaryIO, *, nul: bool = False) -> Iterator[bytes]:
    """The paths of an order file, empty ones left out. Raises ConfigError for what is none: too
    long to be a path."""
    rest = file.read(_BLOCK_BYTES)
    separator = b"\0" if nul or b"\0" in rest else b"\n"
    while rest:
        *paths, rest = rest.split(separator)
        yield from filter(None, paths)
        if len(rest) > _MOST_PATH_BYTES:
            raise ConfigError("it is no file of paths: one of them would be longer than any path")
        block = file.read(_BLOCK_BYTES)
        if not block:
            break
        rest += block
    if rest:
        yield rest


def _in_batches(paths: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    batch_bytes = 0
    for path in paths:
        batch.append(path)
        batch_bytes += len(path)
        if len(batch) == _PATHS_AT_ONCE or batch_bytes >= _BLOCK_BYTES:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def read_order(file: BinaryIO, base: "MountPaths", *, nul: bool = False) -> Iterator[list[bytes]]:
    """The paths of an order file from the top of a mount, many at a time; one that leads out of the
    mount stays as it is (absolute, or with `..` first). Raises ConfigError."""
    for batch in _in_batches(iterate_paths(file, nul=nul)):
        yield [base.from_top(path) or path for path in batch]


@dataclass(frozen=True, slots=True)
class MountPaths:
    """How paths that somebody writes are paths from the top of a mount: relative ones begin at the
    folder `base` in it (from its top), absolute ones begin with one of `places`, each of which is
    the mount's top."""

    places: Sequence[bytes]
    base: bytes = b""

    def from_top(self, path: bytes) -> bytes | None:
        """The path from the top of the mount, empty for the top; None for one that leads out of
        the mount. No link is followed."""
        if path.startswith(b"/"):
            path = os.path.normpath(path)
            inside = [path[len(place) :] for place in self.places if _is_below(path, place)]
            return inside[0].strip(b"/") if inside else None
        if self.base:
            path = self.base + b"/" + path
        if b"./" not in path and b"//" not in path and not path.endswith(b"."):
            # Nearly all of a million.
            return path.rstrip(b"/")
        path = os.path.normpath(path)
        if path == b".":
            return b""
        return None if path == b".." or path.startswith(b"../") else path


def _is_below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place.rstrip(b"/") + b"/")
