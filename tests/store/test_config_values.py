"""The values of settings: sizes, durations, endpoints and urls, right and wrong."""

from pathlib import Path

import pytest

from store.config_keys import parse_endpoint, parse_seconds, parse_size
from store.errors import ConfigError
from store.remote_url import RemotePlace, parse_remote_url
from tests.fakes.config_files import ENDPOINT


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 1 << 12),
        ("5K", 5 << 10),
        ("5kb", 5 << 10),
        ("5 KiB", 5 << 10),
        ("7MiB", 7 << 20),
        ("50GiB", 50 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes_are_binary_whatever_the_spelling(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "10%", "GiB", "1P", "٣", "1e3", "1" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "0", "-3", "inf", "nan", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (f"{ENDPOINT}/", ENDPOINT),
        ("HTTP://LocalHost:9000", "http://localhost:9000"),
        ("http://[::1]:9000/s3/", "http://[::1]:9000/s3"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, endpoint: str) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    ["s3.example.com", "ftp://a", "https://", "https://a:x", "https://a?b", "https://me:key@a"],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", RemotePlace(None, "bucket", "")),
        ("s3://my.bucket-1/a/b c/", RemotePlace(None, "my.bucket-1", "a/b c")),
        ("/data/store", RemotePlace(Path("/data/store"), None, "")),
        ("file:///data/my%20store", RemotePlace(Path("/data/my store"), None, "")),
        ("../store", RemotePlace(Path("/home/me/store"), None, "")),
        ("store", RemotePlace(Path("/home/me/repository/store"), None, "")),
    ],
)
def test_a_url_names_a_bucket_or_a_folder(url: str, place: RemotePlace) -> None:
    assert parse_remote_url(url, Path("/home/me/repository")) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://bu cket/a",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "gs://bucket",
        "https://bucket.s3.amazonaws.com",
        "file://host/data",
        "file://[",
        "file://]/data",
        "file:///da%00ta",
        "file:data",
        "host:folder",
        "~/store",
        "a\x1b[31m",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_remote_url(url, Path("/home/me/repository"))
