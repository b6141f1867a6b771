"""Present ids: the git ids that files and folders would have if they were added now.

Worked out without adding anything: nothing is written to git's index, to its objects or to the
staged packs, and no filter of ours is run. What git's index knows by the stat of a file costs
nothing; a changed tracked file is read for its pointer, which is remembered by its stat; any other
file is hashed by git, with the user's own conversions.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from store.chunking import ChunkingParameters
from store.errors import GitError, PathNotFound, PathRefused, RevisionNotFound
from store.git import GitRepository, blob_id
from store.git_command import run_git
from store.git_index import MODE_SYMLINK, mode_of
from store.ids import ChunkId, GitId, chunk_id
from store.ignore_rules import IGNORE_FILE
from store.marked_paths import load_marked
from store.pieces import LoadKnown, pointer_of
from store.pointer import Pointer
from store.read_files import FileEnd, FileReader
from store.shown_names import escape_name
from store.stat_cache import StatCache
from store.tracked_patterns import UNTRACKED_NAMES
from store.walk import FoundFile

_MODE_TREE = 0o40000
_MODE_SUBMODULE = 0o160000
_LITERAL = "--literal-pathspecs"


class _State(NamedTuple):
    """What git's index would have for one path."""

    mode: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class PresentContext:
    """What is looked at, and what need not be read again. `jobs` threads read."""

    repository: GitRepository
    work_tree: Path
    stat_cache: StatCache
    chunking: ChunkingParameters
    jobs: int

    @property
    def top(self) -> bytes:
        """The top of the work tree as bytes."""
        return os.fsencode(self.work_tree)


def load_present_ids(context: PresentContext, paths: Iterable[bytes]) -> dict[bytes, GitId | None]:
    """path → the id of the blob or tree that it would be in a commit of all that is in the work
    tree now; None where git would have nothing there.

    Raises PathRefused for a path in conflict and for one with a repository of its own in it.
    """
    wanted = sorted(set(paths))
    if not wanted:
        return {}
    _require_no_conflict(context.repository, wanted)
    states = _indexed_states(context.repository, wanted)
    changed = _look_again(context, wanted, states)
    for path in changed:
        states.pop(path, None)
    states |= _read_states(context, changed)
    return {path: _id_at(path, states) for path in wanted}


def load_revision_ids(
    repository: GitRepository, commit: GitId, paths: Iterable[bytes]
) -> dict[bytes, GitId | None]:
    """As `load_present_ids`, of a commit; None for all where the commit is not here, as it may be
    in a shallow clone. Raises GitError."""
    found: dict[bytes, GitId | None] = dict.fromkeys(paths)
    try:
        tree = repository.resolve(commit).tree
    except RevisionNotFound:
        return found
    for path in found:
        if not path:
            found[path] = GitId(tree.hex())
            continue
        command: list[str | bytes] = [_LITERAL, "ls-tree", "-z", "--full-tree", commit, "--", path]
        facts, _, name = run_git(command, cwd=repository.paths.top).partition(b"\t")
        # "mode type id", then the name up to its NUL.
        found[path] = GitId(facts.split()[2].decode()) if name == path + b"\0" else None
    return found


def at_or_below(wanted: Sequence[bytes]) -> Callable[[bytes], bool]:
    """Tells paths that are wanted or lie below one that is; it is asked of every entry there is."""
    named = frozenset(wanted)
    folders = tuple(path + b"/" if path else b"" for path in wanted)
    return lambda path: path in named or path.startswith(folders)


def require_no_data_by_git(context: PresentContext, paths: Sequence[bytes]) -> None:
    """Raise PathRefused for a path that is marked as tracked: git would run a filter over it."""
    marked = load_marked(context.repository.paths, paths)
    for path in paths:
        if path in marked:
            raise PathRefused(f"{escape_name(path)} is tracked by revfs: make it an output with -o")


