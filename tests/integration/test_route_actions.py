"""What a route does: redirect, answer, rewrite, split, fall back, mirror, fail on purpose."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import document, wait_for
from evenflow.testing.behaviours import hang_up, respond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenflow.testing import Client, EvenflowProcess, Origin
    from evenflow.testing.response import Response
    from tests.conftest import StartEvenflow, StartOrigins


def pool(name: str, *origins: Origin, **more: object) -> dict[str, object]:
    """A pool of these origins."""
    backends = [{"id": origin.name, "url": origin.url} for origin in origins]
    return {"name": name, "backends": backends, **more}


def ask(
    client: Client,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """Make a request on a connection that is kept."""
    lines = [f"{method} {target} HTTP/1.1", "Host: h.test", *(f"{n}: {v}" for n, v in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    client.send("\r\n".join([*lines, "", ""]).encode() + body)
    return client.read_response(method=method)


def cookie(answer: Any) -> str:
    """The name and value that an answer sets; empty when it sets none."""
    return str(answer.header("set-cookie") or "").partition(";")[0]


def test_redirects_and_fixed_answers_need_no_backend(evenflow: StartEvenflow) -> None:
    balancer = evenflow(
        document(
            pools=[{"name": "empty"}],
            routes=[
                {
                    "name": "old",
                    "match": {"path": "/old/*"},
                    "redirect": {"to": "/new/", "keep_path": True},
                },
                {
                    "name": "user",
                    "match": {"path": "/u/{id}/{what}"},
                    "redirect": {
                        "to": "https://{host}/{what}?id={id}",
                        "status": 302,
                        "keep_query": False,
                    },
                },
                {
                    "name": "secure",
                    "match": {"host": "plain.example.org"},
                    "redirect": {"to": "https://{host}{path}"},
                },
                {
                    "name": "robots",
                    "match": {"path": "/robots.txt"},
                    "respond": {"body": "no\n", "headers": {"Cache-Control": "max-age=60"}},
                },
                {"name": "rest", "respond": {"status": 410}},
            ],
        )
    )
    cases = [
        ("h", "/old/a/b?x=1", 308, "/new/a/b?x=1"),
        ("h", "/old", 308, "/new/"),
        ("h", "/old//evil.test/.././x", 308, "/new/x"),
        ("h.test:81", "/u/7/cart?x=1", 302, "https://h.test/cart?id=7"),
        ("Plain.Example.ORG:80", "/a?b", 308, "https://plain.example.org/a?b"),
        ("h", "/robots.txt", 200, None),
        ("h", "/else", 410, None),
    ]
    for host, target, status, location in cases:
        answer = balancer.request(target=target, headers=[("Host", host)])
        assert (answer.status, answer.header("location")) == (status, location), target
    with balancer.client() as client:
        for _ in range(2):  # The connection is kept.
            robots = ask(client, "GET", "/robots.txt")
            assert (robots.text, robots.header("cache-control")) == ("no\n", "max-age=60")
            assert ask(client, "HEAD", "/robots.txt").header("content-length") == "3"
            assert ask(client, "GET", "/old").status == 308
    told = balancer.api("POST", "/admin/explain", {"method": "GET", "target": "/old/a"})
    assert told["reason"] == "the route answers by itself: 308 content-length: 0; location: /new/a"


def test_paths_and_hosts_are_rewritten(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            pools=[pool("p", a)],
            routes=[
                {
                    "name": "strip",
                    "match": {"path": "/app/*"},
                    "pool": "p",
                    "rewrite": {"strip_prefix": "/app", "host": "app.internal"},
                },
                {
                    "name": "template",
                    "match": {"path": "/users/{id}/*"},
                    "pool": "p",
                    "rewrite": {"path": "/u/{id}{rest}"},
                },
                {
                    "name": "expression",
                    "match": {"path": {"regex": "/files/([a-z]+)/([0-9]+)"}},
                    "pool": "p",
                    "rewrite": {"path": "/{2}/{1}"},
                },
                {
                    "name": "version",
                    "match": {"path": "/v1/*"},
                    "pool": "p",
                    "rewrite": {"regex": "/v1/(.+)", "path": "/v2/{1}"},
                },
            ],
        )
    )
    cases = {
        "/app/x/y?q=1": "/x/y?q=1",
        "/app": "/",
        "/app?q": "/?q",
        "/x/../app/%41//b": "/A/b",
        "/users/7/orders/": "/u/7/orders/",
        "/users/7": "/u/7",
        "/files/ab/12?": "/12/ab",
        "/v1/a/b": "/v2/a/b",
        "/v1": "/v1",
    }
    for target in cases:
        fields = [("Host", "h.test")]
        assert balancer.request("PUT", target, headers=fields, body=b"12").status == 200, target
    assert [request.target for request in a.requests] == list(cases.values())
    assert {bytes(request.body) for request in a.requests} == {b"12"}
    first, last = a.requests[0], a.requests[-1]
    assert (first.header("host"), first.header("x-forwarded-host")) == ("app.internal", "h.test")
    assert last.header("host") == "h.test"


def split(
    evenflow: StartEvenflow, origins: StartOrigins, **more: object
) -> tuple[EvenflowProcess, list[Origin]]:
    """A balancer that sends a fifth of the traffic to `green`."""
    blue, green = origins("blue", "green")
    arms = [
        {"pool": "blue", "weight": 80},
        {"pool": "green", "weight": 20, "when": {"headers": {"X-Canary": "1"}}},
    ]
    config = document(
        pools=[pool("blue", blue), pool("green", green)],
        routes=[{"name": "app", "split": arms, **more}],
        server={"trusted_proxies": ["127.0.0.1"]},
        logging={"access": {"enabled": False}},
    )
    return evenflow(config), [blue, green]


def test_a_split_keeps_its_shares(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    balancer, _ = split(evenflow, origins)
    counts = balancer.tally(1500)
    # Five standard deviations of a binomial distribution are about 77.
    assert abs(counts["green"] - 300) < 80, counts
    assert balancer.tally(20, headers=[("X-Canary", "1")]) == {"green": 20}


def test_a_split_by_key_keeps_clients_where_they_are(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer, _ = split(evenflow, origins, sticky="client_ip")
    served: dict[str, set[str]] = {}
    with balancer.client() as client:
        for _ in range(2):
            for number in range(400):
                address = f"10.0.{number // 200}.{number % 200}"
                fields = [("X-Forwarded-For", address)]
                text = ask(client, "GET", "/", headers=fields).text
                served.setdefault(address, set()).add(text.strip())
    assert all(len(names) == 1 for names in served.values())
    counts = Counter(name for names in served.values() for name in names)
    assert abs(counts["green"] - 80) < 40, counts


def test_a_split_by_cookie_sets_it_once_and_keeps_to_it(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer, _ = split(evenflow, origins, sticky="cookie")
    counts: Counter[str] = Counter()
    with balancer.client() as client:
        for _ in range(150):
            first = ask(client, "GET", "/")
            name = cookie(first)
            assert re.fullmatch(r"evenflow-split=\w{16}", name), name
            again = ask(client, "GET", "/", headers=[("Cookie", f"a=b; {name}")])
            assert (again.text, again.header("set-cookie")) == (first.text, None)
            counts[first.text.strip()] += 1
    assert 5 < counts["green"] < 60, counts


def test_a_fallback_serves_while_the_pool_cannot(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    main, spare = origins("main", "spare")
    config = document(
        pools=[
            pool("main", main, health_check={"enabled": True, "interval": "50ms"}),
            pool("spare", spare),
        ],
        routes=[{"name": "app", "pool": "main", "fallback": "spare"}],
    )
    balancer = evenflow(config)
    assert balancer.tally(3) == {"main": 3}
    main.health = respond(500)
    balancer.wait_for_status("main", "down", "unhealthy")
    assert balancer.tally(3) == {"spare": 3}
    told = balancer.api("POST", "/admin/explain", {"method": "GET", "target": "/"})
    assert (told["pool"], told["backend"]) == ("spare", "spare")
    balancer.wait_for_metric('evenflow_fallbacks_total{route="app"}', 3)


def test_a_session_stays_with_its_backend_through_changes_of_the_pool(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    sticky = {"cookie": "lb", "ttl": "1h"}
    config = document(
        pools=[pool("p", a, b, c, sticky=sticky)], routes=[{"name": "r", "pool": "p"}]
    )
    balancer = evenflow(config)
    sessions: dict[str, str] = {}
    for _ in range(6):
        answer = balancer.request()
        assert "Max-Age=3600" in str(answer.header("set-cookie"))
        sessions[cookie(answer)] = answer.text.strip()
    assert sorted(sessions.values()) == ["a", "b", "c"]

    def served(value: str) -> tuple[str, str]:
        answer = balancer.request(headers=[("Cookie", value)])
        return answer.text.strip(), cookie(answer)

    for value, name in sessions.items():
        assert [served(value) for _ in range(3)] == [(name, "")] * 3
    # One leaves: its sessions move on, the others stay where they are.
    balancer.api("DELETE", "/admin/backends/a")
    for value, name in sessions.items():
        found, now = served(value)
        if name == "a":
            assert found in "bc"
            assert sessions[now] == found
        else:
            assert (found, now) == (name, "")
    # Nobody can make a cookie up, and what is no cookie of ours counts for nothing.
    assert served(f"lb={'0' * 32}")[1] in sessions


def test_session_cookies_outlive_a_restart_and_their_key_is_not_shown(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    config = document(
        pools=[pool("p", a, b, sticky={"cookie": "lb"})],
        routes=[{"name": "r", "pool": "p"}],
        state={"store": "sqlite", "path": "state"},
    )
    balancer = evenflow(config)
    first = balancer.request()
    name, value = first.text, cookie(first)
    keys = list(balancer.directory.rglob("session.key"))
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600]
    shown = str(balancer.api("GET", "/admin/config")) + balancer.output()
    assert keys[0].read_bytes().hex() not in shown
    balancer.restart()
    assert [balancer.request(headers=[("Cookie", value)]).text for _ in range(4)] == [name] * 4


@pytest.mark.parametrize("shadow_does", ["answers", "hangs up", "is gone"])
def test_a_mirror_gets_copies_and_changes_nothing_for_the_client(
    evenflow: StartEvenflow, origins: StartOrigins, shadow_does: str
) -> None:
    main, shadow = origins("main", "shadow")
    if shadow_does == "hangs up":
        shadow.default = hang_up()
    config = document(
        pools=[pool("main", main), pool("shadow", shadow, outlier={"enabled": False})],
        routes=[
            {
                "name": "r",
                "pool": "main",
                "match": {"path": "/a/*"},
                "rewrite": {"strip_prefix": "/a"},
                "mirror": {"pool": "shadow"},
            }
        ],
    )
    balancer = evenflow(config)
    if shadow_does == "is gone":
        shadow.stop()
    body = b"x" * 20_000
    with balancer.client() as client:
        for number in range(10):
            answer = ask(client, "POST", f"/a/{number}?q", body=body)
            assert (answer.status, answer.text) == (200, "main\n")
    result = "answered" if shadow_does == "answers" else "failed"
    balancer.wait_for_metric(f'evenflow_mirrored_total{{route="r",result="{result}"}}', 10)
    assert len(main.requests) == 10
    if shadow_does == "answers":
        wait_for(lambda: len(shadow.requests) == 10, "ten copies")
        assert sorted(r.target for r in shadow.requests) == [f"/{n}?q" for n in range(10)]
        assert {bytes(r.body) for r in shadow.requests} == {body}


@pytest.mark.parametrize("per_connection", [0, 2])
def test_copies_share_a_kept_connection_and_outlive_its_end(
    evenflow: StartEvenflow, origins: StartOrigins, per_connection: int
) -> None:
    """A shadow that closes after some requests, unannounced, still gets every copy once."""
    (main,) = origins("main")
    (shadow,) = origins("shadow", requests_per_connection=per_connection)
    shadow.on("/chunks", respond(200, b"one two", framing="chunked"))
    mirror = {"name": "r", "pool": "main", "mirror": {"pool": "shadow"}}
    balancer = evenflow(
        document(pools=[pool("main", main), pool("shadow", shadow)], routes=[mirror])
    )
    answered = 'evenflow_mirrored_total{route="r",result="answered"}'
    with balancer.client() as client:
        for number, path in enumerate(["/", "/chunks", "/", "/chunks", "/", "/"], start=1):
            assert ask(client, "GET", path).text == "main\n"
            balancer.wait_for_metric(answered, number)
    assert len(shadow.requests) == 6
    assert shadow.connections == (3 if per_connection else 1)
    failed = 'evenflow_mirrored_total{route="r",result="failed"}'
    assert failed not in balancer.metrics()


def test_a_share_is_mirrored_and_large_bodies_are_left_out(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    main, shadow = origins("main", "shadow")
    mirror = {"pool": "shadow", "share": 0.5}
    balancer = evenflow(
        document(
            pools=[pool("main", main), pool("shadow", shadow)],
            routes=[
                {"name": "half", "pool": "main", "mirror": mirror},
                {
                    "name": "large",
                    "match": {"path": "/large"},
                    "pool": "main",
                    "mirror": {"pool": "shadow"},
                },
            ],
        )
    )
    with balancer.client() as client:
        for _ in range(200):
            ask(client, "GET", "/")
        assert ask(client, "POST", "/large", body=b"x" * 200_000).text == "main\n"
    balancer.wait_for_metric('evenflow_mirrored_total{route="large",result="skipped"}', 1)
    wait_for(lambda: 50 < len(shadow.requests) < 150, "about a hundred copies")


def test_faults_are_put_in_as_told(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            pools=[pool("p", a)],
            routes=[
                {
                    "name": "half",
                    "pool": "p",
                    "fault": {"abort": {"status": 418, "share": 0.5}},
                },
                {
                    "name": "slow",
                    "match": {"path": "/slow"},
                    "pool": "p",
                    "fault": {"delay": {"duration": "200ms"}},
                },
            ],
        )
    )
    with balancer.client() as client:
        statuses = Counter(ask(client, "GET", "/").status for _ in range(200))
    assert set(statuses) == {200, 418}
    assert 50 < statuses[418] < 150, statuses
    answer = balancer.request(target="/slow")
    assert answer.status == 200
    balancer.wait_for_metric('evenflow_faults_injected_total{route="slow",kind="delay"}', 1)
