"""The full form piece by piece: one pool, route, listener or filter of a configuration, and back.

What the flat form stands for is shown as the pieces it makes. The first change of such a piece moves
it over to the full form, and only it: adding a pool leaves flat backends where they are, changing
the pool they make turns it into a configured one. `security` is a piece of its own among the
filters and stays the section it is.

Everything here goes by the configuration's own models, so a new field of theirs needs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

from evenflow.config import Config, ConfigError, FilterChain, Listener, Pool, Problem, Route
from evenflow.config.expand import (
    SECURITY_CHAIN,
    SERVER_CERTIFICATE,
    all_routes,
    flat_pools,
    main_is_stream,
    main_listener,
)
from evenflow.config.problems import join_path
from evenflow.controller.document import keep_secrets
from evenflow.controller.edits import rebuilt
from evenflow.controller.errors import PieceInUse, PieceNotFound, PieceTaken

Kind = Literal["listeners", "routes", "pools", "filters"]

MODELS: Final[Mapping[Kind, type[BaseModel]]] = {
    "listeners": Listener,
    "routes": Route,
    "pools": Pool,
    "filters": FilterChain,
}
"""The kinds of pieces, by the section they stand in."""


def pieces(config: Config, kind: Kind) -> dict[str, BaseModel]:
    """All pieces of a kind by name, those that the flat form stands for among them."""
    found: dict[str, BaseModel] = {}
    match kind:
        case "listeners":
            found = {each.name: each for each in config.listeners or (main_listener(config),)}
        case "routes":
            found = {each.name: each for each in all_routes(config, flat_pools(config))}
        case "pools":
            found = {each.name: each for each in (*flat_pools(config), *config.pools)}
        case "filters":
            found = dict(config.filters)
            if config.security is not None:
                found[SECURITY_CHAIN] = config.security
    return found


def piece_document(name: str, piece: BaseModel, *, secrets: bool = False) -> dict[str, Any]:
    """A piece as plain JSON values, with its name; secrets are masked unless asked for."""
    context = {"secrets": True} if secrets else None
    return {"name": name, **piece.model_dump(mode="json", exclude_none=True, context=context)}


def with_new_piece(config: Config, kind: Kind, document: Mapping[str, Any]) -> Config:
    """The configuration with one more piece; raises `PieceTaken` or `ConfigError`."""
    name = document.get("name")
    if not isinstance(name, str):
        raise ConfigError([Problem("name", f"expected a name, got {name!r}")])
    if name in pieces(config, kind):
        raise PieceTaken(kind, name)
    return with_piece(config, kind, name, document)


def with_piece(config: Config, kind: Kind, name: str, document: Mapping[str, Any]) -> Config:
    """The configuration with a piece as the document says, new or in place of the old one.

    Raises `ConfigError` with paths inside the document where the mistake is there.
    """
    if document.get("name", name) != name:
        text = f"a name cannot change; remove {name!r} and add another"
        raise ConfigError([Problem("name", text)])
    known = pieces(config, kind).get(name)
    if known is not None:
        document = keep_secrets(document, piece_document(name, known, secrets=True))
    sections = _written_out(config, kind, name)
    if kind == "filters":
        chain = {key: value for key, value in document.items() if key != "name"}
        if name == SECURITY_CHAIN and config.security is not None:
            return _judged(config, (SECURITY_CHAIN,), {"security": chain})
        return _judged(
            config, (kind, name), {"filters": {**config.filters, name: chain}, **sections}
        )
    members = list(sections.get(kind, getattr(config, kind)))
    names = [member.name for member in members]
    at = names.index(name) if name in names else len(members)
    members[at : at + 1] = [{**document, "name": name}]
    return _judged(config, (kind, at), {**sections, kind: members})


def without_piece(config: Config, kind: Kind, name: str) -> Config:
    """The configuration without a piece; raises `PieceNotFound`, or `PieceInUse` with who needs it."""
    if name not in pieces(config, kind):
        raise PieceNotFound(kind, name)
    if kind == "filters" and name == SECURITY_CHAIN and config.security is not None:
        return rebuilt(config, security=None)
    sections = _written_out(config, kind, name)
    left: Any
    if kind == "filters":
        left = {key: chain for key, chain in config.filters.items() if key != name}
    else:
        members = sections.get(kind, getattr(config, kind))
        left = [member for member in members if member.name != name]
        if kind == "listeners" and not left:
            text = "the last listener cannot be removed"
            raise PieceInUse(kind, name, [Problem("listeners", text)])
    sections |= {kind: left}
    try:
        if kind == "pools" and not left:
            # Without any pool there is an empty one again, which would answer to references.
            rebuilt(config, **{**sections, kind: [Pool(name="none")]})
        return rebuilt(config, **sections)
    except ConfigError as error:
        raise PieceInUse(kind, name, error.errors) from error


def with_new_certificate(config: Config, name: str, files: Mapping[str, str]) -> Config:
    """The configuration with one more certificate; raises `PieceTaken` or `ConfigError`."""
    if name in _certificates(config):
        raise PieceTaken("certificates", name)
    return rebuilt(config, certificates={**config.certificates, name: dict(files)})


def without_certificate(config: Config, name: str) -> Config:
    """The configuration without a certificate; raises `PieceNotFound` or `PieceInUse`."""
    if name not in _certificates(config):
        raise PieceNotFound("certificates", name)
    if name not in config.certificates:
        raise PieceInUse("certificates", name, [Problem(name, "its files stand here")])
    left = {key: each for key, each in config.certificates.items() if key != name}
    try:
        return rebuilt(config, certificates=left)
    except ConfigError as error:
        raise PieceInUse("certificates", name, error.errors) from error


def _certificates(config: Config) -> set[str]:
    """The names in use, that of the section `server.tls` among them."""
    tls = config.server.tls
    own = {SERVER_CERTIFICATE} if tls is not None and tls.cert_file is not None else set[str]()
    return {*config.certificates, *own}


def _judged(config: Config, place: tuple[str | int, ...], sections: Mapping[str, Any]) -> Config:
    """The configuration with other sections; mistakes at `place` are told from there on."""
    try:
        return rebuilt(config, **sections)
    except ConfigError as error:
        prefix = join_path(place)
        raise ConfigError(_inside(prefix, problem) for problem in error.errors) from None


def _inside(prefix: str, problem: Problem) -> Problem:
    path = problem.path
    if path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")):
        path = path.removeprefix(prefix).removeprefix(".")
    return Problem(path, problem.message)


def _written_out(config: Config, kind: Kind, name: str) -> dict[str, Any]:
    """The sections to replace so that a piece the flat form stands for stands by itself."""
    sections: dict[str, Any] = {}
    if kind in ("pools", "routes"):
        sections = _flat_pool_written_out(config, name)
    stream = bool(sections) and main_is_stream(config)
    if not config.listeners and (kind == "listeners" or stream):
        own = {
            key: getattr(config.load_balancer, key)
            for key in config.load_balancer.model_fields_set - {"host", "port"}
        }
        sections |= {"listeners": (main_listener(config),), "load_balancer": own}
    return sections


def _flat_pool_written_out(config: Config, name: str) -> dict[str, Any]:
    """A pool that backends at the top make, and the route to it, as sections of their own."""
    flat = flat_pools(config)
    pool = next((each for each in flat if each.name == name), None)
    if pool is None:
        return {}
    moved = {id(backend) for backend in pool.backends}
    implied = all_routes(config, flat)[len(config.routes) :]
    return {
        "backends": tuple(each for each in config.backends if id(each) not in moved),
        "discover": () if pool.discover else config.discover,
        "pools": (*config.pools, pool),
        "routes": (*config.routes, *(each for each in implied if name in each.pools)),
    }
