"""The engine's crates are layers: arrows point one way, no modules import each other in a circle,
and no two public types have one name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CRATES = ROOT / "crates"

# What each crate may use of the others.
ARROWS: dict[str, set[str]] = {
    "wire": set(),
    "state": set(),
    "rules": {"state", "wire"},
    "engine": {"rules", "state", "wire"},
    "binding": {"engine", "rules"},
}
# Words that say nothing to whoever did not invent them.
FORBIDDEN = {"Seen", "Told", "Held", "Passed", "Noted", "Way", "Door", "Gate", "Kept"}
# Modules of the engine that still import each other in circles. The list may only shrink.
TANGLED = {
    "engine::control::engine",
    "engine::control::engine::control",
    "engine::control::engine::sockets",
    "engine::control::engine::workers",
    "engine::http2",
    "engine::http2::downstream_stream",
    "engine::http2::inbound",
    "engine::http2::links",
    "engine::http2::outbound",
    "engine::http2::session",
    "engine::http2::upstream_stream",
    "engine::io::stream",
    "engine::io::tls::accept",
    "engine::io::tls::stream",
    "engine::layer4::tcp",
    "engine::layer4::udp",
    "engine::request::answer",
    "engine::request::attempt",
    "engine::request::call",
    "engine::request::exchange",
    "engine::request::fault",
    "engine::request::forward",
    "engine::request::admit",
    "engine::request::admit::subrequest",
    "engine::request::hedge",
    "engine::request::mirror",
    "engine::request::record",
    "engine::request::request_body",
    "engine::request::respond",
    "engine::request::tunnel",
    "engine::serve::acceptor",
    "engine::serve::connection",
    "engine::serve::proxied",
    "engine::serve::worker",
    "engine::upstream",
    "engine::upstream::connect",
    "engine::upstream::lease",
    "rules::filters::auth",
    "rules::filters::auth::basic",
    "rules::filters::auth::bearer",
    "rules::filters::auth::jwt",
}
# Names that two public types still share.
SHARED = {
    "Certificate",
    "Connection",
    "Decoder",
    "End",
    "Event",
    "Failure",
    "Field",
    "Key",
    "Protocol",
}

USE = re.compile(r"^[ \t]*(?P<public>pub(?:\([^)]*\))?[ \t]+)?use (?P<tree>[^;]+);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:])(?:crate|self|super|evenflow_[a-z]+)(?:::\w+)+")
TYPE = re.compile(r"^[ \t]*pub (?:struct|enum|trait|type|union) (\w+)", re.MULTILINE)
ANY_TYPE = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) (\w+)", re.MULTILINE
)

DEFINED = re.compile(r"\b(?:struct|enum|trait|type|fn|const|static|mod) (\w+)")

Module = tuple[str, ...]


@dataclass
class Source:
    """One file: a module, with the paths it names."""

    module: Module
    text: str
    file: Path


def _without_comments(text: str) -> str:
    """The code alone: comments name other modules freely, tests inside a file look at anything."""
    tests = re.search(r"^#\[cfg\(test\)\]", text, re.MULTILINE)
    text = text[: tests.start()] if tests else text
    return re.sub(r"//[^\n]*", "", text)


def _sources() -> dict[Module, Source]:
    found = {}
    for crate in ARROWS:
        root = CRATES / crate / "src"
        for file in sorted(root.rglob("*.rs")):
            parts = file.relative_to(root).with_suffix("").parts
            if parts[-1] in ("mod", "lib"):
                parts = parts[:-1]
            module = (crate, *parts)
            found[module] = Source(module, _without_comments(file.read_text()), file)
    return found


def _leaves(tree: str) -> Iterator[str]:
    """The single paths of a `use` with braces in it."""
    tree = " ".join(tree.split())
    start = tree.find("{")
    if start < 0:
        yield tree
        return
    depth, begin = 0, start + 1
    inner = tree[start + 1 : tree.rindex("}")]
    for at, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            if part := inner[begin - start - 1 : at].strip():
                yield from _leaves(tree[:start] + part)
            begin = start + 1 + at + 1


def _absolute(path: str, module: Module, children: set[str]) -> Module | None:
    """A path as a whole, from its crate on; `None` for a path of somebody else's."""
    parts = path.split(" as ", maxsplit=1)[0].strip().split("::")
    if parts[-1] in ("self", "*"):
        parts = parts[:-1]
    base: Module
    head = parts[0] if parts else ""
    if head == "crate":
        return (module[0], *parts[1:])
    if head.startswith("evenflow_"):
        return (head.removeprefix("evenflow_"), *parts[1:])
    if head in ("self", "super"):
        base = module
        while parts and parts[0] in ("self", "super"):
            if parts[0] == "super":
                base = base[:-1]
            parts = parts[1:]
        return (*base, *parts)
    if head in children:
        return (*module, *parts)
    return None


