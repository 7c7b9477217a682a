"""The balancer's own paths: internal routes to the control plane and proofs, before any other."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.certs.acme.proofs import HttpProof, Proof
from evenflow.config import Config, Match
from evenflow.config.paths import CONTROL_POOL, exposed_paths

from . import document
from .matching import compile_match

CONTROL_LISTENER = CONTROL_POOL
_FIRST_BYTE_MS = 300_000
_IDLE_MS = 3_600_000


def control_pool(admin_socket: str) -> document.Pool:
    """The control plane as a pool of one, behind the Unix socket at `admin_socket`."""
    address = f"unix:{admin_socket}"
    return {
        "name": CONTROL_POOL,
        "picker": {"cycle": {"table": [0]}},
        "endpoints": [
            {
                "id": "control-plane",
                "target": address,
                "addresses": [address],
                "token": "",
                "weight": 1,
                "max_connections": 0,
                "up": True,
                "drain": False,
                "connect_timeout_ms": 5000,
                "first_byte_timeout_ms": _FIRST_BYTE_MS,
                "idle_timeout_ms": _IDLE_MS,
                "tls_name": None,
                "http": "h1",
            }
        ],
        "use_all": True,
        "panic": None,
        "queue": {"max": 0, "timeout_ms": 0},
        "outlier": None,
        "breaker": None,
        "sticky": None,
        "connections": {
            "max_idle": 16,
            "idle_ms": 4000,
            "tcp_keepalive_ms": 0,
            "ping_ms": 0,
            "ping_timeout_ms": 0,
        },
        "retry_budget": 0.0,
        "retry_floor": 0,
        "tls": None,
        "send_proxy": None,
    }


def control_routes(config: Config, listeners: Sequence[str]) -> list[document.Route]:
    """The routes of what is exposed on `listeners`, and of everything on the own listener."""
    routes: list[document.Route] = []
    if listeners:
        for name, path in exposed_paths(config):
            routes.append(_route(name, list(listeners), path))
    if config.admin.listen is not None:
        routes.append(_route(CONTROL_LISTENER, [CONTROL_LISTENER], None))
    return routes


def proof_routes(
    proofs: Sequence[Proof], listeners: Sequence[document.Listener]
) -> list[document.Route]:
    """Pages for those who are to issue a certificate (RFC 8555 §8.3), where HTTP is in the clear.

    A token is as good as unique, so no page asks for its host.
    """
    clear = [each["name"] for each in listeners if each["protocol"] == "http" and not each["tls"]]
    pages = {proof.path: proof.answer for proof in proofs if isinstance(proof, HttpProof)}
    return [
        _route(f"evenflow-acme-{number}", clear, path, _page(answer))
        for number, (path, answer) in enumerate(sorted(pages.items()))
        if clear
    ]


def _page(text: str) -> document.Action:
    return {
        "respond": {
            "status": 200,
            "content_type": "application/octet-stream",
            "headers": [],
            "body": text,
        }
    }


def _route(
    name: str, listeners: list[str], path: str | None, action: document.Action | None = None
) -> document.Route:
    return {
        "name": name,
        "listeners": listeners,
        "match": compile_match(Match(path=path)),
        "filters": [],
        "action": {"pool": CONTROL_POOL} if action is None else action,
        "fallback": None,
        "rewrite": None,
        "mirror": None,
        "fault": None,
        "internal": True,
        "timeout_ms": 0,
        "on_client_close": "abort",
        "retries": {
            "max": 0,
            "delay_ms": 0,
            "per_try_timeout_ms": 0,
            "statuses": [],
            "on_timeout": False,
            "budget": None,
        },
        "hedge": None,
        "upgrade": None,
    }
