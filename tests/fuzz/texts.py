"""Targets: settings, urls, order files, `.gitattributes`, ignore rules, and names as they are
shown."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store import config_files
from store.clone_urls import clone_name, is_url, local_folder_of, shown_url, without_credentials
from store.config_files import COMMITTED_FILE, load_level
from store.config_keys import Level
from store.errors import ConfigError, GitError
from store.git_command import RepositoryPaths
from store.ignore_rules import _parse as parse_ignored
from store.order_files import MountPaths, iterate_paths, read_order
from store.remote_url import parse_remote_url
from store.shown_names import escape_name
from store.tracked_patterns import Target as Marked
from store.tracked_patterns import add_patterns, remove_patterns
from tests.fuzz.target import Refused, Target, is_harmless, only

_MANY = 1 << 16
_ALLOWED = {"url", "region", "endpoint"}
_folders: list[Path] = []


def _paths() -> RepositoryPaths:
    """A work tree with a committed file, which git is not asked to read."""
    if not _folders:
        folder = Path(tempfile.mkdtemp(prefix="revfs-fuzz-"))
        (folder / COMMITTED_FILE).touch()
        _folders.append(folder)
    top = _folders[0]
    return RepositoryPaths(work_tree=top, git_dir=top / ".git", common_dir=top / ".git")


def check_config(raw: bytes) -> None:
    """Whatever git lists of a committed file, only what is on the allow-list is taken."""
    listed, config_files.run_git = config_files.run_git, lambda *_, **__: raw
    try:
        with only(ConfigError):
            found = load_level(_paths(), {"HOME": "/nonexistent"}, Level.COMMITTED)
    finally:
        config_files.run_git = listed
    for setting in found:
        section, _, rest = setting.key.partition(".")
        known = setting.key in ("repository.id", "core.remote")
        assert known or (section == "remote" and rest.rpartition(".")[2] in _ALLOWED)
        assert setting.value
        assert setting.value.isprintable()


def config_seeds() -> Iterator[bytes]:
    """All that is allowed, and some of what is not."""
    yield (
        b"repository.id\n66666666-7777-4888-9999-aaaaaaaaaaaa\0core.remote\nmain\0"
        b"remote.main.url\ns3://bucket/prefix\0remote.main.region\neu-central-1\0"
        b"remote.main.endpoint\nhttps://s3.example.com:9000\0"
    )
    yield b"remote.main.profile\nroot\0cache.directory\n/etc\0core.fsmonitor\n!rm\0alias.x\0"
    yield b"remote.a.url\nfile:///data\0remote.b.url\n../store\0"


def check_urls(raw: bytes) -> None:
    """A url is understood or refused; a password is never shown."""
    text = raw.decode("utf-8", "surrogateescape")
    with suppress(Refused):
        with only(ConfigError):
            place = parse_remote_url(text, Path("/base"))
        assert (place.folder is None) != (place.bucket is None)
        assert place.folder is None or place.folder.is_absolute()
        assert ".." not in place.prefix.split("/")
    with only(GitError):
        found = is_url(text, Path("/nonexistent"))
    folder = local_folder_of(text)
    assert folder is None or "\0" not in str(folder)
    if found:
        shown = shown_url(text)
        assert shown_url(shown) == shown
        assert clone_name(shown) == clone_name(text)
        assert text not in without_credentials(f"fatal: {text}", text) or shown == text


def url_seeds() -> Iterator[bytes]:
    """One of each kind."""
    yield b"s3://bucket/some/prefix"
    yield b"file:///data/%20store"
    yield b"https://user:secret@example.com/repository.git"
    yield b"ssh://git@example.com:22/repository"
    yield b"git@example.com:repository"
    yield b"ext::sh -c true"


def check_order_file(raw: bytes) -> None:
    """Every path comes out once, in order; none that is inside the mount leads out of it."""
    separator = b"\0" if b"\0" in raw else b"\n"
    with only(ConfigError):
        paths = list(iterate_paths(io.BytesIO(raw)))
    assert paths == [path for path in raw.split(separator) if path]
    for base in (MountPaths([b"/mnt", b"/other/mnt/"]), MountPaths([b"/mnt"], b"a/b")):
        for path in paths:
            found = base.from_top(path)
            assert found is None or not found.startswith(b"/") or b"//" in path
            assert found is None or b".." not in found.split(b"/"), (path, found)
        batches = list(read_order(io.BytesIO(raw), base))
        assert sum(map(len, batches)) == len(paths)


def order_file_seeds() -> Iterator[bytes]:
    """Of lines, of NULs, of paths that lead about."""
    yield b"a/b\nc\n\nd/./e\n../x\n/mnt/a\n/mntx\n/other/mnt/b/../../..\n./f\ng/\n..\n"
    yield b"a\nb\0c\0"


def check_attributes(raw: bytes) -> None:
    """Lines are only added, each once, and only our own are taken away."""
    existing, _, names = raw.partition(b"\xff")
    paths = {path for path in names.split(b"\0") if path and path.strip(b"/") == path}
    targets = [Marked(path, path[:1] < b"n") for path in paths]
    added = add_patterns(existing, targets)
    assert added.startswith(existing)
    assert add_patterns(added, targets) == added
    new = added[len(existing) :].splitlines()
    assert all(line.endswith(b" filter=revfs -merge -text") for line in new if line)
    # A pattern of many lines would mark what nobody named.
    assert added[len(existing) :].count(b"\n") <= len(targets) + 1
    left = remove_patterns(added, paths, ())
    assert not set(left.splitlines()) - set(added.splitlines())
    assert len(remove_patterns(existing, (), ())) == len(existing)


def attribute_seeds() -> Iterator[bytes]:
    """Lines of ours and of others; odd names."""
    ours = add_patterns(b"*.txt text\n", [Marked(b"data", True), Marked(b"x y", False)])
    yield ours + b'\xffdata/a\0zoo\0data\0q"uo\\te\nline'
    yield b"no line feed\xffn*[?]"


def check_ignored(raw: bytes) -> None:
    """What is listed is covered, and what is below it."""
    lines = set(raw.split(b"\0")) - {b"", b"/"}
    found = parse_ignored(lines)
    for line in lines:
        path = line.rstrip(b"/")
        assert path in found
        assert found.covers(path)
        assert not line.endswith(b"/") or found.covers(path + b"/below")
    assert len(found.shown()) == len(found.files) + len(found.folders)


def ignored_seeds() -> Iterator[bytes]:
    """Files and folders."""
    yield b"a\0b/\0c/d\0c/d/e/\0"


def check_shown_names(raw: bytes) -> None:
    """One line that does nothing to a terminal; different for different names."""
    shown = escape_name(raw)
    assert is_harmless(shown)
    first, second = raw[: len(raw) // 2], raw[len(raw) // 2 :]
    assert (escape_name(first) == escape_name(second)) == (first == second)
    assert escape_name(os.fsdecode(raw)) == shown


def shown_name_seeds() -> Iterator[bytes]:
    """Control characters, directions, bytes that are no UTF-8, backslashes."""
    yield b"plain name\\with \x1b[2J\r\n\x7f"
    yield "\u202eexe.txt\u2028 naïve".encode() + b"\xff\xfe\\xff"


TARGETS = {
    "config": Target(check_config, config_seeds, 2000),
    "urls": Target(check_urls, url_seeds, 300),
    "order-file": Target(check_order_file, order_file_seeds, _MANY),
    "attributes": Target(check_attributes, attribute_seeds, 2000),
    "ignored": Target(check_ignored, ignored_seeds, 1000),
    "shown-names": Target(check_shown_names, shown_name_seeds, 300),
}
