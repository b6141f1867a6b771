"""Kept clones of real repositories, over file://, git's own daemon and HTTP with a password."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import kept_clones as module
from store.errors import GitError
from store.git_command import RepositoryPaths, find_repository, run_git
from store.kept_clones import KeptClones, find_original
from tests.fakes.git_servers import serve_git, serve_git_over_http
from tests.fakes.processes import environment_with, python_command
from tests.fakes.repositories import Repository, random_bytes
from tests.fakes.tcp_proxy import Link, TcpProxy

CLONE = (
    "import sys; from pathlib import Path; from store.kept_clones import KeptClones;"
    "KeptClones(Path(sys.argv[1])).fetch(sys.argv[2], print)"
)


class Kept:
    """The kept clones of a user, and what was said of new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clones = KeptClones(folder)
        self.said: list[str] = []

    def fetch(self, url: str) -> Repository:
        return Repository(self.clones.fetch(url, self.said.append).git_dir)

    def age(self) -> None:
        """Let all that was asked for be asked for again."""
        for lock in self.folder.glob("*.lock"):
            os.utime(lock, (0, 0))

    def names(self) -> list[str]:
        return sorted(path.suffix for path in self.folder.iterdir())


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """No clones yet; what was asked stays fresh, however slow the machine, until `age`."""
    monkeypatch.setattr(module, "FRESH_SECONDS", 3600.0)
    return Kept(tmp_path / "cache" / "repositories")


@pytest.fixture
def proxy(repository: Repository) -> Iterator[TcpProxy]:
    """A link to git's daemon, which serves the repository."""
    with serve_git(repository.top.parent) as address, TcpProxy(address) as link:
        yield link


def file_url(repository: Repository) -> str:
    return f"file://{repository.top}"


def git_url(proxy: TcpProxy) -> str:
    return f"git://127.0.0.1:{proxy.port}/repository/.git"


def processes_that_name(word: str) -> list[bytes]:
    """The command lines of all processes that have this word in theirs."""
    lines = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(place.read_bytes())
    return [line for line in lines if word.encode() in line]


def references(repository: Repository) -> list[str]:
    form = "--format=%(objectname) %(refname)"
    listing = repository.git("for-each-ref", form, "refs/heads", "refs/tags")
    return listing.decode().splitlines()


def test_a_clone_is_bare_and_has_every_branch_and_tag(repository: Repository, kept: Kept) -> None:
    repository.git("branch", "other/side")
    repository.git("tag", "-a", "-m", "signed by nobody", "v1")
    made = kept.fetch(file_url(repository))
    assert references(made) == references(repository)
    assert made.head() == repository.head()
    assert find_repository(made.top).work_tree is None
    assert kept.said == [file_url(repository)]
    assert kept.names() == [".git", ".lock"]
    assert kept.folder.stat().st_mode & 0o777 == 0o700


def test_what_is_pushed_and_forced_and_deleted_is_seen_by_the_next(
    repository: Repository, proxy: TcpProxy, kept: Kept
) -> None:
    repository.git("branch", "gone")
    repository.git("branch", "moved")
    repository.git("tag", "v1")
    first = kept.fetch(git_url(proxy)).head()
    repository.commit("second")
    repository.git("branch", "-D", "gone")
    repository.git("branch", "gone/deeper")
    repository.git("branch", "--force", "moved")
    repository.git("tag", "--force", "v1")
    kept.age()
    made = kept.fetch(git_url(proxy))
    assert made.head() == repository.head() != first
    assert references(made) == references(repository)
    assert kept.said == [git_url(proxy)]


def test_a_moment_later_nobody_is_asked(
    repository: Repository, proxy: TcpProxy, kept: Kept
) -> None:
    kept.fetch(git_url(proxy))
    asked = proxy.connections
    kept.fetch(git_url(proxy))
    assert proxy.connections == asked


