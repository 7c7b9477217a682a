"""All that a configuration's TLS refers to, read at one moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evenflow.config import Config, ConfigError, Problem
from evenflow.config.expand import SERVER_CERTIFICATE
from evenflow.config.tls import Certificate

from .files import Stamp, stamp
from .pair import Pair, PairError, check_lists, check_roots, day, read_pair


@dataclass(frozen=True)
class Material:
    """Certificates by name, texts of other files by path, and the state of every file read."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def stale(self) -> bool:
        """Whether a file is not as it was when it was read."""
        return any(stamp(Path(path)) != known for path, known in self.stamps.items())


def needs_files(config: Config) -> bool:
    """Whether the TLS of `config`, in full form, names any file."""
    return bool(config.certificates) or any(True for _ in _text_files(config))


def changes(before: Material, after: Material) -> list[str]:
    """What is another in `after`, a line for each certificate and file."""
    lines = [
        f"certificates.{name}: another certificate"
        for name, pair in after.pairs.items()
        if (known := before.pairs.get(name)) is not None and known != pair
    ]
    lines += [
        f"{path}: another content"
        for path, text in after.texts.items()
        if path in before.texts and before.texts[path] != text
    ]
    return lines


def read_material(config: Config, before: Material | None = None) -> Material:
    """Reads every file that the TLS of `config`, in full form, names.

    Raises `ConfigError` with every problem. A certificate that has expired is refused, except
    where it is in force already (in `before`) or at the start (`before` is None): then it is in
    the warnings, since stopping the rest would help nobody.
    """
    reader = _Reader(before)
    for name, certificate in config.certificates.items():
        path = name if name == SERVER_CERTIFICATE else f"certificates.{name}"
        reader.read_certificate(name, certificate, path)
    for place, file in _text_files(config):
        reader.read_text(place, file, lists=place.endswith(".crl_file"))
    if reader.problems:
        raise ConfigError(reader.problems)
    return Material(reader.pairs, reader.texts, reader.stamps, tuple(reader.warnings))


def _text_files(config: Config) -> Iterator[tuple[str, str]]:
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


class _Reader:
    """Collects what was read and what was wrong."""

    def __init__(self, before: Material | None) -> None:
        self.before = before
        self.pairs: dict[str, Pair] = {}
        self.texts: dict[str, str] = {}
        self.stamps: dict[str, Stamp] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

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
        self.pairs[name] = pair

    def read_text(self, place: str, file: str, *, lists: bool) -> None:
        content = self._bytes(place, file)
        if content is None:
            return
        try:
            check_lists(content) if lists else check_roots(content)
        except ValueError as error:
            self.problems.append(Problem(place, f"{file}: {error}"))
            return
        self.texts[file] = content.decode("ascii", "replace")

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
