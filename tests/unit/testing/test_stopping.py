"""Origins that stop while clients connect leave nothing open behind them."""

from __future__ import annotations

import gc
import warnings

import pytest

from evenflow.testing import Client, Origin, TcpOrigin


@pytest.mark.parametrize("kind", [Origin, TcpOrigin])
def test_a_connection_made_at_the_moment_of_the_stop_is_closed(
    kind: type[Origin | TcpOrigin],
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(50):
            with kind("a") as origin:
                clients = [Client(origin.port) for _ in range(3)]
            for client in clients:
                client.close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
