"""Plays the code call by call for as long as somebody likes: python -m tests.model.play_by_hand N

Of N plays (200 unless told otherwise) each has a seed, which is printed where something is wrong.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import trio
from trio.testing import MockClock

from tests.model.real_steps import Stage, make_template, staged
from tests.model.test_real_steps import ACTORS

_CHOICES = 400


async def _play(stage: Stage, dice: random.Random) -> None:
    order = list(ACTORS)
    dice.shuffle(order)
    await stage.prepare()
    for name in ("gc-forget", *order):
        stage.add(name)
    await stage.play(iter([dice.randrange(300) for _ in range(_CHOICES)]))


def main(plays: int) -> None:
    """Play, and say how often each came to which end."""
    outcomes: Counter[str] = Counter()
    calls = 0
    with tempfile.TemporaryDirectory() as folder:
        template = make_template(Path(folder) / "template")
        for seed in range(plays):
            with (
                tempfile.TemporaryDirectory(dir=folder) as place,
                staged(template, Path(place)) as stage,
            ):
                try:
                    trio.run(_play, stage, random.Random(seed), clock=MockClock())
                except BaseException:
                    print(f"seed {seed}:", *stage.log, sep="\n  ")
                    raise
                calls += len(stage.bucket.calls)
                outcomes.update(task.outcome[:60] for task in stage.tasks)
    print(f"{plays} plays, {calls:,} calls; nothing was lost")
    for outcome, count in outcomes.most_common():
        print(f"{count:7,}  {outcome}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
