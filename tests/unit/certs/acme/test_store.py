"""Accounts and pairs on disk: private, whole, and told when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenflow.certs.acme.store import (
    Account,
    Held,
    load_account,
    load_held,
    save_account,
    save_held,
)
from evenflow.config.acme import PRODUCTION, STAGING, Acme

ACME = Acme(domains=("a.test", "b.test"), email="ops@a.test")
HELD = Held(PRODUCTION, ("b.test", "a.test"), "chain", "SECRET")
ACCOUNT = Account(PRODUCTION, "ops@a.test", None, "SECRET", "https://ca.test/account/1")


def test_what_is_kept_comes_back_and_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "acme"
    assert load_held(folder, "site") is None
    assert load_account(folder, ACME) is None
    save_held(folder, "site", HELD)
    save_account(folder, ACCOUNT)
    assert (load_held(folder, "site"), load_account(folder, ACME)) == (HELD, ACCOUNT)
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "SECRET" not in repr(HELD) + repr(ACCOUNT)


def test_each_authority_and_contact_has_an_account_of_its_own(tmp_path: Path) -> None:
    save_account(tmp_path, ACCOUNT)
    for change in ({"staging": True}, {"email": None}, {"directory": "https://ca.test/dir"}):
        assert load_account(tmp_path, ACME.model_copy(update=change)) is None


def test_a_pair_fits_what_it_was_ordered_for_and_nothing_else() -> None:
    assert HELD.fits(ACME)
    assert not HELD.fits(ACME.model_copy(update={"staging": True}))
    assert not HELD.fits(ACME.model_copy(update={"domains": ("a.test",)}))
    assert Held(STAGING, HELD.domains, "", "").fits(ACME.model_copy(update={"staging": True}))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"directory": 7}', "\udcff"])
def test_a_damaged_file_is_told_with_its_place(tmp_path: Path, content: str) -> None:
    save_held(tmp_path, "site", HELD)
    save_account(tmp_path, ACCOUNT)
    for file in tmp_path.iterdir():
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
    for load in (lambda: load_held(tmp_path, "site"), lambda: load_account(tmp_path, ACME)):
        with pytest.raises(ValueError, match="is damaged"):
            load()
