"""The metrics page over HTTP."""

from __future__ import annotations

from .conftest import Admin

OPENMETRICS = "application/openmetrics-text"


async def test_the_page_is_prometheus_text(admin: Admin) -> None:
    admin.engine.count("default", "a", requests=3)
    response = await admin.http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (
        'evenflow_requests_total{route="default",pool="default",backend="a",status="200"} 3\n'
        in response.text
    )
    assert "# EOF" not in response.text
    assert (await admin.http.get("/metrics/")).status_code == 200


async def test_openmetrics_is_sent_to_who_prefers_it(admin: Admin) -> None:
    for accept, openmetrics in (
        (f"{OPENMETRICS};version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", True),
        (f"{OPENMETRICS};q=0.2,text/plain", False),
        ("*/*", False),
        ("text/html", False),
        (f"{OPENMETRICS};q=0", False),
    ):
        response = await admin.http.get("/metrics", headers={"accept": accept})
        assert response.headers["content-type"].startswith(OPENMETRICS) is openmetrics, accept
        assert response.text.endswith("# EOF\n") is openmetrics


async def test_the_path_is_configuration(admin: Admin) -> None:
    await admin.json("PATCH", "/api/v1/admin/config", {"metrics": {"path": "/numbers"}})
    assert (await admin.http.get("/numbers")).status_code == 200
    assert (await admin.http.get("/metrics")).status_code == 404
    await admin.json("PATCH", "/api/v1/admin/config", {"metrics": {"enabled": False}})
    assert (await admin.http.get("/numbers")).status_code == 404


async def test_a_removed_backends_series_go_away(admin: Admin) -> None:
    assert 'backend="b"' in (await admin.http.get("/metrics")).text
    await admin.json("DELETE", "/api/v1/admin/backends/b")
    assert 'backend="b"' not in (await admin.http.get("/metrics")).text
