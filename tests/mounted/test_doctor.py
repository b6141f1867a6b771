"""`revfs doctor` on a machine with real mounts, alive and dead."""

import os
import signal

from tests.mounted.repositories import REVFS, Clone, wait_until


def test_a_mount_whose_process_was_killed_is_found_and_one_that_is_alive_is_no_problem(
    clone: Clone,
) -> None:
    with clone.mounted("v1") as mounted:
        assert "ok           mounts" in clone.run(REVFS, "doctor", ok=False).stdout
        os.kill(mounted.record.pid, signal.SIGKILL)
        wait_until(mounted.has_ended)
        found = clone.run(REVFS, "-q", "doctor", ok=False)
        assert found.returncode == 1
        assert f"run `revfs unmount {mounted.path}`" in found.stdout
        clone.revfs("unmount", mounted.path)
        assert "revfs unmount" not in clone.run(REVFS, "doctor", ok=False).stdout
