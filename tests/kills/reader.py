"""Reads, in a process of its own, all that a repository holds, and prints what it read.

    python -m tests.kills.reader REVISION...

One JSON object: how long the tables took to open, the hash of every tracked file of each revision
by its path, and of every file that git's index names (under ""); or the error that it met.
"""

import hashlib
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import trio

from cli.console import App, Console
from cli.settings import load_settings
from cli.stores import store_settings
from store.directories import TRACKED_KINDS
from store.errors import StoreError
from store.git_command import run_git
from store.local_store import LocalStore
from store.opening import open_reading
from store.pointer import Pointer, parse_pointer

Files = dict[str, Pointer]


def main() -> None:
    """Do it for the repository that this runs in."""
    settings = load_settings(App(Console(), Path.cwd(), False, os.environ))
    start = time.monotonic()
    with LocalStore(store_settings(settings), to_write=False) as local:
        seconds = time.monotonic() - start
        wanted = {revision: _files_of(local, revision) for revision in sys.argv[1:]}
        wanted[""] = _files_of_index(local)
        found = trio.run(partial(_read, local, wanted))
    json.dump({"open_seconds": seconds, "files": found}, sys.stdout)


def _files_of(local: LocalStore, text: str) -> Files:
    revision = local.repository.resolve(text)
    return {
        os.fsdecode(path): entry.pointer
        for path, entry in local.directories.walk_new(revision.tree, set())
        if entry.kind in TRACKED_KINDS
    }


def _files_of_index(local: LocalStore) -> Files:
    top = local.settings.paths.work_tree
    lines = run_git(["ls-files", "--stage", "-z"], cwd=top).split(b"\0")[:-1]
    found = {}
    for line in lines:
        facts, _, path = line.partition(b"\t")
        pointer = parse_pointer(
            local.repository.load_blob(bytes.fromhex(facts.split()[1].decode()))
        )
        if pointer is not None:
            found[os.fsdecode(path)] = pointer
    return found


async def _read(local: LocalStore, wanted: dict[str, Files]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    known: dict[Pointer, str] = {}
    async with open_reading(local, None) as reading:
        for revision, files in wanted.items():
            found[revision] = {}
            for path, pointer in files.items():
                if pointer not in known:
                    try:
                        content = await reading.contents.read(pointer, 0, pointer.size)
                        known[pointer] = hashlib.sha256(content).hexdigest()
                    except StoreError as error:
                        known[pointer] = f"{type(error).__name__}: {error}"
                found[revision][path] = known[pointer]
    return found


if __name__ == "__main__":
    main()
