"""Lists of networks in files."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.certs.networks import read_networks

NETWORKS = st.ip_addresses().map(lambda address: str(ipaddress.ip_network(address)))


def test_comments_blank_lines_and_repetitions_are_passed_over() -> None:
    text = b"# head\n\n10.0.0.0/8 ; office\r\n192.0.2.7\n10.0.0.0/8\n  2001:db8::/32\t# v6\n"
    assert read_networks(text) == ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")


@given(st.lists(NETWORKS, max_size=50))
def test_what_is_written_is_read(networks: list[str]) -> None:
    assert read_networks("\n".join(networks).encode()) == tuple(dict.fromkeys(networks))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"10.0.0.0/8\nnonsense\n", "line 2: expected a network"),
        (b"10.0.0.1/8\n", "line 1: '10.0.0.1/8' has bits set"),
        (b"\xff\xfe", "expected text in UTF-8"),
        (b"1.1.1.1\n" * 1_000_001, "at most 1000000 lines"),
        (b"#" * (33 * 1024 * 1024), "at most"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_networks(content)
