"""Hostile repositories: git repositories that no honest git writes, each with what it holds.

All of them are made of real objects of git. `HOSTILE` names the makers; each is called with a new
folder, and leaves HEAD at the hostile commit, with nothing of it checked out.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.directories import MAX_DEPTH
from store.ids import chunk_id
from store.pointer import Pointer
from tests.fakes.repositories import REPOSITORY_ID, Repository, make_repository

GOOD = b"a sibling, which stays\n"
ABSENT = "11" * 20
# What would clear a terminal, write its title, and begin a line of its own.
ESCAPES = b"\x1b[2J\x1b]0;owned\x07\r\nERROR forged"
BOMB_BYTES = 64 << 20

Row = tuple[str, bytes, str]


@dataclass(frozen=True, slots=True)
class HostileRepository:
    """`names` are those of the root that are shown, sorted; `readable` is path → content of plain
    files that can be read; `broken` are folders, and files, that give EIO. `warned` says that the
    root has entries that are left out. `refused` are words of why it is not mounted at all."""

    repository: Repository
    names: Sequence[bytes]
    readable: dict[bytes, bytes]
    broken: Sequence[bytes] = ()
    warned: bool = False
    refused: str = ""


class _Maker:
    """A repository under way: its honest files and ids that trees are made of."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_repository(folder, initialised=False)
        config = f"[repository]\n\tid = {REPOSITORY_ID}\n".encode()
        self.good = self.repository.write_blob(GOOD)
        self.config = self.repository.write_blob(config)

    def tree(self, rows: Iterable[Row]) -> str:
        """A tree of these rows, in just this order."""
        return self.repository.write_tree(rows)

    def finish(
        self, rows: Iterable[Row], message: str | bytes = "hostile"
    ) -> tuple[Repository, list[bytes]]:
        """Commit a root of these rows and two honest ones, and point HEAD at it."""
        honest = [("100644", b".revfsconfig", self.config), ("100644", b"good", self.good)]
        tree = self.tree([*honest, *rows])
        commit = self.repository.git("commit-tree", tree, "-m", message).decode().strip()
        self.repository.git("update-ref", "refs/heads/main", commit)
        self.repository.git("symbolic-ref", "HEAD", "refs/heads/main")
        return self.repository, [b".revfsconfig", b"good"]


def make_refused_names(folder: Path) -> HostileRepository:
    """Names that no checkout could have: they are left out, their siblings stay."""
    made = _Maker(folder)
    names = [
        *(
            b"",
            b".",
            b"..",
            b"a/b",
            b"/",
            b"../../etc/passwd",
            b".git",
            b".GIT",
            b".git ",
            b"git~1",
        ),
        *(b".git.", b".git::$DATA", b"sub\\.git", ".g\u200cit".encode(), b"n" * 256, b"n" * 5000),
    ]
    rows = [("100644", name, made.good) for name in names]
    inner = made.tree([("40000", b"..", made.tree([])), ("100644", b"good", made.good)])
    twice = [("100644", b"twice", made.good), ("40000", b"twice", made.tree([]))]
    unknown = [("100", b"unknown-mode", made.good), ("0", b"no-mode", made.good)]
    repository, shown = made.finish([*rows, *twice, *unknown, ("40000", b"inner", inner)])
    return HostileRepository(
        repository,
        sorted([*shown, b"inner", b"twice"]),
        {b"good": GOOD, b"inner/good": GOOD, b"twice": GOOD},
        warned=True,
    )


def make_odd_names(folder: Path) -> HostileRepository:
    """Names that are not UTF-8, steer a terminal, or turn the direction of a text; and a commit
    whose message does. One of them is of a folder that is missing, so that it is told of."""
    made = _Maker(folder)
    names = [
        *(b"not utf-8 \xff\xfe", ESCAPES, b"line\nbreak", b"tab\t", b"back\\slash", b"\x7f"),
        *("\u202egpj.exe".encode(), "zero\u200bwidth".encode(), b"-rf", b"n" * 255, b"$(id)", b"'"),
    ]
    rows = [("100644", name, made.good) for name in names]
    inside = made.tree([("100644", ESCAPES, made.good)])
    folders = [("40000", b"folder" + ESCAPES, inside), ("40000", b"gone" + ESCAPES, ABSENT)]
    repository, shown = made.finish([*rows, *folders], ESCAPES)
    readable = dict.fromkeys(names, GOOD)
    readable[b"folder" + ESCAPES + b"/" + ESCAPES] = GOOD
    return HostileRepository(
        repository,
        sorted([*shown, *names, *(name for _, name, _ in folders)]),
        {b"good": GOOD, **readable},
        [b"gone" + ESCAPES],
    )


