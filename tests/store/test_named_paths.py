"""What words name: revisions and paths, from the top or from the current folder."""

from pathlib import Path

import pytest

from store.errors import PathNotFound, PathRefused, RevisionNotFound
from store.git_command import find_repository
from store.local_store import LocalStore
from store.named_paths import NameResolver, folder_from_top, path_from_top, split_at_colon
from tests.fakes.repositories import Repository


@pytest.mark.parametrize(
    ("text", "folder", "path"),
    [
        ("a/b", b"in/side", b"a/b"),
        ("/a//b/", b"", b"a/b"),
        ("", b"in", b""),
        ("./a", b"in/side", b"in/side/a"),
        (".", b"in/side", b"in/side"),
        ("../a", b"in/side", b"in/a"),
        ("../..", b"in/side", b""),
        ("a/../b", b"in", b"b"),
        ("./caf\udce9", b"", b"caf\xe9"),
        (".hidden", b"in", b".hidden"),
    ],
)
def test_a_path_is_from_the_top_unless_a_dot_says_from_here(
    text: str, folder: bytes, path: bytes
) -> None:
    assert path_from_top(text, folder) == path


@pytest.mark.parametrize(("text", "folder"), [("..", b""), ("../../a", b"in"), ("a/../..", b"in")])
def test_a_path_that_leads_out_is_refused(text: str, folder: bytes) -> None:
    with pytest.raises(PathRefused, match="outside of the repository"):
        path_from_top(text, folder)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("HEAD:a", ("HEAD", "a")),
        (":a", ("", "a")),
        ("HEAD:", ("HEAD", "")),
        ("HEAD:a:b", ("HEAD", "a:b")),
        ("HEAD@{2026-01-01 10:00}:a", ("HEAD@{2026-01-01 10:00}", "a")),
        ("HEAD^{/fix: all}", ("HEAD^{/fix: all}", None)),
        ("a", ("a", None)),
    ],
)
def test_a_word_is_cut_at_the_first_colon_outside_of_braces(
    word: str, parts: tuple[str, str | None]
) -> None:
    assert split_at_colon(word) == parts


def test_the_current_folder_counts_only_inside_of_the_work_tree(
    repository: Repository, tmp_path: Path
) -> None:
    inside = repository.write("a/b/file").parent
    link = tmp_path / "link"
    link.symlink_to(inside)
    paths = find_repository(repository.top)
    for folder, expected in {
        repository.top: b"",
        inside: b"a/b",
        link: b"a/b",
        tmp_path: b"",
        repository.top / "none": b"none",
    }.items():
        assert folder_from_top(paths, folder) == expected
    assert folder_from_top(find_repository(repository.top / ".git"), inside) == b""


@pytest.fixture
def resolver(repository: Repository, local: LocalStore) -> NameResolver:
    """Somebody in the folder `a` of a repository with two versions, v1 and HEAD."""
    repository.write("a/file")
    repository.git("add", "a")
    repository.commit()
    repository.git("tag", "v1")
    repository.write("with:colon")
    repository.git("add", ".")
    repository.commit()
    return NameResolver(local.repository, local.directories, b"a")


@pytest.mark.parametrize(
    ("words", "text", "paths"),
    [
        ([], "HEAD", []),
        (["v1"], "v1", []),
        (["v1", "a", "./file"], "v1", [b"a", b"a/file"]),
        (["v1:./file", "x"], "v1", [b"a/file", b"x"]),
        (["a"], "HEAD", [b"a"]),
        (["./file", "b"], "HEAD", [b"a/file", b"b"]),
        (["with:colon"], "HEAD", [b"with:colon"]),
        (["v1:not:there"], "v1", [b"not:there"]),
    ],
)
def test_words_name_a_revision_and_paths(
    resolver: NameResolver, words: list[str], text: str, paths: list[bytes]
) -> None:
    named = resolver.paths(words)
    assert (named.revision.text, named.paths) == (text, paths)


@pytest.mark.parametrize(("word", "named"), [("none", "none"), ("none:a", "none"), ("b/c", "b/c")])
def test_a_word_that_is_nothing_is_taken_for_a_revision(
    resolver: NameResolver, word: str, named: str
) -> None:
    with pytest.raises(RevisionNotFound, match=f"no commit goes by the name '{named}'"):
        resolver.paths([word])


@pytest.mark.parametrize(
    ("words", "texts", "path"),
    [
        (["v1"], ("v1", "HEAD"), b""),
        (["v1", "HEAD"], ("v1", "HEAD"), b""),
        (["HEAD", "v1", "a"], ("HEAD", "v1"), b"a"),
        (["v1", "./file"], ("v1", "HEAD"), b"a/file"),
        (["v1..HEAD~1", "a"], ("v1", "HEAD~1"), b"a"),
        (["..v1"], ("HEAD", "v1"), b""),
        (["v1.."], ("v1", "HEAD"), b""),
        (["v1", "with:colon"], ("v1", "HEAD"), b"with:colon"),
    ],
)
def test_words_name_two_revisions_and_a_path(
    resolver: NameResolver, words: list[str], texts: tuple[str, str], path: bytes
) -> None:
    named = resolver.comparison(words)
    assert ((named.old.text, named.new.text), named.path) == (texts, path)


def test_a_comparison_with_what_is_not_there_is_refused(resolver: NameResolver) -> None:
    with pytest.raises(PathNotFound, match="none is neither a revision nor a path of v1 or HEAD"):
        resolver.comparison(["v1", "none"])
    with pytest.raises(RevisionNotFound, match="none"):
        resolver.comparison(["v1..none"])
