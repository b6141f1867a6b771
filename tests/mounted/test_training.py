"""Two processes train at once from two versions of one data set, over one cache, and learn the same
as from plain files."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounted.repositories import Clone, commit_version, make_repository

IMAGES = 1797
TRAIN = """
import json, sys
from pathlib import Path
import numpy
from PIL import Image
from sklearn.linear_model import RidgeClassifier

paths = sorted(Path(sys.argv[1]).glob("digits/*/*.png"))
pixels = numpy.stack([numpy.asarray(Image.open(path)).ravel() for path in paths]) / 255
labels = numpy.array([int(path.parent.name) for path in paths])
model = RidgeClassifier().fit(pixels[::2], labels[::2])
score = model.score(pixels[1::2], labels[1::2])
print(json.dumps([len(paths), score, model.coef_.tolist()]))
"""


def write_digits(top: Path) -> list[Path]:
    """The digits of scikit-learn as PNG files, in a folder for each label."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    paths = []
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = top / f"digits/{label}/{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(path)
        paths.append(path)
    return paths


def blot(paths: list[Path]) -> None:
    """Change some of the images."""
    from PIL import Image

    for path in random.Random(4).sample(paths, 150):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(path)


@pytest.fixture
def trained_on(tmp_path: Path) -> tuple[Clone, Path]:
    """A repository with the tags v1 and v2 under `data`, pushed; and plain copies of both."""
    (tmp_path / "remote").mkdir()
    repository = make_repository(tmp_path, str(tmp_path / "remote"))
    plain = tmp_path / "plain"
    paths = write_digits(repository.top / "data")
    assert len(paths) == IMAGES
    for tag in ("v1", "v2"):
        if tag == "v2":
            blot(paths)
        commit_version(repository, tag)
        shutil.copytree(repository.top / "data", plain / tag)
    repository.revfs("push", "--all")
    return repository.clone(tmp_path / "clone", tmp_path / "clone-home"), plain


def train(*folders: Path) -> list[tuple[int, float, list[list[float]]]]:
    """(images, score, weights) of a training for each folder, all at once."""
    command = [sys.executable, "-c", TRAIN]
    processes = [
        subprocess.Popen([*command, folder], stdout=subprocess.PIPE, text=True)
        for folder in folders
    ]
    try:
        outputs = [process.communicate(timeout=50)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(folders)
    return [tuple(json.loads(output)) for output in outputs]


def test_two_trainings_at_once_from_two_versions_learn_what_plain_files_teach(
    trained_on: tuple[Clone, Path],
) -> None:
    clone, plain = trained_on
    with clone.mounted("v1") as first, clone.mounted("v2") as second:
        streamed = train(first.path / "data", second.path / "data")
        assert first.record.cache_directory == second.record.cache_directory
    assert streamed == train(plain / "v1", plain / "v2")
    (count, score, weights), (_, other_score, other_weights) = streamed
    assert count == IMAGES
    assert min(score, other_score) > 0.8
    assert weights != other_weights