def test_where_nothing_is_new_one_question_tells(
    repository: Repository, proxy: TcpProxy, kept: Kept
) -> None:
    kept.fetch(git_url(proxy))
    asked = proxy.connections
    kept.age()
    kept.fetch(git_url(proxy))
    assert proxy.connections == asked + 1


def test_commits_of_a_branch_that_is_gone_stay_for_those_who_read_them(
    repository: Repository, kept: Kept
) -> None:
    repository.git("switch", "--quiet", "-c", "side")
    lost = repository.commit("on the side")
    made = kept.fetch(file_url(repository))
    repository.git("switch", "--quiet", "main")
    repository.git("branch", "-D", "side")
    kept.age()
    kept.fetch(file_url(repository))
    made.git("gc", "--quiet")
    assert made.git("cat-file", "-t", lost) == b"commit\n"
    assert made.git("config", "gc.auto") == b"0\n"


def test_head_is_what_it_is_there_also_without_a_branch(repository: Repository, kept: Kept) -> None:
    repository.git("branch", "trunk")
    made = kept.fetch(file_url(repository))
    for command in (["switch", "--quiet", "trunk"], ["switch", "--quiet", "--detach"]):
        repository.git(*command)
        repository.commit()
        kept.age()
        assert kept.fetch(file_url(repository)).head() == repository.head()
    assert made.git("rev-parse", "--abbrev-ref", "HEAD") == b"HEAD\n"
    repository.git("switch", "--quiet", "main")
    kept.age()
    kept.fetch(file_url(repository))
    assert made.git("symbolic-ref", "HEAD") == b"refs/heads/main\n"


