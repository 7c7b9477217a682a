"""Families of what comes from elsewhere: address lists, key sets, endpoints, other nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenflow.controller import SourceStatus
from evenflow.observe.exposition import Family, labels

from .view import ClusterView, View


def families(view: View) -> Iterator[Family]:
    """How each was read last, and what was in it."""
    yield from _address_lists(view)
    yield from _keys(view)
    yield from _discovery(view.discovery)
    if view.cluster is not None:
        yield from _cluster(view.cluster)


def _address_lists(view: View) -> Iterator[Family]:
    lists = [(labels(file=file), *known) for file, known in view.address_lists.items()]
    yield Family(
        "evenflow_address_list_networks",
        "gauge",
        "Networks in the file of an address list.",
        [(label, count) for label, count, _, _ in lists],
    )
    yield Family(
        "evenflow_address_list_read_timestamp_seconds",
        "gauge",
        "When the file of an address list was read last, with success.",
        [(label, read_at) for label, _, read_at, _ in lists],
    )
    yield Family(
        "evenflow_address_list_failures_total",
        "counter",
        "How often the file of an address list was refused.",
        [(label, failures) for label, _, _, failures in lists],
    )


def _keys(view: View) -> Iterator[Family]:
    yield Family(
        "evenflow_jwt_keys",
        "gauge",
        "Public keys that a filter checks tokens with; 0 refuses all with 503.",
        [(labels(filter=name), count) for name, count in view.keys.items()],
    )
    yield Family(
        "evenflow_jwt_keys_refresh_timestamp_seconds",
        "gauge",
        "When a filter's public keys were read last, with success.",
        [(labels(filter=name), at) for name, at in view.keys_refreshed.items()],
    )
    yield Family(
        "evenflow_jwt_key_fetches_total",
        "counter",
        "Fetches of a filter's key set.",
        [
            (labels(filter=name, result=result), count)
            for (name, result), count in view.key_fetches.items()
        ],
    )


def _discovery(sources: Sequence[SourceStatus]) -> Iterator[Family]:
    sets = [labels(pool=each.pool, source=each.source) for each in sources]
    yield Family(
        "evenflow_discovery_endpoints",
        "gauge",
        "Endpoints in the last good answer of a source.",
        [(s, each.endpoints) for s, each in zip(sets, sources, strict=True)],
    )
    yield Family(
        "evenflow_discovery_updates_total",
        "counter",
        "Answers of a source: changed, unchanged, empty (and not taken), failed.",
        [
            (f'{s},result="{result}"', count)
            for s, each in zip(sets, sources, strict=True)
            for result, count in each.updates.items()
        ],
    )
    yield Family(
        "evenflow_discovery_last_success_timestamp_seconds",
        "gauge",
        "When a source answered last.",
        [
            (s, each.last_success)
            for s, each in zip(sets, sources, strict=True)
            if each.last_success is not None
        ],
    )


def _cluster(cluster: ClusterView) -> Iterator[Family]:
    yield Family(
        "evenflow_cluster_up",
        "gauge",
        "Whether the server between the nodes is reached.",
        [("", int(cluster.up))],
    )
    yield Family(
        "evenflow_cluster_nodes",
        "gauge",
        "Nodes that gave a sign of life of late, this one included.",
        [("", cluster.nodes)],
    )
    yield Family(
        "evenflow_cluster_messages_total",
        "counter",
        "Messages about limits of scope fleet: sent, received, lost on the way, or refused.",
        [(labels(result=result), count) for result, count in cluster.messages.items()],
    )
    yield Family(
        "evenflow_cluster_untold_requests_total",
        "counter",
        "Requests that passed limits of scope fleet and that other nodes were not told of, as too "
        "many keys came at once.",
        [("", cluster.untold)],
    )
