"""The API server's list and watch of EndpointSlices, played over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.discovery.endpoint import DiscoveryError
from evenflow.discovery.kubernetes import Gone, View, endpoints_of, kubernetes, port_of
from tests.unit.discovery.conftest import (
    CUT,
    END,
    STREAM,
    Piece,
    answer,
    asking,
    chunk,
    entry,
    playing,
    slice_of,
    urls,
)

SERVICE = entry(kubernetes={"service": "users"})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evenflow.discovery.kubernetes.LEAST_WATCH_S", 0.0)


def listed(version: int, *slices: Any, further: str = "") -> bytes:
    """A list of slices, perhaps with more to come."""
    about = {"resourceVersion": str(version)} | ({"continue": further} if further else {})
    return answer({"kind": "EndpointSliceList", "metadata": about, "items": list(slices)})


def event(kind: str, found: Any) -> dict[str, Any]:
    """One event of a watch."""
    return {"type": kind, "object": found}


def bookmark(version: int) -> dict[str, Any]:
    """An event that only tells a version."""
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}


def account(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    """Settings with the files of a service account."""
    (folder / "token").write_text("first-token\n")
    (folder / "namespace").write_text("shop")
    files = {"token_file": str(folder / "token"), "namespace_file": str(folder / "namespace")}
    return {"service": "users", "url": url, **files, **more}


async def test_the_watch_tells_what_comes_changes_and_goes(tmp_path: Path) -> None:
    more, less = asyncio.Event(), asyncio.Event()
    added = chunk(event("ADDED", slice_of("b", 12, "10.0.0.3")))
    script: list[list[Piece]] = [
        [listed(10, slice_of("a", 5, "10.0.0.1", "10.0.0.2"))],
        # Cut into pieces in the middle of a document.
        [
            STREAM,
            more,
            added[:40],
            added[40:90],
            added[90:],
            less,
            chunk(event("DELETED", slice_of("a", 13))),
        ],
    ]
    async with playing(*script) as server:
        async with asking(kubernetes, kubernetes=account(tmp_path, server.url)) as following:
            assert len((await following()).endpoints) == 2
            more.set()
            assert len((await following()).endpoints) == 3
            less.set()
            (left,) = (await following()).endpoints
        assert (left.id, left.url) == ("pod-10-0-0-3:8080", "http://10.0.0.3:8080")
        assert dict(left.labels) == {"zone": "a", "pod": "pod-10-0-0-3"}
        path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
        assert all(target.startswith(path) for target in server.targets)
        assert "labelSelector=kubernetes.io%2Fservice-name%3Dusers" in server.targets[0]
        assert "resourceVersion=10" in server.targets[1]
        assert "allowWatchBookmarks=true" in server.targets[1]
        assert "Authorization: Bearer first-token" in server.heads[0]


async def test_a_watch_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    script: list[list[Piece]] = [
        [listed(10, slice_of("a", 5, "10.0.0.1"))],
        [STREAM, chunk(event("MODIFIED", slice_of("a", 11, "10.0.0.2")), bookmark(15)), CUT],
        [STREAM, chunk(event("MODIFIED", slice_of("a", 16, "10.0.0.3"))), END],
        [STREAM, asyncio.Event()],
    ]
    async with playing(*script) as server:
        async with asking(kubernetes, kubernetes=account(tmp_path, server.url)) as following:
            seen = [urls((await following()).endpoints)[0] for _ in range(5)]
            # A token that was renewed meanwhile is used from then on.
            (tmp_path / "token").write_text("second-token")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await following()
        # After each watch once more what was known by then.
        assert seen == [f"http://10.0.0.{n}:8080" for n in (1, 2, 2, 3, 3)]
        versions = [t.partition("resourceVersion=")[2].partition("&")[0] for t in server.targets]
        assert versions == ["", "10", "15", "16"]
        assert "Bearer second-token" in server.heads[-1]


@pytest.mark.parametrize(
    "gone",
    [
        [STREAM, chunk(GONE), END],
        [answer({"code": 410, "message": "too old"}, "410 Gone")],
    ],
)
async def test_a_version_that_is_gone_is_listed_again(gone: list[Piece], tmp_path: Path) -> None:
    script: list[list[Piece]] = [
        [listed(10, slice_of("a", 5, "10.0.0.1"))],
        gone,
        [listed(99, slice_of("c", 98, "10.0.0.9"))],
        [STREAM, asyncio.Event()],
    ]
    async with (
        playing(*script) as server,
        asking(kubernetes, kubernetes=account(tmp_path, server.url)) as following,
    ):
        await following()
        # What is no longer in the list is gone, too.
        assert urls((await following()).endpoints) == ["http://10.0.0.9:8080"]


async def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    script: list[list[Piece]] = [
        [listed(10, slice_of("a", 5, "10.0.0.1"), further="abc")],
        [answer({"message": "expired"}, "410 Gone")],
        [listed(20, slice_of("a", 5, "10.0.0.1"), further="def")],
        [listed(20, slice_of("b", 6, "10.0.0.2"))],
        [STREAM, asyncio.Event()],
    ]
    async with playing(*script) as server:
        async with asking(kubernetes, kubernetes=account(tmp_path, server.url)) as following:
            assert len((await following()).endpoints) == 2
        assert ["continue=" in target for target in server.targets[:4]] == [
            False,
            True,
            False,
            True,
        ]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (
            [answer({"message": "Unauthorized"}, "401 Unauthorized")],
            "401: Unauthorized .its role needs",
        ),
        ([answer({"message": "no access"}, "403 Forbidden")], "403: no access .its role needs"),
        ([answer(b"nope", "500 Internal Server Error")], "got 500: nope"),
        ([answer([])], "expected a list of EndpointSlices"),
        ([CUT], "connection closed"),
    ],
)
async def test_a_refusal_is_told_in_words(pieces: list[bytes], said: str, tmp_path: Path) -> None:
    async with playing(pieces) as server:
        with pytest.raises(Exception, match=said) as failed:
            async with asking(kubernetes, kubernetes=account(tmp_path, server.url)) as following:
                await following()
    assert "first-token" not in str(failed.value)


async def test_a_watch_that_never_tells_anything_is_an_error_in_time(tmp_path: Path) -> None:
    script: list[list[Piece]] = [
        [listed(10, slice_of("a", 5, "10.0.0.1"))],
        [STREAM, asyncio.Event()],
    ]
    async with playing(*script) as server:
        fields = {"kubernetes": account(tmp_path, server.url), "every": "100ms", "timeout": "100ms"}
        async with asking(kubernetes, **fields) as following:
            await following()
            with pytest.raises(TimeoutError):
                await following()


async def test_outside_of_a_cluster_it_says_what_is_missing() -> None:
    with pytest.raises(DiscoveryError, match="outside of a cluster give `namespace` and `token`"):
        async with asking(
            kubernetes, kubernetes={"service": "users", "url": "http://x"}
        ) as following:
            await following()


@pytest.mark.parametrize(
    ("conditions", "drains"),
    [
        ({"ready": True}, False),
        ({}, False),
        ({"ready": False}, None),
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False, "terminating": True}, None),
        ({"ready": False, "terminating": True}, None),
        ({"ready": True, "serving": True, "terminating": False}, False),
    ],
)
def test_ready_ones_serve_and_terminating_ones_drain(
    conditions: dict[str, bool], drains: bool | None
) -> None:
    one = slice_of("a", 1, "10.0.0.1")
    one["endpoints"][0]["conditions"] = conditions
    found = endpoints_of(SERVICE, None, [one]).endpoints
    assert [each.drain for each in found] == ([] if drains is None else [drains])


def test_the_port_is_chosen_by_name_or_number() -> None:
    ports = [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}]
    assert port_of("metrics", ports) == 9090
    assert port_of(8080, ports) == 8080
    assert port_of(None, ports[:1]) == 8080
    assert (
        port_of(None, ports)
        == "expected one port, got http (8080), metrics (9090); name it with `port`"
    )
    assert port_of("grpc", ports) == "no port grpc; there are http (8080), metrics (9090)"


def test_slices_without_the_port_are_no_empty_service() -> None:
    with pytest.raises(DiscoveryError, match="no port grpc"):
        endpoints_of(SERVICE, "grpc", [slice_of("a", 1, "10.0.0.1")])
    assert endpoints_of(SERVICE, "grpc", []).endpoints == []


def test_an_endpoint_in_two_slices_counts_once_and_serves_where_one_says_so() -> None:
    going = slice_of("a", 1, "10.0.0.1", conditions={"serving": True, "terminating": True})
    here = slice_of("b", 2, "10.0.0.1")
    for order in ([going, here], [here, going]):
        (found,) = endpoints_of(SERVICE, None, order).endpoints
        assert not found.drain


NAMES = st.sampled_from(["a", "b", "c"])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]), NAMES, st.integers(1, 9)
    ),
    max_size=12,
)


@given(EVENTS)
def test_a_view_is_what_the_events_lead_to(events: list[tuple[str, str, int]]) -> None:
    view, model = View(), dict[str, str]()
    for version, (kind, name, number) in enumerate(events, 1):
        view.take(event(kind, slice_of(name, version, f"10.0.0.{number}")))
        if kind == "DELETED":
            model.pop(name, None)
        elif kind != "BOOKMARK":
            model[name] = f"http://10.0.0.{number}:8080"
    found = endpoints_of(SERVICE, None, view.slices.values()).endpoints
    assert sorted(urls(found)) == sorted(set(model.values()))
    assert view.version == (str(len(events)) if events else "")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(["ADDED", "ERROR"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["type", "object", "metadata", "name", "resourceVersion", "code"]),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_any_event_is_taken_or_an_error_in_words(found: Any) -> None:
    with contextlib.suppress(DiscoveryError, Gone):
        View().take(found if isinstance(found, dict) else {"type": found})
