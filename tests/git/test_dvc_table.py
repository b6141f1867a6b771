"""The table of a DVC user's steps, walked from top to bottom by a script of real commands."""

import os
import subprocess
import sys
from pathlib import Path

from tests.fakes.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server
from tests.mounted.repositories import environment_of

SCRIPT = Path(__file__).with_name("dvc_table.sh")


def walk(folder: Path, url: str, *options: str) -> None:
    home = folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n"
        '[advice]\n\tdetachedHead = false\n[protocol "file"]\n\tallow = always\n'
    )
    (home / "aws").write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        f"[person]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    environment = environment_of(home)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment["AWS_SHARED_CREDENTIALS_FILE"] = str(home / "aws")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment[name]
    (folder / "walk").mkdir()
    completed = subprocess.run(
        ["bash", SCRIPT, folder / "walk", url, *options],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stdout[-4000:]


def test_the_table_is_walked_with_a_folder_as_remote(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    walk(tmp_path, str(tmp_path / "store"))


def test_the_table_is_walked_with_a_bucket_as_remote(tmp_path: Path, rclone_s3: S3Server) -> None:
    rclone_s3.make_bucket("dvc-table")
    options = ("--endpoint", rclone_s3.endpoint, "--region", "us-east-1")
    walk(tmp_path, "s3://dvc-table/data", *options)
