"""A remote that refuses: credentials, clock, bucket, rights. One clear line, EIO at once, hardly a
request while it lasts, and all is well again without a remount."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from store.s3_access import DOUBTFUL_READS
from tests.fakes.lying_server import Reply, error_reply
from tests.fakes.s3_front import Asked, S3Front, serve_front
from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server
from tests.mounted.conftest import Published
from tests.mounted.repositories import Clone, Mounted, wait_until

TIMEOUT = ("--timeout", "5")
# What was under way when the first refusal came, on two connections or a few more.
FEW_REQUESTS = 4


@dataclass(frozen=True)
class Fronted:
    """A clone whose default remote is a bucket behind a front, with credentials in a file."""

    clone: Clone
    front: S3Front
    bucket: str

    def log_in(self, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> None:
        """Write the file as a login does."""
        file = self.clone.home / "credentials"
        words = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        file.write_text(words)


@pytest.fixture
def fronted(
    published: Published, clone: Clone, rclone_s3: S3Server, tmp_path: Path
) -> Iterator[Fronted]:
    """The published data in a bucket of its own."""
    bucket = f"front-{tmp_path.name.lower().replace('_', '-')}"[:60].strip("-")
    rclone_s3.make_bucket(bucket)
    assert rclone_s3.folder is not None
    shutil.copytree(published.remote, rclone_s3.folder / bucket, dirs_exist_ok=True)
    with serve_front(rclone_s3) as front:
        clone.revfs(
            *("remote", "add", "--local", "-d", "bucket", f"s3://{bucket}"),
            *("--endpoint", front.endpoint, "--region", "us-east-1"),
        )
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            clone.environment.pop(name)
        clone.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(clone.home / "credentials")
        made = Fronted(clone, front, bucket)
        made.log_in()
        yield made


def read_errno(path: Path) -> int:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno or 0
    return 0


def refused_lines(mount: Mounted) -> list[str]:
    return [line for line in mount.log.splitlines() if " INFO " not in line]


def refuse(reply: Reply, *verbs: str) -> Callable[[Asked], Reply | None]:
    """Refuse these verbs; without any, all."""
    return lambda asked: reply if not verbs or asked.verb in verbs else None


@dataclass(frozen=True)
class Trouble:
    """What a server says while something is wrong, and what we say."""

    reply: Callable[[], Reply]
    words: str


def skewed() -> Reply:
    date = formatdate(time.time() + 3600, usegmt=True)
    return error_reply(403, "RequestTimeTooSkewed", {"Date": date})


TROUBLES = {
    "expired": Trouble(lambda: error_reply(400, "ExpiredToken"), "the credentials are refused"),
    "clock": Trouble(skewed, "the clock of this machine is 60 minutes behind the server's"),
    "bucket": Trouble(lambda: error_reply(404, "NoSuchBucket"), "there is no such bucket"),
    "get": Trouble(lambda: error_reply(403, "AccessDenied"), "not allowed to read"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_refused_is_said_once_fails_at_once_and_hardly_asks(
    fronted: Fronted, published: Published, name: str
) -> None:
    trouble = TROUBLES[name]
    with fronted.clone.mounted("v1", None, *TIMEOUT) as mount:
        kept = mount.path / "data/large.bin"
        expected = (published.checkouts / "v1/data/large.bin").read_bytes()
        assert kept.read_bytes() == expected
        paths = sorted((mount.path / "data/many").iterdir())[60:]
        fronted.front.answer = refuse(trouble.reply())
        before = len(fronted.front.asked)
        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(read_errno, paths)) == {errno.EIO}
        asked = len(fronted.front.asked) - before
        for path in paths:
            assert read_errno(path) == errno.EIO
        assert len(fronted.front.asked) - before == asked, "no more is asked for while it lasts"
        assert asked <= 20 + DOUBTFUL_READS, "but for what was under way"
        assert kept.read_bytes() == expected
        wait_until(lambda: trouble.words in mount.log)
        (line,) = refused_lines(mount)
        assert " ERROR " in line
        fronted.front.answer = lambda _: None
        fronted.log_in()
        wait_until(lambda: read_errno(paths[0]) == 0)
        wait_until(lambda: "no longer so" in mount.log)
        assert [read_errno(path) for path in paths] == [0] * len(paths)
        assert len(refused_lines(mount)) == 1


def test_wrong_credentials_are_mended_by_a_login_without_a_remount(fronted: Fronted) -> None:
    fronted.log_in("wrong-key")
    with fronted.clone.mounted("v1", None, *TIMEOUT) as mount:
        path = mount.path / "data/many/100.bin"
        for _ in range(20):
            assert read_errno(path) == errno.EIO
        wait_until(lambda: len(refused_lines(mount)) == 1)
        assert "the credentials are refused" in mount.log
        assert len(fronted.front.asked) <= FEW_REQUESTS
        fronted.log_in()
        wait_until(lambda: read_errno(path) == 0)


def test_without_any_credentials_nothing_is_asked_and_a_login_mends_it(fronted: Fronted) -> None:
    (fronted.clone.home / "credentials").unlink()
    with fronted.clone.mounted("v1", None, *TIMEOUT) as mount:
        path = mount.path / "data/many/100.bin"
        assert read_errno(path) == errno.EIO
        wait_until(lambda: "no usable credentials" in mount.log)
        assert not fronted.front.asked
        assert len(refused_lines(mount)) == 1
        fronted.log_in()
        wait_until(lambda: read_errno(path) == 0)


def test_who_may_not_list_reads_of_the_commits_that_are_known(
    fronted: Fronted, published: Published
) -> None:
    refused = refuse(error_reply(403, "AccessDenied"), "LIST")
    fronted.front.answer = refused
    with fronted.clone.mounted("v1", None, *TIMEOUT) as mount:
        for path in sorted((mount.path / "data/many").iterdir())[:20]:
            assert read_errno(path) == errno.EIO
        wait_until(lambda: "not allowed to list" in mount.log)
        assert "s3:ListBucket" in mount.log
        assert len(refused_lines(mount)) == 1
        assert fronted.front.verbs()["LIST"] == 1
        assert len(fronted.front.asked) <= FEW_REQUESTS
    fronted.front.answer = lambda _: None
    fronted.clone.revfs("fetch", "v1", "data/many/001.bin")
    fronted.front.answer = refused
    with fronted.clone.mounted("v1", None, *TIMEOUT) as mount:
        for name in ("data/many/100.bin", "data/large.bin"):
            assert (mount.path / name).read_bytes() == (
                published.checkouts / "v1" / name
            ).read_bytes()
        assert not refused_lines(mount)


def commit_unpushed(clone: Clone) -> None:
    (clone.top / "data/new.bin").write_bytes(b"not pushed yet")
    clone.revfs("add", "data/new.bin")
    clone.git("commit", "--quiet", "-m", "new")


def test_commands_say_in_one_line_what_is_refused(fronted: Fronted) -> None:
    clone = fronted.clone
    commit_unpushed(clone)
    for name, *arguments in (
        ("expired", "push"),
        ("clock", "fetch", "v1"),
        ("bucket", "cat", "v1", "data/large.bin"),
        ("clock", "export", "v1", "data/many", str(clone.home / "exported")),
        ("expired", "pull"),
    ):
        fronted.front.answer = refuse(TROUBLES[name].reply())
        before = len(fronted.front.asked)
        assert TROUBLES[name].words in clone.fails(*arguments), arguments
        assert len(fronted.front.asked) - before <= FEW_REQUESTS, arguments


def test_a_push_that_may_not_write_says_what_right_it_needs(fronted: Fronted) -> None:
    commit_unpushed(fronted.clone)
    fronted.front.answer = refuse(error_reply(403, "AccessDenied"), "PUT")
    words = fronted.clone.fails("push")
    assert "not allowed to write" in words
    assert "s3:PutObject" in words


def test_a_push_needs_no_right_to_delete(fronted: Fronted) -> None:
    commit_unpushed(fronted.clone)
    fronted.front.answer = refuse(error_reply(403, "AccessDenied"), "DELETE")
    assert "pushed 1 commit" in fronted.clone.revfs("push")