def make_broken_objects(folder: Path) -> HostileRepository:
    """Folders whose tree is cut short, none, or missing, or that hold a file that is missing."""
    made = _Maker(folder)
    whole = b"100644 file\0" + bytes.fromhex(made.good)
    folders = {
        b"cut": made.repository.write_raw_tree(whole[:-1]),
        b"cut-name": made.repository.write_raw_tree(whole + b"100644 fil"),
        b"no-mode": made.repository.write_raw_tree(b"abc file\0" + bytes.fromhex(made.good)),
        b"long-mode": made.repository.write_raw_tree(b"1" * 5000 + whole),
        b"missing": ABSENT,
        b"missing-file": made.tree([("100644", b"file", ABSENT), ("100644", b"good", made.good)]),
        b"a-file": made.good,
        b"file-is-a-tree": made.tree([("100644", b"file", made.tree([]))]),
    }
    well = made.tree([("100644", b"good", made.good)])
    rows = [("40000", name, tree) for name, tree in folders.items()]
    repository, shown = made.finish([*rows, ("40000", b"well", well)])
    return HostileRepository(
        repository,
        sorted([*shown, *folders, b"well"]),
        {b"good": GOOD, b"well/good": GOOD},
        sorted(folders),
    )


def make_deep_folders(folder: Path) -> HostileRepository:
    """Folders that are nested more deeply than is shown."""
    made = _Maker(folder)
    tree = made.tree([("100644", b"good", made.good)])
    for _ in range(MAX_DEPTH + 50):
        tree = made.tree([("40000", b"d", tree), ("100644", b"good", made.good)])
    repository, shown = made.finish([("40000", b"d", tree)])
    deepest = b"/".join([b"d"] * (MAX_DEPTH - 1))
    return HostileRepository(
        repository,
        sorted([*shown, b"d"]),
        {b"good": GOOD, b"d/d/d/good": GOOD, deepest + b"/good": GOOD},
        [deepest + b"/d"],
    )


def make_links(folder: Path) -> HostileRepository:
    """Symbolic links that lead anywhere, and some that no system takes."""
    made = _Maker(folder)
    targets = {
        b"absolute": b"/etc/passwd",
        b"above": b"../" * 40 + b"etc/passwd",
        b"itself": b"itself",
        b"into-git": b".git/config",
        b"longest": b"x" * 4095,
        b"odd": ESCAPES,
    }
    broken = {b"too-long": b"x" * 4096, b"empty": b"", b"nul": b"a\0b"}
    rows = [
        ("120000", name, made.repository.write_blob(target))
        for name, target in (targets | broken).items()
    ]
    repository, shown = made.finish(rows)
    return HostileRepository(
        repository, sorted([*shown, *targets, *broken]), {b"good": GOOD}, sorted(broken)
    )


def make_odd_pointers(folder: Path) -> HostileRepository:
    """Texts that are nearly pointers: each is an ordinary file of just these bytes."""
    made = _Maker(folder)
    good = Pointer(chunk_id(GOOD), len(GOOD)).to_bytes()
    size = b"size %d\n" % len(GOOD)
    texts = {
        b"carriage-returns": good.replace(b"\n", b"\r\n"),
        b"no-line-feed": good[:-1],
        b"upper-case": good[:15] + good[15:].upper(),
        b"negative": good.replace(size, b"size -5\n"),
        b"zero": good.replace(size, b"size 0\n"),
        b"leading-zero": good.replace(size, b"size 023\n"),
        b"huge": good.replace(size, b"size 9007199254740993\n"),
        b"digits": good.replace(size, b"size " + b"9" * 100 + b"\n"),
        b"too-large": good.replace(size, b"size 5000000\n"),
        b"too-many-chunks": good + b"chunks 99\n",
        b"one-chunk": good + b"chunks 1\n",
        b"more-chunks-than-fit": good.replace(size, b"size 9007199254740992\nchunks 116508000\n"),
        b"other-version": b"revfs 2" + good[7:],
        b"more-lines": good + b"url https://example.com/\n",
        b"not-ascii": good.replace(b"size", "s\u0131ze".encode()),
        b"padded": good + b" " * 100,
    }
    rows = [("100644", name, made.repository.write_blob(text)) for name, text in texts.items()]
    repository, shown = made.finish(rows)
    return HostileRepository(repository, sorted([*shown, *texts]), {b"good": GOOD, **texts})


