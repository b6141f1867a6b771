"""What `verify` finds: objects that are not as they should be, and the files that they hurt."""

from dataclasses import dataclass, field

from store.directories import TRACKED_KINDS
from store.directory_loader import DirectoryLoader
from store.git import Commit
from store.ids import ChunkId, GitId


@dataclass(slots=True)
class Finding:
    """One object that is not as it should be. `place` is its key in the remote, or what a person
    knows it by on this machine; `problem` goes on from there ("is missing").

    `commits` are those that it hurts, `files` their files: path and content, each once, however
    many commits have it. Without any file nothing is lost yet.
    """

    place: str
    problem: str
    commits: set[GitId] = field(default_factory=set)
    files: dict[tuple[bytes, ChunkId | None], GitId] = field(default_factory=dict)
    # Commits all of whose files it hurts, with the number of those: they are not held one by one.
    whole: dict[Commit, int] = field(default_factory=dict)

    def hurts(self, commit: GitId, path: bytes, content: ChunkId | None) -> None:
        """Take note of a file of a commit; of a folder that cannot be read, without a content."""
        self.commits.add(commit)
        self.files.setdefault((path, content), commit)

    def hurts_all(self, commit: Commit, files: int) -> None:
        """Take note of a commit with so many files, of which it hurts every one."""
        self.commits.add(commit.commit)
        self.whole[commit] = files

    @property
    def file_count(self) -> int:
        """How many files it hurts; those of whole commits as often as commits have them."""
        return len(self.files) + sum(self.whole.values())

    def paths(self, directories: DirectoryLoader) -> list[bytes]:
        """The paths of the files, in order, each once."""
        found = {path for path, _ in self.files}
        seen: set[bytes] = set()
        for commit in self.whole:
            for path, entry in directories.walk_new(commit.tree, seen):
                if entry.kind in TRACKED_KINDS:
                    found.add(path)
        return sorted(found)


class Findings:
    """All findings of one run, each object once."""

    def __init__(self) -> None:
        self._by_place: dict[str, Finding] = {}

    def add(self, place: str, problem: str) -> Finding:
        """The finding on that object, made if there is none yet."""
        return self._by_place.setdefault(place, Finding(place, problem))

    def get(self, place: str) -> Finding | None:
        """The finding on that object, if there is one."""
        return self._by_place.get(place)

    def all(self) -> list[Finding]:
        """Every finding; those that hurt the most files first."""
        return sorted(self._by_place.values(), key=lambda f: (-f.file_count, f.place))
