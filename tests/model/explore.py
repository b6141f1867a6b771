"""Goes through every state that a model can come to, and shows the shortest way to a wrong one.

A state is the bucket and how far each actor is. From each state every actor may make its next call
or crash before it, and time may go on; states that were seen are not looked at again. The search
goes breadth first, so that the trace it shows has the fewest steps.

Every interleaving is there. States are one only where nothing can ever tell them apart: collectors
of one name are known by what they remember; what is forgotten where it is of no more use has no
age or value; the lease of a writer that crashed goes where no rule can heed it.

Buckets and memories recur in many states, so each has a number, a state is a tuple of numbers, and
what an actor does in a bucket is worked out once.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tests.model.bucket import EVERYTHING, Bucket, Rules, Watch, find_fault
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


@dataclass(frozen=True, slots=True)
class Model:
    """Who is there, in which bucket, by which rules."""

    rules: Rules
    bucket: Bucket
    actors: tuple[Actor, ...]

    def moves(self, actor: Actor, bucket: Bucket, local: Any) -> Iterator[Step]:
        """What an actor may do next, or have happen to it."""
        if local is None:
            return
        yield from actor.steps(bucket, local)
        left = actor.crash(local)
        after = bucket
        if left is None and isinstance(actor, Writer) and not self.rules.dead_leases_count:
            after = bucket.without_lease(actor.name)
        yield Step(f"{actor.name}: crashes", after, left)


@dataclass(frozen=True, slots=True)
class Finding:
    """How many states there are, or were until a wrong one was met: then what is wrong, and the
    steps that lead there."""

    states: int
    wrong: str | None = None
    trace: tuple[str, ...] = ()
    complete: bool = True

    def __str__(self) -> str:
        if self.wrong is None:
            end = "" if self.complete else ", and more that were not looked at"
            return f"{self.states} states, all as they should be{end}"
        steps = [f"{number:3} {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([*steps, f"    => {self.wrong}", f"    ({self.states} states seen)"])


TICK = "a tick goes by"
"""The label of time going on."""

State = tuple[int, ...]
"""The number of the bucket, then that of what each actor remembers."""


def explore(
    model: Model, watches: Sequence[Watch] = EVERYTHING, most_states: int | None = None
) -> Finding:
    """Look at all states of `model`, or at the nearest `most_states`, until a watch finds one
    wrong."""
    space = _Space(model, tuple(watches))
    first = space.first()
    came_from: dict[State, State | None] = {first: None}
    ahead = deque([first])
    while ahead:
        if most_states is not None and len(came_from) >= most_states:
            return Finding(len(came_from), complete=False)
        state = ahead.popleft()
        for after in space.following(state):
            if after not in came_from:
                came_from[after] = state
                ahead.append(after)
        if space.fault is not None:
            last, wrong = space.fault
            return Finding(len(came_from), wrong, (*_trace(space, came_from, state), last))
    return Finding(len(came_from))


def _trace(
    space: "_Space", came_from: dict[State, State | None], state: State | None
) -> tuple[str, ...]:
    labels = []
    while state is not None and (before := came_from[state]) is not None:
        labels.append(space.label(before, state))
        state = before
    return tuple(reversed(labels))


T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Numbers(Generic[T]):
    """Things in the order in which they were first met."""

    things: list[T] = field(default_factory=list)
    numbers: dict[T, int] = field(default_factory=dict)

    def number(self, thing: T) -> int:
        found = self.numbers.get(thing)
        if found is None:
            found = self.numbers[thing] = len(self.things)
            self.things.append(thing)
        return found


class _Space:
    """The states of a model by number, each thing that can happen worked out once."""

    def __init__(self, model: Model, watches: tuple[Watch, ...]) -> None:
        self.model = model
        self.watches = watches
        self.buckets: _Numbers[Bucket] = _Numbers()
        # Actors that are alike in all share their numbers, and stand next to each other.
        alike: dict[Actor, _Numbers[Any]] = {}
        self.memories = [alike.setdefault(actor, _Numbers()) for actor in model.actors]
        self.twins = [n for n, m in enumerate(self.memories) if self.memories.count(m) > 1]
        self._moves: list[dict[tuple[int, int], list[tuple[int, int]]]] = [{} for _ in model.actors]
        self._older: dict[int, int] = {}
        self._ticks: list[dict[int, int]] = [{} for _ in model.actors]
        # A step that is wrong, and what is wrong with it; it was the last that was worked out.
        self.fault: tuple[str, str] | None = None

    def first(self) -> State:
        """Nobody has done anything yet."""
        starts = zip(self.memories, self.model.actors, strict=True)
        locals_ = [numbers.number(actor.start()) for numbers, actor in starts]
        return (self.buckets.number(self.model.bucket), *locals_)

    def following(self, state: State) -> list[State]:
        """Every next state."""
        bucket = state[0]
        found = []
        for number, moves in enumerate(self._moves):
            local = state[number + 1]
            ends = moves.get((bucket, local))
            if ends is None:
                ends = moves[bucket, local] = self._work_out(number, bucket, local)
            head, tail = state[1 : number + 1], state[number + 2 :]
            if number in self.twins:
                found += [self._in_order((b, *head, then, *tail)) for b, then in ends]
            else:
                found += [(b, *head, then, *tail) for b, then in ends]
        found.append(self._later(state))
        return found

    def _work_out(self, number: int, bucket: int, local: int) -> list[tuple[int, int]]:
        ends = []
        for step in self._steps(number, bucket, local):
            self._watch(step.label, self.buckets.things[bucket], step.bucket)
            then = self.memories[number].number(step.local)
            ends.append((self.buckets.number(step.bucket), then))
        return ends

    def _watch(self, label: str, before: Bucket, after: Bucket) -> None:
        """Keep what the first watch says that finds fault with this step."""
        if after is not before and self.fault is None:
            wrong = find_fault(self.watches, self.model.rules, before, after)
            self.fault = None if wrong is None else (label, wrong)

    def _steps(self, number: int, bucket: int, local: int) -> Iterator[Step]:
        actor, memory = self.model.actors[number], self.memories[number].things[local]
        return self.model.moves(actor, self.buckets.things[bucket], memory)

    def _in_order(self, state: State) -> State:
        """Twins by what they remember, since nothing else tells them apart."""
        ordered = iter(sorted(state[n + 1] for n in self.twins))
        return (
            state[0],
            *(next(ordered) if n in self.twins else x for n, x in enumerate(state[1:])),
        )

    def _later(self, state: State) -> State:
        bucket = self._older.get(state[0])
        if bucket is None:
            before = self.buckets.things[state[0]]
            older = before.older(self.model.rules)
            self._watch(TICK, before, older)
            bucket = self._older[state[0]] = self.buckets.number(older)
        locals_ = []
        for number, local in enumerate(state[1:]):
            then = self._ticks[number].get(local)
            if then is None:
                memory = self.memories[number].things[local]
                ticked = None if memory is None else self.model.actors[number].tick(memory)
                then = self._ticks[number][local] = self.memories[number].number(ticked)
            locals_.append(then)
        after = (bucket, *locals_)
        return self._in_order(after) if self.twins else after

    def label(self, before: State, after: State) -> str:
        """What leads from a state to the next, in words."""
        for number in range(len(self.memories)):
            for step in self._steps(number, before[0], before[number + 1]):
                then = self.memories[number].number(step.local)
                changed = (*before[1 : number + 1], then, *before[number + 2 :])
                reached = (self.buckets.number(step.bucket), *changed)
                if after in (reached, self._in_order(reached)):
                    return step.label
        return TICK
