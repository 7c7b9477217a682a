"""Who may do what, as a table."""

from __future__ import annotations

import pytest

from evenflow.admin.access import Allowed, Refused, Role, Token, decide
from evenflow.config.hashes import hash_token

TOKENS = [
    Token.of("viewer", "read", hash_token("see")),
    Token.of("operator", "operate", hash_token("turn")),
    Token.of("boss", "admin", hash_token("rule")),
]
LOCAL = {"evenflow-client": "127.0.0.1", "host": "localhost:8080"}


def verdict(needed: Role, fields: dict[str, str], *, hosts: tuple[str, ...] = ()) -> str:
    """`ok`, or the status of the refusal."""
    match decide(needed, fields.items(), tokens=TOKENS, hosts=hosts):
        case Allowed():
            return "ok"
        case Refused(status, reason):
            assert reason
            return str(status)


@pytest.mark.parametrize(
    ("client", "read", "write"),
    [
        ("127.0.0.1", "ok", "ok"),
        ("127.8.9.1", "ok", "ok"),
        ("::1", "ok", "ok"),
        ("::ffff:127.0.0.1", "ok", "ok"),
        ("unix", "ok", "ok"),
        ("10.1.2.3", "ok", "401"),
        ("172.16.0.1", "ok", "401"),
        ("172.32.0.1", "401", "401"),
        ("192.168.7.7", "ok", "401"),
        ("::ffff:192.168.7.7", "ok", "401"),
        ("169.254.1.1", "ok", "401"),
        ("fd00::7", "ok", "401"),
        ("fe80::7%eth0", "ok", "401"),
        ("8.8.8.8", "401", "401"),
        ("100.64.0.1", "401", "401"),
        ("192.0.2.1", "401", "401"),
        ("2001:db8::1", "401", "401"),
        ("", "401", "401"),
        ("localhost", "401", "401"),
        ("127.0.0.1, 8.8.8.8", "401", "401"),
    ],
)
def test_without_a_token_the_peers_address_decides(client: str, read: str, write: str) -> None:
    fields = {"host": "localhost:8080", "evenflow-client": client}
    assert verdict(Role.READ, fields) == read
    assert verdict(Role.OPERATE, fields) == write
    assert verdict(Role.ADMIN, fields) == write


def test_a_peer_nobody_named_is_a_stranger() -> None:
    assert verdict(Role.READ, {"host": "localhost"}) == "401"


def test_a_peer_named_twice_is_a_stranger() -> None:
    fields = [("evenflow-client", "127.0.0.1"), ("evenflow-client", "127.0.0.1")]
    assert isinstance(decide(Role.READ, fields), Refused)


@pytest.mark.parametrize(
    "field",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"x-forwarded-anything": ""},
        {"forwarded": "for=127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"cf-connecting-ip": "127.0.0.1"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "https://localhost:8080.evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
        {"host": "evil.example:8080"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example:8080"},
        {"host": "user@localhost"},
        {"host": "localhost:80a"},
        {"host": "[::1"},
        {"host": ""},
    ],
)
def test_what_may_come_from_elsewhere_does_not_count_as_local(field: dict[str, str]) -> None:
    assert verdict(Role.READ, LOCAL | field) == "401"
    assert verdict(Role.READ, LOCAL | field | {"authorization": "Bearer see"}) == "ok"


@pytest.mark.parametrize(
    "field",
    [
        {"host": "127.0.0.1:8080"},
        {"host": "[::1]:8080"},
        {"host": "[fe80::1]"},
        {"host": "localhost"},
        {"host": "LOCALHOST:8080"},
        {"host": "localhost.:8080"},
        {"host": "load-balancer:8080"},
        {"host": "app.localhost:8080"},
        {"host": "metadata.internal"},
        {"host": "printer.local"},
        {"origin": "http://localhost:8080"},
        {"host": "localhost", "origin": "http://localhost:80"},
        {"host": "localhost:443", "origin": "https://localhost"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_what_only_this_machine_can_have_meant_counts_as_local(field: dict[str, str]) -> None:
    assert verdict(Role.ADMIN, LOCAL | field) == "ok"


def test_a_request_without_a_host_is_no_browsers() -> None:
    assert verdict(Role.ADMIN, {"evenflow-client": "127.0.0.1"}) == "ok"


def test_a_configured_name_is_trusted() -> None:
    fields = LOCAL | {"host": "lb.example.org:8080"}
    assert verdict(Role.READ, fields) == "401"
    assert verdict(Role.READ, fields, hosts=("LB.example.org",)) == "ok"


@pytest.mark.parametrize(
    ("secret", "read", "operate", "admin"),
    [
        ("see", "ok", "403", "403"),
        ("turn", "ok", "ok", "403"),
        ("rule", "ok", "ok", "ok"),
        ("wrong", "401", "401", "401"),
        ("", "401", "401", "401"),
        ("see ", "ok", "403", "403"),
    ],
)
def test_a_token_gives_its_role_from_anywhere(
    secret: str, read: str, operate: str, admin: str
) -> None:
    fields = {"evenflow-client": "8.8.8.8", "authorization": f"Bearer {secret}"}
    assert verdict(Role.READ, fields) == read
    assert verdict(Role.OPERATE, fields) == operate
    assert verdict(Role.ADMIN, fields) == admin


@pytest.mark.parametrize("value", ["Bearer wrong", "Basic cm9vdDpyb290", "see", ""])
def test_a_wrong_credential_is_refused_even_from_loopback(value: str) -> None:
    assert verdict(Role.READ, LOCAL | {"authorization": value}) == "401"


def test_two_credentials_are_none() -> None:
    fields = [*LOCAL.items(), ("authorization", "Bearer see"), ("authorization", "Bearer rule")]
    assert isinstance(decide(Role.READ, fields, tokens=TOKENS), Refused)


def test_a_token_does_not_keep_its_secret() -> None:
    assert "rule" not in repr(TOKENS[2])
