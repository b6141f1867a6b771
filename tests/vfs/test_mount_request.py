"""What a person types to say what is to be mounted."""

import pytest

from vfs.mount_request import split_revision


@pytest.mark.parametrize(
    ("text", "revision", "path"),
    [
        ("v1", "v1", ""),
        ("v1:", "v1", ""),
        ("v1:train", "v1", "train"),
        ("main~3:train/a:b", "main~3", "train/a:b"),
        (":train", "HEAD", "train"),
        ("main@{2026-01-01 10:30}", "main@{2026-01-01 10:30}", ""),
        ("main@{10:30}:train/{a}:b", "main@{10:30}", "train/{a}:b"),
        ("v1^{/fix: all}", "v1^{/fix: all}", ""),
        ("", "", ""),
    ],
)
def test_the_first_colon_outside_of_braces_parts_revision_and_path(
    text: str, revision: str, path: str
) -> None:
    assert split_revision(text) == (revision, path)
