from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config.targets import parse_host, parse_listen, parse_path_match, parse_url
from evenflow.config.types import (
    format_duration,
    format_size,
    parse_duration,
    parse_name,
    parse_network,
    parse_request_key,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("0s", 0), (2, 2)],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "30 s", "s", "-1s", "1x", "", True, None, -1, 1e12, "1e3s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@given(st.integers(0, 10**10))
def test_a_printed_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("10MB", 10_000_000), ("1.5KiB", 1536), (7, 7), ("7B", 7), ("1GiB", 2**30)],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10", "10M", "MiB", -1, "-1B", True, 1.5, None, "1 0MB"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_a_printed_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_networks_have_one_form() -> None:
    assert parse_network("10.0.0.1") == "10.0.0.1/32"
    assert parse_network("2001:DB8::/32") == "2001:db8::/32"
    with pytest.raises(ValueError, match=r"did you mean `10\.0\.0\.0/8`"):
        parse_network("10.0.0.1/8")
    with pytest.raises(ValueError, match="expected a network"):
        parse_network("ten")


@pytest.mark.parametrize("name", ["evenflow-x", "", "a b", "-a", "a/b", "x" * 129])
def test_names_that_would_break_urls_or_metrics_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_name(name)


def test_request_keys_are_read() -> None:
    assert parse_request_key("header:X-User") == "header:x-user"
    for text in ("client_ip", "path", "all", "cookie:a", "query:b"):
        assert parse_request_key(text) == text
    for text in ("header", "header:", "header:a b", "ip", "path:x"):
        with pytest.raises(ValueError, match="expected"):
            parse_request_key(text)


@pytest.mark.parametrize(
    ("url", "address", "path", "stream"),
    [
        ("http://10.0.0.1", "10.0.0.1:80", "", False),
        ("http://app:8080/users/", "app:8080", "/users", False),
        ("http://[::1]:81/", "[::1]:81", "", False),
        ("tcp://db:9", "db:9", "", True),
        ("postgresql://db", "db:5432", "", True),
        ("mysql://db", "db:3306", "", True),
        ("redis://db:1", "db:1", "", True),
        ("unix:/run/app.sock", "unix:/run/app.sock", "", False),
    ],
)
def test_urls_of_backends_are_read(url: str, address: str, path: str, stream: bool) -> None:
    target = parse_url(url)
    assert (target.address, target.path, target.is_stream) == (address, path, stream)


def test_only_names_need_to_be_resolved() -> None:
    resolved = {url: parse_url(url).resolved for url in ("http://a", "http://1.2.3.4", "unix:/a")}
    assert resolved == {"http://a": False, "http://1.2.3.4": True, "unix:/a": True}


@pytest.mark.parametrize(
    "url",
    [
        "app:8080",
        "http://",
        "http://a:0",
        "http://a:65536",
        "http://user@a",
        "http://a?x",
        "http://a#x",
        "http://a b",
        "http://a/x//y",
        "http://a/../b",
        "tcp://a",
        "tcp://a:1/x",
        "unix:relative",
        "unix:" + "/x" * 60,
    ],
)
def test_urls_that_name_no_backend_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|has no path"):
        parse_url(url)


def test_addresses_to_listen_on_have_one_form() -> None:
    assert parse_listen("localhost:80") == "127.0.0.1:80"
    assert parse_listen("[0:0::1]:80") == "[::1]:80"
    assert parse_listen("unix:/run/x") == "unix:/run/x"
    for text in ("80", ":80", "example.org:80", "1.2.3.4:99999", "unix:x", "1.2.3.4:+1"):
        with pytest.raises(ValueError, match="expected"):
            parse_listen(text)


def test_hosts_and_paths_of_routes_are_read() -> None:
    assert parse_host("API.Example.org.") == "api.example.org"
    for text in ("*.example.org", "a:80", "", "a b"):
        with pytest.raises(ValueError, match="expected a host"):
            parse_host(text)
    assert parse_path_match("/users/*") == "/users/*"
    for text in ("users", "/a*", "/*/a", "/a?b", "/a//b", "/a/./b", "/a b", "/x" * 33):
        with pytest.raises(ValueError, match=r"expected|stands only"):
            parse_path_match(text)
