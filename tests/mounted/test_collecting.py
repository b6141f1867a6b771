"""`revfs gc` of a real bucket, with mounts that read meanwhile."""

import filecmp
import os
from pathlib import Path

from store.leases import LeaseKind, encode_lease, new_lease
from store.remote import lease_key
from tests.fakes.s3_servers import RcloneServer, S3Server
from tests.mounted.conftest import InBucket, Published
from tests.mounted.repositories import Clone

DAY = 24 * 3600
LEASE = "12345678-1234-4234-8234-123456789abc"


def grow_older(folder: Path, days: float, server: S3Server) -> None:
    """As if all objects had been there for so much longer. The server remembers what it has listed,
    and is started anew."""
    assert isinstance(server, RcloneServer)
    server.stop()
    for path in folder.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - days * DAY
            os.utime(path, (then, then))
    server.start()


def objects(folder: Path, kind: str) -> set[str]:
    return {path.name for path in (folder / kind).rglob("*") if path.is_file()}


def collect(clone: Clone, *arguments: str) -> str:
    # The two versions share little, and one of them is everything that there is.
    return clone.revfs("gc", "--remote", "bucket", "--max-delete", "100%", *arguments)


def assert_same(mounted: Path, checkout: Path) -> None:
    """Every file of a checkout is in the mount, byte for byte."""
    names = [
        path.relative_to(checkout)
        for path in checkout.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    assert names
    for name in names:
        assert filecmp.cmp(mounted / name, checkout / name, shallow=False), name


def test_what_a_bucket_gives_back_no_reader_misses(
    in_bucket: InBucket, published: Published, rclone_s3: S3Server
) -> None:
    clone, folder = in_bucket.clone, in_bucket.folder
    grow_older(folder, 3, rclone_s3)
    before = objects(folder, "packs")
    with clone.mounted("v2") as mount:
        # It knows by now where everything is, and has nothing of it.
        os.listdir(mount.path)
        collect(clone, "--keep-commit", "v2")
        grow_older(folder, 8, rclone_s3)
        collect(clone, "--keep-commit", "v2")
        assert len(objects(folder, "packs") & before) < len(before)
        assert objects(folder, "leases") == objects(folder, "trash") == set()
        assert_same(mount.path, published.checkouts / "v2")
        assert "ERROR" not in mount.log
    fresh = published.repository.clone(clone.top.parent / "fresh", clone.top.parent / "other")
    fresh.revfs(
        *("remote", "add", "--local", "-d", "bucket", f"s3://{folder.name}"),
        *("--endpoint", in_bucket.proxy.endpoint, "--region", "us-east-1"),
    )
    with fresh.mounted("v2") as mount:
        assert_same(mount.path, published.checkouts / "v2")


def test_what_was_forgotten_comes_back_and_what_a_mount_reads_is_not_forgotten(
    in_bucket: InBucket, published: Published, rclone_s3: S3Server
) -> None:
    clone, folder = in_bucket.clone, in_bucket.folder
    grow_older(folder, 3, rclone_s3)
    collect(clone, "--keep-commit", "v2")
    grow_older(folder, 6, rclone_s3)
    assert "brought back" in clone.revfs("gc", "--undo", "--remote", "bucket")
    grow_older(folder, 20, rclone_s3)
    collect(clone)
    with clone.mounted("v1") as mount:
        assert_same(mount.path, published.checkouts / "v1")
    # As a mount writes it that has lived for some minutes.
    manifest = next((folder / "manifests").rglob("*"))
    commit = clone.git("rev-parse", "v1^{commit}").strip()
    held = new_lease(LeaseKind.HOLD, "test", [f"{manifest.name}/{commit}"])
    (folder / "leases").mkdir(exist_ok=True)
    (folder / lease_key(LEASE)).write_bytes(encode_lease(held))
    collect(clone, "--keep-commit", "v2")
    assert commit in {path.parent.name for path in (folder / "manifests").glob("*/*/*")}
