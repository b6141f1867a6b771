"""What git's checkout writes for tracked files, policy by policy, with data in a bucket."""

import subprocess

from tests.git.conftest import CONTENT, LARGE, SECOND, InBucket
from tests.mounted.repositories import REVFS, Clone, fall_silent

POINTER = b"revfs 1\n"
V2 = CONTENT | {"data/00": SECOND, "data/large": LARGE}


def contents(clone: Clone) -> dict[str, bytes]:
    return {f"data/{p.name}": p.read_bytes() for p in (clone.top / "data").iterdir()}


def write_anew(clone: Clone, *options: str) -> str:
    """Have git write all of data; what was said meanwhile."""
    for path in (clone.top / "data").iterdir():
        path.unlink()
    return clone.run("git", *options, "checkout", "--", "data").stderr


def test_what_is_not_here_stays_a_pointer_that_git_finds_clean(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    said = write_anew(clone)
    assert all(content.startswith(POINTER) for content in contents(clone).values())
    assert "revfs: 21 files left as pointers" in said
    assert said.count("\n") == 1
    assert clone.git("status", "--porcelain") == ""
    clone.git("add", "data")
    clone.git("stash", "list")
    assert clone.git("status", "--porcelain") == ""
    assert not list(clone.top.glob(".git/revfs/staged/*"))


def test_what_is_here_is_written(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    for name in ("data/03", "data/large"):
        subprocess.run(
            [REVFS, "cat", f"HEAD:{name}"],
            cwd=clone.top,
            env=clone.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    said = write_anew(clone)
    assert "19 files left as pointers" in said
    found = contents(clone)
    assert found["data/03"] == CONTENT["data/03"]
    assert found["data/large"] == LARGE
    assert clone.git("status", "--porcelain") == ""


def test_the_policy_fetch_brings_everything_side_by_side(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    clone.revfs("config", "checkout.smudge", "fetch")
    assert write_anew(clone) == ""
    assert contents(clone) == V2
    assert clone.git("status", "--porcelain") == ""
    clone.git("checkout", "--quiet", "v1")
    assert contents(clone) == CONTENT
    clone.git("checkout", "--quiet", "v2")
    assert contents(clone) == V2


def test_the_policy_pointer_writes_no_data_even_where_it_is_here(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    clone.revfs("config", "checkout.smudge", "fetch")
    write_anew(clone)
    clone.revfs("config", "checkout.smudge", "pointer")
    assert write_anew(clone) == ""
    assert all(content.startswith(POINTER) for content in contents(clone).values())
    assert clone.git("status", "--porcelain") == ""


def test_a_remote_that_is_silent_ends_no_checkout_and_is_waited_for_once(
    in_bucket: InBucket,
) -> None:
    clone = in_bucket.clone
    clone.revfs("config", "checkout.smudge", "fetch")
    clone.revfs("config", "mount.timeout", "2")
    fall_silent(in_bucket.proxy)
    said = write_anew(clone)
    assert "stays a pointer" in said
    assert "21 files left as pointers" in said
    assert all(content.startswith(POINTER) for content in contents(clone).values())
    assert clone.git("status", "--porcelain") == ""


def test_what_git_add_saw_is_here_for_a_stash_even_if_only_the_remote_had_it(
    in_bucket: InBucket,
) -> None:
    clone = in_bucket.clone
    clone.revfs("ls", "v1")
    # The first version, come by on another way; its chunks are known from the remote's index.
    clone.run(REVFS, "cat", "HEAD:data/01")
    (clone.top / "data/00").write_bytes(CONTENT["data/00"])
    (clone.top / "data/19").write_bytes(CONTENT["data/19"])
    clone.git("stash")
    assert (clone.top / "data/00").read_bytes().startswith(POINTER)
    in_bucket.proxy.close()
    clone.git("stash", "pop")
    assert (clone.top / "data/00").read_bytes() == CONTENT["data/00"]
    assert (clone.top / "data/19").read_bytes() == CONTENT["data/19"]
    assert not list(clone.top.glob(".git/revfs/staged/*"))


def test_a_pointer_that_was_edited_is_taken_for_data_with_a_warning(in_bucket: InBucket) -> None:
    clone = in_bucket.clone
    path = clone.top / "data/03"
    path.write_bytes(path.read_bytes() + b"row,1\n")
    said = clone.run("git", "add", "data").stderr
    assert "data/03 begins like a pointer but is none" in said
    assert "git restore" in said