def test_offline_there_is_one_warning_and_what_was_fetched_before(
    repository: Repository, proxy: TcpProxy, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    head = kept.fetch(git_url(proxy)).head()
    proxy.set_link(Link(refuse=True))
    kept.age()
    assert kept.fetch(git_url(proxy)).head() == head
    assert kept.fetch(git_url(proxy)).head() == head
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "going on with what was fetched before: git: unable to connect" in record.getMessage()


def test_a_server_that_falls_silent_is_not_waited_for(
    repository: Repository,
    proxy: TcpProxy,
    kept: Kept,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept.fetch(git_url(proxy))
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.3)
    proxy.set_link(Link(stall=True))
    kept.age()
    kept.fetch(git_url(proxy))
    assert "no answer within 0.3 s" in caplog.text
    assert not processes_that_name(git_url(proxy)), "a git was left behind"


def test_a_first_clone_that_fails_leaves_nothing(
    repository: Repository, proxy: TcpProxy, kept: Kept
) -> None:
    # The answer to the question passes, the objects do not.
    repository.write("large", random_bytes(100_000))
    repository.git("add", "large")
    repository.commit()
    proxy.set_link(Link(cut_after_bytes=10_000))
    with pytest.raises(GitError):
        kept.fetch(git_url(proxy))
    assert kept.names() == [".lock"]
    proxy.set_link(Link())
    assert kept.fetch(git_url(proxy)).head() == repository.head()


def test_after_a_kill_the_next_run_cleans_up_and_clones(
    repository: Repository, proxy: TcpProxy, kept: Kept
) -> None:
    proxy.set_link(Link(stall=True))
    killed = subprocess.Popen(
        python_command(CLONE, kept.folder, git_url(proxy)), env=environment_with()
    )
    deadline = time.monotonic() + 20
    while not proxy.connections and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert ".part" in kept.names()
    # The git that it started ends when its connection does.
    proxy.cut_connections()
    proxy.set_link(Link())
    assert kept.fetch(git_url(proxy)).head() == repository.head()
    assert kept.names() == [".git", ".lock"]


def test_locks_of_a_git_that_was_killed_do_not_stop_updates(
    repository: Repository, kept: Kept
) -> None:
    made = kept.fetch(file_url(repository))
    leftovers = [
        made.top / name
        for name in ("HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/main.lock")
    ]
    for leftover in leftovers:
        leftover.touch()
        os.utime(leftover, (0, 0))
    repository.commit()
    kept.age()
    assert kept.fetch(file_url(repository)).head() == repository.head()
    assert not any(leftover.exists() for leftover in leftovers)


def test_of_several_at_once_one_clones_and_all_have_it(repository: Repository, kept: Kept) -> None:
    heads: list[str] = []
    threads = [
        threading.Thread(target=lambda: heads.append(kept.fetch(file_url(repository)).head()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heads == [repository.head()] * 4
    assert len(kept.said) == 1


def test_who_finds_an_update_under_way_for_long_goes_on_without(
    repository: Repository,
    kept: Kept,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = kept.fetch(file_url(repository))
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.1)
    kept.age()
    with kept.clones._locked(made.top):
        assert kept.fetch(file_url(repository)).head() == repository.head()
    assert "another revfs is updating" in caplog.text


def test_credentials_open_a_repository_and_are_shown_nowhere(
    repository: Repository, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    repository.git("update-server-info")
    with serve_git_over_http(repository.top.parent, "me:open-sesame") as host:
        wrong = f"http://me:wrong-word@{host}/repository/.git"
        with pytest.raises(GitError) as caught:
            kept.fetch(wrong)
        assert "wrong-word" not in str(caught.value)
        assert caught.value.__cause__ is None
        right = f"http://me:open-sesame@{host}/repository/.git"
        assert kept.fetch(right).head() == repository.head()
        # The clone is the same for other credentials, and outlives those that are no good.
        kept.age()
        assert kept.fetch(wrong).head() == repository.head()
        assert kept.clones.load_url(find_repository(kept.fetch(right).top)) == right
    kept.age()
    assert kept.fetch(right).head() == repository.head()
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 2
    assert "sesame" not in caplog.text
    assert "wrong-word" not in caplog.text
    assert kept.said == [f"http://{host}/repository/.git"] * 2


def test_a_password_that_git_itself_would_print_is_not(kept: Kept) -> None:
    with pytest.raises(GitError, match="unable to look up") as caught:
        kept.fetch("git://me:open-sesame@127.0.0.1:1/data")
    assert "sesame" not in str(caught.value)


def test_hooks_of_a_template_are_not_taken_over(
    repository: Repository, kept: Kept, tmp_path: Path
) -> None:
    hook = tmp_path / "template/hooks/reference-transaction"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    run_git(["config", "--global", "init.templateDir", str(tmp_path / "template")], cwd=tmp_path)
    assert kept.fetch(file_url(repository)).head() == repository.head()


def test_refreshing_is_for_kept_clones_alone(repository: Repository, kept: Kept) -> None:
    made = find_repository(kept.fetch(file_url(repository)).top)
    repository.commit()
    kept.age()
    kept.clones.refresh(made)
    assert Repository(made.git_dir).head() == repository.head()
    other = repository.clone(repository.top.parent / "other")
    before = other.git("rev-parse", "origin/main")
    repository.commit()
    kept.clones.refresh(find_repository(other.top))
    assert other.git("rev-parse", "origin/main") == before
    assert kept.clones.load_url(find_repository(other.top)) is None


def test_the_original_of_a_file_url_is_found_from_its_work_tree_or_its_git_folder(
    repository: Repository, tmp_path: Path
) -> None:
    assert find_original(f"file://{repository.top}") == repository.top
    assert find_original(f"file://{repository.top}/.git") == repository.top
    assert find_original(f"file://{tmp_path}/nothing") is None
    assert find_original("https://example.org/data") is None


def test_an_empty_original_makes_an_empty_clone_that_fills_up(tmp_path: Path, kept: Kept) -> None:
    top = tmp_path / "empty"
    run_git(["init", "--quiet", str(top)], cwd=tmp_path)
    empty = Repository(top)
    made = kept.fetch(file_url(empty))
    assert references(made) == []
    empty.commit()
    kept.age()
    assert kept.fetch(file_url(empty)).head() == empty.head()
    assert kept.clones.fetch(file_url(empty), print) == RepositoryPaths(made.top, made.top, None)
