"""Lists over HTTP: asked for with their tag, with the headers that the registry wants."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from evenflow.discovery.http import http
from evenflow.testing import Origin
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import respond
from tests.unit.discovery.conftest import CUT, answer, asking, playing, urls


async def test_an_unchanged_list_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_TOKEN", "Bearer s3cret")
    script = [
        [answer([{"url": "http://10.0.0.1"}], etag='"v1"')],
        [answer(b"", "304 Not Modified", etag='"v1"')],
        [answer([{"targets": ["10.0.0.2:80"], "labels": {}}], etag='"v2"')],
        [answer(b"", "304 Not Modified")],
    ]
    async with playing(*script) as server:
        asked = {
            "url": f"{server.url}/list?of=1",
            "headers": {"Authorization": "${REGISTRY_TOKEN}"},
        }
        async with asking(http, http=asked, every="3s") as following:
            found = [await following() for _ in range(4)]
        assert [urls(each.endpoints)[0][-2:] for each in found] == [".1", ".1", "80", "80"]
        assert {each.again_s for each in found} == {3.0}
        tags = [head.partition("If-None-Match: ")[2].partition("\r")[0] for head in server.heads]
        assert tags == ["", '"v1"', '"v1"', '"v2"']
        assert all("Authorization: Bearer s3cret" in head for head in server.heads)
        assert server.targets[0] == "/list?of=1"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([answer(b"", "304 Not Modified")], "expected status 200, got 304"),
        ([answer(b"", "404 Not Found")], "expected status 200, got 404"),
        ([answer(b"{")], "not valid JSON"),
        ([answer({"hosts": []})], "hosts: expected a list"),
        ([answer([{"url": 3}])], r"\[0\].url"),
        (
            [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[", CUT],
            "before the answer was complete",
        ),
        ([b"nonsense\r\n\r\n"], "not valid HTTP"),
    ],
)
async def test_what_is_no_list_is_an_error_in_words(pieces: list[bytes], said: str) -> None:
    async with playing(pieces) as server:
        with pytest.raises(Exception, match=said):
            async with asking(http, http=server.url) as following:
                await following()


async def test_a_registry_that_says_nothing_is_given_up_in_time() -> None:
    async with playing([b"HTTP/1.1 200 OK\r\n", asyncio.Event()]) as server:
        with pytest.raises(TimeoutError):
            async with asking(http, http=server.url, timeout="100ms") as following:
                await following()


async def test_a_list_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evenflow.discovery.http.MAX_BYTES", 4096)
    async with playing([answer(["http://10.0.0.1"] * 1000)]) as server:
        with pytest.raises(Exception, match="longer than 4 KiB"):
            async with asking(http, http=server.url) as following:
                await following()


async def test_the_registrys_certificate_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("localhost"))
    with Origin(default=respond(200, b'["http://10.0.0.1"]'), tls=context) as origin:
        url = f"https://localhost:{origin.port}/"
        known = {"url": url, "ca_file": str(authority.ca)}
        async with asking(http, http=known) as following:
            assert urls((await following()).endpoints) == ["http://10.0.0.1"]
        with pytest.raises(Exception, match="certificate: "):
            async with asking(http, http=url) as following:
                await following()