def _require_no_conflict(repository: GitRepository, wanted: Sequence[bytes]) -> None:
    is_wanted = at_or_below(wanted)
    for path in filter(is_wanted, repository.index.load_conflicts()):
        raise PathRefused(f"{escape_name(path)} is in conflict: settle it and git add it first")


def _indexed_states(repository: GitRepository, wanted: Sequence[bytes]) -> dict[bytes, _State]:
    is_wanted = at_or_below(wanted)
    return {
        path: _State(entry.mode, entry.blob)
        for path, entry in repository.index.load_entries().items()
        if is_wanted(path)
    }


def _look_again(
    context: PresentContext, wanted: Sequence[bytes], states: Mapping[bytes, _State]
) -> list[bytes]:
    """The paths for which the index cannot answer: changed as far as a stat can tell, and new. What
    is there on purpose without a file (skip-worktree) is not among them."""
    listed = _list(context, ["diff-files", "--name-only", "--ignore-submodules=dirty"], wanted)
    for path in listed:
        state = states.get(path)
        if state is not None and state.mode == _MODE_SUBMODULE:
            raise PathRefused(f"{escape_name(path)} stands at another commit: git add it first")
    new = _list_new(context, wanted)
    # A file that is ignored, but named itself, is meant.
    new += [path for path in wanted if path not in states and _is_file(context.top, path)]
    for path in new:
        if path.endswith(b"/"):
            raise PathRefused(f"{escape_name(path)} is a git repository of its own")
    return sorted({*listed, *new})


def _list_new(context: PresentContext, wanted: Sequence[bytes]) -> list[bytes]:
    """What is not in the index, and ignored neither by git's rules nor by ours."""
    command = ["ls-files", "--others"]
    new = _list(context, [*command, "--exclude-standard"], wanted)
    if not new:
        return []
    # A run of its own: of two kinds of rules, git would take the last.
    ours = f"--exclude-per-directory={os.fsdecode(IGNORE_FILE)}"
    kept = set(_list(context, [*command, ours], wanted))
    return [path for path in new if path in kept]


def _list(context: PresentContext, command: list[str], wanted: Sequence[bytes]) -> list[bytes]:
    """What git lists below the wanted paths; all of it for the top."""
    places = [path or b"." for path in wanted]
    raw = run_git([_LITERAL, *command, "-z", "--", *places], cwd=context.work_tree)
    return raw.split(b"\0")[:-1]


