"""The checks of a remote: that a probe object can be listed, written, read and deleted there, and
that its clock is ours.

A probe lies at `probe/<32 hex digits>`, apart from all real keys, and is deleted whatever happens;
one that a killed run left is deleted by a later one.
"""

import contextlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from store.checks import Finding, Outcome, not_checked, ok, problem
from store.config import RemoteSettings
from store.errors import (
    MalformedObject,
    ObjectMissing,
    RemoteDenied,
    RemoteError,
    RemoteUnavailable,
    UntrustedEndpoint,
)
from store.opening import WrapRemote, open_remote
from store.remote import FORMAT_KEY, ObjectInfo, Remote

PROBE_PREFIX = "probe/"
MOST_SKEW_SECONDS = 300.0

_CALL_SECONDS = 4.0
_DELETE_SECONDS = 2.0
_OLD_PROBE_SECONDS = 3600.0
_PROBE = re.compile(r"probe/[0-9a-f]{32}")
_FORMAT_BYTES = 4096

T = TypeVar("T")


def _unwrapped(remote: Remote) -> Remote:
    return remote


async def check_remote(
    settings: RemoteSettings,
    *,
    wrap_remote: WrapRemote = _unwrapped,
    now: Callable[[], float] = time.time,
    timeout_seconds: float = 10.0,
) -> list[Finding]:
    """The findings about one remote, within `timeout_seconds`, a moment to delete the probe aside.
    `now` is our clock, in seconds since 1970."""
    found = ok("remote", f"{settings.name}, {settings.folder or settings.url}")
    try:
        opened = open_remote(settings, wrap_remote)
    except UntrustedEndpoint as error:
        return [found, problem("remote endpoint", str(error))]
    try:
        if await _is_yet_to_be_made(settings):
            words = "the first `revfs push` makes it; if it was there before, mount its disk"
            return [not_checked("remote", f"the folder {settings.folder} is not there: {words}")]
        probing = _Probing(opened, now, trio.current_time() + timeout_seconds)
        findings = await probing.run()
    finally:
        with trio.CancelScope(shield=True):
            await opened.close()
    if settings.bucket is not None:
        findings.insert(0, _judge_credentials(findings))
    return [found, *findings]


async def _is_yet_to_be_made(settings: RemoteSettings) -> bool:
    """Whether a remote is a folder that is missing in one that is there."""
    folder = settings.folder
    if folder is None:
        return False

    def look() -> bool:
        return folder.parent.is_dir() and not folder.exists()

    # A share that does not answer is for the first call to find.
    with trio.move_on_after(_CALL_SECONDS):
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    return False


def _judge_credentials(findings: Sequence[Finding]) -> Finding:
    """What the answers to list and write say of the credentials."""
    outcomes = {finding.name: finding.outcome for finding in findings}
    if Outcome.OK in (outcomes["remote list"], outcomes["remote write"]):
        return ok("remote credentials", "found, and accepted")
    words = [finding.text for finding in findings if "credentials" in finding.text]
    if words:
        return problem("remote credentials", words[0])
    return not_checked("remote credentials", "no call got as far as that")


def judge_clock(ours: float, theirs: float) -> Finding:
    """What it means that an object which we wrote at `ours` is of the time `theirs` there, both in
    seconds since 1970. Pure."""
    ahead = ours - theirs
    if abs(ahead) <= MOST_SKEW_SECONDS:
        return ok("clock", f"within {max(1, round(abs(ahead)))} s of the remote's")
    side = "ahead of" if ahead > 0 else "behind"
    return problem(
        "clock",
        f"the clock of this machine is {abs(ahead) / 60:.0f} minutes {side} the remote's, and more "
        f"than {MOST_SKEW_SECONDS / 60:.0f} are not safe for signed requests and for `gc`: set it "
        "right, for example with `timedatectl set-ntp true`",
    )


