"""Writes the tables of docs/configuration.md from the configuration's JSON Schema.

`make reference` runs it; with `--check` it only tells whether the page is what it would write.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from evenflow.config import format_duration, format_size, json_schema

PAGE = Path(__file__).with_name("configuration.md")
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
UNITS = {"seconds": ("duration", format_duration), "bytes": ("size", format_size)}

Schema = Mapping[str, Any]


def main() -> None:
    """Write the page, or compare it."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    new = f"{before}{BEGIN}\n{tables(json_schema())}\n{END}{after}"
    if "--check" not in sys.argv:
        PAGE.write_text(new)
    elif new != text:
        sys.exit(f"{PAGE.name} is not what the models say; run: make reference")


def tables(schema: Schema) -> str:
    """One table for the top, then one for each kind of section, as they are first met."""
    parts = [_table(schema["properties"], ())]
    places = _places(schema)
    for name, where in places.items():
        model = schema["$defs"][name]
        about = " ".join(model.get("description", "").split())
        at = ", ".join(f"`{place}`" for place in where)
        rows = _table(model["properties"], model.get("required", ()))
        parts.append(f"### {name}\n\n{about} Stands at {at}.\n\n{rows}")
    return "\n".join(parts)


def _places(schema: Schema) -> dict[str, list[str]]:
    """For each kind of section the paths at which it stands; a kind inside another only once."""
    found: dict[str, list[str]] = {}
    waiting = [("", schema)]
    while waiting:
        prefix, model = waiting.pop(0)
        for key, field in model["properties"].items():
            for name, suffix in _references(field):
                is_new = name not in found
                found.setdefault(name, []).append(f"{prefix}{key}{suffix}")
                if is_new:
                    waiting.append((f"{prefix}{key}{suffix}.", schema["$defs"][name]))
    return found


def _references(field: Schema) -> list[tuple[str, str]]:
    if "$ref" in field:
        return [(field["$ref"].rpartition("/")[2], "")]
    within = [found for each in field.get("anyOf", ()) for found in _references(each)]
    for key, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(field.get(key), Mapping):
            within += [(name, suffix + more) for name, more in _references(field[key])]
    return within


def _table(properties: Schema, required: Collection[str]) -> str:
    rows = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    for key, field in properties.items():
        default = "required" if key in required else _default(field)
        rows.append(f"| `{key}` | {_kind(field)} | {default} | {field.get('description', '')} |")
    return "\n".join(rows) + "\n"


def _unit(field: Schema) -> str | None:
    units = [each.get("description") for each in field.get("anyOf", ())]
    return next((unit for unit in units if unit in UNITS), None)


def _kind(field: Schema) -> str:
    if unit := _unit(field):
        return UNITS[unit][0]
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        kinds = [_kind(each) for each in field["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    match field.get("type"):
        case "array":
            return f"list of {_kind(field['items'])}"
        case "object":
            values = field.get("additionalProperties")
            return (
                f"names with {_kind(values)}" if isinstance(values, Mapping) else "keys and values"
            )
        case "integer" | "number":
            return _range(field)
        case "boolean":
            return "true, false"
        case _:
            return "text"


def _range(field: Schema) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    # Bounds that only say how wide the engine's counters are help nobody.
    if high is not None and high < 1_000_000:
        return f"{low or 0:g} to {high:g}"
    return f"number from {low:g}" if low else "number"


def _default(field: Schema) -> str:
    value = field.get("default")
    if value in (None, "", [], {}) or isinstance(value, dict):
        return ""
    if unit := _unit(field):
        return f"`{UNITS[unit][1](value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return "" if isinstance(value[0], dict) else f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


if __name__ == "__main__":
    main()
