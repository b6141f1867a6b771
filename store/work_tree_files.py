"""What files of a work tree hold, against what git's index says of them."""

import logging
import os
import stat

from store.chunk_source import ChunkSource
from store.contents import ContentReader
from store.errors import StoreError
from store.file_proofs import file_holds
from store.git import GitRepository, blob_id
from store.git_index import MODE_EXECUTABLE, MODE_FILE, IndexChange, IndexedBlob
from store.local_store import LocalStore
from store.opening import Reading
from store.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer
from store.shown_names import escape_name
from store.stat_cache import same_file_state
from store.target_folder import TargetFolder, load_file, open_file
from store.work_tree import Placed, WorkTreeWriter

log = logging.getLogger(__name__)

FILE_MODES = (MODE_FILE, MODE_EXECUTABLE)
"""Git's modes of regular files."""


def local_source(local: LocalStore, reading: Reading) -> ChunkSource:
    """Chunks that can be read without a network; for the caller to close."""
    catalog = None if reading.remote is None else reading.remote.catalog
    return ChunkSource(local.sources, catalog, None, None)


def load_pointer(repository: GitRepository, entry: IndexedBlob) -> Pointer | None:
    """The pointer that an entry of git's index stands for; None for one of any other kind. Raises
    GitError."""
    if entry.mode not in FILE_MODES or repository.load_blob_size(entry.blob) > MAX_POINTER_BYTES:
        return None
    return parse_pointer(repository.load_blob(entry.blob))


def is_small_blob(blob: bytes, folder: int, name: bytes) -> bool:
    """Whether a name in an open folder is a file that could be a pointer's text, with that git id.
    Raises OSError where it cannot be read."""
    text = load_file(folder, name, MAX_POINTER_BYTES)
    return text is not None and blob_id(text) == blob


async def take_up(local: LocalStore, writer: WorkTreeWriter, contents: ContentReader) -> None:
    """Have the index learn of what a run that was killed has put in place. Raises GitError."""
    entries = local.repository.index.load_entries() if writer.interrupted else {}
    for path in dict.fromkeys(writer.interrupted):
        entry = entries.get(path)
        pointer = None if entry is None else load_pointer(local.repository, entry)
        if entry is None or pointer is None:
            continue
        status = await _proven_stat(writer.tree, path, pointer, contents)
        if status is not None:
            change = IndexChange(path, entry.mode, entry.blob, status)
            writer.note_placed(Placed(change, pointer))


async def _proven_stat(
    tree: TargetFolder, path: bytes, pointer: Pointer, contents: ContentReader
) -> os.stat_result | None:
    """The stat of a file of the work tree that holds the content of a pointer; None for any other,
    and for one of which it cannot be told."""
    folder, name = os.path.split(path)
    try:
        with tree.opened(folder) as above:
            return await holding_stat(above, name, pointer, contents)
    except (OSError, StoreError) as error:
        log.debug("%s is left to git: %s", escape_name(path), error)
        return None


async def holding_stat(
    folder: int, name: bytes, pointer: Pointer, contents: ContentReader
) -> os.stat_result | None:
    """The stat of a file in an open folder, if it holds the content of a pointer. Raises OSError
    and StoreError where that cannot be told."""
    descriptor = open_file(folder, name)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not await file_holds(descriptor, pointer, contents):
            return None
        return status if same_file_state(status, os.fstat(descriptor)) else None
    finally:
        os.close(descriptor)
