"""Which paths `.gitattributes` marks as tracked; git decides."""

import os
from collections.abc import Iterable

from store.git_command import RepositoryPaths, run_git
from store.tracked_patterns import UNTRACKED_NAMES


def load_marked(paths: RepositoryPaths, names: Iterable[bytes]) -> set[bytes]:
    """Those of the paths that are for our filter: marked, and not git's own to read. One run of
    git, if there are any. Raises GitError."""
    asked = [name for name in names if os.path.basename(name) not in UNTRACKED_NAMES]
    if not asked:
        return set()
    command = ["check-attr", "-z", "--stdin", "filter"]
    stdin = b"".join(name + b"\0" for name in asked)
    fields = run_git(command, cwd=paths.top, stdin=stdin).split(b"\0")[:-1]
    found = zip(fields[::3], fields[2::3], strict=True)
    return {path for path, value in found if value == b"revfs"}
