"""The secret of limits of scope fleet: where there are such limits, the plan gets it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .conftest import document

if TYPE_CHECKING:
    from evenflow.testing.fake_engine import FakeEngine

    from .conftest import Bench

SEED = bytes(range(32))
FLEET = {
    "security": {"rate_limit": {"requests_per_second": 5, "scope": "fleet"}},
    "cluster": {"url": "redis://store"},
}


def seed_in(engine: FakeEngine) -> list[int] | None:
    chain: Any = engine.plan["filters"][0]["steps"][0]
    seed: list[int] | None = chain["limit"]["fleet_seed"]
    return seed


async def test_limits_of_the_fleet_get_the_secret_without_a_new_revision(bench: Bench) -> None:
    bench.file = document("a", **FLEET)
    controller = await bench.start()
    assert seed_in(bench.engine) is None
    await controller.set_fleet_seed(SEED)
    assert seed_in(bench.engine) == list(SEED)
    assert controller.revision == 1
    plans = len(bench.engine.plans)
    await controller.set_fleet_seed(SEED)
    assert len(bench.engine.plans) == plans
    # Changes from now on carry it along, also those that name one pool's members alone.
    await controller.update_backend("a", {"weight": 5}, source="test")
    assert seed_in(bench.engine) == list(SEED)


async def test_nothing_is_applied_where_no_limit_has_use_for_it(bench: Bench) -> None:
    controller = await bench.start()
    plans = len(bench.engine.plans)
    await controller.set_fleet_seed(SEED)
    assert len(bench.engine.plans) == plans
    # The first limit that has use for it finds it.
    await controller.patch(FLEET, source="test")
    assert seed_in(bench.engine) == list(SEED)


async def test_a_secret_that_could_not_be_put_in_effect_is_tried_again(bench: Bench) -> None:
    bench.file = document("a", **FLEET)
    controller = await bench.start()

    def refuse(_: object) -> None:
        raise OSError("no memory")

    bench.engine.before_apply = refuse
    with pytest.raises(OSError, match="no memory"):
        await controller.set_fleet_seed(SEED)
    assert seed_in(bench.engine) is None
    bench.engine.before_apply = None
    await controller.set_fleet_seed(SEED)
    assert seed_in(bench.engine) == list(SEED)
