"""Whether what concerns Redis servers and fleets makes sense together."""

from __future__ import annotations

from collections.abc import Iterator

from .cluster import ClusterConfig, RedisServer, StateConfig
from .models import Config
from .problems import Problem
from .sections import FilterChain
from .types import Secret

_OF_REDIS = ("url", "password", "ca_file", "prefix", "timeout", "lease", "wait_replicas")


def cluster_problems(config: Config) -> Iterator[Problem]:
    """Every contradiction in `state`, `cluster` and the scope of limits."""
    yield from _state(config.state)
    if config.cluster is not None:
        yield from _server("cluster", config.cluster)
    if config.security is not None:
        yield from _limit("security", config.security, config.cluster)
    for name, chain in config.filters.items():
        yield from _limit(f"filters.{name}", chain, config.cluster)


def _state(state: StateConfig) -> Iterator[Problem]:
    if state.store != "redis":
        for name in _OF_REDIS:
            if getattr(state, name) != StateConfig.model_fields[name].default:
                yield Problem(f"state.{name}", f"is for the store redis; it is {state.store}")
    elif state.url is None:
        yield Problem("state.url", "is missing; the store redis needs one: redis://HOST:PORT/0")
    elif (server := state.server) is not None:
        yield from _server("state", server)


def _server(path: str, server: RedisServer) -> Iterator[Problem]:
    if isinstance(server.url, Secret) and server.url.hidden:
        return  # Judged once the secret is put back.
    address = server.address
    if server.password is not None and address.password is not None:
        yield Problem(f"{path}.password", "the URL has a password already; keep one of them")
    if server.ca_file is not None and not address.encrypted:
        yield Problem(f"{path}.ca_file", "has no effect on an address with redis://")


def _limit(path: str, chain: FilterChain, cluster: ClusterConfig | None) -> Iterator[Problem]:
    limit = chain.rate_limit
    if limit is None or limit.scope != "fleet":
        return
    if cluster is None:
        text = "fleet needs a `cluster` section, through which nodes tell each other"
        yield Problem(f"{path}.rate_limit.scope", text)
    if limit.key == "route":
        text = "limits of scope fleet do not tell routes apart; give each route a filter of its own"
        yield Problem(f"{path}.rate_limit.key", text)