class Graph:
    """Which module names which, re-exports followed to where a thing is defined."""

    def __init__(self) -> None:
        self.sources = _sources()
        self.defined = {module: set(DEFINED.findall(s.text)) for module, s in self.sources.items()}
        self.exports: dict[Module, Module] = {}
        self.globs: dict[Module, list[Module]] = {}
        for module, source in self.sources.items():
            for use in USE.finditer(source.text):
                # What a module imports, its descendants can name through it.
                self._export(module, use["tree"])
        self.edges = {
            module: set(self._edges(source)) - {module} for module, source in self.sources.items()
        }

    def _children(self, module: Module) -> set[str]:
        deeper = len(module) + 1
        return {
            other[-1] for other in self.sources if len(other) == deeper and other[:-1] == module
        }

    def _export(self, module: Module, tree: str) -> None:
        for leaf in _leaves(tree):
            target = _absolute(leaf, module, self._children(module))
            if target is None:
                continue
            if leaf.endswith("*"):
                self.globs.setdefault(module, []).append(target)
            else:
                name = leaf.split(" as ")[-1].split("::")[-1].strip()
                self.exports[(*module, name)] = target

    def _defines(self, module: Module, name: str) -> bool:
        return name in self.defined.get(module, set())

    def _owner(self, path: Module, depth: int = 0) -> Module | None:
        """The module that a path leads into."""
        for length in range(len(path), 0, -1):
            module = path[:length]
            if depth < 8 and module in self.exports:
                return self._owner((*self.exports[module], *path[length:]), depth + 1)
            if module in self.sources:
                rest = path[length:]
                if rest and depth < 8 and not self._defines(module, rest[0]):
                    for target in self.globs.get(module, []):
                        if self._defines(target, rest[0]):
                            return target
                return module
        return None

    def _edges(self, source: Source) -> Iterator[Module]:
        children = self._children(source.module)
        spans = []
        for use in USE.finditer(source.text):
            spans.append(use.span())
            rest = source.text[: use.start()] + source.text[use.end() :]
            for leaf in _leaves(use["tree"]):
                name = leaf.split(" as ")[-1].split("::")[-1].strip()
                # A thing that is only handed on is not used here.
                if not use["public"] or re.search(rf"\b{re.escape(name)}\b", rest):
                    yield from self._edge(leaf, source.module, children)
        for path in PATH.finditer(source.text):
            if not any(start <= path.start() < end for start, end in spans):
                yield from self._edge(path[0], source.module, children)

        for child in children:
            if re.search(rf"(?<![\w:]){child}::\w", source.text):
                yield (*source.module, child)

    def _edge(self, path: str, module: Module, children: set[str]) -> Iterator[Module]:
        target = _absolute(path, module, children)
        owner = target and self._owner(target)
        if owner:
            yield owner

    def circles(self) -> list[set[Module]]:
        """The largest sets of modules of which each reaches each (Tarjan's algorithm)."""
        number: dict[Module, int] = {}
        lowest: dict[Module, int] = {}
        stack: list[Module] = []
        found: list[set[Module]] = []

        def visit(module: Module) -> None:
            number[module] = lowest[module] = len(number)
            stack.append(module)
            for target in sorted(self.edges.get(module, set())):
                if target not in number:
                    visit(target)
                    lowest[module] = min(lowest[module], lowest[target])
                elif target in stack:
                    lowest[module] = min(lowest[module], number[target])
            if lowest[module] == number[module]:
                at = stack.index(module)
                members = set(stack[at:])
                del stack[at:]
                if len(members) > 1:
                    found.append(members)

        for module in sorted(self.edges):
            if module not in number:
                visit(module)
        return found


def _shown(graph: Graph, members: set[Module]) -> str:
    return "\n".join(
        f"{'::'.join(module)} → "
        + ", ".join("::".join(t) for t in sorted(graph.edges[module] & members))
        for module in sorted(members)
    )


def test_the_manifests_have_no_other_arrow() -> None:
    for crate, allowed in ARROWS.items():
        manifest = tomllib.loads((CRATES / crate / "Cargo.toml").read_text())
        used = {
            name.removeprefix("evenflow-")
            for section in ("dependencies", "dev-dependencies", "build-dependencies")
            for name in manifest.get(section, {})
            if name.startswith("evenflow-")
        }
        assert used <= allowed, (
            f"{crate} may use {sorted(allowed)} and not {sorted(used - allowed)}"
        )


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = Graph()
    for members in graph.circles():
        tangled = {"::".join(module) for module in members} - TANGLED
        assert not tangled, f"{sorted(tangled)} take part in a circle:\n{_shown(graph, members)}"


def test_no_two_public_types_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, source in _sources().items():
        for name in TYPE.findall(source.text):
            homes.setdefault(name, []).append("::".join(module))
    twice = {name: where for name, where in homes.items() if len(where) > 1 and name not in SHARED}
    assert not twice, twice


def test_no_type_has_a_name_that_says_nothing() -> None:
    for source in _sources().values():
        named = FORBIDDEN & set(ANY_TYPE.findall(source.text))
        assert not named, f"{source.file.relative_to(ROOT)}: {sorted(named)}"