def _is_file(top: bytes, path: bytes) -> bool:
    status = _lstat(top, path)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _lstat(top: bytes, path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(os.path.join(top, path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PathNotFound(f"{escape_name(path)}: {error.strerror}") from error


def _read_states(context: PresentContext, paths: Sequence[bytes]) -> dict[bytes, _State]:
    """The state of each path that is there, from the file itself."""
    found = [
        FoundFile(path, os.path.join(context.top, path), status)
        for path in paths
        if (status := _lstat(context.top, path)) is not None and not stat.S_ISDIR(status.st_mode)
    ]
    links = [file for file in found if stat.S_ISLNK(file.status.st_mode)]
    files = [file for file in found if not stat.S_ISLNK(file.status.st_mode)]
    for file in files:
        if not stat.S_ISREG(file.status.st_mode):
            raise PathRefused(f"{escape_name(file.path)} is neither a file nor a folder")
    marked = load_marked(context.repository.paths, [file.path for file in files])
    tracked = [file for file in files if file.path in marked]
    plain = [file for file in files if file.path not in marked]
    blobs = _tracked_blobs(context, tracked) | _plain_blobs(context, [f.path for f in plain])
    states = {file.path: _State(mode_of(file.status), blobs[file.path]) for file in files}
    for file in links:
        target = os.readlink(os.path.join(context.top, file.path))
        states[file.path] = _State(MODE_SYMLINK, blob_id(target))
    return states


def _plain_blobs(context: PresentContext, paths: Sequence[bytes]) -> dict[bytes, bytes]:
    """The ids that git itself gives, without keeping the blobs. Its own files may lie in a marked
    folder; no filter is for them."""
    own = [path for path in paths if os.path.basename(path) in UNTRACKED_NAMES]
    others = [path for path in paths if os.path.basename(path) not in UNTRACKED_NAMES]
    found: dict[bytes, bytes] = {}
    for options, group in (((), others), (("--no-filters",), own)):
        if group:
            # In C style, which it takes for any name: a line break would end one.
            fed = b"".join(_quoted(path) + b"\n" for path in group)
            command = ["hash-object", *options, "--stdin-paths"]
            ids = run_git(command, cwd=context.work_tree, stdin=fed).split()
            if len(ids) != len(group):
                raise GitError("git hash-object does not name every file")
            found |= {path: bytes.fromhex(i.decode()) for path, i in zip(group, ids, strict=True)}
    return found


def _quoted(path: bytes) -> bytes:
    return b'"' + b"".join(b"\\%03o" % c for c in path) + b'"'


def _tracked_blobs(context: PresentContext, files: Sequence[FoundFile]) -> dict[bytes, bytes]:
    """The ids of the pointers, of files that are remembered and of those that have to be read."""
    absolute = [(os.path.join(context.top, file.path), file.status) for file in files]
    known = context.stat_cache.load(absolute)
    found = {
        file.path: blob_id(pointer.to_bytes())
        for file, pointer in zip(files, known, strict=True)
        if pointer is not None
    }
    to_read = [file for file in files if file.path not in found]
    remembered = []
    for end, pointer in _read_pointers(context, to_read):
        found[end.file.path] = blob_id(end.content if pointer is None else pointer.to_bytes())
        if pointer is not None:
            place = os.path.join(context.top, end.file.path)
            remembered.append((place, end.file.status, pointer))
    context.stat_cache.keep(remembered)
    return found


def _read_pointers(
    context: PresentContext, files: Sequence[FoundFile]
) -> Iterator[tuple[FileEnd, Pointer | None]]:
    """Each file with its pointer; None for what git keeps as it is."""
    if not files:
        return
    # Nothing is to be written, so no chunk need be compressed.
    load_known: LoadKnown = lambda chunks: [True] * len(chunks)  # noqa: E731
    chunks: list[tuple[ChunkId, int]] = []
    for event in FileReader(context.chunking, load_known).read(files, context.jobs):
        if isinstance(event, FileEnd):
            yield event, pointer_of(chunks, chunk_id) if chunks else None
            chunks = []
        else:
            chunks.append((event.chunk, event.raw_length))


def _id_at(path: bytes, states: Mapping[bytes, _State]) -> GitId | None:
    if path in states:
        return GitId(states[path].blob.hex())
    start = len(path) + 1 if path else 0
    below = {p[start:]: s for p, s in states.items() if not path or p.startswith(path + b"/")}
    return GitId(tree_id(below).hex()) if below else None


def tree_id(states: Mapping[bytes, tuple[int, bytes]]) -> bytes:
    """The raw git id of the tree with these files: path → (git's mode, raw blob id)."""
    entries: dict[bytes, tuple[int, bytes]] = {}
    folders: dict[bytes, dict[bytes, tuple[int, bytes]]] = {}
    for path, state in states.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            folders.setdefault(name, {})[rest] = state
        else:
            entries[name] = (state[0], state[1])
    for name, below in folders.items():
        entries[name] = (_MODE_TREE, tree_id(below))
    # Git sorts a folder as if its name ended with a slash.
    ordered = sorted(entries.items(), key=lambda e: e[0] + b"/" if e[1][0] == _MODE_TREE else e[0])
    raw = b"".join(b"%o %b\0%b" % (mode, name, raw_id) for name, (mode, raw_id) in ordered)
    # Git's own naming; nothing here rests on SHA-1 being strong.
    digest = sha1(b"tree %d\0" % len(raw), usedforsecurity=False)
    digest.update(raw)
    return digest.digest()
