"""All files and key sets that a configuration's TLS and filters refer to, read at one moment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from evenflow.config import Config, ConfigError, Problem
from evenflow.config.expand import SECURITY_CHAIN, SERVER_CERTIFICATE
from evenflow.config.jwt import SOURCES, JwtAuth
from evenflow.config.tls import Certificate
from evenflow.config.types import list_file

from .acme.proofs import Proof
from .files import Stamp, stamp
from .key_set import Address, KeysError, KeySet, address_of, jwt_filters, usable
from .moment import day
from .networks import read_networks
from .pair import Pair, PairError, check_roots, read_pair
from .revocation import RevocationList, read_revocation_lists


class MaterialError(ConfigError):
    """Files that cannot be used; `lists` says why, for those of them that are address lists."""

    def __init__(self, errors: Iterable[Problem], lists: Mapping[str, str]) -> None:
        super().__init__(errors)
        self.lists = dict(lists)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Certificates that come from an authority, and what it is shown for further ones."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)
    """By name; one that vouches for itself where there is no other yet."""
    proofs: tuple[Proof, ...] = ()


NOTHING_ORDERED: Final = Ordered()


@dataclass(frozen=True)
class Material:
    """Certificates by name, texts of other files by path, and the state of every file read."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What lists of addresses hold, by path."""
    networks_read_at: Mapping[str, float] = field(default_factory=dict, compare=False)
    """When each of them was read, in Unix seconds."""
    revocations: Mapping[str, tuple[RevocationList, ...]] = field(default_factory=dict)
    """Revocation lists, by the path of their file."""
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    keys: Mapping[str, KeySet] = field(default_factory=dict)
    """What tokens are checked with, by filter."""
    keys_read_at: Mapping[str, float] = field(default_factory=dict, compare=False)
    """When the keys that are in files were read, in Unix seconds."""
    stapled: Mapping[str, bytes] = field(default_factory=dict)
    """The OCSP responses that held when this was read, by certificate."""
    proofs: tuple[Proof, ...] = ()
    """What is shown to those who are to issue a certificate."""

    def stale(self) -> bool:
        """Whether a file is not as it was when it was read, or other responses hold now."""
        return self.staples_changed() or any(
            stamp(Path(path)) != known for path, known in self.stamps.items()
        )

    def staples_changed(self) -> bool:
        """Whether other OCSP responses hold now than those that are stapled."""
        return self.stapled != _holding(self.pairs)


def _holding(pairs: Mapping[str, Pair]) -> dict[str, bytes]:
    now = time.time()
    return {
        name: pair.staple.response
        for name, pair in pairs.items()
        if pair.staple is not None and pair.staple.fault(now) is None
    }


def needs_material(config: Config) -> bool:
    """Whether `config`, in full form, names any file or key set."""
    return bool(
        config.certificates
        or any(True for _ in _text_files(config))
        or jwt_filters(config)
        or any(True for _ in _list_files(config))
    )


def changes(before: Material, after: Material) -> list[str]:
    """What is another in `after`, a line for each certificate and file."""
    lines = [
        f"certificates.{name}: another certificate"
        for name, pair in after.pairs.items()
        if (known := before.pairs.get(name)) is not None and known != pair
    ]
    if before.proofs != after.proofs:
        names = ", ".join(sorted({proof.domain for proof in after.proofs}))
        lines.append(f"certificates: proofs are shown for {names or 'no name any more'}")
    lines += [
        f"{path}: another content"
        for path, text in after.texts.items()
        if path in before.texts and before.texts[path] != text
    ]
    lines += [
        f"{path}: another list, of {len(networks)} networks"
        for path, networks in after.networks.items()
        if before.networks.get(path, networks) != networks
    ]
    lines += [
        f"{_chain_path(name)}: other keys"
        for name, keys in after.keys.items()
        if before.keys.get(name, keys) != keys
    ]
    return lines


