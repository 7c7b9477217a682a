"""Whether UDP makes sense where it is asked for: datagrams keep to themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .expand import by_scheme
from .models import Config, Listener, Pool
from .problems import Problem


def datagram_problems(
    config: Config, lists: Sequence[tuple[str, Pool | Config]], flat: Sequence[Pool]
) -> Iterator[Problem]:
    """Every contradiction; `lists` are the paths of all lists of backends and what these are a part of."""
    for path, place in lists:
        kinds = {target.is_datagrams for target in by_scheme(place).values()}
        if len(kinds) > 1:
            yield Problem(path, "holds udp and other backends; give each kind a pool of its own")
    of_pool = {pool.name: _is_datagrams(pool) for pool in (*flat, *config.pools)}
    for index, pool in enumerate(config.pools):
        if pool.send_proxy is not None and of_pool[pool.name]:
            yield Problem(f"pools[{index}].send_proxy", "works on connections only, not on udp")
    for index, listener in enumerate(config.listeners):
        yield from _listener(f"listeners[{index}]", listener, of_pool)


def _listener(
    path: str, listener: Listener, of_pool: Mapping[str, bool | None]
) -> Iterator[Problem]:
    datagrams = listener.protocol == "udp"
    names = {f"{path}.sni[{at}].pool": rule.pool for at, rule in enumerate(listener.sni)}
    if listener.pool is not None:
        names[f"{path}.pool"] = listener.pool
    for place, name in names.items():
        if not datagrams and of_pool.get(name):
            yield Problem(place, f"pool {name!r} holds udp backends, which need a udp listener")
        elif datagrams and of_pool.get(name) is False:
            yield Problem(place, f"expected a pool of udp:// backends, got {name!r}")
    if not datagrams:
        if listener.answers:
            yield Problem(f"{path}.answers", "is for udp listeners")
        return
    if listener.sni:
        yield Problem(f"{path}.sni", "is for tcp listeners")
    if listener.retries.delay is not None:
        yield Problem(f"{path}.retries.delay", "is for tcp listeners: a datagram does not wait")
    if listener.proxy_protocol.accept:
        yield Problem(f"{path}.proxy_protocol", "works on connections only, not on udp")
    for address in listener.addresses:
        if address.startswith("unix:"):
            yield Problem(f"{path}.address", f"expected an address and a port, got {address!r}")


def _is_datagrams(pool: Pool) -> bool | None:
    """Whether its backends take datagrams; `None` where it has none yet, which may be either."""
    targets = by_scheme(pool).values()
    return any(target.is_datagrams for target in targets) if targets else None
