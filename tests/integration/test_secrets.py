"""No secret comes back out: one canary in every setting that takes a secret, and every way to look."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenflow.certs import self_signed
from evenflow.config.hashes import hash_token
from evenflow.engine import hash_password
from evenflow.testing import document, free_port, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins
    from tests.servers import Redis, RedisServers

CANARY = "c4nary-9f2d71aa"
ADMIN = ("Authorization", f"Bearer {CANARY}-admin")


def secrets_and_config(
    url: str, folder: Path, redis: Redis
) -> tuple[dict[str, str], dict[str, str], Any]:
    """Every secret by where it is, the environment, and a configuration that uses them all."""
    cert, key = self_signed(["a.test"])
    slow, quick = hash_password(f"{CANARY}-slow".encode()), hash_token(f"{CANARY}-quick")
    header_file = folder / "header"
    header_file.write_text(f"{CANARY}-from-file\n")
    environ = {
        "ADMIN_TOKEN": f"{CANARY}-admin",
        "UPSTREAM_KEY": f"{CANARY}-header",
        "EDGE_TOKEN": f"{CANARY}-edge",
        "CHECK_PASSWORD": f"{CANARY}-check",
        "SITE_KEY": key,
        "STORE_PASSWORD": redis.password,
    }
    rules = {
        "request": {
            "set": {"X-Upstream-Key": "${UPSTREAM_KEY}"},
            "add": {"X-Added": f"file:{header_file}"},
            "default": {"X-Default": "${UPSTREAM_KEY}"},
        },
    }
    config = document(
        url,
        listeners=[
            {"name": "plain", "address": f"127.0.0.1:{free_port()}", "filters": ["edits"]},
            {"name": "web", "address": "127.0.0.1:0", "tls": {"certificates": ["site"]}},
        ],
        routes=[
            {
                "name": "r",
                "match": {"path": "/r"},
                "filters": ["shared", "robots"],
                "pool": "default",
            },
            {"name": "all", "match": {"path": "/*"}, "pool": "default"},
            {"name": "p", "match": {"path": "/p"}, "filters": ["people"], "pool": "default"},
        ],
        pools=[
            {
                "name": "db",
                "health_check": {
                    "enabled": True,
                    "kind": "redis",
                    "interval": "200ms",
                    "password": "${CHECK_PASSWORD}",
                },
                "backends": [{"id": "db", "url": "redis://127.0.0.1:1"}],
            },
            {
                "name": "db2",
                "health_check": {"enabled": True, "kind": "redis", "password": f"{CANARY}-plain"},
                "backends": [{"id": "db2", "url": "redis://127.0.0.1:1"}],
            },
        ],
        filters={
            "shared": {
                "rate_limit": {
                    "key": "header:x-api-key",
                    "requests_per_second": 100,
                    "scope": "fleet",
                }
            },
            "edits": {"headers": rules, "security_headers": {"X-Edge": "${UPSTREAM_KEY}"}},
            "robots": {
                "auth": {
                    "bearer": {
                        "tokens": [
                            {"name": "env", "token": "${EDGE_TOKEN}"},
                            {"name": "plain", "token": f"{CANARY}-written-out"},
                        ]
                    }
                }
            },
            "people": {"auth": {"basic": {"users": {"alice": slow, "bob": quick}}}},
        },
        certificates={"site": {"cert": cert, "key": "${SITE_KEY}"}},
        admin={
            "tokens": [
                {"name": "boss", "role": "admin", "token": "${ADMIN_TOKEN}"},
                {"name": "other", "role": "read", "token": f"{CANARY}-other"},
            ]
        },
        logging={"level": "debug"},
        state={"store": "redis", "url": redis.url, "path": str(folder / "state")},
        cluster={"url": f"redis://{redis.address}", "password": "${STORE_PASSWORD}"},
    )
    hidden = {
        "canary": CANARY,
        "slow hash": slow,
        "quick hash": quick,
        "hash of a written token": hash_token(f"{CANARY}-written-out"),
        "hash of a token by reference": hash_token(f"{CANARY}-edge"),
        "admin hash": hash_token(f"{CANARY}-admin"),
        "private key": key.splitlines()[1],
    }
    return hidden, environ, config


def test_no_secret_comes_back_out_anywhere(
    evenflow: StartEvenflow,
    origins: StartOrigins,
    redis_servers: RedisServers,
    tmp_path: Path,
) -> None:
    (a,) = origins("a")
    redis = redis_servers.start(password=f"{CANARY}-store")
    hidden, environ, config = secrets_and_config(a.url, tmp_path, redis)
    port = int(config["listeners"][0]["address"].rpartition(":")[2])
    balancer = evenflow(config, port=port, hand_over_port=False, env=environ)
    seen: dict[str, str] = {}

    def look(what: str, method: str = "GET", target: str = "/", **options: Any) -> Any:
        answer = balancer.request(method, target, **options)
        fields = answer.head.raw.decode("latin-1") if what != "traffic" else ""
        if what != "traffic":
            # What is asked for is no leak: this very field belongs to every answer.
            fields = "\n".join(
                line for line in fields.splitlines() if not line.lower().startswith("x-edge:")
            )
        body = answer.body
        text = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode("latin-1")
        seen[f"{what} {method} {target} {len(seen)}"] = fields + text
        return answer

    def api(method: str, target: str, body: object = None, **more: str) -> Any:
        text = None if body is None else json.dumps(body).encode()
        fields = [ADMIN, ("Content-Type", "application/json"), *more.items()]
        return look("api", method, target, headers=fields, **({"body": text} if text else {}))

    # The settings do what they are for.
    passed = look("traffic", target="/", headers=[])
    assert (passed.status, passed.header("x-edge")) == (200, f"{CANARY}-header")
    head = a.requests[-1].head
    assert head.all("x-upstream-key") == [f"{CANARY}-header"]
    assert head.all("x-added") == [f"{CANARY}-from-file"]
    assert head.all("x-default") == [f"{CANARY}-header"]
    watching = redis.cli("config", "set", "slowlog-log-slower-than", "0")
    assert watching == "OK"
    for token in ("edge", "written-out"):
        fields = [("Authorization", f"Bearer {CANARY}-{token}"), ("X-Api-Key", f"{CANARY}-key")]
        assert look("traffic", target="/r", headers=fields).status == 200
    balancer.wait_for_metric('evenflow_cluster_messages_total{result="sent"}', 1)
    wrong = [("Authorization", f"Bearer {CANARY}-wrong")]
    assert look("refusal", target="/r", headers=wrong).status == 401
    assert look("refusal", target="/api/v1/admin/config", headers=wrong).status == 401

    # Changes, and mistakes in changes.
    shown = api("GET", "/api/v1/admin/config").json()
    assert shown["filters"]["edits"]["headers"]["request"]["set"] == {
        "X-Upstream-Key": "${UPSTREAM_KEY}"
    }
    assert api("PUT", "/api/v1/admin/config", shown).status == 200
    piece = {"headers": {"request": {"set": {"X-Upstream-Key": "${UPSTREAM_KEY}", "X-B": "b"}}}}
    assert api("PUT", "/api/v1/admin/filters/edits", piece).status == 200
    assert api("POST", "/api/v1/admin/config/diff", shown).status == 200
    new_token = {"name": "new", "token": f"{CANARY}-new"}
    robots = {"auth": {"bearer": {"tokens": [new_token]}}}
    assert api("PUT", "/api/v1/admin/filters/robots", robots).status == 200
    bad = tmp_path / "bad"
    bad.write_text(f"{CANARY}\r\nX-Injected: yes")
    for mistake in (
        {"headers": {"request": {"set": {"X-A": f"file:{bad}"}}}},
        {"headers": {"request": {"set": {"X-A": "${NOT_SET_AT_ALL}"}}}},
        {"auth": {"bearer": {"tokens": [{"name": "x", "token": f"$2b$04${CANARY}"}]}}},
        {"auth": {"basic": {"users": {"eve": f"{CANARY}-not-a-hash"}}}},
        {"auth": {"bearer": {"tokens": [{"name": "x", "token": [f"{CANARY}-in-a-list"]}]}}},
    ):
        assert api("PUT", "/api/v1/admin/filters/wrong", mistake).status in (400, 422), mistake
    assert api("POST", "/api/v1/admin/config/rollback", {"revision": 1}).status == 200
    assert api("POST", "/api/v1/admin/reload").status == 200

    # Every page there is.
    names = {"id": "db", "name": "default", "profile": "profile"}
    described = api("GET", "/openapi.json").json()
    pages = [path for path, methods in described["paths"].items() if "get" in methods]
    assert len(pages) > 20
    for page in pages:
        if "events" in page or page == "/debug/pprof/profile":
            continue  # One has no end, one takes its time; decisions hold what events tell.
        for name in ("default", "edits", "robots", "people", "site", "plain", "r", "db"):
            target = page.replace("{name}", name)
            for key, value in names.items():
                target = target.replace(f"{{{key}}}", value)
            assert api("GET", target).status in (200, 308, 400, 404, 503), target
            if "{name}" not in page:
                break
    for target in ("/r", "/p", "/"):
        asked = {
            "method": "GET",
            "target": target,
            "headers": [["authorization", f"Bearer {CANARY}-new"]],
        }
        assert api("POST", "/api/v1/admin/explain", asked).status == 200
    # The server between nodes knows clients' keys by hashes alone.
    seen["commands of the cluster"] = redis.cli("slowlog", "get", "1000")
    assert "cluster:passed" in seen["commands of the cluster"]
    wait_for(
        lambda: "redis" in balancer.output() or "unhealthy" in balancer.output(),
        "the log of a check",
        describe=balancer.output,
    )
    balancer.stop()
    seen["output"] = balancer.output()
    for where, text in seen.items():
        if where.startswith("traffic"):
            continue
        for what, secret in hidden.items():
            at = text.find(secret)
            assert at < 0, f"{what} in {where}: …{text[max(0, at - 200) : at + 60]}…"
