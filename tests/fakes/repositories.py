"""Real git repositories in temporary folders, the trees that no honest git would write, and a store
opened in this process with a remote of the test's own."""

import contextlib
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.main import run
from store.add import AddContext, AddSummary, plan_add
from store.chunking import ChunkingParameters
from store.config import RemoteSettings
from store.git import Commit, GitRepository
from store.git_command import find_repository, run_git
from store.local_store import LocalStore
from store.opening import WrapRemote, open_reading
from store.paths import load_path
from store.pointer import Pointer, parse_pointer
from store.push import PushPlan, PushSummary, plan_push
from store.push_opening import open_push
from store.store_settings import StoreSettings

REPOSITORY_ID = "6f1c2a9e-58c4-4d0e-9f3b-2a7d1e4c5b60"
TIMEOUT_SECONDS = 20.0


class NoProgress:
    """Takes what an add or push reports, and forgets it."""

    def advance(self, byte_count: int, items: int = 0) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


def random_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository with a work tree at `top`."""

    top: Path

    def git(self, *arguments: str | bytes, stdin: bytes | None = None) -> bytes:
        """What git prints when it is run here."""
        return run_git(arguments, cwd=self.top, stdin=stdin)

    def revfs(self, *arguments: str) -> int:
        """The exit code of revfs, run here in this process."""
        return run(["-C", str(self.top), *arguments])

    def write(self, path: str | bytes, content: bytes = b"content") -> Path:
        """Write a file of the work tree, and the folders above it."""
        place = self.top / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place

    def commit(self, message: str = "a version") -> str:
        """Commit what is staged; the id."""
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self) -> str:
        """The id of the commit that is checked out."""
        return self.git("rev-parse", "HEAD").decode().strip()

    def status(self) -> list[bytes]:
        """The lines of git status, with names as they are."""
        return self.git("status", "--porcelain", "-z").split(b"\0")[:-1]

    def staged(self) -> dict[bytes, bytes]:
        """path → "mode id stage" of every entry of git's index, as git reads it."""
        lines = self.git("ls-files", "--stage", "-z").split(b"\0")[:-1]
        return {path: facts for facts, _, path in (line.partition(b"\t") for line in lines)}

    def clone(self, folder: Path) -> "Repository":
        """A clone of this repository."""
        without_filter = "filter.revfs.process="
        self.git("clone", "--quiet", "-c", without_filter, str(self.top), str(folder))
        return Repository(folder)

    def write_blob(self, content: bytes) -> str:
        """Put a blob into git's objects; its id."""
        return self.git("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def write_raw_tree(self, raw: bytes) -> str:
        """Put any bytes into git's objects as a tree; its id."""
        command = ("hash-object", "-t", "tree", "--literally", "-w", "--stdin")
        return self.git(*command, stdin=raw).decode().strip()

    def write_tree(self, entries: Iterable[tuple[str, bytes, str]]) -> str:
        """Put a tree of (mode, name, id) into git's objects, however hostile; its id."""
        return self.write_raw_tree(b"".join(raw_entry(*entry) for entry in entries))

    def commit_tree(self, tree: str, branch: str = "hostile") -> str:
        """Commit a tree on a branch of its own, which is not checked out; the commit's id."""
        commit = self.git("commit-tree", tree, "-m", "made by hand").decode().strip()
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit


def raw_entry(mode: str, name: bytes, object_id: str) -> bytes:
    """One entry as it stands in a tree object."""
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(object_id)


def make_repository(top: Path, *, initialised: bool = True) -> Repository:
    """A new repository; with an id in its committed configuration, unless told otherwise."""
    subprocess.run(["git", "init", "--quiet", top], check=True)
    made = Repository(top)
    if initialised:
        made.write(".revfsconfig", f"[repository]\n\tid = {REPOSITORY_ID}\n".encode())
        # No filter: what git says of the work tree is then its own.
        made.git("config", "filter.revfs.process", "")
        made.git("add", ".revfsconfig")
        made.commit("set up")
    return made


def folder_remote(folder: Path, name: str = "disk") -> RemoteSettings:
    """The settings of a remote in a folder."""
    return RemoteSettings(name, str(folder), None, None, None, folder, None, "", True)


def bucket_remote(name: str = "bucket") -> RemoteSettings:
    """The settings of a remote in a bucket, for a test that puts a remote of its own there."""
    return RemoteSettings(name, f"s3://{name}", None, None, None, None, name, "", True)


@contextlib.contextmanager
def open_local(
    repository: Repository,
    cache: Path,
    remote: RemoteSettings | None = None,
    *,
    to_write: bool = True,
) -> Iterator[LocalStore]:
    """The local store of a repository, with its cache at `cache`."""
    paths = find_repository(repository.top)
    settings = StoreSettings(paths, REPOSITORY_ID, remote, cache, None, TIMEOUT_SECONDS)
    with LocalStore(settings, to_write=to_write) as local:
        yield local


def add_context(
    local: LocalStore, top: Path, chunking: ChunkingParameters | None = None
) -> AddContext:
    """What `add` works with in an open store."""
    context = AddContext.of(local, top)
    return context if chunking is None else replace(context, chunking=chunking)


def add(
    repository: Repository,
    local: LocalStore,
    *paths: str,
    chunking: ChunkingParameters | None = None,
) -> AddSummary:
    """Add paths, or all."""
    context = add_context(local, repository.top, chunking)
    plan = plan_add(context, repository.top, [Path(path) for path in paths or (".",)])
    return plan.execute(NoProgress(), jobs=2)


def staged_pointer(repository: Repository, path: bytes) -> Pointer:
    """The pointer that git's index has for a path."""
    blob = repository.staged()[path].split()[1]
    pointer = parse_pointer(repository.git("cat-file", "blob", blob))
    assert pointer is not None
    return pointer


def staged_packs(repository: Repository) -> list[str]:
    """The names of all files in the folder of staged packs."""
    return sorted(path.name for path in (repository.top / ".git/revfs/staged").iterdir())


def commits_of(repository: GitRepository, *texts: str) -> list[Commit]:
    """The history of revisions, parents first."""
    return repository.history(repository.resolve(text).commit for text in texts or ("HEAD",))


@contextlib.asynccontextmanager
async def planned_push(
    local: LocalStore, wrap_remote: WrapRemote, *texts: str, others: Sequence[RemoteSettings] = ()
) -> AsyncIterator[PushPlan]:
    """The plan of a push of revisions (HEAD if none) to the remote that `wrap_remote` gives."""
    opened = open_push(local, REPOSITORY_ID, "revfs test", others, wrap_remote=wrap_remote)
    async with opened as context:
        yield await plan_push(context, commits_of(local.repository, *texts), NoProgress())


async def push(
    local: LocalStore, wrap_remote: WrapRemote, *texts: str, others: Sequence[RemoteSettings] = ()
) -> PushSummary:
    """Push revisions (HEAD if none) to the remote that `wrap_remote` gives. Raises what went wrong
    out of the groups that it comes in."""
    with ungrouped():
        async with planned_push(local, wrap_remote, *texts, others=others) as plan:
            return await plan.execute(lambda total_bytes: NoProgress())


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Raises the one error in a group of groups as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        raise error from group


async def read_file(
    local: LocalStore, wrap_remote: WrapRemote, path: bytes, revision: str = "HEAD"
) -> bytes:
    """A tracked file of a revision, from wherever its bytes are."""
    resolved = local.repository.resolve(revision)
    entry = load_path(local.directories, resolved.tree, path).entry
    async with open_reading(local, resolved.commit, wrap_remote) as reading:
        return await reading.contents.read(entry.pointer, 0, entry.size)
