"""The training benchmark: its pictures, what its job lists and counts, its ratios, and how its job
is ended. torch is not needed for any of that: shell scripts stand for the job's process."""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_main
import bench_training
import bench_training_rounds
import pytest
from bench_processes import NotMeasured
from bench_session import Figure
from bench_table import LINK, NATIVE, OURS
from bench_training import make_choice, measure, parse_words, show, write_json
from bench_training_images import PART, draw_noise, make_images, with_comment
from bench_training_job import Batch, Bytes, list_pictures, time_epoch
from bench_training_rounds import Job, JobChoice, running_job
from bench_training_table import (
    CEILING,
    DISK,
    FIRST_EPOCH,
    MEMORY,
    Mode,
    Verdict,
    describe_limit,
    describe_processors,
    judge,
    tabulate,
)
from PIL import Image

SCRIPTS = Path(bench_training.__file__).parent
# It reads what the job would, and needs no torch.
READING_JOB = """#!{python}
import json, pathlib, sys
paths = sorted(pathlib.Path(sys.argv[2]).glob("*/*"))
print(json.dumps(dict(files=len(paths))), flush=True)
for seed in sys.stdin:
    read = sum(len(path.read_bytes()) for path in paths)
    print(json.dumps(dict(seconds=0.5, files=len(paths), bytes=read)), flush=True)
"""


def figure(row: str, contender: str, seconds: float, down_bytes: int = 0) -> Figure:
    return Figure(row, "first", contender, seconds, seconds, down_bytes=down_bytes)


def ceiling(megabytes_per_second: float) -> Figure:
    return Figure(CEILING, "first", LINK, megabytes_per_second)


def verdict_of(figures: Sequence[Figure], row: str, against: str) -> Verdict:
    (found,) = [v for v in judge(figures) if (v.row, v.against) == (row, against)]
    return found


def test_a_comment_makes_another_file_of_the_same_picture() -> None:
    (picture,) = draw_noise(random.Random(1), [64])
    files = [with_comment(picture, comment) for comment in (b"one", bytes(1000))]
    assert len({picture, *files}) == 3
    pixels = [Image.open(io.BytesIO(file)).convert("RGB").tobytes() for file in (picture, *files)]
    assert pixels[0] == pixels[1] == pixels[2]
    assert Image.open(io.BytesIO(files[0])).info["comment"] == b"one"


def test_the_pictures_are_made_once_each_other_and_of_100_kilobytes(tmp_path: Path) -> None:
    data = make_images(tmp_path / "images", 100)
    paths = data.list_files(PART)
    contents = {(data.folder / path).read_bytes() for path in paths}
    assert len(paths) == len(contents) == 100
    assert len({path.parent for path in paths}) == 50
    assert 90_000 < data.count_bytes(PART) / 100 < 115_000
    before = [(data.folder / path).stat().st_ino for path in paths]
    make_images(tmp_path / "images", 100)
    assert [(data.folder / path).stat().st_ino for path in paths] == before
    assert len(make_images(tmp_path / "images", 60).list_files(PART)) == 60


