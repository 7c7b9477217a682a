"""The controller: changes are whole or not at all, one at a time, and on disk."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evenflow.config import Config, ConfigError, read_document
from evenflow.config.hashes import hash_token
from evenflow.controller import (
    BackendNotFound,
    Controller,
    RevisionConflict,
    RevisionNotFound,
    StateError,
    Verdict,
)
from evenflow.engine import Plan
from evenflow.testing.fake_engine import engine_error

from .conftest import Bench, FailingStore, backend, document


def refuse(plan: Plan) -> None:
    raise engine_error("bind", "listeners[0].addresses[0]", "address in use")


async def test_a_start_puts_the_configuration_in_force(bench: Bench) -> None:
    controller = await bench.start()
    assert controller.revision == 1
    assert bench.ids() == ["a", "b"]
    assert controller.listening["main"]
    assert [entry.source for entry in controller.history()] == ["start"]


async def test_an_added_backend_is_in_the_plan_and_in_the_store(bench: Bench) -> None:
    controller = await bench.start()
    applied = await controller.add_backend(backend("c"), source="api")
    assert applied.revision == 2
    assert applied.changes == ["backends[c]: added http://192.0.2.1:80"]
    assert bench.ids() == ["a", "b", "c"]
    stored = await bench.store.latest()
    assert stored is not None
    assert [entry["id"] for entry in stored.document["backends"]] == ["a", "b", "c"]


async def test_a_backend_whose_id_is_taken_is_refused(bench: Bench) -> None:
    controller = await bench.start()
    with pytest.raises(ConfigError):
        await controller.add_backend(backend("a"), source="api")
    assert (controller.revision, len(bench.engine.plans)) == (1, 1)


async def test_an_unknown_backend_is_not_found(bench: Bench) -> None:
    controller = await bench.start()
    with pytest.raises(BackendNotFound, match="nobody"):
        await controller.remove_backend("nobody", source="api")
    with pytest.raises(BackendNotFound):
        await controller.update_backend("nobody", {"weight": 1}, source="api")


async def test_a_changed_weight_reaches_the_engine(bench: Bench) -> None:
    controller = await bench.start()
    applied = await controller.update_backend("a", {"weight": 7}, source="api")
    assert applied.changes == ["backends[a].weight: 100 → 7"]
    assert bench.engine.endpoint("default", "a").document["weight"] == 7


async def test_restored_backends_replace_the_list(bench: Bench) -> None:
    controller = await bench.start()
    await controller.restore_backends([backend("x"), backend("y", 81)], source="api")
    assert bench.ids() == ["x", "y"]


async def test_a_patch_changes_only_what_it_names(bench: Bench) -> None:
    controller = await bench.start()
    applied = await controller.patch({"load_balancer": {"strategy": "ip_hash"}}, source="api")
    assert applied.changes == ["load_balancer.strategy: 'round_robin' → 'ip_hash'"]
    assert bench.ids() == ["a", "b"]
    assert "hash" in bench.engine.picker("default")


async def test_a_change_of_another_revision_than_the_one_in_force_is_refused(
    bench: Bench,
) -> None:
    controller = await bench.start()
    bench.file = document("a", "b", "c")
    # The reload is on its way, and revision 1 still in force, when the other change is asked for.
    reload = asyncio.ensure_future(controller.reload(source="SIGHUP"))
    await asyncio.sleep(0)
    assert controller.revision == 1
    with pytest.raises(RevisionConflict):
        await controller.patch({"load_balancer": {"max_retries": 1}}, source="api", only_at={1})
    assert (await reload).revision == controller.revision == 2
    assert controller.config.load_balancer.max_retries == 3
    for change in (
        controller.add_backend(backend("d"), source="api", only_at={1, 3}),
        controller.update_backend("a", {"weight": 2}, source="api", only_at=()),
        controller.remove_backend("a", source="api", only_at={1}),
        controller.apply(bench.read(), source="api", only_at={1}),
        controller.change(lambda config: config, source="api", only_at={1}),
        controller.rollback(1, source="api", only_at={1}),
        controller.reload(source="api", only_at={1}),
    ):
        with pytest.raises(RevisionConflict, match="revision 2"):
            await change
    assert (await controller.remove_backend("c", source="api", only_at={2})).revision == 3


async def test_a_patch_with_null_returns_to_the_default(bench: Bench) -> None:
    controller = await bench.start()
    await controller.patch({"load_balancer": {"max_retries": 1}}, source="api")
    await controller.patch({"load_balancer": {"max_retries": None}}, source="api")
    assert controller.config.load_balancer.max_retries == 3


async def test_what_only_a_restart_can_change_is_a_warning(bench: Bench) -> None:
    controller = await bench.start()
    applied = await controller.patch({"server": {"workers": 7}}, source="api")
    assert applied.warnings == ["server.workers: takes effect after a restart"]


async def test_a_listener_that_fails_does_not_fail_the_change(bench: Bench) -> None:
    controller = await bench.start()

    def fail(config: Config) -> None:
        raise RuntimeError("no")

    controller.on_config(fail)
    await controller.remove_backend("a", source="api")
    assert bench.ids() == ["b"]


async def test_what_is_in_force_already_is_no_new_revision(bench: Bench) -> None:
    controller = await bench.start()
    applied = await controller.apply(bench.read(), source="api")
    assert applied.changes == []
    assert (controller.revision, len(bench.engine.plans)) == (1, 1)


async def test_the_printed_configuration_can_be_put_back(bench: Bench) -> None:
    bench.file = document("a", admin={"tokens": [{"name": "ops", "token": "s3cret"}]})
    controller = await bench.start()
    printed = controller.document()
    assert "s3cret" not in str(printed)
    from evenflow.config import read_document

    applied = await controller.apply(read_document(printed), source="api")
    assert applied.changes == []
    assert controller.config.admin.tokens[0].token.value == hash_token("s3cret")


async def test_a_masked_token_of_an_unknown_name_is_refused(bench: Bench) -> None:
    controller = await bench.start()
    with pytest.raises(ConfigError, match=r"admin\.tokens\[0\]\.token"):
        await controller.patch(
            {"admin": {"tokens": [{"name": "new", "token": "***"}]}}, source="api"
        )


async def test_a_plan_the_engine_refuses_changes_nothing(bench: Bench) -> None:
    controller = await bench.start()
    bench.engine.before_apply = refuse
    with pytest.raises(ConfigError, match="address in use") as caught:
        await controller.add_backend(backend("c"), source="api")
    assert caught.value.errors[0].path == "listeners[0].addresses[0]"
    assert (controller.revision, bench.ids()) == (1, ["a", "b"])
    assert controller.applies_total == {"ok": 1, "failed": 1}
    bench.engine.before_apply = None
    await controller.add_backend(backend("c"), source="api")
    assert (controller.revision, bench.ids()) == (2, ["a", "b", "c"])


async def test_what_cannot_be_kept_is_taken_back(bench: Bench) -> None:
    controller = await bench.start()
    assert isinstance(bench.store, FailingStore)
    bench.store.failing = True
    with pytest.raises(StateError, match="disk is full"):
        await controller.remove_backend("a", source="api")
    assert bench.ids() == ["a", "b"]
    assert [entry.id for entry in controller.config.backends] == ["a", "b"]
    assert (controller.revision, bench.engine.plan["revision"]) == (1, 1)


async def test_changes_of_one_moment_go_one_after_another(bench: Bench) -> None:
    controller = await bench.start()
    await asyncio.gather(
        *(controller.add_backend(backend(f"n{i}", 9000 + i), source="api") for i in range(20))
    )
    assert controller.revision == 21
    assert set(bench.ids()) == {"a", "b", *(f"n{i}" for i in range(20))}


async def test_a_change_is_finished_when_its_caller_goes_away(bench: Bench) -> None:
    controller = await bench.start()
    task = asyncio.create_task(controller.add_backend(backend("c"), source="api"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while controller.revision < 2:
            await asyncio.sleep(0.001)
    assert bench.ids() == ["a", "b", "c"]


async def test_a_rollback_is_a_new_revision_with_the_old_configuration(bench: Bench) -> None:
    controller = await bench.start()
    await controller.remove_backend("a", source="api")
    applied = await controller.rollback(1, source="api")
    assert applied.revision == 3
    assert bench.ids() == ["a", "b"]
    assert [entry.revision for entry in controller.history()] == [3, 2, 1]
    with pytest.raises(RevisionNotFound):
        await controller.rollback(99, source="api")


async def test_a_difference_is_told_without_being_applied(bench: Bench) -> None:
    controller = await bench.start()
    from evenflow.config import read_document

    changes = controller.diff(read_document(document("a")))
    assert changes == ["backends[b]: removed"]
    assert controller.revision == 1


class TestReload:
    async def test_nothing_new_is_a_no_op(self, bench: Bench) -> None:
        controller = await bench.start()
        applied = await controller.reload(source="SIGHUP")
        assert (applied.revision, applied.changes, applied.warnings) == (1, [], [])
        assert len(bench.engine.plans) == 1

    async def test_changes_of_the_api_stay(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.add_backend(backend("api"), source="api")
        bench.file = document("a", "b", load_balancer={"max_retries": 1})
        await controller.reload(source="SIGHUP")
        assert bench.ids() == ["a", "b", "api"]
        assert controller.config.load_balancer.max_retries == 1

    async def test_the_file_wins_and_says_so(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.patch({"load_balancer": {"max_retries": 9}}, source="api")
        bench.file = document("a", "b", load_balancer={"max_retries": 1})
        applied = await controller.reload(source="SIGHUP")
        assert controller.config.load_balancer.max_retries == 1
        assert any("load_balancer.max_retries" in warning for warning in applied.warnings)

    async def test_a_broken_file_keeps_the_old_configuration(self, bench: Bench) -> None:
        controller = await bench.start()
        bench.file = {"backends": [{"id": "a", "url": "nonsense"}]}
        with pytest.raises(ConfigError):
            await controller.reload(source="file")
        assert bench.ids() == ["a", "b"]
        assert "backends[0].url" in (controller.last_reload_error or "")
        bench.file = document("a")
        await controller.reload(source="file")
        assert controller.last_reload_error is None
        assert bench.ids() == ["a"]
        assert controller.reloads_total == {"ok": 1, "failed": 1, "unchanged": 0}

    async def test_a_file_change_the_api_made_before_is_not_repeated(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.remove_backend("b", source="api")
        bench.file = document("a")
        applied = await controller.reload(source="file")
        assert applied.changes == []
        bench.file = document("a", "b")
        await controller.reload(source="file")
        assert bench.ids() == ["a", "b"]


class TestRestart:
    async def test_nothing_changed_is_no_new_revision(self, bench: Bench) -> None:
        await bench.start()
        again = await bench.start()
        assert again.revision == 1
        assert len(again.history()) == 1

    async def test_changes_of_the_api_survive(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.add_backend(backend("api"), source="api")
        again = await bench.start()
        assert (again.revision, bench.ids()) == (2, ["a", "b", "api"])

    async def test_the_file_changed_meanwhile_and_both_count(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.add_backend(backend("api"), source="api")
        await controller.remove_backend("a", source="api")
        bench.file = document("a", "b", "c")
        again = await bench.start()
        assert (again.revision, set(bench.ids())) == (4, {"b", "c", "api"})
        applied = await again.reload(source="SIGHUP")
        assert applied.changes == []

    async def test_a_backends_secret_survives_a_patch_a_restart_and_being_put_back(
        self, bench: Bench
    ) -> None:
        controller = await bench.start()
        check = {"kind": "redis", "password": "c4nary"}
        backend = {"id": "r", "url": "redis://127.0.0.1:6379", "health_check": check}
        pools = [{"name": "cache", "backends": [backend]}]
        await controller.patch({"pools": pools}, source="api")
        await controller.update_backend("r", {"weight": 7}, source="api")
        printed = controller.document()
        assert "c4nary" not in str(printed)
        printed["pools"][0]["backends"][0]["weight"] = 8
        await controller.apply(read_document(printed), source="api")
        again = await bench.start()
        (kept,) = again.config.pools[0].backends
        assert kept.weight == 8
        assert kept.health_check is not None
        assert kept.health_check.password is not None
        assert kept.health_check.password.value == "c4nary"

    async def test_a_secret_survives(self, bench: Bench) -> None:
        controller = await bench.start()
        tokens = [{"name": "ops", "role": "admin", "token": "s3cret"}]
        await controller.patch({"admin": {"tokens": tokens}}, source="api")
        again = await bench.start()
        assert again.config.admin.tokens[0].token.value == hash_token("s3cret")


class TestNames:
    async def test_a_name_that_does_not_resolve_is_a_warning(self, bench: Bench) -> None:
        controller = await bench.start()
        applied = await controller.update_backend("a", {"url": "http://app.test:80"}, source="api")
        assert len(applied.warnings) == 1
        assert "app.test does not resolve" in applied.warnings[0]
        assert bench.engine.endpoint("default", "a").document["addresses"] == []
        (status,) = [entry for entry in controller.backends() if entry.id == "a"]
        assert (status.status, status.usable) == ("unhealthy", False)

    async def test_no_change_waits_for_a_name_server_that_does_not_answer(
        self, bench: Bench
    ) -> None:
        bench.file = document("a", "b")
        bench.file["backends"].append({"id": "c", "url": "http://app.slow.test:80"})
        async with asyncio.timeout(3):
            controller = await bench.start()
        asked = len(bench.asked)
        async with asyncio.timeout(3):
            await controller.update_backend("a", {"weight": 7}, source="api")
        assert len(bench.asked) == asked

    async def test_a_name_that_is_slow_to_resolve_gets_its_addresses_later(
        self, bench: Bench
    ) -> None:
        bench.names = {"app.slow.test": ["192.0.2.7"]}
        controller = await bench.start()
        controller.start_background()
        applied = await controller.update_backend(
            "a", {"url": "http://app.slow.test:80"}, source="api"
        )
        assert "app.slow.test did not resolve within 0.5 s" in applied.warnings[0]
        bench.answering.set()
        async with asyncio.timeout(10):
            while bench.engine.endpoint("default", "a").document["addresses"] != ["192.0.2.7:80"]:
                await asyncio.sleep(0.01)

    async def test_a_name_becomes_its_addresses(self, bench: Bench) -> None:
        bench.names = {"app.test": ["192.0.2.7", "2001:db8::7"]}
        controller = await bench.start()
        await controller.update_backend("a", {"url": "http://app.test:80"}, source="api")
        assert bench.engine.endpoint("default", "a").document["addresses"] == [
            "192.0.2.7:80",
            "[2001:db8::7]:80",
        ]


class TestVerdicts:
    async def settled(self, bench: Bench, updates: int) -> None:
        async with asyncio.timeout(5):
            while len(bench.engine.pool_updates) < updates:
                await asyncio.sleep(0.001)

    async def test_an_unhealthy_backend_leaves_the_engine_at_once_and_the_picker_soon(
        self, bench: Bench
    ) -> None:
        controller = await bench.start()
        controller.set_verdict(("default", "a"), Verdict("unhealthy", "connection refused", 1.0))
        assert bench.engine.endpoint("default", "a").document["up"] is False
        await self.settled(bench, 1)
        assert bench.engine.picker("default") == {"cycle": {"table": [1]}}
        (status,) = [entry for entry in controller.backends() if entry.id == "a"]
        assert (status.status, status.reason) == ("unhealthy", "connection refused")

    async def test_verdicts_of_one_moment_cost_one_picker(self, bench: Bench) -> None:
        controller = await bench.start()
        for name in ("a", "b"):
            controller.set_verdict(("default", name), Verdict("unhealthy", "status 500", 1.0))
        await self.settled(bench, 1)
        await asyncio.sleep(0.05)
        assert len(bench.engine.pool_updates) == 1

    async def test_a_verdict_outlives_an_apply_that_keeps_the_backend(self, bench: Bench) -> None:
        controller = await bench.start()
        controller.set_verdict(("default", "a"), Verdict("unhealthy", "status 500", 1.0))
        await controller.update_backend("a", {"weight": 5}, source="api")
        assert bench.engine.endpoint("default", "a").document["up"] is False

    async def test_a_backend_at_another_url_is_another_backend(self, bench: Bench) -> None:
        controller = await bench.start()
        controller.set_verdict(("default", "a"), Verdict("unhealthy", "status 500", 1.0))
        await controller.update_backend("a", {"url": "http://192.0.2.9:80"}, source="api")
        assert bench.engine.endpoint("default", "a").document["up"] is True

    async def test_a_verdict_during_an_apply_is_not_lost(self, bench: Bench) -> None:
        controller = await bench.start()
        loop = asyncio.get_running_loop()

        def meanwhile(plan: Plan) -> None:
            done = asyncio.run_coroutine_threadsafe(verdict(controller), loop)
            done.result(timeout=5)

        async def verdict(controller: Controller) -> None:
            controller.set_verdict(("default", "a"), Verdict("unhealthy", "status 500", 1.0))

        bench.engine.before_apply = meanwhile
        await controller.add_backend(backend("c"), source="api")
        assert bench.engine.endpoint("default", "a").document["up"] is False
        await self.settled(bench, 1)
        assert bench.engine.picker("default") == {"cycle": {"table": [1, 2]}}

    async def test_a_recovered_backend_starts_slowly(self, bench: Bench) -> None:
        bench.file = document("a", "b", load_balancer={"slow_start": "60s"})
        controller = await bench.start()
        controller.set_verdict(("default", "a"), Verdict("unhealthy", "status 500", 1.0))
        controller.set_verdict(("default", "a"), Verdict("healthy", "status 200", 2.0))
        assert bench.engine.endpoint("default", "a").document["weight"] == 10
        (status,) = [entry for entry in controller.backends() if entry.id == "a"]
        assert (status.weight, status.effective_weight) == (100, 10)

    async def test_an_added_backend_starts_slowly_but_not_those_of_the_start(
        self, bench: Bench
    ) -> None:
        bench.file = document("a", load_balancer={"slow_start": "60s"})
        controller = await bench.start()
        await controller.add_backend(backend("c"), source="api")
        assert bench.engine.endpoint("default", "a").document["weight"] == 100
        assert bench.engine.endpoint("default", "c").document["weight"] == 10


class TestDecisions:
    async def test_a_subscriber_sees_what_is_decided(self, bench: Bench) -> None:
        controller = await bench.start()
        with controller.decisions.subscribe() as subscription:
            controller.set_verdict(("default", "a"), Verdict("unhealthy", "status 500", 1.0))
            async with asyncio.timeout(5):
                decision = await subscription.next()
        assert (decision.kind, decision.event, decision.reason) == (
            "health",
            "backend unhealthy",
            "status 500",
        )
        assert decision.document()["backend"] == "a"

    async def test_an_ejection_is_a_decision_and_shows_in_the_status(self, bench: Bench) -> None:
        controller = await bench.start()
        controller.start_background()
        bench.engine.eject("default", "b", "5 consecutive errors", for_s=30)
        async with asyncio.timeout(5):
            while not any(entry.kind == "ejection" for entry in controller.decisions):
                await asyncio.sleep(0.001)
        (status,) = [entry for entry in controller.backends() if entry.id == "b"]
        assert (status.status, status.reason) == ("ejected", "5 consecutive errors")

    @pytest.mark.parametrize("early", [True, False])
    async def test_a_passed_check_ends_an_ejection_where_the_pool_says_so(
        self, bench: Bench, *, early: bool
    ) -> None:
        bench.file["load_balancer"] = {"outlier": {"unejected_by_check": early}}
        controller = await bench.start()
        controller.start_background()
        bench.engine.eject("default", "b", "5 consecutive errors", for_s=30)
        async with asyncio.timeout(5):
            while not any(entry.kind == "ejection" for entry in controller.decisions):
                await asyncio.sleep(0.001)
        failed = Verdict("healthy", "status 500", checks_passed=0, checks_failed=1)
        controller.set_verdict(("default", "b"), failed)
        assert bench.engine.endpoint("default", "b").ejected_until > 0
        controller.set_verdict(("default", "b"), Verdict("healthy", "ok", checks_passed=1))
        assert (bench.engine.endpoint("default", "b").ejected_until == 0) is early

    async def test_each_apply_says_what_changed(self, bench: Bench) -> None:
        controller = await bench.start()
        await controller.remove_backend("b", source="api")
        last: Any = list(controller.decisions)[-1]
        assert last.details["changes"] == ["backends[b]: removed"]


async def test_one_change_among_thousands_is_told_to_the_engine_alone(bench: Bench) -> None:
    """Work that grows with the change and not with the pool, where it can be counted."""
    bench.file = document(*(f"b{number}" for number in range(10_000)))
    controller = await bench.start()
    before = controller.members
    await controller.add_backend(backend("new", 9), source="api")
    await controller.update_backend("b5000", {"weight": 7}, source="api")
    await controller.remove_backend("b77", source="api")
    told = [
        (change["at"], change["remove"], [endpoint["id"] for endpoint in change["insert"]])
        for change in bench.engine.member_changes
    ]
    assert told == [(10_000, 0, ["new"]), (5000, 1, ["b5000"]), (77, 1, [])]
    assert [change["revision"] for change in bench.engine.member_changes] == [2, 3, 4]
    assert sum(controller.members[key] is not before.get(key) for key in controller.members) == 2
    assert list(controller.members) == [("default", id) for id in bench.ids()]
    stored = await bench.store.latest()
    assert stored is not None
    assert [entry["id"] for entry in stored.document["backends"]] == bench.ids()


async def test_a_change_of_members_that_cannot_be_kept_is_taken_back(bench: Bench) -> None:
    controller = await bench.start()
    store = bench.store
    assert isinstance(store, FailingStore)
    store.failing = True
    with pytest.raises(StateError):
        await controller.add_backend(backend("c"), source="api")
    assert bench.ids() == ["a", "b"]
    store.failing = False
    await controller.remove_backend("a", source="api")
    assert bench.ids() == ["b"]
    assert ("default", "c") not in controller.members
