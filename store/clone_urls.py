"""What a person may give as a repository: a folder, or a url that git can clone. Pure, but for a
look at whether a folder is there.

How git tells them apart is in git-clone(1), "GIT URLS".
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from store.errors import GitError
from store.ids import hash_bytes
from store.shown_names import escape_text

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A remote helper's own form; one of them, ext::, runs any command.
_HELPER = re.compile(r"[A-Za-z0-9]*::")
# With a colon before the first slash: git's short form for ssh.
_SHORT_FORM = re.compile(r"[^/:]+:")
_KEPT_USER_SCHEMES = ("ssh", "git+ssh", "ssh+git")
_NAME_BYTES = 16


def is_url(text: str, folder: Path) -> bool:
    """Whether `text` is a url to clone and no path relative to `folder`; a path that exists wins
    over git's short form `host:path`.

    Raises GitError for a url that git must not be handed: an option, a helper's, an unprintable.
    """
    if text.startswith("-"):
        raise GitError(f"{escape_text(text)} begins with a dash: a folder of that name is ./{text}")
    if _HELPER.match(text):
        raise GitError(
            f"{escape_text(text)} would have git run a helper program, which revfs does not do: "
            "use https://, ssh://, git:// or file://"
        )
    found = bool(_SCHEME.match(text)) or (
        bool(_SHORT_FORM.match(text)) and not (folder / text).exists()
    )
    if found and not text.isprintable():
        raise GitError(f"the url {escape_text(text)} holds characters that no url has")
    return found


def shown_url(url: str) -> str:
    """The url as it may be printed: without a password, or a token in place of a user."""
    scheme, user, rest = _split(url)
    if not user:
        return url
    if scheme.removesuffix("://").lower() in _KEPT_USER_SCHEMES:
        return f"{scheme}{user.partition(':')[0]}@{rest}"
    return f"{scheme}{rest}"


def without_credentials(text: str, url: str) -> str:
    """Somebody else's words about `url`, with nothing left in them that `shown_url` hides."""
    _, user, _ = _split(url)
    shown = text.replace(url, shown_url(url))
    if url == shown_url(url):
        return shown
    # What has a password has it behind the first colon; else the user is what hides, as a token.
    name, _, password = user.partition(":")
    for secret in {user, unquote(user)}:
        shown = shown.replace(f"{secret}@", "")
    for secret in {password or name, unquote(password or name)}:
        shown = shown.replace(secret, "***")
    return shown


def clone_name(url: str) -> str:
    """A name for the clone of `url`, the same whatever the credentials in it; 32 hex digits."""
    return hash_bytes(shown_url(url).rstrip("/").encode())[:_NAME_BYTES].hex()


def local_folder_of(url: str) -> Path | None:
    """The folder of this machine that a file:// url names; None for any other url."""
    if not url.lower().startswith("file://"):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        # A host in brackets that is none.
        return None
    path = unquote(parts.path)
    return Path(path) if parts.netloc in ("", "localhost") and "\0" not in path else None


def _split(url: str) -> tuple[str, str, str]:
    """(`scheme://`, what stands before the `@` of the host, the rest); empty where there is none.
    The short form `user@host:path` has no password, and counts as without a user."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "", "", url
    host, slash, path = url[scheme.end() :].partition("/")
    user, at, host = host.rpartition("@")
    return scheme[0], user if at else "", f"{host}{slash}{path}"
