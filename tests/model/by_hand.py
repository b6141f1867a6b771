"""Goes through scenes of the model that take too long for a test.

    python -m tests.model.by_hand [--most-states N] [SCENE]...

Without names: all that the tests leave out, but "all of them" at once, of which only the nearest
states can be looked at. Seen on two cores of a small server, each gone through to its end:

    two pushes, gc                          1,359,007 states   39.0 s
    two pushes, gc, no heals                  881,122 states    6.4 s
    push, two gc                              520,358 states    5.1 s
    push, forget, repack, gc once, no heals   747,690 states    5.1 s
    push, forget, two gc, no heals            227,806 states    2.1 s
    push, two gc that take turns, no heals  1,908,761 states    9.2 s
"""

import argparse
import sys
import time

from tests.model.explore import explore
from tests.model.scenes import SCENES

ENDLESS = "all of them"


def main() -> int:
    """Search the scenes that were named; 1 if one of them has a wrong state."""
    parser = argparse.ArgumentParser(description="search scenes of the push and gc model")
    parser.add_argument("--most-states", type=int, help="look at so many of each scene at most")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scenes if name not in SCENES]
    if unknown:
        parser.error(f"no such scene: {unknown[0]}")
    slow = [name for name, scene in SCENES.items() if not scene.quick and name != ENDLESS]
    failed = False
    for name in arguments.scenes or slow:
        scene = SCENES[name]
        start = time.monotonic()
        found = explore(scene.model, scene.watches, arguments.most_states)
        print(f"{name}: {found} ({time.monotonic() - start:.1f} s)", flush=True)
        failed = failed or found.wrong is not None
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
