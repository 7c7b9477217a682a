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

USE = re.compile(r"^[ \t]*(?P<public>pub(?:\([^)]*\))?[ \t]+)?use (?P<tree>[^;]+);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:])(?:crate|self|super|evenflow_[a-z]+)(?:::\w+)+")
TYPE = re.compile(r"^[ \t]*pub (?:struct|enum|trait|type|union) (\w+)", re.MULTILINE)
ANY_TYPE = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type|union) (\w+)", re.MULTILINE
)

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
    parts = path.split(" as ")[0].strip().split("::")
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
        self.exports: dict[Module, Module] = {}
        self.globs: dict[Module, list[Module]] = {}
        for module, source in self.sources.items():
            for use in USE.finditer(source.text):
                if use["public"]:
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
        source = self.sources.get(module)
        return bool(source and re.search(rf"\b(?:struct|enum|trait|type|fn|const|static|mod) {name}\b", source.text))

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
            if use["public"]:
                continue
            for leaf in _leaves(use["tree"]):
                yield from self._edge(leaf, source.module, children)
        for path in PATH.finditer(source.text):
            if not any(start <= path.start() < end for start, end in spans):
                yield from self._edge(path[0], source.module, children)

    def _edge(self, path: str, module: Module, children: set[str]) -> Iterator[Module]:
        target = _absolute(path, module, children)
        owner = target and self._owner(target)
        if owner:
            yield owner

    def circle(self) -> list[Module]:
        """Modules that import each other in a circle, the first again at the end."""
        done: set[Module] = set()
        for start in sorted(self.edges):
            trail: list[Module] = []
            found = self._visit(start, trail, set(), done)
            if found:
                return found
        return []

    def _visit(
        self, module: Module, trail: list[Module], on_trail: set[Module], done: set[Module]
    ) -> list[Module]:
        if module in on_trail:
            return [*trail[trail.index(module) :], module]
        if module in done or module not in self.edges:
            return []
        trail.append(module)
        on_trail.add(module)
        for target in sorted(self.edges[module]):
            found = self._visit(target, trail, on_trail, done)
            if found:
                return found
        trail.pop()
        on_trail.discard(module)
        done.add(module)
        return []


def test_the_manifests_have_no_other_arrow() -> None:
    for crate, allowed in ARROWS.items():
        manifest = tomllib.loads((CRATES / crate / "Cargo.toml").read_text())
        used = {
            name.removeprefix("evenflow-")
            for section in ("dependencies", "dev-dependencies", "build-dependencies")
            for name in manifest.get(section, {})
            if name.startswith("evenflow-")
        }
        assert used <= allowed, f"{crate} may use {sorted(allowed)} and not {sorted(used - allowed)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    circle = Graph().circle()
    assert not circle, " → ".join("::".join(module) for module in circle)


def test_no_two_public_types_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, source in _sources().items():
        for name in TYPE.findall(source.text):
            homes.setdefault(name, []).append("::".join(module))
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert not twice, twice


def test_no_type_has_a_name_that_says_nothing() -> None:
    for source in _sources().values():
        named = FORBIDDEN & set(ANY_TYPE.findall(source.text))
        assert not named, f"{source.file.relative_to(ROOT)}: {sorted(named)}"
