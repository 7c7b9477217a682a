"""The monitor: who is checked when, and what the results do."""

from __future__ import annotations

from evenflow.testing.fake_engine import Answer

from .conftest import CHECK, A, B, Ward


def checks_of(ward: Ward, address: str) -> int:
    return sum(1 for probe in ward.engine.probes if address in probe["addresses"])


async def test_an_unchecked_backend_counts_as_healthy(ward: Ward) -> None:
    ward.engine.hold_probes = True
    await ward.start()
    assert ward.status("a").status == "unknown"
    assert ward.status("a").healthy
    assert ward.status("a").usable


async def test_the_first_check_decides_at_once(ward: Ward) -> None:
    ward.engine.answers[B] = Answer("refused")
    await ward.start(health_check={**CHECK, "interval": "1h"})
    await ward.until_status("a", "healthy")
    await ward.until_status("b", "unhealthy")
    assert ward.status("b").reason == "connection refused"
    assert not ward.status("b").usable


async def test_a_backend_falls_and_returns_by_its_thresholds(ward: Ward) -> None:
    await ward.start()
    await ward.until_status("a", "healthy")
    ward.engine.answers[A] = Answer(status=503)
    before = checks_of(ward, A)
    await ward.until_status("a", "unhealthy")
    assert checks_of(ward, A) >= before + 3
    assert ward.status("a").reason == "status 503, expected 200-299"
    ward.engine.answers[A] = Answer()
    await ward.until_status("a", "healthy")
    assert ward.status("b").status == "healthy"


async def test_a_verdict_has_its_time_and_a_warning_before_it_changes(ward: Ward) -> None:
    await ward.start(health_check={**CHECK, "unhealthy_threshold": 1000})
    await ward.until_status("a", "healthy")
    since = ward.status("a").since
    ward.engine.answers[A] = Answer("timeout")
    await ward.until(lambda: "in a row" in ward.status("a").reason, "a failure is told")
    status = ward.status("a")
    assert status.status == "healthy"
    assert status.reason.startswith("no answer within 1 s")
    assert status.since == since
    assert status.checked_at is not None
    assert status.checked_at >= since


async def test_the_probe_is_what_the_configuration_says(ward: Ward) -> None:
    check = {
        **CHECK,
        "path": "/ready",
        "host": "app.test",
        "headers": {"x-probe": "1"},
        "expect_status": [204, "300-301"],
        "expect_body": "fine",
    }
    ward.engine.answers[A] = Answer(status=301, body="all is fine")
    ward.engine.answers[B] = Answer(status=204, body="broken")
    await ward.start(health_check=check)
    await ward.until_status("a", "healthy")
    await ward.until_status("b", "unhealthy")
    assert ward.status("b").reason == "body does not contain 'fine'"
    http = ward.engine.probes[0]["http"]
    assert http is not None
    assert (http["method"], http["path"], http["host"]) == ("GET", "/ready", "app.test")
    assert [tuple(pair) for pair in http["headers"]] == [("x-probe", "1")]
    assert http["body_bytes"] > 0


async def test_a_stream_backend_is_only_connected_to(ward: Ward) -> None:
    await ward.start(backends=[{"id": "a", "url": f"tcp://{A}"}])
    await ward.until_status("a", "healthy")
    assert ward.engine.probes[0]["http"] is None


async def test_an_added_backend_is_checked_at_once(ward: Ward) -> None:
    await ward.start(health_check={**CHECK, "interval": "1h"})
    await ward.until_status("a", "healthy")
    await ward.controller.patch(
        {
            "backends": [
                {"id": "a", "url": f"http://{A}"},
                {"id": "c", "url": "http://192.0.2.3:80"},
            ]
        },
        source="api",
    )
    await ward.until_status("c", "unhealthy")
    assert checks_of(ward, A) == 1, "an apply must not check again what it keeps"


async def test_a_changed_check_is_made_at_once_and_keeps_the_verdict(ward: Ward) -> None:
    ward.engine.answers[B] = Answer("refused")
    await ward.start(health_check={**CHECK, "interval": "1h"})
    await ward.until_status("b", "unhealthy")
    ward.engine.hold_probes = True
    before = len(ward.engine.probes)
    await ward.controller.patch({"health_check": {"path": "/other"}}, source="api")
    await ward.until(lambda: len(ward.engine.probes) >= before + 2, "both are checked again")
    assert ward.status("b").status == "unhealthy"
    http = ward.engine.probes[-1]["http"]
    assert http is not None
    assert http["path"] == "/other"


async def test_a_removed_backend_is_not_checked_any_more(ward: Ward) -> None:
    await ward.start()
    await ward.until_status("a", "healthy")
    await ward.controller.remove_backend("b", source="api")
    before, others = checks_of(ward, B), checks_of(ward, A)
    await ward.until(lambda: checks_of(ward, A) >= others + 5, "the other is checked on")
    assert checks_of(ward, B) <= before + 1


async def test_health_checks_that_are_off_leave_all_healthy(ward: Ward) -> None:
    ward.engine.answers.clear()
    await ward.start()
    await ward.until_status("a", "unhealthy")
    await ward.controller.patch({"health_check": {"enabled": False}}, source="api")
    assert ward.status("a").status == "healthy"
    assert ward.engine.endpoint("default", "a").document["up"] is True
    before = len(ward.engine.probes)
    await ward.controller.patch({"health_check": {"enabled": True}}, source="api")
    await ward.until(lambda: len(ward.engine.probes) > before, "checks go on")
    await ward.until_status("a", "unhealthy")