class _Probing:
    """One run over a remote. `findings` grow step by step; once the remote did not answer
    (`_silent`), no step but the last is tried any more."""

    def __init__(self, remote: Remote, now: Callable[[], float], deadline: float) -> None:
        self._remote = remote
        self._now = now
        self._deadline = deadline
        self._key = f"{PROBE_PREFIX}{secrets.token_hex(16)}"
        self._body = secrets.token_bytes(64)
        self._silent = False
        self.findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        """Every step, in an order in which the first finds a remote that is not there at all."""
        listed = await self._step("list", self._list)
        before = self._now()
        tried = not self._silent
        try:
            written = await self._step("write", self._write)
            after = self._now()
            await self._step("read", self._read if written else self._read_format)
            if written and listed is not None:
                await self._check_clock((before + after) / 2)
        finally:
            if tried:
                # Also after a write that failed: it may have arrived all the same.
                with trio.CancelScope(shield=True):
                    deleted = await self._delete(self._key)
        if not tried:
            self.findings.append(not_checked("remote delete", "the remote did not answer"))
        elif written:
            self.findings.append(self._judge_delete(deleted))
        else:
            self.findings.append(not_checked("remote delete", "there was nothing to delete"))
        return self.findings

    async def _step(self, verb: str, call: Callable[[float], Awaitable[T]]) -> T | None:
        """What `call` gives, or None where it failed; the finding is added."""
        name = f"remote {verb}"
        if self._silent:
            self.findings.append(not_checked(name, "the remote did not answer"))
            return None
        try:
            result = await call(self._seconds())
        except RemoteUnavailable as error:
            self._silent = True
            words = f"{error}; check the network and the remote's address, and try again"
            self.findings.append(problem(name, words))
        except (RemoteError, MalformedObject) as error:
            self.findings.append(problem(name, str(error)))
        else:
            self.findings.append(ok(name, "works"))
            return result
        return None

    def _seconds(self) -> float:
        return max(0.1, min(_CALL_SECONDS, self._deadline - trio.current_time()))

    async def _list(self, seconds: float) -> Sequence[ObjectInfo]:
        return await self._remote.list_objects(PROBE_PREFIX, timeout_seconds=seconds)

    async def _write(self, seconds: float) -> bool:
        await self._remote.put(self._key, self._body, timeout_seconds=seconds)
        return True

    async def _read(self, seconds: float) -> None:
        size = len(self._body)
        body = await self._remote.fetch(self._key, max_bytes=size, timeout_seconds=seconds)
        if body != self._body:
            raise RemoteError(
                f"{self._remote.url}: {self._key} came back as other bytes than were written: "
                "look for a proxy or a cache in between"
            )

    async def _read_format(self, seconds: float) -> None:
        """What a reader without the right to write can try; in a new remote it is not there."""
        with contextlib.suppress(ObjectMissing):
            await self._remote.fetch(FORMAT_KEY, max_bytes=_FORMAT_BYTES, timeout_seconds=seconds)

    async def _check_clock(self, written_at: float) -> None:
        """Compare clocks by our probe, and delete those of runs that were killed long ago."""
        try:
            infos = await self._list(self._seconds())
        except RemoteError as error:
            self.findings.append(not_checked("clock", str(error)))
            return
        times = {info.key: info.modified_seconds for info in infos if _PROBE.fullmatch(info.key)}
        theirs = times.pop(self._key, None)
        if theirs is None:
            words = "the probe that was written is not listed: the remote lists late, or elsewhere"
            self.findings.append(problem("clock", words))
            return
        self.findings.append(judge_clock(written_at, theirs))
        for key, modified_seconds in times.items():
            if theirs - modified_seconds > _OLD_PROBE_SECONDS:
                await self._delete(key)

    async def _delete(self, key: str) -> RemoteError | None:
        """Delete a probe, and its folder where keys are files; the error where it stays."""
        try:
            await self._remote.delete(key, timeout_seconds=_DELETE_SECONDS)
        except RemoteError as error:
            return error
        place = self._remote.local_path(key)
        if place is not None:
            with contextlib.suppress(OSError):
                place.parent.rmdir()
        return None

    def _judge_delete(self, error: RemoteError | None) -> Finding:
        if error is None:
            return ok("remote delete", "works")
        also = ""
        if isinstance(error, RemoteDenied):
            also = " (a push does without that right, `gc` does not)"
        return problem("remote delete", f"{error}{also}; delete the object {self._key} by hand")
