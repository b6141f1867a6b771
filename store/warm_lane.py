"""WarmLane: the steps of a warming under way, a few at a time, and what became of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from store.errors import StoreError
from store.shown_names import escape_name
from store.warm_plan import WarmStep

_STEPS_AT_ONCE = 2
# How long an order rests when the remote, or the disk, is in trouble.
_PAUSE_SECONDS = 10.0
_MOST_FAILED = 10_000


@dataclass(slots=True)
class WarmState:
    """How far a warming is. `wanted_bytes` and `done_bytes` are of files; the former is None until
    they are counted. `failed` has the paths that could not be had, the first some thousand; `error`
    is why the first could not, or why all ended. `held_bytes` are those that the cache has, or will
    have, of what was planned."""

    files: int = 0
    wanted_bytes: int | None = None
    done_bytes: int = 0
    fetched_bytes: int = 0
    held_bytes: int = 0
    failed: set[bytes] = field(default_factory=set)
    error: str = ""
    has_ended: bool = False

    def note_failure(self, paths: Iterable[bytes], error: StoreError) -> None:
        """These files cannot be had whole."""
        for path in paths:
            self.error = self.error or f"{escape_name(path)}: {error}"
            if len(self.failed) < _MOST_FAILED:
                self.failed.add(path)

    def note_end(self, error: StoreError) -> None:
        """All ends here."""
        self.error = self.error or str(error)


class WarmLane:
    """Steps of one warming. `patient` is one that rests where the remote or the disk is in trouble,
    and then goes on; others end."""

    def __init__(
        self,
        bring: Callable[[WarmStep, "WarmLane"], Awaitable[None]],
        state: WarmState,
        *,
        patient: bool = False,
    ) -> None:
        self._bring = bring
        self.state = state
        self.is_patient = patient
        # Whether the remote may still be asked for what no table knows.
        self.may_learn = True
        self._places = trio.Semaphore(_STEPS_AT_ONCE)
        self._rests_until = 0.0
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take steps while the context lasts; then wait for them. A StoreError in it ends all."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                try:
                    yield
                except StoreError as error:
                    self.end(error)

    async def add(self, step: WarmStep) -> None:
        """Begin a step, when there is a place for it."""
        assert self._nursery is not None
        await trio.sleep_until(self._rests_until)
        if step.runs:
            await self._places.acquire()
            self._nursery.start_soon(self._run, step)

    def end(self, error: StoreError) -> None:
        """End all of it because of that."""
        self.state.note_end(error)
        self._scope.cancel()

    def meet_trouble(self, error: StoreError) -> None:
        """The remote or the disk cannot do what it should, for now."""
        if not self.is_patient:
            self.end(error)
        self._rests_until = trio.current_time() + _PAUSE_SECONDS

    async def _run(self, step: WarmStep) -> None:
        try:
            await self._bring(step, self)
        finally:
            self._places.release()
