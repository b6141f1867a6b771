"""The checks of a remote: every failure provoked, its sentence read, and no probe left behind."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from store.checks import Finding, Outcome
from store.errors import RemoteDenied, RemoteError, RemoteUnavailable
from store.remote import Remote
from store.remote_checks import check_remote, judge_clock
from tests.fakes.faulty_remote import Cuts, Fault, Flips, Hangs, Raises, faulty
from tests.fakes.memory_remote import Call, MemoryRemote
from tests.fakes.repositories import bucket_remote, folder_remote
from tests.fakes.s3_servers import S3Server
from tests.fakes.tcp_proxy import Link, TcpProxy

STEPS = ["list", "write", "read", "delete"]


def on_memory(
    memory: MemoryRemote, fault_of: Callable[[Call], Fault | None] = lambda call: None
) -> Callable[[Remote], Remote]:
    """Puts `memory` in the place of the real remote, with faults on top."""
    wrap = faulty(lambda call, number: fault_of(call))
    return lambda remote: wrap(memory)


def outcomes(findings: list[Finding]) -> dict[str, str]:
    return {finding.name.removeprefix("remote "): finding.outcome.value for finding in findings}


def text_of(findings: list[Finding], name: str) -> str:
    (text,) = [finding.text for finding in findings if finding.name == name]
    return text


def denied(*verbs: str) -> Callable[[Call], Fault | None]:
    return lambda call: Raises(RemoteDenied("not allowed: see")) if call.verb in verbs else None


async def test_a_remote_that_works_is_well_and_keeps_nothing_of_the_probe() -> None:
    memory = MemoryRemote()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(memory))
    assert {finding.outcome for finding in findings} == {Outcome.OK}
    names = [finding.name for finding in findings]
    assert names == [
        *("remote", "remote credentials", "remote list", "remote write", "remote read"),
        *("clock", "remote delete"),
    ]
    assert memory.objects == {}
    assert memory.closed
    (key,) = {call.key for call in memory.calls if call.verb == "put"}
    assert key.startswith("probe/")


async def test_a_folder_is_as_it_was(tmp_path: Path) -> None:
    findings = await check_remote(folder_remote(tmp_path))
    assert {finding.outcome for finding in findings} == {Outcome.OK}
    assert list(tmp_path.iterdir()) == []


async def test_a_bucket_of_a_real_server_is_well(
    rclone_s3: S3Server,
) -> None:
    rclone_s3.make_bucket("doctor")
    remote = replace(bucket_remote("doctor"), endpoint=rclone_s3.endpoint, region="us-east-1")
    findings = await check_remote(remote)
    assert {finding.outcome for finding in findings} == {Outcome.OK}, findings
    assert not rclone_s3.client.list_objects_v2(Bucket="doctor").get("Contents")


async def test_credentials_that_a_real_server_refuses_are_named(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    rclone_s3.make_bucket("doctor")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    remote = replace(bucket_remote("doctor"), endpoint=rclone_s3.endpoint, region="us-east-1")
    findings = await check_remote(remote)
    assert outcomes(findings)["credentials"] == "problem"
    assert "check them, or log in again" in text_of(findings, "remote credentials")


async def test_credentials_that_are_nowhere_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    remote = replace(bucket_remote(), endpoint="http://127.0.0.1:9", region="us-east-1")
    findings = await check_remote(remote)
    assert "no usable credentials" in text_of(findings, "remote credentials")
    assert "set them up" in text_of(findings, "remote credentials")


async def test_a_bucket_that_is_not_there_is_named(rclone_s3: S3Server) -> None:
    remote = replace(bucket_remote("nobodys"), endpoint=rclone_s3.endpoint, region="us-east-1")
    findings = await check_remote(remote)
    assert outcomes(findings)["write"] == "problem"
    assert "there is no such bucket; check its name" in text_of(findings, "remote write")


async def test_an_endpoint_that_nobody_trusts_is_not_spoken_to() -> None:
    memory = MemoryRemote()
    remote = replace(bucket_remote(), endpoint="http://x.example", endpoint_trusted=False)
    findings = await check_remote(remote, wrap_remote=on_memory(memory))
    assert "run `revfs remote trust bucket`" in text_of(findings, "remote endpoint")
    assert memory.calls == []


async def test_a_server_that_is_silent_is_given_up_soon(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.remote_checks._CALL_SECONDS", 0.5)
    with TcpProxy(rclone_s3.address, Link(stall=True)) as proxy:
        remote = replace(bucket_remote("doctor"), endpoint=proxy.endpoint, region="us-east-1")
        findings = await check_remote(remote)
    states = outcomes(findings)
    assert states["list"] == "problem"
    assert "check the network and the remote's address" in text_of(findings, "remote list")
    assert [states[step] for step in STEPS[1:]] == ["not checked"] * 3
    assert states["credentials"] == "not checked"


@pytest.mark.virtual_clock
@pytest.mark.parametrize("verb", ["list", "put", "fetch", "delete"])
async def test_whatever_hangs_it_ends_in_time(verb: str) -> None:
    def hang(call: Call) -> Fault | None:
        return Hangs() if call.verb == verb else None

    started = trio.current_time()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(MemoryRemote(), hang))
    assert "problem" in outcomes(findings).values()
    assert trio.current_time() - started <= 12


async def test_a_write_whose_answer_is_lost_is_deleted_all_the_same() -> None:
    def lose(call: Call) -> Fault | None:
        return Raises(RemoteError("cut off"), after=True) if call.verb == "put" else None

    memory = MemoryRemote()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(memory, lose))
    assert outcomes(findings)["write"] == "problem"
    assert memory.objects == {}


async def test_a_run_that_is_cancelled_deletes_its_probe() -> None:
    memory = MemoryRemote()

    def hang(call: Call) -> Fault | None:
        return Hangs() if call.verb == "fetch" else None

    async with trio.open_nursery() as nursery:

        async def check() -> None:
            await check_remote(bucket_remote(), wrap_remote=on_memory(memory, hang))

        nursery.start_soon(check)
        while not memory.objects:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert memory.objects == {}


async def test_who_may_only_read_is_told_and_reading_is_tried() -> None:
    memory = MemoryRemote()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(memory, denied("put")))
    assert outcomes(findings) == {
        "remote": "ok",
        "credentials": "ok",
        "list": "ok",
        "write": "problem",
        "read": "ok",
        "delete": "not checked",
    }
    assert text_of(findings, "remote write") == "not allowed: see"
    assert Call("fetch", "format") in memory.calls


async def test_who_may_not_delete_is_told_which_object_stays() -> None:
    memory = MemoryRemote()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(memory, denied("delete")))
    (key,) = memory.objects
    text = text_of(findings, "remote delete")
    assert f"delete the object {key} by hand" in text
    assert "a push does without that right" in text


async def test_who_may_not_list_is_told_and_the_rest_is_tried() -> None:
    findings = await check_remote(
        bucket_remote(), wrap_remote=on_memory(MemoryRemote(), denied("list"))
    )
    states = outcomes(findings)
    assert [states[step] for step in STEPS] == ["problem", "ok", "ok", "ok"]


@pytest.mark.parametrize("fault", [Flips(), Cuts(10)])
async def test_other_bytes_than_were_written_are_a_problem(fault: Fault) -> None:
    def change(call: Call) -> Fault | None:
        return fault if call.verb == "fetch" else None

    memory = MemoryRemote()
    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(memory, change))
    assert "look for a proxy or a cache in between" in text_of(findings, "remote read")
    assert memory.objects == {}


@pytest.mark.parametrize(("minutes", "side"), [(7, "7 minutes ahead of"), (-9, "9 minutes behind")])
async def test_a_clock_that_is_off_is_a_problem(minutes: int, side: str) -> None:
    findings = await check_remote(
        bucket_remote(),
        wrap_remote=on_memory(MemoryRemote()),
        now=lambda: time.time() + 60 * minutes,
    )
    assert side in text_of(findings, "clock")
    assert "timedatectl set-ntp true" in text_of(findings, "clock")


def test_five_minutes_are_the_most_that_clocks_may_differ() -> None:
    assert judge_clock(1300, 1000).outcome is Outcome.OK
    assert judge_clock(1000, 1300).outcome is Outcome.OK
    assert judge_clock(1301, 1000).outcome is Outcome.PROBLEM


async def test_a_probe_that_is_not_listed_is_a_problem() -> None:
    class Forgetful(MemoryRemote):
        async def list_objects(self, prefix: str, *, timeout_seconds: float) -> list[object]:  # type: ignore[override]
            return []

    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(Forgetful()))
    assert "is not listed" in text_of(findings, "clock")


async def test_old_probes_of_killed_runs_go_and_all_else_stays() -> None:
    memory = MemoryRemote()
    old, young = f"probe/{'0' * 32}", f"probe/{'1' * 32}"
    now = time.time()
    stays = {"probe/README": now - 9000, young: now - 60, "packs/00/x": now - 9000}
    memory.objects = {key: (b"", written) for key, written in {**stays, old: now - 9000}.items()}
    await check_remote(bucket_remote(), wrap_remote=on_memory(memory))
    assert memory.objects.keys() == stays.keys()


async def test_a_folder_that_the_first_push_will_make_is_not_made_here(tmp_path: Path) -> None:
    findings = await check_remote(folder_remote(tmp_path / "store"))
    assert outcomes(findings) == {"remote": "not checked"}
    assert "the first `revfs push` makes it" in text_of(findings, "remote")
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_on_a_disk_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    findings = await check_remote(folder_remote(tmp_path / "disk" / "store"))
    assert "is it mounted?" in text_of(findings, "remote list")
    assert outcomes(findings)["list"] == "problem"


async def test_a_server_that_is_busy_for_a_moment_is_asked_again() -> None:
    faults = iter([Raises(RemoteUnavailable("busy"))])

    def busy(call: Call) -> Fault | None:
        return next(faults, None)

    findings = await check_remote(bucket_remote(), wrap_remote=on_memory(MemoryRemote(), busy))
    assert {finding.outcome for finding in findings} == {Outcome.OK}
