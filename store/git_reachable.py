"""Every small blob that git can still come back to: from refs, indexes, stashes, reflogs and what
is under way, in any worktree.

Git itself walks, since it looks at each object once, however many commits have it.
"""

from collections.abc import Iterable, Iterator

from store.git_command import RepositoryPaths, run_git, stream_git
from store.git_roots import load_more_roots

_IDS_AT_ONCE = 8192
_ID_DIGITS = 40
_LINE_BYTES = _ID_DIGITS + 1
_ENVIRONMENT = {
    # What a replaced object hides is needed again when the replacement goes.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    # The indexes of the worktrees are meant, not one that a hook was given.
    "GIT_INDEX_FILE": None,
}


def stream_small_blobs(
    paths: RepositoryPaths, most_bytes: int, more_roots: Iterable[str] = ()
) -> Iterator[list[bytes]]:
    """The raw ids of all blobs of at most so many bytes that can be reached, each once and some
    thousand at a time; also from the objects `more_roots`, as far as they are there.

    Raises GitError where an object on the way is missing or damaged, or git complains of anything:
    what came before is then not all. See `store.git_roots` for what git does not notice.
    """
    roots = _present(paths, {*load_more_roots(paths), *more_roots})
    # From the index, by way of reflogs, to refs: the way that things go when git is at work.
    command = [
        *("rev-list", "--objects", "--no-object-names"),
        f"--filter=combine:blob:limit={most_bytes + 1}+object:type=blob",
        *("--filter-provided-objects", "--indexed-objects", "--reflog", "--all", "--stdin"),
    ]
    fed = "".join(f"{root}\n" for root in sorted(roots)).encode("ascii")
    rest = b""
    for block in stream_git(command, cwd=paths.top, stdin=fed, environment=_ENVIRONMENT):
        rest += block
        while len(rest) >= _IDS_AT_ONCE * _LINE_BYTES:
            yield _raw_ids(rest[: _IDS_AT_ONCE * _LINE_BYTES])
            rest = rest[_IDS_AT_ONCE * _LINE_BYTES :]
    if rest:
        yield _raw_ids(rest)


def _raw_ids(lines: bytes) -> list[bytes]:
    raw = bytes.fromhex(lines.decode("ascii"))
    return [raw[start : start + 20] for start in range(0, len(raw), 20)]


def _present(paths: RepositoryPaths, ids: set[str]) -> list[str]:
    """Those of the ids that name an object that is there."""
    fed = "".join(f"{name}\n" for name in ids).encode("ascii")
    command = ["cat-file", "--batch-check=%(objectname)", "--buffer"]
    answers = run_git(command, cwd=paths.top, stdin=fed).decode("ascii").splitlines()
    return [answer for answer in answers if len(answer) == _ID_DIGITS]
