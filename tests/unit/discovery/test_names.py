"""Name servers asked, on a real dnsmasq: what is an answer, how long it holds, what is an error."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from evenflow.discovery.dns import dns
from evenflow.discovery.endpoint import DiscoveryError
from evenflow.discovery.srv import srv
from evenflow.testing import free_port
from tests.conftest import program
from tests.unit.discovery.conftest import asking, urls

RECORDS = (
    "--host-record=both.internal,10.0.0.1,fd00::1",
    "--host-record=v4.internal,10.0.0.2",
    "--cname=alias.internal,v4.internal",
    "--address=/many.internal/10.0.1.1",
    "--address=/many.internal/10.0.1.2",
    "--srv-host=_http._tcp.some.internal,v4.internal,8081,5,7",
    "--srv-host=_http._tcp.some.internal,nowhere.internal,8082,5,7",
    "--srv-host=_http._tcp.none.internal,nowhere.internal,8082,5,7",
    "--srv-host=_http._tcp.off.internal",
    "--txt-record=text.internal,hello",
)


@pytest.fixture(scope="module")
def resolver() -> Iterator[str]:
    port = free_port()
    command = [
        *(program("dnsmasq", "dnsmasq-base"), "--no-daemon", "--no-resolv", "--no-hosts"),
        *("--conf-file=/dev/null", f"--port={port}", "--listen-address=127.0.0.1"),
        *("--bind-interfaces", "--local=/internal/", "--local-ttl=7", "--user=root", *RECORDS),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait()


async def test_both_families_are_asked_for_unless_one_is_named(resolver: str) -> None:
    at = {"dns": "both.internal:80", "resolver": resolver}
    wanted = {
        "any": ["http://10.0.0.1:80", "http://[fd00::1]:80"],
        "ipv4": ["http://10.0.0.1:80"],
        "ipv6": ["http://[fd00::1]:80"],
    }
    for family, found in wanted.items():
        async with asking(dns, **at, family=family) as following:
            endpoints = (await following()).endpoints
        assert urls(endpoints) == found
        assert endpoints[-1].id in ("10.0.0.1:80", "v6:fd00::1:80")


@pytest.mark.parametrize("name", ["v4.internal", "alias.internal", "many.internal"])
async def test_names_lead_to_their_addresses_in_one_order(name: str, resolver: str) -> None:
    async with asking(dns, dns=name, port=81, resolver=resolver) as following:
        found = [urls((await following()).endpoints) for _ in range(3)]
    expected = ["10.0.1.1", "10.0.1.2"] if name == "many.internal" else ["10.0.0.2"]
    assert found == [[f"http://{address}:81" for address in expected]] * 3


async def test_an_answer_is_asked_for_again_when_it_no_longer_holds(resolver: str) -> None:
    at = {"dns": "v4.internal:80", "resolver": resolver}
    async with asking(dns, **at, every="1h") as following:
        again_s = (await following()).again_s
    assert again_s is not None
    assert 6 <= again_s <= 7
    async with asking(dns, **at, every="2s") as following:
        assert (await following()).again_s == 2


@pytest.mark.parametrize("name", ["unknown.internal", "text.internal"])
async def test_a_name_without_addresses_is_an_empty_answer(name: str, resolver: str) -> None:
    async with asking(dns, dns=f"{name}:80", resolver=resolver, every="1h") as following:
        answer = await following()
    assert (list(answer.endpoints), answer.again_s) == ([], 1.0)


async def test_a_server_that_refuses_or_is_silent_is_an_error(resolver: str) -> None:
    with pytest.raises(DiscoveryError, match=r"www\.example\.org: no server answers .*REFUSED"):
        async with asking(dns, dns="www.example.org:80", resolver=resolver) as following:
            await following()
    silent = f"127.0.0.1:{free_port()}"
    with pytest.raises((DiscoveryError, TimeoutError)):
        async with asking(dns, dns="v4.internal:80", resolver=silent, timeout="200ms") as following:
            await following()


async def test_targets_without_address_are_left_out_but_are_no_empty_service(resolver: str) -> None:
    async with asking(srv, srv="_http._tcp.some.internal", resolver=resolver) as following:
        answer = await following()
    assert urls(answer.endpoints) == ["http://10.0.0.2:8081"]
    assert answer.notes == ["nowhere.internal has no address"]
    with pytest.raises(DiscoveryError, match=r"nowhere\.internal has no address"):
        async with asking(srv, srv="_http._tcp.none.internal", resolver=resolver) as following:
            await following()


@pytest.mark.parametrize("name", ["_http._tcp.off.internal", "_http._tcp.unknown.internal"])
async def test_a_service_that_is_not_offered_is_an_empty_answer(name: str, resolver: str) -> None:
    async with asking(srv, srv=name, resolver=resolver) as following:
        assert list((await following()).endpoints) == []