def test_the_job_labels_pictures_by_the_order_of_their_folders(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.jpg", "a/3.jpg", "a/deep/4.jpg", "no-class.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    pictures = list_pictures(tmp_path)
    found = [(str(Path(path).relative_to(tmp_path)), label) for path, label in pictures]
    assert found == [("a/3.jpg", 0), ("a/deep/4.jpg", 0), ("b/1.jpg", 1), ("b/2.jpg", 1)]
    assert Bytes(pictures)[1] == (0, len("a/deep/4.jpg"))


def test_an_epoch_counts_its_files_and_bytes() -> None:
    did = time_epoch(iter([Batch(64, 6000), Batch(3, 500)]))
    assert (did["files"], did["bytes"]) == (67, 6500)
    assert 0 < did["first_batch_seconds"] <= did["seconds"]


@contextlib.contextmanager
def job_of(folder: Path, script: str) -> Iterator[Job]:
    """A shell script that stands for the job."""
    program = folder / "job"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    session: Any = SimpleNamespace(folder=folder, environment={"PATH": os.environ["PATH"]})
    with running_job(session, JobChoice(program, 4, 64), folder, Mode.READ) as job:
        yield job


def is_running(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_job_answers_for_each_epoch_and_ends_with_its_input(tmp_path: Path) -> None:
    script = """echo '{"files": 3}'; while read seed; do echo "{\\"seconds\\": $seed}"; done"""
    with job_of(tmp_path, script) as job:
        assert job.files == 3
        assert [job.run_epoch(seed)["seconds"] for seed in (7, 8)] == [7, 8]
    assert not Path(f"/proc/{job.pid}").exists()


def test_a_job_that_ends_early_says_why(tmp_path: Path) -> None:
    script = """echo '{"files": 3}'; read seed; echo 'IOError: no such picture' >&2; exit 1"""
    with (
        pytest.raises(NotMeasured, match="the job ended early: IOError: no such picture"),
        job_of(tmp_path, script) as job,
    ):
        job.run_epoch(1)


def test_an_interrupt_in_an_epoch_ends_the_job_and_its_loaders(tmp_path: Path) -> None:
    script = """sleep 1000 & echo "{\\"files\\": $!}"; wait"""
    with pytest.raises(KeyboardInterrupt), job_of(tmp_path, script) as job:
        raise KeyboardInterrupt
    for pid in (job.pid, job.files):
        deadline = time.monotonic() + 5
        while is_running(pid):
            assert time.monotonic() < deadline, "it was left behind"
            time.sleep(0.01)


def test_a_first_epoch_is_judged_by_what_its_bytes_need_on_the_link() -> None:
    row = Mode.READ.row(FIRST_EPOCH)
    figures = [ceiling(200.0), figure(row, OURS, 2.4, 400_000_000)]
    verdict = verdict_of(figures, row, "the link limit")
    assert verdict.ratio == pytest.approx(1.2)
    assert verdict.is_met is True


def test_next_epochs_are_judged_by_local_files_run_by_run() -> None:
    row = Mode.READ.row(DISK)
    ours, local = (2.0, 9.0, 8.0), (1.0, 3.0, 8.0)
    figures = [figure(row, OURS, seconds) for seconds in ours]
    figures += [figure(row, NATIVE, seconds) for seconds in local]
    verdict = verdict_of(figures, row, "local files")
    # The medians of the seconds would say 8 / 3.
    assert (verdict.ratio, verdict.runs, verdict.is_met) == (2.0, 3, False)


def test_decoding_that_is_slower_than_the_link_is_what_a_first_epoch_is_held_against() -> None:
    cold, alone = Mode.DECODE.row(FIRST_EPOCH), Mode.DECODE.row(MEMORY)
    figures = [
        ceiling(200.0),
        figure(cold, OURS, 11.0, 400_000_000),
        figure(alone, NATIVE, 10.0),
    ]
    assert verdict_of(figures, cold, "the link limit").is_met is None
    bound = verdict_of(figures, cold, "the slower of link and decoding")
    assert bound.ratio == pytest.approx(1.1)
    assert bound.is_met is True
    (line,) = describe_limit(figures)
    assert line.startswith("decode: ")
    assert "2.00 s on the link" in line
    assert line.endswith("the job itself is the limit")


def test_an_epoch_needs_the_processor_seconds_of_all_that_took_part() -> None:
    row = Mode.READ.row(FIRST_EPOCH)
    used = {"server": 1.0, "mount": 4.0, "job": 1.0, "others": 50.0}
    (line,) = describe_processors([Figure(row, "first", OURS, 9.0, 9.0, processors=used)], cores=2)
    assert line == f"{row}: 6.00 processor seconds, so 3.00 s at least on 2 core(s)"


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge([]) == []
    assert describe_limit([]) == []


def test_the_table_has_a_line_for_each_row_with_its_rate() -> None:
    row = Mode.READ.row(MEMORY)
    head, link, epoch = tabulate([ceiling(231.0), figure(row, OURS, 0.5)], files=1000)
    assert len(head) == len(link) == len(epoch)
    assert epoch[:4] == (row, OURS, "0.50", "2,000")
    assert "231 MB/s" in link


def test_the_command_line_says_what_the_job_does() -> None:
    def modes(*words: str) -> Sequence[Mode]:
        return make_choice(parse_words(["--python", "python3", *words])).modes

    assert modes() == (Mode.READ, Mode.DECODE)
    assert modes("--no-decode") == (Mode.READ,)
    assert modes("--decode") == (Mode.DECODE,)
    quick = make_choice(parse_words(["--python", "python3", "--quick"]))
    assert (quick.files, quick.session.runs) == (1_000, 1)


@pytest.fixture
def home_of_bench(link_proxy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the programs in C, where the benchmark works."""
    reader, source = tmp_path / "bench_reader", SCRIPTS / "bench_reader.c"
    subprocess.run(["gcc", "-pthread", "-o", str(reader), str(source)], check=True)
    (tmp_path / "link_proxy").symlink_to(link_proxy)
    for module in (bench_main, bench_training):
        monkeypatch.setattr(module, "HOME", tmp_path)
    monkeypatch.setattr(bench_training_rounds, "_CEILING_SECONDS", 0.05)
    # How long the machine's disk takes for what others have written is not the question here.
    monkeypatch.setattr(os, "sync", lambda: None)
    return tmp_path


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse")
def test_a_run_reads_every_file_over_a_mount_and_from_the_disk(
    home_of_bench: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = home_of_bench / "python"
    job.write_text(READING_JOB.format(python=sys.executable))
    job.chmod(0o755)
    words = ["--python", str(job), "--runs", "1", "--no-decode", "--files", "60"]
    choice = make_choice(parse_words(words))
    figures: list[Figure] = []
    data = make_images(home_of_bench / "images", choice.files)
    measure(choice, data, figures)
    cold, disk, memory = (Mode.READ.row(row) for row in (FIRST_EPOCH, DISK, MEMORY))
    epochs = [figure for figure in figures if figure.row.startswith("read: ")]
    measured = [(figure.row, figure.contender) for figure in epochs]
    assert measured == [(row, name) for name in (OURS, NATIVE) for row in (cold, disk, memory)]
    # Every byte crossed the link in the first epoch, and none after it.
    size = data.count_bytes(PART)
    assert size < epochs[0].down_bytes < 1.2 * size
    assert [figure.down_bytes for figure in epochs[1:]] == [0] * 5
    show(figures, choice, data, 1.0)
    write_json(home_of_bench / "figures.json", figures, choice)
    assert "to the link limit" in capfd.readouterr().out
    assert len(json.loads((home_of_bench / "figures.json").read_text())["ratios"]) == 3
    assert not list(home_of_bench.glob("run-*"))
