"""A strategy of one's own: turns among the backends of zone a, among all where there are none.

Use it with `strategy: prefer_local:prefer_local` and this directory on PYTHONPATH:

    PYTHONPATH=examples evenflow serve --config examples/own-strategy.yaml
"""

from collections.abc import Sequence

from evenflow.strategies import Endpoint, Picker, cycle


def prefer_local(endpoints: Sequence[Endpoint], zone: str = "a") -> Picker:
    """Called when members, weights or health change; the engine carries the result out."""
    local = [endpoint for endpoint in endpoints if endpoint.labels.get("zone") == zone]
    return cycle(local or endpoints, weight=lambda endpoint: endpoint.weight)
