"""SRV records: the lowest priority serves, weights become those of endpoints."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evenflow.discovery.names import Service
from evenflow.discovery.srv import endpoints_of, first_choice
from tests.unit.discovery.conftest import entry

SRV = entry(srv="_http._tcp.users.internal")
SERVICES = st.lists(
    st.builds(
        Service,
        priority=st.integers(0, 3),
        weight=st.integers(0, 65535),
        port=st.integers(1, 65535),
        target=st.sampled_from(["a", "b", "c", ""]),
    ),
    max_size=6,
)


def test_the_lowest_priority_serves_by_weight() -> None:
    records = [Service(10, 60, 80, "a"), Service(10, 20, 81, "b"), Service(20, 9, 80, "c")]
    first = first_choice(records)
    found = endpoints_of(SRV, first, {"a": ["10.0.0.1", "10.0.0.2"], "b": ["10.0.0.3"]})
    assert [(each.url, each.weight) for each in found] == [
        ("http://10.0.0.1:80", 30),
        ("http://10.0.0.2:80", 30),
        ("http://10.0.0.3:81", 20),
    ]


def test_weights_that_are_all_0_are_equal_and_the_entrys_own() -> None:
    found = endpoints_of(
        SRV,
        [Service(0, 0, 80, "a"), Service(0, 0, 80, "b")],
        {"a": ["10.0.0.1"], "b": ["10.0.0.2"]},
    )
    assert [each.weight for each in found] == [None, None]


def test_the_root_as_target_is_no_server() -> None:
    assert first_choice([Service(0, 0, 0, "."), Service(0, 0, 0, "")]) == []


@given(SERVICES, st.randoms())
def test_the_order_of_records_does_not_matter(records: list[Service], random: object) -> None:
    addresses = {"a": ["10.0.0.1"], "b": ["10.0.0.2", "10.0.0.3"], "c": []}
    shuffled = sorted(records, key=lambda each: (each.target, each.port, each.weight))
    one = endpoints_of(SRV, first_choice(records), addresses)
    other = endpoints_of(SRV, first_choice(shuffled), addresses)
    assert [each.id for each in one] == [each.id for each in other]
    assert all(each.weight is None or 1 <= each.weight <= 65535 for each in one)
