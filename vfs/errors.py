"""What can be wrong with a request to the file system, beyond what the store may say."""


class RequestError(Exception):
    """A request that the file system refuses; the kind says why."""


class NoSuchName(RequestError):
    """No entry of that name in that directory."""


class NameTooLong(RequestError):
    """A name that no directory can hold."""


class NotADirectory(RequestError):
    """An operation on directories was asked of something else."""


class IsADirectory(RequestError):
    """An operation on files was asked of a directory."""


class NotASymlink(RequestError):
    """The target of a link was asked of something else."""


class StaleInode(RequestError):
    """An inode number that this mount never gave out."""


class FailedJustNow(RequestError):
    """The kernel's second try of a read that failed a moment ago and was logged then."""


class NotADevice(RequestError):
    """An ioctl, which none of the files here knows."""
