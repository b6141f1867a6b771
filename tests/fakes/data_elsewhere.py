"""Data outside of any work tree, and what `add SRC --to PATH` makes of it."""

from pathlib import Path

from store.add import AddSummary
from store.add_elsewhere import plan_add_elsewhere
from store.local_store import LocalStore
from tests.fakes.repositories import NoProgress, Repository, add, add_context

NAMES = ["deep/tool", "deep/two", "empty", "folder", "link", "one"]


def below(target: str, names: list[str] = NAMES) -> set[bytes]:
    return {f"{target}/{name}".encode() for name in names}


def add_elsewhere(
    repository: Repository, local: LocalStore, source: Path, target: str = "data"
) -> AddSummary:
    """Add a source as `target`, with paths from the top."""
    context = add_context(local, repository.top)
    plan = plan_add_elsewhere(context, repository.top, source, Path(target))
    return plan.execute(NoProgress(), jobs=2)


def reads(repository: Repository, local: LocalStore, source: Path) -> list[bytes]:
    """What another add of the source would read."""
    context = add_context(local, repository.top)
    plan = plan_add_elsewhere(context, repository.top, source, Path("data"))
    return [file.path for file in plan.files.to_read]


def skipped(repository: Repository) -> set[bytes]:
    """The paths that git takes for absent on purpose."""
    lines = repository.git("ls-files", "-t", "-z").split(b"\0")[:-1]
    return {line[2:] for line in lines if line.startswith(b"S ")}


def changes_of_head(repository: Repository) -> dict[bytes, bytes]:
    """path → what HEAD did to it against its parent: A, M, D or T."""
    parts = repository.git("diff", "--no-renames", "--name-status", "-z", "HEAD~", "HEAD")
    words = parts.split(b"\0")[:-1]
    return dict(zip(words[1::2], words[::2], strict=True))


def everything(repository: Repository) -> tuple[bytes, dict[str, bytes | None]]:
    """Git's index and every file of the work tree."""
    files: dict[str, bytes | None] = {}
    for place in sorted(repository.top.rglob("*")):
        if ".git" not in place.parts:
            files[str(place)] = place.read_bytes() if place.is_file() else None
    return (repository.top / ".git/index").read_bytes(), files


def make_source(folder: Path) -> Path:
    """Make a folder with a file of each kind, `NAMES` below it."""
    (folder / "deep").mkdir(parents=True)
    (folder / "one").write_bytes(b"first")
    (folder / "deep/two").write_bytes(b"second")
    (folder / "deep/tool").write_bytes(b"#!")
    (folder / "deep/tool").chmod(0o755)
    (folder / "empty").touch()
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to("deep")
    return folder


def make_origin(repository: Repository, local: LocalStore) -> Repository:
    """The repository, with a commit of data, code and attributes."""
    repository.write(".gitattributes", b"*.txt text\n")
    repository.write("code/main.py", b"print()")
    repository.write("notes.txt", b"notes")
    repository.git("add", ".gitattributes", "code", "notes.txt")
    for number in range(5):
        repository.write(f"data/{number}", b"old %d" % number)
        repository.write(f"other/{number}", b"other %d" % number)
    add(repository, local, "data", "other")
    repository.commit()
    return repository
