"""Random walks through a model that has too many states to go through all of them.

They prove nothing, but come to orders of steps in which all actors take part.
"""

import random
from collections.abc import Sequence

from tests.model.bucket import EVERYTHING, Watch, find_fault
from tests.model.explore import TICK, Finding, Model

_STEPS = 400
# Actors make most of their steps, so that walks come to an end now and then.
_CRASHES = 0.01
_TICKS = 0.06


def walk(model: Model, watches: Sequence[Watch] = EVERYTHING, seed: int = 0) -> Finding:
    """One walk, the same for the same seed, until all have ended or a watch finds fault."""
    chance = random.Random(seed)
    bucket = model.bucket
    memories = [actor.start() for actor in model.actors]
    trace: list[str] = []
    while len(trace) < _STEPS and any(local is not None for local in memories):
        before = bucket
        if chance.random() < _TICKS:
            bucket = bucket.older(model.rules)
            pairs = zip(model.actors, memories, strict=True)
            memories = [None if x is None else actor.tick(x) for actor, x in pairs]
            trace.append(TICK)
        else:
            number = chance.choice([n for n, local in enumerate(memories) if local is not None])
            *calls, crash = model.moves(model.actors[number], bucket, memories[number])
            step = crash if chance.random() < _CRASHES else chance.choice(calls)
            bucket, memories[number] = step.bucket, step.local
            trace.append(step.label)
        wrong = find_fault(watches, model.rules, before, bucket)
        if wrong is not None:
            return Finding(len(trace), wrong, tuple(trace))
    return Finding(len(trace))
