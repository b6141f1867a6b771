"""The errors of this project: StoreError and its kinds.

The text of each is one clear sentence for the person in front of the terminal or the log. What an
error becomes elsewhere (an errno, an exit code) is decided elsewhere; foreign errors stop at the
module that owns the foreign library and travel on as the cause of one of these.
"""

from collections.abc import Iterator


class StoreError(Exception):
    """Something that was asked of the store cannot be done; the text says what and why."""


class MalformedObject(StoreError):
    """Bytes that do not follow their format: refused whole, nothing of them is used."""


class UnsupportedVersion(MalformedObject):
    """A well-formed object of a version that this program does not know."""


class IntegrityError(StoreError):
    """Bytes that do not hash to the name they were asked for."""


class ChunkMissing(StoreError):
    """A chunk that is not staged, not cached and not in the remote."""


class ConfigError(StoreError):
    """A setting that is missing, malformed, or not allowed where it stands."""


class UntrustedEndpoint(ConfigError):
    """A committed custom endpoint that nobody on this machine has trusted yet."""


class GitError(StoreError):
    """Git's own data cannot give what was asked."""


class RevisionNotFound(GitError):
    """No commit goes by that name in this repository."""


class RepositoryGone(GitError):
    """The repository is no longer where it was when it was opened."""


class PathNotFound(StoreError):
    """No such path in that revision, or in the work tree."""


class PathRefused(StoreError):
    """A path that cannot be added, mounted on or used as a cache; the text says why."""


class CacheUnusable(StoreError):
    """The cache folder cannot be used safely."""


class RemoteError(StoreError):
    """A remote did not do what it was asked.

    `temporary` says whether the same call may work a moment later. The remote decides that, since
    only it knows what its answers mean.
    """

    temporary = False


class ObjectMissing(RemoteError):
    """The remote answered: there is no such object."""


class RemoteUnavailable(RemoteError):
    """No usable answer in time: no connection, a timeout, a server error, a cut or short body."""

    temporary = True


class RemoteDenied(RemoteError):
    """Credentials are missing, wrong or expired, or they do not allow this."""


class RemoteMisconfigured(RemoteError):
    """The remote as configured cannot work: no such bucket, a wrong region, our clock off."""


class LocalDiskFull(StoreError):
    """The local disk (or its quota) has no room left for a write."""


class ChunkUnreadable(StoreError):
    """A chunk that is known but whose bytes cannot be had; the text names chunk, pack and cause."""


class Busy(StoreError):
    """Somebody else is doing the same thing; the text says who or what to do."""


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups, which is how trio hands them over, in order; an error that
    is no group is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves_of(part)
    else:
        yield error


def find_store_error(error: BaseException) -> StoreError | None:
    """The first StoreError in what came out of a trio loop; None where there is none, which means
    a bug."""
    return next((part for part in leaves_of(error) if isinstance(part, StoreError)), None)


def is_of_the_remote(error: BaseException | None) -> bool:
    """Whether a remote that cannot be used is behind an error, and not one missing object."""
    while error is not None:
        if isinstance(error, RemoteError) and not isinstance(error, ObjectMissing):
            return True
        error = error.__cause__
    return False


def is_of_a_refusal(error: BaseException | None) -> bool:
    """Whether a remote that refuses is behind an error: whoever has the remote says so, once."""
    while error is not None:
        if isinstance(error, RemoteDenied | RemoteMisconfigured):
            return True
        error = error.__cause__
    return False
