"""Paths in backends' URLs make routes; the full form names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenflow.testing import document

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins


def test_a_path_in_a_url_takes_the_requests_below_it(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    users, orders, payments = origins("users", "orders", "payments")
    balancer = evenflow(
        env={
            "LB_BACKENDS": f"{users.url}/users,{orders.url}/orders,{payments.url}/payments",
            "LB_HEALTH_CHECK__ENABLED": "false",
        }
    )
    for origin in (users, orders, payments):
        for path in ("", "/", "/7", "/7/x?y=z", "?q"):
            assert balancer.request(target=f"/{origin.name}{path}").text == f"{origin.name}\n"
        assert [r.target for r in origin.requests] == [
            f"/{origin.name}{path}" for path in ("", "/", "/7", "/7/x?y=z", "?q")
        ]


def test_a_prefix_ends_at_a_segment_and_other_paths_are_404(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (users,) = origins("users")
    balancer = evenflow(document(f"{users.url}/users"))
    assert balancer.request(target="/users2").status == 404
    assert balancer.request(target="/").status == 404
    assert balancer.request(target="/Users").status == 404
    assert balancer.request(target="/users").status == 200


def test_several_backends_with_one_path_share_it(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    u1, u2, rest = origins("u1", "u2", "rest")
    balancer = evenflow(document(f"{u1.url}/users", f"{u2.url}/users/", rest.url))
    assert balancer.tally(10, "/users/7") == {"u1": 5, "u2": 5}
    assert balancer.tally(4, "/other") == {"rest": 4}


def test_the_longer_prefix_wins(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    outer, inner = origins("outer", "inner")
    balancer = evenflow(document(f"{outer.url}/a", f"{inner.url}/a/b"))
    assert balancer.tally(2, "/a/c") == {"outer": 2}
    assert balancer.tally(2, "/a/b") == {"inner": 2}
    assert balancer.tally(2, "/a/b/c") == {"inner": 2}
    assert balancer.tally(2, "/a/bc") == {"outer": 2}


def test_a_route_is_chosen_by_what_the_path_means_and_the_path_is_forwarded_as_sent(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    public, private = origins("public", "private")
    balancer = evenflow(document(f"{public.url}/public", f"{private.url}/private"))
    meaning_private = [
        "/public/../private",
        "/public/%2e%2e/private",
        "/public/.%2E/private/",
        "//private",
        "/%70rivate",
        "/./private",
    ]
    for path in meaning_private:
        assert balancer.request(target=path).text == "private\n", path
    assert [request.target for request in private.requests] == meaning_private
    # An encoded slash is no separator, and where a backend may take it for one, it is refused.
    assert balancer.request(target="/public/a%2fb").text == "public\n"
    assert balancer.request(target="/public/..%2fprivate").status == 400
    assert balancer.request(target="/private%2f").status == 404


def test_routes_by_host_and_path_in_the_full_form(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    names = ("api", "users", "exact", "rest")
    started = dict(zip(names, origins(*names), strict=True))
    balancer = evenflow(
        document(
            pools=[
                {"name": name, "backends": [{"id": name, "url": origin.url}]}
                for name, origin in started.items()
            ],
            routes=[
                {"name": "api", "match": {"host": "api.example.org"}, "pool": "api"},
                {
                    "name": "users",
                    "match": {"host": "api.example.org", "path": "/users/*"},
                    "pool": "users",
                },
                {"name": "exact", "match": {"path": "/only/this"}, "pool": "exact"},
                {"name": "rest", "pool": "rest"},
            ],
        )
    )

    def served(host: str, target: str) -> str:
        return balancer.request(target=target, headers=[("Host", host)]).text.strip()

    assert served("api.example.org", "/users/7") == "users"
    assert served("API.Example.ORG:8080", "/users") == "users"
    assert served("api.example.org", "/else") == "api"
    assert served("other.example.org", "/users/7") == "rest"
    assert served("other.example.org", "/only/this") == "exact"
    assert served("other.example.org", "/only/this/not") == "rest"


def test_listeners_have_routes_of_their_own(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    from evenflow.testing import free_port, request

    inside, outside = origins("inside", "outside")
    port, other = free_port(), free_port()
    balancer = evenflow(
        document(
            listeners=[
                {"name": "web", "address": f"127.0.0.1:{port}"},
                {"name": "back", "address": f"127.0.0.1:{other}"},
            ],
            pools=[
                {"name": "inside", "backends": [{"id": "inside", "url": inside.url}]},
                {"name": "outside", "backends": [{"id": "outside", "url": outside.url}]},
            ],
            routes=[
                {"name": "outside", "listeners": ["web"], "pool": "outside"},
                {"name": "inside", "listeners": ["back"], "pool": "inside"},
            ],
        ),
        port=port,
        hand_over_port=False,
    )
    assert balancer.tally(2) == {"outside": 2}
    assert request(other).text == "inside\n"


def test_backends_on_unix_sockets_are_served(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ef") as directory:
        (a,) = origins("a", unix=f"{directory}/a.sock")
        balancer = evenflow(document(a.url))
        assert balancer.tally(5) == {"a": 5}
