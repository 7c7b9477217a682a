"""What the app refuses, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from evenflow.admin.bodies import LARGE, SMALL

from .conftest import Admin, StartAdmin, two_backends

BACKENDS = "/api/v1/admin/backends"


async def test_an_unknown_path_is_not_found(admin: Admin) -> None:
    for path in ("/nothing", "/api/v1/admin", "/api/v1/admin/backends/", "/health/x", "//health"):
        problem = await admin.json("GET", path, status=404)
        assert problem["status"] == 404
        assert problem["title"] == "Not Found"


async def test_another_method_is_told_which_are_allowed(admin: Admin) -> None:
    response = await admin.http.put(BACKENDS, json={})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    response = await admin.http.options(BACKENDS)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"id": NaN}',
        b'{"id":"x","id":"y","url":"http://127.0.0.1:1"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_what_is_not_a_json_object_is_refused(admin: Admin, body: bytes) -> None:
    response = await admin.http.post(BACKENDS, content=body)
    assert response.status_code == 400, response.text
    assert response.json()["errors"]


async def test_a_body_beyond_its_bound_is_refused(admin: Admin) -> None:
    response = await admin.http.post(BACKENDS, content=b" " * (SMALL + 1))
    assert response.status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SMALL // 65536 + 1):
            yield b" " * 65536

    response = await admin.http.post(BACKENDS, content=pieces())
    assert response.status_code == 413


async def test_the_bound_of_a_restore_is_larger(admin: Admin) -> None:
    reader, writer = await asyncio.open_unix_connection(str(admin.socket))
    head = f"POST {BACKENDS}/restore HTTP/1.1\r\nHost: localhost\r\nevenflow-client: ::1\r\n"
    writer.write(f"{head}Content-Length: {LARGE + 1}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"413"
    writer.close()
    await writer.wait_closed()
    response = await admin.http.post(f"{BACKENDS}/restore", content=b" " * (SMALL + 1))
    assert response.status_code == 400


async def test_a_stranger_may_read_nothing_and_learns_nothing(admin: Admin) -> None:
    for path in (BACKENDS, "/metrics", "/docs/", "/openapi.json", "/debug/pprof/heap", "/nothing"):
        response = await admin.http.get(path, headers={"evenflow-client": "8.8.8.8"})
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_private_network_may_read_but_not_write(admin: Admin) -> None:
    headers = {"evenflow-client": "10.0.0.9"}
    assert (await admin.http.get(BACKENDS, headers=headers)).status_code == 200
    assert (await admin.http.get("/metrics", headers=headers)).status_code == 200
    assert (await admin.http.delete(f"{BACKENDS}/a", headers=headers)).status_code == 401
    assert (await admin.http.get("/debug/pprof/heap", headers=headers)).status_code == 401


async def test_a_page_of_another_origin_cannot_write(admin: Admin) -> None:
    body = {"id": "c", "url": "http://127.0.0.1:1"}
    headers = {"origin": "http://evil.example"}
    assert (await admin.http.post(BACKENDS, json=body, headers=headers)).status_code == 401
    headers = {"origin": "http://localhost:8080"}
    assert (await admin.http.post(BACKENDS, json=body, headers=headers)).status_code == 201


async def test_without_the_admin_interface_health_and_metrics_remain(
    start_admin: StartAdmin,
) -> None:
    admin = await start_admin({**two_backends(), "admin": {"enabled": False}})
    assert (await admin.http.get("/health")).status_code == 200
    assert (await admin.http.get("/api/v1/health")).status_code == 200
    assert (await admin.http.get("/metrics")).status_code == 200
    for path in (BACKENDS, "/docs/", "/openapi.json", "/debug/pprof/"):
        assert (await admin.http.get(path)).status_code == 404


async def test_an_engine_that_fails_is_reported_as_unavailable(admin: Admin) -> None:
    admin.engine.close()
    problem = await admin.json("GET", BACKENDS, status=503)
    assert problem["title"] == "Service Unavailable"
    assert (await admin.http.get("/health/live")).status_code == 200


async def test_every_answer_forbids_sniffing_and_framing(admin: Admin) -> None:
    for path in ("/health", "/nothing", "/docs/"):
        headers = (await admin.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
