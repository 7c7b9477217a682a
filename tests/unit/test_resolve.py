"""Names to addresses."""

from __future__ import annotations

import asyncio

import pytest

from evenflow.resolve import Resolution, changed, resolve_targets, system_lookup


async def test_addresses_and_sockets_need_no_lookup() -> None:
    async def never(host: str) -> list[str]:
        raise AssertionError(host)

    found = await resolve_targets(["192.0.2.1:80", "[2001:db8::1]:80", "unix:/run/a"], never)
    assert [found[target].addresses for target in found] == [
        ("192.0.2.1:80",),
        ("[2001:db8::1]:80",),
        ("unix:/run/a",),
    ]


async def test_a_name_is_asked_for_once_for_all_its_ports() -> None:
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        return ["192.0.2.1", "2001:db8::1"]

    found = await resolve_targets(["app.test:80", "app.test:81"], lookup)
    assert asked == ["app.test"]
    assert found["app.test:81"].addresses == ("192.0.2.1:81", "[2001:db8::1]:81")


async def test_a_name_that_fails_or_hangs_is_an_error_text_and_holds_up_no_other() -> None:
    async def lookup(host: str) -> list[str]:
        match host:
            case "missing.test":
                raise OSError(-2, "Name or service not known")
            case "hanging.test":
                await asyncio.sleep(3600)
        return ["192.0.2.1"]

    found = await resolve_targets(
        ["missing.test:80", "hanging.test:80", "good.test:80"], lookup, timeout_s=0.05
    )
    assert found["good.test:80"].addresses == ("192.0.2.1:80",)
    assert found["missing.test:80"] == Resolution(
        (), "missing.test does not resolve: Name or service not known"
    )
    assert found["hanging.test:80"].error == "hanging.test did not resolve within 0.05 s"


async def test_only_a_few_names_are_asked_for_at_a_time() -> None:
    running = most = 0

    async def lookup(host: str) -> list[str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return ["192.0.2.1"]

    await resolve_targets([f"n{i}.test:80" for i in range(50)], lookup, concurrency=4)
    assert most == 4


async def test_the_system_resolver_knows_localhost() -> None:
    assert "127.0.0.1" in await system_lookup("localhost")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (("a", "b"), ("b", "a"), []),
        (("a",), ("b",), ["t"]),
        (("a",), (), []),
        ((), ("a",), ["t"]),
    ],
)
def test_what_counts_as_a_change_of_addresses(
    old: tuple[str, ...], new: tuple[str, ...], expected: list[str]
) -> None:
    assert changed({"t": Resolution(old)}, {"t": Resolution(new)}) == expected
