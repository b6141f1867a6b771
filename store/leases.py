"""Leases: who is at work in a remote, or reads from it, told by records in the remote itself.

A lease is one small object that its owner writes before he looks at the remote, and deletes when he
is done. How old it is only the clock of the remote says (`modified_seconds` of its list), so that
nobody has to trust another's clock; how long it still holds its owner knows by a clock of his own
that goes on while the machine sleeps.

    revfs-lease 1
    {"holds":[…],"host":…,"kind":"write"|"collect"|"hold","owner":…,"tool":…}
    blake3 …
"""

import logging
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path

import trio

from store.clocks import Clock
from store.concurrency import run_all
from store.errors import (
    MalformedObject,
    ObjectMissing,
    RemoteError,
    RemoteMisconfigured,
    StoreError,
)
from store.ids import is_git_id, is_repository_id
from store.remote import LEASES_PREFIX, ObjectInfo, Remote, lease_key, parse_lease_key
from store.sealed_text import check_fields, seal, text_field, texts_field, unseal

log = logging.getLogger(__name__)

MAX_LEASE_BYTES = 1 << 20
MOST_CLOCK_DIFFERENCE_SECONDS = 300.0
"""A machine whose clock is further from the remote's than this does not write there."""

_VERSION = 1
_KIND = "lease"
_FIELDS = ("kind", "owner", "host", "holds", "tool")
_MOST_TEXT = 200
_DELETES_AT_ONCE = 16
# Nobody who has interrupted a push waits longer for a remote that does not answer.
_DROP_SECONDS = 3.0


class LeaseKind(StrEnum):
    """What its owner does: write a manifest, collect what nobody needs, or read (hold)."""

    WRITE = "write"
    COLLECT = "collect"
    HOLD = "hold"

    @property
    def life_seconds(self) -> float:
        """How long a lease of this kind counts after it was written last."""
        return 3600.0 if self is LeaseKind.COLLECT else 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease says. `owner` tells one process from all others (empty where it cannot be told),
    `host` is for people, and `holds` are the commits that a reader needs, as repository/commit,
    sorted. Raises MalformedObject if made of anything else."""

    kind: LeaseKind
    owner: str
    host: str
    holds: tuple[str, ...]
    tool: str

    def __post_init__(self) -> None:
        for text in (self.owner, self.host, self.tool):
            if len(text) > _MOST_TEXT or not (text.isascii() and text.isprintable()):
                raise MalformedObject("a field of a lease is not a short plain text")
        if list(self.holds) != sorted(set(self.holds)):
            raise MalformedObject("what a lease holds is out of order or repeats itself")
        for held in self.holds:
            repository, _, commit = held.partition("/")
            if not (is_repository_id(repository) and is_git_id(commit)):
                raise MalformedObject("a lease holds something that is no commit")


def new_lease(kind: LeaseKind, tool: str, holds: Sequence[str] = ()) -> Lease:
    """A lease of this process."""
    host = "".join(c for c in socket.gethostname() if c.isascii() and c.isprintable())
    return Lease(kind, _process_name(), host[:_MOST_TEXT], tuple(sorted(set(holds))), tool)


def encode_lease(lease: Lease) -> bytes:
    """The sealed record of a lease."""
    return seal(_KIND, _VERSION, {name: getattr(lease, name) for name in _FIELDS})


def parse_lease(raw: bytes) -> Lease:
    """The lease that was written so. Raises UnsupportedVersion or MalformedObject."""
    payload = unseal(_KIND, _VERSION, raw)
    check_fields(_KIND, payload, _FIELDS)
    kind = text_field(_KIND, payload, "kind")
    if kind not in list(LeaseKind):
        raise MalformedObject("a lease is of an unknown kind")
    owner, host, tool = (text_field(_KIND, payload, name) for name in ("owner", "host", "tool"))
    return Lease(LeaseKind(kind), owner, host, texts_field(_KIND, payload, "holds"), tool)


class HeldLease:
    """A lease of this process, which is in the remote.

    `now_seconds` is the time by the remote's clock, never later than it is there. Past its end its
    owner makes no more calls that change anything: `require` raises.
    """

    def __init__(
        self,
        remote: Remote,
        lease: Lease,
        key: str,
        put_at: float,
        clock: Clock,
    ) -> None:
        self.key = key
        self._remote = remote
        self._lease = lease
        self._put_at = put_at
        self._clock = clock
        self._seen_seconds = 0.0
        self._seen_at = 0.0

    def note_time(self, modified_seconds: float, put_done_at: float) -> None:
        """Take note of what the remote's list says when the lease was written, and when, by the
        clock here, that was over."""
        self._seen_seconds, self._seen_at = modified_seconds, put_done_at

    @property
    def now_seconds(self) -> float:
        """Seconds since 1970 by the clock of the remote, never later than it is there."""
        return self._seen_seconds + self._clock.running() - self._seen_at

    @property
    def remaining_seconds(self) -> float:
        """How long this process may still rely on it; not above 0 once that is over."""
        return self._lease.kind.life_seconds - (self._clock.running() - self._put_at)

    def require(self, timeout_seconds: float) -> float:
        """The seconds that a call which changes something may take: `timeout_seconds`, or less
        where the lease ends before. Raises StoreError where it has ended."""
        remaining = self.remaining_seconds
        if remaining <= 0:
            hours = self._lease.kind.life_seconds / 3600
            raise StoreError(
                f"{self._remote.url}: this took longer than {hours:g} h, for which its lease "
                "holds; run it again: what was done so far is found and used"
            )
        return min(timeout_seconds, remaining)

    async def delete_all(self, keys: Iterable[str], timeout_seconds: float) -> None:
        """Delete objects while it holds, many side by side. Raises StoreError."""

        async def delete(key: str) -> None:
            await self._remote.delete(key, timeout_seconds=self.require(timeout_seconds))

        await run_all([partial(delete, key) for key in keys], at_once=_DELETES_AT_ONCE)

    async def drop(self) -> None:
        """Delete it. Where that fails it ends by itself, later."""
        with trio.CancelScope(shield=True):
            try:
                await self._remote.delete(self.key, timeout_seconds=_DROP_SECONDS)
            except RemoteError as error:
                log.debug("the lease %s stays until it ends: %s", self.key, error)


async def take_lease(
    remote: Remote, lease: Lease, timeout_seconds: float, clock: Clock
) -> tuple[HeldLease, Sequence[ObjectInfo]]:
    """Write a lease, and read from the list of all leases, which is given back too, what time it is
    in the remote. Raises RemoteMisconfigured where the clock here is off."""
    key = lease_key(str(uuid.uuid4()))
    wall_before = clock.wall()
    held = HeldLease(remote, lease, key, clock.running(), clock)
    try:
        await remote.put(key, encode_lease(lease), timeout_seconds=timeout_seconds)
        put_done_at = clock.running()
        listed = await remote.list_objects(LEASES_PREFIX, timeout_seconds=timeout_seconds)
        seen = [info.modified_seconds for info in listed if info.key == key]
        if not seen:
            raise RemoteMisconfigured(
                f"{remote.url} does not list what was just written there; nothing that changes "
                "it is safe"
            )
        _require_same_time(remote, seen[0], wall_before, clock.wall())
    except BaseException:
        await held.drop()
        raise
    held.note_time(seen[0], put_done_at)
    return held, listed


def _require_same_time(remote: Remote, seen: float, before: float, after: float) -> None:
    """Raise unless the remote's clock can be that of this machine, more or less."""
    off = seen - after if seen > after else min(0.0, seen - before)
    if abs(off) > MOST_CLOCK_DIFFERENCE_SECONDS:
        how = "behind" if off > 0 else "ahead of"
        raise RemoteMisconfigured(
            f"the clock of this machine is {abs(off):.0f} s {how} that of {remote.url}; set it "
            "right (timedatectl), then run this again"
        )


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """A lease in a remote, when it was written last by the remote's clock, and what it says; None
    where that cannot be read, which counts as a writer's."""

    key: str
    modified_seconds: float
    lease: Lease | None

    @property
    def kind(self) -> LeaseKind:
        """Its kind; what cannot be read might be the most that there is."""
        return LeaseKind.WRITE if self.lease is None else self.lease.kind

    def is_live(self, now_seconds: float) -> bool:
        """Whether it counts, at that time of the remote, and its owner may not be known to be
        dead."""
        if now_seconds - self.modified_seconds > self.kind.life_seconds:
            return False
        return self.lease is None or not is_of_dead_process(self.lease.owner)


