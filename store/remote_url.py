"""What the url of a remote says: a bucket and prefix, or a folder. Pure."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from store.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# What botocore takes for a bucket name; the rules of a provider may be narrower.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_ACCEPTED = (
    "use s3://bucket/prefix, a folder such as /data/store or ../store, or file:///data/store"
)


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """Where a remote is: in `folder` (absolute), or in `bucket` under `prefix`; never both.

    `prefix` has no slash at either end and is empty for the whole bucket.
    """

    folder: Path | None
    bucket: str | None
    prefix: str


def parse_remote_url(url: str, base: Path) -> RemotePlace:
    """The place that `url` names; a relative folder is taken from `base`, the repository's top.

    Raises ConfigError, with the accepted forms, for any other text.
    """
    if not url or not url.isprintable():
        raise ConfigError(f"{url!r} is not the url of a remote: {_ACCEPTED}")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return RemotePlace(_folder(url, base), None, "")
    if scheme[1].lower() == "s3":
        return _bucket(url)
    if scheme[1].lower() == "file":
        return RemotePlace(_folder_of_file_url(url), None, "")
    raise ConfigError(f"{url!r}: {scheme[1]} is not a kind of remote that revfs knows: {_ACCEPTED}")


def _bucket(url: str) -> RemotePlace:
    _, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    parts = prefix.split("/") if prefix else []
    if not _BUCKET.fullmatch(bucket) or {"", ".", ".."} & set(parts):
        raise ConfigError(f"{url!r} names no bucket and prefix: {_ACCEPTED}")
    return RemotePlace(None, bucket, prefix)


def _folder_of_file_url(url: str) -> Path:
    refusal = ConfigError(f"{url!r} names no folder of this machine: {_ACCEPTED}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        # A host in brackets that is none.
        raise refusal from error
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise refusal
    return Path(path)


def _folder(text: str, base: Path) -> Path:
    if text.startswith("~"):
        raise ConfigError(f"{text!r}: ~ is the shell's, not revfs's; write the folder out")
    # Links are kept, since one may be how a person moves the store; only `..` is taken out.
    return Path(os.path.normpath(base / text))
