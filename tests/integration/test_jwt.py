"""Signed tokens at the edge: who gets in, who does not and why, and where keys come from."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evenflow.config.hashes import hash_token
from evenflow.engine import hash_password
from evenflow.testing import EvenflowProcess, document, wait_for
from evenflow.testing.authority import Authority

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

ISSUER, AUDIENCE = "https://id.example.org", "users"


@functools.cache
def private_key(name: str) -> Any:
    """A key of the kind that its name begins with."""
    match name.partition("-")[0]:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def jwk(name: str, alg: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half of a key, named like the key."""
    kind: Any = {"rsa": jwt.algorithms.RSAAlgorithm, "ed": jwt.algorithms.OKPAlgorithm}.get(
        name.partition("-")[0], jwt.algorithms.ECAlgorithm
    )
    shown = dict(kind.to_jwk(private_key(name).public_key(), as_dict=True))
    shown.pop("key_ops", None)
    return {**shown, "kid": name, "use": "sig", **({"alg": alg} if alg else {}), **more}


def pem(name: str) -> str:
    """The public half of a key in PEM."""
    public = private_key(name).public_key()
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def claims(**more: Any) -> dict[str, Any]:
    """What a good token says."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, "nbf": now - 5}
    return {name: value for name, value in (said | more).items() if value is not None}


def token(name: str, alg: str, *, kid: str | None = "", **more: Any) -> str:
    """A token signed with a key; `kid=None` names none."""
    headers = {} if kid is None else {"kid": kid or name}
    return jwt.encode(claims(**more), private_key(name), alg, headers=headers)


def encoded(value: object) -> str:
    """Text or JSON in base64url."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def bearer(text: str) -> list[tuple[str, str]]:
    """The field with a token."""
    return [("Authorization", f"Bearer {text}")]


JSON = ("Accept", "application/json")