async def fetch_leases(
    remote: Remote, listed: Sequence[ObjectInfo], timeout_seconds: float
) -> list[LeaseSeen]:
    """What leases that were listed say. One that is gone by now was dropped, and is left out."""
    found: list[LeaseSeen] = []

    async def fetch(info: ObjectInfo) -> None:
        try:
            raw = await remote.fetch(
                info.key, max_bytes=MAX_LEASE_BYTES, timeout_seconds=timeout_seconds
            )
            lease = parse_lease(raw)
        except ObjectMissing:
            return
        except MalformedObject as error:
            log.warning("the lease %s cannot be read, and counts: %s", info.key, error)
            lease = None
        found.append(LeaseSeen(info.key, info.modified_seconds, lease))

    calls = [partial(fetch, info) for info in listed if parse_lease_key(info.key) is not None]
    await run_all(calls, at_once=8)
    return sorted(found, key=lambda seen: seen.key)


def is_of_dead_process(owner: str) -> bool:
    """Whether an owner is a process of this very machine, boot and container that is no more."""
    machine, _, process = owner.rpartition("/")
    if not machine or machine != _machine_name():
        return False
    pid, _, started = process.partition(" ")
    return pid.isdecimal() and _start_time(pid) != started


def _process_name() -> str:
    """boot id / namespace of processes / pid and start time; empty where that is not known."""
    machine, started = _machine_name(), _start_time(str(os.getpid()))
    return f"{machine}/{os.getpid()} {started}" if machine and started else ""


@lru_cache(maxsize=1)
def _machine_name() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Containers of one machine share the boot, but not the numbers of their processes.
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(pid: str) -> str:
    """When a process started, in ticks since the boot; empty where there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    # The name of the process, in brackets, may hold anything.
    return status.rpartition(")")[2].split()[19]
