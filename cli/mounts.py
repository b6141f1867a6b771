"""`revfs mounts`: what is mounted."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from cli.console import App, format_bytes
from cli.options import JSON
from cli.stores import open_mount_records
from store import byte_ranges
from store.cache_index import CacheIndex
from store.errors import StoreError
from store.ids import GitId
from store.local_folders import make_private_folder
from store.manifests import parse_manifest
from store.messages import Kind
from vfs.keeper_client import KeeperClient
from vfs.mount_records import MountRecord

# A keeper that does not answer in that time is not waited for.
_ASK_SECONDS = 1.0


class _Warming(NamedTuple):
    """Bytes of files that are here, and that are wanted in all as far as that is known."""

    done_bytes: int
    wanted_bytes: int


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of the list: `cached_bytes` is what the cache holds of the commit's packs; `warming`
    how far the mount is with what it warms, None where it warms nothing."""

    record: MountRecord
    state: str
    cached_bytes: int
    warming: _Warming | None


@click.command("mounts")
@JSON
@click.pass_obj
def command(app: App, as_json: bool) -> None:
    """List the mounted revisions of this user: where, which commit, the process, how much of the
    commit's data is cached, and how much this mount has fetched.

    A mount that moved with its folder is listed where it is now. "detached" is one that is out of
    the tree, but still in use; "repository gone" one whose repository is not where it was;
    "warming" one that fetches ahead of need.

    \b
    Example:
      revfs mounts
    """
    mounts = [_look_at(record) for record in open_mount_records(app).load_all()]
    if as_json:
        app.console.out_json([_as_json(mount) for mount in mounts])
    elif mounts:
        app.console.table(
            ["MOUNTPOINT", "REVISION", "COMMIT", "PID", "STATE", "CACHED", "FETCHED"],
            [_as_row(mount) for mount in mounts],
        )
    else:
        app.console.say("nothing is mounted")


def _look_at(record: MountRecord) -> _Mount:
    state = record.state()
    warming = _ask_for_warming(record) if record.control and record.is_alive() else None
    try:
        cached_bytes = _load_cached_bytes(record)
    except StoreError:
        # A cache that cannot be used holds nothing.
        cached_bytes = 0
    return _Mount(record, state, cached_bytes, warming)


def _ask_for_warming(record: MountRecord) -> _Warming | None:
    try:
        with KeeperClient(Path(record.control), _ASK_SECONDS) as keeper:
            warmings = keeper.ask(Kind.WARMINGS)["warmings"]
    except StoreError:
        # One that is busy, or of another version, is listed all the same.
        return None
    under_way = [facts for facts in warmings if not facts["has_ended"]]
    if not under_way:
        return None
    done_bytes = sum(facts["done_bytes"] for facts in under_way)
    return _Warming(done_bytes, sum(facts["wanted_bytes"] or 0 for facts in under_way))


def _load_cached_bytes(record: MountRecord) -> int:
    if not record.store or not record.repository or not record.commit:
        return 0
    index = CacheIndex(make_private_folder(Path(record.cache_directory) / "index"))
    try:
        raw = index.load_manifest(record.store, record.repository, GitId(record.commit))
        packs = () if raw is None else parse_manifest(raw).packs
        return sum(byte_ranges.total(index.load_ranges(pack)) for pack in packs)
    finally:
        index.close()


def _as_row(mount: _Mount) -> list[str | bytes | int]:
    record = mount.record
    return [
        record.mountpoint,
        record.title,
        record.commit[:12] or "-",
        record.pid,
        mount.state if mount.warming is None else f"{mount.state}, warming",
        format_bytes(mount.cached_bytes),
        format_bytes(record.fetched_bytes),
    ]


def _as_json(mount: _Mount) -> dict[str, object]:
    record = mount.record
    return {
        "mountpoint": record.mountpoint,
        "kind": record.kind,
        "revision": record.revision or None,
        "commit": record.commit or None,
        "git_dir": record.git_dir,
        "pid": record.pid,
        "state": mount.state,
        "cached_bytes": mount.cached_bytes,
        "fetched_bytes": record.fetched_bytes,
        "warming": None if mount.warming is None else mount.warming._asdict(),
        "log": record.log,
    }