def make_absent_data(folder: Path) -> HostileRepository:
    """Right pointers to data that nobody has; one is of 8 PiB."""
    made = _Maker(folder)
    pointers = {
        b"largest": Pointer(chunk_id(b"1"), 116_507 * (4 << 20), 116_507),
        b"small": Pointer(chunk_id(b"2"), 7),
        b"of-nothing-known": Pointer(chunk_id(b"3"), 10_000_000, 4),
    }
    rows = [
        ("100644", name, made.repository.write_blob(pointer.to_bytes()))
        for name, pointer in pointers.items()
    ]
    repository, shown = made.finish(rows)
    return HostileRepository(
        repository, sorted([*shown, *pointers]), {b"good": GOOD}, sorted(pointers)
    )


def make_bombs(folder: Path) -> HostileRepository:
    """Blobs that are some thousand times larger than on the disk, one where a link should be."""
    made = _Maker(folder)
    zeros = made.repository.write_blob(bytes(BOMB_BYTES))
    rows = [("100644", b"zeros", zeros), ("120000", b"link", zeros)]
    repository, shown = made.finish(rows)
    return HostileRepository(
        repository, sorted([*shown, b"link", b"zeros"]), {b"good": GOOD}, [b"link"]
    )


def make_config(folder: Path) -> HostileRepository:
    """A committed configuration that says what only a user may, and would have git read others."""
    made = _Maker(folder)
    text = (
        f"[repository]\n\tid = {REPOSITORY_ID}\n[core]\n\tremote = far\n\tfsmonitor = touch owned\n"
        f"\thooksPath = /tmp\n[include]\n\tpath = {folder}-included\n[cache]\n\tdirectory = /etc\n"
        '[remote "far"]\n\turl = s3://bucket/prefix\n\tendpoint = http://127.0.0.1:9\n'
        "\tprofile = root\n[trust]\n\tendpoint = http://127.0.0.1:9\n[alias]\n\tst = !touch owned\n"
        '[filter "revfs"]\n\tprocess = touch owned\n'
    )
    folder.with_name(folder.name + "-included").write_text("[mount]\n\ttimeout = 1\n")
    made.config = made.repository.write_blob(text.encode())
    rules = made.repository.write_blob(b"* filter=owned\n[attr]owned filter=owned\n")
    lock = made.repository.write_blob(b'{"stages": {"\\u001b[2J": 1}, "version": 1}')
    rows = [("100644", b".gitattributes", rules), ("100644", b"revfs.lock", lock)]
    repository, shown = made.finish(rows)
    return HostileRepository(
        repository,
        sorted([*shown, b".gitattributes", b"revfs.lock"]),
        {b"good": GOOD},
        refused="an endpoint that came with this repository",
    )


HOSTILE: dict[str, Callable[[Path], HostileRepository]] = {
    "refused-names": make_refused_names,
    "odd-names": make_odd_names,
    "broken-objects": make_broken_objects,
    "deep-folders": make_deep_folders,
    "links": make_links,
    "odd-pointers": make_odd_pointers,
    "absent-data": make_absent_data,
    "bombs": make_bombs,
    "config": make_config,
}


def describe(maker: Callable[..., object]) -> str:
    """What a maker makes, on one line."""
    text = (maker.__doc__ or "").strip()
    return " ".join(text.split())


def as_path(top: Path, name: bytes) -> Path:
    """A path below a folder, whatever bytes it is made of."""
    return Path(os.fsdecode(os.fsencode(top) + b"/" + name))
