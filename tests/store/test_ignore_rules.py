"""What `add` passes over by git's rules and ours, and what it refuses for them."""

import os
from pathlib import Path

import pytest

from store import ignore_rules as ignore_rules_module
from store.add import plan_add
from store.errors import PathRefused
from store.git_command import find_repository
from store.ignore_rules import Ignored, load_ignored
from store.local_store import LocalStore
from tests.fakes.repositories import NoProgress, Repository, add, add_context

pytestmark = pytest.mark.usefixtures("in_no_hurry_for_git")


def named(repository: Repository, *paths: bytes) -> list[bytes]:
    """What is ignored of these paths and below them."""
    return load_ignored(find_repository(repository.top), paths).shown()


def added(
    repository: Repository, local: LocalStore, *paths: str, force: bool = False
) -> set[bytes]:
    """The files that an add would read."""
    context = add_context(local, repository.top)
    plan = plan_add(context, repository.top, [Path(p) for p in paths or (".",)], force=force)
    return {file.path for file in plan.files.to_read}


@pytest.fixture
def ruled(repository: Repository, isolated_home: Path) -> Repository:
    """A repository with rules of every kind, and files for each."""
    rules = {
        ".gitignore": b"/cache\n*.tmp\n!keep.tmp\n",
        "a/.gitignore": b"local\n",
        "a/.revfsignore": b"*.log\n!b/wanted.log\n",
        ".revfsignore": b"scratch/\n",
        ".git/info/exclude": b"*.excluded\n",
    }
    files = ["a/b/wanted.log", "a/b/x.log", "a/local", "a/one", "a/x.excluded", "a/x.global"]
    files += ["a/x.tmp", "b/local", "b/x.log", "b/scratch/deep/x", "cache/deep/x", "keep.tmp"]
    (isolated_home / "ignore").write_text("*.global\n")
    repository.git("config", "core.excludesFile", str(isolated_home / "ignore"))
    for path, content in rules.items():
        repository.write(path, content)
    for path in files:
        repository.write(path)
    return repository


WANTED = {b"a/b/wanted.log", b"a/one", b"b/local", b"b/x.log", b"keep.tmp"}


def test_rules_of_every_kind_and_level_hold(ruled: Repository, local: LocalStore) -> None:
    assert added(ruled, local) == WANTED
    assert added(ruled, local, "a", "b") == WANTED - {b"keep.tmp"}
    everything = added(ruled, local, force=True)
    assert len(everything) == 12
    add(ruled, local)
    assert ruled.staged().keys() > WANTED
    assert b"a/x.log" not in ruled.staged()


def test_an_ignored_folder_is_not_looked_into(ruled: Repository, local: LocalStore) -> None:
    os.mkfifo(ruled.top / "cache/deep/pipe")
    os.mkfifo(ruled.top / "b/scratch/pipe")
    assert added(ruled, local) == WANTED
    assert {b"cache/", b"b/scratch/"} < set(named(ruled, b""))


def test_what_the_index_has_is_never_ignored(ruled: Repository, local: LocalStore) -> None:
    # Marked: else it would be git's own, which an add of all leaves alone.
    ruled.write(".gitattributes", b"tracked* filter=revfs -merge -text\n")
    for path in ("cache/deep/tracked", "a/tracked.log"):
        ruled.write(path)
        ruled.git("add", "--force", path)
    wanted = {b"cache/deep/tracked", b"a/tracked.log"}
    assert added(ruled, local) == WANTED | wanted
    assert added(ruled, local, "a/tracked.log") == {b"a/tracked.log"}


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("cache", "the rule /cache in .gitignore, line 1"),
        ("cache/deep", "the rule /cache in .gitignore, line 1"),
        ("cache/deep/x", "the rule /cache in .gitignore, line 1"),
        ("a/local", "the rule local in a/.gitignore, line 1"),
        ("a/x.excluded", "info/exclude, line 1"),
        ("a/x.global", "ignore, line 1"),
        ("a/b/x.log", "a rule in .revfsignore"),
        ("b/scratch/deep", "a rule in .revfsignore"),
    ],
)
def test_what_was_named_itself_is_refused_with_the_rule(
    ruled: Repository, local: LocalStore, path: str, rule: str
) -> None:
    with pytest.raises(PathRefused, match=rf"^{path} is ignored by .*{rule}.*--force"):
        added(ruled, local, "b", path)
    with pytest.raises(PathRefused, match=rf"^{path} is ignored by .*{rule}"):
        added(ruled, local, path)
    assert added(ruled, local, path, force=True)


def test_new_files_of_a_folder_that_is_ignored_are_not_left_out_in_silence(
    ruled: Repository, local: LocalStore
) -> None:
    context = add_context(local, ruled.top)
    forced = plan_add(context, ruled.top, [Path("cache")], force=True)
    forced.execute(NoProgress(), jobs=1)
    assert b"cache/deep/x" in ruled.staged()
    assert added(ruled, local, "cache") == set()
    ruled.write("cache/new")
    with pytest.raises(PathRefused, match=r"^cache is ignored by the rule /cache in"):
        added(ruled, local, "cache")
    # Met on the way, or in a folder that another rule takes back, it is passed over.
    assert b"cache/new" not in added(ruled, local)
    ruled.write(".gitignore", b"/cache/*\n!/cache\n")
    assert added(ruled, local, "cache") == set()


def test_a_folder_of_nothing_but_ignored_files_is_not_ignored_itself(
    repository: Repository, local: LocalStore
) -> None:
    repository.write(".gitignore", b"*.tmp")
    repository.write("only/deep/x.tmp")
    assert named(repository, b"") == [b"only/deep/x.tmp"]
    assert added(repository, local, "only") == set()


def test_a_link_that_a_rule_names_is_passed_over(repository: Repository, local: LocalStore) -> None:
    repository.write(".gitignore", b"link\n")
    repository.write("data/one")
    (repository.top / "data/link").symlink_to("/etc")
    assert named(repository, b"data") == [b"data/link"]


def test_names_are_bytes_and_no_patterns(repository: Repository, local: LocalStore) -> None:
    repository.write(".gitignore", b"b\xff*\n/d/a\n")
    for name in (b"b\xff\n", b"[a]*", b"a"):
        repository.write(b"d/" + name)
    assert named(repository, b"d") == [b"d/a", b"d/b\xff\n"]
    assert named(repository, b"d/[a]*") == []
    assert added(repository, local, "d/[a]*") == {b"d/[a]*"}


def test_an_add_asks_git_three_times_at_most_whatever_it_adds(
    ruled: Repository, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []
    run_git = ignore_rules_module.run_git
    monkeypatch.setattr(
        ignore_rules_module, "run_git", lambda *a, **k: (runs.append(a), run_git(*a, **k))[1]
    )
    added(ruled, local, "a", "b", "keep.tmp")
    assert len(runs) == 3
    added(ruled, local, "keep.tmp")
    assert len(runs) == 5
    added(ruled, local, force=True)
    assert len(runs) == 5


def test_a_path_is_covered_by_a_folder_above_it() -> None:
    ignored = Ignored(frozenset([b"a/b"]), frozenset([b"c/d"]))
    covered = [b"a/b", b"c/d", b"c/d/e", b"c/d/e/f"]
    assert [
        path for path in (*covered, b"a/b/c", b"c", b"c/de", b"") if ignored.covers(path)
    ] == covered
    assert ignored.shown() == [b"a/b", b"c/d/"]
