"""Sources of endpoints in the configuration: one of them, with what is of use to it."""

from __future__ import annotations

from typing import Any

import pytest

from evenflow.config import ConfigError, Discover, expand, load, read_document
from evenflow.config.discovery import split_resolver


def refused(discover: Any, **sections: Any) -> str:
    """Why a configuration with this at its top is refused."""
    with pytest.raises(ConfigError) as error:
        read_document({"discover": discover, **sections})
    return str(error.value)


@pytest.mark.parametrize(
    ("discover", "said"),
    [
        ({}, "discover: expected exactly one of dns, srv, file"),
        ({"dns": "a:1", "file": "x"}, "discover: expected exactly one of"),
        (
            [{"dns": "a:1"}, {"dns": "b:1"}],
            "discover[1].name: source 'dns' is used twice, first at discover[0]",
        ),
        ({"dns": "a:99999"}, "discover.dns: expected a name and a port"),
        ({"dns": "a", "scheme": "tcp"}, "discover.dns: expected a port, as in a:5000"),
        ({"dns": "a:1", "port": 2}, "discover.port: is given in `dns` already"),
        ({"srv": "users.internal"}, "discover.srv: expected a name such as _http._tcp"),
        ({"srv": "_http._tcp.a", "port": 1}, "discover.port: has no effect: srv tells the port"),
        ({"file": "x", "resolver": "10.0.0.2"}, "discover.resolver: is for dns and srv"),
        ({"file": "x", "family": "ipv4"}, "discover.family: is for dns and srv"),
        ({"file": "x", "options": {"a": 1}}, "discover.options: are the arguments of a function"),
        (
            {"dns": "a:1", "resolver": "ns.example.org"},
            "discover.resolver: expected a server's address",
        ),
        ({"http": "ftp://a"}, "discover.http: expected an address such as https://"),
        ({"http": {"url": "https://u:p@a"}}, "discover.http.url: expected an address without name"),
        ({"consul": {"service": "a/b"}}, "discover.consul.service: expected a name of letters"),
        ({"kubernetes": {"service": "a", "port": 0}}, "discover.kubernetes.port: "),
        ({"docker": {"host": "/run/docker.sock"}}, "discover.docker.host: expected unix:///"),
        ({"use": "mine"}, "discover.use: expected package.module:function"),
        ({"dns": "a:1", "every": "1ms"}, "discover.every: expected a number of at least 0.1"),
        (
            {"dns": "a:1", "max_endpoints": 10_001},
            "discover.max_endpoints: expected a number of at most",
        ),
        ({"dnss": "a:1"}, "discover.dnss: unknown key; did you mean `dns`"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused_with_its_path(discover: Any, said: str) -> None:
    assert said in refused(discover)


def test_backends_and_endpoints_to_come_are_of_one_kind() -> None:
    stream = {"dns": "db.internal:5432", "scheme": "postgresql"}
    assert "holds HTTP and stream backends" in refused(
        stream, backends=[{"url": "http://10.0.0.1"}]
    )
    read_document({"discover": stream, "backends": [{"url": "postgresql://10.0.0.1"}]})
    assert "udp and other" in refused(
        [{"dns": "a:1", "scheme": "udp"}, {"srv": "_a._tcp.b", "scheme": "tcp"}]
    )


def test_a_pool_of_streams_to_come_is_served_by_a_stream_listener() -> None:
    full = expand(read_document({"discover": {"dns": "db.internal:5432", "scheme": "postgresql"}}))
    (listener,) = full.listeners
    assert (listener.protocol, listener.pool) == ("tcp", "default")
    assert full.pools[0].idle_timeout == 3600


def test_settings_for_kinds_to_come_are_of_use() -> None:
    read_document(
        {
            "discover": {"dns": "db.internal:5432", "scheme": "postgresql"},
            "health_check": {"user": "probe"},
        }
    )
    pools = [{"name": "p", "tls": {"verify": False}, "discover": {"dns": "a:1", "scheme": "https"}}]
    read_document({"pools": pools, "routes": [{"name": "r", "pool": "p"}]})


def test_the_flat_form_means_the_pool_default() -> None:
    config = read_document(
        {
            "backends": [{"url": "http://10.0.0.1/users"}, {"url": "http://10.0.0.2"}],
            "discover": {"dns": "a.internal:80"},
        }
    )
    pools = {pool.name: pool for pool in expand(config).pools}
    assert [each.kind for each in pools["default"].sources] == ["dns"]
    assert not pools["users"].sources
    again = read_document(expand(config).model_dump(mode="json", exclude_none=True))
    assert [p.sources for p in expand(again).pools] == [p.sources for p in expand(config).pools]


def test_what_is_printed_can_be_read_again_and_shows_no_secret() -> None:
    document = {
        "discover": [
            {"consul": {"service": "a", "token": "s3cret"}},
            {"http": {"url": "https://r.internal", "headers": {"x-a": "1"}}, "name": "registry"},
        ]
    }
    config = read_document(document)
    printed = config.model_dump(mode="json", exclude_none=True)
    assert [each["name"] for each in printed["discover"]] == ["consul", "registry"]
    assert "s3cret" not in str(printed)
    full = config.model_dump(mode="json", exclude_none=True, context={"secrets": True})
    assert read_document(full) == config


def test_a_variable_names_a_source() -> None:
    config = load(environ={"LB_DISCOVER__DNS": "users.internal:8080"}).config
    assert config.sources == (Discover(dns="users.internal:8080"),)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:5353", ("10.0.0.2", 5353)),
        ("fd00::1", ("fd00::1", 53)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
    ],
)
def test_a_resolver_is_an_address_and_perhaps_a_port(text: str, place: tuple[str, int]) -> None:
    assert split_resolver(text) == place
