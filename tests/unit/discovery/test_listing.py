"""Lists of endpoints as people and registries write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config import ConfigError
from evenflow.discovery.endpoint import Answer, DiscoveryError, Endpoint, take
from evenflow.discovery.listing import read_listing
from tests.unit.discovery.conftest import entry

FILE = entry(file="backends.yaml", port=8080)


@pytest.mark.parametrize(
    ("item", "id", "url"),
    [
        ("http://10.0.0.1:81", "10.0.0.1:81", "http://10.0.0.1:81"),
        ("10.0.0.1:81", "10.0.0.1:81", "http://10.0.0.1:81"),
        ("10.0.0.1", "10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("users.internal:81", "users.internal:81", "http://users.internal:81"),
        ("[fd00::1]:81", "v6:fd00::1:81", "http://[fd00::1]:81"),
        ("http://[fd00::1]:81", "v6:fd00::1:81", "http://[fd00::1]:81"),
        ("fd00::1", "v6:fd00::1:8080", "http://[fd00::1]:8080"),
        ("unix:/run/app.sock", "run-app.sock", "unix:/run/app.sock"),
        ({"url": "10.0.0.1:81", "id": "a"}, "a", "http://10.0.0.1:81"),
        ({"url": "http://10.0.0.1"}, "10.0.0.1", "http://10.0.0.1"),
    ],
)
def test_an_endpoint_is_known_by_its_id_or_address(item: Any, id: str, url: str) -> None:
    (found,) = read_listing(FILE, [item])
    assert (found.id, found.url) == (id, url)
    assert take(FILE, Answer([found]), {})[id][1].url == url


def test_groups_of_targets_are_read_as_prometheus_reads_them() -> None:
    groups = [
        {"targets": ["10.0.0.1:81", "10.0.0.2"], "labels": {"zone": "a"}},
        {"targets": ["10.0.0.3:81"]},
    ]
    found = read_listing(FILE, groups)
    assert [(each.url, dict(each.labels)) for each in found] == [
        ("http://10.0.0.1:81", {"zone": "a"}),
        ("http://10.0.0.2:8080", {"zone": "a"}),
        ("http://10.0.0.3:81", {}),
    ]


def test_a_backend_keeps_all_its_settings() -> None:
    item = {"id": "a", "url": "http://10.0.0.1", "weight": 3, "timeout": "2s", "drain": True}
    found = take(FILE, Answer(read_listing(FILE, {"backends": [item]})), {})["a"][1]
    assert (found.weight, found.timeout, found.drain) == (3, 2.0, True)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"backend": []}, "backend: expected a list, or `backends` with one; did you mean"),
        ({"backends": {}}, "backends: expected a list, got keys and values"),
        ("10.0.0.1", "expected a list, got '10.0.0.1'"),
        ([3], "[0]: expected a URL, or keys and values, got 3"),
        ([{"id": "a"}], "[0].url: required, but not given"),
        ([{"url": 4}], "[0].url: expected text, got 4"),
        (
            ["ok:1", {"url": "http://x", "wieght": 2}],
            "[1].wieght: unknown key; did you mean `weight`",
        ),
        ([{"url": "http://x", "weight": True}], "[0].weight: expected a whole number, got True"),
        ([{"url": "http://x", "labels": {"a": 1}}], "[0].labels.a: expected text, got 1"),
        ([{"url": "http://x", "drain": 1}], "[0].drain: expected true or false, got 1"),
        ([{"url": "http://x", "id": 4}], "[0].id: expected text, got 4"),
        ([{"targets": "a"}], "[0].targets: expected a list of addresses, got 'a'"),
        ([{"targets": ["a:b:c"]}], "[0].targets[0]: expected a URL, or an address such as"),
        ([{"targets": [], "label": {}}], "[0].label: unknown key; allowed: labels, targets"),
        (["10.0.0.1:99999"], "[0]: expected a URL, or an address such as 10.0.0.1:8080"),
        (
            [{"id": "a", "url": "http://x"}, {"id": "a", "url": "http://y"}],
            "[1]: id 'a' is used twice",
        ),
    ],
)
def test_mistakes_are_told_with_their_path(document: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_listing(FILE, document)
    assert said in str(refused.value)


def test_without_any_port_one_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"expected a port, as in users\.internal:5000"):
        read_listing(entry(file="x", scheme="tcp"), ["users.internal"])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["10.0.0.1:80", "http://a", "unix:/x", "[::1]:1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(["url", "targets", "labels", "id", "weight", "backends"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_stands_there_is_endpoints_or_an_error_in_words(document: Any) -> None:
    try:
        found = read_listing(FILE, document)
        take(FILE, Answer(found), {})
    except (ConfigError, DiscoveryError):
        return
    assert all(isinstance(each, Endpoint) for each in found)
    assert len({each.id for each in found}) == len(found)
