"""One certificate with its key: what fits, what does not, and what is never told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evenflow.certs import PairError, prune, read_pair, save_pair, self_signed


def test_a_pair_tells_whose_it_is_and_until_when() -> None:
    cert, key = self_signed(["example.org", "*.example.org", "192.0.2.1"], days=5)
    pair = read_pair("site", cert, key)
    assert pair.domains == ("example.org", "*.example.org")
    assert pair.subject == "CN=example.org"
    assert 4.9 < (pair.not_after - time.time()) / 86400 < 5.1
    assert not pair.expired(time.time())
    assert pair.expired(pair.not_after)
    assert read_pair("site", cert, key, domains=["other.test"]).domains == ("other.test",)


@pytest.mark.parametrize(
    ("part", "said"), [("cert", "no certificate"), ("key", "no private key"), ("ocsp", "no OCSP")]
)
def test_what_cannot_be_read_is_named(part: str, said: str) -> None:
    cert, key = self_signed(["a.test"])
    given = {"cert": cert, "key": key, part: "SECRET"}
    with pytest.raises(PairError, match=said) as caught:
        read_pair("a", given["cert"], given["key"], ocsp=b"x" if part == "ocsp" else None)
    assert caught.value.part == part
    assert "SECRET" not in str(caught.value)


def test_a_key_must_belong_to_its_certificate() -> None:
    cert, _ = self_signed(["a.test"], kind="rsa")
    _, key = self_signed(["a.test"])
    with pytest.raises(PairError, match="does not belong"):
        read_pair("a", cert, key)


def test_a_pair_does_not_show_its_key() -> None:
    cert, key = self_signed(["a.test"])
    assert key.splitlines()[1] not in repr(read_pair("a", cert, key))


def test_kept_pairs_are_private_and_bounded(tmp_path: Path) -> None:
    files = []
    cert = ""
    for _ in range(7):
        cert, key = self_signed(["a.test"])
        files.append(save_pair(tmp_path / "certificates", read_pair("a", cert, key)))
        prune(tmp_path / "certificates", "a", files[-1][0])
    assert files[-1][1].stat().st_mode & 0o777 == 0o600
    assert files[-1][0].read_text() == cert
    assert len(list((tmp_path / "certificates").iterdir())) == 10
    assert not files[0][1].exists()
