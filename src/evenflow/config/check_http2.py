"""Whether versions of HTTP make sense where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .expand import by_scheme, is_stream
from .models import Config, Pool
from .problems import Problem


def http2_problems(config: Config) -> Iterator[Problem]:
    """Every contradiction about HTTP/2."""
    tls = config.server.tls
    if tls is not None and not config.server.http2:
        yield from _offered("server.tls", tls.alpn or ())
    for index, listener in enumerate(config.listeners):
        path = f"listeners[{index}]"
        if listener.protocol != "http":
            if listener.http2 is not None:
                yield Problem(f"{path}.http2", "is for http listeners")
            continue
        on = config.server.http2 if listener.http2 is None else listener.http2
        if listener.tls is not None and not on:
            yield from _offered(f"{path}.tls", listener.tls.alpn or ())
    base = config.load_balancer.protocol
    yield from _backends("backends", "load_balancer.protocol", base, config)
    for index, pool in enumerate(config.pools):
        path = f"pools[{index}]"
        if pool.protocol is not None and is_stream(pool):
            yield Problem(f"{path}.protocol", "is for HTTP; these backends get bytes as they are")
        chosen = base if pool.protocol is None else pool.protocol
        place = "load_balancer.protocol" if pool.protocol is None else f"{path}.protocol"
        yield from _backends(f"{path}.backends", place, chosen, pool)


def _offered(path: str, alpn: Sequence[str]) -> Iterator[Problem]:
    if "h2" in alpn:
        yield Problem(f"{path}.alpn[{alpn.index('h2')}]", "h2 is offered, but `http2` is false")


def _backends(path: str, place: str, protocol: str, of: Pool | Config) -> Iterator[Problem]:
    if protocol == "h1" and "h2c" in by_scheme(of):
        yield Problem(place, f"is h1, but {path} has h2c:// URLs, which are HTTP/2")


__all__ = ["http2_problems"]
