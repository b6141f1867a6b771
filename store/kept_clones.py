"""Kept clones: bare clones of repositories that a person named by url, in the user's cache folder.

They are made, and brought up to date, here; what a url is, is in `store.clone_urls`. A clone holds
all branches and tags, and no object is ever removed from it: a mount may show a commit that the
original has long forgotten.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from store.clone_urls import clone_name, local_folder_of, shown_url, without_credentials
from store.config import RemoteSettings
from store.config_files import user_folder
from store.errors import Busy, GitError
from store.git_command import (
    CheckWanted,
    RepositoryPaths,
    find_repository,
    run_git,
    run_network_git,
)
from store.local_folders import make_private_folder, try_lock
from store.shown_names import escape_text

FRESH_SECONDS = 5.0
"""How long after one update the next verb does without another."""

_ANSWER_SECONDS = 60.0
_WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.05
# What a git that lives touches again and again; older ones were left by one that was killed.
_LEFTOVER_SECONDS = 60.0
_LEFTOVERS = ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/??/tmp_*")
_URL_KEY = "remote.origin.url"
_SETTINGS = {
    # Nothing is thrown away below a mount.
    "gc.auto": "0",
    "gc.pruneExpire": "never",
    "maintenance.auto": "false",
    # A connection that says nothing for a minute is given up.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
}
_DETACHED = "refs/revfs/detached-head"
_NAMESPACES = ("refs/heads/", "refs/tags/")
_REFSPECS = tuple(f"+{namespace}*:{namespace}*" for namespace in _NAMESPACES)
_FETCH = (
    *("fetch", "--quiet", "--prune", "--force", "--no-tags"),
    *("--no-recurse-submodules", "--no-write-fetch-head"),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _References:
    """Branches and tags (name → object id) and what HEAD is: a branch's name, an object id (which
    then counts as one of them, under a name of ours), or None where there is no commit."""

    ids: Mapping[str, str]
    head: str | None


class KeptClones:
    """The clones in one folder: `<name>.git` each, `<name>.lock` beside it.

    Whoever holds the lock is the only one to write the clone; a clone under its own name is whole.
    The lock's mtime is when an update was last tried.
    """

    def __init__(self, folder: Path, check_wanted: CheckWanted | None = None) -> None:
        """With `check_wanted` the work is done beside other work: nobody is asked for a password,
        and it ends, with what `check_wanted` raises, where that raises."""
        self._folder = folder
        self._check_wanted = check_wanted
        # Why the last update of a clone failed; said once, for as long as it is the same.
        self._failures: dict[Path, str] = {}

    def fetch(self, url: str, on_clone: Callable[[str], None]) -> RepositoryPaths:
        """The clone of `url`, made if there is none, and brought up to date unless that was tried
        a moment ago. `on_clone` is told the url, without credentials, before a clone is made.

        Where an update fails, one warning says so, and the clone is given as it is. Raises GitError
        where there is none and none can be made, CacheUnusable.
        """
        make_private_folder(self._folder.parent)
        make_private_folder(self._folder)
        clone = self._folder / f"{clone_name(url)}.git"
        if not (clone.is_dir() and self._is_fresh(clone) and _load_url(clone) == url):
            try:
                with self._locked(clone) as lock:
                    if clone.is_dir():
                        self._update(clone, url, lock)
                    else:
                        on_clone(shown_url(url))
                        self._make(clone, url)
                        os.utime(lock.fileno())
            except Busy as error:
                self._say_failure(clone, str(error))
        return RepositoryPaths(clone, clone, None)

    def refresh(self, paths: RepositoryPaths) -> None:
        """Bring a kept clone up to date, as `fetch` does; nothing to do for any other repository.

        May take as long as the network does: not for the thread of an event loop.
        """
        url = self.load_url(paths)
        if url is not None:
            self.fetch(url, lambda _: None)

    def load_url(self, paths: RepositoryPaths) -> str | None:
        """The url that a kept clone was made of, with credentials; None for other repositories."""
        if paths.git_dir.parent != self._folder:
            return None
        return _load_url(paths.git_dir)

    def _is_fresh(self, clone: Path) -> bool:
        try:
            age = time.time() - clone.with_suffix(".lock").stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= age < FRESH_SECONDS

    @contextmanager
    def _locked(self, clone: Path) -> Iterator[IO[str]]:
        """Hold the lock of a clone. Waits for one that is being made as long as that takes; raises
        Busy where one that is there stays locked."""
        deadline = time.monotonic() + _WAIT_SECONDS
        with clone.with_suffix(".lock").open("a") as lock:
            while not try_lock(lock):
                if clone.is_dir() and time.monotonic() > deadline:
                    raise Busy("another revfs is updating this clone: going on with what it has")
                if self._check_wanted is not None:
                    self._check_wanted()
                time.sleep(_POLL_SECONDS)
            yield lock

    def _update(self, clone: Path, url: str, lock: IO[str]) -> None:
        """Bring a clone up to date, if nobody did while the lock was waited for."""
        if self._is_fresh(clone) and _load_url(clone) == url:
            return
        try:
            _remove_leftovers(clone)
            _synchronise(clone, url, self._check_wanted)
            if _load_url(clone) != url:
                # Only now: the credentials in it have proven good.
                _git(clone, "config", "--replace-all", _URL_KEY, url)
        except GitError as error:
            words = "could not be asked for what is new: going on with what was fetched before"
            self._say_failure(clone, f"{shown_url(url)} {words}: {error}")
        else:
            if self._failures.pop(clone, None) is not None:
                log.info("%s can be asked for what is new again", shown_url(url))
        os.utime(lock.fileno())

    def _say_failure(self, clone: Path, words: str) -> None:
        if self._failures.get(clone) != words:
            log.warning("%s", words)
        self._failures[clone] = words

    def _make(self, clone: Path, url: str) -> None:
        """Clone into a folder of another name, and rename it when it is whole."""
        for leftover in self._folder.glob(f"{clone.stem}.*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
        part = clone.with_suffix(f".{os.getpid()}.part")
        try:
            run_git(["init", "--quiet", "--bare", "--template=", str(part)], cwd=self._folder)
            for key, value in {**_SETTINGS, _URL_KEY: url}.items():
                _git(part, "config", key, value)
            _synchronise(part, url, self._check_wanted)
            part.rename(clone)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def kept_clones(
    environment: Mapping[str, str], check_wanted: CheckWanted | None = None
) -> KeptClones:
    """The kept clones of this user: in one place, whatever cache a repository uses; see KeptClones
    for `check_wanted`."""
    folder = user_folder(environment, "XDG_CACHE_HOME", ".cache") / "repositories"
    return KeptClones(folder, check_wanted)


def find_named(text: str, folder: Path) -> RepositoryPaths:
    """The repository at or around a path that is relative to `folder`. Raises GitError."""
    place = folder / text
    if not place.is_dir():
        raise GitError(
            f"{escape_text(text)} is no folder, and no url that git knows: write one like "
            "https://host/path, ssh://host/path, host:path or file:///path"
        )
    return find_repository(place)


def find_original(url: str) -> Path | None:
    """The top folder of the repository that a file:// url names, from which relative folders in its
    configuration are meant; None for any other url, and where it cannot be told."""
    folder = local_folder_of(url)
    if folder is None:
        return None
    with suppress(GitError):
        return find_repository(folder.parent if folder.name == ".git" else folder).top
    return None


def is_beside_original(remote: RemoteSettings) -> bool:
    """Whether a remote is a folder that is meant relative to the repository that names it."""
    url = remote.url.lower()
    return remote.folder is not None and not url.startswith(("/", "file:"))


def _synchronise(clone: Path, url: str, check_wanted: CheckWanted | None) -> None:
    """Make branches, tags and HEAD those of `url`: one question, and a fetch where it shows that
    something is new. Raises GitError, without what is secret in the url."""
    try:
        wanted = _fetch_references(clone, url, check_wanted)
        if wanted.ids != _load_ids(clone, {*_NAMESPACES, *({_DETACHED} & wanted.ids.keys())}):
            specs = [f"+HEAD:{_DETACHED}"] if _DETACHED in wanted.ids else []
            command = [_git_dir(clone), *_FETCH, "--", url, *_REFSPECS, *specs]
            run_network_git(command, cwd=clone, check_wanted=check_wanted)
    except GitError as error:
        # Not `from error`: its own words hold what must not be shown.
        raise GitError(without_credentials(str(error), url)) from None
    _set_head(clone, wanted.head)


def _fetch_references(clone: Path, url: str, check_wanted: CheckWanted | None) -> _References:
    names = ["HEAD", *(f"{namespace}*" for namespace in _NAMESPACES)]
    command = [_git_dir(clone), "ls-remote", "--symref", "--", url, *names]
    listing = run_network_git(
        command, cwd=clone, timeout_seconds=_ANSWER_SECONDS, check_wanted=check_wanted
    )
    ids, head = {}, None
    for line in os.fsdecode(listing).splitlines():
        value, _, name = line.partition("\t")
        # `v1^{}` is the commit behind the tag v1; a pattern also finds refs/other/refs/tags/v1.
        if name.startswith(_NAMESPACES) and not name.endswith("^{}"):
            ids[name] = value
        elif name == "HEAD" and head is None:
            # That it is a branch, `ref: refs/heads/main`, is said before its commit.
            head = value.removeprefix("ref: ")
    if head is not None and not head.startswith("refs/"):
        ids[_DETACHED] = head
    return _References(ids, head)


def _load_ids(clone: Path, namespaces: Iterable[str]) -> Mapping[str, str]:
    """name → object id of the references in some namespaces."""
    form = "--format=%(objectname)%09%(refname)"
    listing = _git(clone, "for-each-ref", form, "--", *namespaces)
    lines = (line.partition("\t") for line in os.fsdecode(listing).splitlines())
    return {name: value for value, _, name in lines}


def _set_head(clone: Path, head: str | None) -> None:
    if head is None:
        return
    if head.startswith("refs/"):
        _git(clone, "symbolic-ref", "HEAD", head)
    else:
        _git(clone, "update-ref", "--no-deref", "HEAD", head)


def _load_url(clone: Path) -> str | None:
    found = run_git([_git_dir(clone), "config", "--get", _URL_KEY], cwd=clone, ok_codes=(0, 1))
    return os.fsdecode(found).removesuffix("\n") or None


def _remove_leftovers(clone: Path) -> None:
    """Remove what a git that was killed has left, and every later one would stumble over."""
    for pattern in _LEFTOVERS:
        for path in clone.glob(pattern):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()


def _git(clone: Path, *arguments: str) -> bytes:
    return run_git([_git_dir(clone), *arguments], cwd=clone)


def _git_dir(clone: Path) -> str:
    # By name: git is not to look for it, nor to mind that it is bare.
    return f"--git-dir={clone}"
