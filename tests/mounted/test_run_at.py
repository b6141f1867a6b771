"""`revfs run --at`: a command whose inputs come from a mounted revision."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.mounted.repositories import REVFS, Clone, wait_until

COUNT = 'ls "$1"/data/many | wc -l > count; cat "$REVFS_INPUT"/data/deep/a/b/c/file >> count'


def lock_of(clone: Clone) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((clone.top / "revfs.lock").read_text())
    return found["stages"]  # type: ignore[return-value]


def test_the_inputs_are_those_of_the_revision_and_the_mount_is_gone_after(clone: Clone) -> None:
    words = ("-d", "data/many", "--plain-output", "count", "--", "sh", "-c", COUNT, "sh", "{input}")
    clone.revfs("run", "-n", "count", "--at", "v1", *words)
    assert clone.mounts() == []
    assert (clone.top / "count").read_text().split("\n", 1)[1] == "deep down"
    assert (clone.top / "count").read_text().split()[0] == "120"
    stage = lock_of(clone)["count"]
    assert stage["at"] == clone.git("rev-parse", "v1^{commit}").strip()
    assert stage["dependencies"] == {"data/many": clone.git("rev-parse", "v1:data/many").strip()}
    # What is in the work tree does not matter to it; another revision does.
    assert clone.revfs("run", "-n", "count") == "count is up to date\n"
    clone.revfs("run", "-n", "count", "--at", "v2")
    assert lock_of(clone)["count"]["at"] == clone.git("rev-parse", "v2^{commit}").strip()


def test_what_is_not_in_the_revision_is_named(clone: Clone) -> None:
    message = clone.fails("run", "-n", "x", "--at", "v1", "-d", "data/many/new.bin", "--", "true")
    commit = clone.git("rev-parse", "v1^{commit}").strip()
    line = f"data/many/new.bin, which x depends on, is not in {commit[:12]}"
    assert line in message
    assert "no commit goes by the name" in clone.fails("run", "-n", "x", "--at", "no", "--", "true")


def test_a_failed_command_leaves_no_mount(clone: Clone) -> None:
    completed = clone.run(
        REVFS, "run", "-n", "x", "--at", "v1", "--", "sh", "-c", "ls {input}; exit 5", ok=False
    )
    assert completed.returncode == 5
    assert "README.md" in completed.stdout
    assert clone.mounts() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_no_mount(
    clone: Clone, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    started = tmp_path / "started"
    script = f'echo "$REVFS_INPUT" > {started}.part; mv {started}.part {started}; exec sleep 60'
    with subprocess.Popen(
        [REVFS, "run", "-n", "x", "--at", "v1", "--", "sh", "-c", script],
        cwd=clone.top,
        env=clone.environment,
        start_new_session=True,
    ) as process:
        wait_until(lambda: started.exists() or process.poll() is not None)
        place = Path(started.read_text().strip())
        assert place.is_dir()
        process.send_signal(number)
        assert process.wait(timeout=20) == code
    assert clone.mounts() == []
    assert not place.exists()
    assert not (clone.top / "revfs.lock").exists()
