"""`.gitattributes` at the top of the work tree: read from wherever it is, rewritten together with
git's index.

In a clone that leaves it out of the work tree (skip-worktree) it is changed in git's index alone.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from store.errors import PathRefused
from store.git import GitRepository, blob_id
from store.git_command import run_git
from store.git_index import MODE_FILE, IndexChange, IndexedBlob
from store.tracked_patterns import ATTRIBUTES_FILE


@dataclass(frozen=True, slots=True)
class AttributesFile:
    """The file of one work tree; `indexed` is what git's index has."""

    repository: GitRepository
    work_tree: Path
    indexed: Mapping[bytes, IndexedBlob]

    @contextmanager
    def rewritten(self, rewrite: Callable[[bytes], bytes]) -> Iterator[list[IndexChange]]:
        """Put `rewrite` of its text in place and give what git's index is to get for it; should
        the work within fail, the file is as it was. Raises PathRefused for a symbolic link."""
        existing = self.load()
        text = rewrite(existing)
        entry = self._entry
        if text == existing and (not text or (entry and entry.blob == blob_id(text))):
            yield []
        elif entry is not None and entry.skipped and not self._path.exists():
            (blob,) = self.repository.write_blobs([text])
            yield [IndexChange(ATTRIBUTES_FILE, MODE_FILE, blob, None, skipped=True)]
        else:
            with self._put_back_on_error():
                self._write(text)
                (blob,) = self.repository.write_blobs([text])
                yield [IndexChange(ATTRIBUTES_FILE, MODE_FILE, blob, self._path.lstat())]

    def load(self) -> bytes:
        """Its text: from the work tree, else from git's index; empty where there is none."""
        if self._path.is_symlink():
            raise PathRefused(".gitattributes is a symbolic link, which git does not read either")
        if self._path.exists():
            return self._path.read_bytes()
        if self._entry is None:
            return b""
        # By git itself, which fetches it in a partial clone.
        blob = self._entry.blob.hex()
        return run_git(["cat-file", "blob", blob], cwd=self.repository.paths.top)

    @property
    def _path(self) -> Path:
        return self.work_tree / os.fsdecode(ATTRIBUTES_FILE)

    @property
    def _entry(self) -> IndexedBlob | None:
        return self.indexed.get(ATTRIBUTES_FILE)

    def _write(self, text: bytes) -> None:
        if not self._path.exists() or self._path.read_bytes() != text:
            _replace_file(self._path, text, self.repository.paths.git_dir)

    @contextmanager
    def _put_back_on_error(self) -> Iterator[None]:
        before = self._path.read_bytes() if self._path.exists() else None
        try:
            yield
        except BaseException:
            if before is None:
                self._path.unlink(missing_ok=True)
            else:
                self._write(before)
            raise


def _replace_file(path: Path, content: bytes, git_dir: Path) -> None:
    # Made in the git directory: a kill in between must leave nothing in the work tree.
    temporary = git_dir / f"revfs-{path.name.lstrip('.')}"
    temporary.write_bytes(content)
    if path.exists():
        shutil.copymode(path, temporary)
    shutil.move(temporary, path)
