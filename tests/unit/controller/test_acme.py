"""When certificates are ordered, what serves meanwhile, and what is told of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from evenflow.certs import Material, self_signed
from evenflow.certs.acme.messages import AcmeError
from evenflow.certs.acme.store import Held, load_held, save_held
from evenflow.config import Config, expand, read_document
from evenflow.config.acme import PRODUCTION
from evenflow.controller.acme import (
    LIFE_BEFORE_RENEWAL,
    LONGEST_ASKED_WAIT_S,
    LONGEST_WAIT_S,
    SPREAD,
    AcmeCertificates,
)
from evenflow.controller.decisions import Decisions
from evenflow.controller.errors import NotOrdered
from tests.unit.controller.conftest import Bench, document

DAY_S = 86_400.0


def configuration(**acme: Any) -> dict[str, Any]:
    return document(
        "a",
        certificates={"auto": {"acme": {"domains": ["site.test"], **acme}}},
        listeners=[
            {"name": "plain", "address": "127.0.0.1:80"},
            {"name": "web", "address": "127.0.0.1:443", "tls": {"certificates": ["auto"]}},
        ],
    )


def full(**acme: Any) -> Config:
    return expand(read_document(configuration(**acme)))


def held(days: int, *domains: str) -> Held:
    """A certificate that began an hour ago."""
    cert, key = self_signed(domains or ["site.test"], days=days)
    return Held(PRODUCTION, domains or ("site.test",), cert, key)


class Owner:
    """Takes what a controller is told."""

    def __init__(self) -> None:
        self.decisions = Decisions()

    async def renew_material(self, *, source: str) -> object:
        raise AssertionError(source)


async def made(folder: Path | None, config: Config) -> AcmeCertificates:
    certificates = AcmeCertificates(Owner(), Material, folder)
    await certificates.first(config)
    certificates.follow(config)
    return certificates


def due_in(certificates: AcmeCertificates) -> float:
    return certificates.statuses()["auto"].next_attempt - time.time()


async def test_a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier(
    tmp_path: Path,
) -> None:
    save_held(tmp_path, "auto", held(90))
    found = {due_in(await made(tmp_path, full())) / (90 * DAY_S) for _ in range(5)}
    assert all(LIFE_BEFORE_RENEWAL - SPREAD - 0.01 < each < LIFE_BEFORE_RENEWAL for each in found)
    # Not all at the same moment.
    assert len(found) > 1


@pytest.mark.parametrize(
    "change",
    [{"domains": ["site.test", "www.site.test"]}, {"staging": True}],
    ids=["names", "authority"],
)
async def test_a_certificate_that_is_not_what_is_wanted_is_replaced_and_serves_until_then(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    kept = held(90)
    save_held(tmp_path, "auto", kept)
    wanted = full(**change)
    certificates = await made(tmp_path, wanted)
    assert due_in(certificates) <= 0
    assert certificates.ordered(wanted).pairs["auto"].chain_pem == kept.chain_pem


async def test_an_expired_certificate_is_ordered_at_once(tmp_path: Path) -> None:
    save_held(tmp_path, "auto", held(0))
    assert due_in(await made(tmp_path, full())) <= 0


async def test_attempts_become_rarer_and_never_too_rare(tmp_path: Path) -> None:
    certificates = await made(None, full(retry_after="120s"))
    entry = certificates._entries["auto"]
    waits = []
    for _ in range(12):
        certificates._failed(entry, AcmeError("no"))
        waits.append(due_in(certificates))
    assert 100 < waits[0] < 140
    assert 200 < waits[1] < 280
    assert 0.85 * LONGEST_WAIT_S < waits[-1] < 1.15 * LONGEST_WAIT_S
    assert certificates.statuses()["auto"].failures == 12
    assert certificates.statuses()["auto"].error == "no"
    # One that lives for a day only is tried for often enough.
    save_held(tmp_path, "auto", held(1))
    short = await made(tmp_path, full())
    for _ in range(12):
        short._failed(short._entries["auto"], AcmeError("no"))
    assert due_in(short) < DAY_S / 20


@pytest.mark.parametrize(
    ("asked", "waited"), [(3600.0, 3600.0), (1e9, LONGEST_ASKED_WAIT_S), (1.0, 120.0)]
)
async def test_an_authority_that_wants_to_be_left_alone_is(asked: float, waited: float) -> None:
    certificates = await made(None, full(retry_after="120s"))
    entry = certificates._entries["auto"]
    certificates._failed(entry, AcmeError("rateLimited", retry_after_s=asked))
    assert due_in(certificates) == pytest.approx(waited, rel=0.15)


async def test_a_changed_certificate_begins_anew(tmp_path: Path) -> None:
    certificates = await made(tmp_path, full())
    certificates._failed(certificates._entries["auto"], AcmeError("no"))
    other = full(domains=["other.test"])
    await certificates.first(other)
    certificates.follow(other)
    found = certificates.statuses()["auto"]
    assert (found.failures, found.error, found.next_attempt) == (0, None, 0.0)
    # The stand-in is for the new name.
    assert certificates.ordered(other).pairs["auto"].domains == ("other.test",)
    # The same again changes nothing.
    certificates._failed(certificates._entries["auto"], AcmeError("no"))
    certificates.follow(other)
    assert certificates.statuses()["auto"].failures == 1
    certificates.follow(expand(read_document(document("a"))))
    assert certificates.statuses() == {}
    with pytest.raises(NotOrdered):
        await certificates.renew("auto")


async def test_a_stand_in_serves_and_is_in_no_watched_file(bench: Bench) -> None:
    bench.file = configuration()
    controller = await bench.start()
    (certificate,) = bench.engine.plan["certificates"]
    assert (certificate["name"], certificate["domains"]) == ("auto", ["site.test"])
    (shown,) = controller.certificates()
    assert shown.subject == shown.issuer == "CN=site.test"
    assert shown.acme is not None
    assert shown.acme.state == "stand_in"
    assert controller._live.material.stamps == {}
    # Nothing is ordered before there is somebody to do it, and nothing changes by itself.
    assert not controller._acme.changed()


async def test_certificates_in_memory_only_are_warned_of(bench: Bench, tmp_path: Path) -> None:
    certificates = await made(None, full())
    (warning,) = certificates.warnings(full())
    assert warning.startswith("certificates.auto.acme: ")
    assert "state.store" in warning
    assert (await made(tmp_path, full())).warnings(full()) == []
    bench.file = document("a")
    controller = await bench.start()
    applied = await controller.apply(read_document(configuration()), source="test")
    assert warning in applied.warnings


async def test_what_is_damaged_is_ordered_anew(tmp_path: Path) -> None:
    for damage in (Held(PRODUCTION, ("site.test",), "none", "none"), None):
        if damage is None:
            (tmp_path / "certificate-auto.json").write_text("{")
        else:
            save_held(tmp_path, "auto", damage)
        certificates = await made(tmp_path, full())
        assert due_in(certificates) <= 0
    with pytest.raises(ValueError, match="damaged"):
        load_held(tmp_path, "auto")
