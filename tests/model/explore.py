"""Goes through every state that a model can come to, and shows the shortest way to a wrong one.

A state is the bucket and how far each actor is. From each state every actor may make its next call
or crash before it, and time may go on; states that were seen are not looked at again. The search
goes breadth first, so that the trace it shows has the fewest steps.

Every interleaving is there. States are one only where nothing can ever tell them apart: collectors
of one name are known by what they remember; what is forgotten where it is of no more use has no
age or value; the lease of a writer that crashed goes where no rule can heed it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tests.model.bucket import EVERYTHING, Bucket, Rules, Watch
from tests.model.removers import Collecting, Collector
from tests.model.writers import Step, Writer


class Actor(Protocol):
    """A machine whose steps are single calls of the remote. What it remembers between them (None
    once it has ended) is apart from it, and hashable."""

    @property
    def name(self) -> str:
        """How traces name it."""
        ...

    def start(self) -> Any:
        """What it knows before its first step."""
        ...

    def crash(self, local: Any) -> Any:
        """What is left of that after a crash."""
        ...

    def tick(self, local: Any) -> Any:
        """The same, a tick later."""
        ...

    def steps(self, bucket: Bucket, local: Any) -> Iterator[Step]:
        """The calls that it may make next."""
        ...


class State(NamedTuple):
    """The bucket, and what each actor remembers; None for one that has ended or crashed."""

    bucket: Bucket
    locals: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """Who is there, in which bucket, by which rules."""

    rules: Rules
    bucket: Bucket
    actors: tuple[Actor, ...]

    def first(self) -> State:
        """Nobody has done anything yet."""
        return State(self.bucket, tuple(actor.start() for actor in self.actors))

    def following(self, state: State) -> Iterator[tuple[str, State]]:
        """Every next state, and what was done."""
        bucket, memories = state
        for number, actor in enumerate(self.actors):
            local = memories[number]
            if local is None:
                continue
            for label, after, then in actor.steps(bucket, local):
                yield label, State(after, self._with(memories, number, then))
            left = actor.crash(local)
            after = bucket
            if left is None and isinstance(actor, Writer) and not self.rules.dead_leases_count:
                after = bucket.without_lease(actor.name)
            yield f"{actor.name}: crashes", State(after, self._with(memories, number, left))
        later = tuple(
            None if local is None else actor.tick(local)
            for actor, local in zip(self.actors, memories, strict=True)
        )
        yield "a tick goes by", State(bucket.older(self.rules), later)

    def _with(self, memories: tuple[Any, ...], number: int, local: Any) -> tuple[Any, ...]:
        """`memories` with one changed; those of collectors, which are alike, in order."""
        changed = (*memories[:number], local, *memories[number + 1 :])
        mine = self.actors[number]
        if not isinstance(mine, Collector):
            return changed
        alike = [n for n, actor in enumerate(self.actors) if actor == mine]
        ordered = iter(sorted((changed[n] for n in alike), key=_collector_key))
        return tuple(next(ordered) if n in alike else x for n, x in enumerate(changed))


@dataclass(frozen=True, slots=True)
class Finding:
    """How many states there are, or were until a wrong one was met: then what is wrong, and the
    steps that lead there."""

    states: int
    wrong: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.wrong is None:
            return f"{self.states} states, all as they should be"
        steps = [f"{number:3} {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([*steps, f"    => {self.wrong}", f"    ({self.states} states seen)"])


def explore(model: Model, watches: Sequence[Watch] = EVERYTHING) -> Finding:
    """Look at all states of `model`, until a watch finds one wrong."""
    first = model.first()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    ahead = deque([first])
    while ahead:
        state = ahead.popleft()
        for label, after in model.following(state):
            if after in came_from:
                continue
            came_from[after] = (state, label)
            if after.bucket is not state.bucket:
                for watch in watches:
                    wrong = watch(model.rules, state.bucket, after.bucket)
                    if wrong is not None:
                        return Finding(len(came_from), wrong, _trace(came_from, after))
            ahead.append(after)
    return Finding(len(came_from))


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels = []
    while (before := came_from[state]) is not None:
        state, label = before
        labels.append(label)
    return tuple(reversed(labels))


def _collector_key(local: Collecting | None) -> tuple[Any, ...]:
    if local is None:
        return ()
    outdated = [sorted(index) for index in local.outdated]
    return (*local._replace(outdated=()), outdated)
