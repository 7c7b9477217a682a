"""What a scanner finds: which versions and ciphers are spoken, and what is never done.

Every cipher that this machine's openssl knows is offered alone, with its security level turned off,
so that a refusal is the balancer's.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document, free_port
from evenflow.testing.authority import Authority
from tests.conftest import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow, StartOrigins

STRONG = {
    f"ECDHE-{proof}-{cipher}"
    for proof in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}
"""With forward secrecy and authenticated encryption: all that is spoken below TLS 1.3."""


def client(port: int, *options: str, said: str = "Q\n") -> str:
    """What `openssl s_client` tells of a connection; `said` is typed into it."""
    command = [program("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}"]
    done = subprocess.run(
        [*command, "-servername", "site.test", *options],
        check=False,
        input=said,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout + done.stderr


def spoken(port: int, *options: str) -> str | None:
    """The cipher of a connection; None where there is none."""
    lines = client(port, *options).splitlines()
    found = [line.rpartition(" ")[2] for line in lines if "Cipher is" in line]
    return found[0] if found and found[0] != "(NONE)" else None


@pytest.fixture
def served(evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path) -> tuple[int, int]:
    """Two listeners with an ECDSA and an RSA certificate: the usual profile, and the modern one."""
    authority = Authority(tmp_path)
    pairs = {
        "ecdsa": authority.issue("site.test", file="ecdsa"),
        "rsa": authority.issue("site.test", file="rsa", kind="rsa"),
    }
    (origin,) = origins("a")
    plain, usual, modern = free_port(), free_port(), free_port()
    names = list(pairs)
    evenflow(
        document(
            origin.url,
            listeners=[
                {"name": "plain", "address": f"127.0.0.1:{plain}"},
                {
                    "name": "usual",
                    "address": f"127.0.0.1:{usual}",
                    "tls": {"certificates": names},
                },
                {
                    "name": "modern",
                    "address": f"127.0.0.1:{modern}",
                    "tls": {"certificates": names, "profile": "modern", "min_version": "1.3"},
                },
            ],
            certificates={
                name: {"cert_file": str(pair.cert), "key_file": str(pair.key)}
                for name, pair in pairs.items()
            },
        ),
        port=plain,
        hand_over_port=False,
    )
    return usual, modern


def test_only_strong_ciphers_and_new_versions_are_spoken(served: tuple[int, int]) -> None:
    usual, modern = served
    listed = subprocess.run(
        [program("openssl", "openssl"), "ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    offered = [name for name in listed.split(":") if not name.startswith("TLS_")]
    assert len(offered) > 40
    assert set(offered) > STRONG
    accepted = {
        name
        for name in offered
        if spoken(usual, "-tls1_2", "-cipher", f"{name}:@SECLEVEL=0") is not None
    }
    assert accepted == STRONG
    for version in ("-tls1", "-tls1_1"):
        assert spoken(usual, version, "-cipher", "ALL:@SECLEVEL=0") is None, version
    for name in (
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ):
        for port in served:
            assert spoken(port, "-tls1_3", "-ciphersuites", name) == name
    assert spoken(modern, "-tls1_2", "-cipher", "ALL:@SECLEVEL=0") is None


def test_nothing_is_renegotiated_compressed_or_guessed(served: tuple[int, int]) -> None:
    """A session keeps its keys, and a protocol that nobody speaks here is an error."""
    usual, _ = served
    told = client(usual, "-tls1_2", said="R\nQ\n")
    assert "Compression: NONE" in told
    assert "Extended master secret: yes" in told
    assert "no renegotiation" in told.lower(), told
    assert spoken(usual, "-alpn", "http/1.1") is not None
    assert "ALPN protocol: http/1.1" in client(usual, "-alpn", "h3,http/1.1")
    refused = client(usual, "-alpn", "smtp")
    assert "no application protocol" in refused.lower(), refused
