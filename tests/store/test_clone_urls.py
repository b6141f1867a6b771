"""What is a url to clone, what of it may be shown, and what its clone is called."""

from pathlib import Path

import pytest

from store.clone_urls import clone_name, is_url, local_folder_of, shown_url, without_credentials
from store.errors import GitError


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/data.git",
        "ssh://git@example.org/data",
        "git://example.org/data",
        "file:///data/repository",
        "git@example.org:team/data.git",
        "example.org:data",
    ],
)
def test_these_are_urls(text: str, tmp_path: Path) -> None:
    assert is_url(text, tmp_path)


@pytest.mark.parametrize("text", ["data", "../data", "/data", "./host:path", "a/b:c", ".", "a b"])
def test_these_are_paths(text: str, tmp_path: Path) -> None:
    assert not is_url(text, tmp_path)


def test_a_folder_that_is_there_wins_over_the_short_form_of_ssh(tmp_path: Path) -> None:
    (tmp_path / "host:path").mkdir()
    assert not is_url("host:path", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=touch x:y",
        "--upload-pack=touch x",
        "ext::sh -c touch% x",
        "fd::17",
        "::x",
        "https://example.org/\x1b[2J",
        "host:pa\nth",
    ],
)
def test_what_would_have_git_run_or_print_something_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(GitError) as caught:
        is_url(text, tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@example.org/data", "https://example.org/data"),
        ("https://token@example.org/data", "https://example.org/data"),
        ("https://me:sec@ret@example.org/data", "https://example.org/data"),
        ("ssh://git:secret@example.org/data", "ssh://git@example.org/data"),
        ("ssh://git@example.org/data", "ssh://git@example.org/data"),
        ("git@example.org:data", "git@example.org:data"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("file:///a@b/c", "file:///a@b/c"),
    ],
)
def test_a_shown_url_has_no_password_and_no_token(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_words_of_git_lose_what_a_shown_url_hides() -> None:
    url = "https://me:s%3Acret@example.org/data"
    words = f"unable to access '{url}/': 's%3Acret' s:cret me:s:cret@example.org"
    shown = without_credentials(words, url)
    assert "cret" not in shown
    assert "https://example.org/data/" in shown
    token = without_credentials("no ghp_1234 at ghp_1234@host", "https://ghp_1234@host/data")
    assert token == "no *** at host"
    assert without_credentials("as git said", "https://example.org/as") == "as git said"


def test_the_name_of_a_clone_tells_urls_apart_and_not_credentials() -> None:
    plain = clone_name("https://example.org/data")
    assert clone_name("https://me:secret@example.org/data/") == plain
    assert clone_name("https://example.org/data2") != plain
    assert clone_name("ssh://a@example.org/data") != clone_name("ssh://b@example.org/data")


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///data/with%20space", Path("/data/with space")),
        ("file://localhost/data", Path("/data")),
        ("file://elsewhere/data", None),
        ("file://[/data", None),
        ("file:///da%00ta", None),
        ("https://example.org/data", None),
        ("host:data", None),
    ],
)
def test_the_folder_of_a_file_url(url: str, folder: Path | None) -> None:
    assert local_folder_of(url) == folder
