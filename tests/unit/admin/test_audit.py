"""What the audit log says of requests, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evenflow.config.hashes import hash_token
from evenflow.engine import hash_password
from tests.unit.admin.conftest import two_backends

if TYPE_CHECKING:
    from tests.unit.admin.conftest import Admin, StartAdmin

SECRET = "canary-9f27-token"
BOSS = {"authorization": "Bearer boss-token"}


async def entries(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    document = await admin.json("GET", f"/api/v1/admin/audit{query}")
    return list(document["entries"])


async def test_a_change_is_recorded_with_who_what_and_the_difference(admin: Admin) -> None:
    await admin.json("PATCH", "/api/v1/admin/backends/b", {"weight": 60})
    (entry,) = await entries(admin)
    assert entry["who"] == "loopback"
    assert entry["role"] == "admin"
    assert entry["client"] == "127.0.0.1"
    assert entry["action"] == "PATCH /api/v1/admin/backends/{id}"
    assert entry["path"] == "/api/v1/admin/backends/b"
    assert entry["status"] == 200
    assert entry["changes"] == ["backends[b].weight: 50 → 60"]
    assert (entry["revision_before"], entry["revision_after"]) == (1, 2)


async def test_reading_and_dry_runs_are_not_recorded(admin: Admin) -> None:
    await admin.json("GET", "/api/v1/admin/backends")
    await admin.json("POST", "/api/v1/admin/explain", {"target": "/"})
    await admin.json("POST", "/api/v1/admin/config/diff", {"backends": []})
    assert await entries(admin) == []


async def test_a_change_that_was_refused_is_recorded_without_a_difference(admin: Admin) -> None:
    await admin.json("PATCH", "/api/v1/admin/backends/b", {"weight": -1}, status=400)
    (entry,) = await entries(admin)
    assert entry["status"] == 400
    assert "weight" in entry["detail"]
    assert entry["changes"] == []


async def test_a_token_with_too_low_a_role_is_recorded_and_a_stranger_is_not(
    start_admin: StartAdmin,
) -> None:
    tokens = [{"name": "viewer", "role": "read", "token": hash_token("see")}]
    admin = await start_admin({**two_backends(), "admin": {"tokens": tokens}})
    for token, status in (("see", 403), ("guess", 401)):
        answer = await admin.http.delete(
            "/api/v1/admin/backends/a", headers={"authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status
    (entry,) = await entries(admin)
    assert (entry["who"], entry["role"], entry["status"]) == ("viewer", "read", 403)


async def test_pages_follow_one_another(admin: Admin) -> None:
    for weight in range(1, 8):
        await admin.json("PATCH", "/api/v1/admin/backends/b", {"weight": weight})
    seen: list[int] = []
    path = "/api/v1/admin/audit?limit=3"
    while True:
        page = await admin.json("GET", path)
        seen += [entry["seq"] for entry in page["entries"]]
        if page["next"] is None:
            break
        path = f"/api/v1/admin/audit?limit=3&before={page['next']}"
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    await admin.json("GET", "/api/v1/admin/audit?limit=0", status=400)
    await admin.json("GET", "/api/v1/admin/audit?before=x", status=400)


async def test_secrets_are_not_in_the_record_nor_in_anything_shown(start_admin: StartAdmin) -> None:
    tokens = [{"name": "boss", "role": "admin", "token": "boss-token"}]
    admin = await start_admin({**two_backends(), "admin": {"tokens": tokens}})
    both = [*tokens, {"name": "new", "role": "read", "token": SECRET}]
    await admin.json("PATCH", "/api/v1/admin/config", {"admin": {"tokens": both}})
    texts = [
        (await admin.http.get(path)).text
        for path in (
            "/api/v1/admin/audit",
            "/api/v1/admin/config",
            "/api/v1/admin/config?expanded=true",
            "/api/v1/admin/config/history",
            "/api/v1/admin/decisions",
            "/metrics",
        )
    ]
    stored = await admin.controller._store.latest()
    for text in [*texts, str(stored)]:
        assert SECRET not in text
        assert "boss-token" not in text
    for text in texts:
        assert hash_token(SECRET)[:40] not in text
    assert hash_token(SECRET) in str(stored)
    answer = await admin.http.get(
        "/api/v1/admin/stats", headers={"authorization": f"Bearer {SECRET}"}
    )
    assert answer.status_code == 200


async def test_a_shown_configuration_can_be_put_back_with_its_tokens(
    start_admin: StartAdmin,
) -> None:
    tokens = [{"name": "boss", "role": "admin", "token": "boss-token"}]
    admin = await start_admin({**two_backends(), "admin": {"tokens": tokens}})
    shown = await admin.json("GET", "/api/v1/admin/config")
    assert shown["admin"]["tokens"][0]["token"] == "***"
    applied = await admin.json("PUT", "/api/v1/admin/config", shown)
    assert applied["changes"] == []
    assert (await admin.http.get("/api/v1/admin/stats", headers=BOSS)).status_code == 200
    shown["admin"]["tokens"][0]["name"] = "stranger"
    refused = await admin.json("PUT", "/api/v1/admin/config", shown, status=400)
    assert refused["errors"][0]["path"] == "admin.tokens[0].token"


async def test_a_token_may_be_kept_as_a_passwords_hash(start_admin: StartAdmin) -> None:
    tokens = [{"name": "boss", "role": "admin", "token": hash_password(b"boss-token")}]
    admin = await start_admin({**two_backends(), "admin": {"tokens": tokens}})
    for _ in range(2):
        assert (await admin.http.post("/api/v1/admin/reload", headers=BOSS)).status_code == 200
    wrong = {"authorization": "Bearer boss-tokem"}
    assert (await admin.http.get("/api/v1/admin/stats", headers=wrong)).status_code == 401


async def test_a_client_that_keeps_guessing_waits_and_is_counted(start_admin: StartAdmin) -> None:
    tokens = [{"name": "boss", "role": "admin", "token": "boss-token"}]
    admin = await start_admin({**two_backends(), "admin": {"tokens": tokens}})
    wrong = {"authorization": "Bearer wrong"}
    statuses = [
        (await admin.http.get("/api/v1/admin/stats", headers=wrong)).status_code for _ in range(7)
    ]
    assert statuses == [401] * 6 + [429]
    refused = await admin.http.get("/api/v1/admin/stats", headers=BOSS)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    # Others, and local callers without a token, are not kept out.
    other = await admin.http.get(
        "/api/v1/admin/stats", headers={**BOSS, "evenflow-client": "203.0.113.7"}
    )
    assert other.status_code == 200
    page = (await admin.http.get("/metrics")).text
    assert 'evenflow_admin_refused_total{reason="credential"} 6' in page
    assert 'evenflow_admin_refused_total{reason="locked"} 2' in page
