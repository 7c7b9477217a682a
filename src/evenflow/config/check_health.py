"""Whether health checks make sense: what is given for a kind of check that has no use for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from .expand import CHECK_FIELDS, effective_health_check, given_check_fields, stand_ins
from .models import Backend, Config, Pool
from .problems import Problem
from .sections import HealthCheck

_OWN = attrgetter("health_check")
_SCHEME = attrgetter("target.scheme")


def health_problems(config: Config, flat: Sequence[Pool]) -> Iterator[Problem]:
    """Every contradiction in how backends are checked.

    What is given for all must be of use to some backend, what is given for a pool to some of its
    backends, and what is given for a backend to this very one.
    """
    own = config.load_balancer.health_check is not None
    base_path = "load_balancer.health_check" if own else "health_check"
    base = given_check_fields(config.load_balancer.health_check or config.health_check)
    everywhere: set[str] = set()
    for path, pool, backends in _pools(config, flat):
        shared = given_check_fields(pool.health_check)
        in_pool: set[str] = set()
        for place, backend in backends:
            near = given_check_fields(backend.health_check)
            if not (base or shared or near):
                continue
            check = effective_health_check(config, pool, backend)
            yield from _useless(place, near - _used(check), f"{backend.url} is {_by(check)}")
            in_pool |= _used(check)
            where = place if near else path if shared else base_path
            yield from _incomplete(where, check, backend)
        if backends:
            yield from _useless(path, shared - in_pool, "no backend here is checked so")
        everywhere |= in_pool
    if any(backends for _, _, backends in _pools(config, flat)):
        yield from _useless(base_path, base - everywhere, "no backend is checked so")


def _pools(
    config: Config, flat: Sequence[Pool]
) -> Iterator[tuple[str, Pool, list[tuple[str, Backend]]]]:
    """Every pool, the place of its own check, and its backends with the place of theirs.

    Of backends without a check of their own one stands for all of its scheme.
    """
    if (config.backends or config.discover) and flat:
        own = any(map(_OWN, config.backends))
        numbers = {id(each): index for index, each in enumerate(config.backends)} if own else {}
        for pool in flat:
            yield "backends", pool, _with_stand_ins(pool, "backends", numbers)
    for index, pool in enumerate(config.pools):
        path = f"pools[{index}]"
        own = any(map(_OWN, pool.backends))
        numbers = {id(each): at for at, each in enumerate(pool.backends)} if own else {}
        yield f"{path}.health_check", pool, _with_stand_ins(pool, f"{path}.backends", numbers)


def _with_stand_ins(pool: Pool, path: str, numbers: Mapping[int, int]) -> list[tuple[str, Backend]]:
    found = _told_apart(path, pool.backends, numbers)
    return [*found, *(("", each) for each in stand_ins(pool))]


def _told_apart(
    path: str, backends: Sequence[Backend], numbers: Mapping[int, int]
) -> list[tuple[str, Backend]]:
    if not numbers:
        return [
            ("", each) for each in dict(zip(map(_SCHEME, backends), backends, strict=True)).values()
        ]
    alike: dict[str, Backend] = {}
    found: list[tuple[str, Backend]] = []
    for each in backends:
        if each.health_check is None:
            alike.setdefault(each.target.scheme, each)
        else:
            found.append((f"{path}[{numbers[id(each)]}].health_check", each))
    return [*found, *(("", each) for each in alike.values())]


def _used(check: HealthCheck) -> set[str]:
    return {name for name, kinds in CHECK_FIELDS.items() if check.kind in kinds}


def _by(check: HealthCheck) -> str:
    return f"checked by {check.kind}"


def _useless(path: str, names: Iterable[str], why: str) -> Iterator[Problem]:
    for name in sorted(names):
        *most, last = CHECK_FIELDS[name]
        kinds = f"{', '.join(most)} and {last}" if most else last
        yield Problem(f"{path}.{name}", f"is for checks of kind {kinds}; {why}")


def _incomplete(path: str, check: HealthCheck, backend: Backend) -> Iterator[Problem]:
    if check.port is not None and backend.target.is_unix:
        yield Problem(f"{path}.port", f"{backend.url} has no port")
    if check.kind == "postgresql" and check.user is None:
        for name in ("password", "database", "role"):
            if getattr(check, name) is not None:
                yield Problem(f"{path}.{name}", "needs `user`: PostgreSQL tells it to a login only")
