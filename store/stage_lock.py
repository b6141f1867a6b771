r"""`revfs.lock`: the committed record of the stages of a repository.

A plain file of git's at the top of the work tree, made to be read and merged by people:

    {
      "stages": {
        "NAME": {
          "at": "<commit id; only where it was run on a revision>",
          "command": ["WORD", ...],
          "dependencies": {"PATH": "<git id>", ...},
          "outputs": {"PATH": "<git id>", ...},
          "plain_outputs": {"PATH": "<git id>", ...}
        }
      },
      "version": 1
    }

JSON, written with sorted keys, an indent of 2 and in ASCII; bytes of a name that are no UTF-8 are
`\udc80` to `\udcff`, as Python's surrogateescape has it. Read strictly: an unknown version or
field, and a path or id that can be none, is refused whole.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from store.errors import MalformedObject, PathRefused, UnsupportedVersion
from store.git import GitRepository
from store.git_index import MODE_FILE, IndexChange
from store.ids import GitId
from store.local_folders import make_private_folder
from store.pointer import parse_pointer
from store.stages import LOCK_FILE, Stage, StageRecord, check_stage

VERSION = 1
# Far above any real file; a clone must not make every run parse a gigabyte.
_MOST_BYTES = 16 << 20
_ID = re.compile(r"[0-9a-f]{40}")
_FIELDS = {"command", "dependencies", "outputs", "plain_outputs"}
_NAME = LOCK_FILE.decode()


def encode_lock(records: Mapping[str, StageRecord]) -> bytes:
    """The text of `revfs.lock` for these stages; the same for the same stages."""
    stages = {name: _as_json(record) for name, record in records.items()}
    text = json.dumps({"stages": stages, "version": VERSION}, sort_keys=True, indent=2)
    return text.encode("ascii") + b"\n"


def _as_json(record: StageRecord) -> dict[str, object]:
    stage, ids = record.stage, record.output_ids
    fields: dict[str, object] = {
        "command": list(stage.command),
        "dependencies": {os.fsdecode(p): i for p, i in record.dependency_ids.items()},
        "outputs": {os.fsdecode(path): ids[path] for path in stage.outputs},
        "plain_outputs": {os.fsdecode(path): ids[path] for path in stage.plain_outputs},
    }
    return fields if stage.at is None else fields | {"at": stage.at}


def parse_lock(raw: bytes) -> dict[str, StageRecord]:
    """The stages by name. Raises MalformedObject for what is not a `revfs.lock`, and
    UnsupportedVersion for one that a later revfs wrote."""
    if b"\n<<<<<<< " in raw or raw.startswith(b"<<<<<<< "):
        raise _malformed(
            "it is in conflict: keep the lines of one side, or take all of one with "
            f"git checkout --ours {_NAME}, and run the stages again"
        )
    if parse_pointer(raw) is not None:
        raise _malformed(
            f"it was added as data: take what marks it out of .gitattributes, and git add {_NAME} "
            "where it is a file"
        )
    try:
        found = json.loads(raw, object_pairs_hook=_object_of_pairs)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"it is not JSON: {error}") from error
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise UnsupportedVersion(f"{_NAME} has the version {version}: use a newer revfs")
    if (
        not isinstance(found, dict)
        or found.keys() != {"stages", "version"}
        or version is not VERSION
    ):
        raise _malformed("it does not hold stages and a version")
    stages = _mapping(found["stages"], "the stages")
    return {name: _parse_stage(name, fields) for name, fields in stages.items()}


def _object_of_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice in one object")
    return found


def _parse_stage(name: str, value: object) -> StageRecord:
    fields = _mapping(value, f"the stage {name}")
    if fields.keys() - {"at"} != _FIELDS:
        raise _malformed(f"the stage {name} does not have the fields it should have")
    command = fields["command"]
    if not isinstance(command, list) or not all(_is_word(word) for word in command):
        raise _malformed(f"the command of the stage {name} is not a list of words")
    dependencies = _parse_ids(name, fields["dependencies"])
    outputs = _parse_ids(name, fields["outputs"])
    plain = _parse_ids(name, fields["plain_outputs"])
    at = _parse_id(name, fields["at"]) if "at" in fields else None
    stage = Stage(name, tuple(command), at, tuple(dependencies), tuple(outputs), tuple(plain))
    check_stage(stage)
    return StageRecord(stage, dependencies, outputs | plain)


def _is_word(word: object) -> bool:
    return isinstance(word, str) and "\0" not in word and _is_encodable(word)


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} is not an object")
    return value


def _parse_ids(name: str, value: object) -> dict[bytes, GitId]:
    ids = _mapping(value, f"a list of paths of the stage {name}")
    return {_parse_path(name, path): _parse_id(name, text) for path, text in ids.items()}


def _parse_path(name: str, text: str) -> bytes:
    """A path that can only mean a place inside the work tree."""
    path = os.fsencode(text) if _is_encodable(text) else b"\0"
    parts = path.split(b"/") if path else []
    if b"\0" in path or any(part.lower() in (b"", b".", b"..", b".git") for part in parts):
        raise _malformed(f"the stage {name} has a path that is none")
    return path


def _parse_id(name: str, value: object) -> GitId:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _malformed(f"the stage {name} has a git id that is none")
    return GitId(value)


def _malformed(why: str) -> MalformedObject:
    return MalformedObject(f"{_NAME} cannot be used: {why}")


def load_lock(work_tree: Path) -> dict[str, StageRecord]:
    """The recorded stages of a work tree by name; none where there is no `revfs.lock`.

    Raises MalformedObject, UnsupportedVersion, and PathRefused for one that is no plain file.
    """
    path = work_tree / _NAME
    try:
        status = path.lstat()
    except FileNotFoundError:
        return {}
    if not stat.S_ISREG(status.st_mode):
        raise PathRefused(f"{path} is not a plain file, so it is neither read nor written")
    if status.st_size > _MOST_BYTES:
        raise _malformed(f"it is over {_MOST_BYTES} bytes: not believable")
    return parse_lock(path.read_bytes())


def change_lock(
    repository: GitRepository, work_tree: Path, name: str, record: StageRecord | None
) -> None:
    """Put the record of a stage in place of what `revfs.lock` has for it, or take it out, and stage
    the file in git's index. Others may record other stages at the same time.

    The file is replaced whole; killed before git's index has it, it is a change like any other.
    """
    with _only_one(repository.paths.state_dir):
        records = load_lock(work_tree)
        records.pop(name, None)
        if record is not None:
            records[name] = record
        text = encode_lock(records)
        path = work_tree / _NAME
        _replace(path, text, repository.paths.git_dir)
        (blob,) = repository.write_blobs([text])
        repository.index.write([IndexChange(LOCK_FILE, MODE_FILE, blob, path.lstat())])


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    make_private_folder(state_dir)
    with (state_dir / "run.lock").open("w") as lock:
        # Held for a moment only, so that whoever ran for hours waits for it.
        flock(lock, LOCK_EX)
        yield


def _replace(path: Path, content: bytes, git_dir: Path) -> None:
    # Made in the git directory: a kill in between must leave nothing in the work tree. On another
    # file system it would take more than one step from there.
    near = git_dir.stat().st_dev == path.parent.stat().st_dev
    temporary = git_dir / "revfs-lock.tmp" if near else path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        # "x" never follows a link, as a commit might hold one.
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
