"""PackedBlobs: many small blobs straight from git's packs, and what a blob is named by.

libgit2's object database costs twice as much a blob: it looks for a loose file first, and locks and
fills its caches. Here only packs are looked at; whatever is not found here may still be in git.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from store.git_index import GIT_ERRORS


class PackedBlobs:
    """The packs of one repository, and of those that it borrows from. For one thread at a time."""

    def __init__(self, objects: Path) -> None:
        """`objects` is git's folder of objects; nothing is opened before the first load."""
        self._objects = objects
        self._backends: list[pygit2.OdbBackendPack] | None = None

    def close(self) -> None:
        """Let go of file descriptors and maps."""
        self._backends = None

    def load(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int | None]:
        """Of each blob, in the order asked, its contents, or where it is larger than `most_bytes`
        its size alone, which is all that is read of it. None for what is not in a pack, cannot be
        read, is no blob, or has contents that do not hash to its id."""
        if self._backends is None:
            self._backends = _open_backends(self._objects)
        found = self._load(raw_ids, most_bytes)
        if None in found:
            # Packs may have come since, and those that were known may be gone.
            for backend in self._backends:
                with suppress(*GIT_ERRORS):
                    backend.refresh()
            found = self._load(raw_ids, most_bytes)
        return found

    def _load(self, raw_ids: Sequence[bytes], most_bytes: int) -> list[bytes | int | None]:
        found: list[bytes | int | None] = [None] * len(raw_ids)
        missing: Sequence[int] = range(len(raw_ids))
        for backend in self._backends or ():
            for number in missing:
                found[number] = _load_one(backend, raw_ids[number], most_bytes)
            missing = [number for number in missing if found[number] is None]
        return found


def blob_id(content: bytes) -> bytes:
    """The raw git id of a blob with this content."""
    # Git's own naming; nothing here rests on SHA-1 being strong.
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).digest()


def _load_one(backend: pygit2.OdbBackendPack, raw_id: bytes, most_bytes: int) -> bytes | int | None:
    oid = pygit2.Oid(raw=raw_id)
    try:
        kind, size = backend.read_header(oid)
        if size > most_bytes:
            return int(size) if kind == ObjectType.BLOB else None
        _, content = backend.read(oid)
    except GIT_ERRORS:
        return None
    # A backend, unlike the database over it, checks no hash.
    return content if blob_id(content) == raw_id else None


def _open_backends(objects: Path) -> list[pygit2.OdbBackendPack]:
    backends = []
    for folder in (objects, *_borrowed_from(objects)):
        with suppress(*GIT_ERRORS):
            backends.append(pygit2.OdbBackendPack(str(folder)))
    return backends


def _borrowed_from(objects: Path) -> list[Path]:
    """The other folders of objects that git is told to look in; not those that these borrow from,
    where libgit2 finds what is asked for at its usual price."""
    try:
        lines = (objects / "info" / "alternates").read_bytes().splitlines()
    except OSError:
        return []
    return [objects / os.fsdecode(line) for line in lines if line and not line.startswith(b"#")]
