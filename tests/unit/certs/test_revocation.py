"""Revocation lists: all of a file are looked at, and those that are overdue told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evenflow.certs import read_material, read_revocation_lists
from evenflow.config import Config, expand, read_document
from evenflow.testing.authority import Authority


def lists(authority: Authority, due_in_days: float) -> bytes:
    return authority.revoke(due_in_days=due_in_days).read_bytes()


def asking_for_certificates(authority: Authority, crl: Path) -> Config:
    site = authority.issue("site.test")
    proof = {"mode": "required", "ca_file": str(authority.ca), "crl_file": str(crl)}
    tls = {"cert_file": str(site.cert), "key_file": str(site.key), "client_auth": proof}
    return read_document({"backends": [{"url": "http://127.0.0.1:1"}], "server": {"tls": tls}})


def test_every_list_of_a_file_is_read(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "one"), Authority(tmp_path, "two")
    content = lists(first, 5) + b"# of the other\n" + lists(second, -5)
    found = read_revocation_lists(content)
    assert [each.issuer for each in found] == ["CN=evenflow tests one", "CN=evenflow tests two"]
    assert [each.overdue(time.time()) for each in found] == [False, True]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"nothing", "no revocation list"),
        (
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            "revocation list 2 cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, broken: bytes, said: str) -> None:
    good = lists(Authority(tmp_path), 5) if b"CRL" in broken else b""
    with pytest.raises(ValueError, match=said):
        read_revocation_lists(good + broken)


@pytest.mark.parametrize(("due_in_days", "warned"), [(5, False), (-5, True)])
def test_a_list_that_is_overdue_is_warned_of_whichever_it_is(
    tmp_path: Path, due_in_days: float, *, warned: bool
) -> None:
    authority = Authority(tmp_path)
    crl = tmp_path / "both.pem"
    crl.write_bytes(lists(authority, 7) + lists(Authority(tmp_path, "two"), due_in_days))
    config = expand(asking_for_certificates(authority, crl))
    warnings = [text for text in read_material(config).warnings if "crl_file" in text]
    assert bool(warnings) == warned
    assert all("a new list of CN=evenflow tests two was due on" in text for text in warnings)
