"""What a balancer with nothing to do takes of the machine's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenflow.testing import document

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow

MIB = 1024 * 1024


def test_an_idle_balancer_with_one_worker_stays_below_64_mib(evenflow: StartEvenflow) -> None:
    balancer = evenflow(document("http://127.0.0.1:1", state={"store": "sqlite"}))
    assert balancer.request(target="/health/live").status == 200
    resident = balancer.rss_bytes()
    assert resident <= 64 * MIB, f"{resident / MIB:.1f} MiB"
