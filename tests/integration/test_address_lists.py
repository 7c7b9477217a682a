"""Address lists in files: read at the start, followed when they change, refused when they are wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import ProcessFailedError, document, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow, StartOrigins


def test_a_list_is_followed_and_a_wrong_one_refused(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    listed = tmp_path / "blocked.txt"
    many = "\n".join(f"10.{n >> 8 & 255}.{n & 255}.0/24" for n in range(30_000))
    listed.write_text(f"# blocked\n127.0.9.0/24\n{many}\n")
    balancer = evenflow(document(a.url, security={"ip_blacklist": [f"file:{listed}", "127.0.7.7"]}))

    def status(source: str) -> int:
        return balancer.request(source=source).status

    entries = f'evenflow_address_list_networks{{file="{listed}"}}'
    assert (status("127.0.9.1"), status("127.0.7.7"), status("127.0.8.1")) == (403, 403, 200)
    assert balancer.metrics()[entries] == 30_001
    shown = balancer.request("GET", "/api/v1/admin/config").json()
    assert shown["security"]["ip_blacklist"][0] == f"file:{listed}"

    listed.write_text("127.0.8.0/24\n")
    wait_for(lambda: status("127.0.8.1") == 403, "the new list", describe=balancer.output)
    assert status("127.0.9.1") == 200
    assert balancer.metrics()[entries] == 1

    listed.write_text("127.0.8.0/24\nnonsense\n")
    wait_for(
        lambda: "line 2: expected a network" in balancer.output(),
        "the refusal",
        describe=balancer.output,
    )
    assert (status("127.0.8.1"), status("127.0.9.1")) == (403, 200)
    listed.write_text("127.0.9.0/24\n")
    wait_for(lambda: status("127.0.9.1") == 403, "the right list", describe=balancer.output)


def test_a_whitelist_of_nobody_lets_nobody_in(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    listed = tmp_path / "allowed.txt"
    listed.write_text("# nobody yet\n")
    balancer = evenflow(
        document(
            a.url,
            filters={"known": {"ip_whitelist": [f"file:{listed}"]}},
            routes=[{"name": "all", "filters": ["known"], "pool": "default"}],
        )
    )
    assert balancer.request(source="127.0.8.1").status == 403
    listed.write_text("127.0.8.0/24\n")
    wait_for(
        lambda: balancer.request(source="127.0.8.1").status == 200,
        "the new list",
        describe=balancer.output,
    )
    assert balancer.request(source="127.0.9.1").status == 403


def test_how_reading_a_list_went_is_told_by_api_and_metrics(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    listed = tmp_path / "blocked.txt"
    listed.write_text("127.0.9.0/24\n")
    balancer = evenflow(
        document(
            a.url,
            filters={"known": {"ip_blacklist": [f"file:{listed}", "127.0.7.7"]}, "other": {}},
            routes=[{"name": "all", "filters": ["known"], "pool": "default"}],
        )
    )

    def told() -> dict[str, Any]:
        (only,) = balancer.api("GET", "/admin/filters/known/lists")["lists"]
        return dict(only)

    def metric(name: str) -> float:
        return balancer.metrics()[f'evenflow_address_list_{name}{{file="{listed}"}}']

    first = told()
    assert first["file"] == str(listed)
    assert (first["list"], first["networks"]) == ("ip_blacklist", 1)
    assert (first["last_error"], first["failures"], metric("failures_total")) == (None, 0, 0)
    read_at = metric("read_timestamp_seconds")
    assert abs(read_at - time.time()) < 60

    listed.write_text("127.0.9.0/24\nnonsense\n")
    wait_for(lambda: told()["failures"] == 1, "the refusal", describe=balancer.output)
    assert told()["last_error"].startswith("line 2: expected a network")
    assert told()["last_read"] == first["last_read"]
    assert (metric("failures_total"), metric("networks")) == (1, 1)
    assert metric("read_timestamp_seconds") == read_at

    listed.unlink()
    wait_for(lambda: "no such file" in told()["last_error"], "the loss", describe=balancer.output)
    listed.write_text("127.0.9.0/24\n127.0.8.0/24\n")
    wait_for(lambda: told()["networks"] == 2, "the new list", describe=balancer.output)
    assert (told()["last_error"], told()["failures"]) == (None, 1)
    assert metric("read_timestamp_seconds") > read_at

    assert balancer.api("GET", "/admin/filters/other/lists") == {"filter": "other", "lists": []}
    balancer.api("GET", "/admin/filters/none/lists", expect=404)


def test_a_missing_list_stops_the_start_with_its_place(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    missing = tmp_path / "missing.txt"
    with pytest.raises(ProcessFailedError, match=r"security\.ip_blacklist\[0\]: cannot read"):
        evenflow(document(a.url, security={"ip_blacklist": [f"file:{missing}"]}))
