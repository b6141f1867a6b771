"""GitFilter: cleaning and smudging for one run of git, joined."""

from collections.abc import Callable, Iterable, Sequence

from store.clean import Cleaner
from store.config_keys import SmudgePolicy
from store.filter_protocol import ContentStream
from store.opening import LocalStore
from store.smudge import Smudger


class GitFilter:
    """The FilterWork of one repository. Belongs to one thread."""

    def __init__(
        self, local: LocalStore, policy: SmudgePolicy, jobs: int, check_listener: Callable[[], None]
    ) -> None:
        """`local` must be open to write; see Cleaner for `jobs`, Smudger for `check_listener`."""
        self._cleaner = Cleaner(local, jobs)
        self._smudger = Smudger(local, policy, check_listener)

    def __enter__(self) -> "GitFilter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._cleaner.close()
        finally:
            self._smudger.close()

    @property
    def left_as_pointers(self) -> int:
        """How many files stayed pointers since their data is not here or not to be had."""
        return self._smudger.left_as_pointers

    @property
    def too_large(self) -> int:
        """How many stayed pointers since git would hold all of their data in memory."""
        return self._smudger.too_large

    def clean(self, path: bytes, content: ContentStream) -> bytes:
        """As FilterWork.clean."""
        return self._cleaner.clean(path, content)

    def smudge(self, path: bytes, content: bytes, *, can_delay: bool) -> Iterable[bytes]:
        """As FilterWork.smudge."""
        # What was cleaned a moment ago may be wanted back.
        self._cleaner.settle()
        return self._smudger.smudge(path, content, can_delay=can_delay)

    def wait_available(self) -> Sequence[bytes]:
        """As FilterWork.wait_available."""
        return self._smudger.wait_available()

    def rest(self) -> None:
        """Git is busy elsewhere, perhaps with a child of its own that wants what was cleaned."""
        self._cleaner.settle()
