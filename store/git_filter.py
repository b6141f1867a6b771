"""GitFilter: cleaning and smudging for one run of git, joined."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from store.clean import Cleaner
from store.config_keys import SmudgePolicy
from store.filter_protocol import ContentStream
from store.local_store import LocalStore

if TYPE_CHECKING:
    from store.smudge import Smudger


class GitFilter:
    """The FilterWork of one repository. Belongs to one thread."""

    def __init__(
        self, local: LocalStore, policy: SmudgePolicy, jobs: int, check_listener: Callable[[], None]
    ) -> None:
        """`local` must be open to write; see Cleaner for `jobs`, Smudger for `check_listener`."""
        self._local = local
        self._policy = policy
        self._check_listener = check_listener
        self._cleaner = Cleaner(local, jobs)

    def __enter__(self) -> "GitFilter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._cleaner.close()
        finally:
            if self._has_smudged:
                self._smudger.close()

    @cached_property
    def _smudger(self) -> "Smudger":
        # Imported when it is needed: git add and git status do not, and are waited for.
        from store.smudge import Smudger

        return Smudger(self._local, self._policy, self._check_listener)

    @property
    def _has_smudged(self) -> bool:
        return "_smudger" in self.__dict__

    @property
    def left_as_pointers(self) -> int:
        """How many files stayed pointers since their data is not here or not to be had."""
        return self._smudger.left_as_pointers if self._has_smudged else 0

    @property
    def too_large(self) -> int:
        """How many stayed pointers since git would hold all of their data in memory."""
        return self._smudger.too_large if self._has_smudged else 0

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