def read_material(
    config: Config,
    before: Material | None = None,
    fetched: Mapping[Address, KeySet] | None = None,
    ordered: Ordered = NOTHING_ORDERED,
) -> Material:
    """Reads every file that `config`, in full form, names; `fetched` is what key sets hold.

    `ordered` is what there is of certificates that come from an authority: in no file that is
    watched, and absent where nothing runs that orders any.

    Raises `MaterialError` with every problem. A certificate that has expired is refused, except
    where it is in force already (in `before`) or at the start (`before` is None): then it is in
    the warnings, since stopping the rest would help nobody.
    """
    reader = _Reader(before)
    for name, certificate in config.certificates.items():
        if certificate.acme is not None:
            if (pair := ordered.pairs.get(name)) is not None:
                reader.pairs[name] = pair
            continue
        path = name if name == SERVER_CERTIFICATE else f"certificates.{name}"
        reader.read_certificate(name, certificate, path)
    for place, file in _text_files(config):
        reader.read_text(place, file, lists=place.endswith(".crl_file"))
    for place, file in _list_files(config):
        reader.read_list(place, file)
    for name, jwt in jwt_filters(config).items():
        reader.read_keys(name, jwt, fetched or {})
    if reader.problems:
        raise MaterialError(reader.problems, reader.refused_lists)
    return Material(
        pairs=reader.pairs,
        texts=reader.texts,
        networks=reader.networks,
        networks_read_at=reader.networks_read_at,
        revocations=reader.revocations,
        stamps=reader.stamps,
        warnings=tuple(reader.warnings),
        keys=reader.keys,
        keys_read_at=reader.keys_read_at,
        stapled=_holding(reader.pairs),
        proofs=ordered.proofs,
    )


def _text_files(config: Config) -> Iterator[tuple[str, str]]:
    for name, certificate in config.certificates.items():
        if certificate.acme is not None and certificate.acme.ca_file is not None:
            yield f"certificates.{name}.acme.ca_file", certificate.acme.ca_file
    for index, listener in enumerate(config.listeners):
        if listener.tls is None or listener.tls.client_auth.mode == "off":
            continue
        proof = listener.tls.client_auth
        for name, file in (("ca_file", proof.ca_file), ("crl_file", proof.crl_file)):
            if file is not None:
                yield f"listeners[{index}].tls.client_auth.{name}", file
    for index, pool in enumerate(config.pools):
        if pool.tls is not None and pool.tls.ca_file is not None:
            yield f"pools[{index}].tls.ca_file", pool.tls.ca_file


def _list_files(config: Config) -> Iterator[tuple[str, str]]:
    for name, chain in config.filters.items():
        for key, entries in (
            ("ip_whitelist", chain.ip_whitelist),
            ("ip_blacklist", chain.ip_blacklist),
        ):
            for index, entry in enumerate(entries):
                if (file := list_file(entry)) is not None:
                    yield f"{_chain_path(name)}.{key}[{index}]", file


def _chain_path(name: str) -> str:
    return name if name == SECURITY_CHAIN else f"filters.{name}"