def guarded(url: str, rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A balancer that lets in who has a token."""
    return document(
        url,
        security={"auth": {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, **rules}}},
        **more,
    )


def sent(origin: Any, name: str) -> list[str]:
    """The values of a field in the last request an origin got."""
    values: list[str] = origin.requests[-1].head.all(name)
    return values


class KeyServer:
    """An issuer's key set, and how it is served."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.content = b""
        self.show(*keys)
        self.mode = "good"
        self.asked = 0
        self.released = threading.Event()
        self.url = ""

    def show(self, *keys: dict[str, Any]) -> None:
        """Serve these keys from now on."""
        self.content = json.dumps({"keys": keys}).encode()


@contextlib.contextmanager
def key_server(*keys: dict[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[KeyServer]:
    """A key set over HTTP."""
    served = KeyServer(*keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            if served.mode == "dead":
                self.connection.close()
                return
            status = 503 if served.mode == "failing" else 200
            content = {"garbage": b"<html>", "huge": b" " * 300_000}
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.end_headers()
                if served.mode == "slow":
                    self.wfile.write(b'{"keys": ')
                    self.wfile.flush()
                    served.released.wait(20)
                self.wfile.write(content.get(served.mode, served.content))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    scheme = "https" if tls is not None else "http"
    served.url = f"{scheme}://localhost:{server.server_port}/jwks"
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def keys_of(balancer: EvenflowProcess, name: str = "security") -> dict[str, Any]:
    """The state of a filter's keys."""
    found: dict[str, Any] = balancer.api("GET", f"/admin/filters/{name}/keys")
    return found


def test_tokens_of_every_algorithm_let_in_and_tell_who_it_is(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    kinds = {
        "RS256": "rsa-a",
        "RS512": "rsa-b",
        "PS256": "rsa-c",
        "ES256": "ec-a",
        "ES384": "p384-a",
        "EdDSA": "ed-a",
    }
    file = tmp_path / "jwks.json"
    listed = [jwk(name, None if alg == "RS512" else alg) for alg, name in kinds.items()]
    listed += [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "OKP", "crv": "X25519"}]
    file.write_text(json.dumps({"keys": listed}))
    rules = {
        "jwks_file": str(file),
        "algorithms": list(kinds),
        "claims_to_headers": {"sub": "X-User", "/realm/roles": "X-Roles"},
        "forward": False,
    }
    balancer = evenflow(guarded(a.url, rules))
    forged = [("X-User", "root"), ("x-user", "root"), ("X_User", "root"), ("X-Roles", "admin")]
    for alg, name in kinds.items():
        good = token(name, alg, sub=f"of-{name}", realm={"roles": ["one", "two"]})
        for _ in range(2):  # The second one is remembered.
            answer = balancer.request(headers=[*bearer(good), *forged])
            assert answer.status == 200, (alg, answer.text)
            assert sent(a, "x-user") == [f"of-{name}"]
            assert sent(a, "x_user") == []
            assert sent(a, "x-roles") == ["one,two"]
            assert sent(a, "authorization") == []
    nameless = token("ec-a", "ES256", kid=None)
    assert balancer.request(headers=bearer(nameless)).status == 200
    # A key that states its algorithm is used with no other, and none with what is not listed.
    assert balancer.request(headers=bearer(token("rsa-a", "RS512"))).status == 401
    assert balancer.request(headers=bearer(token("rsa-c", "RS256"))).status == 401
    assert balancer.request(headers=bearer(token("rsa-b", "RS384"))).status == 401
    wait_for(
        lambda: any(event.get("user") == "of-ed-a" for event in balancer.events()),
        "the access log naming the user",
        describe=balancer.output,
    )
    state = keys_of(balancer)
    assert state["source"] == "jwks_file"
    assert {key["kid"]: key["algorithms"] for key in state["keys"]}["p384-a"] == ["ES384"]
    assert [text.partition(":")[0] for text in state["ignored"]] == ["keys[6] (shared)", "keys[7]"]
    assert state["last_refresh"].endswith("Z")
    assert state["last_error"] is None
    assert "c2VjcmV0" not in str(state) + balancer.output()
    assert balancer.metrics()['evenflow_jwt_keys{filter="security"}'] == 6


def test_no_other_token_lets_in_and_each_refusal_says_why(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk("rsa-a", "RS256"), jwk("ec-a")]}))
    rules = {"jwks_file": str(file), "leeway": "5s", "required_claims": ["sub", "/scope/read"]}
    balancer = evenflow(guarded(a.url, rules))
    scope: dict[str, Any] = {"scope": {"read": True}}
    good = token("ec-a", "ES256", **scope)
    head, payload, signature = good.split(".")
    now = int(time.time())
    public = pem("rsa-a").encode()

    def hmac(secret: bytes) -> str:
        import hashlib
        import hmac as hmacs

        signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa-a'})}.{encoded(claims(**scope))}"
        digest = hmacs.new(secret, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def signed(head_text: object, payload_text: object) -> str:
        message = f"{encoded(head_text)}.{encoded(payload_text)}"
        made = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(
            message.encode(), private_key("ec-a")
        )
        return f"{message}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"

    es256 = {"alg": "ES256", "kid": "ec-a"}
    said = json.dumps(claims(**scope))
    changed = encoded(json.loads(base64.urlsafe_b64decode(payload + "==")) | {"sub": "root"})
    deep = "[" * 3000 + "]" * 3000
    refused = [
        ("token_algorithm", f"{encoded({'alg': 'none'})}.{payload}."),
        ("token_algorithm", f"{encoded({'alg': 'None', 'kid': 'ec-a'})}.{payload}.{signature}"),
        ("token_algorithm", hmac(public)),
        ("token_algorithm", hmac(public.strip())),
        ("token_signature", f"{encoded({'alg': 'RS256', 'kid': 'rsa-a'})}.{payload}.{signature}"),
        ("token_unknown_key", f"{encoded({'alg': 'RS256', 'kid': 'ec-a'})}.{payload}.{signature}"),
        ("token_unknown_key", token("ec-b", "ES256", **scope)),
        ("token_unknown_key", token("ec-a", "ES256", kid="../../../etc/passwd", **scope)),
        ("token_unknown_key", token("ec-a", "ES256", kid="ec-a\0", **scope)),
        ("token_signature", token("ec-b", "ES256", kid="ec-a", **scope)),
        ("token_signature", f"{head}.{changed}.{signature}"),
        ("token_signature", f"{head}.{payload}.{encoded('x' * 64)}"),
        ("token_signature", f"{head}.{payload}."),
        ("token_expired", token("ec-a", "ES256", exp=now - 60, **scope)),
        ("token_not_yet_valid", token("ec-a", "ES256", nbf=now + 60, **scope)),
        ("token_claims", token("ec-a", "ES256", exp=None, **scope)),
        ("token_claims", signed(es256, claims(**scope) | {"exp": "9999999999"})),
        ("token_claims", token("ec-a", "ES256", scope={"write": True})),
        ("token_claims", token("ec-a", "ES256", sub=None, **scope)),
        ("token_issuer", token("ec-a", "ES256", iss="https://id.example.org/", **scope)),
        ("token_issuer", token("ec-a", "ES256", iss=None, **scope)),
        ("token_issuer", signed(es256, claims(**scope) | {"iss": [ISSUER]})),
        ("token_audience", token("ec-a", "ES256", aud=["others", "Users"], **scope)),
        ("token_audience", token("ec-a", "ES256", aud=None, **scope)),
        ("token_malformed", signed(es256, said[:-1] + ', "sub": "root"}')),
        ("token_malformed", signed(es256, said[:-1] + f', "deep": {deep}}}')),
        ("token_malformed", signed('{"alg": "ES256", "alg": "none"}', claims(**scope))),
        ("token_malformed", signed(es256 | {"crit": ["exp"]}, claims(**scope))),
        ("token_malformed", signed(es256, [claims(**scope)])),
        ("token_malformed", f"{good}=="),
        ("token_malformed", "not-a-token"),
        ("token_too_long", token("ec-a", "ES256", filler="x" * 14_000, **scope)),
    ]
    for reason, text in refused:
        answer = balancer.request(headers=[JSON, *bearer(text)])
        assert (answer.status, answer.json()["error"]) == (401, reason), text[:120]
        challenge = f'Bearer realm="evenflow", error="invalid_token", error_description="{reason}"'
        assert answer.header("www-authenticate") == challenge
    for fields in (
        [],
        [("Authorization", "Bearer")],
        [("Authorization", f"Basic {good}")],
        [*bearer(good), *bearer(good)],
        [*bearer(good), *bearer("other")],
        [("X-Token", good)],
        [("Cookie", f"token={good}")],
    ):
        answer = balancer.request(headers=[JSON, *fields])
        assert (answer.status, answer.json()["error"]) == (401, "unauthorized"), fields
        assert answer.header("www-authenticate") == 'Bearer realm="evenflow"'
    assert a.requests == []
    several = token("ec-a", "ES256", aud=["others", AUDIENCE], **scope)
    for text in (good, several, token("ec-a", "ES256", exp=now - 2, nbf=now + 3, **scope)):
        assert balancer.request(headers=bearer(text)).status == 200
    errors = balancer.metrics()
    expired = [value for key, value in errors.items() if 'reason="token_expired"' in key]
    assert expired == [1]
    wait_for(
        lambda: any("token_expired" in str(event) for event in balancer.events()),
        "the access log telling why",
        describe=balancer.output,
    )
    assert signature not in balancer.output()


def test_claims_become_headers_in_one_way_only(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    values: dict[str, tuple[Any, list[str]]] = {
        "text": ("plain text", ["plain text"]),
        "utf8": ("Jürgen", ["Jürgen"]),
        "number": (7, ["7"]),
        "share": (0.5, ["0.5"]),
        "truth": (True, ["true"]),
        "list": (["a", 1, False], ["a,1,false"]),
        "comma": (["a,admin", "b"], []),
        "lists": ([["a"], "b"], []),
        "object": ({"a": 1}, []),
        "null": (None, []),
        "crlf": ("a\r\nX-Admin: yes", []),
        "nul": ("a\0b", []),
        "listed": (["a\nX-Admin: yes"], []),
        "/a~1b/0/c": ("never a member by this name", ["found"]),
    }
    rules = {
        "public_key": pem("ec-a"),
        "claims_to_headers": {name: f"X-C{index}" for index, name in enumerate(values)},
    }
    balancer = evenflow(guarded(a.url, rules))
    said: dict[str, Any] = {name: value for name, (value, _) in values.items()}
    said |= {"null": None, "a/b": [{"c": "found"}]}
    text = jwt.encode(claims() | said, private_key("ec-a"), "ES256")
    spoofed = [(f"X-C{index}", "forged") for index in range(len(values))]
    answer = balancer.request(headers=[*bearer(text), *spoofed])
    assert answer.status == 200, answer.text
    for index, (name, (_, expected)) in enumerate(values.items()):
        assert [value.encode("latin-1").decode() for value in sent(a, f"x-c{index}")] == expected, (
            name
        )
    assert sent(a, "x-admin") == []
    assert sent(a, "authorization") == [f"Bearer {text}"]


def test_a_token_may_come_in_a_header_or_a_cookie(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    common = {"public_key": pem("ec-a"), "issuer": ISSUER}
    config = document(
        a.url,
        routes=[
            {"name": "h", "match": {"path": "/h"}, "filters": ["header"], "pool": "default"},
            {"name": "c", "match": {"path": "/c"}, "filters": ["cookie"], "pool": "default"},
            {"name": "k", "match": {"path": "/k"}, "filters": ["kept"], "pool": "default"},
        ],
        filters={
            "header": {"auth": {"jwt": {**common, "header": "X-Token", "forward": False}}},
            "cookie": {"auth": {"jwt": {**common, "cookie": "session"}}},
            "kept": {"jwt": {**common, "cookie": "session", "forward": False}},
        },
    )
    balancer = evenflow(config)
    good = token("ec-a", "ES256", kid=None)
    for target, fields, status in (
        ("/h", [("X-Token", good)], 200),
        ("/h", [("X-Token", good), ("X-Token", good)], 401),
        ("/h", [("X-Token", f"Bearer {good}")], 401),
        ("/h", bearer(good), 401),
        ("/c", [("Cookie", f"a=b; session={good}; c=d")], 200),
        ("/c", [("Cookie", f"session={good}; session={good}")], 401),
        ("/c", [("Cookie", f"session={good}"), ("Cookie", "session=")], 401),
        ("/c", [("Cookie", f"xsession={good}")], 401),
        ("/c", bearer(good), 401),
        ("/k", [("Cookie", f"a=b; session={good}; c=d"), ("Cookie", "e=f")], 200),
    ):
        assert balancer.request(target=target, headers=fields).status == status, (target, fields)
        if status == 200:
            assert sent(a, "x-token") == []
            cookies = [value for name, value in fields if name == "Cookie"]
            if target == "/k":
                cookies = ["a=b; c=d", "e=f"]
            assert sent(a, "cookie") == cookies


def test_keys_rotate_and_old_ones_serve_while_the_issuer_fails(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    with key_server(jwk("ec-a")) as issuer:
        rules = {"jwks_url": issuer.url, "refresh_interval": "1s", "refresh_timeout": "500ms"}
        balancer = evenflow(guarded(a.url, rules))

        def status(name: str) -> int:
            return balancer.request(headers=bearer(token(name, "ES256", sub=name))).status

        assert (status("ec-a"), status("ec-b")) == (200, 401)
        issuer.show(jwk("ec-a"), jwk("ec-b"))
        wait_for(lambda: status("ec-b") == 200, "the new key", describe=balancer.output)
        issuer.show(jwk("ec-b"))
        kept = token("ec-a", "ES256")
        wait_for(
            lambda: balancer.request(headers=bearer(kept)).status == 401,
            "the old key to be forgotten, with what was remembered of its tokens",
            describe=balancer.output,
        )
        for mode, said in (
            ("garbage", "key set in JSON"),
            ("huge", "longer than"),
            ("slow", "no complete answer"),
            ("dead", "clos"),
        ):
            issuer.mode = "good"
            wait_for(
                lambda: keys_of(balancer)["last_error"] is None,
                "a good fetch",
                describe=balancer.output,
            )
            issuer.mode = mode
            wait_for(
                lambda said=said: said in (keys_of(balancer)["last_error"] or ""),  # type: ignore[misc]
                f"the failure: {mode}",
                describe=lambda: str(keys_of(balancer)),
            )
            assert status("ec-b") == 200, mode
        failed = balancer.metrics()[
            'evenflow_jwt_key_fetches_total{filter="security",result="failed"}'
        ]
        assert failed >= 4
        issuer.released.set()
        issuer.mode = "good"
        issuer.show(jwk("ec-c"))
        wait_for(lambda: status("ec-c") == 200, "the issuer's return", describe=balancer.output)
        assert [key["kid"] for key in keys_of(balancer)["keys"]] == ["ec-c"]
        assert "keys not fetched" in balancer.output()
        # New keys are no new configuration.
        assert len(balancer.api("GET", "/admin/config/history")["history"]) == 1


def test_other_changes_do_not_wait_for_a_slow_issuer(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    with key_server(jwk("ec-a")) as issuer, ThreadPoolExecutor(1) as beside:
        balancer = evenflow(document(a.url))
        issuer.mode = "slow"
        rules = {"jwks_url": issuer.url, "issuer": ISSUER}
        change = {"security": {"jwt": rules}}
        patch = beside.submit(balancer.api, "PATCH", "/admin/config", change)
        wait_for(lambda: issuer.asked, "the first fetch")
        balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url})
        assert not patch.done(), "the other change came after the fetch"
        applied = patch.result()
        issuer.released.set()
        assert "no keys could be fetched yet" in str(applied["warnings"])
        # Neither change is lost.
        assert [each["id"] for each in balancer.api("GET", "/admin/backends")["backends"]][1:] == [
            "b"
        ]
        assert balancer.request().status == 503
        issuer.mode = "good"
        wait_for(lambda: balancer.request().status == 401, "the keys", describe=balancer.output)


def test_an_unknown_key_asks_for_a_fetch_but_not_too_often(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    with key_server(jwk("ec-a")) as issuer:
        rules = {"jwks_url": issuer.url, "refresh_after_unknown": "2s"}
        balancer = evenflow(guarded(a.url, rules))
        assert balancer.request(headers=bearer(token("ec-a", "ES256"))).status == 200
        asked, began = issuer.asked, time.monotonic()
        issuer.show(jwk("ec-b"))
        new = bearer(token("ec-b", "ES256"))
        assert balancer.request(headers=new).status == 401
        refused = 0

        def known() -> bool:
            nonlocal refused
            refused += 1
            return balancer.request(headers=new).status == 200

        wait_for(known, "the key asked for", describe=balancer.output)
        # Whatever the number of tokens, one fetch in two seconds.
        assert issuer.asked - asked <= 1 + (time.monotonic() - began) / 2
        assert refused > 1


def test_without_keys_requests_are_503_until_there_are_some(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    with key_server(jwk("ec-a")) as issuer:
        issuer.mode = "failing"
        balancer = evenflow(guarded(a.url, {"jwks_url": issuer.url}))
        good = bearer(token("ec-a", "ES256"))
        answer = balancer.request(headers=[JSON, *good])
        assert (answer.status, answer.json()["error"]) == (503, "auth_unavailable")
        assert "503" in keys_of(balancer)["last_error"]
        issuer.mode = "good"
        wait_for(
            lambda: balancer.request(headers=good).status == 200, "keys", describe=balancer.output
        )
    assert balancer.request(headers=good).status == 200


def test_a_key_set_over_tls_is_verified(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    authority = Authority(tmp_path)
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    good = bearer(token("ec-a", "ES256"))
    with key_server(jwk("ec-a"), tls=context) as issuer:
        trusting = {"jwks_url": issuer.url, "ca_file": str(authority.ca)}
        assert evenflow(guarded(a.url, trusting)).request(headers=good).status == 200
        doubtful = evenflow(guarded(a.url, {"jwks_url": issuer.url}))
        assert doubtful.request(headers=good).status == 503
        assert "certificate" in keys_of(doubtful)["last_error"]


def test_keys_in_files_are_read_again_and_broken_ones_left_alone(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (a,) = origins("a")
    file = tmp_path / "issuer.pem"
    file.write_text(pem("rsa-a"))
    balancer = evenflow(guarded(a.url, {"public_key_file": str(file)}))
    old, new = bearer(token("rsa-a", "RS256")), bearer(token("rsa-b", "RS256"))
    assert [balancer.request(headers=each).status for each in (old, new)] == [200, 401]
    file.write_text("-----BEGIN PUBLIC KEY-----\nbroken\n")
    wait_for(lambda: "files not reloaded" in balancer.output(), "the log", describe=balancer.output)
    assert balancer.request(headers=old).status == 200
    file.write_text(pem("rsa-b"))
    wait_for(
        lambda: balancer.request(headers=new).status == 200, "the new key", describe=balancer.output
    )
    assert balancer.request(headers=old).status == 401


def test_a_remembered_token_ends_in_time(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(guarded(a.url, {"public_key": pem("ec-a"), "leeway": 0}))
    short = bearer(token("ec-a", "ES256", exp=int(time.time()) + 3))
    assert balancer.request(headers=short).status == 200
    wait_for(
        lambda: balancer.request(headers=short).status == 401,
        "the token's end",
        describe=balancer.output,
    )
    answer = balancer.request(headers=[JSON, *short])
    assert answer.json()["error"] == "token_expired"


@pytest.mark.parametrize("with_credentials", [False, True])
def test_explain_tells_who_would_get_in(
    evenflow: StartEvenflow, origins: StartOrigins, with_credentials: bool
) -> None:
    (a,) = origins("a")
    filters: dict[str, Any] = {
        "jwt": {"jwt": {"public_key": pem("ec-a")}},
        "bearer": {"bearer": {"tokens": [{"name": "ci", "token": hash_token("ci-token")}]}},
        "basic": {"basic": {"users": {"bob": hash_token("secret")}}},
        "slow": {"basic": {"users": {"bob": hash_password(b"secret")}}},
        "external": {"external": {"pool": "default"}},
    }
    config = document(
        a.url,
        routes=[
            {"name": each, "match": {"path": f"/{each}"}, "filters": [each], "pool": "default"}
            for each in filters
        ],
        filters={name: {"auth": auth} for name, auth in filters.items()},
    )
    balancer = evenflow(config)
    pair = base64.b64encode(b"bob:secret").decode()
    given = {
        "jwt": f"Bearer {token('ec-a', 'ES256', kid=None)}",
        "bearer": "Bearer ci-token",
        "basic": f"Basic {pair}",
        "slow": f"Basic {pair}",
    }
    found = {}
    for name in filters:
        fields = [["authorization", given[name]]] if with_credentials and name in given else []
        asked = {"method": "GET", "target": f"/{name}", "headers": fields, "client": "127.0.0.1"}
        answer = balancer.api("POST", "/admin/explain", asked)
        (step,) = answer["filters"]
        assert step["filter"] == name
        found[name] = (step["check"], step["verdict"], step["status"], step["user"])
        assert (answer["backend"] is None) == (step["verdict"] == "refused")
    undecided = ("external", "undecided", 0, None)
    if with_credentials:
        assert found == {
            "jwt": ("jwt", "pass", 0, "alice"),
            "bearer": ("bearer", "pass", 0, "ci"),
            "basic": ("basic", "pass", 0, "bob"),
            "slow": ("basic", "undecided", 0, None),
            "external": undecided,
        }
    else:
        kinds = {"jwt": "jwt", "bearer": "bearer", "basic": "basic", "slow": "basic"}
        refused = {name: (kind, "refused", 401, None) for name, kind in kinds.items()}
        assert found == {**refused, "external": undecided}
    assert a.requests == []
