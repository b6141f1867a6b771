"""Make every hostile repository and bucket: python -m tests.hostile.make FOLDER

FOLDER gets `repositories/NAME`, each a git repository, and `buckets/NAME`, each with a `repository`
and the folder that is its `remote`; what each holds is listed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.hostile import buckets, repositories

_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Nobody"), ("EMAIL", "nobody@example.org"))
}


def main(words: Sequence[str]) -> None:
    """Make them all and say what they are."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile.make",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(words).folder.resolve()
    os.environ |= _NOBODY
    for name, make in repositories.HOSTILE.items():
        place = folder / "repositories" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        print(f"{place}: {repositories.describe(make)}")
    for name, (text, make_bucket) in buckets.HOSTILE.items():
        place = folder / "buckets" / name
        place.mkdir(parents=True)
        made = make_bucket(place)
        made.repository.revfs("-q", "remote", "add", "--local", "-d", "hostile", str(made.remote))
        print(f"{place}: {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