def is_local(url: str) -> bool:
    """Whether an address is on this very machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1", "127.0.0.1"}


class _Reader:
    """Collects what was read and what was wrong."""

    def __init__(self, before: Material | None) -> None:
        self.before = before
        self.pairs: dict[str, Pair] = {}
        self.texts: dict[str, str] = {}
        self.networks: dict[str, tuple[str, ...]] = {}
        self.networks_read_at: dict[str, float] = {}
        self.refused_lists: dict[str, str] = {}
        self.revocations: dict[str, tuple[RevocationList, ...]] = {}
        self.stamps: dict[str, Stamp] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.keys: dict[str, KeySet] = {}
        self.keys_read_at: dict[str, float] = {}

    def read_certificate(self, name: str, wanted: Certificate, path: str) -> None:
        cert = self._part(f"{path}.cert_file", wanted.cert_file, wanted.cert)
        key = self._part(f"{path}.key_file", wanted.key_file, wanted.key)
        ocsp = None
        if wanted.ocsp_file is not None:
            ocsp = self._bytes(f"{path}.ocsp_file", wanted.ocsp_file)
            if ocsp is None:
                return
        if cert is None or key is None:
            return
        shown = {"cert": wanted.cert_file, "key": wanted.key_file, "ocsp": wanted.ocsp_file}
        try:
            pair = read_pair(name, cert, key, domains=wanted.domains, ocsp=ocsp)
        except PairError as error:
            file = shown[error.part]
            field = f"{error.part}_file" if file is not None else error.part
            prefix = f"{file}: " if file is not None else ""
            self.problems.append(Problem(f"{path}.{field}", f"{prefix}{error}"))
            return
        if pair.expired(time.time()):
            text = f"{wanted.cert_file or name}: the certificate expired at {day(pair.not_after)}"
            known = self.before.pairs.get(name) if self.before is not None else pair
            if known is not None and known.fingerprint == pair.fingerprint:
                self.warnings.append(f"{path}: {text}")
            else:
                self.problems.append(Problem(f"{path}.cert_file", text))
                return
        fault = pair.staple.fault(time.time()) if pair.staple is not None else None
        if fault is not None:
            text = f"{wanted.ocsp_file}: {fault}; nothing is stapled"
            self.warnings.append(f"{path}.ocsp_file: {text}")
        self.pairs[name] = pair

    def read_text(self, place: str, file: str, *, lists: bool) -> None:
        content = self._bytes(place, file)
        if content is None:
            return
        try:
            if lists:
                self.revocations[file] = read_revocation_lists(content)
                self.warnings += [
                    f"{place}: {file}: {each}; this one is gone by"
                    for each in self.revocations[file]
                    if each.overdue(time.time())
                ]
            else:
                check_roots(content)
        except ValueError as error:
            self.problems.append(Problem(place, f"{file}: {error}"))
            return
        self.texts[file] = content.decode("ascii", "replace")

    def read_list(self, place: str, file: str) -> None:
        if file in self.networks:
            return
        known = self.before.networks.get(file) if self.before is not None else None
        if known is not None and self.before is not None:
            now = stamp(Path(file))
            if now is not None and now == self.before.stamps.get(file):
                # Every change of the configuration comes here; long lists seldom change with it.
                self.networks[file], self.stamps[file] = known, now
                self.networks_read_at[file] = self.before.networks_read_at[file]
                return
        content = self._bytes(place, file)
        if content is None:
            self.refused_lists[file] = self.problems[-1].message
            return
        try:
            self.networks[file] = read_networks(content)
        except ValueError as error:
            self.problems.append(Problem(place, f"{file}: {error}"))
            self.refused_lists[file] = str(error)
            return
        self.networks_read_at[file] = time.time()

    def read_keys(self, name: str, jwt: JwtAuth, fetched: Mapping[Address, KeySet]) -> None:
        path = f"{_chain_path(name)}.auth.jwt"
        if (address := address_of(jwt)) is not None:
            keys = fetched.get(address)
            if keys is None:
                text = "no keys could be fetched yet, requests get 503 until then"
                self.warnings.append(f"{path}.jwks_url: {text}")
            elif not usable(keys, jwt):
                self.warnings.append(f"{path}.algorithms: the key set has no key for any of them")
            if address[0].startswith("http:") and not is_local(address[0]):
                text = "keys that come without TLS can be anybody's who is on the way"
                self.warnings.append(f"{path}.jwks_url: {text}")
            if keys is not None:
                self.keys[name] = keys
            return
        from .jwks import read_jwks, read_public_key

        field = next(each for each in SOURCES if getattr(jwt, each) is not None)
        given: str = getattr(jwt, field)
        content = given.encode() if field == "public_key" else self._bytes(f"{path}.{field}", given)
        if content is None:
            return
        try:
            read = read_jwks if field == "jwks_file" else read_public_key
            keys = read(content)
        except KeysError as error:
            prefix = "" if field == "public_key" else f"{given}: "
            self.problems.append(Problem(f"{path}.{field}", f"{prefix}{error}"))
            return
        if not usable(keys, jwt):
            text = "there is no key for any of them"
            self.problems.append(Problem(f"{path}.algorithms", text))
            return
        self.keys[name], self.keys_read_at[name] = keys, time.time()

    def _part(self, place: str, file: str | None, given: object) -> bytes | None:
        from evenflow.config import Secret

        if isinstance(given, Secret):
            return given.value.encode()
        return self._bytes(place, file) if file is not None else None

    def _bytes(self, place: str, file: str) -> bytes | None:
        path = Path(file)
        # Before the content: a change in between is then seen as one.
        self.stamps[file] = stamp(path)
        try:
            return path.read_bytes()
        except OSError as error:
            self.problems.append(Problem(place, f"cannot read {file}: {error.strerror}"))
            return None
