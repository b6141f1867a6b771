"""A mount under fio and stress-ng, and with little memory or few descriptors; run by
scripts/torture-mount.

All happens in a temporary folder: a repository, its data in a bucket of `rclone serve s3`, and for
each step a clone whose cache is empty.

Seen on two cores, with other work on them: 2,004 files (180 MB), 200 cold readers, each file right
at the first try, in 512 MB (436 MB at the most), in 256 MB (one process killed and replaced), in
160 MB (36 of them), and with 256 descriptors.
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from torture_limits import in_descriptors, in_memory  # noqa: E402
from torture_tools import Tally, fio, mounted_file_system, stress  # noqa: E402

from tests.fakes.s3_servers import S3Server, serve_rclone_s3  # noqa: E402
from tests.mounted.repositories import Clone, Mounted, commit_version, make_repository  # noqa: E402
from tests.mounted.trees import summaries  # noqa: E402

BUCKET = "torture"
JOBS = 4
SMALL_FILES = 2000
SEED = 20261202
# (name, options) of the ways in which fio reads.
WAYS = (
    ("read", ("--rw=read", "--ioengine=psync")),
    ("pread at random", ("--rw=randread", "--ioengine=psync")),
    ("mmap at random", ("--rw=randread", "--ioengine=mmap")),
    ("readv, O_DIRECT", ("--rw=read", "--ioengine=pvsync", "--direct=1")),
    ("libaio, O_DIRECT", ("--rw=randread", "--ioengine=libaio", "--direct=1", "--iodepth=16")),
)
STRESSORS = (
    *("access", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dup"),
    *("fallocate", "fiemap", "filename", "flock", "fpunch", "fsize", "fstat", "getdent", "hdd"),
    *("io", "iomix", "link", "lockf", "lockofd", "mknod", "mmap", "open", "readahead", "rename"),
    *("revio", "seek", "sendfile", "splice", "symlink", "sync-file", "touch", "utime", "xattr"),
)


@dataclass(frozen=True)
class Torture:
    """What the steps work on: `origin` is pushed."""

    folder: Path
    origin: Clone
    server: S3Server
    seconds: int
    tally: Tally

    @property
    def plain(self) -> Path:
        """The files as they were written."""
        return self.origin.top

    @property
    def fio_files(self) -> tuple[str, ...]:
        """What says which files fio takes."""
        size = (self.plain / "data/fio.0.0").stat().st_size
        return (f"--size={size}", f"--numjobs={JOBS}", "--bs=16k", "--name=fio")

    def clone(self, name: str) -> Clone:
        """A fresh clone, whose data is in the bucket alone."""
        made = self.origin.clone(self.folder / name, self.folder / f"{name}-home")
        made.revfs(
            *("remote", "add", "--local", "-d", "bucket", f"s3://{BUCKET}"),
            *("--endpoint", self.server.endpoint, "--region", "us-east-1"),
        )
        return made


def write_data(top: Path, megabytes: int) -> None:
    """Files with a checksum in each block, by fio, and many small ones."""
    data = top / "data"
    (data / "small").mkdir(parents=True)
    fio(
        data,
        *("--rw=write", "--bs=16k", "--name=fio", f"--numjobs={JOBS}"),
        *(f"--size={megabytes // JOBS}M", "--do_verify=0", "--fallocate=none"),
    )
    chance = random.Random(SEED)
    for number in range(SMALL_FILES):
        (data / f"small/{number:04}").write_bytes(chance.randbytes(chance.randrange(1, 50_000)))


@contextlib.contextmanager
def prepared(megabytes: int, seconds: int) -> Iterator[Torture]:
    """Data in a bucket."""
    folder = Path(tempfile.mkdtemp(prefix="revfs-torture-"))
    try:
        (folder / "server").mkdir()
        with serve_rclone_s3(folder / "server") as server:
            server.make_bucket(BUCKET)
            address = ("--endpoint", server.endpoint, "--region", "us-east-1")
            origin = make_repository(folder, f"s3://{BUCKET}", *address)
            origin.revfs("remote", "trust", "origin")
            write_data(origin.top, megabytes)
            commit_version(origin, "v1")
            origin.revfs("push")
            yield Torture(folder, origin, server, seconds, Tally())
    finally:
        shutil.rmtree(folder)


def verify(torture: Torture) -> None:
    """fio reads over a mount, cold and warm, and checks each block; a damaged copy shows that it
    would notice."""
    tally = torture.tally
    damaged = torture.folder / "damaged"
    shutil.copytree(torture.plain / "data", damaged)
    with (damaged / "fio.1.0").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0")
    seen = fio(damaged, *torture.fio_files, "--rw=read", "--readonly", check=False)
    tally.note("fio on a damaged copy", "notices" if seen else "DOES NOT NOTICE", good=bool(seen))
    for workers in ("1", "2"):
        for name, options in WAYS:
            clone = torture.clone(f"verify-{workers}-{name.replace(' ', '-')}")
            with clone.mounted("v1", None, "--workers", workers) as mount:
                for turn in ("cold", "warm"):
                    began = time.monotonic()
                    wrong = fio(
                        mount.path / "data",
                        *(*torture.fio_files, *options, "--readonly"),
                        check=False,
                    )
                    took = f"{time.monotonic() - began:.1f} s"
                    what = f"fio, crc32c: {name}, {turn}, {workers} serving"
                    tally.note(what, f"{wrong or 'every block is right'} ({took})", good=not wrong)
                    if wrong:
                        explain(mount)


def explain(mount: Mounted) -> None:
    """Print what a mount says of its files, and its log."""
    for job in range(JOBS):
        path = mount.path / f"data/fio.{job}.0"
        try:
            print(f"    {path.name}: {path.stat()}")
        except OSError as error:
            print(f"    {path.name}: {error}")
    print(mount.log)


@contextlib.contextmanager
def overlay(torture: Torture, name: str) -> Iterator[Path]:
    """A mount with an overlay over it; afterwards the mount must be what it was."""
    above, merged = torture.folder / f"{name}-above", torture.folder / f"{name}-merged"
    above.mkdir()
    merged.mkdir()
    with (
        torture.clone(name).mounted("v1") as mount,
        mounted_file_system("-t", "tmpfs", "tmpfs", above),
    ):
        for part in ("upper", "work"):
            (above / part).mkdir()
        options = f"lowerdir={mount.path},upperdir={above}/upper,workdir={above}/work"
        with mounted_file_system("-t", "overlay", "overlay", "-o", options, merged):
            yield merged
        expected = summaries(torture.plain)
        inside_git = [path for path in expected if path.split(b"/")[0] == b".git"]
        for path in inside_git:
            del expected[path]
        same = summaries(mount.path) == expected
        torture.tally.note(f"the mount after {name}", "unchanged" if same else "CHANGED", good=same)
        errors = mount.log.count("ERROR")
        torture.tally.note(f"its log after {name}", f"{errors} errors", good=not errors)


def overlaid(torture: Torture) -> None:
    """fio reads, writes and verifies files that begin on the mount."""
    with overlay(torture, "overlay") as merged:
        for name, options in (
            ("verified where they are", ("--rw=randread", "--readonly")),
            ("written at random and verified", ("--rw=randwrite", "--ioengine=psync")),
            ("read and written at random", ("--rw=randrw", "--ioengine=libaio", "--iodepth=8")),
            ("written by mmap and verified", ("--rw=randwrite", "--ioengine=mmap")),
        ):
            wrong = fio(merged / "data", *torture.fio_files, *options, check=False)
            what = f"fio over an overlay: files of the mount, {name}"
            torture.tally.note(what, wrong or "every block is right", good=not wrong)


def stressed(torture: Torture) -> None:
    """stress-ng over an overlay; what fails there must fail on plain files too."""
    plain = torture.folder / "stressed-plain"
    plain.mkdir()
    with overlay(torture, "stress") as merged, mounted_file_system("-t", "tmpfs", "tmpfs", plain):
        for stressor in STRESSORS:
            code = stress(stressor, merged / "data", torture.seconds)
            found = {0: "passed", 3: "not for this machine", 4: "not for this machine"}.get(code)
            if found is None:
                same = stress(stressor, plain, torture.seconds) == code
                found = f"exit code {code}" + (", as on plain files" if same else "")
                torture.tally.note(f"stress-ng {stressor}", found, good=same)
            else:
                torture.tally.note(f"stress-ng {stressor}", found, good=True)


STEPS: dict[str, Callable[[Torture], None]] = {
    "verify": verify,
    "overlay": overlaid,
    "stress": stressed,
    "memory": lambda torture: in_memory(torture.clone, torture.plain, torture.tally),
    "descriptors": lambda torture: in_descriptors(torture.clone, torture.plain, torture.tally),
}


def main() -> int:
    """Take the steps that were named; 1 where one of them saw what it should not."""
    parser = argparse.ArgumentParser(description="torture a mount with fio and stress-ng")
    parser.add_argument("--seconds", type=int, default=5, help="of each stressor")
    parser.add_argument("--megabytes", type=int, default=256, help="of the files of fio")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.steps if name not in STEPS]
    if unknown:
        parser.error(f"no such step: {unknown[0]}")
    with prepared(arguments.megabytes, arguments.seconds) as torture:
        for name in arguments.steps or STEPS:
            STEPS[name](torture)
        return torture.tally.exit_code()


if __name__ == "__main__":
    os.environ.pop("REVFS_CACHE_DIR", None)
    sys.exit(main())
